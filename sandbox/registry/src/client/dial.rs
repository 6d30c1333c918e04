//! Connections to registries: look up, connect, TLS. Failures are told as Go's net package tells them.

use super::{ClientOptions, tls};
use hyper::{Uri, rt};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, CertificateError, ClientConfig, InvalidMessage, pki_types::ServerName},
};

const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// How a name is looked up. The engine gives one that asks the node's own servers; by default the system is asked.
pub type Resolver =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync>;

/// Whether an address may be connected to, wherever it comes from: a name, an address in an image's name, a redirect.
pub type Allow = Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>;

/// TLS configurations by `host:port` and whether anybody is trusted there.
type TlsByHost = HashMap<(String, bool), Arc<ClientConfig>>;

/// Makes connections for hyper's pool.
#[derive(Clone)]
pub(super) struct Dialer {
    options: Arc<ClientOptions>,
    tls: Arc<Mutex<TlsByHost>>,
    insecure: Arc<Mutex<HashSet<String>>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DialError(String);

impl Dialer {
    pub(super) fn new(options: Arc<ClientOptions>) -> Self {
        Self { options, tls: Arc::default(), insecure: Arc::default() }
    }

    /// From now on nobody's certificate is looked at for this `host:port`.
    pub(super) fn trust_anyone_at(&self, authority: &str) {
        let mut hosts = self.insecure.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() > 1024 {
            hosts.clear();
        }
        hosts.insert(authority.to_owned());
    }

    /// The addresses of a host.
    pub(super) async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(vec![address]);
        }
        match &self.options.resolver {
            Some(resolver) => resolver(host.to_owned()).await,
            None => Ok(tokio::net::lookup_host((host, 0)).await?.map(|a| a.ip()).collect()),
        }
    }

    async fn dial(&self, uri: Uri) -> Result<Stream, DialError> {
        let host = uri.host().unwrap_or_default();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = self.look_up(host).await.map_err(|e| DialError(look_up_text(host, &e)))?;
        let plain = self.connect(&addresses, port).await?;
        if !secure {
            return Ok(Stream(TokioIo::new(Box::new(plain))));
        }
        let authority = uri.authority().map_or(host, |a| a.as_str());
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())
            .map_err(|_| DialError(format!("dial tcp: lookup {host}: no such host")))?;
        let config = self.tls_for(authority).map_err(|e| DialError(tls_text(&e)))?;
        let shaken = timeout(TLS_TIMEOUT, TlsConnector::from(config).connect(name, plain)).await;
        match shaken {
            Ok(Ok(stream)) => Ok(Stream(TokioIo::new(Box::new(stream)))),
            Ok(Err(e)) => Err(DialError(match e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
                Some(e) => tls_text(e),
                None if e.kind() == io::ErrorKind::UnexpectedEof => "EOF".into(),
                None => system_text(&e),
            })),
            Err(_) => Err(DialError("net/http: TLS handshake timeout".into())),
        }
    }

    async fn connect(&self, addresses: &[IpAddr], port: u16) -> Result<TcpStream, DialError> {
        let mut last = DialError("dial tcp: no addresses".into());
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            if self.options.allow.as_ref().is_some_and(|allow| !allow(address)) {
                last = DialError(format!("dial tcp {address}: connect: permission denied"));
                continue;
            }
            last = match timeout(self.options.connect_timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Requests are small and answers matter at once.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(e)) => DialError(format!("dial tcp {address}: connect: {}", system_text(&e))),
                Err(_) => DialError(format!("dial tcp {address}: i/o timeout")),
            };
        }
        Err(last)
    }

    fn tls_for(&self, authority: &str) -> Result<Arc<ClientConfig>, rustls::Error> {
        let insecure = self.insecure.lock().unwrap_or_else(PoisonError::into_inner).contains(authority);
        let key = (authority.to_owned(), insecure);
        if let Some(config) = self.tls.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = tls::config(authority, self.options.certs.as_deref(), insecure)?;
        let mut known = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > 256 {
            known.clear();
        }
        known.insert(key, Arc::clone(&config));
        Ok(config)
    }
}

impl tower_service::Service<Uri> for Dialer {
    type Response = Stream;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial(uri).await })
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, with TLS or without.
pub(super) struct Stream(TokioIo<Box<dyn Io>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// `lookup HOST on SERVER: no such host`, as a Docker user knows it.
fn look_up_text(host: &str, error: &io::Error) -> String {
    let server = name_server();
    let on = server.map_or(String::new(), |s| format!(" on {s}"));
    let text = error.to_string();
    // getaddrinfo tells a name that does not exist from a server that does not answer only in its text.
    let why = if error.kind() == io::ErrorKind::TimedOut {
        "i/o timeout".to_owned()
    } else if text.contains("emporary failure") {
        match server.and_then(probe) {
            Some((at, e)) => format!("dial udp {at}: connect: {}", system_text(&e)),
            None => "server misbehaving".to_owned(),
        }
    } else {
        "no such host".to_owned()
    };
    format!("dial tcp: lookup {host}{on}: {why}")
}

/// The first server of `resolv.conf`.
fn name_server() -> Option<SocketAddr> {
    let text = String::from_utf8(tls::read_bounded(Path::new("/etc/resolv.conf"))?).ok()?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("nameserver"))?;
    Some(SocketAddr::new(line.trim().parse().ok()?, 53))
}

/// Asks the kernel whether there is a way to the server; sends nothing.
fn probe(server: SocketAddr) -> Option<(SocketAddr, io::Error)> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let error = UdpSocket::bind(any).and_then(|socket| socket.connect(server)).err()?;
    Some((server, error))
}

/// The system's words in Go's spelling: lower case, without the number.
pub(super) fn system_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// What is wrong with a secure connection, in the words of Go's crypto/tls.
pub fn tls_text(error: &rustls::Error) -> String {
    use rustls::Error as E;
    let certificate = |why: &str| format!("tls: failed to verify certificate: x509: {why}");
    match error {
        E::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".into()
        }
        E::InvalidCertificate(CertificateError::UnknownIssuer) => {
            certificate("certificate signed by unknown authority")
        }
        E::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            certificate("certificate has expired or is not yet valid")
        }
        E::InvalidCertificate(other) => certificate(&other.to_string()),
        E::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
        other => format!("tls: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_are_spelled_as_go_spells_them() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(system_text(&refused), "connection refused");
        let http = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(tls_text(&http), "http: server gave HTTP response to HTTPS client");
        let unknown =
            look_up_text("nosuch", &io::Error::other("failed to lookup: Name or service not known"));
        assert!(
            unknown.starts_with("dial tcp: lookup nosuch") && unknown.ends_with(": no such host"),
            "{unknown}"
        );
    }
}
