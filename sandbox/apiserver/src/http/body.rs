//! Bodies of requests and of answers. What comes in is read whole, up to a limit and within a time; what goes out is either there at once
//! or made piece by piece while the client takes it, so that neither a long list nor a slow reader holds much memory.

use bytes::Bytes;
use drydock_apimachinery::Status;
use futures_util::stream::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use std::convert::Infallible;
use std::time::Duration;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The largest body that is read (`MaxRequestBodyBytes` of `pkg/server/config.go`).
pub const LARGEST_REQUEST: usize = 3 * 1024 * 1024;

/// A client that has not sent its body by then is given up.
const SLOWEST_REQUEST: Duration = Duration::from_secs(60);

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
