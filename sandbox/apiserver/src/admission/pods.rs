//! Plug-ins that fill in a pod: Priority, DefaultTolerationSeconds, RuntimeClass; and TaintNodesByCondition, which keeps pods away from
//! a new node until it is ready.

use super::service_account::is_mirror;
use super::{Context, Operation, forbidden, reader};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, at, int, list, map, map_mut, text};
use drydock_etcd::Store;
use serde_json::{Value, json};
use std::sync::Arc;

fn is_new_pod(context: &Context<'_>) -> bool {
    context.is("", "pods") && context.subresource.is_empty() && context.operation == Operation::Create
}

/// Adds an element to a list below a path, which is made if it is not there.
pub(super) fn push(tree: &mut Value, path: &[&str], field: &str, value: Value) {
    let map = map_mut(tree, path);
    let all = map.entry(field).or_insert_with(|| json!([]));
    if !all.is_array() {
        *all = json!([]);
    }
    if let Some(all) = all.as_array_mut() {
        all.push(value);
    }
}

/// Priority: the number that a pod's class stands for (`plugin/pkg/admission/priority`).
pub fn priority(store: &Store, context: &Context<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_new_pod(context) {
        return Ok(());
    }
    let mut name = text(pod, &["spec", "priorityClassName"]).to_string();
    let class = if name.is_empty() {
        let default = default_priority(store)?;
        if let Some(class) = &default {
            name = object::name(class).into();
            map_mut(pod, &["spec"]).insert("priorityClassName".into(), name.clone().into());
        }
        default
    } else {
        let found = reader::get(store, &format!("priorityclasses/{name}"))?;
        if found.is_none() {
            let why = format!("no PriorityClass with name {name} was found");
            return Err(forbidden(context, pod, &why));
        }
        found
    };
    let value = class.as_ref().and_then(|class| int(class, &["value"])).unwrap_or(0);
    let policy = match class.as_ref().map_or("", |class| text(class, &["preemptionPolicy"])) {
        "" => "PreemptLowerPriority",
        policy => policy,
    };
    if let Some(said) = int(pod, &["spec", "priority"]).filter(|said| *said != value) {
        let why = format!(
            "the integer value of priority ({said}) must not be provided in pod spec; priority admission controller computed \
             {value} from the given PriorityClass name"
        );
        return Err(forbidden(context, pod, &why));
    }
    let said = text(pod, &["spec", "preemptionPolicy"]);
    if !said.is_empty() && said != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({said}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        );
        return Err(forbidden(context, pod, &why));
    }
    let spec = map_mut(pod, &["spec"]);
    spec.insert("priority".into(), value.into());
    spec.insert("preemptionPolicy".into(), policy.into());
    Ok(())
}

/// The class of pods that name none: of several the one with the lowest value.
fn default_priority(store: &Store) -> Result<Option<Arc<Value>>, Status> {
    let mut classes = reader::list(store, "priorityclasses")?;
    classes.retain(|class| class["globalDefault"] == true);
    classes.sort_by_key(|class| int(class, &["value"]).unwrap_or(0));
    Ok(classes.into_iter().next())
}

/// There is one default only.
pub fn priority_class(
    store: &Store,
    context: &Context<'_>,
    class: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if !context.is("scheduling.k8s.io", "priorityclasses") || class["globalDefault"] != true {
        return Ok(());
    }
    if old.is_some_and(|old| old["globalDefault"] == true) {
        return Ok(());
    }
    let other = default_priority(store)?.filter(|other| object::name(other) != object::name(class));
    let Some(other) = other else { return Ok(()) };
    let why = format!(
        "PriorityClass {} is already marked as default. Only one default can exist",
        object::name(&other)
    );
    Err(forbidden(context, class, &why))
}

/// DefaultTolerationSeconds: five minutes on a node that is not ready or not reached.
pub fn tolerations(context: &Context<'_>, pod: &mut Value) {
    let concerns = context.is("", "pods") && context.subresource.is_empty();
    if !concerns {
        return;
    }
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerates = list(pod, &["spec", "tolerations"]).iter().any(|one| {
            let (own, effect) = (text(one, &["key"]), text(one, &["effect"]));
            matches!(effect, "" | "NoExecute")
                && (own == key || own.is_empty() && text(one, &["operator"]) == "Exists")
        });
        if !tolerates {
            let toleration =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            push(pod, &["spec"], "tolerations", toleration);
        }
    }
}

/// TaintNodesByCondition: a new node is not ready.
pub fn taint_node(context: &Context<'_>, node: &mut Value) {
    const NOT_READY: &str = "node.kubernetes.io/not-ready";
    if !context.is("", "nodes") || !context.subresource.is_empty() || context.operation != Operation::Create {
        return;
    }
    let has = list(node, &["spec", "taints"])
        .iter()
        .any(|taint| text(taint, &["key"]) == NOT_READY && text(taint, &["effect"]) == "NoSchedule");
    if !has {
        push(node, &["spec"], "taints", json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

/// RuntimeClass: what running by a class costs, and where it runs (`plugin/pkg/admission/runtimeclass`).
pub fn runtime_class(store: &Store, context: &Context<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_new_pod(context) || is_mirror(pod) {
        return Ok(());
    }
    let name = text(pod, &["spec", "runtimeClassName"]).to_string();
    let said = map(pod, &["spec", "overhead"]).filter(|overhead| !overhead.is_empty()).cloned();
    if name.is_empty() {
        return match said {
            Some(_) => {
                let why =
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                Err(forbidden(context, pod, why))
            }
            None => Ok(()),
        };
    }
    let Some(class) = reader::get(store, &format!("runtimeclasses/{name}"))? else {
        return Err(forbidden(context, pod, &format!("pod rejected: RuntimeClass {name:?} not found")));
    };
    let overhead = map(&class, &["overhead", "podFixed"]).filter(|overhead| !overhead.is_empty());
    match (overhead, said) {
        (Some(overhead), Some(said)) if *overhead != said => {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(forbidden(context, pod, why));
        }
        (None, Some(_)) => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(forbidden(context, pod, why));
        }
        (Some(overhead), _) => {
            map_mut(pod, &["spec"]).insert("overhead".into(), overhead.clone().into());
        }
        (None, None) => {}
    }
    place(context, pod, &class)
}

/// The class's nodes and tolerations are the pod's too.
fn place(context: &Context<'_>, pod: &mut Value, class: &Value) -> Result<(), Status> {
    let selector = map(class, &["scheduling", "nodeSelector"]).cloned().unwrap_or_default();
    for (key, value) in selector {
        let own = at(pod, &["spec", "nodeSelector", &key]).cloned();
        if let Some(own) = own.filter(|own| *own != value) {
            let shown = |value: &Value| value.as_str().unwrap_or_default().to_string();
            let (class, own) = (shown(&value), shown(&own));
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {class}; pod.spec.nodeSelector[{key}] = {own}"
            );
            return Err(forbidden(context, pod, &why));
        }
        map_mut(pod, &["spec", "nodeSelector"]).insert(key, value);
    }
    for toleration in list(class, &["scheduling", "tolerations"]) {
        if !list(pod, &["spec", "tolerations"]).contains(toleration) {
            push(pod, &["spec"], "tolerations", toleration.clone());
        }
    }
    Ok(())
}
