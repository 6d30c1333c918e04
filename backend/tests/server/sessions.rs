//! Making, showing, extending, ending, sleeping, waiting.

use crate::harness::{TestServer, eventually};
use drydock_protocol::api::{Created, Host, NodeAddress, Queued, Session, SessionLine, Status};
use hyper::{Method, Request};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_start_to_end() {
    let t = TestServer::start(&[]).await;
    let wish = json!({ "playground": "linux", "nodes": 3, "ttl_seconds": 600 });
    let answer = t.call(Method::POST, "/sessions", None, Some(wish)).await;
    assert_eq!(answer.status, 201);
    let created: Created = answer.json();
    assert_eq!(created.url, format!("http://{}/s/{}#t={}", t.address, created.id, created.token));
    let addresses: Vec<&str> = created.nodes.iter().map(|n| n.address.as_str()).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert!(created.ready_ms > 0.0);

    // The maker's browser is in by its cookie.
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.contains(&format!("Path=/api/v1/sessions/{}; HttpOnly; SameSite=Lax", created.id)),
        "{cookie}"
    );
    assert!(!cookie.contains("Secure"));
    let cookie = cookie.split(';').next().unwrap();
    let path = format!("/api/v1/sessions/{}", created.id);
    let answer = t.send(Request::get(&path).header("cookie", cookie), "").await;
    let shown: Session = answer.json();
    assert_eq!((shown.status, shown.state.unwrap().nodes.len()), (Status::Running, 3));
    let names: Vec<&str> = shown.trace.iter().map(|s| s.name.as_str()).collect();
    assert!(names.contains(&"warden: clone namespaces") && names.contains(&"session: shell"), "{names:?}");

    // Another site's page cannot use that cookie, ours can.
    let extend = || {
        Request::post(format!("{path}/extend"))
            .header("cookie", cookie)
            .header("content-type", "application/json")
    };
    let answer = t.send(extend().header("origin", "http://evil.example"), r#"{"seconds":60}"#).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "foreign_origin"));
    let answer = t.send(extend(), r#"{"seconds":60}"#).await;
    assert_eq!(answer.code(), "foreign_origin");
    // Nor does one that has given its own name our address.
    let rebound = extend().header("host", "evil.example").header("origin", "http://evil.example");
    let answer = t.send(rebound, r#"{"seconds":60}"#).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (421, "unknown_host"));
    let answer =
        t.send(extend().header("origin", format!("http://{}", t.address)), r#"{"seconds":60}"#).await;
    let extended: Session = answer.json();
    assert_eq!(extended.expires_at, created.expires_at + 60);
    assert_eq!(extended.can_extend, 8 * 3600 - 660);
    let answer = t
        .call(
            Method::POST,
            &format!("/sessions/{}/extend", created.id),
            Some(&created.token),
            Some(json!({"seconds": 99_999})),
        )
        .await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (409, "cannot_extend"));

    let lines: Vec<SessionLine> = t.operator(Method::GET, "/sessions", None).await.json();
    assert_eq!((lines.len(), lines[0].nodes), (1, 3));

    let path = format!("/sessions/{}", created.id);
    assert_eq!(t.call(Method::DELETE, &path, Some(&created.token), None).await.status, 204);
    assert!(t.fake.state.lock().unwrap().sessions.is_empty());
    let answer = t.get(&path, &created.token).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (410, "session_ended"));
    let ended: Session = answer.json();
    assert_eq!(ended.ended_because.as_deref(), Some("Its owner ended it."));
    assert!(ended.trace.iter().any(|s| s.name == "warden, end: kill"));
    let wrong = "a".repeat(32);
    assert_eq!(t.get(&path, &wrong).await.code(), "no_right");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_and_go() {
    let t = TestServer::start(&["--session-nodes", "2"]).await;
    let s = t.create().await;
    let nodes = format!("/sessions/{}/nodes", s.id);
    let answer = t.call(Method::POST, &nodes, Some(&s.token), None).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json::<NodeAddress>().address, "10.0.0.2");
    let answer = t.call(Method::POST, &nodes, Some(&s.token), None).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (409, "node_limit"));
    assert_eq!(t.call(Method::DELETE, &format!("{nodes}/node1"), Some(&s.token), None).await.status, 204);
    assert!(t.fake.log().contains(&"forget node1".into()));
    assert_eq!(t.call(Method::DELETE, &format!("{nodes}/node1"), Some(&s.token), None).await.status, 404);
    // The lowest free number is taken.
    assert_eq!(
        t.call(Method::POST, &nodes, Some(&s.token), None).await.json::<NodeAddress>().address,
        "10.0.0.1"
    );
    let power = format!("{nodes}/node2/power");
    assert_eq!(t.call(Method::POST, &power, Some(&s.token), Some(json!({"on": false}))).await.status, 204);
    let lines: Vec<SessionLine> = t.operator(Method::GET, "/sessions", None).await.json();
    assert_eq!(lines[0].nodes, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_host_has_a_queue() {
    let t = TestServer::start(&["--max-sessions", "1", "--queue-length", "1"]).await;
    let first = t.create().await;
    let wish = json!({ "playground": "linux" });
    let answer = t.call(Method::POST, "/sessions", None, Some(wish.clone())).await;
    assert_eq!(answer.status, 202);
    let queued: Queued = answer.json();
    assert_eq!(queued.place, 1);
    assert!((7000..=7200).contains(&queued.estimate_seconds), "{}", queued.estimate_seconds);
    let answer = t.call(Method::POST, "/sessions", None, Some(wish)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "host_full"));
    let host: Host = t.call(Method::GET, "/host", None, None).await.json();
    assert_eq!((host.running, host.capacity, host.queued), (1, 1, 1));

    let ask = format!("/queue/{}", queued.ticket);
    assert_eq!(t.call(Method::GET, &ask, None, None).await.status, 202);
    t.call(Method::DELETE, &format!("/sessions/{}", first.id), Some(&first.token), None).await;
    let answer = t.call(Method::GET, &ask, None, None).await;
    assert_eq!(answer.status, 201);
    let second: Created = answer.json();
    assert_eq!(t.get(&format!("/sessions/{}", second.id), &second.token).await.status, 200);
    assert_eq!(t.call(Method::GET, &ask, None, None).await.code(), "no_ticket");

    // Who leaves makes room for others.
    let wish = || Some(json!({ "playground": "linux" }));
    let left: Queued = t.call(Method::POST, "/sessions", None, wish()).await.json();
    let leave = format!("/queue/{}", left.ticket);
    assert_eq!(t.call(Method::DELETE, &leave, None, None).await.status, 204);
    assert_eq!(t.call(Method::DELETE, &leave, None, None).await.code(), "no_ticket");
    assert_eq!(t.call(Method::POST, "/sessions", None, wish()).await.status, 202);
}

/// Newcomers who left without a word hold the line up for others, not for the operator.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_waits_behind_nobody() {
    let t = TestServer::start(&["--max-sessions", "2", "--queue-length", "1"]).await;
    let wish = || Some(json!({ "playground": "linux" }));
    let join = || t.call(Method::POST, "/sessions", None, wish());
    let (first, second) = (t.create().await, t.create().await);
    assert_eq!(join().await.status, 202);
    assert_eq!(join().await.code(), "host_full");
    let queued = t.operator(Method::POST, "/sessions", wish()).await;
    assert_eq!(queued.status, 202);
    // The place that is left is the first one's, who has to wait for it no more.
    t.call(Method::DELETE, &format!("/sessions/{}", first.id), Some(&first.token), None).await;
    let asked = t.call(Method::GET, &format!("/queue/{}", queued.json::<Queued>().ticket), None, None).await;
    assert_eq!((asked.status.as_u16(), asked.json::<Queued>().place), (202, 2));
    assert!(asked.json::<Queued>().estimate_seconds <= second.expires_at - first.expires_at + 7200);
    assert_eq!(join().await.code(), "host_full");
    assert_eq!(t.operator(Method::POST, "/sessions", wish()).await.status, 201);
}

/// Unmounts at the end of a test.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(std::process::Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_disk_is_full_makes_no_sessions_and_says_so() {
    let t = TestServer::start(&[]).await;
    let session = t.create().await;
    let health = || t.send(hyper::Request::get("/healthz"), "");
    assert_eq!(health().await.status, 200);
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "small"])
        .arg(t.dir.path())
        .status();
    assert!(mount.unwrap().success());
    let small = Mounted(t.dir.path().to_owned());
    let wish = Some(json!({ "playground": "linux" }));
    let refused = t.call(Method::POST, "/sessions", None, wish).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "disk_full"));
    let ill = health().await;
    assert_eq!((ill.status.as_u16(), ill.code().as_str()), (503, "disk_full"));
    let figures = t.send(hyper::Request::get("/metrics"), "").await;
    let figures = String::from_utf8(figures.body.to_vec()).unwrap();
    assert!(figures.contains("drydock_disk_free_bytes 10"), "{figures}");
    drop(small);
    assert_eq!(health().await.status, 200);
    t.call(Method::DELETE, &format!("/sessions/{}", session.id), Some(&session.token), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_sessions_and_no_more() {
    let t = TestServer::start(&["--sessions-per-client", "1"]).await;
    t.create().await;
    let answer = t.call(Method::POST, "/sessions", None, Some(json!({ "playground": "linux" }))).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "too_many_sessions"));
    // The operator is not held to it.
    let answer = t.operator(Method::POST, "/sessions", Some(json!({ "playground": "linux" }))).await;
    assert_eq!(answer.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_session_that_cannot_be_made() {
    let t = TestServer::start(&[]).await;
    let wish = || Some(json!({ "playground": "linux" }));
    t.fake.state.lock().unwrap().fail_create = true;
    let answer = t.call(Method::POST, "/sessions", None, wish()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "host_full"));
    // What is full is the operator's business.
    assert!(answer.json::<serde_json::Value>()["message"].as_str().unwrap().contains("no room left"));
    t.fake.state.lock().unwrap().fail_create = false;
    t.fake.state.lock().unwrap().never_ready = true;
    let answer = t.call(Method::POST, "/sessions", None, wish()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "session_failed"));
    assert!(t.fake.state.lock().unwrap().sessions.is_empty());
    let lines: Vec<SessionLine> = t.operator(Method::GET, "/sessions", None).await.json();
    assert!(lines.is_empty());
}

/// A removal that was cut off between the session's process and the warden.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_half_removed_is_in_nobodys_way() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let nodes = format!("/sessions/{}/nodes", s.id);
    let add = || t.call(Method::POST, &nodes, Some(&s.token), None);
    let half_remove = || t.fake.state.lock().unwrap().sessions.get_mut(&s.id).unwrap().nodes.truncate(1);
    assert_eq!(add().await.json::<NodeAddress>().address, "10.0.0.2");
    half_remove();
    assert_eq!(add().await.json::<NodeAddress>().address, "10.0.0.2", "it can be added again");
    half_remove();
    let node2 = format!("{nodes}/node2");
    let remove = || t.call(Method::DELETE, &node2, Some(&s.token), None);
    assert_eq!(remove().await.status, 204, "and its removal can be finished");
    assert_eq!(t.fake.state.lock().unwrap().sessions[&s.id].disks.len(), 1);
    assert_eq!(remove().await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_is_not_written_does_not_hold() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let ends = || t.server.as_ref().unwrap().app.sessions.list()[0].expires_at;
    let path = format!("/sessions/{}/extend", s.id);
    let extend = || t.call(Method::POST, &path, Some(&s.token), Some(json!({ "seconds": 100 })));
    let before = ends();
    t.sql("CREATE TRIGGER no BEFORE UPDATE OF expires_at ON session BEGIN SELECT raise(ABORT, 'no'); END");
    assert_eq!(extend().await.status, 500);
    assert_eq!(ends(), before);
    t.sql("DROP TRIGGER no");
    assert_eq!(extend().await.status, 200);
    assert_eq!(ends(), before + 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_session_sleeps_and_its_visitor_wakes_it() {
    let t = TestServer::start(&["--sleep-after", "1s"]).await;
    t.fake.state.lock().unwrap().idle_micros = 3_600_000_000;
    let s = t.create().await;
    eventually("it sleeps", || t.fake.log().contains(&"freeze true".into())).await;
    let path = format!("/sessions/{}", s.id);
    // Looking at its description does not wake it.
    eventually("noted", || t.server.as_ref().unwrap().app.sessions.list()[0].status == Status::Asleep).await;
    assert_eq!(t.get(&path, &s.token).await.json::<Session>().status, Status::Asleep);
    let _page = t.page(&s, &s.token).await;
    eventually("it wakes", || t.fake.log().contains(&"freeze false".into())).await;
    assert_eq!(t.get(&path, &s.token).await.json::<Session>().status, Status::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_session_ends_if_the_operator_wants_that() {
    let t = TestServer::start(&["--sleep-after", "0", "--end-idle-after", "1s"]).await;
    t.fake.state.lock().unwrap().idle_micros = 3_600_000_000;
    let s = t.create().await;
    eventually("it ends", || t.fake.state.lock().unwrap().sessions.is_empty()).await;
    eventually("noted", || t.server.as_ref().unwrap().app.sessions.running() == 0).await;
    let ended: Session = t.get(&format!("/sessions/{}", s.id), &s.token).await.json();
    assert!(ended.ended_because.unwrap().starts_with("Nobody used it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_have_qr_codes_and_an_expiry() {
    let t = TestServer::start(&["--public-url", "https://play.example.org"]).await;
    let s = t.create().await;
    let path = format!("/sessions/{}/links", s.id);
    let answer = t
        .call(Method::POST, &path, Some(&s.token), Some(json!({ "role": "view", "ttl_seconds": 3600 })))
        .await;
    let link: drydock_protocol::api::Link = answer.json();
    assert!(link.url.as_deref().unwrap().starts_with("https://play.example.org/s/"));
    assert!(link.qr_svg.unwrap().starts_with("<svg"));
    let token = link.url.unwrap().split_once("#t=").unwrap().1.to_owned();
    let enter = t.call(Method::POST, &format!("/sessions/{}/enter", s.id), Some(&token), None).await;
    assert_eq!(enter.status, 204);
    assert!(enter.headers["set-cookie"].to_str().unwrap().ends_with("; Secure"));
    assert_eq!(t.get(&format!("/sessions/{}", s.id), &token).await.status, 200);
    t.sql(&format!("UPDATE link SET expires_at = expires_at - 3600 WHERE id = {}", link.id));
    assert_eq!(t.get(&format!("/sessions/{}", s.id), &token).await.code(), "no_right");
    let listed: Vec<drydock_protocol::api::Link> = t.get(&path, &s.token).await.json();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|l| l.url.is_none() && l.qr_svg.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_opens_a_link_for_others_stays_the_owner() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let (_, view) = t.link(&s, "view").await;
    let enter = |token: &str, cookie: &str| {
        let request = hyper::Request::builder()
            .method(Method::POST)
            .uri(format!("/api/v1/sessions/{}/enter", s.id))
            .header("authorization", format!("Bearer {token}"))
            .header("cookie", format!("drydock={cookie}"));
        t.send(request, "")
    };
    let kept = enter(&view, &s.token).await;
    assert_eq!(kept.status, 204);
    assert!(!kept.headers.contains_key("set-cookie"));
    // The other way round, and with a cookie that is worth nothing, the link's right is taken.
    for (token, cookie) in [(&s.token, view.as_str()), (&view, "nonsense")] {
        assert!(enter(token, cookie).await.headers.contains_key("set-cookie"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sets_who_may_log_in_at_the_registry() {
    let t = TestServer::start(&["--registry-logins", "closed"]).await;
    let session = t.create().await;
    let path = format!("/sessions/{}/registry", session.id);
    let shown = t.call(Method::GET, &path, Some(&session.token), None).await;
    assert_eq!(shown.json::<serde_json::Value>(), json!({ "logins": "closed", "accounts": [] }));
    let wish = json!({ "logins": "list", "accounts": [{ "name": "ann", "password": "secret" }] });
    let set = t.operator(Method::PUT, &path, Some(wish)).await;
    assert_eq!(set.json::<serde_json::Value>(), json!({ "logins": "list", "accounts": ["ann"] }));
    for (wish, code) in [
        (json!({ "accounts": [{ "name": "a:b", "password": "x" }] }), "bad_rules"),
        (json!({ "logins": "sometimes" }), "bad_body"),
        (json!({ "login": "open" }), "bad_body"),
    ] {
        let refused = t.operator(Method::PUT, &path, Some(wish)).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, code));
    }
    let shown = t.call(Method::GET, &path, Some(&session.token), None).await;
    assert_eq!(shown.json::<serde_json::Value>()["accounts"], json!(["ann"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_and_deletes_what_sessions_share() {
    let t = TestServer::start(&[]).await;
    let session = t.create().await;
    // As the registry writes it: nodes of these tests push nothing.
    let digest = "a".repeat(64);
    let repository = t.dir.path().join("web/registry/repositories/shared/team/tool");
    let write = |path: &str, text: String| {
        let path = repository.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        &format!("_manifests/{digest}"),
        format!("application/vnd.oci.image.manifest.v1+json\n{}", session.id),
    );
    write("_tags/1", format!("sha256:{digest}\n{}", session.id));
    let list = async || t.operator(Method::GET, "/registry/shared", None).await.json::<serde_json::Value>();
    let told =
        json!({ "image": "shared/team/tool:1", "digest": format!("sha256:{digest}"), "session": session.id });
    assert_eq!(list().await, json!([told]));
    let delete = async |image: &str| {
        let answer = t.operator(Method::DELETE, &format!("/registry/shared?image={image}"), None).await;
        answer.status.as_u16()
    };
    assert_eq!(delete("shared/team/tool:2").await, 404);
    assert_eq!(delete(&format!("{}/app:1", session.id)).await, 404, "what is a session's own is not shared");
    assert_eq!(delete("shared%2Fteam%2Ftool%3A1").await, 204);
    assert_eq!(list().await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_next_gets_the_session_that_is_kept_ready() {
    let t = TestServer::start(&[]).await;
    let ready = || t.fake.state.lock().unwrap().ready.clone();
    eventually("one is kept ready", || ready().is_some()).await;
    let first = ready().unwrap();
    assert_eq!(t.create().await.id, first);
    eventually("another is kept ready", || ready() != Some(first.clone())).await;
    // It dies: something of it may be left, so its id is not used.
    let second = ready().unwrap();
    t.fake.tell_died(&second, "a test");
    t.fake.kill(&first, "a test");
    let sessions = t.server.as_ref().unwrap().app.sessions.clone();
    eventually("both ends were heard", || sessions.running() == 0).await;
    assert_ne!(t.create().await.id, second);
    eventually("another is kept ready", || ready() != Some(second.clone())).await;
    let third = ready().unwrap();
    // Nor is it when the warden is another.
    t.fake.hang_up();
    eventually("another is kept ready", || ready() != Some(third.clone())).await;
    let fourth = ready().unwrap();
    assert_eq!(t.create().await.id, fourth);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_ready_where_there_is_no_place_or_no_wish() {
    for options in [["--keep-ready", "false"], ["--max-sessions", "1"]] {
        let t = TestServer::start(&options).await;
        t.create().await;
        let ready = t.fake.state.lock().unwrap().ready.clone();
        // With a place for one, that one was kept ready.
        let kept = ready.is_some_and(|id| !t.fake.state.lock().unwrap().sessions.contains_key(&id));
        assert!(!kept, "{options:?}");
    }
}
