//! Contexts and hostile archives.

use drydock_dockerfile::files::{Kind, Tree, read_dockerfile, unpack, unpack_context};
use std::io::Cursor;
use std::path::Path;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

fn entry(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, data: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    // Past the checks of the `tar` crate, as an attacker would.
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    archive.append(&header, data).unwrap();
}

fn context(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    files.iter().for_each(|(name, data)| entry(&mut archive, EntryType::Regular, name, "", data.as_bytes()));
    archive.into_inner().unwrap()
}

fn names(root: &Path) -> Vec<String> {
    let tree = Tree::open(root).unwrap();
    let mut all = Vec::new();
    let mut open = vec![String::new()];
    while let Some(at) = open.pop() {
        for name in tree.list(&at).unwrap() {
            let path = format!("{at}{name}");
            if tree.kind(&path).unwrap() == Some(Kind::Directory) {
                open.push(format!("{path}/"));
            } else {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

#[test]
fn ignored_files_are_taken_away_but_not_the_dockerfile() {
    let files = [
        ("Dockerfile", "FROM x"),
        (".dockerignore", "*\n!src\nsrc/*.log\n"),
        ("secret", ""),
        ("src/a.c", ""),
        ("src/a.log", ""),
        ("out/deep/o", ""),
    ];
    let dir = TempDir::new().unwrap();
    unpack_context(Cursor::new(context(&files)), &Tree::open(dir.path()).unwrap(), "Dockerfile").unwrap();
    assert_eq!(names(dir.path()), [".dockerignore", "Dockerfile", "src/a.c"]);
    assert!(!dir.path().join("out").exists());
    let own = [
        ("a/Dockerfile", ""),
        ("a/Dockerfile.dockerignore", "x"),
        (".dockerignore", "y"),
        ("x", ""),
        ("y", ""),
    ];
    let dir = TempDir::new().unwrap();
    unpack_context(Cursor::new(context(&own)), &Tree::open(dir.path()).unwrap(), "a/Dockerfile").unwrap();
    assert_eq!(names(dir.path()), [".dockerignore", "a/Dockerfile", "a/Dockerfile.dockerignore", "y"]);
    let bad = context(&[(".dockerignore", "a[\n")]);
    let dir = TempDir::new().unwrap();
    let error = unpack_context(Cursor::new(bad), &Tree::open(dir.path()).unwrap(), "Dockerfile").unwrap_err();
    assert_eq!(error.to_string(), "error parsing .dockerignore: syntax error in pattern");
}

#[test]
fn archives_reach_nothing_outside() {
    let world = TempDir::new().unwrap();
    let (root, outside) = (world.path().join("root"), world.path().join("outside"));
    std::fs::create_dir(&root).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "safe").unwrap();
    let there = outside.to_str().unwrap();
    let mut archive = Builder::new(Vec::new());
    let (file, link, hard) = (EntryType::Regular, EntryType::Symlink, EntryType::Link);
    entry(&mut archive, file, "../../up", "", b"1");
    entry(&mut archive, file, "/absolute", "", b"1");
    entry(&mut archive, link, "way", there, b"");
    entry(&mut archive, file, "way/victim", "", b"changed");
    entry(&mut archive, link, "direct", &format!("{there}/victim"), b"");
    entry(&mut archive, file, "direct", "", b"changed");
    entry(&mut archive, link, "again", "../outside", b"");
    entry(&mut archive, EntryType::Directory, "again", "", b"");
    entry(&mut archive, file, "again/victim", "", b"changed");
    let archive = archive.into_inner().unwrap();
    unpack(Cursor::new(archive), &Tree::open(&root).unwrap(), "/", None).unwrap();
    assert_eq!(std::fs::read_to_string(outside.join("victim")).unwrap(), "safe");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert!(root.join("up").exists() && root.join("absolute").exists() && root.join("again/victim").exists());
    assert!(!world.path().join("up").exists());
    let mut archive = Builder::new(Vec::new());
    entry(&mut archive, hard, "stolen", &format!("../../..{there}/victim"), b"");
    let archive = archive.into_inner().unwrap();
    let fresh = world.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    unpack(Cursor::new(archive), &Tree::open(&fresh).unwrap(), "/", None).unwrap_err();
    assert!(!fresh.join("stolen").exists());
}

#[test]
fn broken_archives_are_errors() {
    let dir = TempDir::new().unwrap();
    let tree = Tree::open(dir.path()).unwrap();
    let whole = context(&[("a", "content")]);
    for bad in [
        &whole[..515],
        &[0x1f, 0x8b, 1, 2, 3],
        &[0xfd, b'7', b'z', b'X', b'Z', 0, 1],
        &[0x28, 0xb5, 0x2f, 0xfd, 9, 9],
    ] {
        assert!(unpack(Cursor::new(bad.to_vec()), &tree, "/", None).is_err(), "{bad:?}");
    }
    unpack(Cursor::new(Vec::new()), &tree, "/", None).unwrap();
}

#[test]
fn the_dockerfile_is_found_and_hidden_if_it_is_ignored() {
    let dir = TempDir::new().unwrap();
    let tree = Tree::open(dir.path()).unwrap();
    let error = |name: &str| read_dockerfile(&tree, name).unwrap_err().to_string();
    assert_eq!(error(""), "Cannot locate specified Dockerfile: Dockerfile");
    assert_eq!(error("../x"), "Cannot locate specified Dockerfile: ../x");
    std::fs::write(dir.path().join("dockerfile"), "small").unwrap();
    assert_eq!(read_dockerfile(&tree, "").unwrap(), "small");
    std::fs::write(dir.path().join("Dockerfile"), "FROM x").unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("zero")).unwrap();
    assert_eq!(error("zero"), "Cannot locate specified Dockerfile: zero");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert_eq!(error("fifo"), "failed to read fifo: not a regular file");
    assert_eq!(read_dockerfile(&tree, "Dockerfile").unwrap(), "FROM x");
    std::fs::write(dir.path().join(".dockerignore"), "Dockerfile\n").unwrap();
    assert_eq!(read_dockerfile(&tree, "Dockerfile").unwrap(), "FROM x");
    assert!(!dir.path().join("Dockerfile").exists() && dir.path().join(".dockerignore").exists());
}

/// Docker's client sends such a context when the Dockerfile is not in it (`docker build -f -` of the classic builder).
#[test]
fn an_archive_may_end_without_its_trailer_but_not_within_a_file() {
    let whole = context(&[("a", "first"), ("Dockerfile", "FROM x")]);
    let unpacked = |bytes: &[u8]| {
        let dir = TempDir::new().unwrap();
        let done = unpack_context(bytes, &Tree::open(dir.path()).unwrap(), "Dockerfile");
        done.map(|()| names(dir.path()))
    };
    let end = 3 * 512 + "FROM x".len();
    for length in [end, end + 1, 4 * 512, whole.len()] {
        assert_eq!(unpacked(&whole[..length]).unwrap(), ["Dockerfile", "a"], "{length}");
    }
    // Within a file, right at its beginning, and within a header.
    for length in [end - 1, 512 + 3, 100] {
        assert_eq!(unpacked(&whole[..length]).unwrap_err().to_string(), "unexpected EOF", "{length}");
    }
    assert_eq!(unpacked(&[b'x'; 2048]).unwrap_err().to_string(), "archive/tar: invalid tar header");
}
