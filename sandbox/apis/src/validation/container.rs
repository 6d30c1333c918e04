//! Containers of every kind: names, images, ports, environment, mounts, probes, resources, security.

use super::restart;
use super::volumes::{field_selector, file_key, required_name, resource_selector};
use super::{
    NEGATIVE, container_resource_name, descending_path, dns_label, dns_subdomain, indexed, is_huge_page,
    may_be_overcommitted, nonnegative, one_of, port_number_or_name, protocol, reasons, resource_name,
    resource_quantity,
};
use crate::defaults::pod::is_sidecar;
use crate::quantity;
use crate::seen::Seen;
use crate::tree::{at, entries, flag, get, has, int, is_zero, list, text};
use drydock_apimachinery::field::{ErrorKind, ErrorList, Path};
use drydock_apimachinery::names;
use drydock_apimachinery::quantity::Quantity;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

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
        lifecycle_and_probes(errors, pod, container, &path);
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
            lifecycle_and_probes(errors, pod, container, &path);
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
    environment(errors, container, path);
    mounts(errors, pod, container, path);
    devices(errors, pod, container, path);
    let pull = &["Always", "IfNotPresent", "Never"];
    one_of(errors, text(container, "imagePullPolicy"), (path, "imagePullPolicy"), pull, true);
    resources(errors, get(container, "resources"), &path.child("resources"));
    security(errors, get(container, "securityContext"), &path.child("securityContext"));
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

fn environment(errors: &mut ErrorList, container: &Value, path: &Path) {
    for (path, variable) in indexed(container, "env", path) {
        let name = text(variable, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            reasons(errors, (&path, "name"), name, names::is_env_var_name(name));
        }
        if has(variable, "valueFrom") {
            value_from(errors, variable, &path.child("valueFrom"));
        }
    }
    for (path, source) in indexed(container, "envFrom", path) {
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            reasons(errors, (&path, "prefix"), prefix, names::is_env_var_name(prefix));
        }
        let mut sources = 0;
        for field in ["configMapRef", "secretRef"] {
            if has(source, field) {
                sources += 1;
                required_name(errors, get(source, field), &path.child(field));
            }
        }
        // Upstream names the list itself here.
        let list_path = Path::new(path.to_string().rsplit_once('[').map_or("envFrom", |(head, _)| head));
        if sources == 0 {
            errors.invalid(&list_path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if sources > 1 {
            errors.invalid(&list_path, "", "may not have more than one field specified at a time");
        }
    }
}

fn value_from(errors: &mut ErrorList, variable: &Value, path: &Path) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let from = get(variable, "valueFrom");
    let mut sources = 0;
    if has(from, "fieldRef") {
        sources += 1;
        field_selector(errors, get(from, "fieldRef"), FIELDS, &path.child("fieldRef"));
    }
    if has(from, "resourceFieldRef") {
        sources += 1;
        resource_selector(errors, get(from, "resourceFieldRef"), false, &path.child("resourceFieldRef"));
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        if !has(from, field) {
            continue;
        }
        sources += 1;
        let (selector, path) = (get(from, field), path.child(field));
        dns_subdomain(errors, (&path, "name"), text(selector, "name"));
        let key = text(selector, "key");
        if key.is_empty() {
            errors.required(&path.child("key"), "");
        } else {
            reasons(errors, (&path, "key"), key, names::is_config_map_key(key));
        }
    }
    if has(from, "fileKeyRef") {
        sources += 1;
        file_key(errors, get(from, "fileKeyRef"), &path.child("fileKeyRef"));
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", detail);
    } else if !text(variable, "value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn mounts(errors: &mut ErrorList, pod: &Pod<'_>, container: &Value, path: &Path) {
    let devices: HashMap<&str, &str> = list(container, "volumeDevices")
        .iter()
        .map(|one| (text(one, "name"), text(one, "devicePath")))
        .collect();
    let mounts_path = path.child("volumeMounts");
    let mut seen = Seen::default();
    for (path, mount) in indexed(container, "volumeMounts", path) {
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !pod.volumes.contains_key(name) {
            errors.not_found(&path.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if !seen.insert(target) {
            errors.invalid(&path.child("mountPath"), target, "must be unique");
        }
        if devices.contains_key(name) {
            errors.invalid(&path.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.values().any(|device| *device == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&path.child("mountPath"), target, detail);
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        // Upstream tells of these without the number of the mount.
        descending_path(errors, sub, (&mounts_path, "subPath"));
        if !expression.is_empty() && !sub.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&path.child("subPathExpr"), expression, detail);
        }
        descending_path(errors, expression, (&mounts_path, "subPathExpr"));
        if has(mount, "mountPropagation") {
            let propagation = text(mount, "mountPropagation");
            let at = mounts_path.child("mountPropagation");
            one_of(errors, propagation, &at, &["Bidirectional", "HostToContainer", "None"], true);
            if propagation == "Bidirectional" && !flag(get(container, "securityContext"), "privileged") {
                let detail = "Bidirectional mount propagation is available only to privileged containers";
                errors.forbidden(&at, detail);
            }
        }
    }
}

fn devices(errors: &mut ErrorList, pod: &Pod<'_>, container: &Value, path: &Path) {
    let (mut names, mut paths) = (Seen::default(), Seen::default());
    for (path, device) in indexed(container, "volumeDevices", path) {
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !names.insert(name) {
            errors.invalid(&path.child("name"), name, "must be unique");
        }
        match pod.volumes.get(name) {
            None => errors.not_found(&path.child("name"), name),
            Some(volume) if !has(volume, "persistentVolumeClaim") && !has(volume, "ephemeral") => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&path.child("name"), name, detail);
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errors.required(&path.child("devicePath"), "");
        } else if target.split('/').any(|part| part == "..") {
            errors.invalid(&path.child("devicePath"), target, "can not contain backsteps ('..')");
        } else if !paths.insert(target) {
            errors.invalid(&path.child("devicePath"), target, "must be unique");
        }
    }
}

fn lifecycle_and_probes(errors: &mut ErrorList, pod: &Pod<'_>, container: &Value, path: &Path) {
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
            port_number_or_name(errors, get(action, "port"), &at.child("port"));
            let scheme = text(action, "scheme");
            if !matches!(scheme, "HTTP" | "HTTPS") {
                errors.not_supported(&at.child("scheme"), scheme, &["HTTP", "HTTPS"]);
            }
            for header in list(action, "httpHeaders") {
                let name = text(header, "name");
                reasons(errors, (&at, "httpHeaders"), name, names::is_http_header_name(name));
            }
        }
        "tcpSocket" | "grpc" => port_number_or_name(errors, get(action, "port"), &at.child("port")),
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

/// `ValidateResourceRequirements`.
pub fn resources(errors: &mut ErrorList, resources: &Value, path: &Path) {
    amounts(errors, resources, path, container_resource_name);
    claims(errors, resources, path);
}

/// What a pod asks for as a whole (`validatePodResources`).
pub fn pod_resources(errors: &mut ErrorList, spec: &Value, path: &Path) {
    let given = get(spec, "resources");
    if given.is_null() {
        return;
    }
    let path = path.child("resources");
    amounts(errors, given, &path, |errors, name, path| {
        let before = errors.len();
        resource_name(errors, name, path);
        if errors.len() == before && !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
            errors.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
        }
    });
    if has(given, "claims") {
        errors.forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level");
    }
    for (name, asked) in quantity::requests_of_containers(|field| get(spec, field)) {
        let Some(whole) = Quantity::of(at(given, &["requests", &name])) else { continue };
        if asked > whole {
            let detail = format!("must be greater than or equal to aggregate container requests of {asked}");
            errors.invalid(&path.child("requests").key(&name), whole.to_string(), detail);
        }
    }
    // The path is upstream's.
    for (path, container) in indexed(spec, "containers", &path) {
        for (name, limit) in entries(get(container, "resources"), "limits") {
            let (limit, whole) = (Quantity::of(limit), Quantity::of(at(given, &["limits", name])));
            if let (Some(limit), Some(whole)) = (limit, whole)
                && limit > whole
            {
                let detail = format!("must be less than or equal to pod limits of {whole}");
                errors.invalid(&path.key(name).child("limits"), limit.to_string(), detail);
            }
        }
    }
}

fn amounts(
    errors: &mut ErrorList,
    resources: &Value,
    path: &Path,
    check_name: impl Fn(&mut ErrorList, &str, &Path),
) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let mut ordinary = false;
    let mut huge = false;
    for (name, quantity) in entries(resources, "limits") {
        let path = limits.key(name);
        check_name(errors, name, &path);
        resource_quantity(errors, name, quantity, &path);
        ordinary |= matches!(&name[..], "cpu" | "memory");
        huge |= is_huge_page(name);
    }
    for (name, quantity) in entries(resources, "requests") {
        let path = requests.key(name);
        check_name(errors, name, &path);
        resource_quantity(errors, name, quantity, &path);
        ordinary |= matches!(&name[..], "cpu" | "memory");
        huge |= is_huge_page(name);
        let limit = at(resources, &["limits", name]);
        let (Some(request), Some(limit)) = (Quantity::of(quantity), Quantity::of(limit)) else {
            if !may_be_overcommitted(name) && limit.is_null() {
                errors.required(&limits, "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        if request != limit && !may_be_overcommitted(name) {
            let detail = format!("must be equal to {name} limit of {limit}");
            errors.invalid(&requests, request.to_string(), detail);
        } else if request > limit {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid(&requests, request.to_string(), detail);
        }
    }
    if huge && !ordinary {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

fn claims(errors: &mut ErrorList, resources: &Value, path: &Path) {
    let mut seen = HashSet::new();
    for (path, claim) in indexed(resources, "claims", path) {
        let name = text(claim, "name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !seen.insert(name) {
            errors.duplicate(&path, name);
        } else {
            let detail = "must be one of the names in pod.spec.resourceClaims which is empty";
            errors.push(ErrorKind::NotFound, &path, Some(name.into()), detail);
        }
    }
}

fn security(errors: &mut ErrorList, context: &Value, path: &Path) {
    user_and_group(errors, context, path);
    if has(context, "procMount") {
        one_of(errors, text(context, "procMount"), (path, "procMount"), &["Default", "Unmasked"], true);
    }
    seccomp(errors, context, path);
    if get(context, "allowPrivilegeEscalation") == &Value::Bool(false) {
        if flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, context.clone(), detail);
        }
        if list(get(context, "capabilities"), "add").iter().any(|one| one == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, context.clone(), detail);
        }
    }
}

/// Numbers of users and groups of a security context.
pub fn user_and_group(errors: &mut ErrorList, context: &Value, path: &Path) {
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(errors, get(context, field), &path.child(field));
    }
    for (path, group) in indexed(context, "supplementalGroups", path) {
        id(errors, group, &path);
    }
}

fn id(errors: &mut ErrorList, id: &Value, path: &Path) {
    if let Some(id) = id.as_i64().filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errors.invalid(path, id, "must be between 0 and 2147483647, inclusive");
    }
}

/// `validateSeccompProfileField`.
pub fn seccomp(errors: &mut ErrorList, context: &Value, path: &Path) {
    if !has(context, "seccompProfile") {
        return;
    }
    let (profile, path) = (get(context, "seccompProfile"), path.child("seccompProfile"));
    let kind = text(profile, "type");
    match kind {
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        other => {
            let supported = &["Localhost", "RuntimeDefault", "Unconfined"];
            errors.not_supported(&path.child("type"), other, supported);
        }
    }
    let at = path.child("localhostProfile");
    match (kind, get(profile, "localhostProfile").as_str()) {
        ("Localhost", None) => errors.required(&at, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(local)) => descending_path(errors, local, &at),
        (_, Some(_)) => {
            errors.invalid(&at, profile.clone(), "can only be set when seccomp type is Localhost")
        }
        _ => {}
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

/// Resources that the pod as a whole has.
pub fn overhead(errors: &mut ErrorList, spec: &Value, path: &Path) {
    for (name, quantity) in entries(spec, "overhead") {
        let path = path.child("overhead").key(name);
        container_resource_name(errors, name, &path);
        if quantity::is_negative(quantity) {
            errors.invalid(&path, quantity::shown(quantity), NEGATIVE);
        }
    }
}
