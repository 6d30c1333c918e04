//! Where a request is passed on to, and the connection there.

use crate::options::Options;
use crate::rest::write::refusal;
use crate::server::Server;
use crate::storage::{self, keys};
use crate::tls;
use bytes::Bytes;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{int, list, text};
use drydock_apimachinery::status::GroupResource;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Who does not answer by then is not there.
const DIAL: Duration = Duration::from_secs(10);

/// With what kubelets are asked.
pub struct KubeletClient {
    /// With our certificate.
    tls: Option<TlsConnector>,
    /// For `https:` services and pods, whose certificates nobody can know.
    anonymous: TlsConnector,
    address_types: Vec<String>,
}

impl std::fmt::Debug for KubeletClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeletClient").field("has_certificate", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl KubeletClient {
    /// Reads certificate and key.
    pub fn new(options: &Options) -> std::io::Result<Self> {
        let ca = options.kubelet_ca.as_deref();
        Ok(Self {
            tls: options.kubelet_client.as_ref().map(|pair| tls::connector(Some(pair), ca)).transpose()?,
            anonymous: tls::connector(None, None)?,
            address_types: options.kubelet_address_types.clone(),
        })
    }
}

/// Where to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Without TLS, with TLS, or with TLS and our certificate.
    pub scheme: Scheme,
}

/// How a target is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP.
    Plain,
    /// HTTPS, whoever answers.
    Secure,
    /// HTTPS with our certificate: a kubelet.
    Kubelet,
}

impl Target {
    /// For the `Host` header.
    pub fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// Sends one request over a connection of its own. It ends with the answer's body, or with what it is upgraded to.
    pub async fn send<B>(
        &self,
        client: &KubeletClient,
        request: Request<B>,
    ) -> Result<Response<Incoming>, Status>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let failed = |error: &dyn std::fmt::Display| {
            // In the words of Go's client, which upstream passes on.
            let method = request_verb(request.method());
            let scheme = if self.scheme == Scheme::Plain { "http" } else { "https" };
            let path = request.uri().path();
            // Without a reason, as upstream passes on what is no status.
            Status::failure(500, "", format!("{method} \"{scheme}://{}{path}\": {error}", self.authority()))
        };
        let dial = tokio::time::timeout(DIAL, TcpStream::connect((self.host.as_str(), self.port)));
        let stream = match dial.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(&dial_error(&self.authority(), &error))),
            Err(_) => return Err(failed(&format!("dial tcp {}: i/o timeout", self.authority()))),
        };
        let _without_it_only_slower = stream.set_nodelay(true);
        let connector = match self.scheme {
            Scheme::Plain => {
                return exchange(stream, request).await.map_err(|error| Status::internal(&error));
            }
            Scheme::Secure => &client.anonymous,
            Scheme::Kubelet => {
                client.tls.as_ref().ok_or_else(|| failed(&"no client certificate for kubelets"))?
            }
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| failed(&error))?;
        let stream = match tokio::time::timeout(DIAL, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(&format!("tls: {error}"))),
            Err(_) => return Err(failed(&"net/http: TLS handshake timeout")),
        };
        exchange(stream, request).await.map_err(|error| Status::internal(&error))
    }
}

/// Why nobody was reached, in the words of Go's `net`.
pub fn dial_error(authority: &str, error: &std::io::Error) -> String {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let why = match error.kind() {
        ConnectionRefused => "connect: connection refused".to_string(),
        HostUnreachable => "connect: no route to host".to_string(),
        NetworkUnreachable => "connect: network is unreachable".to_string(),
        _ => error.to_string(),
    };
    format!("dial tcp {authority}: {why}")
}

fn request_verb(method: &http::Method) -> String {
    let text = method.as_str();
    let mut word = text[..1].to_string();
    word.push_str(&text[1..].to_ascii_lowercase());
    word
}

async fn exchange<S, B>(stream: S, request: Request<B>) -> Result<Response<Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a passed-on connection ended");
        }
    });
    sender.send_request(request).await
}

/// The kubelet of a node.
pub fn node_target(server: &Server, name: &str) -> Result<Target, Status> {
    let snapshot = server.registry.snapshot();
    let Some(resource) = snapshot.find("", "v1", "nodes") else {
        return Err(Status::internal("nodes are not served"));
    };
    let key = keys::of(resource, "", name);
    let found = server.store.get(key.as_bytes(), None).map_err(refusal)?;
    let record =
        found.ok_or_else(|| Status::not_found(GroupResource { group: "", resource: "nodes" }, name))?;
    let node = storage::decode(&record)?;
    let Some(host) = preferred(&node, &server.kubelets.address_types) else {
        let wanted = server.kubelets.address_types.join(" ");
        return Err(Status::internal(format!(
            "no preferred addresses found; known addresses: [], wanted: [{wanted}]"
        )));
    };
    let port = int(&node, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(10_250);
    Ok(Target { host, port, scheme: Scheme::Kubelet })
}

/// The first address of the first type that the node has (`pkg/util/node.GetPreferredNodeAddress`).
fn preferred(node: &Value, types: &[String]) -> Option<String> {
    let addresses = list(node, &["status", "addresses"]);
    let of = |wanted: &String| addresses.iter().find(|one| text(one, &["type"]) == wanted);
    types.iter().find_map(of).map(|one| text(one, &["address"]).to_string()).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_are_preferred_by_type() {
        let node = json!({"status": {"addresses": [
            {"type": "Hostname", "address": "node1"},
            {"type": "InternalIP", "address": "10.0.0.1"},
        ]}});
        let types = |all: &[&str]| all.iter().map(|one| (*one).to_string()).collect::<Vec<_>>();
        assert_eq!(preferred(&node, &types(&["InternalIP", "Hostname"])).as_deref(), Some("10.0.0.1"));
        assert_eq!(preferred(&node, &types(&["ExternalIP", "Hostname"])).as_deref(), Some("node1"));
        assert_eq!(preferred(&node, &types(&["ExternalIP"])), None);
    }
}
