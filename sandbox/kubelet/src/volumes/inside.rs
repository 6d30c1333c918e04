//! Places inside of a volume. What is in it containers have written, so links in it may lead anywhere and may change at any time: the
//! kernel follows them and stays below the volume (`RESOLVE_BENEATH`), and nothing is made by a path that was checked before.

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, fchmod, mkdirat},
};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// So often a path is looked up anew because something was renamed meanwhile and the kernel can't be sure (openat2(2), EAGAIN).
const ATTEMPTS: usize = 16;

/// Where a path in the volume leads to.
pub fn find(volume: &Path, path: &str) -> io::Result<PathBuf> {
    real(&open(&File::open(volume)?, path, OFlag::O_PATH)?)
}

/// The same of a directory, which is made with its parents if it is missing; new ones have the mode.
pub fn make(volume: &Path, path: &str, mode: u32) -> io::Result<PathBuf> {
    let root = File::open(volume)?;
    let mut at = open(&root, ".", OFlag::O_PATH)?;
    let mut so_far = String::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        so_far.push_str(part);
        at = match open(&root, &so_far, OFlag::O_PATH) {
            Err(Errno::ENOENT) => {
                mkdirat(&at, part, Mode::from_bits_truncate(mode))?;
                let made = open(&root, &so_far, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                // Past the umask.
                fchmod(&made, Mode::from_bits_truncate(mode))?;
                made
            }
            other => other?,
        };
        so_far.push('/');
    }
    real(&at)
}

/// A file of the volume as text. Links lead as if the volume was all that there is.
pub fn read(volume: &Path, path: &str, most: u64) -> io::Result<String> {
    // A pipe that a container has put there must not be waited for.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let root = File::open(volume)?;
    let file = File::from(resolve(&root, path, flags, ResolveFlag::RESOLVE_IN_ROOT)?);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other(format!("{path} is no file")));
    }
    if found.len() > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The mode of a volume's own directory.
pub fn mode(volume: &Path) -> io::Result<u32> {
    Ok(fs::metadata(volume)?.mode() & 0o7777)
}

fn open(root: &File, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    resolve(root, path, flags, ResolveFlag::RESOLVE_BENEATH)
}

fn resolve(root: &File, path: &str, flags: OFlag, how: ResolveFlag) -> nix::Result<OwnedFd> {
    let how =
        OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(how | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut attempts = ATTEMPTS;
    loop {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN) if attempts > 0 => attempts -= 1,
            other => return other,
        }
    }
}

fn real(place: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_is_made_where_a_link_leads_out() {
        let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), volume.path().join("x")).unwrap();
        symlink("../..", volume.path().join("up")).unwrap();
        fs::create_dir(outside.path().join("there")).unwrap();
        for path in ["x", "x/new", "x/there/new", "up/new", "../new"] {
            assert!(make(volume.path(), path, 0o755).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        assert!(find(volume.path(), "x/there").is_err());
    }

    #[test]
    fn files_are_read_as_if_the_volume_was_all_there_is() {
        let volume = tempfile::tempdir().unwrap();
        fs::write(volume.path().join("file"), "text").unwrap();
        symlink("/../file", volume.path().join("link")).unwrap();
        nix::unistd::mkfifo(&volume.path().join("pipe"), Mode::S_IRWXU).unwrap();
        for path in ["file", "link", "../file"] {
            assert_eq!(read(volume.path(), path, 4).unwrap(), "text", "{path}");
        }
        assert_eq!(read(volume.path(), "file", 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for path in ["pipe", ".", "none"] {
            assert!(read(volume.path(), path, 4).is_err(), "{path}");
        }
    }

    #[test]
    fn links_within_are_followed_and_directories_have_the_volumes_mode() {
        let volume = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(volume.path()).unwrap();
        fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        assert_eq!(make(&root, "link/a//b/", 0o777).unwrap(), root.join("real/a/b"));
        assert_eq!(mode(&root.join("real/a")).unwrap(), 0o777);
        fs::write(root.join("real/file"), "").unwrap();
        assert_eq!(find(&root, "link/file").unwrap(), root.join("real/file"));
        symlink("nowhere", root.join("dangling")).unwrap();
        assert!(make(&root, "dangling/a", 0o755).is_err());
    }
}
