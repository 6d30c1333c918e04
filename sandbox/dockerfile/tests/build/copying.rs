//! COPY and ADD.

use crate::world::World;
use drydock_dockerfile::build::{Config, Mode};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn context() -> World {
    let world = World::new();
    world.file("a.txt", "a");
    world.file("b.txt", "b");
    world.file("c.md", "c");
    world.file("dir/x", "x");
    world.file("dir/sub/y.md", "y");
    symlink("dir", world.context.join("link")).unwrap();
    symlink("a.txt", world.context.join("alias")).unwrap();
    symlink("sub/y.md", world.context.join("dir/inner")).unwrap();
    world
}

/// What files there are after `FROM busybox` and this.
fn files(world: &World, text: &str) -> Vec<String> {
    world.build(&format!("FROM busybox\n{text}\n")).files()
}

#[test]
fn where_files_and_directories_go() {
    let world = context();
    for (text, expected) in [
        ("COPY a.txt /", vec!["a.txt"]),
        ("COPY a.txt /new", vec!["new"]),
        ("COPY a.txt /new/", vec!["new", "new/a.txt"]),
        ("COPY /a.txt ./x/y/z", vec!["x", "x/y", "x/y/z"]),
        ("COPY a.txt b.txt /d/", vec!["d", "d/a.txt", "d/b.txt"]),
        ("COPY *.txt /d/", vec!["d", "d/a.txt", "d/b.txt"]),
        ("COPY [\"a.txt\", \"/with space\"]", vec!["with space"]),
        ("COPY dir /", vec!["inner", "sub", "sub/y.md", "x"]),
        ("COPY dir/ /d", vec!["d", "d/inner", "d/sub", "d/sub/y.md", "d/x"]),
        ("COPY link /d", vec!["d", "d/inner", "d/sub", "d/sub/y.md", "d/x"]),
        ("COPY alias /d/", vec!["d", "d/alias"]),
        ("COPY d*/s* /d/", vec!["d", "d/y.md"]),
        ("COPY ?.md [ab].txt /d/", vec!["d", "d/a.txt", "d/b.txt", "d/c.md"]),
        ("WORKDIR /w\nCOPY a.txt .", vec!["w", "w/a.txt"]),
        (
            "WORKDIR /w\nCOPY dir sub",
            vec!["w", "w/sub", "w/sub/inner", "w/sub/sub", "w/sub/sub/y.md", "w/sub/x"],
        ),
        ("COPY --exclude=*.md --exclude=sub dir c.md a.txt /d/", vec!["d", "d/a.txt", "d/inner", "d/x"]),
        ("COPY --exclude=** --exclude=!sub/y.md dir /d/", vec!["d", "d/sub", "d/sub/y.md"]),
        (
            "COPY --parents dir/sub/y.md a.txt /d/",
            vec!["d", "d/a.txt", "d/dir", "d/dir/sub", "d/dir/sub/y.md"],
        ),
        ("COPY --parents dir/./sub/*.md /d/", vec!["d", "d/sub", "d/sub/y.md"]),
        ("COPY --parents ./**/*.md /d/", vec!["d", "d/c.md", "d/dir", "d/dir/sub", "d/dir/sub/y.md"]),
    ] {
        assert_eq!(files(&world, text), expected, "{text}");
    }
}

#[test]
fn links_are_kept_within_directories_and_followed_as_sources() {
    let world = context();
    let built = world.build("FROM busybox\nCOPY dir /d\nCOPY alias /alias\n");
    assert_eq!(std::fs::read_link(built.root.join("d/inner")).unwrap().to_str(), Some("sub/y.md"));
    assert!(!built.root.join("alias").is_symlink() && built.read("alias") == "a");
}

#[test]
fn refusals() {
    let mut world = context();
    for (text, expected) in [
        (
            "COPY none /x",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat none: file does not exist",
        ),
        (
            "ADD ./none /x",
            "ADD failed: file not found in build context or excluded by .dockerignore: stat none: file does not exist",
        ),
        ("COPY *.none /x", "COPY failed: no source files were specified"),
        ("COPY ../etc /x", "COPY failed: forbidden path outside the build context: ../etc ()"),
        (
            "COPY a.txt b.txt /x",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "COPY *.txt .",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        ("COPY http://x/y /x", "COPY failed: source can't be a URL for COPY"),
        ("COPY https://x/y.git /x", "COPY failed: source can't be a git ref for COPY"),
        (
            "COPY --chmod=999 a.txt /x",
            "invalid chmod parameter: '999'. it should be octal string and between 0 and 07777",
        ),
        (
            "COPY --chown=no a.txt /x",
            "unable to convert uid/gid chown string to host mapping: can't find uid for user no: no such user: no",
        ),
        (
            "COPY --chown=web:no a.txt /x",
            "unable to convert uid/gid chown string to host mapping: can't find gid for group no: no such group: no",
        ),
        (
            "COPY --chown=a:b:c a.txt /x",
            "unable to convert uid/gid chown string to host mapping: invalid chown string format: a:b:c",
        ),
        ("ADD --checksum=sha256:0 a.txt /x", "checksum requires HTTP(S) or Git sources"),
        ("COPY a.txt /d/\nCOPY dir /d/a.txt/e", "failed to copy files: not a directory"),
    ] {
        assert_eq!(world.refused(&format!("FROM busybox\n{text}\n")).message, expected, "{text}");
    }
    let over = world.refused("FROM busybox\nCOPY dir /a.txt\nCOPY a.txt /\n");
    assert_eq!(over.message, "failed to copy files: cannot overwrite directory \"a.txt\" with non-directory");
    world.options.mode = Mode::BuildKit;
    for text in ["COPY none /x", "RUN --mount=type=bind,source=none,target=/x true"] {
        let message = world.refused(&format!("FROM busybox\n{text}\n")).message;
        let before = "failed to compute cache key: failed to calculate checksum of ref ";
        let ids = message.strip_prefix(before).and_then(|rest| rest.strip_suffix(": \"/none\": not found"));
        assert!(ids.is_some_and(|ids| ids.split("::").all(|id| id.len() == 25)), "{message}");
    }
    assert_eq!(files(&world, "COPY *.none /x\nCOPY ?.txt ."), ["a.txt", "b.txt"]);
}

#[test]
fn owners_and_modes() {
    let world = context();
    std::fs::set_permissions(world.context.join("a.txt"), std::fs::Permissions::from_mode(0o640)).unwrap();
    rustix::fs::chown(world.context.join("a.txt"), Some(rustix::fs::Uid::from_raw(7)), None).unwrap();
    let built = world.build(
        "FROM busybox\nCOPY a.txt /plain\nCOPY --chown=web a.txt /p/named\nCOPY --chown=web:staff a.txt /group\n\
         COPY --chown=12:34 --chmod=4755 a.txt /numbers\nCOPY --chmod=u=rwX,go=rX dir /tree\nCOPY --chown=5 dir /owned\n",
    );
    for (path, expected) in [
        ("plain", (0o640, 0, 0)),
        ("p", (0o755, 33, 44)),
        ("p/named", (0o640, 33, 44)),
        ("group", (0o640, 33, 50)),
        ("numbers", (0o4755, 12, 34)),
        ("tree/sub", (0o755, 0, 0)),
        ("tree/x", (0o644, 0, 0)),
        ("owned", (0o755, 5, 5)),
        ("owned/inner", (0o777, 5, 5)),
        ("owned/sub/y.md", (0o644, 5, 5)),
    ] {
        assert_eq!(built.stat(path), expected, "{path}");
    }
    // From a stage, owners stay.
    let text = "FROM busybox AS a\nCOPY --chown=3:4 a.txt /x\nFROM busybox\nCOPY --from=a /x /x\nCOPY --from=a --chown=0 /x /y\n";
    let built = world.build(text);
    assert_eq!((built.stat("x"), built.stat("y")), ((0o640, 3, 4), (0o640, 0, 0)));
}

#[test]
fn times_and_hard_links_are_kept() {
    let world = context();
    std::fs::hard_link(world.context.join("dir/x"), world.context.join("dir/x2")).unwrap();
    let file = std::fs::File::options().write(true).open(world.context.join("dir/x")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)).unwrap();
    let built = world.build("FROM busybox\nCOPY dir /d\n");
    let stat = |name: &str| std::fs::metadata(built.root.join("d").join(name)).unwrap();
    assert_eq!((stat("x").mtime(), stat("x").ino()), (1_000_000, stat("x2").ino()));
}

#[test]
fn the_cache_sees_content_modes_and_names_but_no_times() {
    let world = context();
    let text = "FROM busybox\nCOPY dir /d\n";
    let cached = |text: &str| world.build(text).lines.contains("Using cache");
    assert!(!cached(text) && cached(text));
    world.file("dir/x", "x");
    assert!(cached(text), "only its time is new");
    world.file("dir/x", "y");
    assert!(!cached(text) && cached(text));
    std::fs::set_permissions(world.context.join("dir/x"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!cached(text) && cached(text));
    std::fs::rename(world.context.join("dir/x"), world.context.join("dir/z")).unwrap();
    assert!(!cached(text) && cached(text));
    for other in [
        "COPY dir /e",
        "COPY --chown=1 dir /d",
        "COPY --chmod=700 dir /d",
        "COPY --exclude=z dir /d",
        "ADD dir /d",
    ] {
        assert!(!cached(&format!("FROM busybox\n{other}\n")), "{other}");
    }
}

#[test]
fn heredocs_are_files() {
    let world = context();
    let built = world.build(
        "FROM busybox\nARG V=1\nCOPY <<one <<-\"two\" a.txt /d/\n$V 'q'\none\n\t$V\n\ttwo\nCOPY --chmod=755 <<EOF /bin/run\n#!/bin/sh\nEOF\n",
    );
    assert_eq!(
        (built.read("d/one").as_str(), built.read("d/two").as_str(), built.read("d/a.txt").as_str()),
        ("1 'q'\n", "$V\n", "a")
    );
    assert_eq!(built.stat("bin/run").0, 0o755);
    assert_eq!(built.stat("d/one").0, 0o644);
}

fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o640);
    header.set_uid(8);
    header.set_gid(9);
    header.set_mtime(1_000_000);
    archive.append_data(&mut header, "in/file", &b"tar"[..]).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    archive.append_link(&mut link, "in/link", "file").unwrap();
    archive.into_inner().unwrap()
}

/// The same archive, as `xz` packs it.
const XZ: &str = "\
    fd377a585a000004e6d6b446020021011c00000010cf58cce027ff007e5d00349b81e4e9faec25a04d90bd758b9c0cc51564925aa6b9077f6d1f8204f114\
    b9eb56cc3b9b0ea3063661cc4363fc22edefaa681bbc455a4c198cbf43ef83ff166156b0a1c5995b7fb2ae554c50c3bccc054ad266d0f40fdad29e35ef0e\
    47e7b7e284bd71321e17e4f89d1b0c375a8d974f522082f40e53982e961fb97800000000ccfb9c25fca27dd900019a0180500000c3502dc3b1c467fb0200\
    00000004595a";

#[test]
fn archives_are_unpacked_by_add_only() {
    let world = context();
    let write = |name: &str, data: &[u8]| std::fs::write(world.context.join(name), data).unwrap();
    write("plain.tar", &archive());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive()).unwrap();
    write("gzip.tgz", &gzip.finish().unwrap());
    let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip.write_all(&archive()).unwrap();
    write("bzip.tar.bz2", &bzip.finish().unwrap());
    write("zstd.tar.zst", &zstd::encode_all(archive().as_slice(), 1).unwrap());
    let xz: Vec<u8> =
        (0..XZ.len()).step_by(2).map(|at| u8::from_str_radix(&XZ[at..at + 2], 16).unwrap()).collect();
    write("xz.tar.xz", &xz);
    for name in ["xz.tar.xz", "plain.tar", "gzip.tgz", "bzip.tar.bz2", "zstd.tar.zst"] {
        let built = world.build(&format!("FROM busybox\nADD {name} /d\nCOPY {name} /kept\n"));
        assert_eq!(
            (built.read("d/in/file").as_str(), built.stat("d/in/file")),
            ("tar", (0o640, 8, 9)),
            "{name}"
        );
        assert!(built.root.join("d/in/link").is_symlink());
        assert_eq!(
            std::fs::read(built.root.join("kept")).unwrap(),
            std::fs::read(world.context.join(name)).unwrap()
        );
    }
    // Compressed, but no archive: a file.
    let mut text = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    text.write_all(b"only text").unwrap();
    write("text.gz", &text.finish().unwrap());
    assert_eq!(
        files(&world, "ADD text.gz /d/\nADD --unpack=false plain.tar /e/"),
        ["d", "d/text.gz", "e", "e/plain.tar"]
    );
}

#[test]
fn downloads_and_repositories() {
    let mut world = context();
    world.downloads.insert("http://host/dir/file.tar?x=1".into(), archive());
    world.downloads.insert("http://host/".into(), b"index".to_vec());
    let sum: String = Sha256::digest(archive()).iter().map(|b| format!("{b:02x}")).collect();
    let built = world.build(&format!(
        "FROM busybox\nADD --checksum=sha256:{sum} http://host/dir/file.tar?x=1 /d/\nADD http://host/ /index\nADD https://host/r.git#main /r\n"
    ));
    assert_eq!(built.files(), ["d", "d/file.tar", "index", "r", "r/README"]);
    assert_eq!(built.stat("d/file.tar"), (0o600, 0, 0));
    assert_eq!(std::fs::metadata(built.root.join("index")).unwrap().mtime(), 1_000_000_000);
    for (text, expected) in [
        ("ADD http://host/ /d/", "ADD failed: cannot determine filename for source http://host/"),
        ("ADD http://host/none /d/", "ADD failed: failed to GET http://host/none with status 404"),
    ] {
        assert_eq!(world.refused(&format!("FROM busybox\n{text}\n")).message, expected);
    }
    let wrong = world.refused("FROM busybox\nADD --checksum=sha256:12 http://host/dir/file.tar?x=1 /d/\n");
    assert_eq!(wrong.message, format!("ADD failed: digest mismatch sha256:{sum}: sha256:12"));
}

#[test]
fn links_of_an_image_lead_nowhere_outside() {
    let world = context();
    let outside = world.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("passwd"), "evil:x:1:1::/:\n").unwrap();
    let target = outside.clone();
    world.image("evil", Config::default(), move |root| {
        symlink(&target, root.join("absolute")).unwrap();
        symlink("../../../../../../../..", root.join("up")).unwrap();
        symlink(&target, root.join("etc")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("made/here", root.join("dangling")).unwrap();
    });
    let built = world.build(
        "FROM evil\nCOPY a.txt /absolute/x\nCOPY dir /up/tmp/y\nCOPY a.txt /dangling/z\nWORKDIR /up/w\n",
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "written outside");
    let inside = |path: &str| built.root.join(path);
    assert!(inside(outside.join("x").to_str().unwrap().trim_start_matches('/')).exists());
    assert!(inside("tmp/y/x").exists() && inside("made/here/z").exists() && inside("w").is_dir());
    for text in ["COPY --chown=evil a.txt /x", "COPY a.txt /loop/x", "COPY --from=evil /absolute/passwd /x"] {
        world.refused(&format!("FROM evil\n{text}\n"));
    }
}

#[test]
fn nothing_in_a_context_blocks() {
    let world = context();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.context.join("dir/fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.context.join("dir/socket")).unwrap();
    let built = world.build("FROM busybox\nCOPY dir /d\nCOPY dir/fifo /f\n");
    use std::os::unix::fs::FileTypeExt;
    assert!(std::fs::metadata(built.root.join("d/fifo")).unwrap().file_type().is_fifo());
    assert!(!built.root.join("d/socket").exists());
    let mut deep = world.context.join("deep");
    for _ in 0..300 {
        deep.push("d");
    }
    std::fs::create_dir_all(&deep).unwrap();
    let error = world.refused("FROM busybox\nCOPY deep /x\n");
    assert!(error.message.ends_with("directories are nested too deeply"), "{error}");
}

#[test]
fn a_directory_in_the_place_of_a_link() {
    let mut world = context();
    world.image("linked", Config::default(), |root| symlink("usr", root.join("sub")).unwrap());
    assert!(world.build("FROM linked\nCOPY dir /\n").root.join("sub/y.md").exists());
    world.options.mode = Mode::BuildKit;
    world.options.no_cache = true;
    for (copy, words) in [
        ("COPY dir /", "cannot copy to non-directory: /…/sub"),
        ("WORKDIR /app\nCOPY a.txt sub\nCOPY dir .", "cannot copy to non-directory: /…/app/sub"),
        ("COPY a.txt /d/f\nCOPY dir /d/f", "cannot copy to non-directory: /…/d/f"),
        ("COPY a.txt /d/f\nCOPY a.txt /d/f/below/", "mkdir /…/d/f: not a directory"),
        ("COPY dir /d/a.txt\nCOPY a.txt /d/", "cannot replace to directory /…/d/a.txt with file"),
    ] {
        let said = world.refused(&format!("FROM linked\n{copy}\n")).message;
        // The path is that of the step's root.
        let (start, end) = words.split_once("/…").unwrap();
        assert!(said.starts_with(&format!("{start}/")) && said.ends_with(end), "{copy}: {said}");
        assert!(said.len() > words.len() + 20, "{said}");
    }
}
