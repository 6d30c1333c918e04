//! Where a command puts a file that it makes. A plain file gets its name when it is whole, so that nobody carries half of
//! one away. A device, a pipe and standard output are written into, never replaced; a symbolic link is followed.

use super::signals::Endings;
use anyhow::{Context, bail, ensure};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::SystemTime,
};

/// What stands for standard output (and input).
pub const STANDARD: &str = "-";

/// Files under way, by the names that they have until they are whole: none outlives the command, whatever ends it.
static PARTIAL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn partial() -> MutexGuard<'static, Vec<PathBuf>> {
    PARTIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on Ctrl+C, SIGTERM and hang-up remove what is not whole before they end the process. A thread hears them, since the others
/// may wait for a disk or for who reads.
fn clear_away_when_ended() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut endings = Endings::new()?;
    drop(entered);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let told = runtime.block_on(endings.first());
        // Held to the end: no file is begun or finished any more.
        let partial = partial();
        for path in partial.iter() {
            let _gone_already = fs::remove_file(path);
        }
        std::process::exit(told.status().into());
    })?;
    Ok(())
}

/// What a file has beside its content.
#[derive(Debug, Clone, Copy)]
pub struct Looks {
    /// Permission bits, for a file that has none yet.
    pub mode: u32,
    /// When it was modified.
    pub modified: Option<SystemTime>,
}

/// A file under way. Dropped before [`Self::finish`] it leaves nothing behind.
pub struct Target {
    out: Box<dyn Write>,
    /// The name that it has until it is whole, and the one that it gets.
    names: Option<(PathBuf, PathBuf)>,
    /// What a plain file is given when it is whole.
    looks: Option<Looks>,
}

impl Target {
    /// Begins to write to `path`; `-` is standard output.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::open_as(path, None)
    }

    /// Begins to write a copy.
    pub fn open_as(path: &Path, looks: Option<Looks>) -> anyhow::Result<Self> {
        let written_into = |out: Box<dyn Write>| Ok(Self { out, names: None, looks: None });
        if path == Path::new(STANDARD) {
            return written_into(Box::new(io::stdout()));
        }
        let cannot = || format!("cannot write {}", path.display());
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => bail!("{} is a directory", path.display()),
            // Another name for a plain file is replaced where the file is.
            Ok(there) if there.is_file() => {
                let mode = there.permissions().mode() & 0o777;
                let looks = looks.map(|looks| Looks { mode, ..looks });
                Self::whole(path.canonicalize().with_context(cannot)?, looks)
            }
            Ok(there) => {
                ensure!(!there.file_type().is_socket(), "{} is a socket", path.display());
                written_into(Box::new(OpenOptions::new().write(true).open(path).with_context(cannot)?))
            }
            // The file that a link names may be yet to be made.
            Err(e) if e.kind() == ErrorKind::NotFound && path.is_symlink() => {
                let mode = looks.map_or(0o666, |looks| looks.mode);
                let out = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
                written_into(Box::new(out.with_context(cannot)?))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Self::whole(path.to_owned(), looks),
            Err(e) => Err(e).with_context(cannot),
        }
    }

    fn whole(path: PathBuf, looks: Option<Looks>) -> anyhow::Result<Self> {
        let mut name = OsString::from(".");
        name.push(path.file_name().with_context(|| format!("{} is no name of a file", path.display()))?);
        name.push(format!(".{}.partial", std::process::id()));
        let temporary = path.with_file_name(name);
        static HEARD: Once = Once::new();
        HEARD.call_once(|| {
            if let Err(e) = clear_away_when_ended() {
                tracing::debug!(error = %e, "a signal will leave what is not whole");
            }
        });
        let mut partial = partial();
        // What may be private is nobody's until it is whole.
        let mode = if looks.is_some() { 0o600 } else { 0o666 };
        let out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary);
        let out = out.with_context(|| format!("cannot make {}", temporary.display()))?;
        partial.push(temporary.clone());
        Ok(Self { out: Box::new(out), names: Some((temporary, path)), looks })
    }

    /// All of it has been written: gives it its name.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush()?;
        if let Some((temporary, path)) = &self.names {
            let file = File::open(temporary)?;
            if let Some(Looks { mode, modified }) = self.looks {
                file.set_permissions(Permissions::from_mode(mode))?;
                modified.map_or(Ok(()), |time| file.set_modified(time))?;
            }
            file.sync_all().context("cannot write it to the disk")?;
            let mut partial = partial();
            fs::rename(temporary, path).with_context(|| format!("cannot make {}", path.display()))?;
            partial.retain(|name| name != temporary);
            self.names = None;
        }
        Ok(())
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.names {
            // What made it fail says more than a failure of this.
            let _ = fs::remove_file(temporary);
            partial().retain(|name| name != temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, os::unix::fs::symlink, time::Duration};

    fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let mut target = Target::open(path)?;
        target.write_all(bytes)?;
        target.finish()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_plain_file_is_whole_or_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        write(&path, b"one").unwrap();
        let mut half = Target::open(&path).unwrap();
        half.write_all(b"tw").unwrap();
        drop(half);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["image.tar"]);
        assert!(write(dir.path(), b"x").unwrap_err().to_string().contains("is a directory"));
    }

    #[test]
    fn what_is_no_plain_file_is_written_into_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || {
                let mut got = Vec::new();
                File::open(pipe).unwrap().read_to_end(&mut got).unwrap();
                got
            })
        };
        write(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(names(dir.path()), ["pipe"]);
    }

    #[test]
    fn a_copy_has_the_mode_and_the_time_unless_there_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let copy = |name: &str| {
            let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(7));
            let mut target =
                Target::open_as(&dir.path().join(name), Some(Looks { mode: 0o600, modified })).unwrap();
            target.write_all(b"private").unwrap();
            target.finish().unwrap();
            let told = fs::metadata(dir.path().join(name)).unwrap();
            (told.permissions().mode() & 0o7777, told.modified().ok() == modified)
        };
        fs::write(dir.path().join("old"), "old").unwrap();
        fs::set_permissions(dir.path().join("old"), Permissions::from_mode(0o4750)).unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        assert_eq!(copy("new"), (0o600, true));
        // No rights to what came from elsewhere.
        assert_eq!(copy("old"), (0o750, true));
        assert_eq!(copy("link").0, 0o600);
    }

    #[test]
    fn a_link_stays_a_link_to_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let (link, file) = (dir.path().join("link"), dir.path().join("file"));
        symlink("file", &link).unwrap();
        for text in [b"new", b"old"] {
            write(&link, text).unwrap();
            assert!(link.is_symlink());
            assert_eq!(fs::read(&file).unwrap(), text);
        }
    }
}
