//! The files of a log that are full: moved on by number, the oldest removed, and compressed if that is asked for, by a thread of its own
//! since it takes a while. A reader gets them as they were.

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::{
    fs::{self, File},
    io::{self, Seek},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread::{Builder, JoinHandle},
};

/// The rotated file with this number; 0 is the one that is written.
pub fn numbered(path: &Path, n: u64) -> PathBuf {
    if n == 0 { path.to_path_buf() } else { with(path, &format!(".{n}")) }
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Moves the file that is written out of the way, and those before it. The last but `files` goes.
pub fn rotate(path: &Path, files: u64) -> io::Result<()> {
    if files == 1 {
        return fs::remove_file(path);
    }
    let both = |n: u64| [numbered(path, n), with(&numbered(path, n), ".gz")];
    // However many there may be: only those that are there move.
    let free = (1..files - 1).find(|n| both(*n).iter().all(|file| fs::symlink_metadata(file).is_err()));
    let last = free.unwrap_or(files - 1);
    for old in both(last) {
        let _none = fs::remove_file(old);
    }
    for n in (1..last).rev() {
        for (from, to) in both(n).into_iter().zip(both(n + 1)) {
            let _gone_meanwhile = fs::rename(from, to);
        }
    }
    fs::rename(path, numbered(path, 1))
}

/// Compresses the file that has been rotated last.
pub fn compress(path: &Path) -> Option<JoinHandle<()>> {
    let file = numbered(path, 1);
    let work = move || {
        let beside = with(&file, ".gz.tmp");
        let packed = pack(&file, &beside).and_then(|()| fs::rename(&beside, with(&file, ".gz")));
        if let Err(error) = packed.and_then(|()| fs::remove_file(&file)) {
            // It stays as it is, which readers take too.
            let _none = fs::remove_file(&beside);
            tracing::debug!(%error, "a log file is not compressed");
        }
    };
    Builder::new().name("compress".into()).spawn(work).ok()
}

fn pack(from: &Path, to: &Path) -> io::Result<()> {
    let _left_over = fs::remove_file(to);
    let mut from = plain(from).ok_or(io::ErrorKind::NotFound)?;
    let to = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(to)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    encoder.finish().map(drop)
}

/// Opens one for reading; a compressed one as it was before.
pub fn open(path: &Path, n: u64) -> Option<File> {
    let file = numbered(path, n);
    plain(&file).or_else(|| if n == 0 { None } else { unpacked(&with(&file, ".gz")).ok() })
}

fn plain(path: &Path) -> Option<File> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|m| m.is_file()).then_some(file)
}

/// In a file that has no name and goes with its reader.
fn unpacked(path: &Path) -> io::Result<File> {
    let packed = plain(path).ok_or(io::ErrorKind::NotFound)?;
    let dir = path.parent().ok_or(io::ErrorKind::NotFound)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = File::from(openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut MultiGzDecoder::new(packed), &mut file)?;
    file.rewind()?;
    Ok(file)
}
