//! The ends of a stream that a connection carries, as tokio knows them. Used by both protocols; the queues between connection and ends
//! are short, so that whoever is slow slows the other side down instead of filling memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// Pieces of a stream that wait for their reader, and pieces of all streams that wait for the connection.
const WAITING: usize = 8;
/// client-go copies by 32 KiB; larger pieces only need more memory.
pub(crate) const PIECE: usize = 32 * 1024;

/// What a connection is to send.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Bytes of a stream.
    Data(u32, Bytes),
    /// A stream has no more bytes from us.
    End(u32),
    /// SPDY: a new stream is taken.
    Reply(u32),
    /// SPDY: a stream is refused or broken off, and why.
    Reset(u32, u32),
    /// SPDY: answer to a ping.
    Pong(u32),
    /// Nothing follows.
    Close,
}

/// A queue towards the connection.
pub(crate) fn outgoing() -> (mpsc::Sender<Outgoing>, mpsc::Receiver<Outgoing>) {
    mpsc::channel(WAITING)
}

/// The connection's end of an [`Input`].
#[derive(Debug)]
pub(crate) struct Inlet {
    pieces: mpsc::Sender<Bytes>,
    broken: Arc<AtomicBool>,
}

impl Inlet {
    /// Hands bytes to the reader; waits while it has enough. Bytes for a reader that is gone are dropped.
    pub(crate) async fn push(&self, bytes: Bytes) {
        if !bytes.is_empty() {
            let _ = self.pieces.send(bytes).await;
        }
    }

    /// A way to push without holding a lock on what holds the inlet.
    pub(crate) fn sender(&self) -> mpsc::Sender<Bytes> {
        self.pieces.clone()
    }

    /// The stream did not end but broke: its reader gets an error.
    pub(crate) fn break_off(self) {
        self.broken.store(true, Ordering::Release);
    }
}

/// An inlet and its reader.
pub(crate) fn input() -> (Inlet, Input) {
    let (sender, pieces) = mpsc::channel(WAITING);
    let broken = Arc::new(AtomicBool::new(false));
    (Inlet { pieces: sender, broken: broken.clone() }, Input { pieces, current: Bytes::new(), broken })
}

/// What the client sends on a stream.
#[derive(Debug)]
pub struct Input {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
    broken: Arc<AtomicBool>,
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(piece) => self.current = piece,
                None if self.broken.load(Ordering::Acquire) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..length]);
        self.current.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// What goes to the client on a stream. It ends with `shutdown`, not by being dropped.
#[derive(Debug)]
pub struct Output {
    stream: u32,
    queue: PollSender<Outgoing>,
}

impl Output {
    pub(crate) fn new(stream: u32, queue: mpsc::Sender<Outgoing>) -> Self {
        Self { stream, queue: PollSender::new(queue) }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        make: impl FnOnce(u32) -> Outgoing,
    ) -> Poll<io::Result<()>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.queue.poll_reserve(cx)).map_err(gone)?;
        Poll::Ready(self.queue.send_item(make(self.stream)).map_err(gone))
    }
}

impl AsyncWrite for Output {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let length = bytes.len().min(PIECE);
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(
            self.poll_send(cx, |stream| Outgoing::Data(stream, Bytes::copy_from_slice(&bytes[..length])))
        )?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx, Outgoing::End)
    }
}

/// Both directions of a stream.
#[derive(Debug)]
pub struct Duplex {
    /// From the client.
    pub input: Input,
    /// To the client.
    pub output: Output,
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_shutdown(cx)
    }
}
