//! LimitRanger: what containers ask for if they don't say, and the least and the most that containers, pods and claims may ask for
//! (k8s.io/kubernetes `plugin/pkg/admission/limitranger`).

use super::{Context, Operation, aggregated, forbidden, reader};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{list, map, map_mut, text};
use drydock_apimachinery::quantity::Quantity;
use drydock_etcd::Store;
use serde_json::{Map, Value};
use std::sync::Arc;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The ranges that an object is under.
fn ranges(store: &Store, context: &Context<'_>) -> Result<Vec<Arc<Value>>, Status> {
    let concerns = context.subresource.is_empty()
        && (context.is("", "pods") && context.operation == Operation::Create
            || context.is("", "persistentvolumeclaims"));
    if !concerns {
        return Ok(Vec::new());
    }
    reader::list(store, &format!("limitranges/{}", context.namespace))
}

fn limits<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    list(range, &["spec", "limits"]).iter().filter(move |limit| text(limit, &["type"]) == kind)
}

/// Fills in what containers don't say.
pub fn mutate(store: &Store, context: &Context<'_>, object: &mut Value) -> Result<(), Status> {
    if !context.is("", "pods") {
        return Ok(());
    }
    for range in ranges(store, context)? {
        let (mut requests, mut most) = (Map::new(), Map::new());
        for limit in limits(&range, "Container") {
            requests.extend(map(limit, &["defaultRequest"]).cloned().unwrap_or_default());
            most.extend(map(limit, &["default"]).cloned().unwrap_or_default());
        }
        let mut notes = Vec::new();
        for (field, said) in [("containers", "container"), ("initContainers", "init container")] {
            let containers = object["spec"].get_mut(field).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let name = text(container, &["name"]).to_string();
                for (part, kind, defaults) in [("limits", "limit", &most), ("requests", "request", &requests)]
                {
                    let set = fill(container, part, defaults);
                    if !set.is_empty() {
                        notes.push(format!("{} {kind} for {said} {name}", set.join(", ")));
                    }
                }
            }
        }
        if !notes.is_empty() {
            // Requests are told before limits.
            notes.sort_by_key(|note| !note.contains(" request for "));
            let note = format!("LimitRanger plugin set: {}", notes.join("; "));
            map_mut(object, &["metadata", "annotations"]).insert(ANNOTATION.into(), note.into());
        }
    }
    Ok(())
}

fn fill(container: &mut Value, part: &str, defaults: &Map<String, Value>) -> Vec<String> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let has = map_mut(container, &["resources", part]);
    let mut set = Vec::new();
    for (name, value) in defaults {
        if !has.contains_key(name) {
            has.insert(name.clone(), value.clone());
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

/// Refuses what is out of range.
pub fn validate(store: &Store, context: &Context<'_>, object: &Value) -> Result<(), Status> {
    for range in ranges(store, context)? {
        let mut errors = Vec::new();
        if context.is("", "persistentvolumeclaims") {
            let asked = Asked { requests: &object["spec"]["resources"]["requests"], limits: &Value::Null };
            for limit in limits(&range, "PersistentVolumeClaim") {
                errors.extend(check_claim(limit, &asked));
            }
        } else {
            let spec = &object["spec"];
            let all = list(spec, &["containers"]).iter().chain(list(spec, &["initContainers"]));
            for container in all {
                let resources = &container["resources"];
                let asked = Asked { requests: &resources["requests"], limits: &resources["limits"] };
                for limit in limits(&range, "Container") {
                    errors.extend(check(limit, "Container", &asked));
                }
            }
            let (requests, most) = (total(spec, "requests"), total(spec, "limits"));
            let asked = Asked { requests: &requests, limits: &most };
            for limit in limits(&range, "Pod") {
                errors.extend(check(limit, "Pod", &asked));
            }
        }
        if !errors.is_empty() {
            return Err(forbidden(context, object, &aggregated(&errors)));
        }
    }
    Ok(())
}

/// What somebody asks for.
struct Asked<'a> {
    requests: &'a Value,
    limits: &'a Value,
}

fn of(list: &Value, name: &str) -> Option<Quantity> {
    list.get(name).and_then(Quantity::of)
}

fn check_claim(limit: &Value, asked: &Asked<'_>) -> Vec<String> {
    let mut errors = Vec::new();
    let kind = "PersistentVolumeClaim";
    for (name, least) in bounds(limit, "min") {
        match of(asked.requests, name) {
            Some(request) if request < least => {
                errors.push(format!("minimum {name} usage per {kind} is {least}, but request is {request}"));
            }
            Some(_) => {}
            None => {
                errors.push(format!("minimum {name} usage per {kind} is {least}.  No request is specified"))
            }
        }
    }
    for (name, most) in bounds(limit, "max") {
        if let Some(request) = of(asked.requests, name).filter(|request| *request > most) {
            errors.push(format!("maximum {name} usage per {kind} is {most}, but request is {request}"));
        }
    }
    errors
}

fn check(limit: &Value, kind: &str, asked: &Asked<'_>) -> Vec<String> {
    let mut errors = Vec::new();
    for (name, least) in bounds(limit, "min") {
        let (request, most) = (of(asked.requests, name), of(asked.limits, name));
        let said = format!("minimum {name} usage per {kind} is {least}");
        match (request, most) {
            (None, _) => errors.push(format!("{said}.  No request is specified")),
            (Some(request), _) if request < least => errors.push(format!("{said}, but request is {request}")),
            (_, Some(most)) if most < least => errors.push(format!("{said}, but limit is {most}")),
            _ => {}
        }
    }
    for (name, bound) in bounds(limit, "max") {
        let (request, most) = (of(asked.requests, name), of(asked.limits, name));
        let said = format!("maximum {name} usage per {kind} is {bound}");
        match (request, most) {
            (_, None) => errors.push(format!("{said}.  No limit is specified")),
            (_, Some(most)) if most > bound => errors.push(format!("{said}, but limit is {most}")),
            (Some(request), _) if request > bound => errors.push(format!("{said}, but request is {request}")),
            _ => {}
        }
    }
    for (name, bound) in bounds(limit, "maxLimitRequestRatio") {
        let said = format!("{name} max limit to request ratio per {kind} is {bound}");
        let request = of(asked.requests, name).filter(|one| !one.is_zero());
        let most = of(asked.limits, name).filter(|one| !one.is_zero());
        match (request, most) {
            (None, _) => errors.push(format!("{said}, but no request is specified or request is 0")),
            (_, None) => errors.push(format!("{said}, but no limit is specified or limit is 0")),
            (Some(request), Some(most)) => {
                let ratio = most.as_f64() / request.as_f64();
                if ratio > bound.as_f64() {
                    errors.push(format!("{said}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
    errors
}

fn bounds<'a>(limit: &'a Value, part: &str) -> Vec<(&'a str, Quantity)> {
    let bounds = map(limit, &[part]).into_iter().flatten();
    bounds.filter_map(|(name, value)| Some((name.as_str(), Quantity::of(value)?))).collect()
}

/// What a pod asks for: the sum of its containers, or what one of its init containers needs if that is more.
fn total(spec: &Value, part: &str) -> Value {
    let mut sums: Map<String, Value> = Map::new();
    let quantity = |map: &Map<String, Value>, name: &str| map.get(name).and_then(Quantity::of);
    for container in list(spec, &["containers"]) {
        for (name, value) in map(container, &["resources", part]).into_iter().flatten() {
            let Some(more) = Quantity::of(value) else { continue };
            let sum = quantity(&sums, name).map_or(more, |sum| sum.plus(more));
            sums.insert(name.clone(), sum.to_string().into());
        }
    }
    for container in list(spec, &["initContainers"]) {
        for (name, value) in map(container, &["resources", part]).into_iter().flatten() {
            let Some(one) = Quantity::of(value) else { continue };
            if quantity(&sums, name).is_none_or(|sum| sum < one) {
                sums.insert(name.clone(), one.to_string().into());
            }
        }
    }
    sums.into()
}
