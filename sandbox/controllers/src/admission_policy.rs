//! The status of validating admission policies: what is wrong with their expressions for the kinds that they are about
//! (k8s.io/kubernetes/pkg/controller/validatingadmissionpolicystatus, k8s.io/apiserver
//! `pkg/admission/plugin/policy/validating/typechecking.go`). The API server says which kinds there are and what they look like.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use drydock_apimachinery::crd::policy::{KindSchema, Warning, schema_in, warnings};
use drydock_apimachinery::object::{list, text};
use drydock_kubeclient::informer::Informer;
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;

/// Who it is that owns the fields of a status.
const NAME: &str = "validatingadmissionpolicy-status-controller";
/// Most kinds that expressions are checked for.
const MOST_KINDS: usize = 10;

struct Controller {
    client: Client,
    policies: Informer<ValidatingAdmissionPolicy>,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let policies = context.informer::<ValidatingAdmissionPolicy>();
    let to_queue = queue.clone();
    policies.subscribe(move |event| to_queue.add(event.object().metadata.key()));
    work(Arc::new(Controller { client: context.client.clone(), policies }), queue, 1)
}

/// A kind by group, version and name.
type Named = (String, String, String);

/// What was asked of the API server for one policy.
struct Asked<'c> {
    client: &'c Client,
    documents: HashMap<String, Option<Value>>,
}

impl Asked<'_> {
    async fn get(&self, path: String) -> Result<Option<Value>, Error> {
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| Error::Object(error.to_string()))?;
        Ok(errors::unless_gone(self.client.request::<Value>(request).await)?)
    }

    /// The kind of a resource, by its name in paths.
    async fn kind_of(&self, group: &str, version: &str, resource: &str) -> Result<Option<Named>, Error> {
        let Some(found) = self.get(format!("/{}", root(group, version))).await? else { return Ok(None) };
        let one = list(&found, &["resources"]).iter().find(|one| one["name"] == resource);
        Ok(one.map(|one| (group.into(), version.into(), text(one, &["kind"]).into())))
    }

    async fn schema(&mut self, (group, version, kind): &Named) -> Result<Option<KindSchema>, Error> {
        let path = format!("/openapi/v3/{}", root(group, version));
        if !self.documents.contains_key(&path) {
            let document = self.get(path.clone()).await?;
            self.documents.insert(path.clone(), document);
        }
        let document = self.documents.get(&path).and_then(Option::as_ref);
        Ok(document.and_then(|document| schema_in(document, group, version, kind)))
    }
}

/// Where a group and version are served.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The resources that a policy names, none of them by a wildcard (`typesToCheck`).
fn resources(policy: &Value) -> Vec<Vec<[&str; 3]>> {
    let rules = list(policy, &["spec", "matchConstraints", "resourceRules"]).iter();
    rules.map(resources_of).collect()
}

fn resources_of(rule: &Value) -> Vec<[&str; 3]> {
    let names = |field: &str| -> Vec<&str> {
        let mut names: Vec<_> = list(rule, &[field]).iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        names
    };
    let (groups, versions) = (names("apiGroups"), names("apiVersions"));
    if groups.iter().chain(&versions).any(|name| name.contains('*')) {
        return Vec::new();
    }
    let resources: Vec<_> =
        names("resources").into_iter().filter(|name| !name.contains(['*', '/'])).collect();
    let mut all = Vec::new();
    for group in groups {
        for version in &versions {
            all.extend(resources.iter().map(|resource| [group, *version, *resource]));
        }
    }
    all
}

impl Controller {
    /// What is wrong with a policy's expressions.
    async fn check(&self, policy: &Value) -> Result<Vec<Warning>, Error> {
        let mut asked = Asked { client: &self.client, documents: HashMap::new() };
        let mut names = BTreeSet::new();
        'rules: for rule in resources(policy) {
            let mut count = 0;
            for [group, version, resource] in rule {
                if let Some(kind) = asked.kind_of(group, version, resource).await? {
                    names.insert(kind);
                    count += 1;
                }
                if count == MOST_KINDS {
                    break 'rules;
                }
            }
        }
        let mut kinds = Vec::new();
        for name in &names {
            kinds.extend(asked.schema(name).await?);
        }
        let of_params = &policy["spec"]["paramKind"];
        let params = match text(of_params, &["kind"]) {
            "" => None,
            kind => {
                let version = text(of_params, &["apiVersion"]);
                let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
                asked.schema(&(group.into(), version.into(), kind.into())).await?
            }
        };
        Ok(warnings(policy, &kinds, params.as_ref()))
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(policy) = self.policies.get(key) else { return Ok(None) };
        let generation = policy.metadata.generation.unwrap_or_default();
        let seen = policy.status.as_ref().and_then(|status| status.observed_generation).unwrap_or_default();
        if generation <= seen {
            return Ok(None);
        }
        let whole = serde_json::to_value(&*policy).map_err(|error| Error::Object(error.to_string()))?;
        let warnings: Vec<_> = self
            .check(&whole)
            .await?
            .into_iter()
            .map(|warning| json!({"fieldRef": warning.field, "warning": warning.text}))
            .collect();
        let mut checked = json!({});
        if !warnings.is_empty() {
            checked["expressionWarnings"] = warnings.into();
        }
        let applied = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": key.name}, "status": {"observedGeneration": generation, "typeChecking": checked}});
        let api: Api<ValidatingAdmissionPolicy> = Api::all(self.client.clone());
        let params = PatchParams::apply(NAME).force();
        errors::unless_gone(api.patch_status(&key.name, &params, &Patch::Apply(&applied)).await)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_without_wildcards() {
        let policy = json!({"spec": {"matchConstraints": {"resourceRules": [
            {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["statefulsets", "deployments", "deployments/scale", "*"]},
            {"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"]},
            {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]},
        ]}}});
        assert_eq!(
            resources(&policy),
            [
                vec![["apps", "v1", "deployments"], ["apps", "v1", "statefulsets"]],
                vec![],
                vec![["", "v1", "pods"]]
            ]
        );
    }
}
