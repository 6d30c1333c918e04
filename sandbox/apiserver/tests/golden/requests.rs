//! The requests, as they were sent when the transcript was recorded: a custom resource `widgets.example.com`, and all that clients do to
//! its objects.

use crate::client::Client;
use serde_json::{Value, json};

/// A request with the title that its answer has in the transcript.
pub struct Request {
    pub title: &'static str,
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: String,
}

const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const JSON: (&str, &str) = ("content-type", "application/json");
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");
const APPLY: (&str, &str) = ("content-type", "application/apply-patch+yaml");
const TABLE: (&str, &str) = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
const PARTIAL: (&str, &str) = ("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");

impl Request {
    fn new(title: &'static str, method: &'static str, path: &str, body: impl Into<String>) -> Self {
        let path = if path.starts_with("/apis") { path.to_string() } else { format!("{WIDGETS}{path}") };
        let headers = vec![("user-agent", "curl/8.14.1")];
        Self { title, method, path, headers, body: body.into() }
    }

    /// `GET` of the collection (with a query) or of what is below it.
    pub fn get(title: &'static str, path: &str) -> Self {
        Self::new(title, "GET", path, "")
    }

    fn send(title: &'static str, method: &'static str, path: &str, body: &Value) -> Self {
        Self::new(title, method, path, body.to_string()).with(JSON)
    }

    fn with(mut self, header: (&'static str, &'static str)) -> Self {
        self.headers.retain(|(name, _)| *name != header.0);
        self.headers.push(header);
        self
    }
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// The definition, and its first use: it is established when that succeeds.
pub async fn define(client: &Client) {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = client.send(&Request::send("", "POST", path, &definition())).await;
    assert_eq!(made.status, 201, "{}", made.text());
    // It is served as soon as the server has looked at it.
    for _ in 0..200 {
        let ready = client.send(&Request::get("", "")).await;
        if ready.status == 200 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it is never served");
}

fn definition() -> Value {
    let port = json!({
        "type": "object",
        "required": ["port"],
        "properties": {
            "name": {"type": "string"},
            "port": {"type": "integer"},
            "protocol": {"type": "string", "default": "TCP"},
        },
    });
    let spec = json!({
        "type": "object",
        "x-kubernetes-validations": [{"rule": "self.size != 'S' || self.replicas <= 10", "message": "too many replicas"}],
        "properties": {
            "size": {"type": "string", "enum": ["S", "M", "L"]},
            "replicas": {"type": "integer", "minimum": 0, "default": 1},
            "ports": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": port,
            },
        },
    });
    let status = json!({"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
                "additionalPrinterColumns": [
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
            }],
        },
    })
}

/// All requests in their order.
pub fn all() -> Vec<Request> {
    let mut all = writes();
    all.extend(patches());
    all.extend(reads());
    all.extend(deletions());
    all.extend(refusals());
    all.extend(watches());
    all.extend(last());
    all
}

fn writes() -> Vec<Request> {
    let generated = json!({
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"generateName": "w-"},
        "spec": {"size": "S"},
    });
    let mut first = widget("w1", json!({"size": "S", "ports": [{"port": 80}, {"port": 443, "name": "s"}]}));
    first["metadata"]["labels"] = json!({"a": "b"});
    let with_bogus = |name: &str, size: &str| {
        format!(
            "{{\"apiVersion\":\"example.com/v1\",\"kind\":\"Widget\",\"metadata\":{{\"name\":\"{name}\"}},\
             \"spec\":{{{size},\"bogus\":1}}}}"
        )
    };
    let mut wrong_kind = widget("ws", json!({}));
    wrong_kind["kind"] = json!("Wodget");
    vec![
        Request::send("create ok generateName", "POST", "?fieldManager=t", &generated),
        Request::send("create w1", "POST", "?fieldManager=t", &first),
        Request::send("dup", "POST", "?fieldManager=t", &first),
        Request::send("invalid causes", "POST", "", &widget("W_bad", json!({"size": "XL", "replicas": -1}))),
        Request::send("cel", "POST", "", &widget("wc", json!({"size": "S", "replicas": 11}))),
        Request::new(
            "strict unknown",
            "POST",
            "?fieldValidation=Strict",
            with_bogus("wu", "\"size\":\"S\",\"size\":\"L\""),
        )
        .with(JSON),
        Request::new("warn unknown", "POST", "", with_bogus("ww", "\"size\":\"L\"")).with(JSON),
        Request::new("bad json", "POST", "", "{\"apiVersion\":").with(JSON),
        Request::send("wrong kind", "POST", "", &wrong_kind),
        Request::new("415 media", "POST", "", "x").with(("content-type", "text/plain")),
        Request::get("406 accept", "/w1").with(("accept", "image/png")),
        Request::get("get notfound", "/nope"),
        Request::get("unknown resource", "/apis/example.com/v1/namespaces/default/gadgets"),
        Request::get("unknown group", "/apis/nope.example.com/v1/namespaces/default/gadgets"),
        Request::send("method not allowed", "PUT", "/w1", &json!({})),
    ]
}

fn patches() -> Vec<Request> {
    let json_patch = ("content-type", "application/json-patch+json");
    let strategic = ("content-type", "application/strategic-merge-patch+json");
    let mut stale = widget("w1", json!({"size": "S"}));
    stale["metadata"]["resourceVersion"] = json!("1");
    let mut other_uid = widget("w1", json!({"size": "S"}));
    other_uid["metadata"]["uid"] = json!("x");
    let apply = |title, path: &str, body: &Value| Request::send(title, "PATCH", path, body).with(APPLY);
    let two = json!({"size": "M", "ports": [{"port": 443}]});
    let nothing = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "wa"}});
    vec![
        Request::new("strategic on CR", "PATCH", "/w1", "{}").with(strategic),
        Request::send("merge patch", "PATCH", "/w1?fieldManager=t", &json!({"spec": {"replicas": 2}}))
            .with(MERGE),
        Request::send(
            "json patch test fails",
            "PATCH",
            "/w1",
            &json!([{"op": "test", "path": "/spec/replicas", "value": 9}]),
        )
        .with(json_patch),
        Request::send(
            "json patch bad path",
            "PATCH",
            "/w1",
            &json!([{"op": "remove", "path": "/spec/nope"}]),
        )
        .with(json_patch),
        Request::send("put stale rv", "PUT", "/w1", &stale),
        Request::send("put no rv", "PUT", "/w1", &widget("w1", json!({"size": "S"}))),
        Request::send("put uid mismatch", "PUT", "/w1", &other_uid),
        apply(
            "ssa create",
            "/wa?fieldManager=a",
            &widget("wa", json!({"size": "S", "ports": [{"port": 80}]})),
        ),
        apply("ssa conflict", "/wa?fieldManager=b", &widget("wa", json!({"size": "M"}))),
        apply("ssa force", "/wa?fieldManager=b&force=true", &widget("wa", two)),
        apply("ssa no manager", "/wa", &widget("wa", json!({}))),
        apply("ssa remove field by a (drops port80)", "/wa?fieldManager=a", &nothing),
        Request::send("status put ignores spec", "PUT", "/wa/status", &widget("wa", json!({"size": "L"}))),
    ]
}

fn reads() -> Vec<Request> {
    vec![
        Request::get("scale get", "/wa/scale"),
        Request::get("table list", "?limit=2").with(TABLE),
        Request::get("table one none", "/wa?includeObject=None").with(TABLE),
        Request::get("partial", "?limit=1").with(PARTIAL),
    ]
}

fn deletions() -> Vec<Request> {
    let uid = json!({"preconditions": {"uid": "x"}});
    let more = json!({"metadata": {"finalizers": ["foregroundDeletion", "a.b/c"]}});
    vec![
        Request::send("delete w/ precondition", "DELETE", "/ww", &uid),
        Request::send("delete foreground", "DELETE", "/ww", &json!({"propagationPolicy": "Foreground"})),
        Request::new("delete again", "DELETE", "/ww", ""),
        Request::send("update deleting add finalizer", "PATCH", "/ww", &more).with(MERGE),
        Request::send(
            "remove finalizers => gone",
            "PATCH",
            "/ww",
            &json!({"metadata": {"finalizers": null}}),
        )
        .with(MERGE),
        Request::new("delete plain", "DELETE", "/w1", ""),
        Request::send("delete orphan+grace bad", "DELETE", "/wa", &json!({"propagationPolicy": "Bogus"})),
    ]
}

fn refusals() -> Vec<Request> {
    vec![
        Request::get("field selector bad", "?fieldSelector=spec.size%3DS"),
        Request::get("label selector bad", "?labelSelector=a%3D%3D%3Db"),
        Request::get("limit bad", "?limit=abc"),
        Request::get("rv bad", "?resourceVersion=abc"),
        Request::get("rv exact old", "?resourceVersion=1&resourceVersionMatch=Exact"),
        Request::get("rv future list", "?resourceVersion=99999999&resourceVersionMatch=NotOlderThan"),
        Request::get("rvmatch without rv", "?resourceVersionMatch=Exact"),
        Request::get("bad continue", "?continue=aW52YWxpZA"),
    ]
}

fn watches() -> Vec<Request> {
    let list = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    vec![
        Request::get("watch future", "?watch=true&resourceVersion=99999&timeoutSeconds=1"),
        Request::get("watchlist", &format!("?watch=true&{list}&timeoutSeconds=1")),
        Request::get("watchlist bad", "?watch=true&sendInitialEvents=true"),
        Request::get("watch table", "?watch=true&timeoutSeconds=1").with(TABLE),
    ]
}

fn last() -> Vec<Request> {
    let mut elsewhere = widget("wx", json!({"size": "S"}));
    elsewhere["metadata"]["namespace"] = json!("other");
    let mut unnamed = widget("", json!({"size": "S"}));
    unnamed["metadata"] = json!({});
    let mut versioned = widget("wv", json!({"size": "S"}));
    versioned["metadata"]["resourceVersion"] = json!("1");
    vec![
        Request::new("deletecollection", "DELETE", "?labelSelector=none%3Dsuch", ""),
        Request::send("dry run create", "POST", "?dryRun=All", &widget("dr", json!({"size": "S"}))),
        Request::send("dry run bad", "POST", "?dryRun=Foo", &widget("dr", json!({"size": "S"}))),
        Request::send("name mismatch put", "PUT", "/wa", &widget("other", json!({"size": "S"}))),
        Request::send("ns mismatch", "POST", "", &elsewhere),
        Request::send("no name", "POST", "", &unnamed),
        Request::send("rv on create", "POST", "", &versioned),
    ]
}
