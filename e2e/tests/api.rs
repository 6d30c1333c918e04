//! The HTTP interface against a real server: who gets in, what the limits are, what is left of a refusal.

use drydock_e2e::{
    Answer, Event, Server,
    http::{full, zeros},
    page_socket::FIRST,
    until,
};
use drydock_protocol::{
    api::{Created, Host, Link, Queued, Session, Status},
    control::{ToPage, close},
    pipe::Entry,
    state::{Power, Role},
};
use hyper::{Method, Request};
use serde_json::{Value, json};

async fn show(server: &Server, session: &Created, token: &str) -> Answer {
    server.get(&format!("/sessions/{}", session.id), token).await
}

/// What is in a node's directory, hidden files too.
async fn listing(server: &Server, session: &Created, path: &str) -> Vec<String> {
    let answer =
        server.get(&format!("/sessions/{}/nodes/node1/files?path={path}", session.id), &session.token).await;
    let entries: Vec<Entry> =
        serde_json::from_value(answer.has(200).json::<Value>()["entries"].take()).unwrap();
    entries.into_iter().map(|e| e.name).collect()
}

#[tokio::test]
async fn ids_alone_and_wrong_tokens_open_nothing() {
    let server = Server::shared();
    let (session, other) = (server.session().await, server.session().await);
    let wrong = show(&server, &session, "wrong").await.refused(403, "no_right");
    let path = format!("/sessions/{}", session.id);
    assert_eq!(server.call(Method::GET, &path, None, None).await.refused(403, "no_right"), wrong);
    assert_eq!(show(&server, &session, &other.token).await.refused(403, "no_right"), wrong);
    // Whether an id exists cannot be asked.
    for id in ["aaaaaaaaaa", "no", "..%2f..", "AAAAAAAAAA"] {
        assert_eq!(
            server.get(&format!("/sessions/{id}"), &session.token).await.refused(403, "no_right"),
            wrong,
            "{id}"
        );
    }
    for (method, rest) in [
        (Method::DELETE, ""),
        (Method::POST, "/enter"),
        (Method::POST, "/nodes"),
        (Method::GET, "/links"),
        (Method::POST, "/ports/node1/80"),
        (Method::GET, "/nodes/node1/files?path=/"),
        (Method::DELETE, "/nodes/node1/file?path=/root"),
    ] {
        let answer = server.call(method, &format!("{path}{rest}"), Some("wrong"), None).await;
        assert_eq!(answer.refused(403, "no_right"), wrong, "{rest}");
    }
    assert_eq!(server.page(&session.id, "wrong", "p").await.until_closed().await, close::FORBIDDEN);
    server.call(Method::GET, "/sessions", Some(&session.token), None).await.refused(403, "operator_only");
    server
        .call(Method::POST, "/operator/stop", Some(&session.token), None)
        .await
        .refused(403, "operator_only");
    assert_eq!(
        show(&server, &session, &session.token).await.has(200).json::<Session>().status,
        Status::Running
    );
}

#[tokio::test]
async fn the_cookie_works_for_its_session_and_our_own_page_only() {
    let server = Server::shared();
    let (session, other) = (server.session().await, server.session().await);
    let path = format!("/sessions/{}", session.id);
    let answer =
        server.call(Method::POST, &format!("{path}/enter"), Some(&session.token), None).await.has(204);
    let cookie = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    for part in [format!("Path=/api/v1{path};"), "HttpOnly".into(), "SameSite=Lax".into()] {
        assert!(cookie.contains(&part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let ask = async |method: Method, id: &str, origin: Option<String>| {
        let mut request =
            Request::builder().method(method).uri(format!("/api/v1/sessions/{id}")).header("cookie", &cookie);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        server.send(request, full("")).await
    };
    assert_eq!(ask(Method::GET, session.id.as_str(), None).await.status, 200);
    ask(Method::GET, other.id.as_str(), None).await.refused(403, "no_right");
    ask(Method::DELETE, session.id.as_str(), None).await.refused(403, "foreign_origin");
    ask(Method::DELETE, session.id.as_str(), Some("http://evil.example".into()))
        .await
        .refused(403, "foreign_origin");
    assert_eq!(ask(Method::DELETE, session.id.as_str(), Some(server.url())).await.status, 204);
}

#[tokio::test]
async fn a_revoked_link_closes_at_once_and_opens_nothing() {
    let server = Server::shared();
    let session = server.session().await;
    let (link, guest) = server.link(&session, Role::Type, None).await;
    assert!(link.qr_svg.unwrap().contains("<svg"));
    let mut page = server.page_at_prompt(&session.id, &guest, "guest").await;
    let mut owner = server.page_at_prompt(&session.id, &session.token, "owner").await;
    owner.until("two viewers", |p, _| p.state.viewers.len() == 2).await;

    let path = format!("/sessions/{}/links", session.id);
    server
        .call(Method::DELETE, &format!("{path}/{}", link.id), Some(&guest), None)
        .await
        .refused(403, "role_too_low");
    server.call(Method::DELETE, &format!("{path}/{}", link.id), Some(&session.token), None).await.has(204);
    assert_eq!(page.until_closed().await, close::FORBIDDEN);
    show(&server, &session, &guest).await.refused(403, "no_right");
    assert_eq!(server.page(&session.id, &guest, "guest").await.until_closed().await, close::FORBIDDEN);
    owner.until("one viewer", |p, _| p.state.viewers.len() == 1).await;
    let links: Vec<Link> = server.get(&path, &session.token).await.has(200).json();
    assert!(links.iter().any(|l| l.id == link.id && l.revoked && l.url.is_none()));
    server
        .call(Method::DELETE, &format!("{path}/999"), Some(&session.token), None)
        .await
        .refused(404, "link_not_found");
}

#[tokio::test]
async fn an_expired_link_closes_and_opens_nothing() {
    let server = Server::shared();
    let session = server.session().await;
    let (_, guest) = server.link(&session, Role::Type, Some(1)).await;
    let mut page = server.page(&session.id, &guest, "guest").await;
    assert_eq!(page.until_closed().await, close::FORBIDDEN);
    show(&server, &session, &guest).await.refused(403, "no_right");
    assert_eq!(server.page(&session.id, &guest, "guest").await.until_closed().await, close::FORBIDDEN);
    assert_eq!(show(&server, &session, &session.token).await.status, 200);
    let body = json!({ "role": "type", "ttl_seconds": 0 });
    let path = format!("/sessions/{}/links", session.id);
    server.call(Method::POST, &path, Some(&session.token), Some(body)).await.refused(400, "bad_ttl");
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over() {
    let server = Server::shared();
    let session = server.create(json!({ "playground": "linux", "ttl_seconds": 2 })).await;
    let mut page = server.page(&session.id, &session.token, "p").await;
    let told = page.until("its life", |_, e| matches!(e, Event::Message(ToPage::Life { .. }))).await;
    assert!(
        matches!(told, Event::Message(ToPage::Life { seconds_left: 0..=2, can_extend: 1.., asleep: false })),
        "{told:?}"
    );
    assert_eq!(page.until_closed().await, close::EXPIRED);
    let ended = show(&server, &session, &session.token).await;
    assert!(ended.refused(410, "session_ended").message.contains("Its time was over"));
    let ended: Session = ended.json();
    assert_eq!((ended.status, ended.ended_because.as_deref()), (Status::Ended, Some("Its time was over.")));
    let path = format!("/sessions/{}/extend", session.id);
    server
        .call(Method::POST, &path, Some(&session.token), Some(json!({ "seconds": 60 })))
        .await
        .refused(410, "session_ended");
}

#[tokio::test]
async fn an_unused_session_sleeps_and_wakes() {
    let server = Server::start(&["--sleep-after", "1s"]);
    let session = server.session().await;
    let path = format!("/sessions/{}", session.id);
    let status =
        async || server.cli(&["session", "list", "--json"]).await.json::<Value>()[0]["status"].clone();
    until("it sleeps", async || status().await == "asleep").await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    page.input(FIRST, "echo a''wake\n").await;
    page.until_seen(FIRST, "awake").await;
    assert_eq!(server.get(&path, &session.token).await.json::<Session>().status, Status::Running);
    drop(page);
    until("it sleeps again", async || status().await == "asleep").await;
    assert_eq!(server.exec(&session.id, "node1", "echo woken").await.ok().text(), "woken\n");
    until("it sleeps again", async || status().await == "asleep").await;
    server.end(&session).await;
}

#[tokio::test]
async fn a_full_host_has_a_queue() {
    let server = Server::start(&["--max-sessions", "1", "--queue-length", "2"]);
    let session = server.session().await;
    let wish = || server.call(Method::POST, "/sessions", None, Some(json!({ "playground": "linux" })));
    let ask = async |q: &Queued| server.call(Method::GET, &format!("/queue/{}", q.ticket), None, None).await;
    let one: Queued = wish().await.has(202).json();
    let two: Queued = wish().await.has(202).json();
    assert_eq!((one.place, two.place), (1, 2));
    assert!(
        (7100..=7200).contains(&one.estimate_seconds) && two.estimate_seconds > one.estimate_seconds,
        "{one:?} {two:?}"
    );
    let answer = wish().await;
    answer.refused(503, "host_full");
    assert!(answer.headers.contains_key("retry-after"));
    let host: Host = server.call(Method::GET, "/host", None, None).await.has(200).json();
    assert_eq!((host.running, host.capacity, host.queued), (1, 1, 2));

    assert_eq!(ask(&two).await.has(202).json::<Queued>().place, 2);
    server.end(&session).await;
    assert_eq!(ask(&two).await.has(202).json::<Queued>().place, 2, "the first in the line comes first");
    let first: Created = ask(&one).await.has(201).json();
    assert_eq!(server.exec(&first.id, "node1", "echo in").await.ok().text(), "in\n");
    ask(&one).await.refused(404, "no_ticket");
    assert_eq!(ask(&two).await.has(202).json::<Queued>().place, 1);
    server.end(&first).await;
    assert_eq!(ask(&two).await.has(201).json::<Created>().nodes.len(), 1);
}

#[tokio::test]
async fn one_address_has_only_so_many_sessions() {
    let server = Server::start(&["--sessions-per-client", "2"]);
    let session = server.session().await;
    server.session().await;
    let answer = server.call(Method::POST, "/sessions", None, Some(json!({ "playground": "linux" }))).await;
    assert!(answer.refused(429, "too_many_sessions").message.contains("End one"));
    server.end(&session).await;
    server.session().await;
}

#[tokio::test]
async fn an_upload_that_is_too_large_leaves_nothing() {
    let server = Server::start(&["--max-upload", "1MiB", "--session-disk", "64MiB"]);
    let session = server.session().await;
    server.exec(&session.id, "node1", "mkdir /up; echo old > /up/kept").await.ok();

    // Told by its length, found out while it comes, too large for the disk.
    let announced = server.upload(&session, "/up/a", full(vec![0; 2 << 20])).await;
    assert!(announced.refused(413, "too_large").message.contains("1 MiB"));
    server.upload(&session, "/up/b", zeros(2 << 20)).await.refused(413, "too_large");
    server.upload(&session, "/up/kept", zeros(2 << 20)).await.refused(413, "too_large");
    until("only the old file is left", async || listing(&server, &session, "/up").await == ["kept"]).await;
    assert_eq!(server.exec(&session.id, "node1", "cat /up/kept").await.ok().text(), "old\n");
    server.upload(&session, "/up/fits", zeros(1 << 20)).await.has(204);
    assert_eq!(server.exec(&session.id, "node1", "stat -c %s /up/fits").await.ok().text(), "1048576\n");

    server.upload(&session, "relative", full("x")).await.refused(400, "bad_path");
    server.upload(&session, "/up/no/such/dir", full("x")).await.refused(404, "not_found");
    server.upload(&session, "/up", full("x")).await.refused(409, "conflict");
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing() {
    let server = Server::start(&["--session-disk", "64MiB"]);
    let session = server.session().await;
    server.exec(&session.id, "node1", "mkdir /up").await.ok();
    let answer = server.upload(&session, "/up/big", zeros(200 << 20)).await;
    let error = answer.refused(413, "too_large");
    assert!(error.message.to_lowercase().contains("space") || error.message.contains("disk"), "{error:?}");
    until("nothing is left", async || listing(&server, &session, "/up").await.is_empty()).await;
    // The node goes on, and what was refused takes no space.
    server.upload(&session, "/up/small", zeros(8 << 20)).await.has(204);
    assert_eq!(server.exec(&session.id, "node1", "stat -c %s /up/small").await.ok().text(), "8388608\n");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let server = Server::shared();
    let session = server.session().await;
    server.exec(&session.id, "node1", "mkdir /up").await.ok();
    let stream = half_an_upload(&server, &session).await;
    assert_eq!(listing(&server, &session, "/up").await, [""; 0], "it is not there before it is complete");
    drop(stream);
    until("nothing is left", async || listing(&server, &session, "/up").await.is_empty()).await;

    // Nor does it when its node is switched off, which is told.
    let mut stream = half_an_upload(&server, &session).await;
    let power = async |on: bool| {
        let path = format!("/sessions/{}/nodes/node1/power", session.id);
        server.call(Method::POST, &path, Some(&session.token), Some(json!({ "on": on }))).await.has(204);
    };
    power(false).await;
    let mut answer = vec![0; 2000];
    let n = tokio::io::AsyncReadExt::read(&mut stream, &mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(
        answer.contains("409 Conflict") && answer.contains("The node node1 was switched off meanwhile."),
        "{answer}"
    );
    power(true).await;
    assert_eq!(server.exec(&session.id, "node1", "ls -A /up").await.ok().text(), "");
}

/// An upload of which a part has come into the node.
async fn half_an_upload(server: &Server, session: &Created) -> tokio::net::TcpStream {
    let request = format!(
        "PUT /api/v1/sessions/{}/nodes/node1/file?path=/up/half HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 50000000\r\n\r\n",
        session.id, session.token,
    );
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    // More than fits into what is between us and the file.
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[b'x'; 20_000_000]).await.unwrap();
    stream
}

#[tokio::test]
async fn files_are_written_read_and_guarded_against_overwriting() {
    let server = Server::shared();
    let session = server.session().await;
    let path = format!("/sessions/{}/nodes/node1/file?path=/root/notes.txt", session.id);
    let written = server.upload(&session, "/root/notes.txt", full("one")).await.has(204);
    let read = server.get(&path, &session.token).await.has(200);
    assert_eq!(read.text(), "one");
    let stamp = read.headers["x-modified-micros"].to_str().unwrap().to_owned();
    assert_eq!(written.headers["x-modified-micros"], stamp);
    let write = async |condition: (&str, &str)| {
        let request = Request::put(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {}", session.token))
            .header(condition.0, condition.1);
        server.send(request, full("two".to_owned())).await
    };
    server.exec(&session.id, "node1", "echo changed > notes.txt").await.ok();
    write(("if-unmodified-since-micros", &stamp)).await.refused(409, "conflict");
    write(("if-none-match", "*")).await.refused(409, "conflict");
    write(("if-none-match", "\"a\"")).await.refused(400, "bad_header");
    assert_eq!(server.get(&path, &session.token).await.text(), "changed\n");
    server.get(&format!("{path}&limit=3"), &session.token).await.refused(413, "too_large");
    server.get(&path.replace("notes", "none"), &session.token).await.refused(404, "not_found");
    server.get(&path.replace("/root/notes.txt", "/root"), &session.token).await.refused(409, "conflict");
}

#[tokio::test]
async fn wrong_wishes_are_refused_with_a_reason() {
    let server = Server::shared();
    let wish = async |body: Value| server.call(Method::POST, "/sessions", None, Some(body)).await;
    let linux = |key: &str, value: Value| json!({ "playground": "linux", key: value });
    wish(json!({ "playground": "atari" })).await.refused(400, "unknown_playground");
    for nodes in [json!(0), json!(6), json!(255)] {
        assert!(wish(linux("nodes", nodes)).await.refused(400, "bad_nodes").message.contains("1 to 5"));
    }
    for ttl in [json!(0), json!(28_801), json!(u64::MAX)] {
        wish(linux("ttl_seconds", ttl)).await.refused(400, "bad_ttl");
    }
    for odd in [
        linux("nodes", json!(-1)),
        linux("nodes", json!(256)),
        linux("nodes", json!("two")),
        linux("colour", json!(1)),
        json!([]),
        json!({}),
    ] {
        let answer = wish(odd.clone()).await;
        assert_eq!(
            (answer.status, answer.json::<Value>()["code"].as_str().unwrap()),
            (400, "bad_body"),
            "{odd}"
        );
    }
    wish(linux("playground", json!("x".repeat(100_000)))).await.refused(413, "too_large");
    let request = || Request::post("/api/v1/sessions");
    server.send(request(), full("{}")).await.refused(415, "not_json");
    let answer =
        server.send(request().header("content-type", "application/json"), full("{\"playground\":")).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    server.call(Method::PATCH, "/sessions", None, None).await.refused(405, "wrong_method");
    server.call(Method::GET, "/nothing/here", None, None).await.refused(404, "no_such_path");
}

#[tokio::test]
async fn nodes_are_added_switched_and_removed() {
    let server = Server::shared();
    let session = server.session().await;
    let path = format!("/sessions/{}/nodes", session.id);
    let token = Some(session.token.as_str());
    for n in 2..=5 {
        let added: Value = server.call(Method::POST, &path, token, None).await.has(201).json();
        assert_eq!(added["name"], format!("node{n}"));
    }
    let full = server.call(Method::POST, &path, token, None).await;
    assert!(
        (400..=429).contains(&full.status) && full.text().contains('5'),
        "{} {}",
        full.status,
        full.text()
    );
    let output = server
        .exec(&session.id, "node5", "ping -c1 -W2 node1 >/dev/null && echo reached; echo kept > /root/f")
        .await;
    assert_eq!(output.ok().text(), "reached\n");

    // Off: the disk stays, all else is refused in clear words.
    let power = format!("{path}/node5/power");
    server.call(Method::POST, &power, token, Some(json!({ "on": false }))).await.has(204);
    server.cli(&["exec", session.id.as_str(), "node5", "--", "true"]).await.refused(125, &["node5"]);
    let files = server.get(&format!("{path}/node5/files?path=/"), &session.token).await;
    assert!(files.refused(409, "conflict").message.contains("node5"));
    server.call(Method::POST, &power, token, Some(json!({ "on": true }))).await.has(204);
    until("it is on", async || {
        let shown: Session = show(&server, &session, &session.token).await.json();
        shown.state.unwrap().nodes[4].power == Power::On
    })
    .await;
    assert_eq!(server.exec(&session.id, "node5", "cat /root/f").await.ok().text(), "kept\n");

    server.call(Method::DELETE, &format!("{path}/node5"), token, None).await.has(204);
    server.cli(&["exec", session.id.as_str(), "node5", "--", "true"]).await.refused(125, &["no node5"]);
    server.call(Method::DELETE, &format!("{path}/node5"), token, None).await.refused(404, "not_found");
    server
        .call(Method::POST, &format!("{path}/node9/power"), token, Some(json!({ "on": true })))
        .await
        .refused(404, "not_found");
    server.call(Method::DELETE, &format!("{path}/gnome"), token, None).await.refused(404, "node_not_found");
}

#[tokio::test]
async fn health_metrics_and_the_document_are_there() {
    let server = Server::shared();
    let get = async |path: &str| server.send(Request::get(path), full("")).await;
    assert_eq!(get("/healthz").await.status, 200);
    let metrics = get("/metrics").await.has(200).text();
    assert!(metrics.contains("drydock_sessions_capacity 100"), "{metrics}");
    let document: Value = get("/api/v1/openapi.json").await.has(200).json();
    assert!(document["paths"]["/sessions/{id}/ws"].is_object());
    let offers: Value = get("/api/v1/playgrounds").await.has(200).json();
    assert_eq!(offers[0]["name"], "linux");
}
