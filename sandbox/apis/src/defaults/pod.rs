//! Pods, and the pod templates of everything that makes pods (`pkg/apis/core/v1/defaults.go`).

use crate::tree::{
    Object, at, child, default, default_zero, each, flag, get, has, is_zero, made, text, with_spec,
};
use drydock_apimachinery::quantity::Quantity;
use serde_json::{Value, json};

/// A pod.
pub fn pod(object: &mut Value) {
    with_spec(object, |spec| {
        requests_from_limits(spec);
        requests_of_the_pod(spec);
        default(spec, "enableServiceLinks", true);
        if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
            host_ports(spec, "containers");
            host_ports(spec, "initContainers");
        }
        pod_spec(spec);
    });
}

/// `template` below a specification.
pub fn template(spec: &mut Object) {
    if let Some(spec) = made(spec, "template").and_then(|template| made(template, "spec")) {
        pod_spec(spec);
    }
}

/// `PodTemplate`s, whose template is no part of a specification.
pub fn pod_template(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        template(map);
    }
}

/// Both names of the service account are always the same (`Convert_v1_PodSpec_To_core_PodSpec`).
pub fn service_account(spec: &mut Object) {
    let name = ["serviceAccountName", "serviceAccount"]
        .iter()
        .filter_map(|field| spec.get(*field).and_then(Value::as_str))
        .find(|name| !name.is_empty())
        .map(str::to_string);
    if let Some(name) = name {
        spec.insert("serviceAccountName".into(), name.clone().into());
        spec.insert("serviceAccount".into(), name.into());
    }
}

fn requests_from_limits(spec: &mut Object) {
    for field in ["containers", "initContainers"] {
        each(spec, field, |container| {
            let Some(resources) = child(container, "resources") else { return };
            let Some(limits) = resources.get("limits").and_then(Value::as_object) else { return };
            let requests = resources.get("requests").unwrap_or(&Value::Null);
            let lacking = limits.iter().filter(|(name, _)| !has(requests, name));
            let lacking: Vec<_> = lacking.map(|(name, limit)| (name.clone(), limit.clone())).collect();
            if let Some(requests) = made(resources, "requests") {
                requests.extend(lacking);
            }
        });
    }
}

/// Amounts are kept in thousandths (`SetDefaults_ResourceList`).
fn round(resources: &mut Object) {
    for field in ["limits", "requests"] {
        for amount in child(resources, field).into_iter().flat_map(|amounts| amounts.values_mut()) {
            if let Some(exact) = Quantity::of(amount).filter(|exact| exact.round_up_to_millis() != *exact) {
                *amount = exact.round_up_to_millis().to_string().into();
            }
        }
    }
}

/// What a pod as a whole asks for follows from its limits, where it has any (`defaultPodRequests`).
fn requests_of_the_pod(spec: &mut Object) {
    let limits = match spec.get("resources").and_then(|all| all.get("limits")) {
        Some(Value::Object(limits)) if !limits.is_empty() => limits.clone(),
        _ => return,
    };
    let asked = crate::quantity::requests_of_containers(|field| spec.get(field).unwrap_or(&Value::Null));
    let asked = asked.into_iter().map(|(name, amount)| (name, Value::from(amount.to_string())));
    let mut wanted: Vec<(String, Value)> = asked.chain(limits).collect();
    wanted.retain(|(name, _)| matches!(&name[..], "cpu" | "memory"));
    if wanted.is_empty() {
        return;
    }
    if let Some(requests) = child(spec, "resources").and_then(|all| made(all, "requests")) {
        for (name, amount) in wanted {
            default(requests, &name, amount);
        }
    }
}

fn host_ports(spec: &mut Object, field: &str) {
    each(spec, field, |container| {
        each(container, "ports", |port| {
            if let Some(number) = port.get("containerPort").cloned() {
                default_zero(port, "hostPort", number);
            }
        });
    });
}

/// `SetDefaults_PodSpec` and all below it.
pub fn pod_spec(spec: &mut Object) {
    default_zero(spec, "dnsPolicy", "ClusterFirst");
    default_zero(spec, "restartPolicy", "Always");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    default_zero(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    if let Some(resources) = child(spec, "resources") {
        round(resources);
    }
    each(spec, "volumes", volume);
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, field, container);
    }
}

/// The tag that an image's name has, `latest` if neither tag nor digest is there; empty where it can't be told.
pub fn image_tag(image: &str) -> &str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, digest),
        None => (image, ""),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag,
        None if last.is_empty() || !digest.is_empty() => "",
        None => "latest",
    }
}

fn pull_policy(map: &mut Object, image: &str, field: &str) {
    let always = map.get(image).and_then(Value::as_str).is_some_and(|name| image_tag(name) == "latest");
    default_zero(map, field, if always { "Always" } else { "IfNotPresent" });
}

fn container(map: &mut Object) {
    pull_policy(map, "image", "imagePullPolicy");
    default_zero(map, "terminationMessagePath", "/dev/termination-log");
    default_zero(map, "terminationMessagePolicy", "File");
    default(map, "resources", json!({}));
    if let Some(resources) = child(map, "resources") {
        round(resources);
    }
    each(map, "ports", |port| default_zero(port, "protocol", "TCP"));
    each(map, "env", |env| {
        if let Some(from) = child(env, "valueFrom") {
            downward(from);
            if let Some(reference) = child(from, "fileKeyRef") {
                default(reference, "optional", false);
            }
        }
    });
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = child(map, field) {
            default_zero(probe, "timeoutSeconds", 1);
            default_zero(probe, "periodSeconds", 10);
            default_zero(probe, "successThreshold", 1);
            default_zero(probe, "failureThreshold", 3);
            handler(probe);
        }
    }
    let mut says_nothing = false;
    if let Some(lifecycle) = child(map, "lifecycle") {
        for field in ["postStart", "preStop"] {
            if let Some(hook) = child(lifecycle, field) {
                handler(hook);
            }
        }
        // The gate `ContainerStopSignals` is off (`dropContainerStopSignals`).
        says_nothing = lifecycle.remove("stopSignal").is_some_and(|signal| !signal.is_null())
            && lifecycle.values().all(Value::is_null);
    }
    if says_nothing {
        map.remove("lifecycle");
    }
}

fn handler(map: &mut Object) {
    if let Some(get) = child(map, "httpGet") {
        default_zero(get, "path", "/");
        default_zero(get, "scheme", "HTTP");
    }
    if let Some(grpc) = child(map, "grpc") {
        default(grpc, "service", "");
    }
}

/// References to fields of the pod itself.
fn downward(map: &mut Object) {
    if let Some(reference) = child(map, "fieldRef") {
        default_zero(reference, "apiVersion", "v1");
    }
}

fn volume(map: &mut Object) {
    if map.iter().all(|(key, value)| key == "name" || value.is_null()) {
        map.insert("emptyDir".into(), json!({}));
    }
    if let Some(source) = child(map, "hostPath") {
        default(source, "type", "");
    }
    for field in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = child(map, field) {
            default(source, "defaultMode", 0o644);
            each(source, "items", downward);
            each(source, "sources", |source| {
                if let Some(projection) = child(source, "downwardAPI") {
                    each(projection, "items", downward);
                }
                if let Some(token) = child(source, "serviceAccountToken") {
                    default(token, "expirationSeconds", 3600);
                }
            });
        }
    }
    if let Some(source) = child(map, "iscsi") {
        default_zero(source, "iscsiInterface", "default");
    }
    if let Some(image) = child(map, "image") {
        pull_policy(image, "reference", "pullPolicy");
    }
    if let Some(template) = child(map, "ephemeral").and_then(|source| child(source, "volumeClaimTemplate"))
        && let Some(spec) = made(template, "spec")
    {
        super::core::claim_spec(spec);
    }
}

/// `GetPodQOS`: how much a pod has reserved of what it may use.
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = get(pod, "spec");
    let mut any = false;
    let mut guaranteed = true;
    let of_containers =
        ["containers", "initContainers"].into_iter().flat_map(|field| crate::tree::list(spec, field));
    let is_set = |field: &str| crate::tree::entries(get(spec, "resources"), field).next().is_some();
    // What the pod says of itself as a whole counts alone.
    let of_pod = (is_set("requests") || is_set("limits")).then_some(spec);
    let containers: Vec<&Value> = of_pod.map_or_else(|| of_containers.collect(), |spec| vec![spec]);
    for container in containers {
        let resources = get(container, "resources");
        let mut limited = 0;
        for name in ["cpu", "memory"] {
            let request = at(resources, &["requests", name]);
            let limit = at(resources, &["limits", name]);
            any |= !is_none(request) || !is_none(limit);
            limited += usize::from(!is_none(limit));
            guaranteed &= is_none(request) || crate::quantity::same(request, limit);
        }
        guaranteed &= limited == 2;
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn is_none(quantity: &Value) -> bool {
    is_zero(quantity) || quantity == "0"
}

/// What a pod is before anybody has looked at it (`podStrategy.PrepareForCreate`).
pub fn initial_status(pod: &Value) -> Value {
    json!({"phase": "Pending", "qosClass": qos_class(pod)})
}

/// True if a container of `initContainers` goes on beside the others (a sidecar).
pub fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

/// True if the pod uses the node's network.
pub fn uses_host_network(spec: &Value) -> bool {
    flag(spec, "hostNetwork")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_have_no_stop_signals_of_their_own() {
        let stop = json!({"exec": {"command": ["a"]}});
        let mut object = json!({"spec": {"containers": [
            {"name": "a", "image": "i", "lifecycle": {"stopSignal": "SIGUSR1"}},
            {"name": "b", "image": "i", "lifecycle": {"stopSignal": "SIGUSR1", "preStop": stop}},
            {"name": "c", "image": "i", "lifecycle": {}}]}});
        pod(&mut object);
        let of = |index: usize| object["spec"]["containers"][index].get("lifecycle");
        assert_eq!((of(0), of(1), of(2)), (None, Some(&json!({"preStop": stop})), Some(&json!({}))));
    }

    #[test]
    fn a_plain_pod_as_the_server_shows_it() {
        let mut object = json!({"spec": {"containers": [{"name": "web", "image": "nginx", "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": 80}}}], "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "x"}}]}});
        pod(&mut object);
        assert_eq!(
            object["spec"],
            json!({"containers": [{"name": "web", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
              "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}}],
              "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {}, "enableServiceLinks": true,
              "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler"})
        );
    }

    #[test]
    fn a_key_of_a_file_has_to_be_there() {
        let of_file =
            json!({"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "A"}}});
        let mut object = json!({"spec": {"containers": [{"name": "c", "image": "i", "env": [of_file]}]}});
        pod(&mut object);
        let reference = &object["spec"]["containers"][0]["env"][0]["valueFrom"]["fileKeyRef"];
        assert_eq!(reference["optional"], false);
    }

    #[test]
    fn tags() {
        for (image, tag) in [
            ("nginx", "latest"),
            ("nginx:latest", "latest"),
            ("nginx:1.27", "1.27"),
            ("localhost:5000/nginx", "latest"),
            ("localhost:5000/a/nginx:2", "2"),
            ("nginx@sha256:abc", ""),
            ("nginx:1@sha256:abc", "1"),
            ("", ""),
        ] {
            assert_eq!(image_tag(image), tag, "{image}");
        }
    }

    #[test]
    fn classes_of_service() {
        let of = |resources: Value| qos_class(&json!({"spec": {"containers": [{"resources": resources}]}}));
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
        let full = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(
            of(json!({"limits": full, "requests": {"cpu": "1000m", "memory": "1024Mi"}})),
            "Guaranteed"
        );
        assert_eq!(of(json!({"limits": full, "requests": {"cpu": "1", "memory": "1Mi"}})), "Burstable");
        assert_eq!(of(json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}})), "Burstable");
    }

    #[test]
    fn a_pod_as_a_whole() {
        let mut object = json!({"spec": {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "500m"}}}, {"name": "b", "resources": {"requests": {"cpu": "0.0001"}}}],
            "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "400m"}}}]}});
        pod(&mut object);
        assert_eq!(object["spec"]["containers"][1]["resources"]["requests"]["cpu"], "1m");
        assert_eq!(object["spec"]["resources"]["requests"], json!({"cpu": "601m", "memory": "1Gi"}));
        assert_eq!(qos_class(&object), "Burstable");
        object["spec"]["resources"]["requests"]["cpu"] = "2".into();
        assert_eq!(qos_class(&object), "Guaranteed");
        let mut again = object.clone();
        pod(&mut again);
        assert_eq!(again, object);
    }

    #[test]
    fn limits_become_requests_in_pods_only() {
        let containers =
            json!([{"name": "a", "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1"}}}]);
        let mut object = json!({"spec": {"containers": containers}});
        pod(&mut object);
        assert_eq!(
            object["spec"]["containers"][0]["resources"]["requests"],
            json!({"cpu": "1", "memory": "1"})
        );
        let mut owner = json!({"template": {"spec": {"containers": containers}}});
        template(owner.as_object_mut().unwrap());
        assert_eq!(
            owner["template"]["spec"]["containers"][0]["resources"]["requests"],
            json!({"memory": "1"})
        );
    }
}
