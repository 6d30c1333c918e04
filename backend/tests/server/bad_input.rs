//! What bad input gets: the right status, JSON, and words that say what to do.

use crate::harness::TestServer;
use hyper::{Method, Request};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_json_with_a_code() {
    let t = TestServer::start(&["--session-nodes", "3"]).await;
    let json_post = || Request::post("/api/v1/sessions").header("content-type", "application/json");
    let large = format!(r#"{{"playground":"{}"}}"#, "x".repeat(70_000));
    let cases: Vec<(Request<String>, u16, &str)> = vec![
        (Request::get("/api/v1/nothing").body(String::new()).unwrap(), 404, "no_such_path"),
        (Request::get("/api/v2/sessions").body(String::new()).unwrap(), 404, "no_such_path"),
        (Request::put("/api/v1/sessions").body(String::new()).unwrap(), 405, "wrong_method"),
        (Request::post("/api/v1/sessions").body("{}".into()).unwrap(), 415, "not_json"),
        (json_post().body("{".into()).unwrap(), 400, "bad_body"),
        (json_post().body("{}".into()).unwrap(), 400, "bad_body"),
        (json_post().body(r#"{"playground":"linux","surprise":1}"#.into()).unwrap(), 400, "bad_body"),
        (json_post().body(r#"{"playground":"linux","nodes":300}"#.into()).unwrap(), 400, "bad_body"),
        (json_post().body(r#"["linux",1,60]"#.into()).unwrap(), 400, "bad_body"),
        (json_post().body(large).unwrap(), 413, "too_large"),
        (json_post().body(r#"{"playground":"windows"}"#.into()).unwrap(), 400, "unknown_playground"),
        (json_post().body(r#"{"playground":"linux","nodes":0}"#.into()).unwrap(), 400, "bad_nodes"),
        (json_post().body(r#"{"playground":"linux","nodes":4}"#.into()).unwrap(), 400, "bad_nodes"),
        (json_post().body(r#"{"playground":"linux","ttl_seconds":0}"#.into()).unwrap(), 400, "bad_ttl"),
        (
            json_post().body(r#"{"playground":"linux","ttl_seconds":999999999}"#.into()).unwrap(),
            400,
            "bad_ttl",
        ),
        (Request::get("/api/v1/queue/nonsense").body(String::new()).unwrap(), 404, "no_ticket"),
    ];
    for (request, status, code) in cases {
        let what = format!("{} {}", request.method(), request.uri());
        let (parts, body) = request.into_parts();
        let mut builder = Request::builder().method(parts.method).uri(parts.uri);
        *builder.headers_mut().unwrap() = parts.headers;
        let answer = t.send(builder, body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{what}");
        assert!(answer.json::<serde_json::Value>()["message"].as_str().unwrap().len() > 10, "{what}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{what}");
    }
    assert!(t.fake.log().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_cannot_be_probed() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let wrong = "a".repeat(32);
    let mut answers = Vec::new();
    for id in [s.id.as_str(), "zzzzzzzzzz", "not-an-id", "..%2f..%2fetc"] {
        for token in [None, Some(wrong.as_str()), Some(""), Some("\"';--")] {
            let answer = t.call(Method::GET, &format!("/sessions/{id}"), token, None).await;
            answers.push((answer.status, answer.body));
        }
    }
    assert!(answers.iter().all(|a| a == &answers[0]), "{answers:?}");
    assert_eq!(answers[0].0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_say_what_they_are() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let answer = t.get(&format!("/sessions/{}/ws?client=x", s.id), &s.token).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (426, "not_a_websocket"));
    let answer = t.get(&format!("/sessions/{}/ws", s.id), &s.token).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "bad_query"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_figures_are_told() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    assert_eq!(t.send(Request::get("/healthz"), "").await.body, "ok\n");
    let figures = t.send(Request::get("/metrics"), "").await;
    let text = String::from_utf8(figures.body.to_vec()).unwrap();
    for line in [
        "drydock_sessions_created_total 1",
        "drydock_sessions 1",
        "drydock_warden_up 1",
        "drydock_session_ready_seconds_count 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains(s.id.as_str()) && !text.contains(&s.token));
    let playgrounds = t.call(Method::GET, "/playgrounds", None, None).await.json::<serde_json::Value>();
    assert_eq!(playgrounds[0]["name"], json!("linux"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_a_policy() {
    let t = TestServer::start(&[]).await;
    let page = t.send(Request::get("/s/abcdefghij").header("accept", "text/html"), "").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("script-src 'self' 'wasm-unsafe-eval'") && policy.contains("frame-ancestors 'self'")
    );
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    let missing = t.send(Request::get("/nope.js"), "").await;
    assert_eq!(missing.status, 404);

    // What browsers heed on encrypted ways and on their own machine only, and complain of elsewhere.
    let opener = async |t: &TestServer, host: &str| {
        let page = t.send(Request::get("/").header("host", host).header("accept", "text/html"), "").await;
        page.headers.contains_key("cross-origin-opener-policy")
    };
    for (host, trusted) in
        [("localhost:80", true), ("127.0.0.1:80", true), ("[::1]:80", true), ("play.test:80", false)]
    {
        assert_eq!(opener(&t, host).await, trusted, "{host}");
    }
    let t = TestServer::start(&["--public-url", "https://play.test"]).await;
    assert!(opener(&t, "play.test").await);
}
