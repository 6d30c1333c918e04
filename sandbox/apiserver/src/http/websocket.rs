//! Watches and logs for browsers: what would be the answer's body comes as messages of a WebSocket (RFC 6455; k8s.io/apiserver
//! `pkg/endpoints/handlers/watch.go` and k8s.io/apimachinery `pkg/util/httpstream/wsstream/stream.go`). Clients have nothing to say:
//! what they send is read, within bounds, for the end that it may be, and forgotten.

use super::body::Body;
use super::respond::Answer;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use ring::digest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What is hashed with a client's key (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client that sends a longer message is given up: it should send none.
const LONGEST_MESSAGE: u64 = 64 * 1024;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// What the messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Each line is a message.
    Lines,
    /// Each piece is a message.
    Pieces,
}

/// Whether a request asks for a WebSocket.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    has(CONNECTION, "upgrade")
        && has(UPGRADE, "websocket")
        && headers.contains_key(SEC_WEBSOCKET_KEY)
        && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version.as_bytes() == b"13")
}

/// The same answer as messages.
pub fn answer(headers: &HeaderMap, upgrade: OnUpgrade, plain: Answer, content: Content) -> Answer {
    let protocol = protocol(headers, content);
    let in_base64 = protocol == Some("base64.binary.k8s.io");
    let mut answer = Response::new(Body::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    let all = answer.headers_mut();
    all.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    all.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accepted) = HeaderValue::from_str(&accepted(key)) {
        all.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    }
    if let Some(name) = protocol.and_then(|name| HeaderValue::from_str(name).ok()) {
        all.insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => send(TokioIo::new(connection), plain.into_body(), content, in_base64).await,
            Err(error) => tracing::debug!(%error, "no WebSocket came of it"),
        }
    });
    answer
}

/// Of those that the client offers, one that fits; a token that is given as one (`authn`) is none.
fn protocol(headers: &HeaderMap, content: Content) -> Option<&str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut offered = values.flat_map(|value| value.split(',')).map(str::trim);
    match content {
        Content::Lines => offered.find(|name| !name.starts_with("base64url.bearer.")),
        Content::Pieces => offered.find(|name| matches!(*name, "binary.k8s.io" | "base64.binary.k8s.io")),
    }
}

/// What shows the client that its key was read.
fn accepted(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    BASE64_STANDARD.encode(hash.finish())
}

async fn send<S: AsyncRead + AsyncWrite>(connection: S, mut body: Body, content: Content, in_base64: bool) {
    let (reader, mut writer) = tokio::io::split(connection);
    let mut ended = std::pin::pin!(client_ends(reader));
    let mut unfinished = Vec::new();
    if content == Content::Pieces {
        // Browsers are shown at once that there is a connection.
        let opcode = if in_base64 { TEXT } else { BINARY };
        if writer.write_all(&frame(opcode, b"")).await.is_err() {
            return;
        }
    }
    loop {
        let next = tokio::select! {
            () = &mut ended => return,
            next = body.frame() => next,
        };
        let Some(Ok(next)) = next else { break };
        let Ok(piece) = next.into_data() else { continue };
        let frames = match content {
            Content::Lines => lines(&mut unfinished, &piece),
            Content::Pieces if in_base64 => frame(TEXT, BASE64_STANDARD.encode(&piece).as_bytes()),
            Content::Pieces => frame(BINARY, &piece),
        };
        let sent = tokio::select! {
            () = &mut ended => return,
            sent = writer.write_all(&frames) => sent,
        };
        if sent.is_err() {
            return;
        }
    }
    // 1000: all was said. If it does not arrive, the end of the connection says the same.
    let _told_or_gone = writer.write_all(&frame(CLOSE, &1000u16.to_be_bytes())).await;
    let _closed_or_gone = writer.shutdown().await;
}

/// Messages of whole lines; what is left over waits for its rest.
fn lines(unfinished: &mut Vec<u8>, piece: &Bytes) -> Vec<u8> {
    unfinished.extend_from_slice(piece);
    let end = unfinished.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let rest = unfinished.split_off(end);
    let whole = std::mem::replace(unfinished, rest);
    whole.split_inclusive(|byte| *byte == b'\n').flat_map(|line| frame(TEXT, line)).collect()
}

/// A message in one frame. Servers do not mask.
fn frame(opcode: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match content.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

/// Returns when the client goes, says that it goes, or says too much.
async fn client_ends(mut reader: impl AsyncRead + Unpin) {
    let mut head = [0u8; 2];
    while reader.read_exact(&mut head).await.is_ok() {
        let length = match head[1] & 0x7f {
            126 => reader.read_u16().await.map(u64::from),
            127 => reader.read_u64().await,
            short => Ok(u64::from(short)),
        };
        let mask = if head[1] & 0x80 != 0 { 4 } else { 0 };
        let Ok(length) = length else { return };
        if head[0] & 0x0f == CLOSE || length > LONGEST_MESSAGE {
            return;
        }
        let skipped = tokio::io::copy(&mut (&mut reader).take(length + mask), &mut tokio::io::sink()).await;
        if !skipped.is_ok_and(|skipped| skipped == length + mask) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body;

    #[test]
    fn a_key_is_answered_as_the_rfc_says() {
        assert_eq!(accepted(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_tell_their_length() {
        assert_eq!(frame(TEXT, b"Hello"), b"\x81\x05Hello");
        assert_eq!(frame(BINARY, &[7; 256])[..4], [0x82, 126, 1, 0]);
        assert_eq!(frame(BINARY, &[7; 65536])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn each_line_is_a_message() {
        let mut unfinished = Vec::new();
        assert_eq!(
            lines(&mut unfinished, &Bytes::from_static(b"{1}\n{2}\n{")),
            b"\x81\x04{1}\n\x81\x04{2}\n"
        );
        assert_eq!(lines(&mut unfinished, &Bytes::from_static(b"3}")), b"");
        assert_eq!(lines(&mut unfinished, &Bytes::from_static(b"\n")), b"\x81\x04{3}\n");
    }

    #[tokio::test]
    async fn a_body_becomes_messages_and_an_end() {
        let (mut client, server) = tokio::io::duplex(1024);
        tokio::spawn(send(server, body::full("log"), Content::Pieces, false));
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.expect("it ends");
        assert_eq!(all, b"\x82\x00\x82\x03log\x88\x02\x03\xe8");
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_it() {
        let (mut client, server) = tokio::io::duplex(1024);
        let endless = body::stream(futures_util::stream::pending());
        let sending = tokio::spawn(send(server, endless, Content::Lines, false));
        // A ping, which is skipped, and a close.
        client.write_all(b"\x89\x81\x00\x00\x00\x00x\x88\x80\x00\x00\x00\x00").await.expect("it reads");
        sending.await.expect("it ended");
    }
}
