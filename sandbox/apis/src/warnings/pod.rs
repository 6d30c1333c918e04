//! Pods and their templates (`pkg/api/pod/warnings.go`).

use super::deprecated_label;
use crate::seen::Seen;
use crate::tree::{at, entries, get, has, int, list, text};
use drydock_apimachinery::field::{Path, go_quote};
use drydock_apimachinery::quantity::Quantity;
use serde_json::Value;
use std::collections::HashMap;

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";

/// Annotations that do nothing any more.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// Volumes of drivers that are gone or going.
const VOLUMES: [(&str, &str); 10] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("awsElasticBlockStore", "deprecated in v1.17, non-functional in v1.27+"),
];

/// Warnings of a pod specification at a path.
pub fn of(path: &str, metadata: &Value, spec: &Value) -> Vec<String> {
    let root = Path::new(path);
    let path = root.child("spec");
    let mut all = Vec::new();
    placement(&mut all, spec, &path);
    annotations(&mut all, metadata, spec, &root);
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let is_old = |name: &String| VOLUMES.iter().any(|(field, _)| field == name);
        if !volume.as_object().is_some_and(|volume| volume.keys().any(is_old)) {
            continue;
        }
        for (field, why) in VOLUMES {
            if has(volume, field) {
                all.push(format!("{}: {why}", path.element("volumes", index).child(field)));
            }
        }
    }
    duplicates(&mut all, spec, &path);
    for (field, index, container) in containers(spec) {
        let path = path.element(field, index);
        fractions(&mut all, container, &path);
        environment(&mut all, container, &path);
    }
    ports(&mut all, spec, &path);
    if int(spec, "terminationGracePeriodSeconds") < 0 {
        let at = path.child("terminationGracePeriodSeconds");
        all.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    affinity(&mut all, spec, &path);
    all
}

/// Every container, the first ones first: the list that it is in, its place there, and itself.
fn containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    let fields = ["initContainers", "containers", "ephemeralContainers"].into_iter();
    fields.flat_map(|field| {
        list(spec, field).iter().enumerate().map(move |(index, container)| (field, index, container))
    })
}

fn placement(all: &mut Vec<String>, spec: &Value, path: &Path) {
    for (label, _) in entries(spec, "nodeSelector") {
        if let Some(why) = deprecated_label(label) {
            all.push(format!("{}: {why}", path.entry("nodeSelector", label)));
        }
    }
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let node = at(spec, &["affinity", "nodeAffinity"]);
    let terms = list(get(node, REQUIRED), "nodeSelectorTerms");
    for (index, term) in terms.iter().enumerate() {
        let node_path = path.child("affinity.nodeAffinity");
        let terms_path = node_path.child(REQUIRED);
        for (at, expression) in list(term, "matchExpressions").iter().enumerate() {
            let key = text(expression, "key");
            if let Some(why) = deprecated_label(key) {
                let term_path = terms_path.element("nodeSelectorTerms", index);
                let path = term_path.element("matchExpressions", at);
                all.push(format!("{}: {key} is {why}", path.child("key")));
            }
        }
    }
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = path.element("topologySpreadConstraints", index);
        let key = text(constraint, "topologyKey");
        if let Some(why) = deprecated_label(key) {
            all.push(format!("{}: {key} is {why}", path.child("topologyKey")));
        }
        if !has(constraint, "labelSelector") {
            let at = path.child("labelSelector");
            all.push(format!("{at}: a null labelSelector results in matching no pod"));
        }
    }
}

fn annotations(all: &mut Vec<String>, metadata: &Value, spec: &Value, root: &Path) {
    let given = get(metadata, "annotations");
    if !given.is_object() {
        return;
    }
    let path = root.child("metadata.annotations");
    for (key, why) in ANNOTATIONS {
        if has(given, key) {
            all.push(format!("{}: {why}", path.key(key)));
        }
    }
    if has(given, SECCOMP_POD) && !has(get(spec, "securityContext"), "seccompProfile") {
        let why = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
        all.push(format!("{}: {why}", path.key(SECCOMP_POD)));
    }
}

fn duplicates(all: &mut Vec<String>, spec: &Value, path: &Path) {
    for (field, name) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = Seen::default();
        for (index, item) in list(spec, field).iter().enumerate() {
            let value = text(item, name);
            let at = path.element(field, index);
            let at = at.child(name);
            if !seen.insert(value) {
                all.push(format!("{at}: duplicate {name} {}", go_quote(value)));
            }
            if field == "imagePullSecrets" && value.is_empty() {
                all.push(format!("{at}: invalid empty name \"\""));
            }
        }
    }
}

fn fractions(all: &mut Vec<String>, container: &Value, path: &Path) {
    let resources = get(container, "resources");
    for (part, name) in [
        ("limits", "memory"),
        ("requests", "memory"),
        ("limits", "ephemeral-storage"),
        ("requests", "ephemeral-storage"),
    ] {
        let Some(amount) = Quantity::of(at(resources, &[part, name])) else { continue };
        if !amount.round_up_to_millis().is_whole() {
            let at = path.child("resources");
            let at = at.entry(part, name);
            all.push(format!("{at}: fractional byte value \"{amount}\" is invalid, must be an integer"));
        }
    }
}

fn environment(all: &mut Vec<String>, container: &Value, path: &Path) {
    let mut seen = Seen::default();
    for (index, variable) in list(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        if seen.insert(name) {
            continue;
        }
        // To build on the value before is fine: X="$(X)123".
        let reference = format!("$({name})");
        let value = text(variable, "value");
        if has(variable, "valueFrom") || value == reference || !value.contains(&reference) {
            let at = path.element("env", index);
            let name = go_quote(name);
            all.push(format!(
                "{at}: hides previous definition of {name}, which may be dropped when using apply"
            ));
        }
    }
}

fn ports(all: &mut Vec<String>, spec: &Value, path: &Path) {
    let number_of = |port| (int(port, "containerPort"), text(port, "protocol"));
    let ports = containers(spec).flat_map(|(.., container)| list(container, "ports"));
    let mut numbers: Vec<(i64, &str)> = ports.map(number_of).collect();
    numbers.sort_unstable();
    if !numbers.windows(2).any(|two| two[0] == two[1]) {
        return;
    }
    let mut seen: HashMap<(i64, &str), Vec<(String, &Value)>> = HashMap::new();
    for (field, index, container) in containers(spec) {
        let path = path.element(field, index);
        for (index, port) in list(container, "ports").iter().enumerate() {
            let path = path.element("ports", index);
            let others = seen.entry(number_of(port)).or_default();
            for (other_path, other) in others.iter() {
                if let Some(words) = conflict(port, other) {
                    all.push(format!("{path}: {words} port definition with {other_path}"));
                }
            }
            others.push((path.to_string(), port));
        }
    }
}

fn conflict(one: &Value, other: &Value) -> Option<&'static str> {
    let (ip_a, ip_b) = (text(one, "hostIP"), text(other, "hostIP"));
    let (port_a, port_b) = (int(one, "hostPort"), int(other, "hostPort"));
    if ip_a == ip_b && port_a == port_b {
        Some("duplicate")
    } else if port_a == 0 || port_b == 0 {
        Some("overlapping")
    } else if port_a == port_b && ip_a.is_empty() != ip_b.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

fn affinity(all: &mut Vec<String>, spec: &Value, path: &Path) {
    const WHY: &str = "a null labelSelector results in matching no pod";
    for field in ["podAffinity", "podAntiAffinity"] {
        let terms = at(spec, &["affinity", field]);
        if terms.is_null() {
            continue;
        }
        let path = path.child("affinity");
        let path = path.child(field);
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in list(terms, required).iter().enumerate() {
            if !has(term, "labelSelector") {
                all.push(format!("{}: {WHY}", path.element(required, index).child("labelSelector")));
            }
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in list(terms, preferred).iter().enumerate() {
            if !has(get(term, "podAffinityTerm"), "labelSelector") {
                let path = path.element(preferred, index);
                all.push(format!("{}: {WHY}", path.child("podAffinityTerm.labelSelector")));
            }
        }
    }
}
