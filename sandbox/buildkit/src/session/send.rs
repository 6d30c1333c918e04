//! Files to the client: a directory (`--output type=local`, DiffCopy with the roles swapped) or a tar archive (`type=tar`).
//!
//! The tree is an image's, so a learner made it: links are sent and never followed, FIFOs are never opened, depth and number are
//! bounded.

use super::receive::ChunkWriter;
use super::transfer::{encode, pump};
use super::writer::go_mode;
use super::{MAX_MESSAGE, Session};
use crate::error::failed;
use crate::proto::{Packet, PacketType, Stat, filesync, kind, packet, packets};
use drydock_go::io_text;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tonic::{Request, Status};

/// Packets on their way to the client.
const QUEUE: usize = 16;
/// Files that are sent.
const MAX_ENTRIES: usize = 1_000_000;
/// Directories within directories.
const MAX_DEPTH: usize = 200;
/// Bytes of one packet of data, as fsutil has them.
const CHUNK: usize = 32 << 10;

/// A tree that is read; the handle is kept until it was sent.
pub struct FileTree {
    root: OwnedFd,
    _held: Box<dyn Send>,
}

impl std::fmt::Debug for FileTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileTree").finish_non_exhaustive()
    }
}

impl FileTree {
    /// The tree at a path, which stays there as long as `held` lives.
    ///
    /// # Errors
    /// If it is no directory.
    pub fn open(path: &Path, held: Box<dyn Send>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(path, flags, Mode::empty())?, _held: held })
    }

    /// Visits everything in the order of the protocol: names sorted in each directory, a directory before what is in it.
    fn walk(&self, visit: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>) -> io::Result<()> {
        Walk { visit, count: 0, linked: HashMap::new() }.directory(&self.root, "", 0)
    }
}

/// Something of a tree.
struct Entry<'a> {
    /// From the root of the tree.
    path: &'a str,
    parent: &'a OwnedFd,
    name: &'a str,
    stat: rustix::fs::Stat,
    /// The path under which the same file was visited before: this is another name of it.
    first: Option<&'a str>,
}

struct Walk<'v> {
    visit: &'v mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
    count: usize,
    /// Files with several names, by device and inode: the first path.
    linked: HashMap<(u64, u64), String>,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &OwnedFd, path: &str, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("directories are nested too deep"));
        }
        for name in self.names(directory)? {
            let stat = rustix::fs::statat(directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let kind = stat.st_mode & 0o170_000;
            let inode = (stat.st_dev, stat.st_ino);
            let several = kind == 0o100_000 && stat.st_nlink > 1;
            let first = self.linked.get(&inode).filter(|_| several).map(String::as_str);
            let known = first.is_some();
            (self.visit)(&Entry { path: &path, parent: directory, name: &name, stat, first })?;
            if kind == 0o040_000 {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(directory, name.as_str(), flags, Mode::empty())?;
                self.directory(&inner, &path, depth + 1)?;
            } else if several && !known {
                self.linked.insert(inode, path);
            }
        }
        Ok(())
    }

    fn names(&mut self, directory: &OwnedFd) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(directory)? {
            // Names that are not UTF-8 can't be said in protobuf.
            if let Ok(name) = entry?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
            self.count += 1;
            if self.count > MAX_ENTRIES {
                return Err(io::Error::other("too many files"));
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn describe(entry: &Entry<'_>) -> io::Result<Stat> {
    let stat = &entry.stat;
    let link = match (stat.st_mode & 0o170_000, entry.first) {
        (0o120_000, _) => read_link(entry.parent, entry.name)?,
        (_, first) => first.unwrap_or_default().to_owned(),
    };
    let nanoseconds = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Ok(Stat {
        path: entry.path.to_owned(),
        mode: go_mode(stat.st_mode),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if entry.first.is_some() { 0 } else { stat.st_size },
        mod_time: i64::try_from(nanoseconds).unwrap_or_default(),
        linkname: link,
        devmajor: i64::from(rustix::fs::major(stat.st_rdev)),
        devminor: i64::from(rustix::fs::minor(stat.st_rdev)),
        ..Stat::default()
    })
}

fn read_link(parent: &OwnedFd, name: &str) -> io::Result<String> {
    let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
    target.into_string().map_err(|_| io::Error::other("link is not UTF-8"))
}

fn open_file(parent: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?))
}

impl Session {
    /// Sends a tree to exporter number `exporter` of the client, which writes it to a directory.
    ///
    /// # Errors
    /// If the client can't write it, or the tree can't be read.
    pub async fn send_tree(
        &self,
        exporter: usize,
        tree: FileTree,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<(), Status> {
        self.needs_file_send()?;
        let (out, outbound) = mpsc::channel(QUEUE);
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(outbound));
        encode(request.metadata_mut(), "buildkit-attachable-exporter-id", &[exporter.to_string()])?;
        let client = packets::file_send_client::FileSendClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MAX_MESSAGE);
        // Requests are few bytes and at most one for each file; if they waited, client and engine would wait for each other.
        let (requests, inbound) = mpsc::channel(MAX_ENTRIES + 2);
        // Go sends the headers of its answer with the first packet of its own, which answers one of these.
        let sender = tokio::task::spawn_blocking(move || send(&tree, &out, inbound, &progress));
        let stream = client.diff_copy(request).await.map_err(|status| failed(status.message()))?;
        let pumped = pump(stream.into_inner(), requests, &mut |_| ()).await;
        let sent = sender.await.map_err(|_| Status::internal("the sender panicked"))?;
        pumped.and(sent)
    }

    /// Sends a tree as a tar archive to exporter number `exporter` of the client.
    ///
    /// # Errors
    /// If the client can't write it, or the tree can't be read.
    pub async fn send_tar(&self, exporter: usize, tree: FileTree) -> Result<(), Status> {
        self.needs_file_send()?;
        let (out, outbound) = mpsc::channel(QUEUE);
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(outbound));
        encode(request.metadata_mut(), "buildkit-attachable-exporter-id", &[exporter.to_string()])?;
        let mut client = filesync::file_send_client::FileSendClient::new(self.channel.clone());
        let sender = tokio::task::spawn_blocking(move || {
            write_tar(&tree, BufWriter::with_capacity(CHUNK, ChunkWriter(out)))
                .map_err(|e| failed(io_text(&e)))
        });
        let stream = client.diff_copy(request).await.map_err(|status| failed(status.message()))?;
        let mut stream = stream.into_inner();
        let received = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(status) => break Err(failed(status.message())),
            }
        };
        let sent = sender.await.map_err(|_| Status::internal("the sender panicked"))?;
        received.and(sent)
    }

    fn needs_file_send(&self) -> Result<(), Status> {
        let method = "/moby.filesync.v1.FileSend/diffcopy";
        if self.supports(method) {
            return Ok(());
        }
        Err(failed(format!("method {method} not supported by the client")))
    }
}

fn send(
    tree: &FileTree,
    out: &mpsc::Sender<Packet>,
    mut inbound: mpsc::Receiver<Packet>,
    progress: &dyn Fn(u64),
) -> Result<(), Status> {
    let gone = || failed("the client ended the transfer early");
    // Path of each number that has contents. The paths are this side's own.
    let mut files: Vec<Option<Arc<str>>> = Vec::new();
    let sent = AtomicU64::new(0);
    let push = |packet: Packet| -> io::Result<()> {
        progress(sent.fetch_add(packet.data.len() as u64 + 16, Ordering::Relaxed));
        out.blocking_send(packet).map_err(|_| io::ErrorKind::BrokenPipe.into())
    };
    let listed = tree.walk(&mut |entry| {
        let stat = describe(entry)?;
        files.push((go_type(stat.mode) == 0).then(|| entry.path.into()));
        push(Packet { stat: Some(stat), ..packet(PacketType::PacketStat) })
    });
    let listed = listed.and_then(|()| push(packet(PacketType::PacketStat)));
    if let Err(error) = listed {
        let data = error.to_string().into_bytes();
        _ = push(Packet { data, ..packet(PacketType::PacketErr) });
        return Err(failed(io_text(&error)));
    }
    while let Some(request) = inbound.blocking_recv() {
        match kind(&request) {
            Some(PacketType::PacketReq) => {
                let slot = usize::try_from(request.id).ok().and_then(|id| files.get_mut(id));
                let path = slot.and_then(Option::take);
                let path = path.ok_or_else(|| failed(format!("invalid file id {}", request.id)))?;
                send_file(tree, &path, request.id, &push).map_err(|e| failed(io_text(&e)))?;
            }
            Some(PacketType::PacketFin) => {
                _ = push(packet(PacketType::PacketFin));
                return Ok(());
            }
            Some(PacketType::PacketErr) => {
                let text = String::from_utf8_lossy(&request.data).into_owned();
                return Err(failed(format!("error from receiver: {text}")));
            }
            _ => return Err(failed("unexpected packet")),
        }
    }
    Err(gone())
}

fn go_type(mode: u32) -> u32 {
    // Everything above the permissions but setuid, setgid and sticky.
    mode & !(0o777 | 1 << 23 | 1 << 22 | 1 << 20)
}

fn send_file(
    tree: &FileTree,
    path: &str,
    id: u32,
    push: &dyn Fn(Packet) -> io::Result<()>,
) -> io::Result<()> {
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat2(tree.root.as_fd(), path, flags, Mode::empty(), resolve)?;
    let mut file = File::from(file);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer)?;
        push(Packet { id, data: buffer[..count].to_vec(), ..packet(PacketType::PacketData) })?;
        if count == 0 {
            return Ok(());
        }
    }
}

fn write_tar(tree: &FileTree, out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    tree.walk(&mut |entry| {
        let Entry { path, parent, name, stat, first } = entry;
        let mut header = tar::Header::new_gnu();
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
        header.set_size(0);
        if let Some(first) = first {
            header.set_entry_type(tar::EntryType::Link);
            return tar.append_link(&mut header, path, first);
        }
        match stat.st_mode & 0o170_000 {
            0o100_000 => {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(size);
                // A file that grows meanwhile must not spoil the archive.
                let file = open_file(parent, name)?.take(size);
                return tar.append_data(&mut header, path, file.chain(io::repeat(0)).take(size));
            }
            0o040_000 => {
                header.set_entry_type(tar::EntryType::Directory);
                return tar.append_data(&mut header, format!("{path}/"), io::empty());
            }
            0o120_000 => {
                header.set_entry_type(tar::EntryType::Symlink);
                return tar.append_link(&mut header, path, read_link(parent, name)?);
            }
            0o010_000 => header.set_entry_type(tar::EntryType::Fifo),
            kind @ (0o020_000 | 0o060_000) => {
                let block = kind == 0o060_000;
                header.set_entry_type(if block { tar::EntryType::Block } else { tar::EntryType::Char });
                header.set_device_major(rustix::fs::major(stat.st_rdev))?;
                header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
            }
            _ => return Ok(()),
        }
        tar.append_data(&mut header, path, io::empty())
    })?;
    tar.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, FileTree) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        std::fs::write(dir.path().join("b/f"), "hello").unwrap();
        std::fs::write(dir.path().join("b.txt"), "").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("a")).unwrap();
        let tree = FileTree::open(dir.path(), Box::new(())).unwrap();
        (dir, tree)
    }

    #[test]
    fn trees_are_walked_in_order_and_links_are_not_followed() {
        let (_dir, tree) = tree();
        let mut seen = Vec::new();
        tree.walk(&mut |entry| {
            let stat = describe(entry)?;
            seen.push((entry.path.to_owned(), stat.linkname, go_type(stat.mode) == 0));
            Ok(())
        })
        .unwrap();
        let entry = |path: &str, link: &str, file| (path.to_owned(), link.to_owned(), file);
        assert_eq!(
            seen,
            [
                entry("a", "/etc", false),
                entry("b", "", false),
                entry("b/f", "", true),
                entry("b.txt", "", true)
            ]
        );
    }

    #[test]
    fn a_file_with_several_names_is_sent_once() {
        let (dir, tree) = tree();
        for name in ["b/g", "c"] {
            std::fs::hard_link(dir.path().join("b/f"), dir.path().join(name)).unwrap();
        }
        let mut links = Vec::new();
        tree.walk(&mut |entry| {
            let stat = describe(entry)?;
            links.extend(entry.first.map(|_| (entry.path.to_owned(), stat.linkname, stat.size)));
            Ok(())
        })
        .unwrap();
        let link = |path: &str| (path.to_owned(), "b/f".to_owned(), 0);
        assert_eq!(links, [link("b/g"), link("c")]);

        let mut archive = Vec::new();
        write_tar(&tree, &mut archive).unwrap();
        let unpacked = tempfile::tempdir().unwrap();
        tar::Archive::new(archive.as_slice()).unpack(unpacked.path()).unwrap();
        let inode = |name: &str| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(unpacked.path().join(name)).unwrap().ino()
        };
        assert_eq!((inode("b/g"), inode("c")), (inode("b/f"), inode("b/f")));
        assert_eq!(std::fs::read(unpacked.path().join("c")).unwrap(), b"hello");
    }

    #[test]
    fn a_tar_has_the_files() {
        let (_dir, tree) = tree();
        let mut archive = Vec::new();
        write_tar(&tree, &mut archive).unwrap();
        let mut archive = tar::Archive::new(archive.as_slice());
        let names: Vec<String> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["a", "b/", "b/f", "b.txt"]);
    }

    #[test]
    fn the_client_gets_what_it_asks_for_and_nothing_else() {
        let (_dir, tree) = tree();
        let (out, mut sent) = mpsc::channel(100);
        let (ask, inbound) = mpsc::channel(100);
        for request in [Packet { id: 2, ..packet(PacketType::PacketReq) }, packet(PacketType::PacketFin)] {
            ask.blocking_send(request).unwrap();
        }
        send(&tree, &out, inbound, &|_| ()).unwrap();
        drop(out);
        let mut data = Vec::new();
        while let Some(packet) = sent.blocking_recv() {
            data.extend(packet.data);
        }
        assert_eq!(data, b"hello");
        let (ask, inbound) = mpsc::channel(100);
        // A link has no content.
        ask.blocking_send(packet(PacketType::PacketReq)).unwrap();
        let (out, _sent) = mpsc::channel(100);
        assert_eq!(send(&tree, &out, inbound, &|_| ()).unwrap_err().message(), "invalid file id 0");
    }
}
