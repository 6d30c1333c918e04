//! Connections to session processes: framing over their Unix sockets (`drydock_protocol::pipe`). Called by `sessions`,
//! the WebSocket handlers, file handlers and the port proxy. The other side lives with the learner and is not
//! trusted: lengths are bounded, waits for an answer have a deadline, and no answer is believed beyond its type.

use crate::error::sentence;
use bytes::{Buf, Bytes, BytesMut};
use drydock_protocol::{
    SessionId,
    pipe::{BINARY, Control, ErrorKind, MAX_FRAME, Open, Reply, TEXT},
};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// How long a session process may take to answer an ordinary question.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

const HEAD: usize = 5;

/// A session process cannot be reached, or said something that it must not.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// No connection.
    #[error("the session does not answer: {0}")]
    Connect(io::Error),
    /// It broke off.
    #[error("the connection to the session broke off: {0}")]
    Io(#[from] io::Error),
    /// It closed the connection before it had answered.
    #[error("the session closed the connection without an answer")]
    Closed,
    /// It took too long.
    #[error("the session did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Not our protocol.
    #[error("the session sent {0}")]
    Malformed(&'static str),
    /// It refused.
    #[error("{message}")]
    Refused {
        /// What kind of failure.
        kind: ErrorKind,
        /// In its words.
        message: String,
    },
}

impl From<PipeError> for crate::error::Error {
    fn from(e: PipeError) -> Self {
        match e {
            PipeError::Refused { kind, message } => Self::from_session(kind, message),
            PipeError::Timeout(_) => Self::new(
                axum::http::StatusCode::GATEWAY_TIMEOUT,
                "session_slow",
                sentence(&e.to_string()) + " It may be busy: try again, or end it and start a new one.",
            ),
            e => {
                tracing::warn!(error = %e, "session connection failed");
                Self::new(
                    axum::http::StatusCode::BAD_GATEWAY,
                    "session_unreachable",
                    sentence(&e.to_string())
                        + " Try again; if it stays so, end the session and start a new one.",
                )
            }
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// JSON.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
}

/// Where the sockets of the session processes are.
#[derive(Debug, Clone)]
pub struct Sockets(PathBuf);

impl Sockets {
    /// The directory `run/sessions`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// A session's socket.
    pub fn path(&self, id: &SessionId) -> PathBuf {
        self.0.join(format!("{id}.sock"))
    }

    /// Connects and says what for.
    pub async fn open(&self, id: &SessionId, open: &Open) -> Result<(FrameReader, FrameWriter), PipeError> {
        let stream = connect(&self.path(id)).await?;
        let (read, write) = stream.into_split();
        let mut writer = FrameWriter(write);
        writer.text(open).await?;
        Ok((FrameReader::new(read), writer))
    }

    /// Asks one question.
    pub async fn control(&self, id: &SessionId, request: Control) -> Result<Reply, PipeError> {
        let ask = async {
            let (mut reader, _writer) = self.open(id, &Open::Control { request }).await?;
            reader.reply().await
        };
        timeout(ANSWER_WITHIN, ask).await.map_err(|_| PipeError::Timeout(ANSWER_WITHIN))?
    }

    /// Connects to a TCP port of a node; after that the stream carries plain bytes.
    pub async fn tcp(&self, id: &SessionId, open: &Open) -> Result<UnixStream, PipeError> {
        const WITHIN: Duration = Duration::from_secs(10);
        let ask = async {
            let mut stream = connect(&self.path(id)).await?;
            stream.write_all(&encode_text(open)?).await?;
            // Nothing beyond the answer may be read here: what follows belongs to the TCP connection.
            let mut head = [0; HEAD];
            stream.read_exact(&mut head).await?;
            let (tag, len) = parse_head(&head)?;
            let mut payload = vec![0; len];
            stream.read_exact(&mut payload).await?;
            if tag != TEXT {
                return Err(PipeError::Malformed("data where an answer was due"));
            }
            check(decode_reply(&payload)?)?;
            Ok(stream)
        };
        timeout(WITHIN, ask).await.map_err(|_| PipeError::Timeout(WITHIN))?
    }
}

async fn connect(path: &Path) -> Result<UnixStream, PipeError> {
    UnixStream::connect(path).await.map_err(PipeError::Connect)
}

fn encode_text<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, PipeError> {
    let mut out = vec![TEXT, 0, 0, 0, 0];
    serde_json::to_writer(&mut out, value).map_err(io::Error::other)?;
    let len = u32::try_from(out.len() - HEAD).ok().filter(|n| *n <= MAX_FRAME);
    let len = len.ok_or(PipeError::Refused {
        kind: ErrorKind::Invalid,
        message: "The request is too large.".into(),
    })?;
    out[1..HEAD].copy_from_slice(&len.to_be_bytes());
    Ok(out)
}

fn parse_head(head: &[u8; HEAD]) -> Result<(u8, usize), PipeError> {
    let [tag, a, b, c, d] = *head;
    let len = u32::from_be_bytes([a, b, c, d]);
    match tag {
        TEXT | BINARY if len <= MAX_FRAME => Ok((tag, len as usize)),
        TEXT | BINARY => Err(PipeError::Malformed("a frame that is too long")),
        _ => Err(PipeError::Malformed("a frame of an unknown kind")),
    }
}

fn decode_reply(payload: &[u8]) -> Result<Reply, PipeError> {
    serde_json::from_slice(payload).map_err(|_| PipeError::Malformed("an answer that makes no sense"))
}

fn check(reply: Reply) -> Result<Reply, PipeError> {
    match reply {
        Reply::Error { kind, message } => Err(PipeError::Refused { kind, message }),
        reply => Ok(reply),
    }
}

/// Reads frames. Cancelling [`FrameReader::next`] loses nothing.
#[derive(Debug)]
pub struct FrameReader {
    from: OwnedReadHalf,
    buffer: BytesMut,
    was_reset: bool,
}

impl FrameReader {
    /// Reads from a session's connection.
    pub fn new(from: OwnedReadHalf) -> Self {
        Self { from, buffer: BytesMut::new(), was_reset: false }
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Result<Option<Frame>, PipeError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(64 * 1024);
            match self.from.read_buf(&mut self.buffer).await {
                Ok(0) => return if self.buffer.is_empty() { Ok(None) } else { Err(PipeError::Closed) },
                Ok(_) => {}
                // The other side closed without reading all that we sent. unix(7) tells that once, before what it had
                // still to say, such as why it closed.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset && !self.was_reset => {
                    self.was_reset = true
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// A frame that has already arrived whole.
    pub fn buffered(&mut self) -> Result<Option<Frame>, PipeError> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let (tag, len) = parse_head(head)?;
        if self.buffer.len() < HEAD + len {
            self.buffer.reserve(HEAD + len - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let payload = self.buffer.split_to(len).freeze();
        Ok(Some(if tag == TEXT { Frame::Text(payload) } else { Frame::Binary(payload) }))
    }

    /// The answer that must come next, errors among them as errors.
    pub async fn reply(&mut self) -> Result<Reply, PipeError> {
        match self.next().await? {
            Some(Frame::Text(text)) => check(decode_reply(&text)?),
            Some(Frame::Binary(_)) => Err(PipeError::Malformed("data where an answer was due")),
            None => Err(PipeError::Closed),
        }
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter(OwnedWriteHalf);

impl FrameWriter {
    /// Sends a value as JSON.
    pub async fn text<T: serde::Serialize>(&mut self, value: &T) -> Result<(), PipeError> {
        Ok(self.0.write_all(&encode_text(value)?).await?)
    }

    /// Sends one frame of at most [`MAX_FRAME`] bytes.
    pub async fn frame(&mut self, tag: u8, payload: &[u8]) -> Result<(), PipeError> {
        let len = u32::try_from(payload.len()).ok().filter(|n| *n <= MAX_FRAME);
        let len = len.ok_or(PipeError::Malformed("nothing, because the message was too long"))?;
        let [a, b, c, d] = len.to_be_bytes();
        let head = [tag, a, b, c, d];
        let mut both = Buf::chain(&head[..], payload);
        Ok(self.0.write_all_buf(&mut both).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reader_of(bytes: &[u8]) -> FrameReader {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(bytes).await.unwrap();
        drop(a);
        FrameReader::new(b.into_split().0)
    }

    #[tokio::test]
    async fn frames_are_cut_where_they_end() {
        let mut r = reader_of(&[0, 0, 0, 0, 2, b'{', b'}', 1, 0, 0, 0, 1, 9]).await;
        assert_eq!(r.next().await.unwrap(), Some(Frame::Text(Bytes::from_static(b"{}"))));
        assert_eq!(r.next().await.unwrap(), Some(Frame::Binary(Bytes::from_static(&[9]))));
        assert_eq!(r.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn last_words_are_heard_although_we_were_not() {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        b.write_all(b"never read").await.unwrap();
        a.write_all(&[0, 0, 0, 0, 2, b'{', b'}']).await.unwrap();
        drop(a);
        let mut r = FrameReader::new(b.into_split().0);
        assert_eq!(r.next().await.unwrap(), Some(Frame::Text(Bytes::from_static(b"{}"))));
        assert_eq!(r.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_hostile_length_or_tag_is_refused() {
        for bad in [&[1u8, 0xff, 0xff, 0xff, 0xff][..], &[7, 0, 0, 0, 0], &[1, 0, 0x10, 0, 1]] {
            assert!(matches!(reader_of(bad).await.next().await, Err(PipeError::Malformed(_))), "{bad:?}");
        }
        assert!(matches!(reader_of(&[1, 0, 0]).await.next().await, Err(PipeError::Closed)));
    }
}
