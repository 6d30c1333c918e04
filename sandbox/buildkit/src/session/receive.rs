//! Files from the client: a directory (`FileSync/DiffCopy`, the protocol of tonistiigi/fsutil) or a stream (`Upload/Pull`).
//!
//! In DiffCopy the client tells every file with a STAT packet (an empty one ends the list); the receiver asks for contents by number
//! (REQ) and gets them (DATA; an empty one ends a file); FIN from both ends it. What comes is written by a
//! [`Writer`](super::writer::Writer) on a thread that may block.

use super::transfer::{encode, pump};
use super::writer::Writer;
use super::{MAX_MESSAGE, Session};
use crate::error::failed;
use crate::proto::{Packet, PacketType, filesync, kind, packet, upload};
use crate::scratch::Scratch;
use drydock_go::io_text;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::Path;
use tokio::sync::mpsc;
use tonic::{Request, Status};

/// Files that are asked for at once. The client's own queue holds 128, and it stops reading when that is full.
const REQUESTS: usize = 32;
/// Packets on their way to the writer.
const QUEUE: usize = 16;

/// What may come.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files, directories, links.
    pub entries: usize,
    /// Bytes of their contents.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 500_000, bytes: 16 << 30 }
    }
}

/// Which files of the client.
#[derive(Debug, Clone, Default)]
pub struct Download {
    /// `context`, `dockerfile`, or the name of a `--build-context`.
    pub name: String,
    /// Patterns of `.dockerignore`.
    pub exclude: Vec<String>,
    /// Only these, and what links among them lead to. `None`: all.
    pub follow: Option<Vec<String>>,
}

impl Session {
    /// Copies files of the client into an empty directory here, within `keep`. `progress` gets the bytes of the packets so far.
    ///
    /// # Errors
    /// If the client refuses, sends what no file system has, or more than the limits.
    pub async fn download(
        &self,
        what: &Download,
        keep: Scratch,
        to: &Path,
        limits: Limits,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<(), Status> {
        if !self.supports("/moby.filesync.v1.FileSync/DiffCopy") {
            return Err(failed("no local sources enabled"));
        }
        let (requests, outbound) = mpsc::channel(REQUESTS * 2);
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(outbound));
        encode(request.metadata_mut(), "dir-name", std::slice::from_ref(&what.name))?;
        encode(request.metadata_mut(), "exclude-patterns", &what.exclude)?;
        if let Some(follow) = &what.follow {
            encode(request.metadata_mut(), "followpaths", follow)?;
        }
        let client = filesync::file_sync_client::FileSyncClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MAX_MESSAGE);
        let stream = client.diff_copy(request).await?.into_inner();
        let writer = Writer::new(to, limits).map_err(|e| failed(io_text(&e)))?;
        let (packets, inbound) = mpsc::channel(QUEUE);
        // The thread may outlive this future by a moment, and writes.
        let receiver = tokio::task::spawn_blocking(move || {
            let received = Receiver::new(writer, requests).run(inbound);
            drop(keep);
            received
        });
        let pumped = pump(stream, packets, &mut progress).await;
        let written = receiver.await.map_err(|_| Status::internal("the receiver panicked"))?;
        // What the client says ("no such directory") tells more than that its stream ended too early.
        pumped.and(written)
    }

    /// Reads what the client uploads (`docker build - < context.tar`), on a thread that may block.
    ///
    /// # Errors
    /// If the client can't send it, or `read` fails.
    pub async fn upload<T: Send + 'static>(
        &self,
        path: &str,
        read: impl FnOnce(&mut dyn Read) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let (keep, outbound) = mpsc::channel::<upload::BytesMessage>(1);
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(outbound));
        encode(request.metadata_mut(), "urlpath", &[path.to_owned()])?;
        encode(request.metadata_mut(), "urlhost", &["buildkit-session".to_owned()])?;
        let client = upload::upload_client::UploadClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MAX_MESSAGE);
        let mut stream = client.pull(request).await?.into_inner();
        let (chunks, inbound) = mpsc::channel(QUEUE);
        let reader = tokio::task::spawn_blocking(move || {
            read(&mut Chunks { inbound, chunk: Vec::new(), at: 0 }).map_err(|e| failed(io_text(&e)))
        });
        while let Some(message) = stream.message().await? {
            if chunks.send(message.data).await.is_err() {
                break;
            }
        }
        drop((chunks, keep));
        reader.await.map_err(|_| Status::internal("the reader panicked"))?
    }
}

/// Chunks as a file.
struct Chunks {
    inbound: mpsc::Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at >= self.chunk.len() {
            match self.inbound.blocking_recv() {
                Some(chunk) => (self.chunk, self.at) = (chunk, 0),
                None => return Ok(0),
            }
        }
        let count = (&self.chunk[self.at..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

/// The receiving side of DiffCopy.
struct Receiver {
    writer: Writer,
    requests: mpsc::Sender<Packet>,
    /// Numbers of files that are still to be asked for.
    waiting: VecDeque<u32>,
    /// Files that were asked for and are not complete.
    running: usize,
    number: u32,
    listed: bool,
}

impl Receiver {
    fn new(writer: Writer, requests: mpsc::Sender<Packet>) -> Self {
        Self { writer, requests, waiting: VecDeque::new(), running: 0, number: 0, listed: false }
    }

    fn run(mut self, mut inbound: mpsc::Receiver<Packet>) -> Result<(), Status> {
        let mut finished = false;
        while let Some(packet) = inbound.blocking_recv() {
            match self.take(packet) {
                Ok(true) if !finished => {
                    finished = true;
                    self.writer.finish().map_err(|e| failed(io_text(&e)))?;
                    self.send(PacketType::PacketFin, 0, Vec::new());
                }
                Ok(_) => {}
                Err(message) => {
                    self.send(PacketType::PacketErr, 0, message.clone().into_bytes());
                    return Err(failed(message));
                }
            }
        }
        if finished { Ok(()) } else { Err(failed("the client ended the transfer early")) }
    }

    fn send(&self, kind: PacketType, id: u32, data: Vec<u8>) {
        // A client that is gone is noticed by the end of its packets.
        _ = self.requests.blocking_send(Packet { id, data, ..packet(kind) });
    }

    /// True: everything is here.
    fn take(&mut self, packet: Packet) -> Result<bool, String> {
        match kind(&packet) {
            Some(PacketType::PacketStat) => match packet.stat {
                None => self.listed = true,
                Some(_) if self.listed => return Err("unexpected file after the end of the list".into()),
                Some(stat) => {
                    let text = |e: std::io::Error| format!("{}: {}", stat.path, io_text(&e));
                    if self.writer.entry(self.number, &stat).map_err(text)? {
                        self.waiting.push_back(self.number);
                    }
                    self.number += 1;
                }
            },
            Some(PacketType::PacketData) => {
                let text = |e: std::io::Error| format!("transfer: {}", io_text(&e));
                if packet.data.is_empty() {
                    self.writer.close(packet.id).map_err(text)?;
                    self.running -= 1;
                } else {
                    self.writer.data(packet.id, &packet.data).map_err(text)?;
                }
            }
            Some(PacketType::PacketErr) => {
                return Err(format!("error from sender: {}", String::from_utf8_lossy(&packet.data)));
            }
            Some(PacketType::PacketFin) => {}
            Some(PacketType::PacketReq) | None => return Err("unexpected packet".into()),
        }
        while self.running < REQUESTS
            && let Some(id) = self.waiting.pop_front()
        {
            self.writer.request(id);
            self.running += 1;
            self.send(PacketType::PacketReq, id, Vec::new());
        }
        Ok(self.listed && self.running == 0 && self.waiting.is_empty())
    }
}

/// Writes chunks to the client, from a thread that may block.
pub(super) struct ChunkWriter(pub mpsc::Sender<filesync::BytesMessage>);

impl Write for ChunkWriter {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let message = filesync::BytesMessage { data: data.to_vec() };
        self.0.blocking_send(message).map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
