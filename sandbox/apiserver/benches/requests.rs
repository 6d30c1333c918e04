//! What a request costs the server: CPU time of the thread that serves, over real HTTP on loopback, without the client's part.
//! `cargo bench -p drydock-apiserver`; the promise is a GET in 0.05 ms, a creation in 0.1 ms, a list of 500 pods in 2 ms.

use bytes::Bytes;
use drydock_apiserver::testing::TestServer;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// The server, which runs on the program's first thread as the real one does: other threads get another kind of heap.
struct Served {
    address: SocketAddr,
    runtime: Handle,
}

impl Served {
    /// CPU time that its thread has used.
    async fn cpu(&self) -> Duration {
        let read = self.runtime.spawn(async { clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) });
        read.await.expect("it runs").expect("every thread has one").into()
    }
}

async fn send(client: &mut SendRequest<Full<Bytes>>, method: &str, path: &str, body: &Value) -> Bytes {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://server{path}"))
        .header("content-type", "application/json")
        .header("user-agent", "bench/1")
        .body(Full::new(body))
        .expect("a request");
    client.ready().await.expect("a connection");
    let answer = client.send_request(request).await.expect("an answer");
    assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
    answer.into_body().collect().await.expect("a body").to_bytes()
}

fn pod(index: usize) -> Value {
    let container = json!({
        "name": "web",
        "image": "nginx:1.27",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("web-{index:05}"), "labels": {"app": "web", "tier": "front"}},
        "spec": {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}], "nodeName": "node1"},
    })
}

/// What `kubectl run` makes.
fn plain_pod(index: usize) -> Value {
    let name = format!("plain-{index:05}");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"run": name}},
        "spec": {"containers": [{"name": "web", "image": "nginx:1.27", "resources": {}}], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always"},
        "status": {},
    })
}

fn tell(what: &str, used: Duration, times: u32, promised: f64) {
    let each = used.as_secs_f64() * 1000.0 / f64::from(times);
    let verdict = if each <= promised { "" } else { "  (more than promised)" };
    // Whoever closes our output does not want the figures.
    let _closed = writeln!(std::io::stdout(), "{what:<44} {each:8.4} ms CPU of {promised} ms{verdict}");
}

async fn measure(served: &Served) {
    let stream = TcpStream::connect(served.address).await.expect("it listens");
    stream.set_nodelay(true).expect("a TCP connection");
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    for index in 0..500 {
        send(&mut client, "POST", PODS, &pod(index)).await;
    }
    let rounds = 2000;
    let before = served.cpu().await;
    for index in 0..rounds {
        send(&mut client, "GET", &format!("{PODS}/web-{:05}", index % 500), &Value::Null).await;
    }
    tell("get a pod", served.cpu().await - before, rounds, 0.05);

    let before = served.cpu().await;
    for index in 0..rounds {
        send(&mut client, "POST", PODS, &pod(1000 + index as usize)).await;
    }
    tell("create a pod with probe, volume and limits", served.cpu().await - before, rounds, 0.1);

    let before = served.cpu().await;
    for index in 0..rounds {
        send(&mut client, "POST", PODS, &plain_pod(index as usize)).await;
    }
    tell("create a pod of kubectl run", served.cpu().await - before, rounds, 0.1);

    let before = served.cpu().await;
    for index in 0..rounds {
        let name = format!("map-{index}");
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}});
        send(&mut client, "POST", "/api/v1/namespaces/default/configmaps", &map).await;
    }
    tell("create a config map", served.cpu().await - before, rounds, 0.1);

    let lists = 100;
    let path = format!("{PODS}?limit=500");
    let before = served.cpu().await;
    for _ in 0..lists {
        send(&mut client, "GET", &path, &Value::Null).await;
    }
    tell("list 500 of 4500 pods", served.cpu().await - before, lists, 2.0);

    let patch = json!({"status": {"phase": "Running"}});
    let before = served.cpu().await;
    for index in 0..rounds {
        let path = format!("{PODS}/web-{:05}/status", 1000 + index);
        patch_status(&mut client, &path, &patch).await;
    }
    tell("patch the status of a pod", served.cpu().await - before, rounds, 0.2);
}

async fn patch_status(client: &mut SendRequest<Full<Bytes>>, path: &str, patch: &Value) {
    let request = http::Request::patch(format!("http://server{path}"))
        .header("content-type", "application/strategic-merge-patch+json")
        .body(Full::new(patch.to_string().into()))
        .expect("a request");
    client.ready().await.expect("a connection");
    let answer = client.send_request(request).await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.into_body().collect().await.expect("a body");
}

fn main() {
    let runtime = || Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime().block_on(async {
        let server = TestServer::start().await;
        let served = Served { address: server.address, runtime: Handle::current() };
        let client = tokio::task::spawn_blocking(move || runtime().block_on(measure(&served)));
        client.await.expect("it measures");
    });
}
