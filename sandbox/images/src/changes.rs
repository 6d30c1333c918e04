//! What a container has changed of its image (`docker diff`): the upper directory of an overlay against the layers below.

use crate::pack::is_opaque;
use serde::Serialize;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

/// Deepest directory that is compared.
const MAX_DEPTH: usize = 512;

/// How a path was changed, with Docker's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "u8")]
pub enum ChangeKind {
    /// It was there before; or something in it was changed.
    Modified = 0,
    /// It is new.
    Added = 1,
    /// It is gone.
    Deleted = 2,
}

impl From<ChangeKind> for u8 {
    fn from(kind: ChangeKind) -> Self {
        kind as Self
    }
}

/// One changed path, as `GET /containers/{id}/changes` answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    /// The absolute path in the container.
    pub path: String,
    /// How it was changed.
    pub kind: ChangeKind,
}

/// Compares an upper directory with the layers below it, **topmost first** (with the layer of the engine's own files on top, so that
/// they are not told as changes). Sorted, directories before their content.
pub fn changes(lower: &[PathBuf], upper: &Path) -> io::Result<Vec<Change>> {
    let mut found = Vec::new();
    directory(lower, upper, Path::new(""), 0, &mut found)?;
    Ok(found)
}

fn directory(
    lower: &[PathBuf],
    upper: &Path,
    at: &Path,
    depth: usize,
    found: &mut Vec<Change>,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("the container's directories are too deep"));
    }
    let dir = upper.join(at);
    let mut names = names_in(&dir)?;
    let here = names.clone();
    if !at.as_os_str().is_empty() && is_opaque(&dir) {
        // Made anew: whatever was in it before and is not now was deleted.
        for layer in lower {
            names.extend(names_in(&layer.join(at)).unwrap_or_default());
        }
    }
    for name in names {
        let path = at.join(&name);
        let before = lookup(lower, &path);
        let Some(now) = here.contains(&name).then(|| fs::symlink_metadata(upper.join(&path))) else {
            if before.is_some() {
                found.push(change(&path, ChangeKind::Deleted));
            }
            continue;
        };
        let Ok(now) = now else { continue };
        if is_whiteout(&now) {
            found.push(change(&path, ChangeKind::Deleted));
            continue;
        }
        let kind = if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        let place = found.len();
        found.push(change(&path, kind));
        if now.is_dir() {
            directory(lower, upper, &path, depth + 1, found)?;
            // A directory that is only on the way to nothing changed was copied up by the kernel.
            if found.len() == place + 1 && before.is_some_and(|before| is_same_directory(&before, &now)) {
                found.truncate(place);
            }
        }
    }
    Ok(())
}

fn names_in(dir: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}

fn change(path: &Path, kind: ChangeKind) -> Change {
    Change { path: format!("/{}", String::from_utf8_lossy(path.as_os_str().as_bytes())), kind }
}

fn is_whiteout(found: &Metadata) -> bool {
    found.mode() & 0o170_000 == 0o020_000 && found.rdev() == 0
}

fn is_same_directory(a: &Metadata, b: &Metadata) -> bool {
    let key = |m: &Metadata| (m.mode(), m.uid(), m.gid(), m.mtime());
    a.is_dir() && key(a) == key(b)
}

/// What the layers below show at a path.
fn lookup(lower: &[PathBuf], path: &Path) -> Option<Metadata> {
    for layer in lower {
        let mut hides = false;
        let mut so_far = layer.clone();
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            so_far.push(part);
            match fs::symlink_metadata(&so_far) {
                Ok(found) if is_whiteout(&found) => return None,
                Ok(found) if parts.peek().is_none() => return Some(found),
                Ok(found) if !found.is_dir() => return None,
                Ok(_) => hides |= is_opaque(&so_far),
                Err(_) => break,
            }
        }
        if hides {
            return None;
        }
    }
    None
}
