//! Watches.

use crate::client::{Client, Lines, connect};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make(client: &Client, name: &str, app: &str) {
    let map = json!({"metadata": {"name": name, "labels": {"app": app}}});
    client.post(MAPS, &map).await.ok();
}

async fn watch(client: &Client, query: &str) -> Lines {
    Lines::of(client.raw("GET", &format!("{MAPS}?watch=true&{query}"), "", Bytes::new()).await)
}

#[tokio::test]
async fn what_leaves_a_selection_is_told_as_deleted() {
    let client = Client::start().await;
    make(&client, "a", "web").await;
    let mut lines = watch(&client, "labelSelector=app%3Dweb").await;
    assert_eq!(lines.next().await.expect("what there is").0, "ADDED");
    client.merge(&format!("{MAPS}/a"), &json!({"metadata": {"labels": {"x": "y"}}})).await.ok();
    assert_eq!(lines.next().await.expect("a change").0, "MODIFIED");
    let moved =
        client.merge(&format!("{MAPS}/a"), &json!({"metadata": {"labels": {"app": "db"}}})).await.ok();
    let (type_, left) = lines.next().await.expect("it left");
    assert_eq!((type_.as_str(), &left["metadata"]["labels"]["app"]), ("DELETED", &json!("web")));
    // With the revision of the change, so that a client can go on from there.
    assert_eq!(left["metadata"]["resourceVersion"], moved["metadata"]["resourceVersion"]);
    client.merge(&format!("{MAPS}/a"), &json!({"metadata": {"labels": {"app": "web"}}})).await.ok();
    assert_eq!(lines.next().await.expect("it came back").0, "ADDED");
    client.delete(&format!("{MAPS}/a"), &json!({})).await.ok();
    assert_eq!(lines.next().await.expect("it went").0, "DELETED");
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let client = Client::start().await;
    make(&client, "a", "web").await;
    let list = client.get(MAPS).await.ok();
    make(&client, "b", "web").await;
    let revision = list["metadata"]["resourceVersion"].as_str().expect("a revision").to_string();
    let mut lines = watch(&client, &format!("resourceVersion={revision}")).await;
    let (type_, one) = lines.next().await.expect("what came after");
    assert_eq!((type_.as_str(), &one["metadata"]["name"]), ("ADDED", &json!("b")));
}

#[tokio::test]
async fn a_watch_from_the_last_revision_that_can_be_has_nothing_to_tell() {
    let client = Client::start().await;
    make(&client, "a", "web").await;
    let mut lines = watch(&client, "resourceVersion=9223372036854775807&timeoutSeconds=1").await;
    assert!(lines.next().await.is_none());
    client.get(MAPS).await.ok();
}

#[tokio::test]
async fn a_streaming_list_ends_with_a_mark() {
    let client = Client::start().await;
    make(&client, "a", "web").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = watch(&client, query).await;
    let mut names = Vec::new();
    let mark = loop {
        let (type_, object) = lines.next().await.expect("a line");
        if type_ == "BOOKMARK" {
            break object;
        }
        names.push(object["metadata"]["name"].as_str().unwrap_or_default().to_string());
    };
    assert!(names.contains(&"a".to_string()));
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    make(&client, "b", "web").await;
    assert_eq!(lines.next().await.expect("later").1["metadata"]["name"], "b");
}

#[tokio::test]
async fn a_thousand_watches_all_hear_of_a_change() {
    let client = Client::start().await;
    let mut all = Vec::new();
    for _ in 0..4 {
        let mut sender = connect(&client.server).await;
        for _ in 0..250 {
            let request =
                http::Request::get(format!("http://server{MAPS}?watch=true&labelSelector=app%3Dweb"));
            let request = request.body(Full::new(Bytes::new())).expect("a request");
            sender.ready().await.expect("a connection");
            all.push(Lines::of(sender.send_request(request).await.expect("an answer")));
        }
    }
    make(&client, "a", "web").await;
    for lines in &mut all {
        assert_eq!(lines.next().await.expect("a line").1["metadata"]["name"], "a");
    }
}

#[tokio::test]
async fn one_that_does_not_read_stops_nobody() {
    let client = Client::start().await;
    let slow = watch(&client, "resourceVersion=0").await;
    let mut quick = watch(&client, "labelSelector=app%3Dlast").await;
    let filling = "x".repeat(100_000);
    for index in 0..60 {
        let map = json!({"metadata": {"name": format!("m{index}")}, "data": {"a": filling}});
        client.post(MAPS, &map).await.ok();
    }
    make(&client, "last", "last").await;
    assert_eq!(quick.next().await.expect("a line").1["metadata"]["name"], "last");
    // The slow one has lost nothing when it reads at last.
    let mut slow = slow;
    let mut seen: Vec<Value> = Vec::new();
    while seen.last().is_none_or(|name| name != "last") {
        seen.push(slow.next().await.expect("a line").1["metadata"]["name"].clone());
    }
    assert!(seen.len() >= 61, "{}", seen.len());
}

#[tokio::test]
async fn a_browser_watches_over_a_web_socket() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let client = Client::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    client.post(maps, &json!({"metadata": {"name": "seen"}})).await.ok();
    let mut socket = tokio::net::TcpStream::connect(client.server.address).await.expect("it listens");
    let request = format!(
        "GET {maps}?watch=true HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.expect("it reads");
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("\"seen\"") {
        let mut piece = [0u8; 4096];
        let length = socket.read(&mut piece).await.expect("it answers");
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&piece[..length]);
    }
    let text = String::from_utf8_lossy(&said).to_lowercase();
    assert!(text.starts_with("http/1.1 101 "), "{text}");
    assert!(text.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{text}");
    let body = said.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    // A text message of more than 125 bytes.
    assert_eq!(said[body..body + 2], [0x81, 126]);
}
