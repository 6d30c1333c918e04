//! File work inside a node: list, read, write, make, remove, rename. A process that the node's init forked for one
//! request runs [`serve`] with the connection from `drydock serve`; the node's root is its root, so every path is
//! the node's own. It blocks, which is fine for a process of its own, but must never be held by what a learner put in
//! the way (pipes, devices, huge directories), nor leave half a file behind.

mod write;

use drydock_protocol::pipe::{BINARY, Entry, EntryKind, ErrorKind, FileOp, Reply, TEXT};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, openat2, renameat_with,
    statat,
};
use std::{
    ffi::OsString,
    fs::{self, File, Metadata, Permissions},
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, PermissionsExt, symlink},
            net::UnixStream,
        },
    },
    path::Path,
};

/// Most entries of a directory that are told.
const MAX_ENTRIES: usize = 10_000;
/// Most bytes of a listing, so that it fits into one frame.
const MAX_LISTING: usize = 900 * 1024;
/// File content in one frame.
const PIECE: usize = 64 * 1024;
/// Bits of a mode that `chmod` sets.
const MODE_BITS: u32 = 0o7777;
/// Files that say they are empty and are not (as in /sys) are read up to this size.
const MAX_UNSIZED: u64 = 1024 * 1024;

/// Does one piece of file work and answers on the connection.
pub fn serve(connection: OwnedFd, op: FileOp) {
    let mut connection = UnixStream::from(connection);
    let answer = match op {
        FileOp::List { path } => list(&path),
        FileOp::Read { path, limit } => read(&path, limit, &mut connection),
        FileOp::Write {
            path,
            mode,
            unless_changed_since_micros: unchanged_since,
            only_new,
            modified_micros,
        } => {
            let condition = write::Condition { unchanged_since, only_new };
            write::write(&path, write::Looks { mode, modified_micros }, condition, &mut connection)
        }
        FileOp::MakeDir { path, mode } => make_dir(&path, mode),
        FileOp::Link { path, target } => link(&path, &target),
        FileOp::Remove { path } => remove(&path),
        FileOp::Rename { from, to } => rename(&from, &to),
    };
    let reply = answer.unwrap_or_else(|e| Reply::Error { kind: e.kind, message: e.message });
    if let Err(e) = send_text(&mut connection, &reply) {
        tracing::debug!(error = %e, "whoever asked for file work is gone");
    }
}

/// Why it did not work.
#[derive(Debug)]
struct Failure {
    kind: ErrorKind,
    message: String,
}

fn fail<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { kind, message: message.into() })
}

/// What the kernel said about a path.
fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |e| {
        use io::ErrorKind as K;
        let kind = match e.kind() {
            K::NotFound => ErrorKind::NotFound,
            K::NotADirectory
            | K::IsADirectory
            | K::AlreadyExists
            | K::DirectoryNotEmpty
            | K::ResourceBusy => ErrorKind::Conflict,
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => ErrorKind::Limit,
            K::InvalidFilename | K::InvalidInput => ErrorKind::Invalid,
            K::PermissionDenied | K::ReadOnlyFilesystem => ErrorKind::Denied,
            _ => ErrorKind::Failed,
        };
        let text = match e.kind() {
            K::StorageFull | K::QuotaExceeded => {
                "the session's disk is full; delete something first".to_string()
            }
            K::NotFound => "there is no such file or directory".to_string(),
            _ => e.to_string(),
        };
        Failure { kind, message: format!("{}: {text}", path.display()) }
    }
}

fn absolute(path: &str) -> Result<&Path, Failure> {
    if !path.starts_with('/') || path.contains('\0') {
        return fail(ErrorKind::Invalid, format!("'{path}' is not an absolute path"));
    }
    Ok(Path::new(path))
}

// === reading ===

fn list(path: &str) -> Result<Reply, Failure> {
    let path = absolute(path)?;
    let (mut entries, mut cut) = (Vec::new(), false);
    let directory = open_plain(path, OFlags::DIRECTORY)?;
    for found in Dir::read_from(&directory).map_err(|e| failed(path)(e.into()))? {
        let found = found.map_err(|e| failed(path)(e.into()))?;
        let name = found.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            cut = true;
            break;
        }
        // What was deleted meanwhile is not there.
        if let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            let mut entry = listed(name.to_string_lossy().into_owned(), &stat);
            if entry.kind == EntryKind::Link {
                let target = statat(&directory, name, AtFlags::empty());
                entry.target = target.ok().map(|stat| kind_of(FileType::from_raw_mode(stat.st_mode)));
            }
            entries.push(entry);
        }
    }
    entries.sort_unstable_by(|a: &Entry, b| a.name.cmp(&b.name));
    let mut size = 0;
    let fitting = entries.iter().take_while(|entry| {
        size += serde_json::to_vec(entry).map_or(0, |json| json.len() + 1);
        size <= MAX_LISTING
    });
    let fitting = fitting.count();
    cut |= fitting < entries.len();
    entries.truncate(fitting);
    Ok(Reply::Entries { entries, cut })
}

fn kind_of(kind: FileType) -> EntryKind {
    match kind {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Link,
        _ => EntryKind::Other,
    }
}

fn listed(name: String, stat: &Stat) -> Entry {
    Entry {
        name,
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & MODE_BITS,
        modified_micros: micros(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
        target: None,
    }
}

fn entry(name: String, metadata: &Metadata) -> Entry {
    Entry {
        name,
        kind: kind_of(FileType::from_raw_mode(metadata.mode())),
        size: metadata.len(),
        mode: metadata.mode() & MODE_BITS,
        modified_micros: modified_micros(metadata),
        target: None,
    }
}

fn modified_micros(metadata: &Metadata) -> i64 {
    micros(metadata.mtime(), metadata.mtime_nsec())
}

fn micros(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

fn read(path: &str, limit: Option<u64>, connection: &mut UnixStream) -> Result<Reply, Failure> {
    let path = absolute(path)?;
    let (mut file, metadata) = open_regular(path)?;
    let mut entry = entry(file_name(path), &metadata);
    let mut unsized_content = Vec::new();
    if entry.size == 0 {
        (&mut file).take(MAX_UNSIZED).read_to_end(&mut unsized_content).map_err(failed(path))?;
        entry.size = unsized_content.len() as u64;
    }
    if let Some(limit) = limit.filter(|limit| entry.size > *limit) {
        let message =
            format!("{} has {} bytes; at most {limit} can be read here", path.display(), entry.size);
        return fail(ErrorKind::Limit, message);
    }
    let size = entry.size;
    send_text(connection, &Reply::File { entry }).map_err(failed(path))?;
    // Not one byte more than was told, even if the file grows.
    send_content(connection, &mut unsized_content.chain(file).take(size)).map_err(failed(path))?;
    Ok(Reply::Done)
}

/// Opens a regular file, following links; a pipe or device in its place neither blocks nor does anything.
fn open_regular(path: &Path) -> Result<(File, Metadata), Failure> {
    let file = open_plain(path, OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let metadata = file.metadata().map_err(failed(path))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "a device, socket or pipe" };
        return fail(ErrorKind::Conflict, format!("{} is {what}, not a file", path.display()));
    }
    Ok((file, metadata))
}

/// Opens for reading what tells nothing of this process. Of itself the kernel tells a process everything (proc(5)): where its memory is,
/// which is where that of the host's own process is that this one was forked from, and that one's program. Whatever the path, there
/// may be a mount behind it.
fn open_plain(path: &Path, flags: OFlags) -> Result<File, Failure> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let file = File::from(opened.map_err(|e| failed(path)(e.into()))?);
    if rustix::fs::fstatfs(&file).map_err(|e| failed(path)(e.into()))?.f_type == libc::PROC_SUPER_MAGIC {
        let message = format!("{} tells of processes: look at it in a terminal", path.display());
        return fail(ErrorKind::Conflict, message);
    }
    Ok(file)
}

fn send_content(connection: &mut UnixStream, content: &mut impl Read) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match content.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => send_frame(connection, BINARY, &piece[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

// === names ===

fn make_dir(path: &str, mode: Option<u32>) -> Result<Reply, Failure> {
    let path = absolute(path)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    match fs::create_dir(path) {
        Ok(()) => {
            if let Some(mode) = mode {
                // Whatever the mask for new files is.
                let mode = Permissions::from_mode(mode & MODE_BITS);
                fs::set_permissions(path, mode).map_err(failed(path))?;
            }
        }
        Err(_) if path.is_dir() => {}
        Err(e) => return Err(failed(path)(e)),
    }
    Ok(Reply::Done)
}

fn link(path: &str, target: &str) -> Result<Reply, Failure> {
    let path = absolute(path)?;
    if target.contains('\0') {
        return fail(ErrorKind::Invalid, format!("'{target}' is no path"));
    }
    if fs::symlink_metadata(path).is_ok_and(|old| old.is_symlink()) {
        fs::remove_file(path).map_err(failed(path))?;
    }
    symlink(target, path).map_err(failed(path))?;
    Ok(Reply::Done)
}

fn remove(path: &str) -> Result<Reply, Failure> {
    let path = absolute(path)?;
    if path.file_name().is_none() {
        return fail(ErrorKind::Invalid, format!("{} can't be deleted", path.display()));
    }
    let metadata = fs::symlink_metadata(path).map_err(failed(path))?;
    // Neither of them follows links.
    let removed = if metadata.is_dir() { crate::clear::tree(path) } else { fs::remove_file(path) };
    removed.map_err(failed(path))?;
    Ok(Reply::Done)
}

fn rename(from: &str, to: &str) -> Result<Reply, Failure> {
    let (from, to) = (absolute(from)?, absolute(to)?);
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Reply::Done),
        Err(rustix::io::Errno::EXIST) => {
            fail(ErrorKind::Conflict, format!("{} exists already", to.display()))
        }
        Err(e) => {
            // What is missing may be the directory that it shall go to.
            let into = to.parent().filter(|into| fs::symlink_metadata(from).is_ok() && !into.exists());
            Err(failed(into.unwrap_or(from))(e.into()))
        }
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

// === frames ===

fn send_text(connection: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    send_frame(connection, TEXT, &serde_json::to_vec(reply)?)
}

fn send_frame(connection: &mut UnixStream, tag: u8, payload: &[u8]) -> io::Result<()> {
    let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let [a, b, c, d] = len.to_be_bytes();
    connection.write_all(&[tag, a, b, c, d])?;
    connection.write_all(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_protocol::pipe::MAX_FRAME;
    use nix::unistd::mkfifo;
    use std::{path::PathBuf, thread};

    /// A directory of a test's own.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("drydock-files-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
        fn path(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().into()
        }
        fn names(&self) -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(&self.0)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _best_effort = fs::remove_dir_all(&self.0);
        }
    }

    /// Sends what serve would, returns the text answers and the content.
    fn work(op: FileOp, sent: &[(u8, &[u8])]) -> (Vec<Reply>, Vec<u8>) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let worker = thread::spawn(move || serve(theirs.into(), op));
        for (tag, payload) in sent {
            if send_frame(&mut ours, *tag, payload).is_err() {
                break;
            }
        }
        let _may_be_closed = ours.shutdown(std::net::Shutdown::Write);
        let (mut replies, mut content) = (Vec::new(), Vec::new());
        let mut head = [0; 5];
        while ours.read_exact(&mut head).is_ok() {
            let mut payload = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize];
            ours.read_exact(&mut payload).unwrap();
            match head[0] {
                TEXT => replies.push(serde_json::from_slice(&payload).unwrap()),
                _ => content.extend(payload),
            }
        }
        worker.join().unwrap();
        (replies, content)
    }

    fn one(op: FileOp) -> Reply {
        let (mut replies, _) = work(op, &[]);
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    fn kind(reply: &Reply) -> Option<ErrorKind> {
        match reply {
            Reply::Error { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    fn read_op(path: String) -> FileOp {
        FileOp::Read { path, limit: None }
    }

    fn write_op(path: String) -> FileOp {
        FileOp::Write {
            path,
            mode: 0o640,
            unless_changed_since_micros: None,
            only_new: false,
            modified_micros: None,
        }
    }

    #[test]
    fn what_the_kernel_forbids_is_no_failure_of_ours() {
        let failure = failed(Path::new("/proc/1/mem"))(io::ErrorKind::PermissionDenied.into());
        assert_eq!(failure.kind, ErrorKind::Denied);
    }

    #[test]
    fn a_file_is_written_whole_and_read_back() {
        let dir = Place::new("roundtrip");
        let content = vec![7u8; 300_000];
        let frames = [(BINARY, &content[..200_000]), (BINARY, &content[200_000..]), (TEXT, &[][..])];
        let written = work(write_op(dir.path("a")), &frames).0;
        assert!(
            matches!(&written[..], [Reply::File { entry }] if entry.size == 300_000 && entry.name == "a")
        );
        assert_eq!(fs::metadata(dir.path("a")).unwrap().mode() & MODE_BITS, 0o640);
        let (replies, read) = work(read_op(dir.path("a")), &[]);
        assert!(matches!(&replies[..], [Reply::File { entry }, Reply::Done] if entry.size == 300_000));
        assert!(read == content);
        assert_eq!(dir.names(), ["a"]);
        let limited = FileOp::Read { path: dir.path("a"), limit: Some(1000) };
        assert_eq!(kind(&one(limited)), Some(ErrorKind::Limit));
    }

    #[test]
    fn an_older_file_keeps_its_mode_and_a_link_stays_a_link() {
        let dir = Place::new("keeps");
        fs::write(dir.path("real"), "old").unwrap();
        fs::set_permissions(dir.path("real"), Permissions::from_mode(0o755)).unwrap();
        symlink("real", dir.path("link")).unwrap();
        let written = work(write_op(dir.path("link")), &[(BINARY, b"new"), (TEXT, b"")]).0;
        assert!(matches!(&written[..], [Reply::File { .. }]));
        assert_eq!(fs::read_to_string(dir.path("real")).unwrap(), "new");
        assert_eq!(fs::metadata(dir.path("real")).unwrap().mode() & MODE_BITS, 0o755);
        assert!(fs::symlink_metadata(dir.path("link")).unwrap().is_symlink());
    }

    #[test]
    fn a_broken_upload_leaves_nothing() {
        let dir = Place::new("broken");
        fs::write(dir.path("a"), "old").unwrap();
        let (replies, _) = work(write_op(dir.path("a")), &[(BINARY, b"half")]);
        assert_eq!(kind(&replies[0]), Some(ErrorKind::Failed));
        let (replies, _) = work(write_op(dir.path("a")), &[(9, b"what")]);
        assert_eq!(kind(&replies[0]), Some(ErrorKind::Failed));
        assert_eq!(fs::read_to_string(dir.path("a")).unwrap(), "old");
        assert_eq!(dir.names(), ["a"]);
    }

    /// Whoever writes may be ended at any moment, with its node.
    #[test]
    fn an_upload_under_way_has_no_name() {
        let dir = Place::new("unnamed");
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let op = write_op(dir.path("a"));
        let worker = thread::spawn(move || serve(theirs.into(), op));
        // More than fits into the connection: the rest is in the file.
        send_frame(&mut ours, BINARY, &vec![7; 900_000]).unwrap();
        assert_eq!(dir.names(), Vec::<String>::new());
        send_frame(&mut ours, TEXT, b"").unwrap();
        worker.join().unwrap();
        assert_eq!(dir.names(), ["a"]);
    }

    #[test]
    fn a_file_changed_by_others_is_not_overwritten() {
        let dir = Place::new("changed");
        fs::write(dir.path("a"), "old").unwrap();
        let now = modified_micros(&fs::metadata(dir.path("a")).unwrap());
        let op = |since| FileOp::Write {
            path: dir.path("a"),
            mode: 0,
            unless_changed_since_micros: Some(since),
            only_new: false,
            modified_micros: None,
        };
        assert_eq!(kind(&work(op(now - 1), &[(TEXT, b"")]).0[0]), Some(ErrorKind::Conflict));
        let written = work(op(now), &[(BINARY, b"new"), (TEXT, b"")]).0;
        let [Reply::File { entry }] = &written[..] else { panic!("{written:?}") };
        let since = entry.modified_micros;
        assert_eq!(since, modified_micros(&fs::metadata(dir.path("a")).unwrap()));
        // What others write at once after us is noticed too: the time told is that of our own writing.
        let other = File::options().write(true).open(dir.path("a")).unwrap();
        other
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_micros(since as u64 + 1))
            .unwrap();
        assert_eq!(kind(&work(op(since), &[(TEXT, b"")]).0[0]), Some(ErrorKind::Conflict));
    }

    #[test]
    fn a_new_file_takes_no_others_place() {
        let dir = Place::new("new");
        let op = |name: &str| FileOp::Write {
            path: dir.path(name),
            mode: 0o644,
            unless_changed_since_micros: None,
            only_new: true,
            modified_micros: Some(1_500_000),
        };
        assert!(matches!(&work(op("a"), &[(BINARY, b"one"), (TEXT, b"")]).0[..], [Reply::File { .. }]));
        symlink("nowhere", dir.path("link")).unwrap();
        for name in ["a", "link"] {
            assert_eq!(
                kind(&work(op(name), &[(BINARY, b"two"), (TEXT, b"")]).0[0]),
                Some(ErrorKind::Conflict)
            );
        }
        assert_eq!(fs::read_to_string(dir.path("a")).unwrap(), "one");
        assert_eq!(modified_micros(&fs::metadata(dir.path("a")).unwrap()), 1_500_000);
        assert_eq!(dir.names(), ["a", "link"]);
    }

    #[test]
    fn pipes_devices_loops_and_directories_neither_block_nor_pass() {
        let dir = Place::new("odd");
        mkfifo(Path::new(&dir.path("fifo")), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("loop", dir.path("loop")).unwrap();
        symlink("/dev/zero", dir.path("zero")).unwrap();
        for name in ["fifo", "zero", "."] {
            assert_eq!(kind(&one(read_op(dir.path(name)))), Some(ErrorKind::Conflict), "{name}");
            let (replies, _) = work(write_op(dir.path(name)), &[(TEXT, b"")]);
            assert_eq!(kind(&replies[0]), Some(ErrorKind::Conflict), "{name}");
        }
        assert!(kind(&one(read_op(dir.path("loop")))).is_some());
        assert!(kind(&one(FileOp::List { path: dir.path("loop") })).is_some());
        assert_eq!(kind(&one(read_op(dir.path("none")))), Some(ErrorKind::NotFound));
        assert_eq!(kind(&one(read_op("relative".into()))), Some(ErrorKind::Invalid));
        let Reply::Entries { entries, cut: false } = one(FileOp::List { path: dir.path("") }) else {
            panic!()
        };
        let kinds: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.kind, e.target)).collect();
        let (link, other) = (EntryKind::Link, EntryKind::Other);
        assert_eq!(kinds, [("fifo", other, None), ("loop", link, None), ("zero", link, Some(other))]);
        // A link tells what it leads to: a directory can be entered by it.
        symlink(dir.path(""), dir.path("way")).unwrap();
        let Reply::Entries { entries, .. } = one(FileOp::List { path: dir.path("way") }) else { panic!() };
        let way = entries.iter().find(|e| e.name == "way").unwrap();
        assert_eq!((way.kind, way.target), (link, Some(EntryKind::Directory)));
        // What says that it is empty may have content.
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let group = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let group = group.filter(|line| line[2].starts_with("cgroup")).map(|line| line[1].to_owned()).next();
        let path = format!("{}/cgroup.procs", group.expect("control groups are mounted"));
        assert_eq!(work(read_op(path.clone()), &[]).1.is_empty(), fs::read(path).unwrap().is_empty());
        // What tells where our memory is, under whatever name.
        symlink("/proc/self/maps", dir.path("maps")).unwrap();
        for path in ["/proc/self/maps".to_owned(), "/proc/version".into(), dir.path("maps")] {
            assert_eq!(kind(&one(read_op(path))), Some(ErrorKind::Conflict));
        }
    }

    /// It would tell where the memory of the host's process is, and what program that is.
    #[test]
    fn nothing_is_told_of_the_process_itself() {
        let dir = Place::new("itself");
        symlink("/proc/self/map_files", dir.path("maps")).unwrap();
        for path in ["/proc/self/map_files", "/proc/self", &dir.path("maps")] {
            let Reply::Error { kind, message } = one(FileOp::List { path: path.into() }) else {
                panic!("{path}")
            };
            assert!(kind == ErrorKind::Conflict && message.contains("in a terminal"), "{message}");
        }
        for path in ["/proc/self/exe", "/proc/self/fd/0"] {
            let read = one(FileOp::Read { path: path.into(), limit: None });
            assert!(matches!(read, Reply::Error { .. }), "{path}: {read:?}");
        }
    }

    #[test]
    fn a_huge_directory_is_cut_to_a_frame() {
        let dir = Place::new("huge");
        for n in 0..6000 {
            File::create(dir.path(&format!("{n:05}{}", "\u{1}".repeat(60)))).unwrap();
        }
        let reply = one(FileOp::List { path: dir.path("") });
        assert!(serde_json::to_vec(&reply).unwrap().len() < MAX_FRAME as usize);
        let Reply::Entries { entries, cut } = reply else { panic!() };
        assert!(cut && entries.len() > 500 && entries.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn names_are_made_moved_and_removed() {
        let dir = Place::new("names");
        let make = |path: &str, mode| one(FileOp::MakeDir { path: dir.path(path), mode });
        assert_eq!(make("a/b/c", Some(0o700)), Reply::Done);
        assert_eq!(make("a/b/c", Some(0o777)), Reply::Done);
        let mode = |path: &str| fs::metadata(dir.path(path)).unwrap().mode() & MODE_BITS;
        assert_eq!((mode("a/b/c"), mode("a/b") & 0o700), (0o700, 0o700));
        fs::write(dir.path("a/b/file"), "x").unwrap();
        fs::write(dir.path("other"), "y").unwrap();
        symlink(dir.path("other"), dir.path("a/link")).unwrap();
        let link =
            |path: &str, target: &str| one(FileOp::Link { path: dir.path(path), target: target.into() });
        assert_eq!(link("way", "nowhere"), Reply::Done);
        assert_eq!(link("way", "../other"), Reply::Done);
        assert_eq!(fs::read_link(dir.path("way")).unwrap(), Path::new("../other"));
        assert_eq!(kind(&link("other", "a")), Some(ErrorKind::Conflict));
        assert_eq!(kind(&link("none/way", "a")), Some(ErrorKind::NotFound));
        assert_eq!(one(FileOp::Remove { path: dir.path("way") }), Reply::Done);
        let rename = |from: &str, to: &str| one(FileOp::Rename { from: dir.path(from), to: dir.path(to) });
        assert_eq!(kind(&rename("other", "a/b/file")), Some(ErrorKind::Conflict));
        for (from, missing) in [("other", "none: there is no"), ("nothing", "nothing: there is no")] {
            let Reply::Error { kind, message } = rename(from, "none/other") else { panic!("{from}") };
            assert!(kind == ErrorKind::NotFound && message.contains(missing), "{message}");
        }
        assert_eq!(rename("a/b/file", "moved"), Reply::Done);
        assert_eq!(one(FileOp::Remove { path: dir.path("a") }), Reply::Done);
        assert_eq!(dir.names(), ["moved", "other"]);
        assert_eq!(kind(&one(FileOp::Remove { path: dir.path("a") })), Some(ErrorKind::NotFound));
        assert_eq!(kind(&one(FileOp::Remove { path: "/".into() })), Some(ErrorKind::Invalid));
        assert_eq!(kind(&make("other", None)), Some(ErrorKind::Conflict));
        assert_eq!(kind(&make("other/x", None)), Some(ErrorKind::Conflict));
    }
}
