//! SPDY/3.1, the server's side, as far as moby/spdystream speaks it (which is what kubectl and client-go use): streams that the client
//! opens, no flow control (spdystream has none: its peers never wait for WINDOW_UPDATE), headers compressed with the protocol's
//! dictionary. Serves remote commands and port forwarding. Draft: draft-mbelshe-httpbis-spdy-00, section 2.

pub(crate) mod frame;
pub(crate) mod headers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};

use crate::pipe::{self, Duplex, Inlet, Outgoing, Output, PIECE};
use crate::websocket::Connection as Transport;
use frame::{Control, FLAG_FIN, FLAG_UNIDIRECTIONAL, FrameError, Head};
use headers::Headers;

/// As many streams may be open at a time; a port-forward has two for each of its connections.
const MAX_STREAMS: usize = 1024;
/// RST_STREAM: why (section 2.6.3).
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const REFUSED_STREAM: u32 = 3;
/// How long a client that was told of the end may take to close.
const FAREWELL: Duration = Duration::from_secs(2);

/// A stream that the client has opened.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) data: Duplex,
}

impl Stream {
    /// A header's value; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Tells the client that the stream is taken.
    pub(crate) async fn take(&self, queue: &mpsc::Sender<Outgoing>) {
        let _ = queue.send(Outgoing::Reply(self.id)).await;
    }

    /// Tells the client that the stream is not taken.
    pub(crate) async fn refuse(&self, queue: &mpsc::Sender<Outgoing>) {
        let _ = queue.send(Outgoing::Reset(self.id, REFUSED_STREAM)).await;
    }
}

/// A SPDY connection that a task serves. It ends when the client closes it, or when this and everything made of it is gone.
pub(crate) struct Connection {
    streams: mpsc::Receiver<Stream>,
    pub(crate) queue: mpsc::Sender<Outgoing>,
    /// Its other end goes with the connection.
    pub(crate) alive: watch::Receiver<()>,
}

impl Connection {
    /// The next stream that the client opens; none: the client is gone.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

/// Serves a connection in a task of its own.
pub(crate) fn serve<S: Transport>(transport: S) -> Connection {
    let (queue, outgoing) = pipe::outgoing();
    let (opened, streams) = mpsc::channel(16);
    let (alive, connection) = watch::channel(());
    let table = Table::default();
    let reader =
        Reader { queue: queue.downgrade(), opened, table: table.clone(), headers: Headers::new(), last: 0 };
    tokio::spawn(async move {
        let (source, sink) = tokio::io::split(transport);
        let reading = reader.run(source);
        let writing = write(sink, outgoing, table);
        tokio::pin!(reading, writing);
        tokio::select! {
            result = &mut reading => if let Err(error) = result {
                tracing::debug!(%error, "SPDY connection ended");
            },
            _ = &mut writing => {
                let _ = tokio::time::timeout(FAREWELL, reading).await;
            }
        }
        drop(alive);
    });
    Connection { streams, queue, alive: connection }
}

/// The open streams of a connection.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<u32, Halves>>>);

/// Which directions of a stream are open.
struct Halves {
    inlet: Option<Inlet>,
    ours: bool,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Halves>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has no more bytes.
    fn end_theirs(&self, id: u32) {
        let mut streams = self.lock();
        if let Some(stream) = streams.get_mut(&id) {
            stream.inlet = None;
            if !stream.ours {
                streams.remove(&id);
            }
        }
    }

    /// We have no more bytes; false if that was so already.
    fn end_ours(&self, id: u32) -> bool {
        let mut streams = self.lock();
        let Some(stream) = streams.get_mut(&id) else { return false };
        let was_open = std::mem::replace(&mut stream.ours, false);
        if stream.inlet.is_none() {
            streams.remove(&id);
        }
        was_open
    }

    fn is_ours_open(&self, id: u32) -> bool {
        self.lock().get(&id).is_some_and(|stream| stream.ours)
    }

    fn break_off(&self, id: u32) {
        if let Some(inlet) = self.lock().remove(&id).and_then(|stream| stream.inlet) {
            inlet.break_off();
        }
    }

    fn sender(&self, id: u32) -> Option<mpsc::Sender<Bytes>> {
        self.lock().get(&id)?.inlet.as_ref().map(Inlet::sender)
    }
}

struct Reader {
    /// Weak, so that the connection ends when nobody else wants to send.
    queue: mpsc::WeakSender<Outgoing>,
    opened: mpsc::Sender<Stream>,
    table: Table,
    headers: Headers,
    /// The highest stream that the client has opened.
    last: u32,
}

impl Reader {
    async fn run<S: Transport>(mut self, mut source: ReadHalf<S>) -> Result<(), FrameError> {
        let result = self.frames(&mut source).await;
        // Streams that are open now have not ended: their readers must not take it for an end.
        let streams = std::mem::take(&mut *self.table.lock());
        for inlet in streams.into_values().filter_map(|stream| stream.inlet) {
            inlet.break_off();
        }
        result
    }

    async fn frames<S: Transport>(&mut self, source: &mut ReadHalf<S>) -> Result<(), FrameError> {
        while let Some(head) = frame::read_head(source).await? {
            match head {
                Head::Data { stream, flags, length } => self.data(source, stream, flags, length).await?,
                Head::Control { kind, flags, length } => {
                    let payload = frame::read_payload(source, length).await?;
                    self.control(frame::parse(kind, flags, &payload)?).await?;
                }
            }
        }
        Ok(())
    }

    async fn data<S: Transport>(
        &mut self,
        source: &mut ReadHalf<S>,
        id: u32,
        flags: u8,
        length: usize,
    ) -> Result<(), FrameError> {
        // Bytes of a stream that is gone are read and dropped: they may have been on their way.
        let sender = self.table.sender(id);
        let mut left = length;
        while left > 0 {
            let mut piece = vec![0; left.min(PIECE)];
            source.read_exact(&mut piece).await?;
            left -= piece.len();
            if let Some(sender) = &sender {
                let _ = sender.send(Bytes::from(piece)).await;
            }
        }
        if flags & FLAG_FIN != 0 {
            self.table.end_theirs(id);
        }
        Ok(())
    }

    async fn control(&mut self, control: Control<'_>) -> Result<(), FrameError> {
        match control {
            Control::SynStream { stream, flags, block } => self.open(stream, flags, block).await?,
            Control::Headers { stream, flags, block } => {
                // Nobody reads them, but the decompressor must have seen them.
                self.headers.read(block)?;
                if flags & FLAG_FIN != 0 {
                    self.table.end_theirs(stream);
                }
            }
            Control::SynReply { block } => {
                self.headers.read(block)?;
            }
            Control::RstStream { stream } => self.table.break_off(stream),
            // Even numbers are answers to pings of ours, and we send none.
            Control::Ping { id } if !id.is_multiple_of(2) => self.send(Outgoing::Pong(id)).await,
            Control::Ping { .. } | Control::Ignored => {}
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, flags: u8, block: &[u8]) -> Result<(), FrameError> {
        let headers = self.headers.read(block)?;
        if id.is_multiple_of(2) || id <= self.last {
            self.send(Outgoing::Reset(id, PROTOCOL_ERROR)).await;
            return Ok(());
        }
        self.last = id;
        if self.table.lock().len() >= MAX_STREAMS {
            self.send(Outgoing::Reset(id, REFUSED_STREAM)).await;
            return Ok(());
        }
        let Some(queue) = self.queue.upgrade() else { return Ok(()) };
        let (inlet, input) = pipe::input();
        let halves = Halves {
            inlet: (flags & FLAG_FIN == 0).then_some(inlet),
            ours: flags & FLAG_UNIDIRECTIONAL == 0,
        };
        self.table.lock().insert(id, halves);
        let stream = Stream { id, headers, data: Duplex { input, output: Output::new(id, queue) } };
        if self.opened.send(stream).await.is_err() {
            self.table.lock().remove(&id);
            self.send(Outgoing::Reset(id, REFUSED_STREAM)).await;
        }
        Ok(())
    }

    async fn send(&self, item: Outgoing) {
        if let Some(queue) = self.queue.upgrade() {
            let _ = queue.send(item).await;
        }
    }
}

async fn write<S: Transport>(
    mut sink: WriteHalf<S>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    table: Table,
) -> std::io::Result<()> {
    let mut first = true;
    while let Some(item) = outgoing.recv().await {
        let bytes = match item {
            Outgoing::Data(id, bytes) if !bytes.is_empty() && table.is_ours_open(id) => {
                frame::data(id, 0, &bytes)
            }
            Outgoing::End(id) if table.end_ours(id) => frame::data(id, FLAG_FIN, &[]),
            Outgoing::Data(..) | Outgoing::End(_) => continue,
            Outgoing::Reply(id) => frame::syn_reply(id, headers::empty_block(std::mem::take(&mut first))),
            Outgoing::Reset(id, status) => {
                table.lock().remove(&id);
                frame::rst_stream(id, status)
            }
            Outgoing::Pong(id) => frame::ping(id),
            Outgoing::Close => break,
        };
        sink.write_all(&bytes).await?;
        sink.flush().await?;
    }
    sink.write_all(&frame::go_away()).await?;
    sink.shutdown().await
}
