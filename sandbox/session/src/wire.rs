//! Frames of the pipe between serve and a session process ([`drydock_protocol::pipe`]), read and written without
//! waiting for more than one.

use drydock_protocol::pipe::{BINARY, MAX_FRAME, Reply, TEXT};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HEAD: usize = 5;
/// A buffer that grew beyond this is given back once it is not needed.
const KEEP: usize = 16 * 1024;

/// Reads one frame into `payload` and returns its tag; `None` when the other side has closed. Reads not one byte
/// beyond the frame, so that the connection can be handed on afterwards.
pub async fn read(from: &mut (impl AsyncRead + Unpin), payload: &mut Vec<u8>) -> io::Result<Option<u8>> {
    let mut head = [0; HEAD];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let [tag, len @ ..] = head;
    let len = u32::from_be_bytes(len);
    if len > MAX_FRAME || (tag != TEXT && tag != BINARY) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "malformed frame"));
    }
    payload.clear();
    if payload.capacity() > KEEP {
        payload.shrink_to(KEEP);
    }
    payload.resize(usize::try_from(len).unwrap_or(0), 0);
    from.read_exact(payload).await?;
    Ok(Some(tag))
}

/// Reads a frame that must be text and hold a `T`.
pub async fn read_text<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut payload = Vec::new();
    match read(from, &mut payload).await? {
        None => Ok(None),
        Some(TEXT) => Ok(Some(serde_json::from_slice(&payload)?)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a text frame was expected")),
    }
}

/// Appends the head of a frame whose payload follows; [`end`] completes it.
pub fn begin(out: &mut Vec<u8>, tag: u8) -> usize {
    out.push(tag);
    out.extend([0; HEAD - 1]);
    out.len()
}

/// Completes the frame that [`begin`] returned `start` for.
pub fn end(out: &mut [u8], start: usize) {
    // Our own frames are far below 4 GiB.
    let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start - 4..start].copy_from_slice(&len.to_be_bytes());
}

/// Takes back a frame that was begun.
pub fn cancel(out: &mut Vec<u8>, start: usize) {
    out.truncate(start - HEAD);
}

/// Appends a text frame.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let start = begin(out, TEXT);
    out.extend_from_slice(text.as_bytes());
    end(out, start);
}

/// A message as JSON. The protocol's own types always have a text.
pub fn json(message: &impl Serialize) -> String {
    serde_json::to_string(message).unwrap_or_default()
}

/// Writes a message as one text frame.
pub async fn text(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let mut out = Vec::new();
    put_text(&mut out, &json(message));
    to.write_all(&out).await
}

/// Writes the answer to a request.
pub async fn reply(to: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    text(to, reply).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_survive_the_way_and_nothing_more_is_read() {
        let mut out = Vec::new();
        put_text(&mut out, "{}");
        let start = begin(&mut out, BINARY);
        out.extend([1, 2, 3]);
        end(&mut out, start);
        let start = begin(&mut out, BINARY);
        cancel(&mut out, start);
        out.extend(b"plain");
        let mut from = &out[..];
        let mut payload = Vec::new();
        assert_eq!(read(&mut from, &mut payload).await.unwrap(), Some(TEXT));
        assert_eq!(payload, b"{}");
        assert_eq!(read(&mut from, &mut payload).await.unwrap(), Some(BINARY));
        assert_eq!((payload.as_slice(), from), ([1, 2, 3].as_slice(), b"plain".as_slice()));
    }

    #[tokio::test]
    async fn a_malformed_frame_is_an_error() {
        let mut payload = Vec::new();
        assert!(read(&mut &[0, 0xff, 0xff, 0xff, 0xff][..], &mut payload).await.is_err());
        assert!(read(&mut &[7, 0, 0, 0, 0][..], &mut payload).await.is_err());
        assert!(read(&mut &[0, 0, 0, 0, 9, 1][..], &mut payload).await.is_err());
        assert_eq!(read(&mut &[][..], &mut payload).await.unwrap(), None);
    }
}
