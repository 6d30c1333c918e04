//! Space on the host's disk: how large the file of the sessions' disks may become, and when there is too little left for more
//! sessions. The disks' file takes only what is used; were the host's disk full before it, the kernel would make the disks of all
//! sessions read-only for good. Called by the warden's command, by `sessions` and by the figures.

use crate::config::Config;
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// With less than this left on the host's disk no session is made.
pub const LEAST_FREE: u64 = 256 << 20;
/// Least size of the disks' file: what btrfs and one session need.
pub const LEAST_DISKS: u64 = 512 << 20;

/// Bytes that root may still write to the file system of a directory.
pub fn free(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What the site's registry may take beside the disks, in bytes: shared images, and those of other registries where there is a way out.
pub fn of_registry(config: &Config) -> u64 {
    let cached = if config.egress.is_empty() { 0 } else { config.registry_cache_bytes.0 };
    config.registry_bytes.0.saturating_add(cached)
}

/// How large the disks' file may become: most of what is free, without what the registry may still take of it (but not more than
/// half). `wished` is the operator's number.
pub fn of_disks(state_dir: &Path, registry: u64, wished: Option<u64>) -> io::Result<u64> {
    let web = state_dir.join("web");
    let stored = ["registry", "registry-cache"].iter().map(|name| taken(web.join(name))).sum::<u64>();
    // The file of last time is deleted first.
    let free = free(state_dir)?.saturating_add(taken(state_dir.join("disk.btrfs")));
    Ok(share(free, registry.saturating_sub(stored), wished))
}

fn share(free: u64, registry: u64, wished: Option<u64>) -> u64 {
    match wished {
        Some(wished) => wished.min(free),
        None => (free - registry.min(free / 2)) / 10 * 9,
    }
}

/// What a file or directory takes of its disk, in bytes; nothing if it is not there. What comes and goes meanwhile is no matter.
fn taken(path: PathBuf) -> u64 {
    let (mut todo, mut sum) = (vec![path], 0);
    while let Some(path) = todo.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        sum += meta.blocks() * 512;
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_disks_never_have_more_than_the_host() {
        assert_eq!(share(100 * GIB, 12 * GIB, None), 88 * GIB / 10 * 9);
        assert_eq!(share(10 * GIB, 12 * GIB, None), 5 * GIB / 10 * 9);
        assert_eq!(share(10 * GIB, 12 * GIB, Some(100 * GIB)), 10 * GIB);
        assert_eq!(share(10 * GIB, 12 * GIB, Some(3 * GIB)), 3 * GIB);
        assert_eq!(share(0, GIB, None), 0);
    }

    #[test]
    fn what_is_sparse_takes_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("disk.btrfs")).unwrap();
        file.set_len(1 << 40).unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        let before = taken(dir.path().to_owned());
        assert!(before < 1 << 20, "{before}");
        fs::write(dir.path().join("deep/file"), vec![1; 1 << 20]).unwrap();
        let file = fs::File::open(dir.path().join("deep/file")).unwrap();
        file.sync_all().unwrap();
        assert!(taken(dir.path().to_owned()) - before >= 1 << 20);
        assert_eq!(taken(dir.path().join("nothing")), 0);
    }
}
