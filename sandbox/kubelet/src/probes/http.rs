//! HTTP probes and hooks (`pkg/probe/http`): any status from 200 to 399 is good; certificates are not looked at. Redirections on the same
//! host are followed; one that leads elsewhere is as good, but told.

use super::Outcome;
use bytes::Bytes;
use drydock_insecure_tls::any_server;
use http_body_util::{BodyExt, Empty};
use hyper::header::LOCATION;
use hyper::{Request, Response, body::Incoming, client::conn::http1};
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
use url::Url;

/// Longest body that is read (`maxRespBodyLength`).
const MAX_BODY: usize = 10 << 10;

/// So many redirections are followed (`defaultCheckRedirect` of Go's client).
const MAX_REDIRECTIONS: usize = 10;

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

    /// Where a redirection leads, if it is one that is followed: on the same host.
    fn redirected(&self, status: u16, location: Option<&str>) -> Option<Self> {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let here = Url::parse(&self.url()).ok()?;
        let there = here.join(location?).ok()?;
        let tls = match there.scheme() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        if there.host_str() != here.host_str() {
            return None;
        }
        let path = match there.query() {
            Some(query) => format!("{}?{query}", there.path()),
            None => there.path().to_string(),
        };
        Some(Self { tls, port: there.port_or_known_default()?, path, ..self.clone() })
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The beginning of the body.
    body: String,
}

/// Why nothing was.
#[derive(Debug)]
pub struct Failure {
    /// What was asked for.
    url: String,
    /// What happened.
    pub why: String,
}

/// Probes.
pub(super) async fn probe(target: &Target, timeout: Duration) -> Outcome {
    let url = target.url();
    match tokio::time::timeout(timeout, get(target)).await {
        Ok(Ok(answer)) => match answer.status {
            200..300 => Outcome::Good,
            300..400 => {
                Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body))
            }
            status => Outcome::Bad(format!("HTTP probe failed with statuscode: {status}")),
        },
        Ok(Err(Failure { url, why })) => Outcome::Bad(format!("Get \"{url}\": {why}")),
        Err(_) => Outcome::Bad(format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

/// Asks, and returns the answer.
pub async fn get(target: &Target) -> Result<Answer, Failure> {
    let mut target = target.clone();
    for _ in 0..=MAX_REDIRECTIONS {
        let failed = |why| Failure { url: target.url(), why };
        let response = send(&target).await.map_err(failed)?;
        let status = response.status().as_u16();
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let next = target.redirected(status, location);
        let body = beginning(response.into_body()).await;
        match next {
            Some(next) => target = next,
            None => return Ok(Answer { status, body }),
        }
    }
    Err(Failure { url: target.url(), why: format!("stopped after {MAX_REDIRECTIONS} redirects") })
}

async fn send(target: &Target) -> Result<Response<Incoming>, String> {
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
) -> Result<Response<Incoming>, String> {
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
    let answered = sender.send_request(request).await;
    answered.map_err(|e| if e.is_incomplete_message() { "EOF".into() } else { e.to_string() })
}

/// The beginning of a body: read even if it is not wanted, so that its sender sees no broken connection.
async fn beginning(mut body: Incoming) -> String {
    let mut read = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if read.len() > MAX_BODY {
            read.truncate(MAX_BODY);
            break;
        }
    }
    String::from_utf8_lossy(&read).into_owned()
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

    /// Probes somebody who answers so, time after time. Returns what was asked last, too.
    async fn probe_of(answers: impl Into<Vec<&'static str>>) -> (Outcome, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = answers.into();
        let server = tokio::spawn(async move {
            let mut last = String::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 1024];
                let length = stream.read(&mut asked).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                last = String::from_utf8_lossy(&asked[..length]).into_owned();
            }
            last
        });
        let headers = vec![("X-A".to_owned(), "b".to_owned())];
        let target =
            Target { tls: false, host: "127.0.0.1".into(), port, path: "/healthz?x=1".into(), headers };
        let outcome = probe(&target, Duration::from_secs(5)).await;
        (outcome, server.await.unwrap())
    }

    #[tokio::test]
    async fn the_status_decides() {
        let (outcome, asked) = probe_of(["HTTP/1.1 204 No\r\n\r\n"]).await;
        assert_eq!(outcome, Outcome::Good);
        assert!(
            asked.starts_with("GET /healthz?x=1 HTTP/1.1\r\n")
                && asked.contains("user-agent: kube-probe/1.35")
        );
        assert!(asked.contains("x-a: b"), "{asked}");
        let (outcome, _) = probe_of(["HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"]).await;
        assert_eq!(outcome, Outcome::Bad("HTTP probe failed with statuscode: 500".into()));
    }

    #[tokio::test]
    async fn a_redirection_is_followed_on_the_same_host() {
        let found = "HTTP/1.1 302 Found\r\nlocation: /sick?y=2\r\ncontent-length: 0\r\n\r\n";
        let (outcome, asked) = probe_of([found, "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"]).await;
        assert_eq!(outcome, Outcome::Bad("HTTP probe failed with statuscode: 500".into()));
        assert!(asked.starts_with("GET /sick?y=2 HTTP/1.1\r\n") && asked.contains("x-a: b"), "{asked}");
        let away = "HTTP/1.1 302 Found\r\nlocation: http://example.com/\r\ncontent-length: 4\r\n\r\naway";
        let (outcome, _) = probe_of([away]).await;
        let words = "Probe terminated redirects, Response body: away";
        assert_eq!(outcome, Outcome::Warning(words.into()));
        let (outcome, _) = probe_of([found; 11]).await;
        let Outcome::Bad(words) = outcome else { panic!("{outcome:?}") };
        assert!(words.ends_with("/sick?y=2\": stopped after 10 redirects"), "{words}");
    }
}
