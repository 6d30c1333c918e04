//! The program of WebAssembly containers (`sandbox/wasm`), which is part of this one: the Makefile builds it first. The warden puts it into the
//! state directory when it starts, and hands an open descriptor of it to every session. A file and no memory file, so that
//! the kernel can drop pages of it that nobody uses.

use anyhow::Context;
use rust_embed::RustEmbed;
use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// `drydock-wasm.gz`. Debug builds read it from the source tree.
#[derive(RustEmbed)]
#[cfg_attr(debug_assertions, folder = "../sandbox/wasm/gen/debug")]
#[cfg_attr(not(debug_assertions), folder = "../sandbox/wasm/gen/release")]
#[allow_missing = true]
struct Programs;

const NAME: &str = "drydock-wasm";

/// Unpacks the program, unless it is there, and tells where it is. Nothing: this build has none (`cargo build` alone does not make it).
pub fn install(state_dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(packed) = Programs::get(&format!("{NAME}.gz")) else { return Ok(None) };
    let dir = state_dir.join("programs");
    // Only root reaches the file by its path; containers have it by descriptor, and may only read and execute it.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("make {}", dir.display()))?;
    let digest = data_encoding::HEXLOWER.encode(&packed.metadata.sha256_hash()[..8]);
    let path = dir.join(format!("{NAME}-{digest}"));
    if !path.exists() {
        unpack(&packed.data, &path).with_context(|| format!("write {}", path.display()))?;
    }
    for old in fs::read_dir(&dir).into_iter().flatten().flatten().filter(|entry| entry.path() != path) {
        // Sessions of an earlier build have theirs open.
        let _gone_already = fs::remove_file(old.path());
    }
    Ok(Some(path))
}

/// Whole or not at all.
fn unpack(packed: &[u8], path: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    io::copy(&mut flate2::read::GzDecoder::new(packed), &mut file)?;
    file.set_permissions(Permissions::from_mode(0o555))?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_unpacked_can_be_executed_and_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(b"program").unwrap();
        let path = dir.path().join("x");
        unpack(&packer.finish().unwrap(), &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"program");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o555);
        assert!(unpack(b"no gzip", &dir.path().join("y")).is_err());
        assert!(!dir.path().join("y").exists());
    }
}
