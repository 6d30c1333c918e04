//! What hostile or careless clients get; afterwards the server must be as well as before.

use crate::client::Client;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn huge_and_deep_bodies_are_refused() {
    let client = Client::start().await;
    let huge = format!("{{\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(3 * 1024 * 1024));
    let words = client.send("POST", MAPS, "application/json", huge).await.refused(413);
    assert_eq!(words, "Request entity too large: limit is 3145728");
    let large = json!({"metadata": {"name": "large"}, "data": {"a": "x".repeat(1_600_000)}});
    let refused = client.post(MAPS, &large).await;
    assert!(refused.code >= 400, "{}", refused.code);
    let deep = "[".repeat(100_000);
    assert_eq!(client.send("POST", MAPS, "application/json", deep).await.code, 400);
    let deep = format!(
        "{{\"metadata\":{{\"name\":\"x\"}},\"data\":{}1{}}}",
        "{\"a\":".repeat(5000),
        "}".repeat(5000)
    );
    assert_eq!(client.send("POST", MAPS, "application/json", deep).await.code, 400);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    assert_eq!(client.send("POST", MAPS, "application/yaml", bomb).await.code, 400);
    let garbage = b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01garbage".to_vec();
    assert_eq!(client.send("POST", MAPS, "application/vnd.kubernetes.protobuf", garbage).await.code, 400);
    client.post(MAPS, &json!({"metadata": {"name": "fine"}})).await.ok();
}

#[tokio::test]
async fn names_cannot_leave_their_place() {
    let client = Client::start().await;
    for name in ["..", "a%2Fb", "%2e%2e", "a%00b"] {
        let code = client.get(&format!("{MAPS}/{name}")).await.code;
        assert!(code == 404 || code == 400, "{name}: {code}");
    }
    let refused = client.post(MAPS, &json!({"metadata": {"name": "a/b"}})).await;
    assert_eq!(refused.code, 422);
    let token = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIvLi4vLi4vc2VjcmV0cy8ifQ";
    assert_eq!(client.get(&format!("{MAPS}?continue={token}")).await.code, 400);
}

#[tokio::test]
async fn what_is_no_http_is_cut_off() {
    let client = Client::start().await;
    for bytes in [&b"\x16\x03\x01\x00\x00"[..], b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0\0\0\0\0\r\n\r\n"] {
        let mut stream = TcpStream::connect(client.server.address).await.expect("it listens");
        stream.write_all(bytes).await.expect("it reads");
        let mut answer = Vec::new();
        // It answers 400 or hangs up; either way it ends.
        let _end = stream.read_to_end(&mut answer).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    client.get("/version").await.ok();
}

#[tokio::test]
async fn nonsense_in_the_store_hides_nothing_else() {
    let client = Client::start().await;
    client.post(MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let store = &client.server.server.store;
    for (name, value) in [("x", "no JSON"), ("y", "[]"), ("z", "{\"metadata\":{\"name\":\"z\"}}")] {
        let key = format!("/registry/configmaps/default/{name}");
        store.create(key.into(), value.into(), 0).await.expect("the store takes anything");
    }
    let list = client.get(MAPS).await.ok();
    let names: Vec<_> =
        list["items"].as_array().into_iter().flatten().map(|one| &one["metadata"]["name"]).collect();
    assert!(names.contains(&&json!("a")), "{names:?}");
    assert_eq!(client.get(&format!("{MAPS}/x")).await.code, 500);
}
