//! What is passed on to a kubelet: the test plays one.

use crate::client::Client;
use crate::tls::TlsServer;
use bytes::Bytes;
use drydock_apiserver::options::KeyPair;
use drydock_apiserver::testing::TestServer;
use drydock_etcd::Store;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A kubelet that tells what it was asked, and echoes what an upgraded connection sends.
async fn kubelet(mut request: http::Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().to_string();
    if path.contains("waiting") {
        let mut refusal = Response::new(Full::from(
            "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating",
        ));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return refusal;
    }
    if path.starts_with("/page") {
        let uri = request.headers()["x-forwarded-uri"].to_str().expect("a text");
        let mut page = Response::new(Full::from(format!("<p>{uri}</p><a href=\"/other\">other</a>")));
        page.headers_mut().insert("content-type", HeaderValue::from_static("text/html; charset=utf-8"));
        page.headers_mut().insert("access-control-allow-origin", HeaderValue::from_static("*"));
        if path == "/page/moved" {
            page.headers_mut().insert("location", HeaderValue::from_static("/page"));
        }
        return page;
    }
    if !request.headers().contains_key("upgrade") {
        return Response::new(Full::from(path));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.expect("an upgrade"));
        stream.write_all(path.as_bytes()).await.expect("the client reads");
        let mut buffer = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..length]).await.expect("the client reads");
        }
    });
    let mut switching = Response::new(Full::default());
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for name in ["upgrade", "connection"] {
        let value = request.headers()[name].clone();
        switching.headers_mut().insert(http::HeaderName::from_static(name), value);
    }
    switching
}

async fn start(directory: &Path) -> Client {
    let TlsServer { port, .. } = TlsServer::start("node1", kubelet).await;
    let pair = rcgen::generate_simple_self_signed(["apiserver".to_string()]).expect("a certificate");
    let (certificate, key) = (directory.join("client.crt"), directory.join("client.key"));
    std::fs::write(&certificate, pair.cert.pem()).expect("a file");
    std::fs::write(&key, pair.signing_key.serialize_pem()).expect("a file");
    let server = TestServer::with(Store::memory(), |options| {
        options.kubelet_client = Some(KeyPair { certificate, key });
    })
    .await;
    let client = Client::to(server).await;
    client.post("/api/v1/nodes", &json!({"metadata": {"name": "node1"}})).await.ok();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    client.merge("/api/v1/nodes/node1/status", &status).await.ok();
    let containers = json!([{"name": "c", "image": "i"}, {"name": "waiting", "image": "i"}]);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "node1", "containers": containers}});
    client.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    client
}

#[tokio::test]
async fn logs_are_the_kubelets() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = start(directory.path()).await;
    let log = "/api/v1/namespaces/default/pods/p/log";
    let answer = client.raw("GET", &format!("{log}?container=c&tailLines=5&follow=true"), "", "").await;
    assert_eq!(answer.headers()["content-type"], "text/plain");
    let said = answer.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(said, "/containerLogs/default/p/c?follow=true&tailLines=5");
    let refused = client.get(&format!("{log}?container=waiting")).await.refused(400);
    assert_eq!(refused, "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating");
    let which = client.get(log).await.refused(400);
    assert_eq!(which, "a container name must be specified for pod p, choose one of: [c waiting]");
    let negative = client.get(&format!("{log}?container=c&tailLines=-1")).await.refused(422);
    assert!(
        negative.ends_with("tailLines: Invalid value: -1: must be greater than or equal to 0"),
        "{negative}"
    );
}

#[tokio::test]
async fn a_stream_carries_bytes_both_ways() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = start(directory.path()).await;
    let path =
        "/api/v1/namespaces/default/pods/p/exec?container=c&command=sh&command=-c&stdin=true&stdout=true";
    for (method, upgrade) in [("GET", "websocket"), ("POST", "SPDY/3.1")] {
        let mut stream = TcpStream::connect(client.server.address).await.expect("it listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: {upgrade}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut heard = String::new();
        let wanted = "/exec/default/p/c?input=1&output=1&command=sh&command=-c";
        while !heard.ends_with(wanted) {
            let mut buffer = [0; 256];
            let length = stream.read(&mut buffer).await.expect("it answers");
            assert!(length > 0, "it hung up after {heard:?}");
            heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        assert!(heard.starts_with("HTTP/1.1 101"), "{heard}");
        stream.write_all(b"ping").await.expect("it reads");
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.expect("it answers");
        assert_eq!(&echo, b"ping");
    }
    let refused = client.get(path).await.refused(400);
    assert_eq!(refused, "Upgrade request required");
}

#[tokio::test]
async fn a_kubelets_refusal_of_a_stream_comes_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = start(directory.path()).await;
    let mut stream = TcpStream::connect(client.server.address).await.expect("it listens");
    let path = "/api/v1/namespaces/default/pods/p/attach?container=waiting&stdout=true";
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, close\r\nupgrade: SPDY/3.1\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let (mut buffer, mut heard) = ([0; 256], String::new());
    // Clients make their error of the bare text; a Status would be another error.
    while !heard
        .ends_with("\r\n\r\ncontainer \"waiting\" in pod \"p\" is waiting to start: ContainerCreating")
    {
        let length = stream.read(&mut buffer).await.expect("it answers");
        assert!(length > 0, "it hung up after {heard:?}");
        heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    assert!(heard.starts_with("HTTP/1.1 400"), "{heard}");
}

#[tokio::test]
async fn a_nodes_proxy_leads_to_its_kubelet() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = start(directory.path()).await;
    let said = client.get("/api/v1/nodes/node1/proxy/stats/summary?x=y").await;
    assert_eq!((said.code, said.tree), (200, Value::from("/stats/summary?x=y")));
    let nobody = client.get("/api/v1/nodes/node9/proxy/").await.refused(404);
    assert_eq!(nobody, "nodes \"node9\" not found");
}

#[tokio::test]
async fn links_of_a_proxied_page_lead_through_the_proxy() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = start(directory.path()).await;
    let proxy = "/api/v1/nodes/node1/proxy";
    let answer = client.raw("GET", &format!("{proxy}/page"), "", "").await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let page = answer.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(page, format!("<p>{proxy}/page</p><a href=\"{proxy}/other\">other</a>"));
    let answer = client.raw("GET", &format!("{proxy}/page/moved"), "", "").await;
    assert_eq!(answer.headers()["location"], format!("{proxy}/page"));
}
