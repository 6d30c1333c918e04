//! Plug-ins that are off unless somebody switches them on: AlwaysDeny, AlwaysPullImages, DenyServiceExternalIPs, ExtendedResourceToleration,
//! LimitPodHardAntiAffinityTopology, NamespaceAutoProvision, PodNodeSelector (upstream's `plugin/pkg/admission/…`).

use super::{Context, Operation, forbidden, pods::push, reader};
use crate::bootstrap;
use crate::server::Server;
use drydock_apimachinery::Status;
use drydock_apimachinery::names::is_dns1123_label;
use drydock_apimachinery::object::{list, map_mut, text};
use drydock_etcd::Store;
use serde_json::{Value, json};

const HOSTNAME: &str = "kubernetes.io/hostname";
/// What a namespace says of the nodes of its pods.
const NODE_SELECTOR: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The lists of containers that a pod has.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn is_written(context: &Context<'_>) -> bool {
    matches!(context.operation, Operation::Create | Operation::Update)
}

fn is_pod(context: &Context<'_>) -> bool {
    is_written(context) && context.is("", "pods") && context.subresource.is_empty()
}

/// AlwaysDeny.
pub fn deny(context: &Context<'_>, object: &Value) -> Status {
    forbidden(context, object, "admission control is denying all modifications")
}

/// NamespaceAutoProvision: the namespace of a new object comes to be with it.
pub async fn provide_namespace(server: &Server, context: &Context<'_>) -> Result<(), Status> {
    let concerns = context.operation == Operation::Create && !context.dry_run;
    if !concerns || context.namespace.is_empty() || context.is("", "namespaces") {
        return Ok(());
    }
    // What can't be one is not found afterwards.
    if !is_dns1123_label(context.namespace).is_empty() {
        return Ok(());
    }
    bootstrap::ensure(server, "", "v1", "namespaces", bootstrap::namespace(context.namespace)).await
}

/// AlwaysPullImages: who may not pull an image may not use the one that another has pulled.
pub fn pull_always(context: &Context<'_>, pod: &mut Value, old: Option<&Value>) {
    let concerns = context.is("", "pods")
        && is_written(context)
        && matches!(context.subresource, "" | "ephemeralcontainers");
    if !concerns || old.is_some_and(|old| has_no_new_image(pod, old)) {
        return;
    }
    for field in CONTAINERS {
        let containers = pod["spec"].get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            map_mut(container, &[]).insert("imagePullPolicy".into(), "Always".into());
        }
    }
    let volumes = pod["spec"].get_mut("volumes").and_then(Value::as_array_mut);
    for volume in volumes.into_iter().flatten().filter(|volume| volume["image"].is_object()) {
        map_mut(volume, &["image"]).insert("pullPolicy".into(), "Always".into());
    }
}

fn has_no_new_image(pod: &Value, old: &Value) -> bool {
    let images = |pod: &Value| -> Vec<String> {
        let all = CONTAINERS.iter().flat_map(|field| list(pod, &["spec", field]));
        all.map(|container| text(container, &["image"]).to_owned()).collect()
    };
    let known = images(old);
    images(pod).iter().all(|image| known.contains(image))
}

/// PodNodeSelector: pods of a namespace go where it says.
pub fn select_nodes(store: &Store, context: &Context<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_pod(context) || context.operation != Operation::Create {
        return Ok(());
    }
    let Some(namespace) = reader::get(store, &format!("namespaces/{}", context.namespace))? else {
        return Ok(());
    };
    let selector = text(&namespace, &["metadata", "annotations", NODE_SELECTOR]);
    let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
    let wanted: Vec<(&str, &str)> = pairs.map(|(key, value)| (key.trim(), value.trim())).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let own = &pod["spec"]["nodeSelector"];
    if wanted.iter().any(|(key, value)| own[*key].as_str().is_some_and(|own| own != *value)) {
        let why = "pod node label selector conflicts with its namespace node label selector";
        return Err(forbidden(context, pod, why));
    }
    let selector = map_mut(pod, &["spec", "nodeSelector"]);
    selector.extend(wanted.into_iter().map(|(key, value)| (key.to_owned(), value.into())));
    Ok(())
}

/// ExtendedResourceToleration: who asks for a node's devices tolerates what keeps others off it.
pub fn tolerate_devices(context: &Context<'_>, pod: &mut Value) {
    if !is_pod(context) {
        return;
    }
    let mut devices: Vec<String> = Vec::new();
    for container in ["initContainers", "containers"].iter().flat_map(|field| list(pod, &["spec", field])) {
        let requests = container["resources"]["requests"].as_object();
        devices.extend(
            requests.into_iter().flatten().map(|(name, _)| name.clone()).filter(|name| is_device(name)),
        );
    }
    devices.sort();
    devices.dedup();
    for device in devices {
        let toleration = json!({"key": device, "operator": "Exists"});
        if !list(pod, &["spec", "tolerations"]).contains(&toleration) {
            push(pod, &["spec"], "tolerations", toleration);
        }
    }
}

/// `IsExtendedResourceName`: with a domain that is not Kubernetes' own.
fn is_device(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| {
        domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io") && !domain.starts_with("requests.")
    })
}

/// LimitPodHardAntiAffinityTopology: a pod keeps others off its node, and off no more.
pub fn limit_anti_affinity(context: &Context<'_>, pod: &Value) -> Result<(), Status> {
    if !is_pod(context) {
        return Ok(());
    }
    let path = ["spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let mut keys = list(pod, &path).iter().map(|term| text(term, &["topologyKey"]));
    match keys.find(|key| *key != HOSTNAME) {
        Some(key) => {
            let why = format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} is allowed"
            );
            Err(forbidden(context, pod, &why))
        }
        None => Ok(()),
    }
}

/// DenyServiceExternalIPs: no address that a Service has not had already.
pub fn deny_external_addresses(
    context: &Context<'_>,
    service: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if !is_written(context) || !context.is("", "services") || !context.subresource.is_empty() {
        return Ok(());
    }
    let path = ["spec", "externalIPs"];
    let known = old.map_or(&[][..], |old| list(old, &path));
    if list(service, &path).iter().all(|address| known.contains(address)) {
        return Ok(());
    }
    Err(forbidden(context, service, "Use of external IPs is denied by admission control."))
}
