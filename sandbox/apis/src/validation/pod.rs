//! Pods and their templates (`ValidatePodSpec`, `ValidatePodUpdate`).

use super::container::{self, Pod};
use super::{
    annotations, dns_label, dns_subdomain, indexed, is_valid_ip, labels, one_of, pod_update, qualified_name,
    reasons, scheduling, spec, volumes,
};
use crate::seen::Seen;
use crate::tree::{flag, get, has, list, text, texts};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object;
use serde_json::Value;

/// A pod, new or changed.
pub fn validate(pod: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let path = spec();
    pod_spec(&mut errors, get(pod, "spec"), object::name(pod), true, &path);
    only_in_pods(&mut errors, get(pod, "spec"), &path);
    match old {
        None => {
            let annotations = get(get(pod, "metadata"), "annotations");
            let place = Path::new("metadata.annotations");
            pod_update::own_annotations(&mut errors, annotations, get(pod, "spec"), &place);
            if !list(get(pod, "spec"), "ephemeralContainers").is_empty() {
                errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
            }
            let gated = !list(get(pod, "spec"), "schedulingGates").is_empty();
            if gated && !text(get(pod, "spec"), "nodeName").is_empty() {
                let detail = "cannot be set until all schedulingGates have been cleared";
                errors.forbidden(&path.child("nodeName"), detail);
            }
        }
        Some(old) => pod_update::update(&mut errors, pod, old),
    }
    errors
}

/// `PodTemplate`s.
pub fn validate_template(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    template(&mut errors, get(object, "template"), &Path::new("template"));
    errors
}

/// `ValidatePodTemplateSpec`.
pub fn template(errors: &mut ErrorList, template: &Value, path: &Path) {
    let metadata = get(template, "metadata");
    labels(errors, get(metadata, "labels"), (path, "labels"));
    annotations(errors, get(metadata, "annotations"), &path.child("annotations"));
    let own = get(metadata, "annotations");
    pod_update::own_annotations(errors, own, get(template, "spec"), &path.child("annotations"));
    let path = path.child("spec");
    pod_spec(errors, get(template, "spec"), "", false, &path);
    if !list(get(template, "spec"), "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&path.child("ephemeralContainers"), detail);
    }
}

fn only_in_pods(errors: &mut ErrorList, spec: &Value, path: &Path) {
    if text(spec, "serviceAccountName").is_empty() {
        for (path, volume) in indexed(spec, "volumes", path) {
            for (path, source) in indexed(get(volume, "projected"), "sources", &path.child("projected")) {
                if has(source, "serviceAccountToken") {
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.forbidden(&path.child("serviceAccountToken"), detail);
                }
            }
        }
    }
    for field in ["containers", "initContainers"] {
        for (path, one) in indexed(spec, field, path) {
            container::untrimmed_image(errors, one, &path);
        }
    }
}

/// `ValidatePodSpec`.
pub fn pod_spec(errors: &mut ErrorList, spec: &Value, name: &str, is_pod: bool, path: &Path) {
    let volumes = volumes::volumes(errors, spec, name, path);
    let pod = Pod { spec, volumes, is_pod };
    container::resources::pod_claims(errors, spec, path);
    container::containers(errors, &pod, path);
    container::init_containers(errors, &pod, path);
    container::ephemeral_containers(errors, &pod, path);
    container::host_network_ports(errors, &pod, path);
    let restart = &["Always", "OnFailure", "Never"];
    one_of(errors, text(spec, "restartPolicy"), (path, "restartPolicy"), restart, true);
    let dns = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(errors, text(spec, "dnsPolicy"), (path, "dnsPolicy"), dns, true);
    labels(errors, get(spec, "nodeSelector"), (path, "nodeSelector"));
    security(errors, spec, path);
    scheduling::affinity(errors, get(spec, "affinity"), &path.child("affinity"));
    dns_config(errors, spec, path);
    gates(errors, spec, path);
    scheduling::topology_spread(errors, spec, path);
    host_users(errors, spec, path);
    names_and_numbers(errors, spec, path);
    scheduling::tolerations(errors, spec, path);
    host_aliases(errors, spec, path);
    container::resources::overhead(errors, spec, path);
    container::resources::pod_resources(errors, spec, path);
    os(errors, spec, path);
}

fn security(errors: &mut ErrorList, spec: &Value, path: &Path) {
    let (context, path) = (get(spec, "securityContext"), path.child("securityContext"));
    container::security::user_and_group(errors, context, &path);
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    let mut seen = Seen::default();
    for (path, sysctl) in indexed(context, "sysctls", &path) {
        let name = text(sysctl, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !is_sysctl_name(name) {
            let detail = "must have at most 253 characters and match regex \
                ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&path.child("name"), name, detail);
        } else if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
    if has(context, "fsGroupChangePolicy") {
        let policies = &["Always", "OnRootMismatch"];
        let at = path.child("fsGroupChangePolicy");
        one_of(errors, text(context, "fsGroupChangePolicy"), &at, policies, true);
    }
    container::security::seccomp(errors, context, &path);
}

fn is_sysctl_name(name: &str) -> bool {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(b))
    };
    name.len() <= 253 && name.split(['.', '/']).all(part)
}

fn dns_config(errors: &mut ErrorList, spec: &Value, path: &Path) {
    let (config, path) = (get(spec, "dnsConfig"), path.child("dnsConfig"));
    if text(spec, "dnsPolicy") == "None" {
        if !has(spec, "dnsConfig") {
            errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if list(config, "nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.child("nameservers"), detail);
            return;
        }
    }
    if config.is_null() {
        return;
    }
    let servers = get(config, "nameservers");
    if list(config, "nameservers").len() > 3 {
        errors.invalid(&path.child("nameservers"), servers.clone(), "must not have more than 3 nameservers");
    }
    for (path, server) in indexed(config, "nameservers", &path) {
        let server = server.as_str().unwrap_or_default();
        reasons(errors, &path, server, is_valid_ip(server));
    }
    let searches = texts(config, "searches");
    let at = path.child("searches");
    if searches.len() > 32 {
        let detail = "must not have more than 32 search paths";
        errors.invalid(&at, get(config, "searches").clone(), detail);
    }
    if searches.join(" ").len() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&at, get(config, "searches").clone(), detail);
    }
    for (index, search) in searches.into_iter().enumerate() {
        let bare = search.strip_suffix('.').unwrap_or(search);
        if bare.is_empty() && search == "." {
            continue;
        }
        dns_subdomain(errors, &at.index(index), bare);
    }
    for (path, option) in indexed(config, "options", &path) {
        if text(option, "name").is_empty() {
            errors.required(&path, "must not be empty");
        }
    }
}

fn gates(errors: &mut ErrorList, spec: &Value, path: &Path) {
    for (path, gate) in indexed(spec, "readinessGates", path) {
        qualified_name(errors, (&path, "conditionType"), text(gate, "conditionType"));
    }
    let mut seen = Seen::default();
    for (path, gate) in indexed(spec, "schedulingGates", path) {
        let name = text(gate, "name");
        qualified_name(errors, &path, name);
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
    }
}

fn host_users(errors: &mut ErrorList, spec: &Value, path: &Path) {
    if get(spec, "hostUsers") != &Value::Bool(false) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, field) {
            errors.forbidden(&path.child(shown), "when `hostUsers` is false");
        }
    }
}

fn names_and_numbers(errors: &mut ErrorList, spec: &Value, path: &Path) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = text(spec, field);
        if !name.is_empty() {
            dns_subdomain(errors, (path, field), name);
        }
    }
    if let Some(seconds) = get(spec, "activeDeadlineSeconds").as_i64()
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, detail);
    }
    for field in ["hostname", "subdomain"] {
        let name = text(spec, field);
        if !name.is_empty() {
            dns_label(errors, (path, field), name);
        }
    }
    if has(spec, "hostnameOverride") {
        // What the kernel takes.
        const LONGEST: usize = 64;
        let name = text(spec, "hostnameOverride");
        if name.len() > LONGEST {
            errors.too_long(&path.child("hostnameOverride"), LONGEST);
        }
        dns_subdomain(errors, (path, "hostnameOverride"), name);
    }
    if has(spec, "preemptionPolicy") {
        let policies = &["PreemptLowerPriority", "Never"];
        one_of(errors, text(spec, "preemptionPolicy"), (path, "preemptionPolicy"), policies, true);
    }
}

fn host_aliases(errors: &mut ErrorList, spec: &Value, path: &Path) {
    for (path, alias) in indexed(spec, "hostAliases", path) {
        reasons(errors, (&path, "ip"), text(alias, "ip"), is_valid_ip(text(alias, "ip")));
        for (at, host) in indexed(alias, "hostnames", &path) {
            let host = host.as_str().unwrap_or_default();
            dns_subdomain(errors, &at, host);
        }
    }
}

fn os(errors: &mut ErrorList, spec: &Value, path: &Path) {
    if !has(spec, "os") {
        return;
    }
    match text(get(spec, "os"), "name") {
        "" => errors.required(&path.child("os.name"), "cannot be empty"),
        "linux" | "windows" => {}
        other => errors.not_supported(&path.child("os"), other, &["linux", "windows"]),
    }
}

/// A binding of a pod to a node (`ValidatePodBinding`).
pub fn validate_binding(binding: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (target, path) = (get(binding, "target"), Path::new("target"));
    let kind = text(target, "kind");
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if text(target, "name").is_empty() {
        errors.required(&path.child("name"), "");
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::super::pod_update::{validate_ephemeral_containers, validate_status};
    use super::*;
    use serde_json::json;

    fn good() -> Value {
        let mut pod =
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}});
        crate::defaults::pod::pod(&mut pod);
        pod
    }

    /// The errors of a pod whose specification differs from a good one by a merge.
    fn errors(change: Value) -> Vec<String> {
        let mut pod = good();
        for (key, value) in change.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        crate::defaults::pod::pod(&mut pod);
        validate(&pod, None).iter().map(ToString::to_string).collect()
    }

    fn container(more: Value) -> Value {
        let mut one = json!({"name": "c", "image": "i"});
        for (key, value) in more.as_object().unwrap() {
            one[key] = value.clone();
        }
        json!({"containers": [one]})
    }

    #[test]
    fn what_learners_get_wrong() {
        assert_eq!(errors(json!({})), Vec::<String>::new());
        for (change, want) in [
            (json!({"containers": []}), "spec.containers: Required value"),
            (
                json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}),
                "spec.containers[1].name: Duplicate value: \"a\"",
            ),
            (container(json!({"name": ""})), "spec.containers[0].name: Required value"),
            (
                container(json!({"name": "my.c"})),
                "spec.containers[0].name: Invalid value: \"my.c\": must not contain dots",
            ),
            (container(json!({"image": ""})), "spec.containers[0].image: Required value"),
            (
                container(json!({"image": " i"})),
                "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
            ),
            (
                container(json!({"imagePullPolicy": "Sometimes"})),
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ),
            (
                container(json!({"ports": [{"containerPort": 70000}]})),
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (
                container(json!({"ports": [{"containerPort": 80, "protocol": "tcp"}]})),
                "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                container(
                    json!({"ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81, "hostPort": 8080}]}),
                ),
                "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//8080\"",
            ),
            (
                container(json!({"volumeMounts": [{"name": "v", "mountPath": "/m"}]})),
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            ),
            (
                container(
                    json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.nme"}}}]}),
                ),
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.nme\": error converting fieldPath: field label not supported: metadata.nme",
            ),
            (
                container(
                    json!({"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
                ),
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ),
            (
                container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                container(json!({"resources": {"requests": {"memory": "-1Mi"}}})),
                "spec.containers[0].resources.requests[memory]: Invalid value: \"-1Mi\": must be greater than or equal to 0",
            ),
            (
                container(json!({"resources": {"requests": {"ram": "1"}}})),
                "spec.containers[0].resources.requests[ram]: Invalid value: \"ram\": must be a standard resource type or fully qualified",
            ),
            (
                json!({"resources": {"requests": {"ephemeral-storage": "1"}}}),
                "spec.resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ),
            (
                json!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
                    "containers": [{"name": "c", "image": "i", "terminationMessagePolicy": "File", "imagePullPolicy": "Always",
                        "resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": "1500m"}}}]}),
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 1500m",
            ),
            (
                container(json!({"livenessProbe": {"periodSeconds": 5}})),
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
            ),
            (
                container(json!({"livenessProbe": {"httpGet": {"port": 80}, "tcpSocket": {"port": 80}}})),
                "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            ),
            (
                container(json!({"livenessProbe": {"exec": {"command": ["x"]}, "successThreshold": 2}})),
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ),
            (
                container(
                    json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "../x", "key": "A"}}}]}),
                ),
                "spec.containers[0].env[0].valueFrom.fileKeyRef.path: Invalid value: \"../x\": must not contain '..'",
            ),
            (
                json!({"restartPolicy": "Sometimes"}),
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ),
            (
                json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]}),
                "spec.volumes[1].name: Duplicate value: \"a\"",
            ),
            (
                json!({"volumes": [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
                "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            ),
            (
                json!({"volumes": [{"name": "a", "hostPath": {"path": "/a/../b"}}]}),
                "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            ),
            (
                json!({"volumes": [{"name": "a", "secret": {"secretName": "s", "defaultMode": 1000}}]}),
                "spec.volumes[0].secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive",
            ),
            (
                json!({"initContainers": [{"name": "i", "image": "i", "readinessProbe": {"exec": {"command": ["x"]}}}]}),
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ),
            (
                json!({"hostnameOverride": format!("{0}.{0}", "a".repeat(40))}),
                "spec.hostnameOverride: Too long: may not be more than 64 bytes",
            ),
            (
                json!({"hostnameOverride": "A"}),
                "spec.hostnameOverride: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
            (json!({"hostname": "a.b"}), "spec.hostname: Invalid value: \"a.b\": must not contain dots"),
            (
                json!({"ephemeralContainers": [{"name": "e", "image": "i"}]}),
                "spec.ephemeralContainers: Forbidden: cannot be set on create",
            ),
            (
                json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            ),
            (
                json!({"priorityClassName": "A"}),
                "spec.priorityClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
        ] {
            let errors = errors(change.clone());
            assert!(errors.iter().any(|error| error == want), "{change}: {errors:#?}\nwant {want}");
        }
    }

    #[test]
    fn what_may_change_of_a_pod() {
        let old = good();
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = json!("nginx:2");
        new["spec"]["activeDeadlineSeconds"] = json!(5);
        new["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
        assert_eq!(validate(&new, Some(&old)).aggregate(), "[]");
        new["spec"]["containers"][0]["command"] = json!(["sleep"]);
        let text = validate(&new, Some(&old)).aggregate();
        assert!(text.starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"), "{text}");
        let mut more = old.clone();
        more["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "d"}));
        assert!(
            validate(&more, Some(&old))
                .aggregate()
                .contains("spec.containers: Forbidden: pod updates may not add or remove containers")
        );
    }

    #[test]
    fn statuses_and_ephemeral_containers() {
        let mut old = good();
        old["spec"]["restartPolicy"] = json!("Never");
        old["status"] =
            json!({"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 1}}}]});
        let mut new = old.clone();
        new["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
        assert_eq!(
            validate_status(&new, &old).aggregate(),
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
        );
        let mut debugged = good();
        debugged["spec"]["ephemeralContainers"] =
            json!([{"name": "c", "image": "busybox", "targetContainerName": "x"}]);
        crate::defaults::pod::pod(&mut debugged);
        let texts: Vec<_> =
            validate_ephemeral_containers(&debugged, &good()).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\""
            ]
        );
    }
}
