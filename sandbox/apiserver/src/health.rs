//! `/healthz`, `/livez`, `/readyz` with their single checks, and `/version` (k8s.io/apiserver `pkg/server/healthz`).

use crate::http::Query;
use crate::http::respond::{self, Answer};
use crate::server::Server;
use http::StatusCode;
use serde_json::{Value, json};

/// What is checked, in the order in which it is told.
const CHECKS: &[&str] = &[
    "ping",
    "log",
    "etcd",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/rbac/bootstrap-roles",
];

/// The answer to a path below one of the three; none: it is no such path.
pub fn answer(server: &Server, path: &str, query: &Query) -> Option<Answer> {
    for endpoint in ["/healthz", "/livez", "/readyz"] {
        let Some(rest) = path.strip_prefix(endpoint) else { continue };
        if rest.is_empty() {
            return Some(all(server, &endpoint[1..], query));
        }
        let name = rest.strip_prefix('/')?;
        return CHECKS.contains(&name).then(|| match check(server, name) {
            Ok(()) => respond::text(StatusCode::OK, "ok"),
            Err(why) => {
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n"))
            }
        });
    }
    None
}

fn all(server: &Server, name: &str, query: &Query) -> Answer {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for check_name in CHECKS {
        let line = if excluded.contains(check_name) {
            format!("[+]{check_name} excluded: ok\n")
        } else if check(server, check_name).is_ok() {
            format!("[+]{check_name} ok\n")
        } else {
            failed = true;
            format!("[-]{check_name} failed: reason withheld\n")
        };
        lines.push_str(&line);
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

fn check(server: &Server, name: &str) -> Result<(), String> {
    match name {
        "etcd" => {
            // An empty range of the store that has to be there.
            let keys = drydock_etcd::KeyRange::key("/registry/health");
            let read = server.store.range(&keys, &drydock_etcd::Query::default());
            read.map(|_| ()).map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

/// `/version`.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "35",
        "emulationMajor": "1",
        "emulationMinor": "35",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "34",
        "gitVersion": "v1.35.0+drydock",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2025-12-17T12:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

/// The processor's name as Go writes it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
