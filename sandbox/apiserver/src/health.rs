//! `/healthz`, `/livez`, `/readyz` with their single checks, and `/version` (k8s.io/apiserver `pkg/server/healthz`).

use crate::http::Query;
use crate::http::respond::{self, Answer};
use crate::server::Server;
use http::StatusCode;
use serde::Serialize;
use std::time::Duration;

/// What is checked, in the order in which it is told. The hooks are those of upstream's that are steps of ours, too: nobody is served
/// before all of them are done (`bootstrap::run`, `custom::load`).
const CHECKS: &[&str] = &[
    "ping",
    "log",
    "etcd",
    "etcd-readiness",
    "informer-sync",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
];

/// What does not mean that the server is ill, only that it can't serve now.
const READINESS: [&str; 2] = ["etcd-readiness", "informer-sync"];

/// The checks of one of the three.
fn checks(endpoint: &str) -> impl Iterator<Item = &'static str> {
    let is_ready = endpoint == "readyz";
    CHECKS.iter().copied().filter(move |name| is_ready || !READINESS.contains(name))
}

/// A store that answers later than this is not well (`--etcd-healthcheck-timeout`).
const SLOWEST_STORE: Duration = Duration::from_secs(2);

/// The answer to a path below one of the three; none: it is no such path.
pub async fn answer(server: &Server, path: &str, query: &Query) -> Option<Answer> {
    for endpoint in ["/healthz", "/livez", "/readyz"] {
        let Some(rest) = path.strip_prefix(endpoint) else { continue };
        let endpoint = &endpoint[1..];
        if rest.is_empty() {
            return Some(all(server, endpoint, query).await);
        }
        let name = rest.strip_prefix('/')?;
        if !checks(endpoint).any(|one| one == name) {
            return None;
        }
        return Some(match check(server, name).await {
            Ok(()) => respond::text(StatusCode::OK, "ok"),
            Err(why) => {
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n"))
            }
        });
    }
    None
}

async fn all(server: &Server, name: &str, query: &Query) -> Answer {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for check_name in checks(name) {
        let line = if excluded.contains(&check_name) {
            format!("[+]{check_name} excluded: ok\n")
        } else if check(server, check_name).await.is_ok() {
            format!("[+]{check_name} ok\n")
        } else {
            failed = true;
            format!("[-]{check_name} failed: reason withheld\n")
        };
        lines.push_str(&line);
    }
    let unknown = excluded.iter().filter(|one| !checks(name).any(|check| check == **one));
    let unknown: Vec<String> = unknown.map(|one| format!("{one:?}")).collect();
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    if failed {
        lines.push_str(&format!("{name} check failed\n"));
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, lines);
    }
    if query.get("verbose").is_none() {
        return respond::text(StatusCode::OK, "ok");
    }
    lines.push_str(&format!("{name} check passed\n"));
    respond::text(StatusCode::OK, lines)
}

async fn check(server: &Server, name: &str) -> Result<(), String> {
    match name {
        "etcd" | "etcd-readiness" => {}
        "informer-sync" => return server.store.check_connection().map_err(|error| error.to_string()),
        _ => return Ok(()),
    }
    // Reading works from memory even while the store cannot be reached; nothing can be written then.
    match tokio::time::timeout(SLOWEST_STORE, server.store.sync()).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("error getting data from etcd: context deadline exceeded".into()),
    }
}

/// `/version`.
pub fn version() -> Version {
    Version {
        major: "1",
        minor: "35",
        emulation_major: "1",
        emulation_minor: "35",
        min_compatibility_major: "1",
        min_compatibility_minor: "34",
        git_version: "v1.35.0+drydock",
        git_commit: "",
        git_tree_state: "clean",
        build_date: "2025-12-17T12:00:00Z",
        go_version: "",
        compiler: "rustc",
        platform: format!("linux/{}", architecture()),
    }
}

/// `version.Info`, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "upstream's names")]
pub struct Version {
    pub major: &'static str,
    pub minor: &'static str,
    pub emulation_major: &'static str,
    pub emulation_minor: &'static str,
    pub min_compatibility_major: &'static str,
    pub min_compatibility_minor: &'static str,
    pub git_version: &'static str,
    pub git_commit: &'static str,
    pub git_tree_state: &'static str,
    pub build_date: &'static str,
    pub go_version: &'static str,
    pub compiler: &'static str,
    pub platform: String,
}

/// The processor's name as Go writes it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
