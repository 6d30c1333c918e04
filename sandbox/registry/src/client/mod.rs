//! The client side of the distribution protocol.
//!
//! [`Client`] lives as long as the engine; each operation opens a [`repository::Repository`] (finds out how the registry is
//! reached and what it wants to know of us) and then speaks plain HTTP requests. Dropping the future of an operation ends it:
//! tasks are aborted, spool files have no names.

mod auth;
mod dial;
mod download;
mod http;
mod index;
mod parts;
mod pull;
mod push;
pub(crate) mod repository;
mod tls;
mod upload;

pub use dial::{Allow, Resolver, tls_text};
pub use index::{Inspection, LoginOutcome, SearchResult};
pub use parts::Outline;
pub use pull::{ImageSink, LayerBlob, PullLayer, PullOutcome, PullRequest, PulledImage, SinkError};
pub use push::{ImageSource, KnownBlob, LayerContent, PushImage, PushLayer, PushOutcome, PushRequest};
pub use tls::system_roots;

use self::{dial::Dialer, http::Http};
use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// How a client behaves. The defaults are dockerd's.
#[derive(Clone)]
pub struct ClientOptions {
    /// Registries that may be reached by plain HTTP or with any certificate: `host`, `host:port` or a network (`10.0.0.0/8`).
    /// `127.0.0.0/8` and `::1/128` always are.
    pub insecure: Vec<String>,
    /// Base addresses (`https://mirror`) that are asked for Docker Hub's images before Docker Hub.
    pub mirrors: Vec<String>,
    /// Base address of a cache of other registries ([`crate::Cache`]), asked before the registries themselves.
    pub cache: Option<String>,
    /// What may be connected to; without it everything.
    pub allow: Option<Allow>,
    /// Where `docker.io` is.
    pub hub: String,
    /// Where Docker Hub's search is.
    pub index: String,
    /// `/etc/docker/certs.d`: certificates by registry.
    pub certs: Option<PathBuf>,
    /// Where layers lie until they are handed on; the files have no names.
    pub spool: PathBuf,
    /// How many layers of all pulls arrive at a time.
    pub downloads: usize,
    /// How many layers of all pushes leave at a time.
    pub uploads: usize,
    /// How often a layer is tried.
    pub attempts: u32,
    /// The pause before the second attempt; the later ones are longer.
    pub retry_delay: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take to begin.
    pub answer_timeout: Duration,
    /// How long nothing may arrive within a body.
    pub idle_timeout: Duration,
    /// The largest layer that is taken, compressed.
    pub layer_max: u64,
    /// Looks names up in place of the system.
    pub resolver: Option<Resolver>,
    /// What we say we are.
    pub user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            mirrors: Vec::new(),
            cache: None,
            allow: None,
            hub: "https://registry-1.docker.io".into(),
            index: "https://index.docker.io".into(),
            certs: Some("/etc/docker/certs.d".into()),
            spool: std::env::temp_dir(),
            downloads: 3,
            uploads: 5,
            attempts: 5,
            retry_delay: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            layer_max: 64 << 30,
            resolver: None,
            user_agent: "docker/28.5.2".into(),
        }
    }
}

/// Pulls from registries and pushes to them. Clones share connections and limits.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: Http,
    pub(crate) options: Arc<ClientOptions>,
    pub(crate) downloads: Arc<Semaphore>,
    pub(crate) uploads: Arc<Semaphore>,
}

impl Client {
    /// A client; nothing is connected yet.
    pub fn new(options: ClientOptions) -> Self {
        let options = Arc::new(options);
        Self {
            http: Http::new(Arc::clone(&options), Dialer::new(Arc::clone(&options))),
            downloads: Arc::new(Semaphore::new(options.downloads.max(1))),
            uploads: Arc::new(Semaphore::new(options.uploads.max(1))),
            options,
        }
    }

    /// Whether a registry may be reached by plain HTTP: it is on the list, or one of its addresses is in a network on it.
    pub(crate) async fn is_insecure(&self, domain: &str) -> bool {
        let listed =
            |entry: &String| entry.trim_start_matches("http://").trim_start_matches("https://") == domain;
        if self.options.insecure.iter().any(listed) {
            return true;
        }
        let host = match domain.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => domain,
        };
        let networks: Vec<(IpAddr, u32)> = self.options.insecure.iter().filter_map(|n| network(n)).collect();
        let addresses = self.http.dialer().look_up(host).await.unwrap_or_default();
        addresses
            .into_iter()
            .any(|address| address.is_loopback() || networks.iter().any(|n| contains(*n, address)))
    }
}

fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    Some((address.parse().ok()?, bits.parse().ok()?))
}

fn contains((network, bits): (IpAddr, u32), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            n.to_bits() & mask == a.to_bits() & mask
        }
        (IpAddr::V6(n), IpAddr::V6(a)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            n.to_bits() & mask == a.to_bits() & mask
        }
        _ => false,
    }
}

/// `op` as Go's errors begin: `Get`, `Head`.
pub(crate) fn op(method: &hyper::Method) -> &'static str {
    match method.as_str() {
        "HEAD" => "Head",
        "POST" => "Post",
        "PUT" => "Put",
        "PATCH" => "Patch",
        "DELETE" => "Delete",
        _ => "Get",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_and_the_list_are_insecure() {
        let resolver: Resolver = Arc::new(|name: String| {
            Box::pin(async move {
                match name.as_str() {
                    "inside" => Ok(vec![IpAddr::from([10, 9, 8, 7])]),
                    "here" => Ok(vec![IpAddr::from([127, 0, 0, 5])]),
                    _ => Err(std::io::Error::other("no such name")),
                }
            })
        });
        let client = Client::new(ClientOptions {
            insecure: vec!["registry:5000".into(), "10.0.0.0/8".into()],
            resolver: Some(resolver),
            ..ClientOptions::default()
        });
        for (domain, insecure) in [
            ("registry:5000", true),
            ("registry:5001", false),
            ("127.0.0.1:9", true),
            ("[::1]:9", true),
            ("here", true),
            ("inside:443", true),
            ("11.0.0.1", false),
            ("elsewhere.org", false),
        ] {
            assert_eq!(client.is_insecure(domain).await, insecure, "{domain}");
        }
    }

    #[test]
    fn networks_of_any_width() {
        let net = |text: &str| network(text).unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(contains(net("0.0.0.0/0"), ip("8.8.8.8")));
        assert!(contains(net("192.0.2.1/32"), ip("192.0.2.1")));
        assert!(!contains(net("192.0.2.1/32"), ip("192.0.2.2")));
        assert!(contains(net("fd00::/8"), ip("fd12::1")));
        assert!(!contains(net("10.0.0.0/99"), ip("10.0.0.1")), "a width that no address has");
    }
}
