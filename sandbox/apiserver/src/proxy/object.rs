//! `proxy` of nodes, pods and services: any request, passed on to what listens there (`pkg/registry/core/{node,pod,service}`).

use super::admit_connection;
use super::forward::{self, Forward};
use super::rewrite::Rewriter;
use super::target::{Scheme, Target, node_target};
use crate::http::respond::{self, Answer};
use crate::rest::Call;
use crate::rest::write::refusal;
use crate::storage::{self, keys};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, int, list, text};
use drydock_apimachinery::status::GroupResource;
use http::header::{HOST, LOCATION};
use http::{HeaderValue, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::net::IpAddr;

/// A name with scheme and port: `https:web:443`, `web:http`, `web`.
#[derive(Debug, PartialEq, Eq)]
struct Name<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Name<'a> {
    /// `SplitSchemeNamePort`.
    fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let name = match parts[..] {
            [name] => Self { scheme: "", name, port: "" },
            [name, port] => Self { scheme: "", name, port },
            [scheme, name, port] => Self { scheme, name, port },
            _ => return None,
        };
        (!name.name.is_empty() && matches!(name.scheme, "" | "http" | "https")).then_some(name)
    }

    fn scheme(&self) -> Scheme {
        if self.scheme == "https" { Scheme::Secure } else { Scheme::Plain }
    }
}

/// Answers what is answered there.
pub async fn to_object(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let server = call.server.clone();
    let kind = match &*call.resource.plural {
        "nodes" => "NodeProxyOptions",
        "pods" => "PodProxyOptions",
        _ => "ServiceProxyOptions",
    };
    let path = call.info.rest.clone();
    admit_connection(call, kind, if path.is_empty() { json!({}) } else { json!({"path": path}) }).await?;
    let id = call.info.name.clone();
    let wrong = || Status::bad_request(format!("invalid {} request {id:?}", call.resource.singular));
    let name = Name::parse(&id).ok_or_else(wrong)?;
    let target = match &*call.resource.plural {
        "nodes" => node(call, &name)?,
        "pods" => pod(call, &name)?,
        _ => service(call, &name)?,
    };
    let rest = call.info.rest.clone();
    if rest.is_empty() && !call.info.path.ends_with('/') {
        // Relative links on the page must lead below it.
        let mut answer = respond::text(StatusCode::MOVED_PERMANENTLY, "");
        let location = format!("{}/", call.info.path);
        if let Ok(location) = HeaderValue::from_str(&location) {
            answer.headers_mut().insert(LOCATION, location);
        }
        return Ok(answer);
    }
    let path = if rest.is_empty() { "/".to_string() } else { rest };
    let path = match call.raw_query.as_deref() {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path,
    };
    let upgrade = call.upgrade.take().filter(|_| forward::wants_upgrade(&call.headers));
    let rewriter = rewriter(call, &target);
    let mut headers = call.headers.clone();
    headers.remove("x-forwarded-uri");
    if let Ok(path) = HeaderValue::from_str(&format!("{}{}", rewriter.base, call.info.rest)) {
        headers.insert("x-forwarded-uri", path);
    }
    let forward = Forward { target: &target, path, method: call.method.clone(), headers: &headers };
    if let Some(ours) = upgrade {
        return forward.upgrade(&server.kubelets, body, ours).await;
    }
    match forward.plain(&server.kubelets, body).await {
        Ok(theirs) => rewriter.answer(theirs).await,
        Err(status) => {
            let message = format!("error trying to reach service: {}", status.message);
            Err(Status::failure(503, "ServiceUnavailable", message))
        }
    }
}

/// Who rewrites the links of what is answered there.
fn rewriter(call: &Call, target: &Target) -> Rewriter {
    let below = percent_decode_str(&call.info.rest).decode_utf8_lossy();
    let base = call.info.path.strip_suffix(&*below).unwrap_or(&call.info.path).trim_end_matches('/');
    let here = call.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    Rewriter { base: base.into(), there: target.authority(), here: here.into() }
}

fn node(call: &Call, name: &Name<'_>) -> Result<Target, Status> {
    let mut target = node_target(&call.server, name.name)?;
    if let Ok(port) = name.port.parse::<u16>()
        && port != target.port
    {
        // Another port of the node: whatever listens there gets no certificate of ours.
        target.port = port;
        target.scheme = name.scheme();
    }
    Ok(target)
}

fn find(call: &Call, plural: &str, name: &str) -> Result<Value, Status> {
    let snapshot = call.server.registry.snapshot();
    let of = GroupResource { group: "", resource: plural };
    let Some(resource) = snapshot.find("", "v1", plural) else { return Err(Status::not_found(of, name)) };
    let key = keys::of(resource, &call.info.namespace, name);
    let record = call.server.store.get(key.as_bytes(), None).map_err(refusal)?;
    storage::decode(&*record.ok_or_else(|| Status::not_found(of, name))?)
}

fn pod(call: &Call, name: &Name<'_>) -> Result<Target, Status> {
    let pod = find(call, "pods", name.name)?;
    let host = text(&pod, &["status", "podIP"]);
    must_be_proxyable(host)?;
    let ports = list(&pod, &["spec", "containers"]).iter().flat_map(|one| list(one, &["ports"]));
    let wanted = name.port;
    let found = ports.into_iter().find(|port| wanted.is_empty() || text(port, &["name"]) == wanted);
    let port = match (wanted.parse::<u16>(), found) {
        (Ok(port), _) => port,
        (Err(_), Some(port)) => {
            int(port, &["containerPort"]).and_then(|port| u16::try_from(port).ok()).unwrap_or(80)
        }
        (Err(_), None) => 80,
    };
    Ok(Target { host: host.into(), port, scheme: name.scheme() })
}

/// Whoever may write a pod's status or endpoints must not reach what listens for the API server's own machine alone (`IsProxyableIP` of
/// `pkg/proxy/util`).
fn must_be_proxyable(address: &str) -> Result<(), Status> {
    let is_global = match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            !(ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || ip.is_link_local()
                || ip.is_broadcast())
        }
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local())
        }
        Err(_) => false,
    };
    if is_global { Ok(()) } else { Err(Status::bad_request("address not allowed")) }
}

/// An endpoint of the service that is ready (`ResourceLocation` of `pkg/registry/core/service/storage`).
fn service(call: &Call, name: &Name<'_>) -> Result<Target, Status> {
    let service = find(call, "services", name.name)?;
    let ports = list(&service, &["spec", "ports"]);
    // A number means the service's port, a name is that of the port.
    let port_name = match name.port {
        "" => ports.first().map(|port| text(port, &["name"])).filter(|_| ports.len() == 1),
        wanted => {
            let is = |port: &&Value| {
                text(port, &["name"]) == wanted
                    || int(port, &["port"]).is_some_and(|port| port.to_string() == wanted)
            };
            ports.iter().find(is).map(|port| text(port, &["name"]))
        }
    };
    let unavailable = |why: String| Status::failure(503, "ServiceUnavailable", why);
    let Some(port_name) = port_name else {
        return Err(unavailable(format!(
            "no service port {:?} found for service {:?}",
            name.port, name.name
        )));
    };
    let none = || unavailable(format!("no endpoints available for service {:?}", name.name));
    let endpoints = find(call, "endpoints", object::name(&service)).map_err(|_| none())?;
    for subset in list(&endpoints, &["subsets"]) {
        let port = list(subset, &["ports"]).iter().find(|port| text(port, &["name"]) == port_name);
        let port = port.and_then(|port| int(port, &["port"])).and_then(|port| u16::try_from(port).ok());
        let addresses = list(subset, &["addresses"]);
        if let (Some(port), false) = (port, addresses.is_empty()) {
            let index = usize::try_from(getrandom::u32().unwrap_or(0)).unwrap_or(0) % addresses.len();
            let host = text(&addresses[index], &["ip"]).to_string();
            must_be_proxyable(&host)?;
            return Ok(Target { host, port, scheme: name.scheme() });
        }
    }
    Err(none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_machines_own_is_not_reached() {
        for own in [
            "",
            "web",
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "fe80::1",
            "224.0.0.1",
        ] {
            assert_eq!(must_be_proxyable(own).expect_err(own).message, "address not allowed");
        }
        for pods in ["10.244.0.5", "192.168.0.11", "fd00::5"] {
            assert!(must_be_proxyable(pods).is_ok(), "{pods}");
        }
    }

    #[test]
    fn names_carry_scheme_and_port() {
        let of = |scheme, name, port| Some(Name { scheme, name, port });
        assert_eq!(Name::parse("web"), of("", "web", ""));
        assert_eq!(Name::parse("web:80"), of("", "web", "80"));
        assert_eq!(Name::parse("https:web:"), of("https", "web", ""));
        for wrong in ["", "ftp:web:1", "a:b:c:d", ":80"] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }
}
