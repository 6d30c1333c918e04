//! Connections that stop speaking HTTP: `attach` and `exec` talk to a process over them. A client that asks for an upgrade
//! gets `101 UPGRADED` and then the bare connection; another gets `200` and the same bytes as the body of the answer, with
//! the body of its request as input.
//!
//! Half-close counts: a read of 0 is the end of the client's input, and output goes on after it.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use drydock_runtime::outq;
use futures_util::TryStreamExt;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::UnixStream;
use tokio_util::io::{ReaderStream, StreamReader};

/// Bytes on their way to a client that could not be upgraded.
const BUFFER: usize = 64 << 10;
/// How often it is asked at once whether a client has read the head of its answer, and how often and after how long then.
const HEAD_TURNS: usize = 32;
const HEAD_PAUSES: usize = 200;
const HEAD_PAUSE: Duration = Duration::from_millis(1);

/// What flows from the process to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Bytes as they are: a terminal.
    Raw,
    /// Frames that tell output from error output.
    Multiplexed,
}

impl Form {
    /// The `Content-Type` that tells it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Raw => "application/vnd.docker.raw-stream",
            Self::Multiplexed => "application/vnd.docker.multiplexed-stream",
        }
    }
}

/// Input of a client that was not upgraded.
type Input = Pin<Box<dyn AsyncRead + Send>>;

/// A connection that is not there before the answer has been sent.
pub enum Pending {
    /// Comes with the upgrade.
    Upgrade(OnUpgrade),
    /// Is there at once.
    Body(Connection),
}

impl Pending {
    /// Waits until the answer is sent. Call it in a task of its own: the answer goes out when the handler returns.
    pub async fn open(self) -> io::Result<Connection> {
        match self {
            Self::Upgrade(upgrade) => {
                let upgraded = upgrade.await.map_err(io::Error::other)?;
                match upgraded.downcast::<TokioIo<UnixStream>>() {
                    Ok(parts) => {
                        let stream = parts.io.into_inner();
                        head_read(&stream).await;
                        Ok(Connection::Bare(parts.read_buf, stream))
                    }
                    Err(other) => Ok(Connection::Upgraded(TokioIo::new(other))),
                }
            }
            Self::Body(connection) => Ok(connection),
        }
    }
}

/// Waits until the client has read the head of the answer, or some time. There are clients that read it through a buffer and then
/// take the socket from under it (docker-py): output that has come by then is in the buffer, and lost. With dockerd there is always some
/// time between the two.
async fn head_read(stream: &UnixStream) {
    let waits = || outq::unread(stream.as_fd()).is_ok_and(|bytes| bytes > 0);
    for _ in 0..HEAD_TURNS {
        if !waits() {
            return;
        }
        tokio::task::yield_now().await;
    }
    for _ in 0..HEAD_PAUSES {
        if !waits() {
            return;
        }
        // No event tells it.
        tokio::time::sleep(HEAD_PAUSE).await;
    }
}

/// Both directions between a client and a process.
pub enum Connection {
    /// The bare connection, and what of the client's input had been read with its request.
    Bare(Bytes, UnixStream),
    /// The same, of a kind that is not looked into.
    Upgraded(TokioIo<Upgraded>),
    /// The bodies of request and answer.
    Bodies(Input, DuplexStream),
}

/// Answers a request with the bare connection for another protocol; `None` if the client has not asked for one.
pub fn upgrade(parts: &mut Parts, protocol: &'static str) -> Option<(Response, Pending)> {
    let asked = parts.headers.contains_key(header::UPGRADE);
    let upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| asked)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    Some((response, Pending::Upgrade(upgrade)))
}

/// Answers a request with a connection. `body` is the request's, if it was not read as something else.
pub fn hijack(parts: &mut Parts, body: Body, form: Form) -> (Response, Pending) {
    let asked = parts.headers.contains_key(header::UPGRADE);
    if let Some(upgrade) = parts.extensions.remove::<OnUpgrade>().filter(|_| asked) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
        return (response, Pending::Upgrade(upgrade));
    }
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let mut response = Response::new(Body::from_stream(ReaderStream::new(theirs)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    let input = body.into_data_stream().map_err(io::Error::other);
    let input = StreamReader::<_, Bytes>::new(Box::pin(input));
    (response, Pending::Body(Connection::Bodies(Box::pin(input), ours)))
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(early, _) if !early.is_empty() => {
                buffer.put_slice(&early.split_to(early.len().min(buffer.remaining())));
                Poll::Ready(Ok(()))
            }
            Self::Bare(_, io) => Pin::new(io).poll_read(context, buffer),
            Self::Upgraded(io) => Pin::new(io).poll_read(context, buffer),
            Self::Bodies(input, _) => input.as_mut().poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Bare(_, io) => Pin::new(io).poll_write(context, bytes),
            Self::Upgraded(io) => Pin::new(io).poll_write(context, bytes),
            Self::Bodies(_, output) => Pin::new(output).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(_, io) => Pin::new(io).poll_flush(context),
            Self::Upgraded(io) => Pin::new(io).poll_flush(context),
            Self::Bodies(_, output) => Pin::new(output).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(_, io) => Pin::new(io).poll_shutdown(context),
            Self::Upgraded(io) => Pin::new(io).poll_shutdown(context),
            Self::Bodies(_, output) => Pin::new(output).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::accept;
    use axum::Router;
    use axum::extract::Request;
    use axum::routing::post;
    use std::path::PathBuf;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// Answers with what it was given, but only after the end of it.
    async fn echo(request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        let (response, pending) = hijack(&mut parts, body, Form::Multiplexed);
        tokio::spawn(async move {
            let mut connection = pending.open().await.unwrap();
            let mut given = vec![];
            connection.read_to_end(&mut given).await.unwrap();
            connection.write_all(&given).await.unwrap();
            connection.shutdown().await.unwrap();
        });
        response
    }

    fn serve(dir: &std::path::Path) -> PathBuf {
        let socket = dir.join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(accept(listener, Router::new().route("/attach", post(echo))));
        socket
    }

    async fn talk(socket: &std::path::Path, head: &str, input: &[u8]) -> String {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 1024];
        let mut all = vec![];
        if head.contains("Upgrade") {
            // The client speaks only when it was upgraded, and ends its input while it still listens.
            let read = stream.read(&mut answer).await.unwrap();
            all.extend_from_slice(&answer[..read]);
            stream.write_all(input).await.unwrap();
            stream.shutdown().await.unwrap();
        } else {
            stream.write_all(input).await.unwrap();
        }
        stream.read_to_end(&mut all).await.unwrap();
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn an_upgraded_connection_is_bare_and_can_be_half_closed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = serve(dir.path());
        let head = "POST /v1.51/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        let answer = talk(&socket, head, b"some input").await;
        assert!(answer.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        for line in [
            "content-type: application/vnd.docker.multiplexed-stream",
            "connection: upgrade",
            "upgrade: tcp",
            "api-version: 1.51",
        ] {
            assert!(head.lines().any(|is| is == line), "{line} in {head}");
        }
        assert_eq!(body, "some input");
    }

    /// A process that has its output ready.
    async fn eager(request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        let (response, pending) = hijack(&mut parts, body, Form::Raw);
        tokio::spawn(async move {
            let mut connection = pending.open().await.unwrap();
            connection.write_all(b"output").await.unwrap();
            connection.shutdown().await.unwrap();
        });
        response
    }

    #[tokio::test]
    async fn output_does_not_come_before_the_head_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(accept(listener, Router::new().route("/attach", post(eager))));
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let head = b"POST /attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stream.readable().await.unwrap();
        // A client that is slow to read, and then reads all that there is.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        let mut answer = vec![0; 8192];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&answer[..read]));
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "output");
    }

    #[tokio::test]
    async fn without_an_upgrade_the_bodies_are_the_connection() {
        let dir = tempfile::tempdir().unwrap();
        let socket = serve(dir.path());
        let head = "POST /attach HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 5\r\n\r\n";
        let answer = talk(&socket, head, b"input").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n5\r\ninput\r\n0\r\n\r\n"), "{answer}");
    }
}
