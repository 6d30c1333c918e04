//! A build's context: unpacked from what a client sends, without what it wants to be left out, and the Dockerfile in it.

use super::archive::unpack;
use super::tree::{self, Kind, Tree};
use crate::ignore::{self, Patterns};
use crate::language::go::clean;
use rustix::fs::AtFlags;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

/// A Dockerfile is read up to this size.
const MAX_DOCKERFILE: u64 = 8 << 20;
/// The same for `.dockerignore`.
const MAX_IGNORE: u64 = 1 << 20;

/// Reads the Dockerfile of a context (`name` is empty: `Dockerfile`, or `dockerfile` if there is only that). Afterwards it, and
/// `.dockerignore`, are taken away if `.dockerignore` says so: neither is then to be had by `COPY`.
///
/// # Errors
/// In Docker's words, as a text of the error.
pub fn read_dockerfile(context: &Tree, name: &str) -> io::Result<String> {
    let mut name = if name.is_empty() { "Dockerfile" } else { name };
    if name == "Dockerfile" && context.kind(name)?.is_none() && context.kind("dockerfile")?.is_some() {
        name = "dockerfile";
    }
    let content = context.read(name, MAX_DOCKERFILE).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(e.kind(), format!("Cannot locate specified Dockerfile: {name}"))
        }
        _ => io::Error::new(e.kind(), format!("failed to read {name}: {e}")),
    })?;
    let Some(patterns) = patterns(context, ".dockerignore")? else {
        return Ok(String::from_utf8_lossy(&content).into_owned());
    };
    for file in [clean(name), ".dockerignore".to_owned()] {
        let (parent, last) = file.rsplit_once('/').unwrap_or(("", &file));
        if patterns.matches(&file) {
            // What can't be taken away stays; it does no harm.
            _ = context.directory(parent).map(|parent| rustix::fs::unlinkat(parent, last, AtFlags::empty()));
        }
    }
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn patterns(context: &Tree, file: &str) -> io::Result<Option<Patterns>> {
    if context.kind(file)? != Some(Kind::File) {
        return Ok(None);
    }
    let text = context.read(file, MAX_IGNORE)?;
    let patterns = Patterns::new(&ignore::read(&String::from_utf8_lossy(&text)));
    patterns
        .map(Some)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("error parsing .dockerignore: {e}")))
}

/// Unpacks a context: everything is owned by root and what `.dockerignore` names is left out, except the Dockerfile and
/// `.dockerignore` itself, which [`read_dockerfile`] reads.
///
/// # Errors
/// If the archive is broken or the files can't be made.
pub fn unpack_context(archive: impl Read, to: &Tree, dockerfile: &str) -> io::Result<()> {
    unpack(archive, to, "/", Some((0, 0)))?;
    let own = format!("{dockerfile}.dockerignore");
    let file = if to.kind(&own)? == Some(Kind::File) { own } else { ".dockerignore".to_owned() };
    let Some(patterns) = patterns(to, &file)? else { return Ok(()) };
    let keep = [clean(dockerfile), file, ".dockerignore".to_owned()];
    remove_ignored(to.directory("/")?.as_fd(), "", &patterns, &keep, 0)?;
    Ok(())
}

/// Removes what is ignored; true if the directory is empty afterwards.
fn remove_ignored(
    directory: BorrowedFd<'_>,
    relative: &str,
    patterns: &Patterns,
    keep: &[String],
    depth: usize,
) -> io::Result<bool> {
    if depth > super::MAX_DEPTH {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "directories are nested too deeply"));
    }
    let mut left = 0;
    for name in tree::names(directory)? {
        let path = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
        let stat = rustix::fs::statat(directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        let ignored = patterns.matches(&path) && !keep.contains(&path);
        if Kind::of(&stat) == Kind::Directory {
            let below = tree::open_directory(directory, &name)?;
            let empty = remove_ignored(below.as_fd(), &path, patterns, keep, depth + 1)?;
            if ignored && empty {
                rustix::fs::unlinkat(directory, name.as_str(), AtFlags::REMOVEDIR)?;
                continue;
            }
        } else if ignored {
            rustix::fs::unlinkat(directory, name.as_str(), AtFlags::empty())?;
            continue;
        }
        left += 1;
    }
    Ok(left == 0)
}
