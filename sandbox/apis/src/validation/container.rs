//! Containers of every kind: names, images, ports; the rest is a file each.

mod environment;
mod mounts;
mod probes;
pub mod resources;
pub mod security;

use super::restart;
use super::{dns_label, indexed, one_of, protocol, reasons};
use crate::defaults::pod::is_sidecar;
use crate::seen::Seen;
use crate::tree::{flag, get, has, int, is_zero, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// What containers are checked against.
pub struct Pod<'a> {
    /// Its specification.
    pub spec: &'a Value,
    /// Volumes that mounts may name.
    pub volumes: BTreeMap<&'a str, &'a Value>,
    /// True for a pod, false for the template of one.
    pub is_pod: bool,
}

impl Pod<'_> {
    fn grace(&self) -> i64 {
        int(self.spec, "terminationGracePeriodSeconds")
    }
}

/// `validateContainers`: those that make the pod.
pub fn containers(errors: &mut ErrorList, pod: &Pod<'_>, path: &Path) {
    if list(pod.spec, "containers").is_empty() {
        errors.required(&path.child("containers"), "");
        return;
    }
    let mut seen = Seen::default();
    for (path, container) in indexed(pod.spec, "containers", path) {
        common(errors, pod, container, &path);
        if !seen.insert(text(container, "name")) {
            errors.duplicate(&path.child("name"), text(container, "name"));
        }
        probes::lifecycle_and_probes(errors, pod, container, &path);
        restart::policy_and_rules(errors, container, &path);
    }
    let mut ports = HashSet::new();
    for (path, container) in indexed(pod.spec, "containers", path) {
        host_port_conflicts(errors, container, &mut ports, &path);
    }
}

/// `validateInitContainers`.
pub fn init_containers(errors: &mut ErrorList, pod: &Pod<'_>, path: &Path) {
    let mut seen: Seen<'_> = list(pod.spec, "containers").iter().map(|one| text(one, "name")).collect();
    for (path, container) in indexed(pod.spec, "initContainers", path) {
        common(errors, pod, container, &path);
        let name = text(container, "name");
        restart::policy_and_rules(errors, container, &path);
        if seen.contains(name) {
            errors.duplicate(&path.child("name"), name);
        } else if !name.is_empty() {
            seen.insert(name);
        }
        host_port_conflicts(errors, container, &mut HashSet::new(), &path);
        if is_sidecar(container) {
            probes::lifecycle_and_probes(errors, pod, container, &path);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if has(container, field) {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    errors.forbidden(&path.child(field), detail);
                }
            }
        }
    }
}

/// `validateEphemeralContainers`: those that were put into a pod that runs.
pub fn ephemeral_containers(errors: &mut ErrorList, pod: &Pod<'_>, path: &Path) {
    const FORBIDDEN: [&str; 7] = [
        "ports",
        "resources",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resizePolicy",
    ];
    let others: Seen<'_> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|field| list(pod.spec, field))
        .map(|one| text(one, "name"))
        .collect();
    let mut seen = others.clone();
    for (path, container) in indexed(pod.spec, "ephemeralContainers", path) {
        common(errors, pod, container, &path);
        untrimmed_image(errors, container, &path);
        let (name, target) = (text(container, "name"), text(container, "targetContainerName"));
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        for field in FORBIDDEN {
            if !is_zero(get(container, field)) {
                errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
            }
        }
        for (path, mount) in indexed(container, "volumeMounts", &path) {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

/// Templates have always been allowed spaces around images; pods are not.
pub fn untrimmed_image(errors: &mut ErrorList, container: &Value, path: &Path) {
    let image = text(container, "image");
    if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn common(errors: &mut ErrorList, pod: &Pod<'_>, container: &Value, path: &Path) {
    let name = text(container, "name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        dns_label(errors, (path, "name"), name);
    }
    if text(container, "image").is_empty() {
        errors.required(&path.child("image"), "");
    }
    let policies = &["File", "FallbackToLogsOnError"];
    let policy = text(container, "terminationMessagePolicy");
    one_of(errors, policy, (path, "terminationMessagePolicy"), policies, true);
    ports(errors, container, path);
    environment::environment(errors, container, path);
    mounts::mounts(errors, pod, container, path);
    mounts::devices(errors, pod, container, path);
    let pull = &["Always", "IfNotPresent", "Never"];
    one_of(errors, text(container, "imagePullPolicy"), (path, "imagePullPolicy"), pull, true);
    resources::resources(errors, pod, get(container, "resources"), &path.child("resources"));
    security::security(errors, get(container, "securityContext"), &path.child("securityContext"));
}

fn ports(errors: &mut ErrorList, container: &Value, path: &Path) {
    let mut seen = Seen::default();
    for (path, port) in indexed(container, "ports", path) {
        let name = text(port, "name");
        if !name.is_empty() {
            let why = names::is_valid_port_name(name);
            if !why.is_empty() {
                reasons(errors, (&path, "name"), name, why);
            } else if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        if int(port, "containerPort") == 0 {
            errors.required(&path.child("containerPort"), "");
        }
        for field in ["containerPort", "hostPort"] {
            let number = int(port, field);
            if number != 0 {
                for why in names::is_valid_port_num(number) {
                    errors.invalid(&path.child(field), number, why);
                }
            }
        }
        protocol(errors, port, &path);
    }
}

fn host_port_conflicts(errors: &mut ErrorList, container: &Value, seen: &mut HashSet<String>, path: &Path) {
    for (path, port) in indexed(container, "ports", path) {
        let number = int(port, "hostPort");
        if number == 0 {
            continue;
        }
        let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
        if !seen.insert(key.clone()) {
            errors.duplicate(&path.child("hostPort"), key);
        }
    }
}

/// Ports of containers in the node's network are the node's (`validatePodHostNetworkDeps`).
pub fn host_network_ports(errors: &mut ErrorList, pod: &Pod<'_>, path: &Path) {
    if !flag(pod.spec, "hostNetwork") {
        return;
    }
    for (path, container) in indexed(pod.spec, "containers", path) {
        for (path, port) in indexed(container, "ports", &path) {
            let (host, own) = (int(port, "hostPort"), int(port, "containerPort"));
            if (pod.is_pod || host != 0) && host != own {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&path.child("hostPort"), host, detail);
            }
        }
    }
}
