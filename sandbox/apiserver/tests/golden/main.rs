//! The same requests that were once sent to a real API server (k8s.io/apiextensions-apiserver 0.36, `apiserver-0.36.txt`) are sent to
//! this one; status, headers that clients read, and bodies must be the same but for times, uids and revisions.

mod client;
mod requests;

use client::{Client, Reply};
use drydock_apiserver::testing::TestServer;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the real server answered to a request.
struct Golden {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

fn transcript() -> BTreeMap<String, Golden> {
    let text = include_str!("apiserver-0.36.txt");
    let mut all = BTreeMap::new();
    for section in text.split("\n=== ").skip(1) {
        let (title, rest) = section.split_once('\n').expect("a title");
        let (head, body) = rest.split_once("\n\n").unwrap_or((rest, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
        let headers = lines.filter_map(|line| line.split_once(": "));
        let golden = Golden {
            status: status.parse().expect("a number"),
            headers: headers.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: body.to_string(),
        };
        all.insert(title.to_string(), golden);
    }
    all
}

/// What differs from run to run is made the same.
fn normal(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match (key.as_str(), &*value) {
                    ("creationTimestamp" | "deletionTimestamp" | "time", Value::String(_)) => {
                        *value = json!("TIME")
                    }
                    ("uid", Value::String(text)) if text.len() == 36 => *value = json!("UID"),
                    ("name", Value::String(text)) if text.starts_with("w-") => *value = json!("w-GENERATED"),
                    ("resourceVersion", Value::String(_)) => *value = json!("REVISION"),
                    ("continue", Value::String(text)) if !text.is_empty() => *value = json!("TOKEN"),
                    ("message", Value::String(text)) => *value = json!(normal_message(text)),
                    _ => normal(value),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| match one {
            Value::String(text) if is_age(text) => *one = json!("AGE"),
            Value::String(text) if text.starts_with("w-") => *one = json!("w-GENERATED"),
            other => normal(other),
        }),
        _ => {}
    }
}

fn is_age(text: &str) -> bool {
    text.strip_suffix('s')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Uids and revisions within texts; and the prefix of keys, which the recorded server had to itself.
fn normal_message(text: &str) -> String {
    let mut text = text.replace("/registry/apiextensions.kubernetes.io/", "/registry/");
    let is_uid = |piece: &str| piece.len() == 36 && piece.bytes().filter(|byte| *byte == b'-').count() == 4;
    let pieces: Vec<String> =
        text.split([' ', '(', ')', '.', ',']).filter(|piece| is_uid(piece)).map(String::from).collect();
    for piece in pieces {
        text = text.replace(&piece, "UID");
    }
    match text.split_once(", current: ") {
        Some((head, _)) => format!("{head}, current: REVISION"),
        None => text,
    }
}

fn compare(title: &str, golden: &Golden, reply: &Reply) -> Vec<String> {
    let mut wrong = Vec::new();
    if golden.status != reply.status {
        wrong.push(format!(
            "{title}: status {} instead of {}: {}",
            reply.status,
            golden.status,
            reply.text()
        ));
        return wrong;
    }
    for (name, value) in &golden.headers {
        let has = reply.header(name);
        if has != Some(value) {
            wrong.push(format!("{title}: header {name} is {has:?} instead of {value:?}"));
        }
    }
    let lines = |text: &str| -> Vec<Value> {
        let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let mut all: Vec<Value> = stream.filter_map(Result::ok).collect();
        all.iter_mut().for_each(normal);
        all
    };
    let (want, got) = (lines(&golden.body), lines(&reply.text()));
    if want.is_empty() && golden.body.trim() != reply.text().trim() {
        wrong.push(format!("{title}: {:?} instead of {:?}", reply.text(), golden.body));
    }
    if want != got {
        let show = |all: &[Value]| all.iter().map(|one| format!("{one:#}")).collect::<Vec<_>>().join("\n");
        wrong.push(format!("{title}:\n--- real\n{}\n--- ours\n{}", show(&want), show(&got)));
    }
    wrong
}

#[tokio::test]
async fn answers_are_those_of_a_real_server() {
    let server = TestServer::start().await;
    let client = Client::new(server.address);
    requests::define(&client).await;
    let transcript = transcript();
    let mut wrong = Vec::new();
    let mut asked = Vec::new();
    for request in requests::all() {
        let golden = transcript.get(request.title).expect(request.title);
        let reply = client.send(&request).await;
        wrong.extend(compare(request.title, golden, &reply));
        asked.push(request.title);
    }
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n\n"));
    let left: Vec<_> = transcript.keys().filter(|title| !asked.contains(&title.as_str())).collect();
    // One is about compaction (see below), the other was asked of a server without aggregated discovery.
    assert_eq!(left, ["agg discovery", "watch rv=1"]);
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_told_so() {
    let server = TestServer::start().await;
    let client = Client::new(server.address);
    requests::define(&client).await;
    let revision = server.server.store.revision();
    server.server.store.compact(revision).await.expect("it is there");
    let request = requests::Request::get("watch rv=1", "?watch=true&resourceVersion=1&timeoutSeconds=1");
    let reply = client.send(&request).await;
    let line: Value = serde_json::from_str(reply.text().trim()).expect("a line");
    assert_eq!(reply.status, 200);
    assert_eq!(line["type"], "ERROR");
    assert_eq!((&line["object"]["code"], &line["object"]["reason"]), (&json!(410), &json!("Expired")));
    let words = line["object"]["message"].as_str().unwrap_or_default();
    assert!(words.starts_with("too old resource version: 1 ("), "{words}");
}
