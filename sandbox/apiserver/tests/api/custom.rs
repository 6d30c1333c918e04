//! Custom resources as clients see them, where the golden requests do not go.

use crate::client::{Client, Lines};
use bytes::Bytes;
use serde_json::{Value, json};

/// The definition of widgets.
pub const WIDGETS_DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.ex.io";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const WIDGETS: &str = "/apis/ex.io/v1/namespaces/default/widgets";

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"replicas": {"type": "integer", "maximum": 5}}},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
    }});
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    let version = |name: &str, storage: bool| {
        json!({
            "name": name,
            "served": true,
            "storage": storage,
            "deprecated": !storage,
            "subresources": {"scale": scale},
            "schema": {"openAPIV3Schema": schema},
        })
    };
    json!({
        "metadata": {"name": "widgets.ex.io"},
        "spec": {
            "group": "ex.io",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version("v1", false), version("v2", true)],
        },
    })
}

/// A server that serves widgets.
pub async fn start() -> Client {
    let client = Client::start().await;
    client.post(DEFINITIONS, &definition()).await.ok();
    let established = judged(&client, "widgets", "Established").await;
    assert_eq!(condition(&established, "Established")["status"], "True");
    client
}

/// A definition as soon as it has a condition.
async fn judged(client: &Client, name: &str, type_: &str) -> Value {
    let path = format!("{DEFINITIONS}?watch=true&fieldSelector=metadata.name%3D{name}.ex.io");
    let mut lines = Lines::of(client.raw("GET", &path, "", Bytes::new()).await);
    loop {
        let (_, tree) = lines.next().await.expect("it is looked at");
        if !condition(&tree, type_).is_null() {
            return tree;
        }
    }
}

/// What happens to the API service of a version of widgets, which is made when the version is served.
async fn service_events(client: &Client, version: &str) -> Lines {
    let path = format!(
        "/apis/apiregistration.k8s.io/v1/apiservices?watch=true&fieldSelector=metadata.name%3D{version}.ex.io"
    );
    Lines::of(client.raw("GET", &path, "", Bytes::new()).await)
}

/// Waits until a version of widgets is served.
pub async fn served(client: &Client, version: &str) {
    let (what, _) = service_events(client, version).await.next().await.expect("it is made");
    assert_eq!(what, "ADDED");
}

fn condition<'a>(tree: &'a Value, type_: &str) -> &'a Value {
    let all = tree["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|one| one["type"] == type_)).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_scale_is_checked_by_the_schema() {
    let client = start().await;
    client.post(WIDGETS, &json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"replicas": 1}})).await.ok();
    let scale = format!("{WIDGETS}/w/scale");
    client.merge(&scale, &json!({"spec": {"replicas": 5}})).await.ok();
    let words = client.merge(&scale, &json!({"spec": {"replicas": 6}})).await.refused(422);
    assert!(
        words.contains(
            "spec.replicas: Invalid value: 6: spec.replicas in body should be less than or equal to 5"
        ),
        "{words}"
    );
}

#[tokio::test]
async fn a_scale_is_applied_to_where_the_definition_says() {
    let client = start().await;
    client
        .post(
            WIDGETS,
            &json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}),
        )
        .await
        .ok();
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "w"}, "spec": {"replicas": 4}});
    let path = format!("{WIDGETS}/w/scale?fieldManager=scaler");
    client.send("PATCH", &path, "application/apply-patch+yaml", scale.to_string()).await.ok();
    let widget = client.get(&format!("{WIDGETS}/w")).await.ok();
    assert_eq!(widget["spec"]["replicas"], 4);
    let managers = widget["metadata"]["managedFields"].as_array().expect("managers");
    let own = managers.iter().find(|one| one["manager"] == "scaler").expect("an entry");
    assert_eq!(own["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!((&own["subresource"], &own["apiVersion"]), (&json!("scale"), &json!("ex.io/v1")));
}

#[tokio::test]
async fn a_patch_of_what_is_no_field_is_refused_as_that_of_any_object() {
    let client = start().await;
    let widget = json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}});
    client.post(WIDGETS, &widget).await.ok();
    let path = format!("{WIDGETS}/w?fieldValidation=Strict");
    let refused = client.merge(&path, &json!({"spec": {"b": 1}})).await;
    assert_eq!(refused.tree["details"]["causes"][0]["field"], "patch");
    let words = refused.refused(422);
    assert!(words.starts_with(" \"\" is invalid: patch: Invalid value: \"{\\\"apiVersion\\\":"), "{words}");
    assert!(words.ends_with("\": strict decoding error: unknown field \"spec.b\""), "{words}");
    let operations = json!([{"op": "add", "path": "/spec/b", "value": 1}]).to_string();
    let words = client.send("PATCH", &path, "application/json-patch+json", operations).await.refused(422);
    assert!(words.ends_with("\": strict decoding error: unknown field \"spec.b\""), "{words}");
    let words = client.merge(&path, &json!({"metadata": {"labels": "x"}})).await.refused(422);
    assert!(words.contains("cannot unmarshal string into Go struct field"), "{words}");
    let dropped = client.merge(&format!("{WIDGETS}/w"), &json!({"spec": {"b": 1}})).await.ok();
    assert_eq!(dropped["spec"], json!({}));
}

#[tokio::test]
async fn what_is_applied_may_have_no_other_fields() {
    let client = start().await;
    let apply = async |spec: Value| {
        let widget =
            json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
        let path = format!("{WIDGETS}/w?fieldManager=a");
        client.send("PATCH", &path, "application/apply-patch+yaml", widget.to_string()).await
    };
    let start = "failed to create typed patch object (/w; ex.io/v1, Kind=Widget): .spec.";
    let words = apply(json!({"replicas": 1, "b": 2})).await.refused(500);
    assert_eq!(words, format!("{start}b: field not declared in schema"));
    let words = apply(json!({"replicas": "1"})).await.refused(500);
    assert_eq!(words, format!("{start}replicas: expected numeric (int or float), got string"));
    assert_eq!(apply(json!({"replicas": 1})).await.ok()["spec"], json!({"replicas": 1}));
}

#[tokio::test]
async fn a_scale_of_zero_is_written_as_go_writes_it() {
    let client = start().await;
    let widget = json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"replicas": 0}});
    client.post(WIDGETS, &widget).await.ok();
    let scale = client.get(&format!("{WIDGETS}/w/scale")).await.ok();
    assert_eq!((&scale["spec"], &scale["status"]), (&json!({}), &json!({"replicas": 0})));
    let scale = client.merge(&format!("{WIDGETS}/w/scale"), &json!({"spec": {"replicas": 2}})).await.ok();
    assert_eq!(scale["spec"], json!({"replicas": 2}));
    let silent = json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "v"}, "spec": {}});
    client.post(WIDGETS, &silent).await.ok();
    let words = client.get(&format!("{WIDGETS}/v/scale")).await.refused(500);
    assert_eq!(words, "Internal error occurred: the spec replicas field \".spec.replicas\" does not exist");
}

#[tokio::test]
async fn of_several_names_that_clash_the_last_is_told() {
    let client = start().await;
    let clash = async |name: &str, names: Value| {
        let mut other = definition();
        other["metadata"]["name"] = format!("{name}.ex.io").into();
        other["spec"]["names"] = names;
        client.post(DEFINITIONS, &other).await.ok();
        let tree = judged(&client, name, "NamesAccepted").await;
        let one = condition(&tree, "NamesAccepted");
        assert_eq!(one["status"], "False");
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_string();
        (text("reason"), text("message"), tree["status"]["acceptedNames"].clone())
    };
    let names =
        json!({"plural": "gadgets", "singular": "widget", "kind": "Widget", "listKind": "GadgetList"});
    let (reason, message, accepted) = clash("gadgets", names).await;
    assert_eq!((reason.as_str(), message.as_str()), ("KindConflict", "\"Widget\" is already in use"));
    assert_eq!(accepted["plural"], "gadgets");
    let names = json!({"plural": "things", "singular": "thing", "shortNames": ["widget", "t", "widgets"], "kind": "Thing"});
    let (reason, message, accepted) = clash("things", names).await;
    assert_eq!(reason, "ShortNamesConflict");
    assert_eq!(message, "[\"widget\" is already in use, \"widgets\" is already in use]");
    assert_eq!((&accepted["kind"], &accepted["listKind"]), (&json!("Thing"), &json!("ThingList")));
}

#[tokio::test]
async fn a_deprecated_version_says_which_to_use() {
    let client = start().await;
    let answer = client.raw("GET", WIDGETS, "", "").await;
    let warning = answer.headers()["warning"].to_str().expect("a text");
    assert_eq!(warning, "299 - \"ex.io/v1 Widget is deprecated; use ex.io/v2 Widget\"");
}

#[tokio::test]
async fn a_definition_says_that_it_waits_for_its_objects() {
    let client = start().await;
    let widget = json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w", "finalizers": ["ex.io/wait"]}, "spec": {}});
    client.post(WIDGETS, &widget).await.ok();
    client.delete(&format!("{DEFINITIONS}/widgets.ex.io"), &json!({})).await.ok();
    for _ in 0..1000 {
        let definition = client.get(&format!("{DEFINITIONS}/widgets.ex.io")).await.ok();
        let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let terminating =
            conditions.into_iter().find(|one| one["type"] == "Terminating").expect("a condition");
        if terminating["reason"] == "InstanceDeletionInProgress" {
            assert_eq!(terminating["message"], "CustomResource deletion is in progress");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the deletion is only pending");
}

#[tokio::test]
async fn what_a_resource_has_not_below_it_is_not_found() {
    let client = start().await;
    let refused = client.get("/apis/apps/v1/namespaces/default/daemonsets/d/scale").await;
    let words = "the server could not find the requested resource";
    assert_eq!((refused.code, &refused.tree["message"]), (404, &json!(words)));
    let refused = client.get(&format!("{WIDGETS}/w/nothing")).await;
    assert_eq!((refused.code, &refused.tree["message"]), (404, &json!("widgets.ex.io \"w\" not found")));
}

#[tokio::test]
async fn over_all_namespaces_there_is_only_a_list() {
    let client = start().await;
    let path = "/apis/ex.io/v1/widgets";
    client.get(path).await.ok();
    let refused = client.delete(path, &json!({})).await;
    assert_eq!((refused.code, refused.tree), (404, json!("404 page not found\n")));
}

#[tokio::test]
async fn a_default_must_be_valid() {
    let client = Client::start().await;
    let mut wrong = definition();
    for version in wrong["spec"]["versions"].as_array_mut().expect("versions") {
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"]["default"] =
            9.into();
    }
    let words = client.post(DEFINITIONS, &wrong).await.refused(422);
    assert!(
        words.contains("spec.validation.openAPIV3Schema.properties[spec].properties[replicas].default: Invalid value: 9: "),
        "{words}"
    );
}

#[tokio::test]
async fn an_object_of_the_version_that_was_stored_before_is_served_in_all() {
    let client = start().await;
    let path = |version: &str| format!("{}/w", WIDGETS.replace("v1", version));
    let widget = json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"replicas": 1}});
    client.post(WIDGETS, &widget).await.ok();
    let mut versions = definition()["spec"]["versions"].clone();
    versions[1]["storage"] = false.into();
    let mut newest = versions[1].clone();
    newest["name"] = "v3".into();
    newest["storage"] = true.into();
    versions.as_array_mut().expect("versions").push(newest);
    let changed = json!({"spec": {"versions": versions}});
    client.merge(&format!("{DEFINITIONS}/widgets.ex.io"), &changed).await.ok();
    served(&client, "v3").await;
    for version in ["v1", "v2", "v3"] {
        assert_eq!(client.get(&path(version)).await.ok()["apiVersion"], format!("ex.io/{version}"));
    }
    let label = json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]).to_string();
    let patched = client.send("PATCH", &path("v3"), "application/json-patch+json", label).await.ok();
    assert_eq!((&patched["apiVersion"], &patched["spec"]), (&json!("ex.io/v3"), &json!({"replicas": 1})));
}

#[tokio::test]
async fn a_served_version_has_an_api_service() {
    let client = start().await;
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let service = client.get(&format!("{services}/v1.ex.io")).await.ok();
    let spec =
        json!({"group": "ex.io", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100});
    assert_eq!(service["spec"], spec);
    assert_eq!(service["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    client.get(&format!("{services}/v2.ex.io")).await.ok();
    let mut told = service_events(&client, "v1").await;
    client.delete(WIDGETS_DEFINITION, &json!({})).await.ok();
    while told.next().await.expect("it goes").0 != "DELETED" {}
    client.get(&format!("{services}/v1.apps")).await.ok();
}
