//! ResourceQuota: what a new object takes is charged to the quotas of its namespace before it is stored, and refused if there is not
//! that much left (k8s.io/apiserver `pkg/admission/plugin/resourcequota`, k8s.io/kubernetes `pkg/quota/v1/evaluator/core`). What is
//! charged for a write that then fails, the quota controller finds out.

mod usage;

use super::{Context, Operation, forbidden, reader};
use crate::rest::write::refusal;
use crate::storage::encode;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, list, map, map_mut, text};
use drydock_apimachinery::quantity::Quantity;
use drydock_etcd::{Outcome, Store};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::sync::Mutex;
use usage::Usage;

/// How often a charge is tried that somebody else's change came between.
const ATTEMPTS: usize = 8;

/// Charges one write after the other, so that two that fit one by one but not together don't both pass.
#[derive(Debug, Default)]
pub struct Quotas {
    lock: Mutex<()>,
}

impl Quotas {
    /// Charges a write to the quotas of its namespace.
    pub async fn charge(
        &self,
        store: &Store,
        context: &Context<'_>,
        tree: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if context.namespace.is_empty() || !context.subresource.is_empty() {
            return Ok(());
        }
        let place = format!("resourcequotas/{}", context.namespace);
        // Mostly there is none.
        if reader::once(store, &place, 1)?.is_empty() {
            return Ok(());
        }
        let Some(asked) = usage::of(context, tree, old) else { return Ok(()) };
        let _one_after_the_other = self.lock.lock().await;
        for quota in reader::once(store, &place, usize::MAX)? {
            let place = format!("{place}/{}", object::name(&quota));
            Box::pin(charge(store, context, tree, &asked, &place)).await?;
        }
        Ok(())
    }
}

/// Charges one quota.
async fn charge(
    store: &Store,
    context: &Context<'_>,
    tree: &Value,
    asked: &Usage,
    place: &str,
) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        let key = format!("/registry/{place}");
        let Some(record) = store.get(key.as_bytes(), None).map_err(refusal)? else { return Ok(()) };
        let quota = crate::storage::decode(&record)?;
        let Some(used) = check(context, tree, asked, &quota)? else { return Ok(()) };
        if context.dry_run {
            return Ok(());
        }
        let mut new = quota;
        let had = map_mut(&mut new, &["status", "used"]);
        for (name, quantity) in used {
            had.insert(name, quantity.to_string().into());
        }
        let outcome = store.update_if(key.into(), record.mod_revision, encode(&new), 0).await;
        if matches!(outcome.map_err(refusal)?, Outcome::Done { .. }) {
            return Ok(());
        }
    }
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    let name = place.rsplit('/').next().unwrap_or_default();
    let of = drydock_apimachinery::status::GroupResource { group: "", resource: "resourcequotas" };
    Err(Status::conflict(of, name, why))
}

/// What is used afterwards; none: nothing of this quota.
fn check(
    context: &Context<'_>,
    tree: &Value,
    asked: &Usage,
    quota: &Value,
) -> Result<Option<BTreeMap<String, Quantity>>, Status> {
    let name = object::name(quota);
    let hard = quantities(quota, "hard");
    if !applies(context, quota, tree) || !hard.keys().any(|resource| asked.knows(resource)) {
        return Ok(None);
    }
    if context.is("", "pods")
        && let Some(missing) = usage::unspecified(tree, hard.keys().map(String::as_str))
    {
        return Err(forbidden(context, tree, &format!("failed quota: {name}: must specify {missing}")));
    }
    let used = quantities(quota, "used");
    let unknown: Vec<&str> = hard
        .keys()
        .filter(|resource| asked.knows(resource) && !used.contains_key(*resource))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        let why = format!("status unknown for quota: {name}, resources: {}", unknown.join(","));
        return Err(forbidden(context, tree, &why));
    }
    let mut after = BTreeMap::new();
    let mut exceeded = Vec::new();
    for (resource, delta) in &asked.delta {
        let Some(most) = hard.get(resource) else { continue };
        if delta.is_negative() && context.operation == Operation::Create {
            let why = format!("quota usage is negative for resource(s): {resource}");
            return Err(forbidden(context, tree, &why));
        }
        let sum = used.get(resource).copied().unwrap_or_default().plus(*delta);
        if sum > *most && !delta.is_negative() && !delta.is_zero() {
            exceeded.push(resource.clone());
        }
        if !delta.is_zero() {
            after.insert(resource.clone(), sum);
        }
    }
    if !exceeded.is_empty() {
        let shown = |of: &BTreeMap<String, Quantity>| {
            let of = exceeded
                .iter()
                .map(|resource| format!("{resource}={}", of.get(resource).copied().unwrap_or_default()));
            of.collect::<Vec<_>>().join(",")
        };
        let why = format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            shown(&asked.delta),
            shown(&used),
            shown(&hard)
        );
        return Err(forbidden(context, tree, &why));
    }
    Ok((!after.is_empty()).then_some(after))
}

fn quantities(quota: &Value, field: &str) -> BTreeMap<String, Quantity> {
    let all = map(quota, &["status", field]).into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), Quantity::of(value)?))).collect()
}

/// Whether the quota's scopes take the object in.
fn applies(context: &Context<'_>, quota: &Value, tree: &Value) -> bool {
    let scopes = list(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str);
    let mut terms: Vec<(&str, &str, Vec<&str>)> = scopes.map(|scope| (scope, "Exists", Vec::new())).collect();
    for term in list(quota, &["spec", "scopeSelector", "matchExpressions"]) {
        let values = list(term, &["values"]).iter().filter_map(Value::as_str).collect();
        terms.push((text(term, &["scopeName"]), text(term, &["operator"]), values));
    }
    terms.iter().all(|(scope, operator, values)| {
        context.is("", "pods") && usage::is_in_scope(tree, scope, operator, values)
    })
}
