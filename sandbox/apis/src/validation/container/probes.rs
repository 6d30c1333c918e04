//! Probes of a container and what it does when it starts and ends.

use super::super::{nonnegative, port_number_or_name, reasons};
use super::Pod;
use crate::tree::{get, has, int, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use serde_json::Value;

/// What a container does when it starts and ends, and its probes.
pub(super) fn lifecycle_and_probes(errors: &mut ErrorList, pod: &Pod<'_>, container: &Value, path: &Path) {
    let lifecycle = get(container, "lifecycle");
    for hook in ["postStart", "preStop"] {
        if has(lifecycle, hook) {
            handler(errors, get(lifecycle, hook), pod.grace(), &path.child("lifecycle").child(hook));
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if !has(container, field) {
            continue;
        }
        let (probe, path) = (get(container, field), path.child(field));
        handler(errors, probe, pod.grace(), &path);
        for number in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            nonnegative(errors, probe, number, &path);
        }
        let grace = get(probe, "terminationGracePeriodSeconds").as_i64();
        let grace_path = grace.map(|_| path.child("terminationGracePeriodSeconds")).unwrap_or_default();
        if let Some(grace) = grace.filter(|grace| *grace <= 0) {
            errors.invalid(&grace_path, grace, "must be greater than 0");
        }
        if field == "readinessProbe" {
            if let Some(grace) = grace {
                errors.invalid(&grace_path, grace, "must not be set for readinessProbes");
            }
        } else if int(probe, "successThreshold") != 1 {
            errors.invalid(&path.child("successThreshold"), int(probe, "successThreshold"), "must be 1");
        }
    }
}

fn handler(errors: &mut ErrorList, handler: &Value, grace: i64, path: &Path) {
    let mut given =
        ["exec", "httpGet", "tcpSocket", "grpc", "sleep"].into_iter().filter(|field| has(handler, field));
    let Some(first) = given.next() else {
        errors.required(path, "must specify a handler type");
        return;
    };
    let (action, at) = (get(handler, first), path.child(first));
    match first {
        "exec" => {
            if list(action, "command").is_empty() {
                errors.required(&at.child("command"), "");
            }
        }
        "httpGet" => {
            if text(action, "path").is_empty() {
                errors.required(&at.child("path"), "");
            }
            port_number_or_name(errors, get(action, "port"), (&at, "port"));
            let scheme = text(action, "scheme");
            if !matches!(scheme, "HTTP" | "HTTPS") {
                errors.not_supported(&at.child("scheme"), scheme, &["HTTP", "HTTPS"]);
            }
            for header in list(action, "httpHeaders") {
                let name = text(header, "name");
                reasons(errors, (&at, "httpHeaders"), name, names::is_http_header_name(name));
            }
        }
        "tcpSocket" | "grpc" => port_number_or_name(errors, get(action, "port"), (&at, "port")),
        _ => {
            let seconds = int(action, "seconds");
            if !(0..=grace).contains(&seconds) {
                let detail =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.invalid(&at, seconds, detail);
            }
        }
    }
    for more in given {
        errors.forbidden(&path.child(more), "may not specify more than 1 handler type");
    }
}
