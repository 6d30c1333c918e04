//! Verbs.

use crate::client::Client;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

#[tokio::test]
async fn a_write_that_changes_nothing_has_no_revision() {
    let client = Client::start().await;
    let made = client.post(MAPS, &map("a")).await.ok();
    let again = client.put(&format!("{MAPS}/a"), &made).await.ok();
    assert_eq!(made["metadata"]["resourceVersion"], again["metadata"]["resourceVersion"]);
    let patched = client.merge(&format!("{MAPS}/a"), &json!({"data": {"a": "1"}})).await.ok();
    assert_eq!(made["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"]);
    let changed = client.merge(&format!("{MAPS}/a"), &json!({"data": {"a": "2"}})).await.ok();
    assert_ne!(made["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn of_two_writers_the_second_is_told() {
    let client = Client::start().await;
    let mut first = client.post(MAPS, &map("a")).await.ok();
    let mut second = first.clone();
    first["data"] = json!({"by": "first"});
    second["data"] = json!({"by": "second"});
    client.put(&format!("{MAPS}/a"), &first).await.ok();
    let words = client.put(&format!("{MAPS}/a"), &second).await.refused(409);
    assert_eq!(
        words,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    // Without a version, the last one wins.
    second["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    let last = client.put(&format!("{MAPS}/a"), &second).await.ok();
    assert_eq!(last["data"]["by"], "second");
}

#[tokio::test]
async fn patches_that_race_all_arrive() {
    let client = Client::start().await;
    client.post(MAPS, &map("a")).await.ok();
    let path = format!("{MAPS}/a");
    let patches = (0..20).map(|index| {
        let (client, path) = (&client, &path);
        async move {
            let key = format!("k{index}");
            client.merge(path, &json!({"data": {key: "x"}})).await.ok()
        }
    });
    futures_util::future::join_all(patches).await;
    let last = client.get(&path).await.ok();
    assert_eq!(last["data"].as_object().map(serde_json::Map::len), Some(21));
}

#[tokio::test]
async fn lists_come_in_pieces_that_fit_together() {
    let client = Client::start().await;
    for index in 0..7 {
        client.post(MAPS, &map(&format!("m{index}"))).await.ok();
    }
    let first = client.get(&format!("{MAPS}?limit=3")).await.ok();
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().into_iter().flatten();
        items.map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_string()).collect()
    };
    let has = |list: &Value| names(list).iter().filter(|name| name.starts_with('m')).count();
    let mut found = has(&first);
    let mut token = first["metadata"]["continue"].as_str().expect("there is more").to_string();
    // What changes meanwhile is not part of this list.
    client.post(MAPS, &map("m9")).await.ok();
    let revision = first["metadata"]["resourceVersion"].clone();
    loop {
        let next = client.get(&format!("{MAPS}?limit=3&continue={token}")).await.ok();
        assert_eq!(next["metadata"]["resourceVersion"], revision);
        found += has(&next);
        match next["metadata"]["continue"].as_str() {
            Some(more) => token = more.to_string(),
            None => break,
        }
    }
    assert_eq!(found, 7);
    // A token of a revision that was forgotten says how to go on.
    let store = &client.server.server.store;
    client.post(MAPS, &map("later")).await.ok();
    store.compact(store.revision()).await.expect("it is there");
    let gone = client.get(&format!("{MAPS}?limit=3&continue={token}")).await;
    assert_eq!((gone.code, &gone.tree["reason"]), (410, &json!("Expired")));
    let token = gone.tree["metadata"]["continue"].as_str().expect("a new token").to_string();
    client.get(&format!("{MAPS}?limit=3&continue={token}")).await.ok();
}

#[tokio::test]
async fn selectors_choose() {
    let client = Client::start().await;
    for (name, app) in [("a", "web"), ("b", "web"), ("c", "db")] {
        let mut one = map(name);
        one["metadata"]["labels"] = json!({"app": app});
        client.post(MAPS, &one).await.ok();
    }
    let count = async |query: &str| {
        let list = client.get(&format!("{MAPS}?{query}")).await.ok();
        list["items"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(count("labelSelector=app%3Dweb").await, 2);
    assert_eq!(count("labelSelector=app%20notin%20(web),app").await, 1);
    assert_eq!(count("fieldSelector=metadata.name%3Dc").await, 1);
    assert_eq!(count("fieldSelector=metadata.name%21%3Dc&labelSelector=app").await, 2);
    let deleted = client.delete(&format!("{MAPS}?labelSelector=app%3Dweb"), &json!({})).await.ok();
    assert_eq!(deleted["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(count("labelSelector=app").await, 1);
}

#[tokio::test]
async fn a_finalizer_holds_a_deletion_up() {
    let client = Client::start().await;
    let mut one = map("a");
    one["metadata"]["finalizers"] = json!(["example.com/hold"]);
    client.post(MAPS, &one).await.ok();
    let path = format!("{MAPS}/a");
    let marked = client.delete(&path, &json!({})).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(client.get(&path).await.code, 200);
    client.merge(&path, &json!({"metadata": {"finalizers": null}})).await.ok();
    assert_eq!(client.get(&path).await.refused(404), "configmaps \"a\" not found");
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let client = Client::start().await;
    let path = "/api/v1/namespaces/n";
    client.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.ok();
    let mut marked = client.delete(path, &json!({})).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    // An ordinary update can't take the finalizer away.
    marked["spec"]["finalizers"] = json!([]);
    client.put(path, &marked).await.ok();
    let still = client.get(path).await.ok();
    assert_eq!(still["spec"]["finalizers"], json!(["kubernetes"]));
    client.put(&format!("{path}/finalize"), &marked).await.ok();
    assert_eq!(client.get(path).await.code, 404);
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    let client = Client::start().await;
    let before = client.server.server.store.revision();
    let imagined = client.post(&format!("{MAPS}?dryRun=All"), &map("a")).await.ok();
    assert!(imagined["metadata"]["uid"].is_string() && imagined["metadata"]["resourceVersion"].is_null());
    assert_eq!(client.server.server.store.revision(), before);
    client.post(MAPS, &map("a")).await.ok();
    let path = format!("{MAPS}/a");
    client.delete(&path, &json!({"dryRun": ["All"]})).await.ok();
    client.merge(&format!("{path}?dryRun=All"), &json!({"data": {"a": "9"}})).await.ok();
    assert_eq!(client.get(&path).await.ok()["data"]["a"], "1");
}

#[tokio::test]
async fn owners_decide_what_a_deletion_waits_for() {
    let client = Client::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]},
            },
        },
    });
    client.post(deployments, &deployment).await.ok();
    let path = format!("{deployments}/web");
    let marked = client.delete(&path, &json!({"propagationPolicy": "Foreground"})).await.ok();
    assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(marked["metadata"]["generation"], 2);
    let orphaned = client.delete(&path, &json!({"propagationPolicy": "Orphan"})).await.ok();
    assert_eq!(orphaned["metadata"]["finalizers"], json!(["orphan"]));
    let gone = client.delete(&path, &json!({"propagationPolicy": "Background"})).await.ok();
    assert_eq!((&gone["status"], &gone["details"]["name"]), (&json!("Success"), &json!("web")));
}

#[tokio::test]
async fn a_generation_counts_changes_of_the_specification() {
    let client = Client::start().await;
    let path = "/apis/apps/v1/namespaces/default/replicasets";
    let set = json!({
        "metadata": {"name": "rs"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
        "status": {"replicas": 9},
    });
    let made = client.post(path, &set).await.ok();
    assert_eq!((&made["metadata"]["generation"], &made["status"]["replicas"]), (&json!(1), &json!(0)));
    let path = format!("{path}/rs");
    let labelled = client.merge(&path, &json!({"metadata": {"labels": {"x": "y"}}})).await.ok();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let scaled = client.merge(&format!("{path}/scale"), &json!({"spec": {"replicas": 3}})).await.ok();
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    assert_eq!(scaled["status"]["selector"], "a=b");
    let status = json!({"spec": {"replicas": 7}, "status": {"replicas": 2, "observedGeneration": 2}});
    let counted = client.merge(&format!("{path}/status"), &status).await.ok();
    assert_eq!(counted["metadata"]["generation"], 2);
    assert_eq!((&counted["spec"]["replicas"], &counted["status"]["replicas"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn events_of_both_groups_are_the_same_objects() {
    let client = Client::start().await;
    let event = json!({
        "metadata": {"name": "e.1"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started",
        "message": "hello",
        "type": "Normal",
        "count": 1,
    });
    client.post("/api/v1/namespaces/default/events", &event).await.ok();
    let other = client.get("/apis/events.k8s.io/v1/namespaces/default/events/e.1").await.ok();
    assert_eq!((&other["apiVersion"], &other["note"]), (&json!("events.k8s.io/v1"), &json!("hello")));
    let path = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp,reason%3DStarted";
    assert_eq!(client.get(path).await.ok()["items"].as_array().map(Vec::len), Some(1));
    let path = "/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=regarding.name%3Dnobody";
    assert_eq!(client.get(path).await.ok()["items"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn labels_and_annotations_may_come_with_a_status() {
    let client = Client::start().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}});
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let job = json!({"metadata": {"name": "j"}, "spec": {"suspend": true, "template": template}});
    client.post(jobs, &job).await.ok();
    let patch = json!({
        "metadata": {"labels": {"patched": "yes"}, "annotations": {"patchedstatus": "true"}},
        "spec": {"suspend": false},
    });
    let job = client.merge(&format!("{jobs}/j/status"), &patch).await.ok();
    assert_eq!(job["metadata"]["annotations"]["patchedstatus"], "true");
    assert_eq!(
        (&job["metadata"]["labels"]["patched"], &job["spec"]["suspend"]),
        (&json!("yes"), &json!(true))
    );
    // A deployment's labels are its owner's.
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let mut template = template;
    template["spec"]["restartPolicy"] = json!("Always");
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    client.post(deployments, &deployment).await.ok();
    let deployment = client.merge(&format!("{deployments}/d/status"), &patch).await.ok();
    assert_eq!(deployment["metadata"]["annotations"]["patchedstatus"], "true");
    assert!(deployment["metadata"]["labels"].is_null());
    let uid = deployment["metadata"]["uid"].clone();
    assert_eq!(client.get(&format!("{deployments}/d")).await.ok()["metadata"]["uid"], uid);
}

/// Makes the Deployment `d` of two replicas; tells where.
async fn scalable(client: &Client) -> &'static str {
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    });
    client.post(deployments, &deployment).await.ok();
    deployments
}

#[tokio::test]
async fn who_applies_a_scale_owns_the_number_of_replicas() {
    let client = Client::start().await;
    let deployments = scalable(&client).await;
    let apply = async |options: &str, replicas: u32| {
        let scale = format!(
            "apiVersion: autoscaling/v1\nkind: Scale\nmetadata: {{name: d}}\nspec: {{replicas: {replicas}}}"
        );
        let path = format!("{deployments}/d/scale?fieldManager=scaler{options}");
        client.send("PATCH", &path, "application/apply-patch+yaml", scale).await
    };
    let words = apply("", 0).await.refused(409);
    assert!(words.starts_with("Apply failed with 1 conflict: conflict with \"test\""), "{words}");
    let scale = apply("&force=true", 0).await.ok();
    assert_eq!((&scale["kind"], &scale["spec"]), (&json!("Scale"), &json!({})));
    assert_eq!(apply("", 3).await.ok()["spec"]["replicas"], 3);
    let deployment = client.get(&format!("{deployments}/d")).await.ok();
    assert_eq!(deployment["spec"]["replicas"], 3);
    let managers = deployment["metadata"]["managedFields"].as_array().expect("managers");
    let owners: Vec<_> =
        managers.iter().filter(|one| !one["fieldsV1"]["f:spec"]["f:replicas"].is_null()).collect();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    for (field, value) in
        [("manager", "scaler"), ("operation", "Apply"), ("apiVersion", "apps/v1"), ("subresource", "scale")]
    {
        assert_eq!(owners[0][field], value);
    }
}

#[tokio::test]
async fn a_replacement_says_which_object_it_is_of() {
    let client = Client::start().await;
    let path = format!("{MAPS}/gone");
    let made = client.post(MAPS, &map("gone")).await.ok();
    let words = client.put(&path, &json!({"data": {"a": "2"}})).await.refused(400);
    assert_eq!(words, "the name of the object (gone based on URL) was undeterminable: name must be provided");
    client.delete(&path, &json!({})).await.ok();
    let words = client.put(&path, &made).await.refused(409);
    let uid = made["metadata"]["uid"].as_str().expect("a uid");
    assert_eq!(
        words,
        format!(
            "Operation cannot be fulfilled on configmaps \"gone\": StorageError: invalid object, Code: 4, \
             Key: /registry/configmaps/default/gone, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: "
        )
    );
    client.put(&path, &map("gone")).await.refused(404);
}

#[tokio::test]
async fn the_clusters_own_priority_classes_stay() {
    let client = Client::start().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    client.post(classes, &json!({"metadata": {"name": "mine"}, "value": 7})).await.ok();
    for name in ["system-node-critical", "system-cluster-critical"] {
        let words = client.delete(&format!("{classes}/{name}"), &json!({})).await.refused(403);
        assert_eq!(
            words,
            format!(
                "priorityclasses.scheduling.k8s.io \"{name}\" is forbidden: this is a system priority class and cannot be deleted"
            )
        );
    }
    client.delete(&format!("{classes}/mine"), &json!({})).await.ok();
}

#[tokio::test]
async fn a_built_in_group_says_that_it_has_no_such_resource() {
    let client = Client::start().await;
    for path in ["/api/v1/namespaces/api/nosuch", "/apis/apps/v1/nosuch", "/apis/apps/v1/nosuch/a/status"] {
        let words = client.get(path).await.refused(404);
        assert_eq!(words, "the server could not find the requested resource", "{path}");
    }
    let other = client.get("/apis/nosuch.example.com/v1/widgets").await;
    assert_eq!((other.code, other.tree), (404, json!("404 page not found\n")));
}

#[tokio::test]
async fn a_scale_has_columns_of_its_own() {
    let client = Client::start().await;
    let deployments = scalable(&client).await;
    let path = format!("{deployments}/d/scale");
    let table = client.get_as(&path, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    let names: Vec<_> =
        table["columnDefinitions"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(
        table["rows"][0]["cells"].as_array().map(|cells| &cells[..3]),
        Some(&[json!("d"), json!(2), json!(0)][..])
    );
}

#[tokio::test]
async fn objects_are_written_in_the_order_of_their_structs() {
    let client = Client::start().await;
    let body = json!({
        "metadata": {"name": "m", "labels": {"a": "b"}, "annotations": {"x": "y"}},
        "data": {"k": "v"},
        "immutable": true,
    });
    let path = "/api/v1/namespaces/default/configmaps";
    let text = async |method: &str, path: &str, body: String| {
        let answer = client.raw(method, path, "application/json", body).await;
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("text")
    };
    /// Whether all of these stand in it in this order.
    fn in_order(text: &str, parts: &[&str]) {
        let mut rest = text;
        for part in parts {
            let Some((_, after)) = rest.split_once(part) else { panic!("no {part} in {rest} of {text}") };
            rest = after;
        }
    }
    let metadata = [
        r#""metadata":{"name":"m","namespace":"default","uid":""#,
        r#"","resourceVersion":""#,
        r#"","creationTimestamp":""#,
        r#"","labels":{"a":"b"},"annotations":{"x":"y"},"managedFields":[{"manager":"test","operation":"Update","apiVersion":"v1","time":""#,
        r#"}]},"immutable":true,"data":{"k":"v"}}"#,
    ];
    let whole = [&[r#"{"kind":"ConfigMap","apiVersion":"v1","#], &metadata[..]].concat();
    in_order(&text("POST", path, body.to_string()).await, &whole);
    in_order(&text("GET", &format!("{path}/m"), String::new()).await, &whole);
    in_order(&text("GET", path, String::new()).await, &[&["\"items\":[{"], &metadata[..]].concat());
    let watch = format!("{path}?watch=1&timeoutSeconds=1");
    in_order(
        &text("GET", &watch, String::new()).await,
        &[&[r#"{"type":"ADDED","object":{"kind":"ConfigMap","#], &metadata[..]].concat(),
    );
    let pretty = text("GET", &format!("{path}/m?pretty=true"), String::new()).await;
    assert!(pretty.starts_with("{\n  \"kind\": \"ConfigMap\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {\n    \"name\": \"m\",\n"), "{pretty}");
    let dry = text("DELETE", &format!("{path}/m?dryRun=All"), String::new()).await;
    in_order(
        &dry,
        &[
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"m","kind":"configmaps","uid":""#,
        ],
    );
}

#[tokio::test]
async fn discovery_is_written_in_the_order_of_its_structs() {
    use http_body_util::BodyExt;
    let client = Client::start().await;
    for (path, start) in [
        (
            "/api",
            r#"{"kind":"APIVersions","versions":["v1"],"serverAddressByClientCIDRs":[{"clientCIDR":"0.0.0.0/0","serverAddress":"#,
        ),
        (
            "/api/v1",
            r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"bindings","singularName":"binding","#,
        ),
        ("/apis", r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"#),
        (
            "/apis/apps",
            r#"{"kind":"APIGroup","apiVersion":"v1","name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"#,
        ),
        (
            "/apis/apps/v1",
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"apps/v1","resources":[{"name":"#,
        ),
    ] {
        let answer = client.raw("GET", path, "", "").await;
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(text.starts_with(start), "{path}: {text:.300}");
        if path == "/api/v1" {
            let maps = r#"{"name":"configmaps","singularName":"configmap","namespaced":true,"kind":"ConfigMap","verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"shortNames":["cm"],"storageVersionHash":""#;
            assert!(text.contains(maps), "{text:.900}");
        }
    }
}

#[tokio::test]
async fn a_question_has_no_table() {
    let client = Client::start().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let question = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/x"}}});
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    client.post_as(path, &question, table).await.refused(406);
    let answer = client.post_as(path, &question, &format!("{table},application/json")).await.ok();
    assert_eq!(answer["kind"], "SelfSubjectAccessReview");
}

/// Within the server the fields of managers are texts; nobody ever sees them so.
#[tokio::test]
async fn owned_fields_are_objects_for_everybody() {
    let client = Client::start().await;
    let own = |tree: &Value| tree["metadata"]["managedFields"][0]["fieldsV1"].clone();
    let wanted = json!({"f:data": {".": {}, "f:a": {}}});
    let dry = client.post(&format!("{MAPS}?dryRun=All"), &map("a")).await.ok();
    assert_eq!(own(&dry), wanted, "of a dry run");
    let path = format!("{MAPS}/a");
    assert_eq!(own(&client.post(MAPS, &map("a")).await.ok()), wanted);
    let dry = client.merge(&format!("{path}?dryRun=All"), &json!({"immutable": false})).await.ok();
    assert_eq!(own(&dry)["f:data"], wanted["f:data"]);
    let patch = json!([{"op": "test", "path": "/metadata/managedFields/0/fieldsV1/f:data/f:a", "value": {}},
        {"op": "copy", "from": "/metadata/managedFields/0/fieldsV1/f:data/f:a", "path": "/metadata/managedFields/0/fieldsV1/f:data/f:b"}]);
    let patched = client.send("PATCH", &path, "application/json-patch+json", patch.to_string()).await.ok();
    assert_eq!(own(&patched)["f:data"]["f:b"], json!({}));
    let words = client.merge(&path, &json!({"data": 1})).await.refused(422);
    assert!(words.contains(r#"\"fieldsV1\":{\"f:data\":"#), "the object is shown: {words}");
    // What is no field of the object itself is what the client says.
    let template = json!({"metadata": {"labels": {"a": "b"}, "managedFields": [{"fieldsV1": "}{", "manager": "m"}]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = json!({"metadata": {"name": "t"}, "template": template});
    let made = client.post("/api/v1/namespaces/default/podtemplates", &made).await.ok();
    assert_eq!(made["template"]["metadata"]["managedFields"][0]["fieldsV1"], "}{");
    let mut forged = client.get(&path).await.ok();
    forged["metadata"]["managedFields"][0]["fieldsV1"] = "}{".into();
    assert!(own(&client.put(&path, &forged).await.ok()).is_object());
}

#[tokio::test]
async fn what_is_applied_may_have_no_other_fields() {
    let client = Client::start().await;
    let apply = async |path: &str, body: &str| {
        client.send("PATCH", path, "application/apply-patch+yaml", body.to_string()).await
    };
    let deployment =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: default}\nspec: {foo: 1}";
    for validation in ["Strict", "Warn", "Ignore"] {
        let path = format!(
            "/apis/apps/v1/namespaces/default/deployments/d?fieldManager=a&fieldValidation={validation}"
        );
        let refused = apply(&path, deployment).await;
        assert_eq!(refused.tree["reason"], Value::Null);
        let words = refused.refused(500);
        assert_eq!(
            words,
            "failed to create typed patch object (default/d; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
        );
    }
    let maps = "/api/v1/namespaces/default/configmaps/m?fieldManager=a&fieldValidation=";
    let map = |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\n{data}");
    let words = apply(&format!("{maps}Strict"), &map("data: {a: 1}")).await.refused(500);
    assert_eq!(
        words,
        "failed to create typed patch object (/m; /v1, Kind=ConfigMap): .data.a: expected string, got &value.valueUnstructured{Value:1}"
    );
    let twice = map("data: {a: x, a: z}");
    let words = apply(&format!("{maps}Strict"), &twice).await.refused(400);
    assert!(words.contains("duplicate field \"data.a\""), "{words}");
    let made = apply(&format!("{maps}Ignore"), &twice).await.ok();
    assert_eq!(made["data"], json!({"a": "z"}));
    let words = apply(&format!("{maps}Strict"), "- a").await.refused(400);
    assert_eq!(
        words,
        "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type \
         map[string]interface {}"
    );
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let client = Client::start().await;
    let text = async |path: &str| client.get(path).await.ok().as_str().unwrap_or_default().to_string();
    assert_eq!(text("/livez").await, "ok");
    let alive = text("/livez?verbose&exclude=etcd&exclude=weather").await;
    assert!(alive.starts_with("[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n[+]poststarthook/"), "{alive}");
    let end = "warn: some health checks cannot be excluded: no matches for \"weather\"\nlivez check passed\n";
    assert!(alive.ends_with(end), "{alive}");
    assert!(text("/readyz?verbose").await.contains("[+]etcd-readiness ok\n[+]informer-sync ok\n"));
    assert_eq!(text("/readyz/informer-sync").await, "ok");
    assert_eq!(client.get("/livez/informer-sync").await.code, 404);
}
