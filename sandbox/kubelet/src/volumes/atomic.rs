//! Writing a set of files so that a reader sees either all old or all new ones (`pkg/volume/util/atomic_writer.go`): they lie in a
//! directory with a time for a name, `..data` leads to it and is renamed over, and what the user sees are links through `..data`.

use k8s_openapi::jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

/// A file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub data: Vec<u8>,
    /// Its mode.
    pub mode: u32,
}

/// Files by their paths in the volume.
pub type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const DRAFT: &str = "..data_tmp";

/// Makes the files of a volume these. True if anything changed.
pub fn write(volume: &Path, files: &Files) -> io::Result<bool> {
    for path in files.keys() {
        check(path)?;
    }
    let old = fs::read_link(volume.join(DATA)).ok();
    if old.is_some() && is_same(&volume.join(DATA), files)? {
        return Ok(false);
    }
    let now = Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S").to_string();
    let name = format!("..{now}.{}", Timestamp::now().subsec_nanosecond());
    let dir = volume.join(&name);
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.data)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    let _left_over = fs::remove_file(volume.join(DRAFT));
    symlink(&name, volume.join(DRAFT))?;
    fs::rename(volume.join(DRAFT), volume.join(DATA))?;
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &wanted {
        let link = volume.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), link)?;
        }
    }
    for entry in fs::read_dir(volume)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // What is no link of ours is a place for something that is mounted there.
        let is_ours = entry.file_type()?.is_symlink() && !name.starts_with("..");
        if is_ours && !wanted.contains(name.as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(old) = old {
        let _readers_keep_it_open = fs::remove_dir_all(volume.join(old));
    }
    Ok(true)
}

/// `validatePath`: relative, without `..`, and not too long.
fn check(path: &str) -> io::Result<()> {
    let parts: Vec<&str> = path.split('/').collect();
    let bad = path.is_empty() || path.len() > 4096 || path.starts_with('/') || path.starts_with("..");
    if bad || parts.iter().any(|p| p.is_empty() || *p == ".." || *p == ".") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("invalid path: must be relative path: {path}"),
        ));
    }
    Ok(())
}

fn is_same(data: &Path, files: &Files) -> io::Result<bool> {
    let mut there = BTreeSet::new();
    let mut open = vec![String::new()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(data.join(&at))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if at.is_empty() { name } else { format!("{at}/{name}") };
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else {
                there.insert(path);
            }
        }
    }
    if there.len() != files.len() {
        return Ok(false);
    }
    for (path, file) in files {
        if !there.contains(path) || fs::read(data.join(path))? != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(p, d)| ((*p).to_owned(), File { data: d.as_bytes().to_vec(), mode: 0o644 }))
            .collect()
    }

    #[test]
    fn files_are_replaced_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path();
        assert!(write(volume, &files(&[("a", "1"), ("sub/b", "2")])).unwrap());
        assert_eq!(fs::read_to_string(volume.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::read_link(volume.join("a")).unwrap(), Path::new("..data/a"));
        let first = fs::read_link(volume.join(DATA)).unwrap();
        assert!(!write(volume, &files(&[("a", "1"), ("sub/b", "2")])).unwrap());
        assert_eq!(fs::read_link(volume.join(DATA)).unwrap(), first);
        fs::create_dir(volume.join("mounted")).unwrap();
        assert!(write(volume, &files(&[("a", "3"), ("c", "4")])).unwrap());
        assert!(volume.join("mounted").is_dir());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
        assert!(fs::symlink_metadata(volume.join("sub")).is_err());
        assert!(!volume.join(first).exists());
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../a", "/a", "a/../b", "a//b", "..data", ""] {
            assert!(write(dir.path(), &files(&[(bad, "x")])).is_err(), "{bad}");
        }
    }
}
