//! Ownership as a real API server tells it (a custom resource's transcript), as clusters show it of built-in kinds, and the cases of
//! structured-merge-diff's `merge` tests.

use super::*;
use crate::crd::Structural;
use crate::decode::complete;
use crate::schema::{Struct, find};
use serde_json::json;

const FIRST: &str = "2026-11-20T13:03:48Z";
const LATER: &str = "2026-11-20T13:03:49Z";

fn widget() -> Structural {
    Structural::read(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "string"}, "replicas": {"type": "integer", "default": 1},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {"port": {"type": "integer"}, "name": {"type": "string"},
                    "protocol": {"type": "string", "default": "TCP"}}}}}},
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}}))
}

fn tracker<'a>(schema: Place<'a>, now: &'a str) -> Tracker<'a> {
    Tracker {
        api_version: "example.com/v1",
        kind: "Widget",
        subresource: "",
        schema,
        reset: &[&["status"]],
        now,
    }
}

fn config(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "wa", "namespace": "default"}, "spec": spec})
}

/// An object as the store has it.
fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = "u".into();
    object["metadata"]["resourceVersion"] = "9".into();
    object
}

#[test]
fn applies_conflict_are_forced_and_dropped_as_the_real_server_does() {
    let schema = widget();
    let at = |now| tracker(Place::Custom(Some(&schema)), now);
    let empty = json!({"apiVersion": "example.com/v1", "kind": "Widget"});
    let first =
        at(FIRST).apply(&empty, &config(json!({"size": "S", "ports": [{"port": 80}]})), "a", false).unwrap();
    assert_eq!(
        first["metadata"]["managedFields"],
        json!([{"apiVersion": "example.com/v1", "fieldsType": "FieldsV1", "manager": "a", "operation": "Apply", "time": FIRST,
            "fieldsV1": {"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:size": {}}}}])
    );
    let mut live = stored(first);
    live["spec"]["replicas"] = 1.into();
    live["spec"]["ports"][0]["protocol"] = "TCP".into();

    let theirs = config(json!({"size": "M", "ports": [{"port": 443}]}));
    let refused = at(LATER).apply(&live, &theirs, "b", false).unwrap_err();
    assert_eq!(
        refused.to_value(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Conflict", "code": 409,
            "message": "Apply failed with 1 conflict: conflict with \"a\": .spec.size",
            "details": {"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".spec.size"}]}})
    );

    let forced = at(LATER).apply(&live, &theirs, "b", true).unwrap();
    assert_eq!(
        forced["spec"],
        json!({"size": "M", "replicas": 1, "ports": [{"port": 80, "protocol": "TCP"}, {"port": 443}]})
    );
    let managed = &forced["metadata"]["managedFields"];
    assert_eq!(
        managed[0]["fieldsV1"],
        json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}})
    );
    assert_eq!((&managed[0]["time"], &managed[1]["time"]), (&json!(FIRST), &json!(LATER)));

    let nothing = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "wa", "namespace": "default"}});
    let dropped = at(LATER).apply(&forced, &nothing, "a", false).unwrap();
    assert_eq!(dropped["spec"], json!({"size": "M", "replicas": 1, "ports": [{"port": 443}]}));
    let managed = dropped["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!((managed.len(), &managed[0]["manager"]), (1, &json!("b")));
}

#[test]
fn an_apply_that_changes_nothing_changes_nothing() {
    let schema = widget();
    let at = |now| tracker(Place::Custom(Some(&schema)), now);
    let mine = config(json!({"size": "S", "tags": ["x", "y"], "any": {"deep": {"er": 1}}}));
    let live = stored(at(FIRST).apply(&json!({}), &mine, "a", false).unwrap());
    assert_eq!(at(LATER).apply(&live, &mine, "a", false).unwrap(), live);
    assert_eq!(
        live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"],
        json!({"f:size": {}, "f:tags": {"v:\"x\"": {}, "v:\"y\"": {}}, "f:any": {"f:deep": {".": {}, "f:er": {}}}})
    );
}

#[test]
fn shared_fields_stay_until_nobody_wants_them() {
    let schema = widget();
    let at = |now| tracker(Place::Custom(Some(&schema)), now);
    let both = config(json!({"size": "S", "tags": ["x"]}));
    let one = stored(at(FIRST).apply(&json!({}), &both, "a", false).unwrap());
    let two = at(LATER).apply(&one, &both, "b", false).unwrap();
    assert_eq!(two["metadata"]["managedFields"].as_array().unwrap().len(), 2);
    let three = at(LATER).apply(&two, &config(json!({"size": "S"})), "a", false).unwrap();
    assert_eq!(three["spec"]["tags"], json!(["x"]));
    let four = at(LATER).apply(&three, &config(json!({"size": "S"})), "b", false).unwrap();
    assert!(four["spec"].get("tags").is_none());
}

#[test]
fn updates_take_over_and_deletions_release() {
    let schema = widget();
    let at = |now| tracker(Place::Custom(Some(&schema)), now);
    let live = stored(
        at(FIRST).apply(&json!({}), &config(json!({"size": "S", "replicas": 2})), "a", false).unwrap(),
    );
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = 5.into();
    scaled["spec"].as_object_mut().unwrap().remove("size");
    at(LATER).update(&live, &mut scaled, "kubectl-edit");
    assert_eq!(
        scaled["metadata"]["managedFields"],
        json!([{"apiVersion": "example.com/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
            "manager": "kubectl-edit", "operation": "Update", "time": LATER}])
    );
    // The same again takes nothing, and its time stays.
    let mut again = scaled.clone();
    tracker(Place::Custom(Some(&schema)), "2026-11-20T14:00:00Z").update(&scaled, &mut again, "kubectl-edit");
    assert_eq!(again, scaled);
    // Applying against it conflicts, with the version of the update.
    let refused = at(LATER).apply(&scaled, &config(json!({"replicas": 2})), "a", false).unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using example.com/v1: .spec.replicas"
    );
}

#[test]
fn status_belongs_to_its_subresource() {
    let schema = widget();
    let mut created = config(json!({"size": "S"}));
    created["status"] = json!({"ready": true});
    let main = tracker(Place::Custom(Some(&schema)), FIRST);
    main.update(&json!({}), &mut created, "c");
    assert_eq!(
        created["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {".": {}, "f:size": {}}})
    );
    let live = stored(created);
    let mut ready = live.clone();
    ready["status"] = json!({"ready": false});
    Tracker { subresource: "status", reset: &[&["spec"]], ..main }.update(&live, &mut ready, "c");
    let managed = ready["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managed.len(), 2);
    assert_eq!(
        (&managed[1]["subresource"], &managed[1]["fieldsV1"]),
        (&json!("status"), &json!({"f:status": {"f:ready": {}}}))
    );
}

fn built_in(kind: &str) -> Struct {
    find(if kind == "Deployment" { "apps" } else { "" }, "v1", kind).unwrap()
}

#[test]
fn a_created_deployment_is_owned_as_in_any_cluster() {
    let schema = built_in("Deployment");
    let mut empty = json!({});
    complete(&mut empty, schema);
    let mut new = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"restartPolicy": "Always", "securityContext": {},
                "containers": [{"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}}});
    complete(&mut new, schema);
    let tracker = Tracker {
        api_version: "apps/v1",
        kind: "Deployment",
        subresource: "",
        schema: Place::of(schema),
        reset: &[&["status"]],
        now: FIRST,
    };
    tracker.update(&empty, &mut new, "kubectl-create");
    without_texts(&mut new);
    // As `kubectl create deployment` leaves it.
    assert_eq!(
        new["metadata"]["managedFields"][0]["fieldsV1"],
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {
                        "f:containers": {"k:{\"name\":\"nginx\"}": {".": {}, "f:image": {}, "f:name": {},
                            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}},
                            "f:resources": {}}},
                        "f:restartPolicy": {}, "f:securityContext": {}}}}
        })
    );
}

#[test]
fn sparse_objects_are_owned_as_complete_ones() {
    let pod = |spec: Value, status: Value| json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
    let web = |more: Value| {
        let mut web = json!({"name": "web", "image": "nginx"});
        web.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [web], "volumes": [{"name": "v"}], "readinessGates": [{}], "tolerations": [{}]})
    };
    let spread =
        json!({"containers": [], "topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone"}]});
    let ready = |ready: bool| {
        json!({"conditions": [{"type": "Ready", "status": "True"}, {"status": "False"}],
            "containerStatuses": [{"name": "web", "ready": ready, "restartCount": 0, "state": {"running": {}}}]})
    };
    let resources = json!({"resources": {"limits": {"cpu": "1"}}, "env": [{"name": "A"}, {"name": "A"}]});
    let rules = |port: u16| {
        json!({"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "a",
            "port": {"number": port}}}}, {"backend": {}}]}}]}})
    };
    let pods = [
        json!({}),
        pod(web(json!({})), json!({})),
        pod(web(resources), ready(true)),
        pod(web(json!({"ports": [{"containerPort": 80}], "env": [{"name": "A"}]})), ready(false)),
        pod(spread, json!({"conditions": [{"type": "Ready", "lastProbeTime": FIRST}]})),
    ];
    let deployments = [
        json!({}),
        json!({"spec": {"selector": {}, "template": {"spec": web(json!({}))}}}),
        json!({"metadata": {"creationTimestamp": FIRST}, "spec": {"minReadySeconds": 5, "template": {"metadata": {"labels": {}}}}}),
    ];
    let kinds = [
        ("", "Pod", pods.to_vec()),
        ("apps", "Deployment", deployments.to_vec()),
        ("networking.k8s.io", "Ingress", vec![json!({}), rules(80), rules(0), rules(80)]),
    ];
    for (group, kind, objects) in kinds {
        let schema = find(group, "v1", kind).unwrap();
        let tracker = Tracker { reset: &[], ..tracker(Place::of(schema), FIRST) };
        for old in &objects {
            for new in &objects {
                let mut full = (old.clone(), new.clone());
                complete(&mut full.0, schema);
                complete(&mut full.1, schema);
                tracker.update(&full.0, &mut full.1, "m");
                for old in [old, &full.0] {
                    let mut sparse = new.clone();
                    let metadata = sparse.as_object_mut().unwrap().entry("metadata");
                    metadata.or_insert_with(|| json!({}));
                    tracker.update(old, &mut sparse, "m");
                    assert_eq!(listed(&sparse), listed(&full.1), "{old} to {new}");
                }
            }
        }
    }
}

#[test]
fn kubectl_takes_over_what_it_applied_from_its_side() {
    let schema = built_in("ConfigMap");
    let tracker = Tracker {
        api_version: "v1",
        kind: "ConfigMap",
        subresource: "",
        schema: Place::of(schema),
        reset: &[],
        now: FIRST,
    };
    let last = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"1"}}"#;
    let mut live = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
        "metadata": {"name": "c", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": last}}});
    tracker.update(&json!({}), &mut live, "kubectl-client-side-apply");
    let live = stored(live);
    let mine =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "2"}});
    assert_eq!(tracker.apply(&live, &mine, "other", false).unwrap_err().code, 409);
    let applied = tracker.apply(&live, &mine, "kubectl", false).unwrap();
    assert_eq!(applied["data"]["a"], "2");
    assert_eq!(
        applied["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"],
        "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"2\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\"}}\n"
    );
}

#[test]
fn wrong_configurations_are_refused() {
    let schema = built_in("Deployment");
    let tracker = Tracker {
        api_version: "apps/v1",
        kind: "Deployment",
        subresource: "",
        schema: Place::of(schema),
        reset: &[],
        now: FIRST,
    };
    let of = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "namespace": "d"}, "spec": spec});
    let start = "failed to create typed patch object (d/x; apps/v1, Kind=Deployment): ";
    for (config, code, message) in [
        (of(json!({"bogus": 1})), 500, format!("{start}.spec.bogus: field not declared in schema")),
        (
            of(json!({"replicas": "1"})),
            500,
            format!("{start}.spec.replicas: expected numeric (int or float), got string"),
        ),
        (
            of(
                json!({"bogus": 1, "paused": "yes", "strategy": 3, "template": {"metadata": {"labels": {"a": 1}}}}),
            ),
            500,
            format!(
                "{start}errors:\n  .spec.paused: expected boolean, got &{{yes}}\n  .spec.strategy: expected map, got &{{3}}\n  \
                 .spec.template.metadata.labels.a: expected string, got &value.valueUnstructured{{Value:1}}\n  \
                 .spec.bogus: field not declared in schema"
            ),
        ),
        (
            of(json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}})),
            500,
            format!("{start}.spec.template.spec.containers: duplicate entries for key [name=\"a\"]"),
        ),
        (json!({"apiVersion": "v1", "kind": "Pod"}), 400, "invalid object type: /v1, Kind=Pod".into()),
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"managedFields": []}}),
            400,
            "metadata.managedFields must be nil".into(),
        ),
    ] {
        let status = tracker.apply(&json!({}), &config, "m", false).unwrap_err();
        assert_eq!((status.code, status.message), (code, message));
    }
}

#[test]
fn many_updaters_become_ancient_changes() {
    let schema = built_in("ConfigMap");
    let mut live =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "0"}});
    for n in 0..15 {
        let now = format!("2026-11-20T13:{n:02}:00Z");
        let tracker = Tracker {
            api_version: "v1",
            kind: "ConfigMap",
            subresource: "",
            schema: Place::of(schema),
            reset: &[],
            now: &now,
        };
        let mut new = live.clone();
        new["data"][format!("k{n}")] = "x".into();
        tracker.update(if n == 0 { &Value::Null } else { &live }, &mut new, &format!("m{n}"));
        live = stored(new);
    }
    without_texts(&mut live);
    let managed = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managed.len(), 10);
    assert_eq!(managed[0]["manager"], "ancient-changes");
    assert!(managed[0]["fieldsV1"]["f:data"].get("f:k5").is_some());
}

#[test]
fn resetting_and_keeping_times() {
    let schema = built_in("ConfigMap");
    let at = |now| Tracker {
        api_version: "v1",
        kind: "ConfigMap",
        subresource: "",
        schema: Place::of(schema),
        reset: &[],
        now,
    };
    let mut live =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "0"}});
    at(FIRST).update(&json!({}), &mut live, "m");
    let live = stored(live);
    let mut reset = live.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    at(LATER).update(&live, &mut reset, "m");
    assert!(reset["metadata"].get("managedFields").is_none());
    let mut later = live.clone();
    later["metadata"]["managedFields"][0]["time"] = LATER.into();
    assert!(keep_times(&live, &mut later));
    assert_eq!(later, live);
    assert!(keep_times(&live, &mut later), "there is no difference at all");
    later["data"]["k"] = "1".into();
    assert!(!keep_times(&live, &mut later));
}

#[test]
fn a_creation_is_a_change_of_nothing() {
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "labels": {"a": "b"}, "annotations": {},
            "ownerReferences": [{"uid": "u", "kind": "ReplicaSet", "name": "r", "apiVersion": "apps/v1"}], "finalizers": ["x", "y", "x"]},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "A"}, {"name": "B"}],
                "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}, {}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}], "livenessProbe": {"httpGet": {"path": "/"}}}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"configMap": {"name": "m"}}], "securityContext": {}, "nodeSelector": {"x": "y"},
            "tolerations": [{"key": "k"}], "affinity": {"nodeAffinity": {}}},
        "status": {"phase": "Pending", "conditions": [{"type": "Ready"}]}});
    let service = json!({"metadata": {"name": "s", "generation": 3, "uid": null}, "spec": {"selector": {"a": "b"}, "type": "ClusterIP",
        "ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}, {"port": 443, "name": "h", "targetPort": 0}], "sessionAffinityConfig": {}}});
    let empty = json!({"metadata": {}, "spec": {}, "more": [1], "status": null});
    let custom = json!({"apiVersion": "e.com/v1", "kind": "W", "metadata": {"name": "w", "labels": {"a": "b"}}, "spec": {"a": [{}], "b": {"c": 1}}});
    let builtin = |group, version, kind| Place::of(find(group, version, kind).unwrap());
    for (place, object) in [
        (builtin("", "v1", "Pod"), &pod),
        (builtin("", "v1", "Pod"), &empty),
        (builtin("", "v1", "Service"), &service),
        (builtin("", "v1", "Service"), &json!({})),
        (
            builtin("apps", "v1", "Deployment"),
            &json!({"metadata": 1, "spec": {"template": pod, "replicas": 0}}),
        ),
        (Place::Custom(None), &custom),
        (Place::Deduced, &custom),
    ] {
        for reset in [&[][..], &[&["status"][..]], &[&["spec"]]] {
            let now = "2026-11-20T13:03:47Z";
            let tracker =
                Tracker { api_version: "v1", kind: "K", subresource: "", schema: place, reset, now };
            let sets = tracker.track(&json!({}), object, Vec::new(), "m");
            let as_text = tracker.writes_texts();
            let sets: Vec<Value> = sets.into_iter().map(|one| one.write(as_text)).collect();
            let mut new = object.clone();
            tracker.update(&json!({}), &mut new, "m");
            let at_once = new["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
            if object["metadata"].is_object() {
                assert_eq!(at_once, sets, "{object}");
            }
        }
    }
}

#[test]
fn conflicts_of_a_scale_are_about_the_scale() {
    let schema = widget();
    let at = |subresource| Tracker { subresource, ..tracker(Place::Custom(Some(&schema)), FIRST) };
    let mut live =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {}, "spec": {"replicas": 1}});
    let old = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {}, "spec": {}});
    at("").update(&old, &mut live, "kubectl-edit");
    let refused = at("scale").apply(&stored(live), &config(json!({"replicas": 2})), "a", false).unwrap_err();
    let words =
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using autoscaling/v1: .spec.replicas";
    assert_eq!(refused.message, words);
}
