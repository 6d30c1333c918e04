//! `pods/NAME/binding`: the scheduler's word where a pod runs (`pkg/registry/core/pod/storage/storage.go`).

use super::call::Call;
use super::meta;
use super::options::{Options, WriteOptions, Writing};
use super::update::{self, Change};
use super::write;
use crate::admission::Operation;
use crate::codec::{self, Expected};
use crate::http::respond::{self, Answer};
use drydock_apimachinery::Status;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object::{self, map_mut, text};
use drydock_apimachinery::status::GroupResource;
use http::StatusCode;
use hyper::body::Incoming;
use serde_json::{Value, json};

/// Binds the pod that the path names.
pub async fn bind(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let options = WriteOptions::new(&call.query, Writing::Create)?;
    let (input, bytes) = call.body(incoming).await?;
    let expected = Expected { group: "", version: "v1", kind: "Binding" };
    let mut binding =
        codec::decode_typed(&expected, input, &bytes, options.field_validation, &mut call.warnings)?;
    meta::set_namespace(&mut binding, &call.resource, call.namespace())?;
    check(call, &binding)?;
    write::admit_other(call, Operation::Create, expected, Options::Write(&options), &mut binding).await?;
    let uid = Some(object::uid(&binding).to_string()).filter(|uid| !uid.is_empty());
    let change = Change { uid, is_internal: true, ..Change::default() };
    let name = call.info.name.clone();
    update::apply(call, &options, &change, |pod, _| match pod {
        Some(pod) => bound(pod, &binding, &name),
        None => Err(Status::internal("a binding creates no pod")),
    })
    .await?;
    let mut status = Status::success();
    status.code = 201;
    Ok(respond::value(StatusCode::CREATED, &status.to_value(), call.style))
}

/// `ValidatePodBinding`, and that the body is about this pod.
fn check(call: &Call, binding: &Value) -> Result<(), Status> {
    let name = object::name(binding);
    if !name.is_empty() && name != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let mut errors = ErrorList::default();
    let target = Path::new("target");
    let kind = text(binding, &["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&target.child("kind"), kind, &["Node", "<empty>"]);
    }
    if text(binding, &["target", "name"]).is_empty() {
        errors.required(&target.child("name"), "");
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GroupResource { group: "", resource: "Binding" }, &call.info.name, &errors))
}

/// The pod with its node (`setPodNodeAndMetadata`).
fn bound(pod: &Value, binding: &Value, name: &str) -> Result<Value, Status> {
    let of = GroupResource { group: "", resource: "pods/binding" };
    let conflict = |why: String| Err(Status::conflict(of, name, &why));
    if object::is_deleting(pod) {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = text(pod, &["spec", "nodeName"]);
    let target = text(binding, &["target", "name"]);
    if !node.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {node:?}"));
    }
    if !object::list(pod, &["spec", "schedulingGates"]).is_empty() {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    map_mut(&mut pod, &["spec"]).insert("nodeName".into(), target.into());
    if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
        map_mut(&mut pod, &["metadata", "annotations"])
            .extend(annotations.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    // A wish for another node is of no use any more (`ClearingNominatedNodeNameAfterBinding`).
    map_mut(&mut pod, &["status"]).remove("nominatedNodeName");
    let conditions = map_mut(&mut pod, &["status"]).entry("conditions").or_insert_with(|| json!([]));
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": meta::now(),
    });
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|one| text(one, &["type"]) != "PodScheduled");
        conditions.push(scheduled);
    }
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_pod_is_nominated_no_more() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"nominatedNodeName": "node1"}});
        let binding = json!({"metadata": {"annotations": {"a": "b"}}, "target": {"name": "node2"}});
        let bound = bound(&pod, &binding, "p").unwrap();
        assert_eq!(
            (&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["a"]),
            (&json!("node2"), &json!("b"))
        );
        assert!(bound["status"].get("nominatedNodeName").is_none());
        assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    }
}
