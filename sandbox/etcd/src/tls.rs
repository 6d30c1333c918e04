//! TLS at etcd's port, for both ends: certificates and keys out of the files that flags name. What is spoken says the name of the protocol
//! (ALPN): etcd's API, or [`REPLICA`].

use crate::serve::Options;
use drydock_go::io_text;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The protocol in which a copy is fed ([`crate::replication`]).
pub(crate) const REPLICA: &[u8] = b"drydock-replica";

/// A flag that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("--{flag}: {why}")]
pub struct FlagError {
    /// Which.
    pub flag: &'static str,
    /// Why.
    pub why: String,
}

fn wrong(flag: &'static str) -> impl Fn(String) -> FlagError {
    move |why| FlagError { flag, why }
}

/// The server's side.
pub(crate) fn acceptor(options: &Options) -> Result<TlsAcceptor, FlagError> {
    let needed = |flag: &'static str, path: &Option<PathBuf>| {
        path.clone().ok_or_else(|| wrong(flag)("needed for https".into()))
    };
    let cert = needed("cert-file", &options.cert_file)?;
    let key = needed("key-file", &options.key_file)?;
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("cert-file")(error.to_string()))?;
    let builder = match options.client_cert_auth {
        true => {
            let ca = needed("trusted-ca-file", &options.trusted_ca_file)?;
            let roots = Arc::new(roots("trusted-ca-file", &ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let verifier = verifier.map_err(|error| wrong("trusted-ca-file")(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        false => builder.with_no_client_auth(),
    };
    let (chain, key) = pair(("cert-file", &cert), ("key-file", &key))?;
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| wrong("cert-file")(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), REPLICA.to_vec()];
    // Connections are few and last: no session is kept for a next one.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What a client shows and trusts: the API server's flags.
#[derive(Debug, Clone, Default)]
pub struct ClientFiles {
    /// `--etcd-cafile`: who signs the server's certificate.
    pub ca: Option<PathBuf>,
    /// `--etcd-certfile`: the client's own.
    pub cert: Option<PathBuf>,
    /// `--etcd-keyfile`: its key.
    pub key: Option<PathBuf>,
}

/// The client's side.
pub(crate) fn connector(files: &ClientFiles) -> Result<TlsConnector, FlagError> {
    let roots = match &files.ca {
        Some(ca) => roots("etcd-cafile", ca)?,
        None => RootCertStore::empty(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("etcd-cafile")(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let (chain, key) = pair(("etcd-certfile", cert), ("etcd-keyfile", key))?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| wrong("etcd-certfile")(error.to_string()))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => {
            let why = "KeyFile and CertFile must both be present";
            return Err(wrong("etcd-keyfile")(why.into()));
        }
    };
    config.alpn_protocols = vec![REPLICA.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(cert: (&'static str, &Path), key: (&'static str, &Path)) -> Result<Pair, FlagError> {
    let chain = certificates(cert.0, cert.1)?;
    let of_key = PrivateKeyDer::from_pem_file(key.1);
    Ok((chain, of_key.map_err(|error| wrong(key.0)(unreadable(key.1, &error)))?))
}

fn roots(flag: &'static str, path: &Path) -> Result<RootCertStore, FlagError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(flag, path)? {
        roots.add(cert).map_err(|error| wrong(flag)(format!("{}: {error}", path.display())))?;
    }
    Ok(roots)
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, FlagError> {
    let failed = |error| wrong(flag)(unreadable(path, &error));
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn unreadable(path: &Path, error: &PemError) -> String {
    match error {
        PemError::Io(error) => format!("open {}: {}", path.display(), io_text(error)),
        other => format!("{}: {other}", path.display()),
    }
}
