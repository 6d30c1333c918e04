//! Bodies of requests and of answers. What comes in is read whole, up to a limit and within a time; what goes out is either there at once
//! or made piece by piece while the client takes it, so that neither a long list nor a slow reader holds much memory.

use bytes::{Bytes, BytesMut};
use drydock_apimachinery::Status;
use futures_util::stream::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The largest body that is read (`MaxRequestBodyBytes` of `pkg/server/config.go`).
pub const LARGEST_REQUEST: usize = 3 * 1024 * 1024;

/// A client that has not sent its body by then is given up.
const SLOWEST_REQUEST: Duration = Duration::from_secs(60);

/// Memory for short answers: its pieces come back once their answers are sent. What is of some kilobytes and lives so short a time costs
/// glibc's heap a few microseconds each.
const POOL: usize = 16 * 1024;

/// What is longer than this is not put there.
const LARGEST_POOLED: usize = POOL / 2;

thread_local! {
    static POOLED: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(POOL));
}

/// A copy of what is to be sent at once.
pub fn copied(content: &[u8]) -> Bytes {
    if content.len() > LARGEST_POOLED {
        return Bytes::copy_from_slice(content);
    }
    POOLED.with_borrow_mut(|pool| {
        if !pool.try_reclaim(content.len()) {
            // Those who have pieces of the old one keep it for as long.
            *pool = BytesMut::with_capacity(POOL);
        }
        pool.extend_from_slice(content);
        pool.split().freeze()
    })
}

/// A body that is there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body that comes piece by piece.
pub fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// The body of a request.
pub async fn read(body: Incoming) -> Result<Bytes, Status> {
    let whole = Limited::new(body, LARGEST_REQUEST).collect();
    match tokio::time::timeout(SLOWEST_REQUEST, whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Status::failure(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {LARGEST_REQUEST}"),
        )),
        Ok(Err(error)) => Err(Status::bad_request(format!("unable to read the body: {error}"))),
        Err(_) => Err(Status::failure(408, "Timeout", "the body of the request did not arrive in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_whole_and_their_own() {
        let pattern = |size: usize| -> Vec<u8> { (0..size).map(|at| (at * size) as u8).collect() };
        let mut kept = Vec::new();
        for size in [0, 1, 3000, LARGEST_POOLED, LARGEST_POOLED + 1, POOL, 5000, 5000, 5000, 5000, 7] {
            drop(copied(&pattern(size + 1)));
            kept.push((size, copied(&pattern(size))));
        }
        assert!(kept.iter().all(|(size, bytes)| *bytes == pattern(*size)));
        POOLED.with_borrow(|pool| assert!(pool.capacity() <= POOL));
    }
}
