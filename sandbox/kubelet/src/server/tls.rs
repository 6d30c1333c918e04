//! TLS of the kubelet's API, and who calls.

use std::{fs, path::Path, sync::Arc};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

/// Who may do everything in a cluster of kubeadm's.
const ADMINS: [&str; 2] = ["system:masters", "kubeadm:cluster-admins"];

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Without a certificate.
    Nobody,
    /// With one of the cluster's authority.
    Known {
        /// The user.
        name: String,
        /// It may use this API.
        allowed: bool,
    },
}

/// The server's side: with this certificate, for clients of this authority (or none).
pub fn config(certificate: &Path, key: &Path, authority: &Path) -> Result<ServerConfig, String> {
    let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let chain = |pem: &[u8]| -> Result<Vec<CertificateDer<'static>>, String> {
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| e.to_string())
    };
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in chain(&read(authority)?)? {
        roots.add(root).map_err(|e| e.to_string())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| e.to_string())?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&read(certificate)?)?, key)
        .map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Nobody comes back for a session: none is kept.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// Who a connection's certificate says that the client is.
pub fn caller(connection: &ServerConnection) -> Caller {
    let Some(certificate) = connection.peer_certificates().and_then(<[_]>::first) else {
        return Caller::Nobody;
    };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Caller::Nobody };
    let subject = parsed.subject();
    let texts = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let name = texts(subject.iter_common_name().filter_map(|n| n.as_str().ok()).collect());
    let groups = texts(subject.iter_organization().filter_map(|n| n.as_str().ok()).collect());
    Caller::Known {
        name: name.into_iter().next().unwrap_or_default(),
        allowed: groups.iter().any(|g| ADMINS.contains(&g.as_str())),
    }
}
