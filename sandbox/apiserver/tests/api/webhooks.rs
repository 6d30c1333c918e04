//! Admission webhooks: the test plays one.

use crate::client::{Client, Lines};
use crate::tls::TlsServer;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, Notify};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// A webhook's port and certificate.
struct Hook {
    port: u16,
    certificate: String,
}

impl Hook {
    async fn start() -> Self {
        Self::of(TlsServer::start("127.0.0.1", answer).await)
    }

    fn of(server: TlsServer) -> Self {
        Self { port: server.port, certificate: BASE64_STANDARD.encode(server.certificate) }
    }

    fn configuration(&self, kind: &str, path: &str, more: Value) -> Value {
        let mut hook = json!({
            "name": "maps.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            "clientConfig": {"url": format!("https://127.0.0.1:{}/{path}", self.port), "caBundle": self.certificate},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            hook[name] = value.clone();
        }
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": path}, "webhooks": [hook]})
    }
}

async fn answer(request: http::Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_string();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("a review");
    let asked = &review["request"];
    let mut response = json!({"uid": asked["uid"], "allowed": true});
    match path.as_str() {
        "/change" => {
            let patch = json!([{"op": "add", "path": "/data/by", "value": asked["userInfo"]["username"]}]);
            change(&mut response, &patch);
        }
        path if path.starts_with("/steal/") => {
            let field = path.trim_start_matches("/steal/");
            let patch = json!([{"op": "add", "path": format!("/metadata/{field}"), "value": "another"}]);
            change(&mut response, &patch);
        }
        _ if asked["object"]["data"]["bad"] == "yes" => {
            response["allowed"] = false.into();
            response["status"] = json!({"message": "it is bad", "code": 403});
        }
        _ => response["warnings"] = json!(["nobody knows"]),
    }
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Response::new(Full::from(review.to_string()))
}

/// A webhook that answers each question with this patch, and what it was asked.
async fn recorder(patch: impl Fn(&Value) -> Value + Send + Sync + 'static) -> (Hook, Arc<Mutex<Vec<Value>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (tells, patch) = (heard.clone(), Arc::new(patch));
    let server = TlsServer::start("127.0.0.1", move |request: http::Request<Incoming>| {
        let (tells, patch) = (tells.clone(), patch.clone());
        async move {
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            // Programs in shell look for the first uid.
            assert!(body.starts_with(b"{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\"request\":{\"uid\":\""));
            let mut review: Value = serde_json::from_slice(&body).expect("a review");
            let asked = review["request"].take();
            let mut response = json!({"uid": asked["uid"], "allowed": true});
            let patch = patch(&asked);
            if !patch.is_null() {
                change(&mut response, &patch);
            }
            tells.lock().expect("no panic").push(asked);
            review["response"] = response;
            Response::new(Full::from(review.to_string()))
        }
    });
    (Hook::of(server.await), heard)
}

fn change(response: &mut Value, patch: &Value) {
    response["patchType"] = "JSONPatch".into();
    response["patch"] = BASE64_STANDARD.encode(patch.to_string()).into();
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

#[tokio::test]
async fn webhooks_change_and_refuse() {
    let (client, hook) = (Client::start().await, Hook::start().await);
    let mutating = hook.configuration("MutatingWebhookConfiguration", "change", json!({}));
    client.post(&format!("{GROUP}/mutatingwebhookconfigurations"), &mutating).await.ok();
    let validating = hook.configuration("ValidatingWebhookConfiguration", "judge", json!({}));
    client.post(&format!("{GROUP}/validatingwebhookconfigurations"), &validating).await.ok();
    let made = client.post(MAPS, &map("a", json!({"x": "1"}))).await.ok();
    assert_eq!(made["data"]["x"], "1");
    assert!(made["data"]["by"].is_string(), "{made:#}");
    let words = client.post(MAPS, &map("b", json!({"bad": "yes"}))).await.refused(403);
    assert_eq!(words, "admission webhook \"maps.example.com\" denied the request: it is bad");
    // It is about what comes to be only.
    client.merge(&format!("{MAPS}/a"), &json!({"data": {"bad": "yes"}})).await.ok();
    let answer = client.raw("POST", MAPS, "application/json", map("c", json!({"x": "1"})).to_string()).await;
    assert_eq!(answer.headers()["warning"], "299 - \"nobody knows\"");
}

#[tokio::test]
async fn a_webhook_changes_the_object_it_was_asked_about() {
    let (client, hook) = (Client::start().await, Hook::start().await);
    let configurations = format!("{GROUP}/mutatingwebhookconfigurations");
    let stolen = |field: &str| format!("https://127.0.0.1:{}/steal/{field}", hook.port);
    let mut thief = hook.configuration("MutatingWebhookConfiguration", "steal", json!({}));
    client.post(&configurations, &thief).await.ok();
    for field in ["name", "namespace", "uid"] {
        thief["webhooks"][0]["clientConfig"]["url"] = stolen(field).into();
        client.merge(&format!("{configurations}/steal"), &json!({"webhooks": thief["webhooks"]})).await.ok();
        let words = client.post(MAPS, &map("mine", json!({}))).await.refused(500);
        let told = format!("Internal error occurred: a webhook may not change metadata.{field}");
        assert_eq!(words, told);
    }
    assert_eq!(client.get(MAPS).await.ok()["items"], json!([]));
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_refuses_or_not() {
    let (client, hook) = (Client::start().await, Hook::start().await);
    let configurations = format!("{GROUP}/validatingwebhookconfigurations");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).expect("a certificate");
    let wrong = BASE64_STANDARD.encode(other.cert.pem());
    let url = format!("https://127.0.0.1:{}/judge", hook.port);
    let closed = hook.configuration(
        "ValidatingWebhookConfiguration",
        "judge",
        json!({"clientConfig": {"url": url, "caBundle": wrong}}),
    );
    client.post(&configurations, &closed).await.ok();
    let words = client.post(MAPS, &map("a", json!({}))).await.refused(500);
    let start = "Internal error occurred: failed calling webhook \"maps.example.com\": failed to call webhook: Post \"https://127.0.0.1:";
    assert!(words.starts_with(start), "{words}");
    assert!(words.contains("/judge?timeout=10s\": tls: "), "{words}");
    let mut open = closed;
    open["webhooks"][0]["failurePolicy"] = "Ignore".into();
    client.merge(&format!("{configurations}/judge"), &json!({"webhooks": open["webhooks"]})).await.ok();
    client.post(MAPS, &map("a", json!({}))).await.ok();
    let service =
        json!({"service": {"namespace": "default", "name": "nobody"}, "caBundle": hook.certificate});
    open["webhooks"][0]["clientConfig"] = service;
    open["webhooks"][0]["failurePolicy"] = "Fail".into();
    client.merge(&format!("{configurations}/judge"), &json!({"webhooks": open["webhooks"]})).await.ok();
    let to = "failed to call webhook: Post \"https://nobody.default.svc:443/?timeout=10s\": ";
    let told = async |end: &str| {
        let words = client.post(MAPS, &map("b", json!({}))).await.refused(500);
        assert!(words.ends_with(&format!("{to}{end}")), "{words}");
    };
    told("service \"nobody\" not found").await;
    let services = "/api/v1/namespaces/default/services";
    client
        .post(services, &json!({"metadata": {"name": "nobody"}, "spec": {"ports": [{"port": 80}]}}))
        .await
        .ok();
    told("no service port 443 found for service \"nobody\"").await;
    client.merge(&format!("{services}/nobody"), &json!({"spec": {"ports": [{"port": 443}]}})).await.ok();
    told("no endpoints available for service \"nobody\"").await;
}

#[tokio::test]
async fn a_webhook_without_tls_is_told_apart() {
    let (client, hook) = (Client::start().await, Hook::start().await);
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/judge", plain.local_addr().expect("its address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _heard = stream.read_u8().await;
            let _sent = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
    });
    let config = json!({"clientConfig": {"url": url, "caBundle": hook.certificate}});
    let configuration = hook.configuration("ValidatingWebhookConfiguration", "judge", config);
    client.post(&format!("{GROUP}/validatingwebhookconfigurations"), &configuration).await.ok();
    let words = client.post(MAPS, &map("a", json!({}))).await.refused(500);
    let told = format!("Post \"{url}?timeout=10s\": http: server gave HTTP response to HTTPS client");
    assert!(words.ends_with(&told), "{words}");
}

#[tokio::test]
async fn a_slow_webhook_keeps_nobody_from_making_services() {
    let (client, asked, goes_on) = (Client::start().await, Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tells, waits) = (asked.clone(), goes_on.clone());
    let slow = TlsServer::start("127.0.0.1", move |request| {
        let (tells, waits) = (tells.clone(), waits.clone());
        async move {
            tells.notify_one();
            waits.notified().await;
            answer(request).await
        }
    });
    let slow = Hook::of(slow.await);
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}]);
    let only = json!({"rules": rules, "objectSelector": {"matchLabels": {"is": "slow"}}});
    let configuration = slow.configuration("ValidatingWebhookConfiguration", "judge", only);
    client.post(&format!("{GROUP}/validatingwebhookconfigurations"), &configuration).await.ok();
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, port: i64| {
        let ports = json!([{"port": 80, "nodePort": port}]);
        json!({"metadata": {"name": name, "labels": {"is": name}}, "spec": {"type": "NodePort", "ports": ports}})
    };
    let first = service("slow", 30_080);
    let meanwhile = async {
        asked.notified().await;
        client.post(services, &service("quick", 30_081)).await.ok();
        // What the slow one is about to have is nobody else's.
        let refused = client.post(services, &service("late", 30_080)).await.refused(422);
        assert!(refused.ends_with("provided port is already allocated"), "{refused}");
        goes_on.notify_one();
    };
    let (made, ()) = tokio::join!(client.post(services, &first), meanwhile);
    assert_eq!(made.ok()["spec"]["ports"][0]["nodePort"], 30_080);
    // And it is free again when that is gone.
    client.delete(&format!("{services}/slow"), &json!({})).await.ok();
    client.post(services, &service("late", 30_080)).await.ok();
}

#[tokio::test]
async fn webhooks_are_asked_about_deletions_and_connections() {
    let client = Client::start().await;
    let (hook, heard) = recorder(|_| Value::Null).await;
    let everything = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE", "CONNECT"], "resources": ["*/*"]}]);
    let evictions = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/eviction"]});
    let mut rules = everything;
    rules.as_array_mut().expect("a list").push(evictions);
    for (kind, path) in [
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    ] {
        let configuration = hook.configuration(kind, "hear", json!({"rules": rules}));
        client.post(&format!("{GROUP}/{path}"), &configuration).await.ok();
    }
    // Both sorts hear the same.
    let take = || {
        let mut all = std::mem::take(&mut *heard.lock().expect("no panic"));
        for one in &mut all {
            one["uid"].take();
        }
        let (first, second) = all.split_at(all.len() / 2);
        assert_eq!(first, second);
        first.to_vec()
    };
    client.post(MAPS, &map("a", json!({"x": "1"}))).await.ok();
    client.delete(&format!("{MAPS}/a"), &json!({"propagationPolicy": "Background"})).await.ok();
    let asked = take().remove(0);
    assert_eq!((&asked["operation"], &asked["name"]), (&json!("DELETE"), &json!("a")));
    assert_eq!((&asked["object"], &asked["oldObject"]["data"]["x"]), (&Value::Null, &json!("1")));
    let options =
        json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "propagationPolicy": "Background"});
    assert_eq!(asked["options"], options);

    client.post(MAPS, &map("b", json!({}))).await.ok();
    client.delete(MAPS, &json!({})).await.ok();
    let asked = take().remove(0);
    assert_eq!((&asked["name"], &asked["oldObject"]["metadata"]["name"]), (&json!(""), &json!("b")));

    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    client.post(pods, &pod).await.ok();
    client.get(&format!("{pods}/p/exec?command=ls&stdout=true&container=c")).await.refused(400);
    let asked = take().remove(0);
    assert_eq!((&asked["operation"], &asked["subResource"]), (&json!("CONNECT"), &json!("exec")));
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "PodExecOptions"}));
    let options = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "container": "c", "command": ["ls"]});
    assert_eq!((&asked["object"], &asked["oldObject"]), (&options, &Value::Null));

    // An eviction is asked about, the deletion that it is not.
    let eviction = json!({"metadata": {"name": "p", "namespace": "default"}});
    client.post(&format!("{pods}/p/eviction"), &eviction).await.ok();
    let asked = take();
    let kinds: Vec<_> = asked.iter().map(|one| (&one["operation"], &one["kind"]["kind"])).collect();
    assert_eq!(kinds, [(&json!("CREATE"), &json!("Eviction"))]);
}

#[tokio::test]
async fn what_goes_cannot_be_changed() {
    let client = Client::start().await;
    let (hook, _) = recorder(|_| json!([{"op": "add", "path": "/data", "value": {}}])).await;
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]}]);
    let configuration = hook.configuration("MutatingWebhookConfiguration", "hear", json!({"rules": rules}));
    client.post(&format!("{GROUP}/mutatingwebhookconfigurations"), &configuration).await.ok();
    client.post(MAPS, &map("a", json!({}))).await.ok();
    let words = client.delete(&format!("{MAPS}/a"), &json!({})).await.refused(500);
    let told = "Internal error occurred: admission webhook \"maps.example.com\" attempted to modify the object, which is not supported for this operation";
    assert_eq!(words, told);
}

#[tokio::test]
async fn a_webhook_is_asked_again_when_a_later_one_changed_something() {
    let client = Client::start().await;
    let configurations = format!("{GROUP}/mutatingwebhookconfigurations");
    let counts = |asked: &Value| {
        let seen = asked["object"]["data"].as_object().map_or(0, serde_json::Map::len);
        json!([{"op": "add", "path": "/data/seen", "value": seen.to_string()}])
    };
    let (first, heard_first) = recorder(counts).await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    client.post(&configurations, &first.configuration("MutatingWebhookConfiguration", "a", again)).await.ok();
    let (second, heard_second) = recorder(|_| json!([{"op": "add", "path": "/data/y", "value": "2"}])).await;
    client
        .post(&configurations, &second.configuration("MutatingWebhookConfiguration", "b", json!({})))
        .await
        .ok();
    let made = client.post(MAPS, &map("m", json!({"x": "1"}))).await.ok();
    assert_eq!(made["data"], json!({"x": "1", "y": "2", "seen": "3"}));
    assert_eq!(heard_first.lock().expect("no panic").len(), 2);
    assert_eq!(heard_second.lock().expect("no panic").len(), 1);
    // What was the last to change is not asked about its own change.
    client.delete(&format!("{configurations}/b"), &json!({})).await.ok();
    heard_first.lock().expect("no panic").clear();
    client.post(MAPS, &map("n", json!({"x": "1"}))).await.ok();
    assert_eq!(heard_first.lock().expect("no panic").len(), 1);
}

#[tokio::test]
async fn those_that_refuse_are_asked_at_once() {
    let client = Client::start().await;
    let both = Arc::new(Barrier::new(2));
    for name in ["a", "b"] {
        let both = both.clone();
        let server = TlsServer::start("127.0.0.1", move |request| {
            let both = both.clone();
            async move {
                both.wait().await;
                answer(request).await
            }
        });
        let hook = Hook::of(server.await);
        let configuration = hook.configuration("ValidatingWebhookConfiguration", name, json!({}));
        client.post(&format!("{GROUP}/validatingwebhookconfigurations"), &configuration).await.ok();
    }
    // Neither answers before the other one was asked.
    client.post(MAPS, &map("m", json!({}))).await.ok();
}

#[tokio::test]
async fn webhooks_are_asked_about_a_scale() {
    let client = Client::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let labels = json!({"app": "w"});
    let pod = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": pod});
    client.post(deployments, &json!({"metadata": {"name": "w"}, "spec": spec})).await.ok();
    let most = |asked: &Value| match asked["object"]["spec"]["replicas"].as_i64() {
        Some(6..) => json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]),
        _ => Value::Null,
    };
    let (hook, heard) = recorder(most).await;
    let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments/scale"]}]);
    let configuration =
        hook.configuration("MutatingWebhookConfiguration", "most", json!({"rules": rules.clone()}));
    client.post(&format!("{GROUP}/mutatingwebhookconfigurations"), &configuration).await.ok();
    let configuration = hook.configuration("ValidatingWebhookConfiguration", "most", json!({"rules": rules}));
    client.post(&format!("{GROUP}/validatingwebhookconfigurations"), &configuration).await.ok();
    let scaled =
        client.merge(&format!("{deployments}/w/scale"), &json!({"spec": {"replicas": 9}})).await.ok();
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    assert_eq!(client.get(&format!("{deployments}/w")).await.ok()["spec"]["replicas"], 5);
    let heard = heard.lock().expect("no panic");
    let of = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    for (asked, replicas) in heard.iter().zip([9, 5]) {
        assert_eq!((&asked["kind"], &asked["resource"]["resource"]), (&of, &json!("deployments")));
        assert_eq!(asked["subResource"], "scale");
        assert_eq!(
            (&asked["object"]["kind"], &asked["oldObject"]["kind"]),
            (&json!("Scale"), &json!("Scale"))
        );
        assert_eq!(
            (&asked["object"]["spec"]["replicas"], &asked["oldObject"]["spec"]["replicas"]),
            (&json!(replicas), &json!(1))
        );
    }
    assert_eq!(heard.len(), 2);
}

#[tokio::test]
async fn webhooks_are_asked_in_the_version_that_they_know() {
    let client = Client::start().await;
    let (hook, heard) =
        recorder(|_| json!([{"op": "replace", "path": "/spec/maxReplicas", "value": 7}])).await;
    let rules = json!([{"apiGroups": ["autoscaling"], "apiVersions": ["v2"], "operations": ["CREATE"],
        "resources": ["horizontalpodautoscalers"]}]);
    let configuration = hook.configuration("MutatingWebhookConfiguration", "limit", json!({"rules": rules}));
    client.post(&format!("{GROUP}/mutatingwebhookconfigurations"), &configuration).await.ok();
    let path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let scaler = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"maxReplicas": 9, "targetCPUUtilizationPercentage": 50,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"}}})
    };
    let made = client.post(path, &scaler("a")).await.ok();
    assert_eq!((&made["apiVersion"], &made["spec"]["maxReplicas"]), (&json!("autoscaling/v1"), &json!(7)));
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 50);
    {
        let heard = heard.lock().expect("no panic");
        let [asked] = &heard[..] else { panic!("asked once: {heard:?}") };
        assert_eq!((&asked["kind"]["version"], &asked["resource"]["version"]), (&json!("v2"), &json!("v2")));
        let requested = (&asked["requestKind"]["version"], &asked["requestResource"]["version"]);
        assert_eq!(requested, (&json!("v1"), &json!("v1")));
        assert_eq!(asked["object"]["apiVersion"], "autoscaling/v2");
        let owned = &asked["object"]["metadata"]["managedFields"][0]["fieldsV1"];
        assert_eq!(owned["f:spec"]["f:maxReplicas"], json!({}), "as an object");
        assert_eq!(asked["object"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    }
    let exact = json!({"webhooks": [{"name": "maps.example.com", "matchPolicy": "Exact"}]});
    let configuration = format!("{GROUP}/mutatingwebhookconfigurations/limit");
    let media = "application/strategic-merge-patch+json";
    client.send("PATCH", &configuration, media, exact.to_string()).await.ok();
    assert_eq!(client.post(path, &scaler("b")).await.ok()["spec"]["maxReplicas"], 9);
}

#[tokio::test]
async fn what_a_webhook_puts_in_beside_the_schema_is_dropped() {
    let client = crate::custom::start().await;
    let (hook, _heard) =
        recorder(|_| json!([{"op": "add", "path": "/spec", "value": {"replicas": 1, "unknown": 1}}])).await;
    let rule = json!({"apiGroups": ["ex.io"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["widgets"]});
    let mutating = hook.configuration("MutatingWebhookConfiguration", "change", json!({"rules": [rule]}));
    client.post(&format!("{GROUP}/mutatingwebhookconfigurations"), &mutating).await.ok();
    let widget = json!({"apiVersion": "ex.io/v2", "kind": "Widget", "metadata": {"name": "a"}});
    let made = client.post(&crate::custom::WIDGETS.replace("v1", "v2"), &widget).await.ok();
    assert_eq!(made["spec"], json!({"replicas": 1}));
}

/// A webhook that converts widgets: version 1 has `replicas`, version 2 has `count`.
async fn converter() -> (Hook, Arc<AtomicUsize>) {
    let times = Arc::new(AtomicUsize::new(0));
    let asked = times.clone();
    let server = TlsServer::start("127.0.0.1", move |request: http::Request<Incoming>| {
        asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let review: Value = serde_json::from_slice(&body).expect("a review");
            let (to, mut all) =
                (review["request"]["desiredAPIVersion"].clone(), review["request"]["objects"].clone());
            let fields = if to == "ex.io/v2" { ["replicas", "count"] } else { ["count", "replicas"] };
            let mut result = json!({"status": "Success"});
            for object in all.as_array_mut().expect("objects") {
                assert_ne!(object["apiVersion"], to);
                object["apiVersion"] = to.clone();
                let number = object["spec"][fields[0]].take();
                object["spec"] = json!({fields[1]: number});
                if number == 13 {
                    result = json!({"status": "Failed", "message": "nobody wants 13"});
                }
            }
            let response =
                json!({"uid": review["request"]["uid"], "result": result, "convertedObjects": all});
            let answer =
                json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response});
            Response::new(Full::from(answer.to_string()))
        }
    });
    (Hook::of(server.await), times)
}

#[tokio::test]
async fn a_webhook_converts_what_is_read_watched_and_written() {
    let (client, (hook, times)) = (crate::custom::start().await, converter().await);
    let path = |version: &str, name: &str| format!("{}{name}", crate::custom::WIDGETS.replace("v1", version));
    let config = json!({"url": format!("https://127.0.0.1:{}/", hook.port), "caBundle": hook.certificate});
    let versions = json!(["v1", "v2", "v3"].map(|name| {
        let field = if name == "v2" { "count" } else { "replicas" };
        let spec = json!({"type": "object", "properties": {field: {"type": "integer"}}});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
        json!({"name": name, "served": true, "storage": name == "v2", "schema": schema})
    }));
    let conversion = json!({"strategy": "Webhook", "webhook": {"clientConfig": config}});
    let changed = json!({"spec": {"versions": versions, "conversion": conversion}});
    let words = client.merge(crate::custom::WIDGETS_DEFINITION, &changed).await.refused(422);
    assert!(words.ends_with("spec.conversion.conversionReviewVersions: Required value"), "{words}");
    let conversion = json!({"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v2", "v1"]}});
    let changed = json!({"spec": {"versions": versions, "conversion": conversion}});
    client.merge(crate::custom::WIDGETS_DEFINITION, &changed).await.ok();
    let widget = |name: &str, number: i64| json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"replicas": number}});
    crate::custom::served(&client, "v3").await;
    let made = client.post(&path("v1", ""), &widget("w", 3)).await.ok();
    assert_eq!((&made["apiVersion"], &made["spec"]), (&json!("ex.io/v1"), &json!({"replicas": 3})));
    let read = client.get(&path("v2", "/w")).await.ok();
    assert_eq!((&read["apiVersion"], &read["spec"]), (&json!("ex.io/v2"), &json!({"count": 3})));
    assert_eq!(client.get(&path("v1", "")).await.ok()["items"][0]["spec"], json!({"replicas": 3}));
    let before = times.load(Ordering::Relaxed);
    assert_eq!(client.get(&path("v1", "/w")).await.ok()["spec"], json!({"replicas": 3}));
    assert_eq!(times.load(Ordering::Relaxed), before, "what was converted is kept");
    let from = &read["metadata"]["resourceVersion"].as_str().expect("a version");
    let watch = format!("{}?watch=true&resourceVersion={from}", path("v1", ""));
    let mut lines = Lines::of(client.raw("GET", &watch, "", Bytes::new()).await);
    let merged = client.merge(&path("v1", "/w"), &json!({"spec": {"replicas": 4}})).await.ok();
    assert_eq!(merged["spec"], json!({"replicas": 4}));
    let (_, seen) = lines.next().await.expect("an event");
    assert_eq!((&seen["apiVersion"], &seen["spec"]), (&json!("ex.io/v1"), &json!({"replicas": 4})));
    let words = client.post(&path("v1", ""), &widget("bad", 13)).await.refused(500);
    assert_eq!(words, "conversion webhook for ex.io/v1, Kind=Widget failed: nobody wants 13");
    assert_eq!(client.get(&path("v2", "")).await.ok()["items"].as_array().map(Vec::len), Some(1));
    client.delete(&path("v1", "/w"), &json!({})).await.ok();
    let (type_, gone) = lines.next().await.expect("an event");
    assert_eq!((type_.as_str(), &gone["spec"]), ("DELETED", &json!({"replicas": 4})));
}
