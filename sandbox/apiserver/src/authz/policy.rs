//! Roles and bindings of every cluster (k8s.io/kubernetes `plugin/pkg/auth/authorizer/rbac/bootstrappolicy`, 1.35): a table, and how it
//! is brought into the store when the server starts. As upstream does, what an administrator added stays, what is missing is added
//! again, and an object whose annotation `rbac.authorization.kubernetes.io/autoupdate` is not "true" is left alone.

mod controllers;
mod roles;

use super::escalation::is_aggregated;
use super::rules::{self, Rule};
use crate::resource::Resource;
use crate::rest::write::refusal;
use crate::server::Server;
use crate::storage::{decode, encode, keys};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, list, text};
use drydock_etcd::{KeyRange, Outcome, Query};
use serde_json::{Value, json};
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// A rule in short: verbs, groups and resources, words separated by spaces. `-` is the core group; with `@` as group the resources
/// are URLs; `resource=name` restricts the rule to an object.
type Short = (&'static str, &'static str, &'static str);

/// A role and its rules.
type RoleRow = (&'static str, &'static [Short]);

/// Read and write, as upstream names them.
const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
/// `eventsRule`.
const EVENTS: Short = ("create patch update", "- events.k8s.io", "events");

fn rule(short: &Short) -> Rule {
    let words = |text: &str| -> Vec<String> {
        let mut words: Vec<_> = text.split_whitespace().map(String::from).collect();
        words.sort();
        words
    };
    let (verbs, groups, resources) = short;
    let verbs = words(verbs);
    if *groups == "@" {
        return Rule { verbs, urls: words(resources), ..Rule::default() };
    }
    let mut names = Vec::new();
    let mut plain: Vec<String> = Vec::new();
    for resource in resources.split_whitespace() {
        let (resource, name) = resource.split_once('=').map_or((resource, None), |(r, n)| (r, Some(n)));
        names.extend(name.map(String::from));
        if !plain.iter().any(|one| one == resource) {
            plain.push(resource.into());
        }
    }
    plain.sort();
    let mut groups: Vec<String> = groups
        .split_whitespace()
        .map(|group| if group == "-" { String::new() } else { group.into() })
        .collect();
    groups.sort();
    Rule { verbs, groups, resources: plain, names, ..Rule::default() }
}

/// What the role of nodes allows.
pub fn node_rules() -> Vec<Rule> {
    roles::NODE.iter().map(rule).collect()
}

fn metadata(name: &str, namespace: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTOUPDATE: "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn role(kind: &str, (name, shorts): &RoleRow, namespace: &str) -> Value {
    let rules: Vec<Value> = shorts.iter().map(|short| rule(short).to_value()).collect();
    let mut tree = json!({
        "kind": kind,
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": metadata(name, namespace),
        "rules": rules,
    });
    for (label, aggregated) in roles::AGGREGATED {
        if aggregated == name {
            tree["metadata"]["labels"][format!("{GROUP}/aggregate-to-{label}")] = "true".into();
        }
        if label == name {
            let labels = json!({format!("{GROUP}/aggregate-to-{label}"): "true"});
            tree["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        }
    }
    tree
}

/// A subject in short: `u:NAME`, `g:NAME`, `s:NAME` (a service account of kube-system).
fn subject(short: &str) -> Value {
    match short.split_once(':') {
        Some(("u", name)) => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
        Some(("g", name)) => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
        Some((_, name)) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        None => Value::Null,
    }
}

fn binding(name: &str, namespace: &str, role_kind: &str, role: &str, subjects: &[&str]) -> Value {
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    let subjects: Vec<Value> = subjects.iter().map(|short| subject(short)).collect();
    let mut tree = json!({
        "kind": kind,
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": metadata(name, namespace),
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
    });
    if !subjects.is_empty() {
        tree["subjects"] = subjects.into();
    }
    tree
}

/// All of it.
fn all() -> Vec<Value> {
    let mut all = Vec::new();
    all.extend(roles::CLUSTER_ROLES.iter().map(|row| role("ClusterRole", row, "")));
    all.push(role("ClusterRole", &("system:node", roles::NODE), ""));
    for (name, subjects) in roles::CLUSTER_BINDINGS {
        all.push(binding(name, "", "ClusterRole", name, subjects));
    }
    for (short, shorts) in controllers::ROLES {
        let name: &str = &format!("system:controller:{short}");
        let mut tree = role("ClusterRole", &("", shorts), "");
        tree["metadata"]["name"] = name.into();
        all.push(tree);
        all.push(binding(name, "", "ClusterRole", name, &[&format!("s:{short}")]));
    }
    for (namespace, row) in roles::NAMESPACE_ROLES {
        all.push(role("Role", row, namespace));
    }
    for (namespace, name, role, subjects) in roles::NAMESPACE_BINDINGS {
        all.push(binding(name, namespace, "Role", role, subjects));
    }
    all
}

/// Brings it into the store.
pub async fn reconcile(server: &Arc<Server>) -> Result<(), Status> {
    let snapshot = server.registry.snapshot();
    let mut work = Vec::new();
    for tree in all() {
        let plural = match text(&tree, &["kind"]) {
            "ClusterRole" => "clusterroles",
            "ClusterRoleBinding" => "clusterrolebindings",
            "Role" => "roles",
            _ => "rolebindings",
        };
        let found = snapshot.find(GROUP, "v1", plural).cloned();
        let resource = found.ok_or_else(|| Status::internal(format!("{plural} are not served")))?;
        work.push(async move { one(server, &resource, plural, tree).await });
    }
    // Each is a way to the store and back; together they are one.
    futures_util::future::try_join_all(work).await?;
    for (name, role, subjects) in roles::MORE_BINDINGS {
        let mut tree = binding(name, "", "ClusterRole", role, subjects);
        tree["metadata"] = json!({"name": name});
        crate::bootstrap::ensure(server, GROUP, "v1", "clusterrolebindings", tree).await?;
    }
    Ok(())
}

async fn one(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    plural: &str,
    wanted: Value,
) -> Result<(), Status> {
    let key = keys::of(resource, object::namespace(&wanted), object::name(&wanted));
    let Some(record) = server.store.get(key.as_bytes(), None).map_err(refusal)? else {
        return crate::bootstrap::ensure(server, GROUP, "v1", plural, wanted).await;
    };
    let old = decode(&record)?;
    let Some(new) = merged(&old, &wanted) else { return Ok(()) };
    let value = encode(&new);
    match server.store.update_if(key.into(), record.mod_revision, value, 0).await.map_err(refusal)? {
        Outcome::Done { .. } => Ok(()),
        // Somebody changed it just now; the next start looks at it again.
        Outcome::Conflict(_) => Ok(()),
    }
}

/// The object with what it lacks; none: it lacks nothing, or wants to be left alone.
fn merged(old: &Value, wanted: &Value) -> Option<Value> {
    if text(old, &["metadata", "annotations", AUTOUPDATE]) != "true" {
        return None;
    }
    let mut new = old.clone();
    if let Some(labels) = object::map(wanted, &["metadata", "labels"]) {
        let had = object::map_mut(&mut new, &["metadata", "labels"]);
        for (key, value) in labels {
            had.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if !is_aggregated(wanted) {
        let held = Rule::all_of(old);
        let lacking: Vec<&Value> = list(wanted, &["rules"])
            .iter()
            .filter(|rule| !rules::missing(&held, &[Rule::of(rule)]).is_empty())
            .collect();
        append(&mut new, "rules", lacking);
    }
    let had = list(old, &["subjects"]);
    append(
        &mut new,
        "subjects",
        list(wanted, &["subjects"]).iter().filter(|one| !had.contains(one)).collect(),
    );
    (new != *old).then_some(new)
}

fn append(tree: &mut Value, field: &str, more: Vec<&Value>) {
    if more.is_empty() {
        return;
    }
    let mut all = list(tree, &[field]).to_vec();
    all.extend(more.into_iter().cloned());
    tree[field] = all.into();
}

/// Fills in the rules of the aggregated roles, so that they hold before any controller runs. The controller does the same from then on.
pub async fn aggregate(server: &Arc<Server>) -> Result<(), Status> {
    let store = &server.store;
    // `admin` takes in `edit`, and that `view`: from the bottom up.
    for name in ["view", "edit", "admin"] {
        let key = format!("/registry/clusterroles/{name}");
        let Some(record) = store.get(key.as_bytes(), None).map_err(refusal)? else { continue };
        let old = decode(&record)?;
        if !is_aggregated(&old) {
            continue;
        }
        let found = store.range(&KeyRange::prefix("/registry/clusterroles/"), &Query::default());
        let mut rules: Vec<Value> = Vec::new();
        for record in found.map_err(refusal)?.records {
            let role = decode(&record)?;
            if object::name(&role) == name || !is_selected(&old, &role) {
                continue;
            }
            for rule in list(&role, &["rules"]) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
        if list(&old, &["rules"]) == rules {
            continue;
        }
        let mut new = old;
        new["rules"] = rules.into();
        let value = encode(&new);
        // If somebody was quicker, it was the controller.
        store.update_if(key.into(), record.mod_revision, value, 0).await.map_err(refusal)?;
    }
    Ok(())
}

fn is_selected(aggregated: &Value, role: &Value) -> bool {
    list(aggregated, &["aggregationRule", "clusterRoleSelectors"]).iter().any(|selector| {
        let labels = object::map(selector, &["matchLabels"]);
        labels.is_some_and(|labels| {
            !labels.is_empty() && labels.iter().all(|(key, value)| object::label(role, key) == value.as_str())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        let all = all();
        let names = |kind: &str| {
            let of_kind = all.iter().filter(|tree| text(tree, &["kind"]) == kind);
            let mut names: Vec<_> =
                of_kind.map(|tree| (object::namespace(tree), object::name(tree))).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "each {kind} once");
            names
        };
        let (roles, bindings) = (names("ClusterRole"), names("ClusterRoleBinding"));
        for (_, name) in &bindings {
            assert!(roles.contains(&("", name)), "{name} is bound and there");
        }
        for tree in &all {
            for rule in Rule::all_of(tree) {
                let is_sound = !rule.verbs.is_empty()
                    && (rule.urls.is_empty() != (rule.groups.is_empty() || rule.resources.is_empty()));
                assert!(is_sound, "{}: {rule:?}", object::name(tree));
            }
        }
    }

    #[test]
    fn what_an_administrator_added_stays() {
        let wanted = role("ClusterRole", &("r", &[("get", "-", "pods"), ("list", "-", "pods")]), "");
        let mut old = wanted.clone();
        assert_eq!(merged(&old, &wanted), None);
        let own = json!({"verbs": ["delete"], "apiGroups": [""], "resources": ["pods"]});
        old["rules"] = json!([own, {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        let new = merged(&old, &wanted).expect("something is missing");
        assert_eq!(new["rules"].as_array().map(Vec::len), Some(3));
        assert_eq!(new["rules"][0], own);
        old["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(merged(&old, &wanted), None);
    }
}
