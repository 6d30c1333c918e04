//! Errors as BuildKit's clients expect them: a gRPC status whose message is BuildKit's, with the lines of the Dockerfile in question
//! as a detail, which the client prints as an excerpt.

use crate::proto::{Any, rpc};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drydock_dockerfile::build::{BuildError, ErrorKind};
use prost::Message;
use serde_json::json;
use std::ops::RangeInclusive;
use std::sync::Arc;
use tonic::{Code, Status};

/// Type of the detail (github.com/moby/buildkit/solver/errdefs registers its messages as JSON).
const SOURCE_TYPE: &str = "github.com/moby/buildkit/errdefs.Source+json";
/// Bytes of a message and its details; they travel in HTTP/2 trailers, which clients limit.
const MAX_MESSAGE: usize = 16 << 10;
/// Bytes of a Dockerfile that are sent along.
const MAX_SOURCE: usize = 64 << 10;

/// The Dockerfile of a build, for excerpts.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name as the client gave it.
    pub name: String,
    /// Its text.
    pub data: Arc<[u8]>,
}

/// A failed solve: code unknown, so that clients show nothing but the message.
pub fn failed(message: impl Into<String>) -> Status {
    let mut message = message.into();
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
    }
    Status::unknown(message)
}

/// The client gave up.
pub fn cancelled() -> Status {
    Status::cancelled("context canceled")
}

/// A failed build, with the lines in question.
pub fn of_build(error: &BuildError, source: &Source) -> Status {
    if error.kind == ErrorKind::Cancelled {
        return cancelled();
    }
    let status = failed(error.message.clone());
    match &error.lines {
        Some(lines) => with_lines(&status, source, lines),
        None => status,
    }
}

fn with_lines(status: &Status, source: &Source, lines: &RangeInclusive<usize>) -> Status {
    // The whole file travels, because the client counts its lines; an excerpt of a huge one is not worth it.
    if source.data.len() > MAX_SOURCE {
        return status.clone();
    }
    let value = json!({
        "info": { "filename": source.name, "data": STANDARD.encode(&source.data), "language": "Dockerfile" },
        "ranges": [{ "start": { "line": lines.start() }, "end": { "line": lines.end() } }],
    });
    let detail = Any { type_url: SOURCE_TYPE.into(), value: value.to_string().into_bytes() };
    let message = status.message().to_owned();
    let details = rpc::Status { code: status.code() as i32, message: message.clone(), details: vec![detail] };
    Status::with_details(status.code(), message, details.encode_to_vec().into())
}

/// An error that a client returned through the gateway, as the answer to its own request.
pub fn of_rpc(error: &rpc::Status) -> Status {
    let code = Code::from(error.code);
    // A client can't make its request succeed by failing.
    let code = if code == Code::Ok { Code::Unknown } else { code };
    let details = error.encode_to_vec();
    Status::with_details(code, error.message.clone(), details.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_travel_as_a_detail() {
        let error = BuildError {
            message: "process \"/bin/sh -c false\" did not complete successfully: exit code: 1".into(),
            code: Some(1),
            lines: Some(2..=3),
            kind: ErrorKind::Failed,
        };
        let source = Source { name: "Dockerfile".into(), data: b"FROM x\nRUN false".as_slice().into() };
        let status = of_build(&error, &source);
        assert_eq!((status.code(), status.message()), (Code::Unknown, error.message.as_str()));
        let details = rpc::Status::decode(status.details()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&details.details[0].value).unwrap();
        assert_eq!(value["ranges"][0]["end"]["line"], 3);
        assert_eq!(value["info"]["data"], "RlJPTSB4ClJVTiBmYWxzZQ==");
        assert_eq!(of_rpc(&details).message(), error.message);
    }

    #[test]
    fn a_client_cannot_return_an_error_that_is_none() {
        assert_eq!(of_rpc(&rpc::Status::default()).code(), Code::Unknown);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let message = "ä".repeat(MAX_MESSAGE);
        assert!(failed(message).message().len() <= MAX_MESSAGE);
    }
}
