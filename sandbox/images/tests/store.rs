//! The store with small images made here, hostile ones among them. Needs root, as the store does.

use drydock_images::{Digest, Error, Store};
use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};
use tar::{Builder, EntryType, Header};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("drydock-images-test-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn store(&self, name: &str) -> Store {
        Store::open(self.0.join(name)).expect("these tests need root")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One entry of a layer that a test makes.
struct Put<'a> {
    path: &'a [u8],
    kind: EntryType,
    link: &'a str,
    mode: u32,
    owner: (u64, u64),
    content: &'a [u8],
    pax: &'a [(&'a str, &'a [u8])],
}

impl Default for Put<'_> {
    fn default() -> Self {
        Self {
            path: b"x",
            kind: EntryType::Regular,
            link: "",
            mode: 0o644,
            owner: (0, 0),
            content: b"",
            pax: &[],
        }
    }
}

fn file<'a>(path: &'a str, content: &'a [u8]) -> Put<'a> {
    Put { path: path.as_bytes(), content, ..Put::default() }
}

fn link<'a>(path: &'a str, kind: EntryType, to: &'a str) -> Put<'a> {
    Put { path: path.as_bytes(), kind, link: to, ..Put::default() }
}

fn directory(path: &str) -> Put<'_> {
    Put { path: path.as_bytes(), kind: EntryType::Directory, mode: 0o755, ..Put::default() }
}

/// Headers are written by hand: the tar crate would refuse the hostile names.
fn layer(puts: &[Put<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for put in puts {
        if !put.pax.is_empty() {
            tar.append_pax_extensions(put.pax.iter().copied()).unwrap();
        }
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..put.path.len()].copy_from_slice(put.path);
        header.as_old_mut().linkname[..put.link.len()].copy_from_slice(put.link.as_bytes());
        header.set_entry_type(put.kind);
        header.set_mode(put.mode);
        header.set_uid(put.owner.0);
        header.set_gid(put.owner.1);
        header.set_mtime(1_000_000_000);
        header.set_size(put.content.len() as u64);
        header.set_cksum();
        tar.append(&header, put.content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Path and content of the files of an image layout.
type Files = Vec<(String, Vec<u8>)>;

/// A file with an image of these layers (uncompressed tars, gzip or zstd by the flag), lowest first.
fn image_file(name: &str, layers: &[Vec<u8>], change: impl Fn(&mut Files)) -> Vec<u8> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diff_ids: Vec<_> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {"Env": ["LANG=C.UTF-8"], "Cmd": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let packed: Vec<_> = layers.iter().enumerate().map(|(i, l)| pack(i, l)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": packed.iter().map(|(kind, bytes)| descriptor(kind, bytes)).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();

    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    files.extend([(blob(&config), config), (blob(&manifest), manifest)]);
    files.extend(packed.into_iter().map(|(_, bytes)| (blob(&bytes), bytes)));
    files.push(("index.json".into(), index));
    change(&mut files);
    let puts: Vec<_> = files.iter().map(|(path, content)| file(path, content)).collect();
    layer(&puts)
}

/// Every way in which layers come, one after the other.
fn pack(number: usize, layer: &[u8]) -> (&'static str, Vec<u8>) {
    match number % 3 {
        0 => ("application/vnd.oci.image.layer.v1.tar+zstd", zstd::encode_all(layer, 1).unwrap()),
        1 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(layer).unwrap();
            ("application/vnd.oci.image.layer.v1.tar+gzip", gzip.finish().unwrap())
        }
        _ => ("application/vnd.oci.image.layer.v1.tar", layer.to_vec()),
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

fn import(store: &Store, file: &[u8]) -> Result<Vec<String>, Error> {
    store.import(&mut &file[..], &mut |_| {})
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    rustix::fs::lgetxattr(path, name, &mut value[..]).ok().map(|n| value[..n].to_vec())
}

/// CAP_NET_RAW, permitted and effective, as `setcap cap_net_raw+ep` writes it.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn rich_layer() -> Vec<u8> {
    let long = "d/".repeat(60) + "deep";
    let raw: &[(&str, &[u8])] =
        &[("SCHILY.xattr.security.capability", CAPABILITY), ("mtime", b"1234567890.5")];
    layer(&[
        Put { mode: 0o1777, ..directory("./") },
        Put { path: b"dev/null", kind: EntryType::Char, ..Put::default() },
        Put { owner: (7, 8), mode: 0o2750, ..directory("usr") },
        Put { mode: 0o4755, owner: (1000, 65_535), pax: raw, ..file("usr/ping", b"elf") },
        link("usr/ping2", EntryType::Link, "./usr/ping"),
        link("bin", EntryType::Symlink, "../../../etc"),
        link("bin2", EntryType::Link, "bin"),
        file("replaced", b"old"),
        file("replaced", b"new"),
        file("made/parents/too", b""),
        Put { pax: &[("path", long.as_bytes())], ..file("short", b"deep") },
        link("pipe", EntryType::Fifo, ""),
    ])
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

fn assert_rich(top: &Path) {
    let at = |path: &str| fs::symlink_metadata(top.join(path)).unwrap();
    assert_eq!(at("").mode() & 0o7777, 0o1777);
    assert_eq!((at("usr").uid(), at("usr").gid(), at("usr").mode() & 0o7777), (7, 8, 0o2750));
    assert_eq!(at("usr").mtime(), 1_000_000_000, "times of directories are set after their content");
    let ping = at("usr/ping");
    assert_eq!((ping.uid(), ping.gid(), ping.mode() & 0o7777), (1000, 65_535, 0o4755));
    assert_eq!((ping.mtime(), ping.mtime_nsec()), (1_234_567_890, 500_000_000));
    assert_eq!(xattr(&top.join("usr/ping"), "security.capability").as_deref(), Some(CAPABILITY));
    assert_eq!((ping.nlink(), ping.ino()), (2, at("usr/ping2").ino()));
    assert_eq!(fs::read_link(top.join("bin")).unwrap(), Path::new("../../../etc"));
    assert_eq!(at("bin").ino(), at("bin2").ino());
    assert_eq!(fs::read(top.join("replaced")).unwrap(), b"new");
    assert_eq!(at("made/parents").mode() & 0o7777, 0o755);
    assert_eq!(fs::read(top.join("d/".repeat(60) + "deep")).unwrap(), b"deep");
    assert!(!top.join("dev").exists() || fs::read_dir(top.join("dev")).unwrap().count() == 0, "no devices");
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
    assert_eq!(xattr(&layers[0].join("opt"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
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
