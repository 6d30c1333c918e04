//! ClusterRoles whose rules are those of others (`aggregationRule`): `admin`, `edit` and `view` are such
//! (k8s.io/kubernetes/pkg/controller/clusterroleaggregation).

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Informer, Source};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::{Meta, selects};

struct Controller {
    client: Client,
    roles: Informer<ClusterRole>,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let roles = context
        .informers
        .or_insert(|client| Informer::with_transform(client, Source::all::<ClusterRole>(), without_slack));
    let (all, to_queue) = (roles.clone(), queue.clone());
    roles.subscribe(move |event| {
        to_queue.add(event.object().key());
        // Any role may be a part of any that is put together.
        for role in all.all().into_iter().filter(|role| role.aggregation_rule.is_some()) {
            to_queue.add(role.key());
        }
    });
    work(Arc::new(Controller { client: context.client.clone(), roles }), queue, 1)
}

/// Every cluster has eighty roles of its own, most of whose lists have one element and room for four. What is put together is written
/// back, so that only of the others is anything left out.
fn without_slack(role: &mut ClusterRole) {
    if role.aggregation_rule.is_none() {
        role.metadata.annotations = None;
    }
    for rule in role.rules.iter_mut().flatten() {
        rule.verbs.shrink_to_fit();
        let lists = [
            &mut rule.api_groups,
            &mut rule.non_resource_urls,
            &mut rule.resource_names,
            &mut rule.resources,
        ];
        lists.into_iter().flatten().for_each(Vec::shrink_to_fit);
    }
}

/// The rules of a role that is put together: each once, in the order of the roles' names.
fn rules(role: &ClusterRole, mut all: Vec<Arc<ClusterRole>>) -> Vec<PolicyRule> {
    let selectors =
        role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    let selectors: Vec<_> = selectors.collect();
    all.sort_by(|a, b| a.name().cmp(b.name()));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for other in all.iter().filter(|other| other.name() != role.name()) {
        if !selectors.iter().any(|selector| selects(selector, other.labels())) {
            continue;
        }
        for rule in other.rules.iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(role) = self.roles.get(key).filter(|role| role.aggregation_rule.is_some()) else {
            return Ok(None);
        };
        let rules = rules(&role, self.roles.all());
        if role.rules.as_deref().unwrap_or_default() == rules {
            return Ok(None);
        }
        let mut copy = ClusterRole::clone(&role);
        copy.rules = Some(rules);
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        errors::unless_gone(api.replace(&key.name, &PostParams::default(), &copy).await)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_of_all_that_match_each_once() {
        let role = |value| Arc::new(serde_json::from_value::<ClusterRole>(value).unwrap());
        let rule = |verb: &str| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]});
        let part = |name: &str, label: &str, verbs: &[&str]| {
            role(
                json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": verbs.iter().map(|verb| rule(verb)).collect::<Vec<_>>()}),
            )
        };
        let whole = role(json!({
            "metadata": {"name": "view", "labels": {"to-view": "true"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]},
            "rules": [rule("delete")],
        }));
        let all = vec![
            whole.clone(),
            part("b", "to-view", &["list", "get"]),
            part("a", "to-view", &["get"]),
            part("c", "to-edit", &["update"]),
        ];
        let verbs: Vec<_> = rules(&whole, all).into_iter().flat_map(|rule| rule.verbs).collect();
        assert_eq!(verbs, ["get", "list"]);
    }
}
