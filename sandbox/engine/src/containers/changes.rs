//! `docker diff`: what a container has changed, read from the upper directory of its root.

use super::{Container, copy::is_opaque};
use crate::{engine::Engine, error::Result};
use rustix::fs::{FileType, Mode, OFlags};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

const MODIFIED: u8 = 0;
const ADDED: u8 = 1;
const DELETED: u8 = 2;

/// `GET /containers/{id}/changes`; `null` if there are none.
pub fn changes(engine: &Engine, container: &Container) -> Result<Value> {
    let layers =
        engine.images.held(&container.id)?.map(|stack| engine.roots.lower(&stack)).unwrap_or_default();
    let found = compare(&engine.roots.parts(&container.id).upper, &layers);
    if found.is_empty() {
        return Ok(Value::Null);
    }
    Ok(found.into_iter().map(|(path, kind)| json!({"Path": path, "Kind": kind})).collect())
}

fn compare(upper: &Path, lower: &[PathBuf]) -> BTreeMap<String, u8> {
    let mut found = BTreeMap::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(upper.join(&dir)).into_iter().flatten().flatten() {
            let path = dir.join(entry.file_name());
            let Ok(here) = entry.metadata() else { continue };
            let before = below(lower, &path);
            let kind = if here.file_type().is_char_device() && here.rdev() == 0 {
                before.is_some().then_some(DELETED)
            } else {
                match &before {
                    None => Some(ADDED),
                    Some(before) if here.is_dir() && before.is_dir() => {
                        let same = (here.mode(), here.uid(), here.gid(), here.mtime(), here.mtime_nsec())
                            == (
                                before.mode(),
                                before.uid(),
                                before.gid(),
                                before.mtime(),
                                before.mtime_nsec(),
                            );
                        (!same).then_some(MODIFIED)
                    }
                    Some(_) => Some(MODIFIED),
                }
            };
            if let Some(kind) = kind {
                // What is new or gone has changed its directory too.
                if kind != MODIFIED && dir != Path::new("") {
                    found.entry(format!("/{}", dir.display())).or_insert(MODIFIED);
                }
                found.insert(format!("/{}", path.display()), kind);
            }
            if here.is_dir() {
                stack.push(path);
            }
        }
    }
    found
}

/// What the layers have at a path.
fn below(layers: &[PathBuf], path: &Path) -> Option<fs::Metadata> {
    for layer in layers {
        match fs::symlink_metadata(layer.join(path)) {
            Ok(found) if found.file_type().is_char_device() && found.rdev() == 0 => return None,
            Ok(found) => return Some(found),
            Err(e) if e.kind() != io::ErrorKind::NotFound && e.kind() != io::ErrorKind::NotADirectory => {
                return None;
            }
            Err(_) => {}
        }
        if path.ancestors().skip(1).any(|dir| hides(layer, dir)) {
            return None;
        }
    }
    None
}

/// Whether a layer has something at this directory that hides what is below it.
fn hides(layer: &Path, dir: &Path) -> bool {
    if dir == Path::new("") {
        return false;
    }
    let Ok(found) = fs::symlink_metadata(layer.join(dir)) else { return false };
    if FileType::from_raw_mode(found.mode()) != FileType::Directory {
        return true;
    }
    let opened = rustix::fs::open(
        layer.join(dir),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    opened.is_ok_and(|fd| is_opaque(fd.as_fd(), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_and_modifications_are_told_with_their_directories() {
        let temp = tempfile::tempdir().unwrap();
        let (upper, lower) = (temp.path().join("u"), temp.path().join("l"));
        fs::create_dir_all(lower.join("etc")).unwrap();
        fs::write(lower.join("etc/passwd"), "a").unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::create_dir_all(upper.join("new/dir")).unwrap();
        fs::write(upper.join("etc/passwd"), "b").unwrap();
        let found = compare(&upper, &[lower]);
        assert_eq!(found["/etc/passwd"], MODIFIED);
        assert_eq!((found["/new"], found["/new/dir"]), (ADDED, ADDED));
    }
}
