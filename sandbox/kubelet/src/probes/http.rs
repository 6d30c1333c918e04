//! HTTP probes and hooks (`pkg/probe/http`): any status from 200 to 399 is good; certificates are not looked at.

use super::Outcome;
use bytes::Bytes;
use drydock_insecure_tls::any_server;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{self, crypto::ring, pki_types::ServerName},
};

/// Longest body that is read (`maxRespBodyLength`).
const MAX_BODY: usize = 10 << 10;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// By TLS.
    pub tls: bool,
    /// Whom.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// For what.
    pub path: String,
    /// With which headers.
    pub headers: Vec<(String, String)>,
}

impl Target {
    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Probes.
pub(super) async fn probe(target: &Target, timeout: Duration) -> Outcome {
    let url = target.url();
    match tokio::time::timeout(timeout, get(target)).await {
        Ok(Ok(status)) if (200..400).contains(&status) => Outcome::Good,
        Ok(Ok(status)) => Outcome::Bad(format!("HTTP probe failed with statuscode: {status}")),
        Ok(Err(why)) => Outcome::Bad(format!("Get \"{url}\": {why}")),
        Err(_) => Outcome::Bad(format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

/// Asks, and returns the status.
pub async fn get(target: &Target) -> Result<u16, String> {
    let Target { host, port, .. } = target;
    let tcp = TcpStream::connect((host.as_str(), *port)).await;
    let tcp = tcp.map_err(|e| format!("dial tcp {host}:{port}: connect: {}", words(&e)))?;
    if !target.tls {
        return ask(target, tcp).await;
    }
    let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
    let tls = TlsConnector::from(anybody()?).connect(name, tcp).await;
    ask(target, tls.map_err(|e| e.to_string())?).await
}

async fn ask<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>(
    target: &Target,
    stream: S,
) -> Result<u16, String> {
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::get(&target.path);
    let given = |name: &str| target.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let host = format!("{}:{}", target.host, target.port);
    for (name, value) in [
        ("host", host.as_str()),
        ("user-agent", "kube-probe/1.35"),
        ("accept", "*/*"),
        ("connection", "close"),
    ] {
        if !given(name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in target.headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(name, value);
    }
    let request = request.body(Empty::new()).map_err(|e| e.to_string())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| if e.is_incomplete_message() { "EOF".into() } else { e.to_string() })?;
    let status = response.status().as_u16();
    drain(response.into_body()).await;
    Ok(status)
}

/// Reads a body that is not wanted, so that its sender sees no broken connection.
async fn drain(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_BODY {
            return;
        }
    }
}

/// An error as Go says it.
pub fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        io::ErrorKind::TimedOut => "connection timed out".into(),
        _ => error.to_string(),
    }
}

/// TLS with whoever answers (the kubelet's probes set `InsecureSkipVerify`).
///
/// One configuration for all, so that a server that is asked every second need not prove itself each time (session tickets).
fn anybody() -> Result<Arc<rustls::ClientConfig>, String> {
    static SHARED: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    if let Some(config) = SHARED.get() {
        return Ok(config.clone());
    }
    let provider = Arc::new(ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?;
    let verifier = any_server(provider);
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(SHARED.get_or_init(|| Arc::new(config)).clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn probe_of(answer: &'static str) -> (Outcome, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let length = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        let headers = vec![("X-A".to_owned(), "b".to_owned())];
        let target =
            Target { tls: false, host: "127.0.0.1".into(), port, path: "/healthz?x=1".into(), headers };
        let outcome = probe(&target, Duration::from_secs(5)).await;
        (outcome, server.await.unwrap())
    }

    #[tokio::test]
    async fn the_status_decides() {
        let (outcome, asked) =
            probe_of("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(outcome, Outcome::Good);
        assert!(
            asked.starts_with("GET /healthz?x=1 HTTP/1.1\r\n")
                && asked.contains("user-agent: kube-probe/1.35")
        );
        assert!(asked.contains("x-a: b"), "{asked}");
        let (outcome, _) = probe_of("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(outcome, Outcome::Bad("HTTP probe failed with statuscode: 500".into()));
    }
}
