//! One probe, by its kind (`pkg/kubelet/prober/prober.go`, `pkg/probe`).

use super::{Outcome, Subject, grpc, http};
use crate::{docker::DockerError, text};
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::{net::Ipv4Addr, time::Duration};
use tokio::net::TcpStream;

/// Carries out a probe.
pub(super) async fn once(subject: &Subject, probe: &Probe, timeout: Duration) -> Outcome {
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match tokio::time::timeout(timeout, subject.kubelet.docker.run(&subject.id, &command)).await {
            Ok(Ok(output)) if output.status == 0 => Outcome::Good,
            Ok(Ok(output)) => Outcome::Bad(output.text),
            Ok(Err(e @ DockerError::Refused { .. })) => Outcome::Bad(e.to_string()),
            Ok(Err(e)) => Outcome::Error(e.to_string()),
            Err(_) => Outcome::Bad(format!(
                "command timed out: \"{}\" timed out after {}",
                command.join(" "),
                text::duration(timeout)
            )),
        };
    }
    if let Some(action) = &probe.http_get {
        return match target(&subject.container, action, subject.address) {
            Ok(target) => http::probe(&target, timeout).await,
            Err(why) => Outcome::Error(why),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host =
            action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| subject.address.to_string());
        return match port(&subject.container, &action.port) {
            Ok(port) => tcp(&host, port, timeout).await,
            Err(why) => Outcome::Error(why),
        };
    }
    if let Some(action) = &probe.grpc {
        let service = action.service.clone().unwrap_or_default();
        return match u16::try_from(action.port) {
            Ok(port) => grpc::probe(&subject.address.to_string(), port, &service, timeout).await,
            Err(_) => Outcome::Error(format!("invalid port number: {}", action.port)),
        };
    }
    Outcome::Error(format!("missing probe handler for {}", subject.container.name))
}

/// A port by its number or its name (`ResolveContainerPort`).
pub fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            match (named, name.parse()) {
                (Some(port), _) => port.container_port,
                (None, Ok(number)) => number,
                (None, Err(_)) => return Err(format!("strconv.Atoi: parsing {name:?}: invalid syntax")),
            }
        }
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

/// What an HTTP action asks.
pub fn target(
    container: &Container,
    action: &HTTPGetAction,
    address: Ipv4Addr,
) -> Result<http::Target, String> {
    let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| address.to_string());
    let path = action.path.clone().unwrap_or_default();
    let headers = action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone()));
    Ok(http::Target {
        tls: action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host,
        port: port(container, &action.port)?,
        path: if path.starts_with('/') { path } else { format!("/{path}") },
        headers: headers.collect(),
    })
}

async fn tcp(host: &str, port: u16, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Outcome::Good,
        Ok(Err(e)) => Outcome::Bad(format!("dial tcp {host}:{port}: connect: {}", http::words(&e))),
        Err(_) => Outcome::Bad(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_have_numbers_or_names() {
        let container: Container = serde_json::from_value(
            json!({ "name": "c", "ports": [{ "name": "web", "containerPort": 8080 }] }),
        )
        .unwrap();
        assert_eq!(port(&container, &IntOrString::String("web".into())), Ok(8080));
        assert_eq!(port(&container, &IntOrString::String("81".into())), Ok(81));
        assert_eq!(port(&container, &IntOrString::Int(80)), Ok(80));
        assert!(
            port(&container, &IntOrString::String("x".into()))
                .unwrap_err()
                .starts_with("strconv.Atoi: parsing \"x\"")
        );
        assert!(port(&container, &IntOrString::Int(70_000)).is_err());
    }

    #[tokio::test]
    async fn tcp_probes_say_what_the_dialler_says() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(tcp("127.0.0.1", port, Duration::from_secs(1)).await, Outcome::Good);
        drop(listener);
        let said = tcp("127.0.0.1", port, Duration::from_secs(1)).await;
        assert_eq!(said, Outcome::Bad(format!("dial tcp 127.0.0.1:{port}: connect: connection refused")));
    }
}
