//! TLS to log servers. Whom to trust is said as with moby (go-connections' `tlsconfig`), and what fails is told as Go tells it.

use drydock_insecure_tls::any_server;
use drydock_registry::{system_roots, tls_text};
use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

/// Longest handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest file with certificates.
const LARGEST: u64 = 4 << 20;

/// Whom to trust, and who we are: paths, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of authorities beside those of the system.
    pub ca: String,
    /// Our certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// Whoever answers.
    pub anyone: bool,
}

impl Tls {
    /// What the files say.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| tls_text(&error))?;
        let builder = if self.anyone {
            builder.dangerous().with_custom_certificate_verifier(any_server(provider))
        } else {
            let mut roots = system_roots();
            if !self.ca.is_empty() {
                let pem = read(&self.ca)
                    .map_err(|why| format!("could not read CA certificate {:?}: {why}", self.ca))?;
                let (added, _) =
                    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
                if added == 0 {
                    return Err(format!("failed to append certificates from PEM file: {:?}", self.ca));
                }
            }
            builder.with_root_certificates(roots)
        };
        if self.cert.is_empty() && self.key.is_empty() {
            return Ok(Arc::new(builder.with_no_client_auth()));
        }
        let unread = |why: String| {
            format!("could not load X509 key pair (cert: {:?}, key: {:?}): {why}", self.cert, self.key)
        };
        let (cert, key) = (read(&self.cert).map_err(unread)?, read(&self.key).map_err(unread)?);
        let certs: Vec<_> = CertificateDer::pem_slice_iter(&cert).flatten().collect();
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| unread("tls: failed to find any PEM data in key input".into()))?;
        let config = builder.with_client_auth_cert(certs, key).map_err(|error| unread(tls_text(&error)))?;
        Ok(Arc::new(config))
    }
}

/// Makes a connection a secure one.
pub async fn shake(
    config: Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<Box<TlsStream<TcpStream>>, String> {
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("dial tcp: lookup {host}: no such host"))?;
    match timeout(PATIENCE, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(error) => tls_text(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".into(),
            None => super::connection::words(&error),
        }),
        Err(_) => Err("i/o timeout".into()),
    }
}

/// In Go's words. A learner may have put anything there: a FIFO, a device, something endless.
fn read(path: &str) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let file = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| format!("open {path}: {}", super::connection::words(&error)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::connection::{Address, Connection},
        *,
    };
    use tokio::{io::AsyncReadExt as _, net::TcpListener};
    use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

    #[test]
    fn what_is_wrong_with_files_is_told_as_moby_tells_it() {
        let temp = tempfile::tempdir().unwrap();
        let empty = temp.path().join("empty").to_string_lossy().into_owned();
        fs::write(&empty, "").unwrap();
        let wrong = |tls: Tls| tls.config().unwrap_err();
        assert_eq!(
            wrong(Tls { ca: "/no".into(), ..Tls::default() }),
            "could not read CA certificate \"/no\": open /no: no such file or directory"
        );
        assert_eq!(
            wrong(Tls { ca: empty.clone(), ..Tls::default() }),
            format!("failed to append certificates from PEM file: {empty:?}")
        );
        assert_eq!(
            wrong(Tls { cert: empty.clone(), key: "/no".into(), ..Tls::default() }),
            format!(
                "could not load X509 key pair (cert: {empty:?}, key: \"/no\"): open /no: no such file or directory"
            )
        );
        assert!(Tls { anyone: true, ..Tls::default() }.config().is_ok());
    }

    #[tokio::test]
    async fn whoever_answers_must_be_vouched_for() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let heard = tokio::spawn(async move {
            let mut heard = Vec::new();
            while heard.len() < 2 {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut line = [0; 2];
                stream.read_exact(&mut line).await.unwrap();
                heard.push(line);
            }
            heard
        });
        let open = |tls: Tls| async move {
            let address = Address::Tls("localhost".into(), port, tls);
            Connection::open(&address).await?.send(&[b"hi".to_vec()], None).await.map_err(|e| e.to_string())
        };
        let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
        assert_eq!(open(Tls::default()).await, Err(unknown.into()));
        let temp = tempfile::tempdir().unwrap();
        let ca = temp.path().join("ca.pem").to_string_lossy().into_owned();
        fs::write(&ca, made.cert.pem()).unwrap();
        assert_eq!(open(Tls { ca, ..Tls::default() }).await, Ok(()));
        assert_eq!(open(Tls { anyone: true, ..Tls::default() }).await, Ok(()));
        assert_eq!(heard.await.unwrap(), [*b"hi", *b"hi"]);
    }
}
