//! Small images made here, hostile ones among them, and a place for them.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use drydock_images::{Digest, Store};
use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};
use tar::{Builder, EntryType, Header};

/// A directory that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("drydock-images-test-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub fn store(&self, name: &str) -> Store {
        Store::open(self.0.join(name)).expect("these tests need root")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One entry of a layer that a test makes.
pub struct Put<'a> {
    pub path: &'a [u8],
    pub kind: EntryType,
    pub link: &'a str,
    pub mode: u32,
    pub owner: (u64, u64),
    pub content: &'a [u8],
    pub pax: &'a [(&'a str, &'a [u8])],
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

pub fn file<'a>(path: &'a str, content: &'a [u8]) -> Put<'a> {
    Put { path: path.as_bytes(), content, ..Put::default() }
}

pub fn link<'a>(path: &'a str, kind: EntryType, to: &'a str) -> Put<'a> {
    Put { path: path.as_bytes(), kind, link: to, ..Put::default() }
}

pub fn directory(path: &str) -> Put<'_> {
    Put { path: path.as_bytes(), kind: EntryType::Directory, mode: 0o755, ..Put::default() }
}

/// Headers are written by hand: the tar crate would refuse the hostile names.
pub fn layer(puts: &[Put<'_>]) -> Vec<u8> {
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
pub type Files = Vec<(String, Vec<u8>)>;

/// A file with an image of these layers (uncompressed tars, gzip or zstd by the flag), lowest first.
pub fn image_file(name: &str, layers: &[Vec<u8>], change: impl Fn(&mut Files)) -> Vec<u8> {
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
pub fn pack(number: usize, layer: &[u8]) -> (&'static str, Vec<u8>) {
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

pub fn descriptor(kind: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

pub fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    rustix::fs::lgetxattr(path, name, &mut value[..]).ok().map(|n| value[..n].to_vec())
}

/// CAP_NET_RAW, permitted and effective, as `setcap cap_net_raw+ep` writes it.
pub const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

pub fn rich_layer() -> Vec<u8> {
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

/// Checks what [`rich_layer`] becomes.
pub fn assert_rich(top: &Path) {
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
