//! PodTolerationRestriction: the tolerations that pods of a namespace get, and those that they may have, as annotations of the namespace say
//! (upstream's `plugin/pkg/admission/podtolerationrestriction`, `pkg/util/tolerations`).

use super::{Context, Operation, forbidden, reader};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, int, list, map_mut, text};
use drydock_apis::defaults::pod::qos_class;
use drydock_etcd::Store;
use serde_json::{Value, json};

/// What pods of the namespace get.
const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
/// What they may have; nothing: anything.
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

fn concerns(context: &Context<'_>) -> bool {
    matches!(context.operation, Operation::Create | Operation::Update)
        && context.is("", "pods")
        && context.subresource.is_empty()
}

/// The tolerations in an annotation of the pod's namespace.
fn annotated(store: &Store, context: &Context<'_>, name: &str) -> Result<Vec<Value>, Status> {
    let Some(namespace) = reader::get(store, &format!("namespaces/{}", context.namespace))? else {
        return Ok(Vec::new());
    };
    match text(&namespace, &["metadata", "annotations", name]) {
        "" => Ok(Vec::new()),
        given => serde_json::from_str(given).map_err(Status::internal),
    }
}

/// Gives a pod its namespace's tolerations, and refuses it for one that it may not have.
pub fn mutate(store: &Store, context: &Context<'_>, pod: &mut Value) -> Result<(), Status> {
    if !concerns(context) {
        return Ok(());
    }
    let own = list(pod, &["spec", "tolerations"]).to_vec();
    let mut all = match context.operation {
        Operation::Create => annotated(store, context, DEFAULTS)?,
        _ => Vec::new(),
    };
    if all.is_empty() {
        all = own;
    } else {
        all.extend(own);
        all = merged(all);
    }
    if qos_class(pod) != "BestEffort" {
        all.push(json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}));
        all = merged(all);
    }
    if !all.is_empty() {
        map_mut(pod, &["spec"]).insert("tolerations".into(), all.into());
    }
    check(store, context, pod)
}

/// Refuses a pod with a toleration that it may not have.
pub fn check(store: &Store, context: &Context<'_>, pod: &Value) -> Result<(), Status> {
    if !concerns(context) {
        return Ok(());
    }
    let allowed = annotated(store, context, ALLOWED)?;
    let is_allowed = |own: &Value| allowed.iter().any(|one| covers(one, own));
    if allowed.is_empty() || list(pod, &["spec", "tolerations"]).iter().all(is_allowed) {
        return Ok(());
    }
    let why = "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist";
    Err(forbidden(context, pod, why))
}

/// Without those that another one covers (`MergeTolerations`).
fn merged(all: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (index, one) in all.iter().enumerate() {
        if !kept.iter().chain(&all[index + 1..]).any(|other| covers(other, one)) {
            kept.push(one.clone());
        }
    }
    kept
}

/// Whether a toleration tolerates all that another one does (`isSuperset`).
fn covers(one: &Value, other: &Value) -> bool {
    let field = |of, name| text(of, &[name]);
    let (operator, effect) = (field(one, "operator"), field(one, "effect"));
    let is_any_key = field(one, "key").is_empty() && operator == "Exists";
    if field(one, "key") != field(other, "key") && !is_any_key {
        return false;
    }
    if field(other, "effect") != effect && !effect.is_empty() {
        return false;
    }
    if let ("NoExecute", Some(longest)) = (effect, int(one, &["tolerationSeconds"]))
        && int(other, &["tolerationSeconds"]).is_none_or(|seconds| seconds > longest)
    {
        return false;
    }
    match operator {
        "Exists" => true,
        "" | "Equal" => {
            let is_equal = matches!(field(other, "operator"), "" | "Equal");
            is_equal && object::field(one, "value") == object::field(other, "value")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toleration_covers_what_is_narrower() {
        let any = json!({"operator": "Exists"});
        let key = json!({"key": "a", "operator": "Exists"});
        let one = json!({"key": "a", "value": "1", "effect": "NoSchedule"});
        let other = json!({"key": "a", "value": "2", "effect": "NoSchedule"});
        let shortly =
            json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let ever = json!({"key": "a", "operator": "Exists", "effect": "NoExecute"});
        for (wide, narrow) in
            [(&any, &key), (&any, &one), (&key, &one), (&key, &ever), (&ever, &shortly), (&one, &one)]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [(&key, &any), (&one, &other), (&one, &key), (&shortly, &ever)] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
        assert_eq!(merged(vec![one.clone(), other.clone(), one.clone()]), [other.clone(), one.clone()]);
        assert_eq!(merged(vec![one, key.clone(), other]), [key]);
    }
}
