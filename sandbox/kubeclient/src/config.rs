//! Where the API server is and as whom to speak to it, read from a kubeconfig. Called by [`crate::connect`] and by the components'
//! command lines. It reads only what such a file says: no environment, no in-cluster discovery, no exec plugins.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use drydock_insecure_tls::any_server;
use http::Uri;
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use secrecy::ExposeSecret as _;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, RootCertStore};

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing or is no kubeconfig.
    #[error("cannot read kubeconfig {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: Box<kube::config::KubeconfigError>,
    },
    /// A file that the kubeconfig names cannot be read.
    #[error("cannot read {path}, which the kubeconfig names: {source}")]
    File {
        /// The file.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The current context, or its cluster or user, is missing.
    #[error("the kubeconfig has no {0}")]
    Missing(String),
    /// A field has a value that cannot be used.
    #[error("the kubeconfig's {field} is not usable: {reason}")]
    Invalid {
        /// The field's name in the file.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates and key make no TLS configuration.
    #[error("the kubeconfig's certificates are not usable: {0}")]
    Tls(#[from] rustls::Error),
}

/// Everything a connection needs.
#[derive(Clone)]
pub struct ClientConfig {
    /// `https://host:port` (or `http://…`: HTTP/2 without TLS, for tests and benches).
    pub server: Uri,
    /// TLS with the cluster's CA and the user's certificate; none for `http://`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The name that the server's certificate must have.
    pub server_name: Option<ServerName<'static>>,
    /// Bearer token, read once.
    pub token: Option<String>,
    /// Namespace of the context; `default` if it says none.
    pub namespace: String,
    /// `User-Agent` of every request; the API server makes a field manager of what stands before the `/`.
    pub user_agent: String,
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("server", &self.server)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}

impl ClientConfig {
    /// The current context of a kubeconfig file, for a component of that name (`kube-scheduler`).
    pub fn from_file(path: &Path, component: &str) -> Result<Self, ConfigError> {
        let read = Kubeconfig::read_from(path);
        let kubeconfig =
            read.map_err(|source| ConfigError::Read { path: path.to_owned(), source: Box::new(source) })?;
        Self::from_kubeconfig(&kubeconfig, component)
    }

    /// The current context of a kubeconfig, for a component of that name.
    pub fn from_kubeconfig(kubeconfig: &Kubeconfig, component: &str) -> Result<Self, ConfigError> {
        let missing = |what: &str, name: &str| ConfigError::Missing(format!("{what} \"{name}\""));
        let current = kubeconfig
            .current_context
            .clone()
            .ok_or_else(|| ConfigError::Missing("current-context".into()))?;
        let context = kubeconfig
            .contexts
            .iter()
            .find(|named| named.name == current)
            .and_then(|named| named.context.as_ref());
        let context = context.ok_or_else(|| missing("context", &current))?;
        let cluster = kubeconfig
            .clusters
            .iter()
            .find(|named| named.name == context.cluster)
            .and_then(|named| named.cluster.as_ref());
        let cluster = cluster.ok_or_else(|| missing("cluster", &context.cluster))?;
        let user_name = context.user.clone().unwrap_or_default();
        let user = kubeconfig
            .auth_infos
            .iter()
            .find(|named| named.name == user_name)
            .and_then(|named| named.auth_info.clone());
        let user = user.unwrap_or_default();
        let server = server(cluster)?;
        let tls =
            if server.scheme_str() == Some("http") { None } else { Some(Arc::new(tls(cluster, &user)?)) };
        Ok(Self {
            server_name: server_name(cluster, &server)?,
            tls,
            token: token(&user)?,
            namespace: context.namespace.clone().unwrap_or_else(|| "default".into()),
            user_agent: user_agent(component),
            server,
        })
    }

    /// A server without TLS: for tests and benches.
    pub fn plain(server: Uri, component: &str) -> Self {
        Self {
            server,
            tls: None,
            server_name: None,
            token: None,
            namespace: "default".into(),
            user_agent: user_agent(component),
        }
    }
}

/// As client-go writes it (`rest.DefaultKubernetesUserAgent`).
fn user_agent(component: &str) -> String {
    format!("{component}/v1.35.0 (linux/{}) kubernetes/drydock", std::env::consts::ARCH)
}

fn server(cluster: &Cluster) -> Result<Uri, ConfigError> {
    let text =
        cluster.server.as_deref().ok_or_else(|| ConfigError::Missing("server of the cluster".into()))?;
    let invalid = |reason: String| ConfigError::Invalid { field: "server", reason };
    let uri: Uri = text.parse().map_err(|error: http::uri::InvalidUri| invalid(error.to_string()))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some() => Ok(uri),
        _ => Err(invalid(format!("\"{text}\" is no address such as https://host:6443"))),
    }
}

fn server_name(cluster: &Cluster, server: &Uri) -> Result<Option<ServerName<'static>>, ConfigError> {
    let name = cluster
        .tls_server_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .or(server.host())
        .unwrap_or_default();
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let parsed = ServerName::try_from(name);
    Ok(Some(parsed.map_err(|error: InvalidDnsNameError| ConfigError::Invalid {
        field: "tls-server-name",
        reason: error.to_string(),
    })?))
}

fn token(user: &AuthInfo) -> Result<Option<String>, ConfigError> {
    if let Some(token) = &user.token {
        return Ok(Some(token.expose_secret().to_owned()));
    }
    let Some(path) = &user.token_file else { return Ok(None) };
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.clone(), source })?;
    Ok(Some(text.trim().to_owned()))
}

fn tls(cluster: &Cluster, user: &AuthInfo) -> Result<rustls::ClientConfig, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = if cluster.insecure_skip_tls_verify == Some(true) {
        builder.dangerous().with_custom_certificate_verifier(any_server(provider))
    } else {
        builder.with_root_certificates(roots(cluster)?)
    };
    let certificate = bytes(
        "client-certificate-data",
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
    )?;
    let key = user.client_key_data.as_ref().map(|key| key.expose_secret());
    let key = bytes("client-key-data", key, user.client_key.as_deref())?;
    let mut config = match (certificate, key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(chain("client-certificate-data", &certificate)?, private_key(&key)?)?,
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) => return Err(ConfigError::Missing("client-key-data".into())),
        (None, Some(_)) => return Err(ConfigError::Missing("client-certificate-data".into())),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // One connection lasts: there is no next one whose start could be shortened.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots(cluster: &Cluster) -> Result<RootCertStore, ConfigError> {
    const FIELD: &str = "certificate-authority-data";
    let authority = bytes(
        FIELD,
        cluster.certificate_authority_data.as_deref(),
        cluster.certificate_authority.as_deref(),
    )?;
    let authority = authority.ok_or_else(|| ConfigError::Missing(FIELD.into()))?;
    let mut roots = RootCertStore::empty();
    for certificate in chain(FIELD, &authority)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// Data in the file goes before the file that it names, as in client-go.
fn bytes(
    field: &'static str,
    data: Option<&str>,
    file: Option<&str>,
) -> Result<Option<Vec<u8>>, ConfigError> {
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim());
        return decoded.map(Some).map_err(|error| ConfigError::Invalid { field, reason: error.to_string() });
    }
    let Some(path) = file.filter(|path| !path.is_empty()) else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|source| ConfigError::File { path: path.to_owned(), source })
}

fn chain(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let invalid = |reason: String| ConfigError::Invalid { field, reason };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| invalid(error.to_string()))?;
    if certificates.is_empty() { Err(invalid("no certificate in it".into())) } else { Ok(certificates) }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| ConfigError::Invalid { field: "client-key-data", reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ClientConfig, ConfigError> {
        ClientConfig::from_kubeconfig(&Kubeconfig::from_yaml(text).unwrap(), "kube-scheduler")
    }

    const HTTP: &str = "
apiVersion: v1
kind: Config
current-context: here
contexts:
- name: here
  context: {cluster: c, user: u, namespace: team}
clusters:
- name: c
  cluster: {server: 'http://127.0.0.1:8080'}
users:
- name: u
  user: {token: secret}
";

    #[test]
    fn the_current_context_counts() {
        let config = read(HTTP).unwrap();
        assert_eq!((config.namespace.as_str(), config.token.as_deref()), ("team", Some("secret")));
        assert!(config.tls.is_none() && config.user_agent.starts_with("kube-scheduler/v1."));
        assert!(!format!("{config:?}").contains("secret"), "a token is not to be seen in a log");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("name: here", "name: there", "the kubeconfig has no context \"here\""),
            ("cluster: c,", "cluster: d,", "the kubeconfig has no cluster \"d\""),
            ("http://127.0.0.1:8080", "ftp://127.0.0.1", "the kubeconfig's server is not usable"),
            ("http://", "https://", "the kubeconfig has no certificate-authority-data"),
            (
                "{token: secret}",
                "{tokenFile: /does/not/exist}",
                "cannot read /does/not/exist, which the kubeconfig names",
            ),
        ];
        for (old, new, expected) in cases {
            let error = read(&HTTP.replacen(old, new, 1)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let no_base64 = HTTP
            .replace("http://127.0.0.1:8080'", "https://127.0.0.1:6443', certificate-authority-data: '?'");
        let error = read(&no_base64).unwrap_err().to_string();
        assert!(error.starts_with("the kubeconfig's certificate-authority-data is not usable"), "{error}");
    }
}
