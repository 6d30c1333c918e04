//! The status of admission policies.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::Cluster;

fn policy(rules: Value, validations: Value) -> ValidatingAdmissionPolicy {
    serde_json::from_value(json!({
        "metadata": {"name": "few"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules},
            "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
            "validations": validations,
        },
    }))
    .unwrap()
}

/// The warnings of the newest generation, as (field, text).
async fn warnings(cluster: &Cluster) -> Vec<(String, String)> {
    let policies = cluster.all::<ValidatingAdmissionPolicy>();
    cluster
        .until("its status", || async {
            let policy = policies.get("few").await.unwrap();
            let status = policy.status?;
            (status.observed_generation == policy.metadata.generation).then_some(())?;
            let warnings =
                status.type_checking.and_then(|checked| checked.expression_warnings).unwrap_or_default();
            Some(warnings.into_iter().map(|one| (one.field_ref, one.warning)).collect())
        })
        .await
}

fn rule(group: &str, version: &str, resource: &str) -> Value {
    json!({"apiGroups": [group], "apiVersions": [version], "resources": [resource], "operations": ["CREATE"]})
}

#[tokio::test]
async fn policies_are_told_what_does_not_fit_the_kinds_that_they_are_about() {
    let cluster = Cluster::start().await;
    let policies = cluster.all::<ValidatingAdmissionPolicy>();
    let first = policy(
        json!([rule("apps", "v1", "deployments"), rule("apps", "v1", "statefulsets")]),
        json!([{"expression": "variables.replicas <= 5"}, {"expression": "object.foo > 1", "messageExpression": "'no ' + object.metadata.name"}]),
    );
    policies.create(&PostParams::default(), &first).await.unwrap();
    let told = warnings(&cluster).await;
    let text = "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'foo'\n | object.foo > 1\n | ......^\n\n\
                apps/v1, Kind=StatefulSet: ERROR: <input>:1:7: undefined field 'foo'\n | object.foo > 1\n | ......^\n";
    assert_eq!(told, [("spec.validations[1].expression".into(), text.into())]);

    let fine = json!({"spec": {"validations": [{"expression": "object.spec.template.spec.containers.all(c, \
        !has(c.resources.limits) || quantity(c.resources.limits['cpu']).isLessThan(quantity('4')))"}]}});
    policies.patch("few", &PatchParams::default(), &Patch::Merge(fine)).await.unwrap();
    assert_eq!(warnings(&cluster).await, []);
}

#[tokio::test]
async fn custom_kinds_count_too() {
    let cluster = Cluster::start().await;
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "string"}}}}}}}]}});
    let definitions = cluster.all::<CustomResourceDefinition>();
    definitions.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
    cluster
        .until("the definition", || async {
            let status = definitions.get("widgets.example.com").await.unwrap().status?;
            status
                .conditions?
                .iter()
                .any(|one| one.type_ == "Established" && one.status == "True")
                .then_some(())
        })
        .await;
    let policies = cluster.all::<ValidatingAdmissionPolicy>();
    let policy = policy(
        json!([rule("example.com", "v1", "widgets")]),
        json!([{"expression": "variables.replicas > 1"}]),
    );
    policies.create(&PostParams::default(), &policy).await.unwrap();
    let told = warnings(&cluster).await;
    assert_eq!(told.len(), 1, "{told:?}");
    let text = "example.com/v1, Kind=Widget: ERROR: <input>:1:20: found no matching overload for '_>_' applied to '(string, int)'";
    assert!(told[0].1.starts_with(text), "{told:?}");
}
