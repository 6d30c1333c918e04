//! Writing a file: it has its old content or all of the new one, whatever breaks off, and nobody's changes are lost unseen.

use super::{Failure, MODE_BITS, PIECE, absolute, entry, fail, failed, file_name, modified_micros};
use drydock_protocol::pipe::{BINARY, ErrorKind, MAX_FRAME, Reply, TEXT};
use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What must hold of the file that is there, or nothing is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    /// It was modified at this time, in microseconds since 1970.
    pub unchanged_since: Option<i64>,
    /// There is none.
    pub only_new: bool,
}

/// What a file is given beside its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    /// Permission bits, unless there is a file that has some.
    pub mode: u32,
    /// When it was modified, in microseconds since 1970; absent: now.
    pub modified_micros: Option<i64>,
}

/// Takes what the connection sends for a file, which gets it only when it has come whole.
pub(super) fn write(
    path: &str,
    looks: Looks,
    condition: Condition,
    connection: &mut UnixStream,
) -> Result<Reply, Failure> {
    let target = target(absolute(path)?)?;
    let present = match fs::symlink_metadata(&target) {
        Ok(metadata) => Some(metadata),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed(&target)(e)),
    };
    if condition.only_new && present.is_some() {
        return taken(&target);
    }
    if let Some(metadata) = &present
        && !metadata.is_file()
    {
        return fail(ErrorKind::Conflict, format!("{} is there and is not a file", target.display()));
    }
    check_unchanged(&target, present.as_ref(), condition.unchanged_since)?;
    let mut new = Temporary::beside(&target)?;
    receive(connection, &mut new.file).map_err(|e| match e {
        ReceiveError::Asker(e) => {
            Failure { kind: ErrorKind::Failed, message: format!("the upload broke off: {e}") }
        }
        ReceiveError::File(e) => failed(&target)(e),
    })?;
    let written = new.finish(&target, looks, condition)?;
    Ok(Reply::File { entry: entry(file_name(&target), &written) })
}

/// The file that a path means: links are followed, and only its directory must exist.
fn target(path: &Path) -> Result<PathBuf, Failure> {
    match fs::canonicalize(path) {
        Ok(target) => Ok(target),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return fail(ErrorKind::Invalid, format!("{} names no file", path.display()));
            };
            Ok(fs::canonicalize(parent).map_err(failed(parent))?.join(name))
        }
        Err(e) => Err(failed(path)(e)),
    }
}

fn taken<T>(path: &Path) -> Result<T, Failure> {
    fail(ErrorKind::Conflict, format!("{} is there already", path.display()))
}

fn check_unchanged(path: &Path, present: Option<&Metadata>, since: Option<i64>) -> Result<(), Failure> {
    match since {
        Some(since) if present.map(modified_micros) != Some(since) => {
            let what = if present.is_some() { "was changed" } else { "was deleted" };
            fail(ErrorKind::Conflict, format!("{} {what} meanwhile; read it again first", path.display()))
        }
        _ => Ok(()),
    }
}

/// A new file that gets its name only when it is complete. Until then it has none where the file system can do that: a node that is
/// switched off takes it along. Elsewhere it has a name of ours, which it loses if it is never complete.
struct Temporary {
    file: File,
    name: Option<PathBuf>,
}

impl Temporary {
    fn beside(target: &Path) -> Result<Self, Failure> {
        let directory = directory_of(target);
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
        if let Ok(file) = options.open(directory)
            && in_proc(&file).exists()
        {
            return Ok(Self { file, name: None });
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let (file, name) = with_free_name(directory, |name| options.open(name))?;
        Ok(Self { file, name: Some(name) })
    }

    /// Gives it its name. What it says of the file is what was written, whatever others do to it from now on.
    fn finish(mut self, target: &Path, looks: Looks, condition: Condition) -> Result<Metadata, Failure> {
        // Looked at again: it may have come, gone or changed during a long upload.
        let present = fs::symlink_metadata(target).ok().filter(Metadata::is_file);
        check_unchanged(target, present.as_ref(), condition.unchanged_since)?;
        let mode = match &present {
            Some(old) => {
                fchown(&self.file, Some(old.uid()), Some(old.gid())).map_err(failed(target))?;
                old.mode()
            }
            None => looks.mode,
        };
        self.file.set_permissions(Permissions::from_mode(mode & MODE_BITS)).map_err(failed(target))?;
        if let Some(time) = looks.modified_micros.and_then(time) {
            self.file.set_modified(time).map_err(failed(target))?;
        }
        let written = self.file.metadata().map_err(failed(target))?;
        let name = match &self.name {
            Some(name) => name,
            None => match self.link(target) {
                Ok(()) => return Ok(written),
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(target)(e)),
                Err(_) if condition.only_new => return taken(target),
                // Only what has a name can take the place of something.
                Err(_) => {
                    let (_, name) = with_free_name(directory_of(target), |name| self.link(name))?;
                    self.name.insert(name)
                }
            },
        };
        let flags = if condition.only_new { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        match renameat_with(CWD, name, CWD, target, flags) {
            Err(rustix::io::Errno::EXIST) if condition.only_new => return taken(target),
            other => other.map_err(|e| failed(target)(e.into()))?,
        }
        self.name = None;
        Ok(written)
    }

    fn link(&self, name: &Path) -> io::Result<()> {
        Ok(linkat(CWD, in_proc(&self.file), CWD, name, AtFlags::SYMLINK_FOLLOW)?)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _gone_already = fs::remove_file(name);
        }
    }
}

/// The path by which a file without a name gets one (open(2), O_TMPFILE).
fn in_proc(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn directory_of(target: &Path) -> &Path {
    target.parent().unwrap_or(Path::new("/"))
}

fn with_free_name<T>(
    directory: &Path,
    take: impl Fn(&Path) -> io::Result<T>,
) -> Result<(T, PathBuf), Failure> {
    let mut attempt = 0u32;
    loop {
        let name = directory.join(format!(".drydock-upload-{}-{attempt}", std::process::id()));
        match take(&name) {
            Ok(taken) => return Ok((taken, name)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
            Err(e) => return Err(failed(directory)(e)),
        }
    }
}

fn time(micros: i64) -> Option<SystemTime> {
    let since = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) }
}

enum ReceiveError {
    /// The connection.
    Asker(io::Error),
    /// The file.
    File(io::Error),
}

/// Takes binary frames until the empty text frame.
fn receive(connection: &mut UnixStream, file: &mut File) -> Result<(), ReceiveError> {
    let mut piece = vec![0; PIECE];
    loop {
        let mut head = [0; 5];
        connection.read_exact(&mut head).map_err(ReceiveError::Asker)?;
        let [tag, len @ ..] = head;
        let len = u32::from_be_bytes(len);
        if tag == TEXT && len == 0 {
            return Ok(());
        }
        if tag != BINARY || len > MAX_FRAME {
            return Err(ReceiveError::Asker(io::Error::new(io::ErrorKind::InvalidData, "malformed frame")));
        }
        let mut left = len as usize;
        while left > 0 {
            let part = &mut piece[..left.min(PIECE)];
            connection.read_exact(part).map_err(ReceiveError::Asker)?;
            file.write_all(part).map_err(ReceiveError::File)?;
            left -= part.len();
        }
    }
}
