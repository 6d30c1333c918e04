//! Bodies that are no JSON: tars that are made while they are sent, and tars that are read while they come. Making and reading
//! happen in threads that may block.

use super::json::Answer;
use crate::error::{Error, Result};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

/// Bytes on their way between the thread and the connection.
const BUFFER: usize = 128 << 10;
/// More is not read of a body that nobody wants.
const MAX_DRAINED: u64 = 4 << 30;

/// Answers with what `work` writes. If it fails before it has written anything, that is a refusal; later it breaks the connection,
/// so that nobody takes a half for the whole. A client that goes away fails the next write.
pub async fn produce(
    content_type: &'static str,
    work: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
) -> Answer {
    let (ours, mut theirs) = tokio::io::duplex(BUFFER);
    let task = tokio::task::spawn_blocking(move || {
        let mut out = SyncIoBridge::new(ours);
        work(&mut out)
    });
    let ended = |ended: std::result::Result<Result<()>, tokio::task::JoinError>| {
        ended.map_err(|error| Error::internal(error.to_string()))?
    };
    let mut first = BytesMut::new();
    let read = theirs.read_buf(&mut first).await;
    let body = if read.is_ok_and(|read| read > 0) {
        let last = stream::once(async move {
            match ended(task.await) {
                Ok(()) => Ok(Bytes::new()),
                Err(error) => Err(io::Error::other(error.message)),
            }
        });
        let first = stream::once(async move { Ok(first.freeze()) });
        Body::from_stream(first.chain(ReaderStream::new(theirs)).chain(last))
    } else {
        ended(task.await)?;
        Body::empty()
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// Reads a body in a thread that may block. A client that goes away in the middle is an error of the reader. To be called where a
/// runtime is.
pub fn reader(body: Body) -> impl Read + Send + 'static {
    let stream = TryStreamExt::map_err(body.into_data_stream(), io::Error::other);
    let reader: Pin<Box<dyn AsyncRead + Send>> = Box::pin(StreamReader::new(Box::pin(stream)));
    SyncIoBridge::new(reader)
}

/// Reads what is left of a body. A client that is still sending when its connection closes never reads the answer.
pub fn drain(from: &mut impl Read) {
    let _rest = io::copy(&mut from.take(MAX_DRAINED), &mut io::sink());
}

/// Longest silence of a client whose request nobody wants any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request's body, the rest of which is read when nobody wants it any more: an answer is heard only by a client that can send all it
/// has, and Docker's own client tells "broken pipe" where it can't.
#[derive(Debug)]
pub struct Drained<B: HttpBody<Data = Bytes> + Send + Unpin + 'static>(Option<B>);

impl<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> Drained<B> {
    /// Of a body that comes from a connection.
    pub fn new(body: B) -> Self {
        Self(Some(body))
    }
}

impl<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> HttpBody for Drained<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, B::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> Drop for Drained<B> {
    fn drop(&mut self) {
        let body = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(mut body), Ok(runtime)) = (body, Handle::try_current()) {
            runtime.spawn(async move {
                let mut read = 0;
                while let Ok(Some(Ok(frame))) = tokio::time::timeout(PATIENCE, body.frame()).await {
                    read += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if read > MAX_DRAINED {
                        return;
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn produced(work: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static) -> Answer {
        produce("application/x-tar", work).await
    }

    #[tokio::test]
    async fn what_is_written_is_the_body() {
        let large = vec![7_u8; BUFFER * 3 + 5];
        let copy = large.clone();
        let response =
            produced(move |out| out.write_all(&copy).map_err(|e| Error::internal(e.to_string()))).await;
        let response = response.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/x-tar");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), large);
        let nothing = produced(|_| Ok(())).await.unwrap();
        assert!(nothing.into_body().collect().await.unwrap().to_bytes().is_empty());
    }

    #[tokio::test]
    async fn failures_are_refusals_first_and_broken_bodies_later() {
        let early = produced(|_| Err(Error::not_found("No such image: x"))).await.unwrap_err();
        assert_eq!(early, Error::not_found("No such image: x"));
        let late = produced(|out| {
            out.write_all(b"half").map_err(|e| Error::internal(e.to_string()))?;
            Err(Error::internal("disk on fire"))
        });
        assert!(late.await.unwrap().into_body().collect().await.is_err());
    }

    #[tokio::test]
    async fn bodies_are_read_by_threads() {
        let mut reader = reader(Body::from("context"));
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(read.await.unwrap().unwrap(), "context");
    }
}
