//! TLS: the server's certificate and whom it believes, and how it comes to others. A client without a certificate is let in (it may have a token); one
//! with a certificate of another authority is treated as one without.

mod authorities;

use crate::options::{KeyPair, TlsFiles};
use authorities::Authorities;
use drydock_insecure_tls::any_server;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, Error as TlsError, InvalidMessage, RootCertStore, ServerConfig,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// TLS for connections that come in.
pub fn acceptor(files: &TlsFiles) -> std::io::Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .allow_unauthenticated()
                .build()
                .map_err(Error::other)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = key_pair(&files.own)?;
    let mut config = builder.with_single_cert(chain, key).map_err(Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions would be kept for each client; connections live long enough without.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// TLS for connections to kubelets (with a certificate) and to what else listens in the cluster (without). Without an authority nobody's
/// certificate is checked, as upstream without `--kubelet-certificate-authority`: the network of a session has no strangers.
pub fn connector(own: Option<&KeyPair>, authority: Option<&Path>) -> std::io::Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?;
    let builder = match authority {
        Some(path) => builder.with_root_certificates(roots(path)?),
        None => builder.dangerous().with_custom_certificate_verifier(any_server(provider)),
    };
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (chain, key) = key_pair(pair)?;
            builder.with_client_auth_cert(chain, key).map_err(Error::other)?
        }
    };
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// TLS for connections to whom these certificates (PEM) are or know.
pub fn trusting(known: &[u8]) -> std::io::Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let known = CertificateDer::pem_slice_iter(known).collect::<Result<_, _>>().map_err(Error::other)?;
    let authorities = Authorities::new(known, provider.clone()).map_err(Error::other)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(authorities))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Why a handshake failed.
pub fn handshake_error(error: &Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(why @ (TlsError::InvalidCertificate(_) | TlsError::Other(_))) => {
            format!("tls: failed to verify certificate: {}", words(why))
        }
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "http: server gave HTTP response to HTTPS client".into()
        }
        _ => format!("tls: {error}"),
    }
}

/// What is wrong with a certificate, in the words of Go's `crypto/x509`.
fn words(error: &TlsError) -> String {
    let why = match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "certificate signed by unknown authority".into()
        }
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "certificate has expired or is not yet valid".into()
        }
        TlsError::InvalidCertificate(why) => why.to_string(),
        TlsError::Other(why) => why.0.to_string(),
        other => other.to_string(),
    };
    format!("x509: {why}")
}

/// The certificates of a file as authorities.
pub fn roots(path: &Path) -> std::io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| invalid(path, error))?;
    }
    Ok(roots)
}

/// A certificate's chain and its key.
pub fn key_pair(files: &KeyPair) -> std::io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| invalid(&files.key, error))?;
    Ok((certificates(&files.certificate)?, key))
}

fn certificates(path: &Path) -> std::io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    all.map_err(|error| invalid(path, error))
}

fn invalid(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}
