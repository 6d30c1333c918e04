//! Pages' WebSockets: what is carried, what is told, and when they close.

use crate::harness::{TestServer, close_code, eventually, next, text};
use futures_util::SinkExt;
use hyper::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_carried_both_ways() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let mut page = t.page(&s, &s.token).await;
    let hello = text(&mut page).await;
    assert_eq!((hello["type"].as_str(), hello["role"].as_str()), (Some("hello"), Some("own")));
    let life = text(&mut page).await;
    assert_eq!(life["type"], "life");
    assert!(life["seconds_left"].as_u64().unwrap() > 7000);

    page.send(Message::text(r#"{"type":"ping","t":4.5}"#)).await.unwrap();
    assert_eq!(text(&mut page).await, json!({ "type": "pong", "t": 4.5 }));
    for size in [1usize, 1000, 900_000] {
        page.send(Message::binary(vec![7; size])).await.unwrap();
        assert_eq!(next(&mut page).await.into_data().len(), size);
    }
    t.call(
        Method::POST,
        &format!("/sessions/{}/extend", s.id),
        Some(&s.token),
        Some(json!({"seconds": 100})),
    )
    .await;
    let more = text(&mut page).await;
    assert!(more["seconds_left"].as_u64() > life["seconds_left"].as_u64(), "{more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_process_is_told_the_role() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let (number, token) = t.link(&s, "view").await;
    let mut page = t.page(&s, &token).await;
    assert_eq!(text(&mut page).await["role"], "view");
    assert!(t.fake.log().contains(&format!("viewer View {number}-test")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_link_closes_its_pages_at_once_and_no_others() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let (number, token) = t.link(&s, "type").await;
    let mut theirs = t.page(&s, &token).await;
    let mut ours = t.page(&s, &s.token).await;
    text(&mut theirs).await;
    text(&mut ours).await;
    let path = format!("/sessions/{}/links/{number}", s.id);
    assert_eq!(t.call(Method::DELETE, &path, Some(&s.token), None).await.status, 204);
    assert_eq!(close_code(&mut theirs).await, 4401);
    text(&mut ours).await;
    ours.send(Message::text(r#"{"type":"ping","t":1.0}"#)).await.unwrap();
    assert_eq!(text(&mut ours).await["type"], "pong");
    // Coming back is refused in the way that a page can see.
    assert_eq!(close_code(&mut t.page(&s, &token).await).await, 4401);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hear_why_a_session_ended() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let mut page = t.page(&s, &s.token).await;
    text(&mut page).await;
    t.call(Method::DELETE, &format!("/sessions/{}", s.id), Some(&s.token), None).await;
    assert_eq!(close_code(&mut page).await, 4404);
    assert_eq!(close_code(&mut t.page(&s, &s.token).await).await, 4404);

    let wish = json!({ "playground": "linux", "ttl_seconds": 1 });
    let short = t.call(Method::POST, "/sessions", None, Some(wish)).await.json();
    assert_eq!(close_code(&mut t.page(&short, &short.token).await).await, 4408);

    let s = t.create().await;
    let mut page = t.page(&s, &s.token).await;
    text(&mut page).await;
    t.fake.kill(&s.id, "killed by signal 9");
    assert_eq!(close_code(&mut page).await, 4404);
    let message = t.get(&format!("/sessions/{}", s.id), &s.token).await.json::<serde_json::Value>();
    assert_eq!(message["ended_because"], "It ended: killed by signal 9.");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_pages_cannot_open_a_socket() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let path = format!("/sessions/{}/ws?client=x", s.id);
    let cookie = format!("drydock={}", s.token);
    for origin in [Some("http://evil.example"), Some("null"), None] {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(origin.map(|o| ("origin", o)));
        match t.socket(&path, &headers).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 403),
            other => panic!("{origin:?}: {other:?}"),
        }
    }
    let own = format!("http://{}", t.address);
    assert!(t.socket(&path, &[("cookie", &cookie), ("origin", &own)]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_so_many_connections_and_no_more() {
    let t = TestServer::start(&["--connections-per-session", "1"]).await;
    let s = t.create().await;
    let mut first = t.page(&s, &s.token).await;
    text(&mut first).await;
    assert_eq!(close_code(&mut t.page(&s, &s.token).await).await, 4429);
    first.close(None).await.unwrap();
    let left = || t.server.as_ref().unwrap().app.sessions.connections() == 0;
    eventually("the place is free", left).await;
    assert_eq!(text(&mut t.page(&s, &s.token).await).await["type"], "hello");
}

/// An address has a quarter of all connections, and what was upgraded is one as well.
#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_count_as_connections_of_their_address() {
    let t = TestServer::start(&["--max-connections", "8"]).await;
    let s = t.create().await;
    let bearer = format!("Bearer {}", s.token);
    let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", "drydock.v1")];
    let path = format!("/sessions/{}/ws?client=test", s.id);
    let sessions = t.server.as_ref().unwrap().app.sessions.clone();
    let mut pages = Vec::new();
    while let Ok(mut page) = t.socket(&path, &headers).await {
        text(&mut page).await;
        pages.push(page);
        assert!(pages.len() <= 2, "the address has more than its share");
    }
    assert!(!pages.is_empty());
    pages.clear();
    eventually("they are closed", || sessions.connections() == 0).await;
    // Their places are free again: some moment after, as the count above is of sessions.
    let mut again = t.socket(&path, &headers).await;
    while again.is_err() {
        tokio::task::yield_now().await;
        again = t.socket(&path, &headers).await;
    }
    assert_eq!(text(&mut again.unwrap()).await["type"], "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_process_that_talks_nonsense_is_cut_off() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let mut page = t.page(&s, &s.token).await;
    // (The test's session answers "close" with a frame of an unknown kind.)
    page.send(Message::text(r#"{"type":"close","terminal":1}"#)).await.unwrap();
    assert_eq!(close_code(&mut page).await, 4404);
    assert_eq!(t.get(&format!("/sessions/{}", s.id), &s.token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_ends_the_connection_only() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let mut page = t.page(&s, &s.token).await;
    text(&mut page).await;
    // The server may hang up before all is sent.
    drop(page.send(Message::binary(vec![0; 2 << 20])).await);
    assert_eq!(text(&mut t.page(&s, &s.token).await).await["type"], "hello");
}

/// Another site's page that sets cookies for the whole domain, or the holder of a lesser link.
#[tokio::test(flavor = "multi_thread")]
async fn bad_cookies_beside_ours_are_in_nobodys_way() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let (_, view) = t.link(&s, "view").await;
    let origin = format!("http://{}", t.address);
    let cookies = format!("drydock=evil; drydock={view}; drydock={}; drydock=evil", s.token);
    let headers =
        [("origin", origin.as_str()), ("cookie", &cookies), ("sec-websocket-protocol", "drydock.v1")];
    let mut page = t.socket(&format!("/sessions/{}/ws?client=x", s.id), &headers).await.unwrap();
    assert_eq!(text(&mut page).await["role"], "own");
    // A link opens its session whatever cookies there are.
    let request = hyper::Request::builder()
        .method("POST")
        .uri(format!("/api/v1/sessions/{}/enter", s.id))
        .header("authorization", format!("Bearer {}", s.token))
        .header("cookie", "drydock=evil");
    let entered = t.send(request, "").await;
    assert!(entered.status == 204 && entered.headers.contains_key("set-cookie"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_with_a_link_can_lock_the_owner_out() {
    let t = TestServer::start(&["--connections-per-session", "8"]).await;
    let s = t.create().await;
    let (number, view) = t.link(&s, "view").await;
    let mut pages = Vec::new();
    for _ in 0..2 {
        let mut page = t.page(&s, &view).await;
        assert_eq!(text(&mut page).await["type"], "hello");
        pages.push(page);
    }
    assert_eq!(close_code(&mut t.page(&s, &view).await).await, 4429, "a quarter is theirs");
    for _ in 0..6 {
        let mut page = t.page(&s, &s.token).await;
        assert_eq!(text(&mut page).await["type"], "hello");
        pages.push(page);
    }
    assert_eq!(close_code(&mut t.page(&s, &s.token).await).await, 4429);
    // What mends it takes no place.
    assert_eq!(t.get(&format!("/sessions/{}/links", s.id), &s.token).await.status, 200);
    let link = format!("/sessions/{}/links/{number}", s.id);
    assert_eq!(t.call(hyper::Method::DELETE, &link, Some(&s.token), None).await.status, 204);
    assert_eq!(close_code(&mut pages[0]).await, 4401);
    let session = format!("/sessions/{}", s.id);
    assert_eq!(t.call(hyper::Method::DELETE, &session, Some(&s.token), None).await.status, 204);
}
