//! Images of a node's store: names, removal, pulls, the catalogue, archives. Needs root, for owners of files.

mod common;

use common::*;
use drydock_images::{
    Digest, NewLayer, Reference, Store,
    config::{HistoryEntry, ImageConfig},
    local::{
        ImageUser, LayerRef, LoadEvent, LocalStore, NewImage, Origin, PullStep, Removal, RemoveOptions,
        StoreError,
    },
};
use std::{collections::HashMap, fs, io::Read, os::unix::fs::symlink, path::PathBuf};
use tar::EntryType;

fn open(scratch: &Scratch) -> LocalStore {
    LocalStore::open(&scratch.0.join("docker")).unwrap()
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// An image with one more layer (a file of this name) on top of another image.
fn build(store: &LocalStore, parent: Option<&Digest>, with: &str) -> Digest {
    made(store, parent, with, Origin::Built)
}

/// The same by either builder: what is not `Built` is from BuildKit.
fn made(store: &LocalStore, parent: Option<&Digest>, with: &str, origin: Origin) -> Digest {
    let below = parent.and_then(|id| store.top_layer(id).unwrap());
    let top = store.add_layer(&layer(&[file(with, with.as_bytes())])[..], below.as_ref()).unwrap();
    let base = parent.map_or_else(
        || ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() },
        |id| ImageConfig::clone(&store.get(id).unwrap().config),
    );
    let step = HistoryEntry {
        created: Some("2026-11-21T00:30:00.5Z".into()),
        created_by: Some(format!("COPY {with}")),
        comment: (origin != Origin::Built).then(|| "buildkit.dockerfile.v0".to_owned()),
        ..HistoryEntry::default()
    };
    let config = serde_json::to_vec(&base.child(Some(top.diff_id()), step)).unwrap();
    store.create(&NewImage { config: &config, top: Some(&top), parent, origin }).unwrap()
}

fn tagged(store: &LocalStore, names: &[&str], with: &str) -> Digest {
    let id = build(store, None, with);
    for n in names {
        store.tag(&id, &name(n)).unwrap();
    }
    id
}

fn nobody(_: &Digest) -> Vec<ImageUser> {
    Vec::new()
}

const GENTLE: RemoveOptions<'_> = RemoveOptions { force: false, keep_parents: false, users: &nobody };

/// What is left of layers on the disk.
fn leftovers(scratch: &Scratch) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for sub in ["overlay2", "overlay2/l", "image/overlay2/tmp", "image/overlay2/layerdb/sha256"] {
        let entries = fs::read_dir(scratch.0.join("docker").join(sub)).unwrap();
        found.extend(entries.map(|e| e.unwrap().path()).filter(|p| !p.ends_with("overlay2/l")));
    }
    found
}

/// What was removed, short.
fn told(removed: &[Removal]) -> Vec<String> {
    let line = |removal: &Removal| match removal {
        Removal::Untagged { name, .. } => format!("Untagged {}", name.split("@sha").next().unwrap()),
        Removal::Image(_) => "Image".to_owned(),
        Removal::Layer(_) => "Layer".to_owned(),
    };
    removed.iter().map(line).collect()
}

#[test]
fn images_are_found_by_name_by_id_and_by_its_beginning() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let id = tagged(&store, &["busybox", "registry:5000/team/box:v1"], "one");
    // Ids that begin alike make a prefix ambiguous.
    let mut others: HashMap<String, usize> = HashMap::new();
    for n in 0..20 {
        let id = build(&store, None, &format!("other{n}"));
        *others.entry(id.hex()[..1].to_owned()).or_default() += 1;
    }
    let hex = id.hex();
    let by_id = [hex.to_owned(), id.to_string(), hex[..12].to_owned(), format!("sha256:{}", &hex[..12])];
    let by_name = ["busybox", "busybox:latest", "docker.io/library/busybox", "registry:5000/team/box:v1"];
    for text in by_id.iter().map(String::as_str).chain(by_name) {
        assert_eq!(store.find(text).unwrap().id, id, "{text}");
    }
    let shared = others.iter().find(|(_, count)| **count > 1).unwrap().0;
    for (text, said) in [
        ("busybox:v2", "No such image: busybox:v2"),
        ("nothing", "No such image: nothing:latest"),
        (shared.as_str(), &format!("No such image: {shared}:latest")),
        (&format!("sha256:{:064x}", 1), &format!("No such image: sha256:{:064x}", 1)),
    ] {
        assert_eq!(store.find(text).unwrap_err().to_string(), said);
    }
    assert_eq!(store.find("Bad Name").unwrap_err().to_string(), "invalid reference format");
    let image = store.find("busybox").unwrap();
    assert_eq!(image.repo_tags, ["busybox:latest", "registry:5000/team/box:v1"]);
    assert_eq!((image.size, image.created_unix(), image.origin), (3, 1_795_221_000, Origin::Built));

    // A name moves to another image; everything is there after a restart.
    let other = build(&store, None, "two");
    assert_eq!(store.tag(&other, &name("busybox")).unwrap(), Some(id.clone()));
    assert_eq!(store.tag(&other, &name("busybox")).unwrap(), None);
    let count = store.images().len();
    drop(store);
    let store = open(&scratch);
    assert_eq!(store.images().len(), count);
    assert_eq!(store.find("busybox").unwrap().id, other);
    assert_eq!(store.find(hex).unwrap().repo_tags, ["registry:5000/team/box:v1"]);
    assert!(store.find(hex).unwrap().last_tag_time.is_some());
}

#[test]
fn removing_follows_dockers_rules() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    // One of several names: only the name goes.
    let id = tagged(&store, &["a:1", "b:1"], "one");
    assert_eq!(told(&store.remove("a:1", GENTLE).unwrap()), ["Untagged a:1"]);
    // By id with names in several repositories.
    store.tag(&id, &name("a:1")).unwrap();
    let short = &id.hex()[..12];
    let error = store.remove(short, GENTLE).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    assert!(matches!(error, StoreError::Conflict(_)));
    let forced = RemoveOptions { force: true, ..GENTLE };
    assert_eq!(
        told(&store.remove(short, forced).unwrap()),
        ["Untagged a:1", "Untagged b:1", "Image", "Layer"]
    );
    assert!(store.images().is_empty());
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());

    // The only name goes with the image, unless a container uses it.
    let id = tagged(&store, &["a"], "one");
    let short = id.hex()[..12].to_owned();
    let container = "c".repeat(64);
    let stopped = |of: &Digest| match *of == id {
        true => vec![ImageUser { container: container.clone(), running: false }],
        false => Vec::new(),
    };
    let running = |of: &Digest| {
        stopped(of).into_iter().map(|user| ImageUser { running: true, ..user }).collect::<Vec<_>>()
    };
    let with = |force, users| RemoveOptions { force, keep_parents: false, users };
    let said = |text: &str, options| store.remove(text, options).unwrap_err().to_string();
    assert_eq!(
        said("a", with(false, &stopped)),
        format!(
            "conflict: unable to remove repository reference \"a\" (must force) - container cccccccccccc is using its referenced image {short}"
        )
    );
    assert_eq!(
        said(&short, with(false, &stopped)),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container cccccccccccc"
        )
    );
    assert_eq!(
        said(&short, with(true, &running)),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container cccccccccccc"
        )
    );
    // Forced by name while a container runs: the name goes, the image stays.
    assert_eq!(told(&store.remove("a", with(true, &running)).unwrap()), ["Untagged a:latest"]);
    assert!(store.find(&short).is_ok());
    assert_eq!(told(&store.remove(&short, with(true, &stopped)).unwrap()), ["Image", "Layer"]);
    assert_eq!(said("a", GENTLE), "No such image: a:latest");
}

#[test]
fn parents_without_a_name_go_with_their_last_child() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let base = tagged(&store, &["base"], "base");
    let middle = build(&store, Some(&base), "middle");
    let top = build(&store, Some(&middle), "top");
    store.tag(&top, &name("top")).unwrap();
    assert_eq!(store.children(&base), std::slice::from_ref(&middle));
    let error = store.remove(middle.hex(), GENTLE).unwrap_err().to_string();
    assert!(error.ends_with("(cannot be forced) - image has dependent child images"), "{error}");
    let history = store.history(&top).unwrap();
    let ids: Vec<_> = history.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, [top.to_string(), middle.to_string(), base.to_string()]);
    assert_eq!((history[0].size, history[0].created_by.as_str()), (3, "COPY top"));
    assert_eq!(
        (history[1].tags.as_ref(), history[2].tags.as_ref().unwrap()[0].as_str()),
        (None, "base:latest")
    );

    // By name the base only loses its name.
    assert_eq!(told(&store.remove("base", GENTLE).unwrap()), ["Untagged base:latest"]);
    store.tag(&base, &name("base")).unwrap();
    let removed = store.remove("top", GENTLE).unwrap();
    assert_eq!(told(&removed), ["Untagged top:latest", "Image", "Layer", "Image", "Layer"]);
    assert_eq!(store.images().iter().map(|i| &i.id).collect::<Vec<_>>(), [&base]);
}

#[test]
fn a_container_keeps_its_layers() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let id = tagged(&store, &["a"], "one");
    let container = "c".repeat(64);
    let stack = store.hold(&container, &id).unwrap();
    let forced = RemoveOptions { force: true, ..GENTLE };
    assert_eq!(told(&store.remove("a", forced).unwrap()), ["Untagged a:latest", "Image"], "no layer went");
    assert!(stack.dirs[0].join("one").exists());
    drop(store);
    let store = open(&scratch);
    assert_eq!(store.held(&container).unwrap(), Some(stack.clone()));
    assert_eq!(store.holders(), std::slice::from_ref(&container));
    let top = store.held_layer(&container).unwrap();
    store.release(&container).unwrap();
    assert!(stack.dirs[0].exists(), "a commit is under way");
    drop(top);
    assert!(!stack.dirs[0].exists() && store.held_layer(&container).is_none());
    assert_eq!(store.held(&container).unwrap(), None);
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());
    assert!(store.hold("../up", &id).is_err());
    assert!(matches!(store.hold(&container, &id), Err(StoreError::NotFound(_))));
}

#[test]
fn pruning_takes_what_nobody_uses() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let used = tagged(&store, &["used"], "used");
    tagged(&store, &["named"], "named");
    let dangling = build(&store, None, "dangling");
    let users = |id: &Digest| match *id == used {
        true => vec![ImageUser { container: "c".repeat(64), running: false }],
        false => Vec::new(),
    };
    let none = store.prune(true, &|_| false, &users).unwrap();
    assert!(none.removed.is_empty());
    let pruned = store.prune(true, &|_| true, &users).unwrap();
    assert_eq!((told(&pruned.removed), pruned.reclaimed), (vec!["Image".into(), "Layer".into()], 8));
    assert!(store.get(&dangling).is_err());
    let pruned = store.prune(false, &|_| true, &users).unwrap();
    assert_eq!(told(&pruned.removed), ["Untagged named:latest", "Image", "Layer"]);
    assert_eq!(store.images().len(), 1);
}

#[test]
fn the_build_cache_outlives_images_and_images_outlive_it() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let base = tagged(&store, &["base"], "base");
    let step = made(&store, Some(&base), "step", Origin::Step);
    let result = made(&store, Some(&step), "result", Origin::Step);
    let steps = |store: &LocalStore| store.steps().into_iter().map(|step| step.id).collect::<Vec<_>>();
    let both = {
        let mut both = vec![step.clone(), result.clone()];
        both.sort();
        both
    };
    // Nobody sees a step, or could remove it by its id.
    assert_eq!((store.images().len(), steps(&store)), (1, both.clone()));
    assert!(store.find(&step.to_string()).is_err() && store.find(step.hex()).is_err());
    assert!(store.remove(step.hex(), GENTLE).is_err() && store.children(&base).is_empty());

    // The result is an image, and goes as one; what it was made of stays in the cache.
    store.keep(&result).unwrap();
    store.tag(&result, &name("app")).unwrap();
    assert_eq!((store.find("app").unwrap().id, store.images().len()), (result.clone(), 2));
    let pruned = store.prune(true, &|_| true, &nobody).unwrap();
    assert!(pruned.removed.is_empty());
    assert_eq!(told(&store.remove("app", GENTLE).unwrap()), ["Untagged app:latest", "Image"]);
    assert!(store.find("app").is_err() && store.images().len() == 1);
    // Its base can go too.
    assert_eq!(told(&store.remove("base", GENTLE).unwrap()), ["Untagged base:latest", "Image"]);
    drop(store);
    let store = open(&scratch);
    assert_eq!((steps(&store), store.get(&result).unwrap().size), (both, 14));

    // Built or pulled once more it is an image again, which needs no cache.
    assert_eq!(made(&store, Some(&step), "result", Origin::Pulled), result);
    assert_eq!(store.images()[0].origin, Origin::Pulled);
    store.forget_step(&result).unwrap();
    store.forget_step(&step).unwrap();
    assert_eq!((steps(&store), store.images().len()), (vec![], 1));
    assert!(store.get(&step).is_err() && store.forget_step(&step).is_err());
    assert_eq!(told(&store.remove(result.hex(), GENTLE).unwrap()), ["Image", "Layer", "Layer", "Layer"]);
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());
}

/// A host's store with an image of two layers, mounted as the node's catalogue.
fn catalogue(scratch: &Scratch) -> (Store, Vec<Vec<u8>>) {
    let host = scratch.store("host");
    let tars = vec![rich_layer(), layer(&[file("two", b"22"), file("usr/.wh.ping", b"")])];
    let config = ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        created: Some("2026-11-21T00:30:00Z".into()),
        ..ImageConfig::default()
    };
    let layers = tars.iter().map(|tar| NewLayer::Tar(Box::new(&tar[..]))).collect();
    host.add_image("docker.io/library/box:latest", config, layers, &mut |_| {}).unwrap();
    let docker = scratch.0.join("docker");
    fs::create_dir_all(&docker).unwrap();
    symlink(host.dir(), docker.join("catalogue")).unwrap();
    (host, tars)
}

#[test]
fn the_catalogue_is_pulled_without_copying() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let box_ = name("box");
    assert!(store.pull_from_catalogue(&box_, &mut |_, _| {}).unwrap().is_none(), "no catalogue yet");
    let (_host, tars) = catalogue(&scratch);
    assert!(store.images().is_empty(), "nothing is listed before it is pulled");
    assert_eq!(store.catalogue()[0].name, name("docker.io/library/box:latest"));
    assert!(
        store.in_catalogue(&name("box:other")).is_none() && store.in_catalogue(&name("evil/box")).is_none()
    );

    let mut steps = Vec::new();
    let pulled = store.pull_from_catalogue(&box_, &mut |_, step| steps.push(step)).unwrap().unwrap();
    let one = [PullStep::Pulling, PullStep::Downloaded, PullStep::Complete];
    assert_eq!(steps, [one, one].concat());
    assert!(pulled.newer);
    let image = store.find("box").unwrap();
    assert_eq!((image.id.clone(), image.origin), (pulled.id.clone(), Origin::Catalogue));
    assert_eq!(image.repo_digests, [format!("box@{}", pulled.digest)]);
    assert_eq!(image.size, 3 + 12 + 3 + 4 + 2, "as if it had been unpacked here");
    assert_eq!(store.manifests(&image.id), std::slice::from_ref(&pulled.digest));
    assert_eq!(Digest::of(&store.manifest(&pulled.digest).unwrap()), pulled.digest);
    let stack = store.layer_stack(&image.id).unwrap();
    assert!(stack.dirs[0].starts_with(scratch.0.join("docker/catalogue")));
    assert_rich(&stack.dirs[1]);
    assert!(scratch.0.join("docker/overlay2").join(&stack.links[0]).join("two").exists());
    for (info, chain) in store.layers().iter().map(|l| (l, &l.chain)) {
        assert!(info.in_catalogue);
        let mut tar = Vec::new();
        store.layer_tar(chain).unwrap().read_to_end(&mut tar).unwrap();
        assert!(tars.contains(&tar), "the tar is there for docker save");
        let (kind, digest, size) = store.known_blob(chain).unwrap();
        let blob = store.layer_blob(chain).unwrap();
        assert_eq!((blob.media_type.clone(), blob.digest.clone(), blob.size), (kind, digest, size));
        let mut bytes = Vec::new();
        blob.open().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(Digest::of(&bytes), blob.digest);
    }

    // Again, by tag and by digest: nothing is new.
    let by_digest = name(&format!("box@{}", pulled.digest));
    for again in [&box_, &by_digest] {
        steps.clear();
        let again = store.pull_from_catalogue(again, &mut |_, step| steps.push(step)).unwrap();
        let pulled = again.unwrap();
        steps.clear();
        assert_eq!((pulled.newer, &steps[..]), (false, &[][..]));
    }
    // A local image on top, and removal: the catalogue stays as it is.
    let mine = build(&store, Some(&image.id), "mine");
    assert_eq!(store.layer_stack(&mine).unwrap().dirs.len(), 3);
    store.remove(mine.hex(), GENTLE).unwrap();
    assert!(store.find("box").is_ok(), "it has a name");
    assert_eq!(
        told(&store.remove("box", GENTLE).unwrap()),
        ["Untagged box:latest", "Untagged box", "Image", "Layer", "Layer"]
    );
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());
    assert!(
        store.in_catalogue(&box_).is_some() && store.pull_from_catalogue(&by_digest, &mut |_, _| {}).is_ok()
    );
    assert_eq!(store.images()[0].repo_tags, Vec::<String>::new());
}

/// Manifest, configuration and blobs of an image as a registry has them.
fn remote(layers: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>, Vec<Vec<u8>>) {
    let diff_ids: Vec<_> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let packed: Vec<_> = layers.iter().enumerate().map(|(i, l)| pack(i, l)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": packed.iter().map(|(kind, bytes)| descriptor(kind, bytes)).collect::<Vec<_>>(),
    });
    (manifest.to_string().into_bytes(), config, packed.into_iter().map(|(_, bytes)| bytes).collect())
}

#[test]
fn a_pull_is_whole_or_nothing() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let layers = [rich_layer(), layer(&[file("two", b"2")]), layer(&[file("three", b"3")])];
    let (manifest, config, blobs) = remote(&layers);
    let box_ = name("box:1");
    let pull = store.begin_pull(&box_, &manifest, &config).unwrap();
    assert!(pull.layers().iter().all(|(_, _, there)| !there));
    // In any order; a wrong one can be tried again.
    pull.add_layer(2, &blobs[2][..]).unwrap();
    let error = pull.add_layer(0, &blobs[1][..]).unwrap_err().to_string();
    assert_eq!(error, format!("filesystem layer verification failed for digest {}", Digest::of(&blobs[0])));
    let mut longer = blobs[0].clone();
    longer.extend([0; 4096]);
    assert!(pull.add_layer(0, &longer[..]).is_err());
    assert!(pull.add_layer(0, &blobs[0][..blobs[0].len() / 2]).is_err());
    pull.add_layer(0, &blobs[0][..]).unwrap();
    assert!(store.layers().is_empty() && store.images().is_empty(), "nothing shows before the end");
    drop(pull);
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());

    let pull = store.begin_pull(&box_, &manifest, &config).unwrap();
    pull.add_layer(0, &blobs[0][..]).unwrap();
    assert!(pull.finish(None).is_err(), "two layers have not come");
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());

    let pull = store.begin_pull(&box_, &manifest, &config).unwrap();
    std::thread::scope(|scope| {
        for (number, blob) in blobs.iter().enumerate() {
            let pull = &pull;
            scope.spawn(move || pull.add_layer(number, &blob[..]).unwrap());
        }
    });
    let index = Digest::of(b"an index");
    let pulled = pull.finish(Some(&index)).unwrap();
    assert_eq!((pulled.newer, &pulled.digest), (true, &index));
    let image = store.find("box:1").unwrap();
    assert_eq!((image.id.clone(), image.origin), (Digest::of(&config), Origin::Pulled));
    assert_eq!(store.find(&format!("box@{index}")).unwrap().id, image.id);
    assert_rich(&store.layer_stack(&image.id).unwrap().dirs[2]);
    assert_eq!(store.manifests(&image.id), [Digest::of(&manifest)]);

    let again = store.begin_pull(&box_, &manifest, &config).unwrap();
    assert!(again.layers().iter().all(|(_, _, there)| *there));
    assert!(!again.finish(Some(&index)).unwrap().newer, "up to date");

    let other = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": []}}).to_string();
    assert!(store.begin_pull(&box_, &manifest, other.as_bytes()).is_err());
    assert!(store.begin_pull(&box_, b"nonsense", &config).is_err());
}

/// Loads an archive and tells the lines for the user.
fn load(store: &LocalStore, archive: &[u8]) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    store.load(archive, &|_| true, &mut |event| {
        if let LoadEvent::Message(line) = event {
            lines.push(line);
        }
    })?;
    Ok(lines)
}

fn save(store: &LocalStore, names: &[&str]) -> Vec<u8> {
    let mut archive = Vec::new();
    store.save(names, &mut archive, &mut |_| {}).unwrap();
    archive
}

#[test]
fn what_is_not_wanted_is_not_loaded_and_what_is_no_tar_is_called_so() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let (_host, _) = catalogue(&scratch);
    store.pull_from_catalogue(&name("box"), &mut |_, _| {}).unwrap().unwrap();
    let archive = save(&store, &["box"]);
    let other = Scratch::new();
    let other = open(&other);
    let mut events = Vec::new();
    other.load(archive.as_slice(), &|config| config.os != "linux", &mut |event| events.push(event)).unwrap();
    assert!(events.is_empty() && other.images().is_empty());
    let refused = |bytes: &[u8]| load(&other, bytes).unwrap_err().to_string();
    assert_eq!(refused(&[b'x'; 2000]), "archive/tar: invalid tar header");
    assert_eq!(refused(b"root:x:0:0"), "unexpected EOF");
}

#[test]
fn what_is_saved_loads_elsewhere_as_the_same() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let (_host, _) = catalogue(&scratch);
    store.pull_from_catalogue(&name("box"), &mut |_, _| {}).unwrap().unwrap();
    let base = store.find("box").unwrap().id;
    let mine = build(&store, Some(&base), "mine");
    store.tag(&mine, &name("mine:1")).unwrap();
    store.tag(&mine, &name("mine:2")).unwrap();
    let archive = save(&store, &["box", "mine"]);
    assert!(archive == save(&store, &["box", "mine"]), "the same bytes each time");
    let mut names = Vec::new();
    let mut documents = HashMap::new();
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        if !path.starts_with("blobs") {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            documents.insert(path.clone(), text);
            names.push(path);
        }
    }
    assert_eq!(names, ["index.json", "manifest.json", "oci-layout", "repositories"]);
    let manifest: serde_json::Value = serde_json::from_str(&documents["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["Config"], format!("blobs/sha256/{}", base.hex()));
    assert_eq!(manifest[1]["RepoTags"], serde_json::json!(["mine:1", "mine:2"]));
    assert_eq!(manifest[1]["Parent"], base.to_string());
    assert_eq!(manifest[1]["Layers"].as_array().unwrap().len(), 3);

    let there = LocalStore::open(&scratch.0.join("there")).unwrap();
    let lines = load(&there, &archive).unwrap();
    assert_eq!(lines, ["Loaded image: box:latest\n", "Loaded image: mine:1\n", "Loaded image: mine:2\n"]);
    let image = there.find("mine:2").unwrap();
    assert_eq!(
        (image.id.clone(), image.parent.clone(), image.origin),
        (mine.clone(), Some(base), Origin::Loaded)
    );
    assert_eq!(image.size, store.find("mine:1").unwrap().size);
    let dirs = there.layer_stack(&mine).unwrap().dirs;
    assert_rich(&dirs[2]);
    assert!(dirs[0].join("mine").exists());
    assert!(save(&there, &["box", "mine"]) == archive, "and is saved as the same");
    // Compressed, and by id: without a name.
    let by_id = save(&store, &[mine.hex()]);
    let third = LocalStore::open(&scratch.0.join("third")).unwrap();
    assert_eq!(load(&third, &pack(1, &by_id).1).unwrap(), [format!("Loaded image ID: {mine}\n")]);
    // A name that meant something else.
    let other = tagged(&third, &["mine:1"], "other");
    let lines = load(&third, &archive).unwrap();
    let renamed =
        format!("The image mine:1 already exists, renaming the old one with ID {other} to empty string\n");
    assert!(lines.contains(&renamed), "{lines:?}");
    let error = store.save(&["box", "nothing"], &mut std::io::sink(), &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "No such image: nothing:latest");
}

#[test]
fn archives_of_other_tools_are_loaded() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let (one, two) = (layer(&[file("one", b"1")]), layer(&[file("two", b"2")]));
    let config = serde_json::json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers",
        "diff_ids": [Digest::of(&one).to_string(), Digest::of(&two).to_string(), Digest::of(&one).to_string()]}});
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": ["old:1"],
        "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]);
    let manifest = manifest.to_string().into_bytes();
    // As old engines wrote: documents last, and a link for a layer that comes twice.
    let archive = layer(&[
        directory("a"),
        file("a/VERSION", b"1.0"),
        file("a/layer.tar", &one),
        file("b/layer.tar", &two),
        link("c/layer.tar", EntryType::Symlink, "../a/layer.tar"),
        file("config.json", &config),
        file("manifest.json", &manifest),
    ]);
    assert_eq!(load(&store, &archive).unwrap(), ["Loaded image: old:1\n"]);
    let dirs = store.layer_stack(&Digest::of(&config)).unwrap().dirs;
    assert!(dirs.len() == 3 && dirs[0].join("one").exists() && dirs[2].join("one").exists());
    assert_ne!(dirs[0], dirs[2]);
    assert_eq!(load(&store, &archive).unwrap(), ["Loaded image: old:1\n"], "again");

    // An OCI layout without Docker's manifest, with each kind of compression.
    let layout = image_file("registry:5000/oci:2", &[one, two, rich_layer()], |_| {});
    assert_eq!(load(&store, &layout).unwrap(), ["Loaded image: registry:5000/oci:2\n"]);
    assert_rich(&store.layer_stack(&store.find("registry:5000/oci:2").unwrap().id).unwrap().dirs[0]);
}

#[test]
fn bad_archives_leave_nothing() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let good = layer(&[file("f", &[1; 5000])]);
    let config = |diff: &[u8]| {
        let diff_ids = [Digest::of(diff).to_string()];
        serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string()
    };
    let item = |layers: &[&str]| serde_json::json!([{"Config": "c", "Layers": layers}]).to_string();
    let archive = |config: &str, manifest: &str, tar: &[u8]| {
        layer(&[
            file("l/layer.tar", tar),
            file("c", config.as_bytes()),
            file("manifest.json", manifest.as_bytes()),
        ])
    };
    let whole = archive(&config(&good), &item(&["l/layer.tar"]), &good);
    let windows = config(&good).replace("linux", "windows");
    let hostile = layer(&[file("../../evil", b"evil")]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "manifest.json: no such file"),
        ("no tar", b"hello".repeat(500), "invalid tar"),
        ("cut in a layer", whole[..3000].to_vec(), "unexpected EOF"),
        ("cut between", whole[..whole.len() - 2048 - 512].to_vec(), ""),
        ("null", archive(&config(&good), "null", &good), "manifest cannot be null"),
        (
            "wrong diff id",
            archive(&config(b"x"), &item(&["l/layer.tar"]), &good),
            "invalid diffID for layer 0: expected",
        ),
        (
            "too few layers",
            archive(&config(&good), &item(&[]), &good),
            "layers length mismatch: expected 0, got 1",
        ),
        (
            "a layer is missing",
            archive(&config(&good), &item(&["m/layer.tar"]), &good),
            "open m/layer.tar: no such file",
        ),
        (
            "another system",
            archive(&windows, &item(&["l/layer.tar"]), &good),
            "cannot load windows image on linux",
        ),
        ("a hostile layer", archive(&config(&hostile), &item(&["l/layer.tar"]), &hostile), "goes up with"),
        (
            "links in a circle",
            layer(&[
                link("manifest.json", EntryType::Symlink, "x"),
                link("x", EntryType::Symlink, "manifest.json"),
            ]),
            "no such file",
        ),
    ];
    for (what, bytes, said) in cases {
        let error = load(&store, &bytes).expect_err(what).to_string();
        assert!(error.contains(said), "{what}: {error}");
        assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new(), "{what}");
        assert!(store.images().is_empty(), "{what}");
    }
    assert_eq!(load(&store, &whole).unwrap().len(), 1, "the frame of these cases is right");
}

#[test]
fn a_root_file_system_is_imported() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let config =
        ImageConfig { os: "linux".into(), comment: Some("Imported from -".into()), ..ImageConfig::default() };
    let (_, packed) = pack(1, &rich_layer());
    let id = store.import(&packed[..], config, Some(&name("rootfs"))).unwrap();
    let history = store.history(&id).unwrap();
    assert_eq!((history[0].comment.as_str(), history[0].size), ("Imported from -", 22));
    assert!(history[0].created > 1_700_000_000);
    assert_eq!(history[0].tags.as_ref().unwrap()[0], "rootfs:latest");
    assert_rich(&store.layer_stack(&id).unwrap().dirs[0]);
    let unfit = NewImage { config: b"{}", top: None, parent: None, origin: Origin::Built };
    assert!(store.create(&unfit).is_ok(), "an image without layers (FROM scratch)");
    let top: Option<LayerRef> = store.top_layer(&id).unwrap();
    let unfit = NewImage { config: b"{ }", top: top.as_ref(), parent: None, origin: Origin::Built };
    assert!(matches!(store.create(&unfit), Err(StoreError::Invalid(_))));
}
