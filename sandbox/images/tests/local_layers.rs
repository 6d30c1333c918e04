//! Layers of a node's store: in as tars from anywhere, out again as the same bytes. Needs root, for owners and device nodes.

mod common;

use common::*;
use drydock_images::{
    ChangeKind, Digest, changes,
    config::ImageConfig,
    local::{ChainId, LayerRef, LocalStore, NewImage, Origin, StoreError},
};
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};
use tar::EntryType;

fn open(scratch: &Scratch) -> LocalStore {
    LocalStore::open(&scratch.0.join("docker")).unwrap()
}

/// Where a layer alone lies.
fn dir(store: &LocalStore, layer: &LayerRef) -> PathBuf {
    store.stack(Some(layer.chain())).unwrap().dirs[0].clone()
}

fn tar_of(store: &LocalStore, layer: &LayerRef) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    store.layer_tar(layer.chain()).unwrap().read_to_end(&mut bytes).map(|_| bytes)
}

/// Everything that the store keeps of layers and of work in progress.
fn leftovers(scratch: &Scratch) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for sub in ["overlay2", "overlay2/l", "image/overlay2/tmp", "image/overlay2/layerdb/sha256"] {
        let entries = fs::read_dir(scratch.0.join("docker").join(sub)).unwrap();
        found.extend(entries.map(|e| e.unwrap().path()).filter(|p| !p.ends_with("overlay2/l")));
    }
    found
}

fn mknod_whiteout(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn a_layer_comes_out_as_it_came_however_it_was_packed() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let tar = rich_layer();
    for number in 0..3 {
        let (kind, packed) = pack(number, &tar);
        let layer = store.add_layer(&packed[..], None).unwrap();
        assert_eq!(*layer.diff_id(), Digest::of(&tar), "{kind}");
        assert_rich(&dir(&store, &layer));
        assert!(tar_of(&store, &layer).unwrap() == tar, "{kind}: the tar is the same again");
        assert_eq!(layer.tar_size(), tar.len() as u64);
        // elf, the links' targets, new, deep and empty files.
        assert_eq!(layer.size(), 3 + "../../../etc".len() as u64 + 3 + 4, "{kind}");
        let blob = store.layer_blob(layer.chain()).unwrap();
        let mut bytes = Vec::new();
        blob.open().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (blob.digest.clone(), blob.size));
        let known = store.known_blob(layer.chain()).unwrap();
        assert_eq!((known.1, known.2), (blob.digest, blob.size));
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        assert!(plain == tar);
        assert_eq!(store.layer_blob(layer.chain()).unwrap().digest, Digest::of(&bytes), "each time the same");
        drop(layer);
    }
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new(), "nobody needs the layer any more");
}

#[test]
fn odd_but_lawful_tars_are_taken_and_come_out_the_same() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let mut trailing = layer(&[file("f", b"content")]);
    trailing.extend([0; 10_240]);
    let big = vec![7; 300_000];
    let long = "d/".repeat(60) + "deep";
    let path: &[(&str, &[u8])] = &[("path", long.as_bytes())];
    let holes: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"50000000"),
        ("GNU.sparse.name", b"disk"),
        ("GNU.sparse.map", b"4096,3,49999997,3"),
    ];
    let cases = [
        (
            "absolute names",
            layer(&[file("/etc/hosts", b"h"), link("/etc/h2", EntryType::Link, "/etc/hosts")]),
        ),
        (
            "replaced files",
            layer(&[
                file("a", b"first"),
                link("b", EntryType::Link, "a"),
                file("a", b"second one"),
                file("a", b""),
                file("c", &big),
                link("c", EntryType::Symlink, "a"),
            ]),
        ),
        (
            "links on the way",
            layer(&[directory("usr"), link("lib", EntryType::Symlink, "/usr"), file("lib/x", b"x")]),
        ),
        ("blocks after the end", trailing),
        ("no end", layer(&[file("f", b"content")])[..1024].to_vec()),
        ("long names", layer(&[Put { pax: path, ..file("short", &big) }])),
        ("nothing", vec![0; 1024]),
        ("a device", layer(&[link("null", EntryType::Char, ""), file("f", b"x")])),
        (
            "holes",
            layer(&[Put { pax: holes, ..file("GNUSparseFile.1/disk", b"onetwo") }, file("f", b"next")]),
        ),
    ];
    for (what, tar) in cases {
        let layer = store.add_layer(&tar[..], None).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(tar_of(&store, &layer).unwrap() == tar, "{what}");
        assert_eq!(layer.is_empty(), what == "nothing");
        match what {
            "absolute names" => assert!(dir(&store, &layer).join("etc/h2").exists()),
            "links on the way" => assert!(dir(&store, &layer).join("usr/x").exists()),
            "a device" => assert!(!dir(&store, &layer).join("null").exists()),
            "holes" => {
                let found = fs::metadata(dir(&store, &layer).join("disk")).unwrap();
                assert!(found.len() == 50_000_000 && found.blocks() * 512 < 1 << 20, "{}", found.blocks());
                let file = fs::File::open(dir(&store, &layer).join("disk")).unwrap();
                let mut end = [0; 4];
                file.read_exact_at(&mut end, 49_999_996).unwrap();
                assert_eq!(&end, b"\0two");
            }
            _ => {}
        }
    }
}

#[test]
fn hostile_tars_are_refused_and_leave_nothing() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let outside = scratch.0.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    let out = outside.to_str().unwrap();
    let overlay: &[(&str, &[u8])] = &[("SCHILY.xattr.user.overlay.redirect", b"/")];
    let whole = layer(&[file("f", &[1; 5000])]);
    let mut broken_gzip = pack(1, &whole).1;
    let middle = broken_gzip.len() / 2;
    broken_gzip[middle] ^= 0xff;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("up", layer(&[file("a/../../../evil", b"evil")])),
        ("hard link up", layer(&[link("h", EntryType::Link, "../../../outside/secret")])),
        ("hard link out", layer(&[link("h", EntryType::Link, &format!("{out}/secret"))])),
        ("through a link", layer(&[link("out", EntryType::Symlink, out), file("out/evil", b"evil")])),
        ("owner out of range", layer(&[Put { owner: (70_000, 0), ..file("f", b"") }])),
        ("steers overlayfs", layer(&[Put { pax: overlay, ..file("f", b"") }])),
        ("empty whiteout", layer(&[file(".wh.", b"")])),
        ("directory becomes link", layer(&[directory("d"), link("d", EntryType::Symlink, out)])),
        ("cut in content", whole[..2000].to_vec()),
        ("cut in a header", whole[..300].to_vec()),
        ("no tar", b"hello".repeat(500)),
        ("gzip of nonsense", broken_gzip),
        ("zstd cut", {
            let z = pack(0, &whole).1;
            z[..z.len() - 3].to_vec()
        }),
    ];
    for (what, tar) in cases {
        store.add_layer(&tar[..], None).expect_err(what);
        assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new(), "{what}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{what}");
    }
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
    let other = Digest::of(b"other");
    let error = store.add_known_layer(&whole[..], None, &other).unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(m) if m.contains("invalid diffID")), "{error}");
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());
}

/// An upper directory with one of everything.
fn upper(at: &Path) {
    fs::create_dir_all(at.join("etc/empty")).unwrap();
    fs::write(at.join("etc/hosts"), b"127.0.0.1").unwrap();
    fs::hard_link(at.join("etc/hosts"), at.join("zhosts")).unwrap();
    fs::set_permissions(at.join("etc/hosts"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(at.join("etc"), Some(3), Some(65_000)).unwrap();
    mknod_whiteout(&at.join("etc/gone"));
    fs::create_dir(at.join("new")).unwrap();
    set_xattr(&at.join("new"), "user.overlay.opaque", b"y");
    set_xattr(&at.join("new"), "user.mine", b"value");
    fs::write(at.join("new/ping"), b"elf").unwrap();
    set_xattr(&at.join("new/ping"), "security.capability", CAPABILITY);
    set_xattr(&at.join("new/ping"), "user.overlay.origin", b"secret");
    symlink("/nowhere", at.join("link")).unwrap();
    fs::write(at.join("x".repeat(200)), b"long name").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    drop(std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap());
}

fn assert_upper(at: &Path) {
    let stat = |path: &str| fs::symlink_metadata(at.join(path)).unwrap();
    assert_eq!((stat("etc").uid(), stat("etc").gid()), (3, 65_000));
    assert_eq!(stat("etc/hosts").mode() & 0o7777, 0o4751);
    assert_eq!(stat("etc/hosts").ino(), stat("zhosts").ino());
    assert_eq!((stat("etc/gone").mode() & 0o170_000, stat("etc/gone").rdev()), (0o020_000, 0));
    assert_eq!(xattr(&at.join("new"), "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
    assert_eq!(xattr(&at.join("new"), "user.mine").as_deref(), Some(&b"value"[..]));
    assert_eq!(xattr(&at.join("new/ping"), "security.capability").as_deref(), Some(CAPABILITY));
    assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("/nowhere"));
    assert_eq!(fs::read(at.join("x".repeat(200))).unwrap(), b"long name");
    assert!(stat("etc/empty").is_dir());
    assert_eq!(stat("pipe").mode() & 0o170_777, 0o010_600);
}

#[test]
fn an_upper_directory_becomes_a_layer_by_copy_and_by_move() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let from = scratch.0.join("docker/upper");
    upper(&from);
    let base = store.add_layer(&layer(&[file("base", b"")])[..], None).unwrap();
    let copied = store.commit_layer(&from, Some(&base)).unwrap();
    assert_upper(&dir(&store, &copied));
    assert_upper(&from);
    assert_eq!(xattr(&dir(&store, &copied).join("new/ping"), "user.overlay.origin"), None);
    let tar = tar_of(&store, &copied).unwrap();
    let mut names: Vec<_> = Vec::new();
    for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().to_string_lossy().into_owned());
    }
    let long = "x".repeat(200);
    let expected = [
        "etc/",
        "etc/empty/",
        "etc/.wh.gone",
        "etc/hosts",
        "link",
        "new/",
        "new/.wh..wh..opq",
        "new/ping",
        "pipe",
        &long,
        "zhosts",
    ];
    assert_eq!(names, expected, "no socket, and sorted");

    let moved = store.adopt_layer(&from, None).unwrap();
    assert!(!from.exists());
    assert_eq!(moved.diff_id(), copied.diff_id(), "the same tar both ways");
    assert_upper(&dir(&store, &moved));
    assert!(tar_of(&store, &moved).unwrap() == tar);
    // What is written and read again is the same layer elsewhere.
    let there = LocalStore::open(&scratch.0.join("there")).unwrap();
    let again = there.add_layer(&tar[..], None).unwrap();
    assert_upper(&dir(&there, &again));
    assert_eq!(again.chain(), moved.chain());

    let nothing = scratch.0.join("docker/nothing");
    fs::create_dir(&nothing).unwrap();
    assert!(store.commit_layer(&nothing, None).unwrap().is_empty());
    assert!(store.commit_layer(&scratch.0.join("missing"), None).is_err());
    let program = std::process::Command::new("tar")
        .args(["-tf", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn();
    if let Ok(mut child) = program {
        child.stdin.take().unwrap().write_all(&tar).unwrap();
        assert!(child.wait().unwrap().success(), "GNU tar reads it");
    }
}

#[test]
fn a_layer_that_the_learner_changed_is_not_handed_on() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let tar = layer(&[file("f", b"content"), file("g", b"more")]);
    let layer = store.add_layer(&tar[..], None).unwrap();
    let f = dir(&store, &layer).join("f");
    for change in ["CONTENT", "short", "longer than it was"] {
        fs::write(&f, change).unwrap();
        assert!(tar_of(&store, &layer).is_err(), "{change}");
    }
    fs::remove_file(&f).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &f,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(tar_of(&store, &layer).is_err(), "and nothing waits for a FIFO");
}

#[test]
fn stacks_are_topmost_first_and_links_lead_to_them() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let base = store.add_layer(&layer(&[file("base", b"")])[..], None).unwrap();
    let middle = store.add_layer(&layer(&[file("middle", b"")])[..], Some(&base)).unwrap();
    let top = store.add_layer(&layer(&[file("top", b"")])[..], Some(&middle)).unwrap();
    let diff_ids = [base.diff_id().clone(), middle.diff_id().clone(), top.diff_id().clone()];
    assert_eq!(ChainId::of_all(&diff_ids).as_ref(), Some(top.chain()));
    let stack = store.stack(Some(top.chain())).unwrap();
    for (n, name) in ["top", "middle", "base"].into_iter().enumerate() {
        assert!(stack.dirs[n].join(name).exists());
        assert_eq!(stack.links[n].len(), 28);
        assert!(scratch.0.join("docker/overlay2").join(&stack.links[n]).join(name).exists());
    }
    // Layers keep those below them.
    let chain = base.chain().clone();
    drop((base, middle));
    assert!(store.layer(&chain).is_some());
    drop(top);
    assert!(store.layer(&chain).is_none());
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());
}

#[test]
fn threads_may_bring_and_drop_the_same_layers() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let (one, two) = (layer(&[file("one", b"1")]), layer(&[file("two", b"2")]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let below = store.add_layer(&one[..], None).unwrap();
                    let top = store.add_layer(&two[..], Some(&below)).unwrap();
                    drop(below);
                    let stack = store.stack(Some(top.chain())).unwrap();
                    assert!(stack.dirs[0].join("two").exists() && stack.dirs[1].join("one").exists());
                    let (docker, link) = (store.root().join("overlay2"), &stack.links[1]);
                    assert!(docker.join(link).join("one").exists());
                }
            });
        }
    });
    assert!(store.layers().is_empty());
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());
}

#[test]
fn a_layer_whose_files_were_lost_can_come_again() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let tar = layer(&[file("one", b"1")]);
    let below = store.add_layer(&tar[..], None).unwrap();
    let top = store.add_layer(&layer(&[file("two", b"2")])[..], Some(&below)).unwrap();
    fs::remove_dir_all(dir(&store, &below)).unwrap();
    let error = store.stack(Some(top.chain())).unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    let again = store.add_layer(&tar[..], None).unwrap();
    let stack = store.stack(Some(top.chain())).unwrap();
    assert!(stack.dirs[1].join("one").exists());
    assert!(store.root().join("overlay2").join(&stack.links[1]).join("one").exists());
    drop((below, top, again));
    assert!(store.layers().is_empty());
}

#[test]
fn layers_can_be_too_many() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let mut below = None;
    let mut failed = None;
    for n in 0..130 {
        let name = n.to_string();
        match store.add_layer(&layer(&[file(&name, b"")])[..], below.as_ref()) {
            Ok(layer) => below = Some(layer),
            Err(e) => {
                failed = Some((n, e.to_string()));
                break;
            }
        }
    }
    assert_eq!(failed, Some((125, "max depth exceeded".into())));
    drop(below);
    assert_eq!(leftovers(&scratch), Vec::<PathBuf>::new());
}

#[test]
fn what_a_killed_engine_left_goes_at_the_next_start_and_what_it_had_stays() {
    let scratch = Scratch::new();
    let docker = scratch.0.join("docker");
    let store = open(&scratch);
    let kept = store.add_layer(&layer(&[file("kept", b"kept")])[..], None).unwrap();
    let mut config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
    config.rootfs.diff_ids = vec![kept.diff_id().clone()];
    let config = serde_json::to_vec(&config).unwrap();
    let new = NewImage { config: &config, top: Some(&kept), parent: None, origin: Origin::Built };
    let id = store.create(&new).unwrap();
    let half = store.add_layer(&layer(&[file("half", b"")])[..], Some(&kept)).unwrap();
    // As if the process had been killed: nothing is dropped.
    std::mem::forget((half, kept, store));
    fs::create_dir_all(docker.join("image/overlay2/tmp/7-7/diff/usr")).unwrap();
    let orphan = docker.join("overlay2").join("a".repeat(64));
    fs::create_dir_all(orphan.join("diff")).unwrap();
    fs::write(orphan.join("layer"), Digest::of(b"x").to_string()).unwrap();
    let container = docker.join("overlay2").join("b".repeat(64));
    fs::create_dir_all(container.join("diff")).unwrap();
    symlink(format!("../{}/diff", "b".repeat(64)), docker.join("overlay2/l/CONTAINER")).unwrap();
    symlink("../gone/diff", docker.join("overlay2/l/DANGLING")).unwrap();

    let store = open(&scratch);
    assert!(!orphan.exists() && container.is_dir(), "containers' directories are the engine's");
    assert_eq!(store.layers().len(), 1);
    assert_eq!(fs::read_dir(docker.join("overlay2")).unwrap().count(), 3, "l, the layer, the container");
    assert_eq!(fs::read_dir(docker.join("overlay2/l")).unwrap().count(), 2);
    assert_eq!(fs::read_dir(docker.join("image/overlay2/tmp")).unwrap().count(), 0);
    let stack = store.layer_stack(&id).unwrap();
    assert!(stack.dirs[0].join("kept").exists());
}

#[test]
fn garbage_in_the_data_base_is_no_reason_to_stop_or_wait() {
    let scratch = Scratch::new();
    let docker = scratch.0.join("docker");
    drop(open(&scratch));
    let database = docker.join("image/overlay2");
    let fifo = |path: PathBuf| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    let hex = |n: u8| format!("{n:064x}");
    fifo(database.join("imagedb/content/sha256").join(hex(1)));
    fs::write(database.join("imagedb/content/sha256").join(hex(2)), b"{}").unwrap();
    fs::write(database.join("imagedb/content/sha256/not a digest"), b"{}").unwrap();
    fs::create_dir(database.join("layerdb/sha256").join(hex(3))).unwrap();
    fifo(database.join("layerdb/sha256").join(hex(3)).join("layer.json"));
    fs::write(database.join("layerdb/sha256").join(hex(4)), b"a file").unwrap();
    fs::create_dir(database.join("repositories.json")).unwrap();
    fs::write(database.join("layerdb/mounts").join("c".repeat(64)), b"garbage").unwrap();
    fs::remove_dir_all(docker.join("overlay2")).unwrap();
    fs::write(docker.join("overlay2"), b"a file").unwrap();
    fifo(docker.join("catalogue"));
    let store = open(&scratch);
    assert!(store.images().is_empty() && store.layers().is_empty() && store.holders().is_empty());
    assert!(store.catalogue().is_empty());
    let layer = store.add_layer(&layer(&[file("f", b"")])[..], None).unwrap();
    assert!(dir(&store, &layer).join("f").exists());
}

#[test]
fn differences_are_told_as_docker_does() {
    let scratch = Scratch::new();
    let (base, over, upper) = (scratch.0.join("base"), scratch.0.join("over"), scratch.0.join("upper"));
    for (dir, files) in [
        (
            &base,
            &["etc/hosts", "etc/passwd", "usr/bin/ls", "opt/a", "opt/b", "gone/x", "same/f", "hidden"][..],
        ),
        (&over, &["etc/passwd"][..]),
        (&upper, &["etc/passwd", "etc/new", "opt/b", "opt/c", "gone2/y", "hidden", "usr/bin/ls"][..]),
    ] {
        for path in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.to_str().unwrap()).unwrap();
        }
    }
    mknod_whiteout(&over.join("hidden"));
    mknod_whiteout(&upper.join("etc/hosts"));
    mknod_whiteout(&upper.join("gone"));
    fs::create_dir(upper.join("same")).unwrap();
    set_xattr(&upper.join("opt"), "user.overlay.opaque", b"y");
    let times = |path: &str, layer: &Path| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        fs::File::open(layer.join(path)).unwrap().set_modified(time).unwrap();
    };
    for path in ["same", "usr", "usr/bin"] {
        times(path, &base);
        times(path, &upper);
    }
    let found = changes(&[over, base], &upper).unwrap();
    let found: Vec<_> = found.iter().map(|c| (u8::from(c.kind), c.path.as_str())).collect();
    let expected = [
        (0, "/etc"),
        (2, "/etc/hosts"),
        (1, "/etc/new"),
        (0, "/etc/passwd"),
        (2, "/gone"),
        (1, "/gone2"),
        (1, "/gone2/y"),
        (1, "/hidden"),
        (0, "/opt"),
        (2, "/opt/a"),
        (0, "/opt/b"),
        (1, "/opt/c"),
        (0, "/usr"),
        (0, "/usr/bin"),
        (0, "/usr/bin/ls"),
    ];
    assert_eq!(found, expected);
    assert_eq!(serde_json::to_string(&ChangeKind::Deleted).unwrap(), "2");
}

/// Runs a shell script in a mount namespace of its own with the layers mounted at `merged`, as containers have them.
fn in_container(store: &LocalStore, top: &LayerRef, name: &str, script: &str) -> String {
    let container = store.root().join("overlay2").join(name);
    for sub in ["diff", "work", "merged"] {
        fs::create_dir_all(container.join(sub)).unwrap();
    }
    let lower = store.stack(Some(top.chain())).unwrap().links.join(":");
    let options = format!("lowerdir={lower},upperdir={name}/diff,workdir={name}/work,userxattr");
    let script =
        format!("mount -t overlay overlay -o {options} {name}/merged && cd {name}/merged && ({script})");
    let ran = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-ec", &script])
        .current_dir(store.root().join("overlay2"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn the_kernel_sees_what_the_tars_say_and_what_it_writes_becomes_a_layer() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let base =
        layer(&[file("etc/gone", b""), file("etc/kept", b""), file("opt/hidden", b""), file("dir/a", b"")]);
    let base = store.add_layer(&base[..], None).unwrap();
    let over = [
        directory("etc"),
        file("etc/.wh.gone", b""),
        directory("opt"),
        file("opt/.wh..wh..opq", b""),
        file("opt/new", b""),
    ];
    let over = store.add_layer(&layer(&over)[..], Some(&base)).unwrap();
    let list = "find . -mindepth 1 | sort";
    let shown = in_container(&store, &over, "one", list);
    assert_eq!(shown, "./dir\n./dir/a\n./etc\n./etc/kept\n./opt\n./opt/new\n");

    let shown = in_container(
        &store,
        &over,
        "two",
        &format!("rm -r dir etc/kept && mkdir dir && touch dir/b && mv opt/new etc/moved && {list}"),
    );
    assert_eq!(shown, "./dir\n./dir/b\n./etc\n./etc/moved\n./opt\n");
    let upper = store.root().join("overlay2/two/diff");
    let found = changes(&store.stack(Some(over.chain())).unwrap().dirs, &upper).unwrap();
    let found: Vec<_> = found.iter().map(|c| (u8::from(c.kind), c.path.as_str())).collect();
    let expected = [
        (0, "/dir"),
        (2, "/dir/a"),
        (1, "/dir/b"),
        (0, "/etc"),
        (2, "/etc/kept"),
        (1, "/etc/moved"),
        (0, "/opt"),
        (2, "/opt/new"),
    ];
    assert_eq!(found, expected);
    let copied = store.commit_layer(&upper, Some(&over)).unwrap();
    assert_eq!(in_container(&store, &copied, "three", list), shown, "by copy");
    drop(copied);
    let moved = store.adopt_layer(&upper, Some(&over)).unwrap();
    assert_eq!(in_container(&store, &moved, "four", list), shown, "by move");
}
