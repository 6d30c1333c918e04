//! The store with small images made here, hostile ones among them. Needs root, as the store does.

mod common;

use common::*;
use drydock_images::{Digest, Error, NewLayer, Store, config::ImageConfig};
use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tar::EntryType;

fn import(store: &Store, file: &[u8]) -> Result<Vec<String>, Error> {
    store.import(&mut &file[..], &mut |_| {})
}

#[test]
fn a_layer_is_unpacked_as_it_was_packed() {
    let scratch = Scratch::new();
    let store = scratch.store("a");
    assert_eq!(import(&store, &image_file("node", &[rich_layer()], |_| {})).unwrap(), ["node"]);
    let image = store.resolve("node").unwrap();
    assert_eq!(image.env, ["LANG=C.UTF-8"]);
    assert_rich(&image.layers[0]);
    let mode = |path: &str| fs::metadata(scratch.0.join("a").join(path)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode(""), mode("layers")),
        (0o700, 0o700),
        "users of the host must not reach set-user-id programs"
    );
}

#[test]
fn layers_lie_topmost_first_and_whiteouts_speak_overlayfs() {
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let upper = layer(&[
        directory("etc"),
        file("etc/.wh.gone", b""),
        directory("opt"),
        file("opt/.wh..wh..opq", b""),
        file("here", b""),
        file(".wh.here", b""),
    ]);
    let middle = layer(&[file("middle", b"")]);
    let lower = layer(&[file("etc/gone", b""), file("opt/hidden", b"")]);
    import(&store, &image_file("node", &[lower, middle, upper], |_| {})).unwrap();
    let layers = store.resolve("node").unwrap().layers;
    let gone = fs::symlink_metadata(layers[0].join("etc/gone")).unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        assert_eq!(xattr(&layers[0].join("opt"), name).as_deref(), Some(&b"y"[..]), "{name}");
    }
    assert!(fs::symlink_metadata(layers[0].join("here")).unwrap().is_file(), "hides only what lies below");
    assert!(layers[1].join("middle").exists() && layers[2].join("opt/hidden").exists());
}

#[test]
fn an_exported_image_imports_elsewhere_as_the_same() {
    let scratch = Scratch::new();
    let (here, there) = (scratch.store("here"), scratch.store("there"));
    import(&here, &image_file("node", &[rich_layer(), layer(&[file("two", b"2")])], |_| {})).unwrap();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    here.export("node", &mut one).unwrap();
    here.export("node", &mut two).unwrap();
    assert!(one == two, "the same bytes each time");
    import(&there, &one).unwrap();
    let (a, b) = (here.resolve("node").unwrap(), there.resolve("node").unwrap());
    assert_eq!(a.digest, b.digest);
    assert_rich(&b.layers[1]);
    assert_eq!(
        serde_json::to_value(here.list().unwrap()).unwrap(),
        serde_json::to_value(there.list().unwrap()).unwrap()
    );
    let other_tools =
        std::process::Command::new("tar").arg("-tf").arg("-").stdin(std::process::Stdio::piped()).spawn();
    if let Ok(mut tar) = other_tools {
        tar.stdin.take().unwrap().write_all(&one).unwrap();
        assert!(tar.wait().unwrap().success(), "GNU tar reads the file");
    }
}

/// Everything below a store but its empty frame.
fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for sub in ["tmp", "layers", "blobs/sha256"] {
        found.extend(fs::read_dir(dir.join(sub)).unwrap().map(|e| e.unwrap().path()));
    }
    found
}

#[test]
fn hostile_layers_are_refused_and_leave_nothing() {
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let outside = scratch.0.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    let out = outside.to_str().unwrap();
    let absolute = outside.join("evil");
    let through = |path| vec![link("out", EntryType::Symlink, out), file(path, b"evil")];
    let overlay: &[(&str, &[u8])] = &[("SCHILY.xattr.trusted.overlay.redirect", b"/")];
    let cases: Vec<(&str, Vec<Put<'_>>)> = vec![
        ("absolute", vec![file(absolute.to_str().unwrap(), b"evil")]),
        ("up", vec![file("a/../../../evil", b"evil")]),
        ("through a link", through("out/evil")),
        ("through a link, deeper", through("out/new/evil")),
        ("relative link", vec![link("out", EntryType::Symlink, "../../.."), file("out/evil", b"evil")]),
        ("link as directory", vec![link("out", EntryType::Symlink, out), directory("out/evil")]),
        ("through a file", vec![file("f", b""), file("f/evil", b"evil")]),
        ("hard link up", vec![link("h", EntryType::Link, "../../outside/secret")]),
        ("hard link absolute", vec![link("h", EntryType::Link, "/etc/passwd")]),
        (
            "hard link through",
            vec![link("out", EntryType::Symlink, out), link("h", EntryType::Link, "out/secret")],
        ),
        ("hard link to directory", vec![directory("d"), link("h", EntryType::Link, "d")]),
        ("hard link to nothing", vec![link("h", EntryType::Link, "nothing")]),
        ("hard link to itself", vec![file("h", b""), link("h", EntryType::Link, "h")]),
        (
            "directory becomes link",
            vec![directory("d"), link("d", EntryType::Symlink, out), file("d/evil", b"evil")],
        ),
        ("owner out of range", vec![Put { owner: (70_000, 0), ..file("f", b"") }]),
        ("steers overlayfs", vec![Put { pax: overlay, ..file("f", b"") }]),
        ("empty whiteout", vec![file(".wh.", b"")]),
        ("whiteout up", vec![directory("d"), file("d/.wh...", b"")]),
        ("no name", vec![Put { path: b"", ..Put::default() }]),
        ("unknown kind", vec![Put { kind: EntryType::new(b'S'), ..file("f", b"") }]),
    ];
    for (what, puts) in cases {
        let error = import(&store, &image_file("evil", &[layer(&puts)], |_| {})).expect_err(what);
        assert!(matches!(error, Error::Refused(_)), "{what}: {error}");
        assert!(matches!(store.resolve("evil"), Err(Error::NotFound(_))), "{what}");
        assert_eq!(leftovers(&scratch.0.join("a")), Vec::<PathBuf>::new(), "{what}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{what}");
    }
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
}

#[test]
fn damaged_or_foreign_files_are_refused_and_leave_nothing() {
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let good = layer(&[file("f", b"content")]);
    let make = |change: &dyn Fn(&mut Files)| image_file("bad", std::slice::from_ref(&good), change);
    let text = |files: &mut Files, name: &str, from: &str, to: &str| {
        let (_, bytes) = files.iter_mut().find(|f| f.0 == name).unwrap();
        *bytes = String::from_utf8(bytes.clone()).unwrap().replace(from, to).into_bytes();
    };
    let whole = make(&|_| {});
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no tar", b"hello".repeat(500)),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("a blob with other content", make(&|f| *f[3].1.last_mut().unwrap() ^= 1)),
        ("a blob is missing", make(&|f| drop(f.remove(3)))),
        ("no index", make(&|f| f.retain(|f| f.0 != "index.json"))),
        ("name goes up", make(&|f| text(f, "index.json", "\"bad\"", "\"../bad\""))),
        ("size is a lie", make(&|f| text(f, "index.json", "\"size\":", "\"size\":1"))),
        ("blob name goes up", make(&|f| f[1].0 = "blobs/sha256/../../evil".into())),
        ("blob name is no digest", make(&|f| f[1].0 = "blobs/sha256/evil".into())),
        ("no image inside", make(&|f| text(f, "index.json", "ref.name", "ref.nothing"))),
    ];
    for (what, bytes) in cases {
        import(&store, &bytes).expect_err(what);
        assert_eq!(leftovers(&scratch.0.join("a")), Vec::<PathBuf>::new(), "{what}");
        assert!(store.list().unwrap().is_empty(), "{what}");
    }
    // A layer that is not what the configuration says: right blob digests, wrong diff_id.
    let swapped = image_file("bad", &[good.clone(), layer(&[file("g", b"")])], |files| {
        let at: Vec<_> = (3..5).map(|i| files[i].1.clone()).collect();
        let manifest = String::from_utf8(files[2].1.clone()).unwrap();
        let (one, two) = (descriptor(zstd_kind(), &at[0]).to_string(), gzip_descriptor(&at[1]));
        let manifest = manifest.replace(&one, "ONE").replace(&two, &one).replace("ONE", &two).into_bytes();
        let old = (Digest::of(&files[2].1).to_string(), files[2].1.len());
        text(files, "index.json", &old.0, &Digest::of(&manifest).to_string());
        files[2] = (format!("blobs/sha256/{}", Digest::of(&manifest).hex()), manifest);
    });
    let error = import(&store, &swapped).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert_eq!(leftovers(&scratch.0.join("a")), Vec::<PathBuf>::new());
}

fn zstd_kind() -> &'static str {
    "application/vnd.oci.image.layer.v1.tar+zstd"
}

fn gzip_descriptor(bytes: &[u8]) -> String {
    descriptor("application/vnd.oci.image.layer.v1.tar+gzip", bytes).to_string()
}

#[test]
fn a_new_image_of_a_name_replaces_the_old_but_not_under_the_feet_of_others() {
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let other = scratch.store("a");
    import(&store, &image_file("node", &[layer(&[file("one", b"")])], |_| {})).unwrap();
    let old = other.resolve("node").unwrap();
    import(&store, &image_file("node", &[layer(&[file("two", b"")])], |_| {})).unwrap();
    assert!(old.layers[0].join("one").exists(), "somebody has the store open");
    let new = store.resolve("node").unwrap();
    assert!(new.layers[0].join("two").exists());
    drop(other);
    import(&store, &image_file("three", &[layer(&[file("three", b"")])], |_| {})).unwrap();
    assert!(!old.layers[0].exists(), "nobody needs it any more");
    assert_eq!(store.list().unwrap().iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["node", "three"]);
    assert_eq!(fs::read_dir(scratch.0.join("a/blobs/sha256")).unwrap().count(), 6);
}

#[test]
fn what_a_killed_process_left_goes_at_the_next_use() {
    let scratch = Scratch::new();
    drop(scratch.store("a"));
    let (half, outside) = (scratch.0.join("a/tmp/1-0"), scratch.0.join("build"));
    fs::create_dir_all(half.join("layer/usr")).unwrap();
    fs::create_dir_all(outside.join("root")).unwrap();
    std::os::unix::fs::symlink(&outside, half.join("outside")).unwrap();
    fs::write(half.join("layer/usr/half"), b"half").unwrap();
    fs::set_permissions(half.join("layer"), fs::Permissions::from_mode(0o000)).unwrap();
    drop(scratch.store("a"));
    assert!(!half.exists() && !outside.exists());
}

#[test]
fn unknown_and_impossible_names() {
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let error = store.resolve("node").unwrap_err().to_string();
    assert!(error.contains("drydock image build node"), "{error}");
    assert!(matches!(store.resolve("../../etc"), Err(Error::Name(_))));
    assert!(matches!(store.export("a b", &mut std::io::sink()), Err(Error::Name(_))));
}

#[test]
fn an_image_is_added_from_tars_and_shares_layers() {
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let (one, two) = (layer(&[file("one", b"1")]), layer(&[file("two", b"22")]));
    let name = "docker.io/library/one:latest";
    let config = || ImageConfig { os: "linux".into(), ..ImageConfig::default() };
    let add = |name: &str, config, layers| store.add_image(name, config, layers, &mut |_| {});
    add(name, config(), vec![NewLayer::Tar(Box::new(&one[..]))]).unwrap();
    let layers = || vec![NewLayer::Known(Digest::of(&one)), NewLayer::Tar(Box::new(&two[..]))];
    add("docker.io/library/two:latest", config(), layers()).unwrap();
    let image = store.resolve("docker.io/library/two:latest").unwrap();
    assert!(
        image.layers[0].join("two").exists() && image.layers[1] == store.resolve(name).unwrap().layers[0]
    );
    assert_eq!(fs::read_dir(scratch.0.join("a/layers")).unwrap().count(), 2);

    let unknown = vec![NewLayer::Known(Digest::of(b"unknown"))];
    assert!(matches!(add("x", config(), unknown), Err(Error::Refused(_))));
    let mut other = config();
    other.rootfs.diff_ids = vec![Digest::of(b"other")];
    assert!(matches!(add("x", other, layers()), Err(Error::Refused(_))));
    assert!(!store.contains("x") && store.contains(name));
    add(name, config(), vec![NewLayer::Tar(Box::new(&two[..]))]).unwrap();
    assert_eq!(store.list().unwrap().len(), 2, "the name was given anew");
}
