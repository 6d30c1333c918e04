//! Where a copy of the store finds its owner: the addresses that `--etcd-servers` names. Errors are worded as those of upstream's client
//! (google.golang.org/grpc `internal/transport`), since the API server's log and its answers show them.

use crate::Error;
use crate::tls::{ClientFiles, FlagError, connector};
use drydock_go::io_text;
use rustls_pki_types::ServerName;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, CertificateError};

/// For connecting to one of them (`dialTimeout` of apiserver's `etcd3.go`).
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, with TLS or without.
pub(crate) type Stream = Box<dyn ReadWrite>;

/// What a connection can do.
pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// The addresses of a store's owner.
#[derive(Clone)]
pub struct Servers {
    addresses: Vec<Address>,
    connector: TlsConnector,
}

#[derive(Clone)]
struct Address {
    /// `HOST:PORT`, as it was given.
    text: String,
    is_tls: bool,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.addresses.iter().map(|address| &address.text)).finish()
    }
}

impl Servers {
    /// From URLs, `https://HOST:PORT` or `http://…`.
    ///
    /// # Errors
    /// If a file of the client's is not what it should be.
    pub fn new(urls: &[String], files: &ClientFiles) -> Result<Self, FlagError> {
        let address = |url: &String| {
            let (is_tls, text) = match url.split_once("://") {
                Some((scheme, text)) => (scheme != "http", text),
                None => (true, &**url),
            };
            Address { text: text.trim_end_matches('/').into(), is_tls }
        };
        Ok(Self { addresses: urls.iter().map(address).collect(), connector: connector(files)? })
    }

    /// Connects to the first that can be reached.
    pub(crate) async fn connect(&self) -> Result<Stream, Error> {
        let mut last = Error::Unavailable("no address".into());
        for address in &self.addresses {
            match tokio::time::timeout(PATIENCE, self.connect_to(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(why)) => last = Error::connection(why),
                Err(_) => {
                    let why =
                        format!("transport: Error while dialing: dial tcp {}: i/o timeout", address.text);
                    last = Error::connection(why);
                }
            }
        }
        Err(last)
    }

    async fn connect_to(&self, Address { text, is_tls }: &Address) -> Result<Stream, String> {
        let dialing = |why: String| format!("transport: Error while dialing: dial tcp{why}");
        let Some((host, _port)) = text.rsplit_once(':') else {
            return Err(dialing(format!(": address {text}: missing port in address")));
        };
        let stream = TcpStream::connect(text).await.map_err(|error| match error.raw_os_error() {
            Some(_) => dialing(format!(" {text}: connect: {}", io_text(&error))),
            None => dialing(format!(": lookup {host}: {error}")),
        })?;
        // Requests are small and awaited.
        let _may_fail = stream.set_nodelay(true);
        if !is_tls {
            return Ok(Box::new(stream));
        }
        let failed = |why: String| format!("transport: authentication handshake failed: {why}");
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| failed(error.to_string()))?;
        match self.connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(failed(of_handshake(&error))),
        }
    }
}

/// Go's words (`crypto/x509/verify.go`).
fn of_handshake(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "tls: failed to verify certificate: x509: certificate signed by unknown authority".into(),
        Some(other) => format!("tls: {other}"),
        None => io_text(error),
    }
}
