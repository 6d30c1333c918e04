//! `pods/NAME/eviction`: a deletion that a PodDisruptionBudget may forbid (`pkg/registry/core/pod/storage/eviction.go`).

use super::call::Call;
use super::delete;
use super::meta;
use super::options::{DeleteOptions, Options, WriteOptions, Writing};
use super::update::{self, Change};
use super::write::{self, admit_other};
use crate::admission::Operation;
use crate::codec::{self, Expected};
use crate::http::respond::{self, Answer};
use crate::resource::Resource;
use crate::storage;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, int, map_mut, text};
use drydock_apimachinery::selectors::LabelSelector;
use drydock_etcd::{KeyRange, Record};
use http::StatusCode;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::Arc;

/// How many disrupted pods a budget remembers until its controller has caught up.
const MOST_DISRUPTED: usize = 2000;

/// How often a budget is read anew because somebody changed it.
const ATTEMPTS: usize = 16;

/// Evicts the pod that the path names.
pub async fn evict(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let write = WriteOptions::new(&call.query, Writing::Create)?;
    let (input, bytes) = call.body(incoming).await?;
    let expected = Expected { group: "policy", version: "v1", kind: "Eviction" };
    let (older, validation) = (Some("v1beta1"), write.field_validation);
    let mut eviction =
        codec::decode_versions(&expected, older, input, &bytes, validation, &mut call.warnings)?;
    let name = object::name(&eviction);
    if !name.is_empty() && name != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    meta::set_namespace(&mut eviction, &call.resource, call.namespace())?;
    let mut options = DeleteOptions::of_object(&eviction["deleteOptions"])?;
    options.dry_run |= write.dry_run;
    admit_other(call, Operation::Create, expected, Options::Write(&write), &mut eviction).await?;
    let record = super::get::read(call)?;
    let pod = storage::decode(&record)?;
    if counts(&pod) {
        spend(call, &pod, options.dry_run).await?;
    }
    if !options.dry_run {
        tell_why(call, &options).await?;
        // The pod's version is another one now; whether it was the right one is known.
        options.resource_version = None;
    }
    delete::delete_one(call, &mut options).await?;
    let mut status = Status::success();
    status.code = 201;
    Ok(respond::value(StatusCode::CREATED, &status.to_value(), call.style))
}

/// Marks the pod with the reason of its end, by which a Job tells evictions from failures (`addConditionAndDeletePod`).
async fn tell_why(call: &mut Call, options: &DeleteOptions) -> Result<(), Status> {
    let change = Change { is_internal: true, ..Change::default() };
    let of = call.resource.clone();
    update::apply(call, &WriteOptions::default(), &change, |pod, _| {
        let pod = pod.ok_or_else(|| Status::internal("an eviction creates no pod"))?;
        expected(pod, options)
            .map_err(|why| Status::conflict(of.group_resource(), object::name(pod), &why))?;
        Ok(disrupted(pod))
    })
    .await
    .map(|_| ())
}

/// Whether it is the pod that is meant.
fn expected(pod: &Value, options: &DeleteOptions) -> Result<(), String> {
    let (uid, version) = (object::uid(pod), text(pod, &["metadata", "resourceVersion"]));
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != uid) {
        return Err(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ));
    }
    let wanted = options.resource_version.as_deref();
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty() && *wanted != version) {
        return Err(format!(
            "the resource version in the precondition ({wanted}) does not match the resource version in record ({version}). The object might have been modified"
        ));
    }
    Ok(())
}

/// The pod with the condition `DisruptionTarget`.
fn disrupted(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let mut condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": meta::now(),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    });
    if let Some(generation) = int(&pod, &["metadata", "generation"]) {
        condition["observedGeneration"] = generation.into();
    }
    let conditions = map_mut(&mut pod, &["status"]).entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        let same = |one: &Value| text(one, &["type"]) == "DisruptionTarget";
        if let Some(before) = conditions.iter().find(|one| same(one) && text(one, &["status"]) == "True") {
            condition["lastTransitionTime"] = before["lastTransitionTime"].clone();
        }
        match conditions.iter().position(same) {
            Some(index) => conditions[index] = condition,
            None => conditions.push(condition),
        }
    }
    pod
}

/// Pods that run, or may soon, are protected (`canIgnorePDB`).
fn counts(pod: &Value) -> bool {
    let is_over = matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending");
    !is_over && !object::is_deleting(pod)
}

/// Takes one disruption from the pod's budget, if it has one.
async fn spend(call: &Call, pod: &Value, dry_run: bool) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        let snapshot = call.server.registry.snapshot();
        let Some(resource) = snapshot.find("policy", "v1", "poddisruptionbudgets").cloned() else {
            return Ok(());
        };
        let budgets = budgets(call, &resource, pod)?;
        let (record, mut budget) = match budgets.len() {
            0 => return Ok(()),
            1 => budgets.into_iter().next().ok_or_else(|| Status::internal("a budget went"))?,
            _ => {
                return Err(Status::failure(
                    500,
                    "InternalError",
                    "Internal error occurred: This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        if is_unready(pod) && ignores_unready(&budget) {
            return Ok(());
        }
        take_one(&mut budget, object::name(pod))?;
        if dry_run {
            return Ok(());
        }
        let (key, value) = (record.key.clone(), storage::encode(&budget));
        let outcome = call.server.store.update_if(key, record.mod_revision, value, 0).await;
        if let drydock_etcd::Outcome::Done { .. } = outcome.map_err(write::refusal)? {
            return Ok(());
        }
    }
    Err(too_many("Cannot evict pod as it would violate the pod's disruption budget.", 10, None))
}

fn budgets(call: &Call, resource: &Resource, pod: &Value) -> Result<Vec<(Arc<Record>, Value)>, Status> {
    let keys = KeyRange::prefix(storage::keys::prefix(resource, object::namespace(pod)));
    let found = call.server.store.range(&keys, &drydock_etcd::Query::default()).map_err(write::refusal)?;
    let mut matching = Vec::new();
    for record in found.records {
        let budget = storage::decode(&record)?;
        let selector = LabelSelector::of_object(&budget["spec"]["selector"]);
        if selector.is_ok_and(|selector| selector.matches_object(pod)) {
            matching.push((record, budget));
        }
    }
    Ok(matching)
}

fn is_unready(pod: &Value) -> bool {
    let conditions = object::list(pod, &["status", "conditions"]);
    !conditions.iter().any(|one| text(one, &["type"]) == "Ready" && text(one, &["status"]) == "True")
}

/// Whether the budget protects only pods that are ready, or has its wish anyway.
fn ignores_unready(budget: &Value) -> bool {
    if text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow" {
        return true;
    }
    let healthy = int(budget, &["status", "currentHealthy"]).unwrap_or(0);
    let desired = int(budget, &["status", "desiredHealthy"]).unwrap_or(0);
    healthy >= desired && desired > 0
}

/// `checkAndDecrement`.
fn take_one(budget: &mut Value, pod: &str) -> Result<(), Status> {
    let name = object::name(budget).to_string();
    let violated = "Cannot evict pod as it would violate the pod's disruption budget.";
    let generation = int(budget, &["metadata", "generation"]).unwrap_or(0);
    if int(budget, &["status", "observedGeneration"]).unwrap_or(0) < generation {
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return Err(too_many(violated, 10, Some(&cause)));
    }
    let allowed = int(budget, &["status", "disruptionsAllowed"]).unwrap_or(0);
    if allowed < 0 {
        return Err(Status::forbidden(
            drydock_apimachinery::status::GroupResource { group: "policy", resource: "poddisruptionbudget" },
            &name,
            "pdb disruptions allowed is negative",
        ));
    }
    if object::map(budget, &["status", "disruptedPods"]).is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return Err(Status::forbidden(
            drydock_apimachinery::status::GroupResource { group: "policy", resource: "poddisruptionbudget" },
            &name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let desired = int(budget, &["status", "desiredHealthy"]).unwrap_or(0);
        let healthy = int(budget, &["status", "currentHealthy"]).unwrap_or(0);
        let cause =
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        return Err(too_many(violated, 0, Some(&cause)));
    }
    let status = map_mut(budget, &["status"]);
    status.insert("disruptionsAllowed".into(), (allowed - 1).into());
    map_mut(budget, &["status", "disruptedPods"]).insert(pod.into(), meta::now().into());
    Ok(())
}

/// 429 (`createTooManyRequestsError`).
fn too_many(message: &str, seconds: u32, cause: Option<&str>) -> Status {
    let mut status = Status::failure(429, "TooManyRequests", message);
    status.details.get_or_insert_default().retry_after_seconds = seconds;
    match cause {
        Some(cause) => status.cause("DisruptionBudget", cause, ""),
        None => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(allowed: i64) -> Value {
        json!({
            "metadata": {"name": "db", "generation": 1},
            "status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "desiredHealthy": 3, "currentHealthy": 3},
        })
    }

    #[test]
    fn a_budget_is_spent_pod_by_pod() {
        let mut one = budget(1);
        take_one(&mut one, "db-0").expect("one is allowed");
        assert_eq!(one["status"]["disruptionsAllowed"], 0);
        assert!(one["status"]["disruptedPods"]["db-0"].is_string());
        let refused = take_one(&mut one, "db-1").expect_err("none is left");
        assert_eq!(refused.code, 429);
        let details = refused.details.expect("a cause");
        assert_eq!(
            details.causes[0].message,
            "The disruption budget db needs 3 healthy pods and has 3 currently"
        );
    }

    #[test]
    fn a_budget_that_nobody_looked_at_yet_waits() {
        let mut one = budget(1);
        one["metadata"]["generation"] = json!(2);
        let refused = take_one(&mut one, "db-0").expect_err("not processed");
        assert_eq!(refused.details.expect("details").retry_after_seconds, 10);
    }
}
