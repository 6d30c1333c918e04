//! gRPC probes: `grpc.health.v1.Health/Check` (`pkg/probe/grpc`), by hand, since it is one message with one field each way.

use super::Outcome;
use crate::text;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest answer.
const MAX_ANSWER: usize = 4096;
/// `HealthCheckResponse.ServingStatus`.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Probes.
pub(super) async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let late = || {
        let within = text::duration(timeout);
        Outcome::Bad(format!(
            "timeout: failed to connect service \"{host}:{port}\" within {within}: context deadline exceeded"
        ))
    };
    match tokio::time::timeout(timeout, check(host, port, service)).await {
        Ok(Ok(1)) => Outcome::Good,
        Ok(Ok(state)) => {
            let name = STATES.get(state).copied().unwrap_or("UNKNOWN");
            Outcome::Bad(format!("service unhealthy (responded with \"{name}\")"))
        }
        Ok(Err(Some(why))) => Outcome::Bad(why),
        Ok(Err(None)) | Err(_) => late(),
    }
}

/// The state that it tells. Errors: nobody is there, or its words.
async fn check(host: &str, port: u16, service: &str) -> Result<usize, Option<String>> {
    let tcp = TcpStream::connect((host, port)).await.map_err(|_| None)?;
    let shake = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await;
    let (mut sender, connection) = shake.map_err(|_| None)?;
    tokio::spawn(async move { drop(connection.await) });
    let said = |e: String| Some(format!("error: health rpc probe failed: {e}"));
    let request = Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.35")
        .body(Full::new(message(service)))
        .map_err(|e| said(e.to_string()))?;
    let response = sender.send_request(request).await.map_err(|e| said(e.to_string()))?;
    let of_head = response.headers().get("grpc-status").cloned();
    let body =
        Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| said(e.to_string()))?;
    let status = body.trailers().and_then(|t| t.get("grpc-status")).cloned().or(of_head);
    match status.as_ref().and_then(|s| s.to_str().ok()) {
        Some("0") => Ok(state(&body.to_bytes())),
        // NOT_FOUND: it knows no such service.
        Some("5") => Ok(3),
        Some("12") => Err(Some(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into(),
        )),
        other => Err(said(format!("rpc error: code = {}", other.unwrap_or("Unknown")))),
    }
}

/// `HealthCheckRequest { string service = 1; }` with gRPC's head of five bytes.
fn message(service: &str) -> Bytes {
    let service = &service.as_bytes()[..service.len().min(120)];
    let mut body = Vec::new();
    if !service.is_empty() {
        body.push(0x0a);
        body.push(service.len() as u8);
        body.extend_from_slice(service);
    }
    let mut framed = vec![0, 0, 0, 0, body.len() as u8];
    framed.extend(body);
    framed.into()
}

/// `HealthCheckResponse { ServingStatus status = 1; }`.
fn state(answer: &[u8]) -> usize {
    match answer.get(5..) {
        Some([0x08, state, ..]) => usize::from(*state),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_protobuf() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(state(&[0, 0, 0, 0, 2, 8, 1]), 1);
        assert_eq!(state(&[0, 0, 0, 0, 0]), 0);
    }
}
