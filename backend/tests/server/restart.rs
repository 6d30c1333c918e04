//! What goes on and what is cleaned up when the server or the warden restarts.

use crate::harness::{TestServer, close_code, eventually, text};
use drydock_protocol::api::{Created, Session, Status};
use hyper::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_the_server() {
    let mut t = TestServer::start(&[]).await;
    let (stays, dies) = (t.create().await, t.create().await);
    let mut page = t.page(&stays, &stays.token).await;
    text(&mut page).await;
    let server = t.server.take().unwrap();
    let ((), code) = tokio::join!(server.finish(), close_code(&mut page));
    assert_eq!(code, 1012);
    assert!(!t.dir.path().join("web/api.sock").exists());

    // Meanwhile one session dies.
    t.fake.kill(&dies.id, "whatever");
    t.restart(&[]).await;
    let shown: Session = t.get(&format!("/sessions/{}", stays.id), &stays.token).await.json();
    assert_eq!(shown.status, Status::Running);
    assert_eq!(text(&mut t.page(&stays, &stays.token).await).await["type"], "hello");
    let answer = t.get(&format!("/sessions/{}", dies.id), &dies.token).await;
    assert_eq!(answer.status, 410);
    assert_eq!(
        answer.json::<Session>().ended_because.as_deref(),
        Some("It ended while the server was away.")
    );
}

/// What a session has in the registry, of which half is written as the registry writes it: nodes of these tests push nothing.
async fn fill_registry(t: &TestServer, session: &Created) {
    let wish = json!({ "logins": "list", "accounts": [{ "name": "ann", "password": "secret" }] });
    let path = format!("/sessions/{}/registry", session.id);
    assert_eq!(t.operator(Method::PUT, &path, Some(wish)).await.status, 200);
    let repository = t.dir.path().join(format!("web/registry/repositories/{}/app/_layers", session.id));
    std::fs::create_dir_all(repository).unwrap();
    assert!(has_in_registry(t, session));
}

fn has_in_registry(t: &TestServer, session: &Created) -> bool {
    let has = |what: &str| t.dir.path().join("web").join(what).join(session.id.as_str()).exists();
    has("registry/repositories") || has("registry-accounts")
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_accounts_go_with_their_session() {
    let mut t = TestServer::start(&[]).await;
    let (stays, ends, dies) = (t.create().await, t.create().await, t.create().await);
    for session in [&stays, &ends, &dies] {
        fill_registry(&t, session).await;
    }
    t.call(Method::DELETE, &format!("/sessions/{}", ends.id), Some(&ends.token), None).await;
    eventually("nothing is left", || !has_in_registry(&t, &ends)).await;
    // Also of one that dies while no server is there.
    t.server.take().unwrap().finish().await;
    t.fake.kill(&dies.id, "whatever");
    t.restart(&[]).await;
    eventually("nothing is left", || !has_in_registry(&t, &dies)).await;
    assert!(has_in_registry(&t, &stays));
    // After `stop` the program ends at once.
    t.operator(Method::POST, "/operator/stop", None).await;
    assert!(!has_in_registry(&t, &stays));
}

/// A server that is started anew each hour cleans up as well.
#[tokio::test(flavor = "multi_thread")]
async fn content_that_no_image_needs_goes_at_the_next_start() {
    let mut t = TestServer::start(&[]).await;
    let digest = "b".repeat(64);
    let blob = t.dir.path().join("web/registry/blobs/sha256/bb").join(&digest);
    std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
    let file = std::fs::File::create(&blob).unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    file.set_modified(long_ago).unwrap();
    t.restart(&[]).await;
    eventually("it is gone", || !blob.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_knows_is_destroyed() {
    let mut t = TestServer::start(&[]).await;
    let s = t.create().await;
    t.server.take().unwrap().finish().await;
    std::fs::remove_file(t.dir.path().join("web/drydock.db")).unwrap();
    t.restart(&[]).await;
    assert!(t.fake.state.lock().unwrap().sessions.is_empty());
    assert_eq!(t.get(&format!("/sessions/{}", s.id), &s.token).await.code(), "no_right");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_warden_is_found_again() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    t.fake.hang_up();
    let sessions = t.server.as_ref().unwrap().app.sessions.clone();
    eventually("connected again", || sessions.is_healthy()).await;
    eventually("sessions can be made", || t.fake.log().len() == 1).await;
    assert_eq!(t.get(&format!("/sessions/{}", s.id), &s.token).await.status, 200);
    t.create().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_server_uses_a_state_directory() {
    let t = TestServer::start(&[]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let config = t.server.as_ref().unwrap().app.sessions.config.clone();
    let error = drydock_backend::serve::Server::start(config, t.dir.path(), listener).await.unwrap_err();
    assert!(error.to_string().contains("another drydock serve uses"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_everything() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    assert_eq!(t.call(Method::POST, "/operator/stop", Some(&s.token), None).await.code(), "operator_only");
    let answer = t.operator(Method::POST, "/operator/stop", None).await;
    assert_eq!(answer.json::<serde_json::Value>()["ended"], 1);
    assert!(t.fake.state.lock().unwrap().sessions.is_empty());
    assert!(t.fake.log().contains(&"exit".into()));
    assert!(*t.server.as_ref().unwrap().app.stop.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_a_session_without_a_warden_is_told_that_it_is_removed_later() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    std::fs::remove_file(t.dir.path().join("run/warden.sock")).unwrap();
    t.fake.hang_up();
    let sessions = t.server.as_ref().unwrap().app.sessions.clone();
    eventually("it is away", || !sessions.is_healthy()).await;
    let path = format!("/sessions/{}", s.id);
    let ended = t.call(Method::DELETE, &path, Some(&s.token), None).await;
    assert_eq!((ended.status.as_u16(), ended.code().as_str()), (503, "removed_later"));
    assert_eq!(t.get(&path, &s.token).await.status, 410);
    assert!(t.fake.state.lock().unwrap().sessions.contains_key(&s.id));
}
