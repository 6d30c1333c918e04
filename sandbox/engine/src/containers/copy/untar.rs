//! A tar into a container or a volume. Names that lead out are refused; links of the container are followed inside its root only.

use super::{DIRECTORY, in_root, stat_of, tarball::is_carried};
use drydock_dockerfile::files::go_error;
use nix::libc;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags, fsetxattr};
use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

/// How a tar is taken in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// No directory in place of something else, nor the other way round.
    pub no_overwrite: bool,
    /// All belongs to this user and group, whatever the tar says.
    pub owner: Option<(u32, u32)>,
}

/// Unpacks a tar below `dir` (a path in `root`). Names that lead out are refused.
pub(super) fn unpack(root: BorrowedFd<'_>, dir: &str, from: impl Read, options: Options) -> io::Result<()> {
    let mut archive = tar::Archive::new(from);
    let mut dirs: Vec<(PathBuf, i64)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry.map_err(go_error)?;
        let name = entry.path()?.into_owned();
        let mut path = PathBuf::from(dir);
        for part in name.components() {
            match part {
                Component::Normal(part) => path.push(part),
                Component::CurDir | Component::RootDir => {}
                _ => {
                    let text = format!("invalid tar: {} leads out of the directory", name.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        if path == Path::new(dir) {
            continue;
        }
        let mtime = i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0);
        if unpack_one(root, &path, dir, &mut entry, options)? {
            dirs.push((path, mtime));
        }
    }
    // Last, as what is put into a directory changes its time.
    for (path, mtime) in dirs.into_iter().rev() {
        if let Ok(dir) = in_root(root, &path.to_string_lossy(), OFlags::RDONLY | OFlags::DIRECTORY) {
            let _cosmetic = rustix::fs::futimens(&dir, &times(mtime));
        }
    }
    Ok(())
}

fn times(mtime: i64) -> rustix::fs::Timestamps {
    let time = rustix::fs::Timespec { tv_sec: mtime, tv_nsec: 0 };
    rustix::fs::Timestamps { last_access: time, last_modification: time }
}

/// Makes one entry; true for a directory.
fn unpack_one(
    root: BorrowedFd<'_>,
    path: &Path,
    dir: &str,
    entry: &mut tar::Entry<'_, impl Read>,
    options: Options,
) -> io::Result<bool> {
    let (Some(parent), Some(base)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let parent = make_parents(root, parent)?;
    let number = |n: io::Result<u64>| u32::try_from(n.unwrap_or(0)).unwrap_or(0);
    let written = (number(entry.header().uid()), number(entry.header().gid()));
    let (uid, gid) = options.owner.unwrap_or(written);
    let mode = Mode::from_raw_mode(entry.header().mode().unwrap_or(0o644) & 0o7777);
    let mtime = i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0);
    let kind = entry.header().entry_type();
    let attributes = attributes(entry)?;
    let is_dir = kind == tar::EntryType::Directory;
    make_room(&parent, base, is_dir, &|there| {
        let what = |is_dir| if is_dir { "directory" } else { "non-directory" };
        let (there, comes, path) = (what(there), what(is_dir), path.display());
        let why = format!("cannot overwrite {there} \"/{path}\" with {comes} \"{dir}\"");
        options.no_overwrite.then(|| io::Error::new(io::ErrorKind::AlreadyExists, why))
    })?;
    let owner = |flags| {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::chownat(&parent, base, Some(uid), Some(gid), flags)
    };
    match kind {
        tar::EntryType::Directory => {
            match rustix::fs::mkdirat(&parent, base, mode) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&parent, base, flags, Mode::empty())?;
            owner(AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::fchmod(&made, mode)?;
            set(made.as_fd(), &attributes)?;
            return Ok(true);
        }
        tar::EntryType::Symlink => {
            let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            rustix::fs::symlinkat(target.as_ref(), &parent, base)?;
            owner(AtFlags::SYMLINK_NOFOLLOW)?;
        }
        tar::EntryType::Link => {
            let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?.into_owned();
            link(root, &Path::new(dir).join(target.strip_prefix("/").unwrap_or(&target)), &parent, base)?;
        }
        tar::EntryType::Fifo | tar::EntryType::Char | tar::EntryType::Block => {
            let (kind, device) = match kind {
                tar::EntryType::Fifo => (FileType::Fifo, 0),
                tar::EntryType::Char => (FileType::CharacterDevice, device(entry)?),
                _ => (FileType::BlockDevice, device(entry)?),
            };
            rustix::fs::mknodat(&parent, base, kind, mode, device)?;
            owner(AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(&parent, base, flags, Mode::from_raw_mode(0o600))?);
            io::copy(entry, &mut file)?;
            owner(AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::fchmod(&file, mode)?;
            // After the owner, a change of which takes capabilities away.
            set(file.as_fd(), &attributes)?;
            let _cosmetic = rustix::fs::futimens(&file, &times(mtime));
        }
    }
    Ok(false)
}

/// Removes what is in the way of an entry; a directory stays for another. `refuse`: why something of the other kind is not replaced, told
/// whether a directory is there.
fn make_room(
    parent: &OwnedFd,
    base: &str,
    is_dir: bool,
    refuse: &dyn Fn(bool) -> Option<io::Error>,
) -> io::Result<()> {
    let Ok(there) = stat_of(parent.as_fd(), base) else { return Ok(()) };
    let there_dir = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
    if there_dir != is_dir
        && let Some(error) = refuse(there_dir)
    {
        return Err(error);
    }
    if !(there_dir && is_dir) {
        let flags = if there_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(parent, base, flags)?;
    }
    Ok(())
}

/// Another name of a file that is there.
fn link(root: BorrowedFd<'_>, target: &Path, parent: &OwnedFd, base: &str) -> io::Result<()> {
    let (Some(from), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let from = if from.as_os_str().is_empty() { Path::new(".") } else { from };
    let from = in_root(root, &from.to_string_lossy(), DIRECTORY)?;
    Ok(rustix::fs::linkat(&from, name, parent, base, AtFlags::empty())?)
}

/// The extended attributes that an entry has and that are taken.
fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = vec![];
    // A value with a line end in it is none to the library, and the file comes without that attribute.
    for extension in entry.pax_extensions()?.into_iter().flatten().flatten() {
        let name = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr."));
        if let Some(name) = name.filter(|name| is_carried(name)) {
            found.push((name.to_string(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

/// Sets attributes. Where the file system or the kernel has no room for them, the file comes without, as with Docker.
fn set(file: BorrowedFd<'_>, attributes: &[(String, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in attributes {
        match fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn device(entry: &tar::Entry<'_, impl Read>) -> io::Result<libc::dev_t> {
    let header = entry.header();
    let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
    Ok(rustix::fs::makedev(major, minor))
}

/// The directory of an entry, made if it is missing.
pub(super) fn make_parents(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let text = if path.as_os_str().is_empty() { ".".into() } else { path.to_string_lossy().into_owned() };
    match in_root(root, &text, DIRECTORY) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(base)) = (path.parent(), path.file_name()) else { return Err(e) };
            let parent = make_parents(root, parent)?;
            match rustix::fs::mkdirat(&parent, base, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => in_root(root, &text, DIRECTORY),
                Err(e) => Err(e.into()),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::open_dir, *};
    use std::{fs, os::unix::fs::symlink};

    fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(0);
            // Written as they are: the library would refuse what an attacker writes.
            let bytes = name.as_bytes();
            header.as_gnu_mut().unwrap().name[..bytes.len()].copy_from_slice(bytes);
            if *kind == tar::EntryType::Regular {
                header.set_size(content.len() as u64);
                header.set_cksum();
                tar.append(&header, content.as_bytes()).unwrap();
            } else {
                header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
                header.set_cksum();
                tar.append(&header, io::empty()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    fn put(root: &Path, dir: &str, entries: &[(&str, tar::EntryType, &str)]) -> io::Result<()> {
        let root = open_dir(root).unwrap();
        unpack(root.as_fd(), dir, &tar_of(entries)[..], Options::default())
    }

    #[test]
    fn files_belong_to_whom_they_shall() {
        use std::os::unix::fs::MetadataExt;
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let tar = tar_of(&[("d", tar::EntryType::Directory, ""), ("d/f", tar::EntryType::Regular, "1")]);
        let options = Options { owner: Some((100, 200)), ..Options::default() };
        unpack(open_dir(temp.path()).unwrap().as_fd(), "", &tar[..], options).unwrap();
        for path in ["d", "d/f"] {
            let found = fs::metadata(temp.path().join(path)).unwrap();
            assert_eq!((found.uid(), found.gid()), (100, 200));
        }
    }

    #[test]
    fn what_is_no_whole_tar_is_told_as_go_tells_it() {
        let temp = tempfile::tempdir().unwrap();
        let root = open_dir(temp.path()).unwrap();
        let refusal = |tar: &[u8]| unpack(root.as_fd(), "", tar, Options::default()).unwrap_err().to_string();
        let tar = tar_of(&[("f", tar::EntryType::Regular, &"x".repeat(1000))]);
        // In a header, in what a file has, and behind the first of its blocks.
        for length in [10, 700, 1024] {
            assert_eq!(refusal(&tar[..length]), "unexpected EOF", "{length}");
        }
        assert_eq!(refusal(&[b'x'; 2048]), "archive/tar: invalid tar header");
    }

    #[test]
    fn links_and_dots_do_not_lead_out_of_the_root() {
        use tar::EntryType::{Link, Regular, Symlink};
        let temp = tempfile::tempdir().unwrap();
        let (root, outside) = (temp.path().join("root"), temp.path().join("outside"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        assert_eq!(put(&root, "", &[("../x", Regular, "1")]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let target = outside.to_str().unwrap();
        // Through a link of the container's own: stays inside, where the target is missing.
        let _refused_or_inside = put(&root, "", &[("l", Symlink, target), ("l/x", Regular, "1")]);
        let _refused_or_inside = put(&root, "", &[("h", Link, "../outside/secret")]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert!(fs::read_to_string(root.join("h")).is_err());
        // An absolute link is one of the container.
        fs::create_dir(root.join("dir")).unwrap();
        symlink("/dir", root.join("abs")).unwrap();
        put(&root, "abs", &[("f", Regular, "content")]).unwrap();
        assert_eq!(fs::read_to_string(root.join("dir/f")).unwrap(), "content");
    }
}
