//! Making images into a store of the test's own. Needs root, as the catalogue does.

use drydock_catalogue::{AddOptions, Catalogue, Error, State, find};
use drydock_images::Store;
use std::{fs, path::Path};

fn add(
    catalogue: &Catalogue,
    name: &str,
    options: &AddOptions,
) -> drydock_catalogue::Result<Vec<drydock_catalogue::Added>> {
    catalogue.add(&[name], options, &mut |_| {})
}

/// Only builds of `make` have the program; a tree without it must say what to do.
fn has_programs() -> bool {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("gen").join(profile).join("hello").exists()
}

#[test]
fn hello_world_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(dir.path().join("catalogue")).expect("these tests need root");
    let recipe = find("hello-world").unwrap();
    assert_eq!(catalogue.state(recipe).unwrap(), State::Missing);
    let options = AddOptions { if_missing: true, ..AddOptions::default() };
    if !has_programs() {
        let said = add(&catalogue, "hello-world", &options).unwrap_err();
        assert!(
            matches!(&said, Error::NoProgram(name) if name == "hello") && said.to_string().contains("make"),
            "{said}"
        );
        return;
    }
    let added = add(&catalogue, "hello-world", &options).unwrap();
    assert!(
        added[0].built
            && added[0].names
                == ["docker.io/library/hello-world:latest", "docker.io/library/hello-world:linux"],
        "{added:?}"
    );
    assert_eq!(catalogue.state(recipe).unwrap(), State::Present);
    let image = catalogue.store().resolve("docker.io/library/hello-world:latest").unwrap();
    assert_eq!(image.layers.len(), 1);
    let names: Vec<_> = fs::read_dir(&image.layers[0]).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["hello"]);

    let again = add(&catalogue, "hello-world", &options).unwrap();
    assert!(!again[0].built);
    let always = add(&catalogue, "hello-world", &AddOptions::default()).unwrap();
    assert!(always[0].built);

    let mut file = Vec::new();
    catalogue.store().export("docker.io/library/hello-world:latest", &mut file).unwrap();
    let elsewhere = Catalogue::open(dir.path().join("elsewhere")).unwrap();
    elsewhere.store().import(&mut &file[..], &mut |_| {}).unwrap();
    assert_eq!(elsewhere.state(recipe).unwrap(), State::Present);
}

#[test]
fn an_image_of_another_recipe_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).expect("these tests need root");
    let catalogue = Catalogue::open(dir.path().join("store")).unwrap();
    let recipe = find("debian").unwrap();
    let put = |recipe: Option<&str>| {
        let names = ["docker.io/library/debian:latest".to_owned()];
        let empty: &[u8] = &[0; 1024];
        let layers = vec![drydock_images::NewLayer::Tar(Box::new(empty))];
        let config = drydock_images::config::ImageConfig::default();
        store
            .add(
                drydock_images::NewImage { names: &names, config, layers, recipe, facts: Default::default() },
                &mut |_| {},
            )
            .unwrap();
    };
    put(None);
    assert_eq!(catalogue.state(recipe).unwrap(), State::Stale);
    put(Some("sha256:of another Dockerfile"));
    assert_eq!(catalogue.state(recipe).unwrap(), State::Stale);
    put(Some(&recipe.digest().unwrap().to_string()));
    assert_eq!(catalogue.state(recipe).unwrap(), State::Present);
    let entry = catalogue.list().unwrap().into_iter().find(|entry| entry.name == "debian").unwrap();
    assert_eq!((entry.state, entry.tags), (State::Present, vec!["latest".to_owned()]));
}

#[test]
fn an_image_that_is_there_gets_the_names_that_its_recipe_gives_now() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).expect("these tests need root");
    let catalogue = Catalogue::open(dir.path().join("store")).unwrap();
    let recipe = find("debian").unwrap();
    let names = ["docker.io/library/debian:latest".to_owned()];
    let empty: &[u8] = &[0; 1024];
    let version = ("org.opencontainers.image.version".to_owned(), "13.8".to_owned());
    let config = drydock_images::config::ImageConfig::default();
    let layers = vec![drydock_images::NewLayer::Tar(Box::new(empty))];
    let made_from = recipe.digest().unwrap().to_string();
    let (recipe_text, facts) = (Some(made_from.as_str()), [version].into());
    let image = drydock_images::NewImage { names: &names, config, layers, recipe: recipe_text, facts };
    let digest = store.add(image, &mut |_| {}).unwrap();

    let options = AddOptions { if_missing: true, ..AddOptions::default() };
    let added = add(&catalogue, "debian", &options).unwrap();
    assert!(!added[0].built && added[0].names.contains(&"docker.io/library/debian:13-slim".to_owned()));
    for tag in ["latest", "13", "13.8", "stable-slim"] {
        assert_eq!(store.resolve(&format!("docker.io/library/debian:{tag}")).unwrap().digest, digest);
    }
    assert_eq!(catalogue.state(recipe).unwrap(), State::Present);
    assert_eq!(add(&catalogue, "debian", &options).unwrap()[0].names, [""; 0]);
}
