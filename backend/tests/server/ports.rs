//! Ports of nodes in the browser. A small server of the test's own stands for the learner's.

use crate::harness::{TestServer, next, send_over};
use axum::{
    Router,
    body::Body,
    extract::WebSocketUpgrade,
    http::HeaderMap,
    response::Redirect,
    routing::{any, get, post},
};
use drydock_protocol::api::{Created, PortLink};
use futures_util::{SinkExt, StreamExt};
use hyper::{Method, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

/// Echoes what a learner's server sees.
async fn learners_server() -> u16 {
    let echo_headers = |headers: HeaderMap| async move {
        let mut lines: Vec<String> =
            headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap_or("?"))).collect();
        lines.sort();
        ([("set-cookie", "drydock=evil"), ("set-cookie", "app=1; Domain=localhost")], lines.join("\n"))
    };
    let socket = |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    };
    let app = Router::new()
        .route("/headers", get(echo_headers))
        .route("/echo", post(|body: Body| async move { body }))
        .route("/moved", get(|| async { Redirect::to("/headers") }))
        // As nginx leads to a directory: it knows its name, and not by which port it was asked.
        .route(
            "/dir",
            get(|headers: HeaderMap| async move {
                let host = headers["host"].to_str().unwrap().split(':').next().unwrap();
                Redirect::to(&format!("http://{host}/dir/"))
            }),
        )
        .route("/ws", any(socket));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

async fn open(t: &TestServer, s: &Created, port: u16, host: Option<&str>) -> PortLink {
    let request = Request::post(format!("/api/v1/sessions/{}/ports/node1/{port}", s.id))
        .header("authorization", format!("Bearer {}", s.token));
    let request = if let Some(host) = host { request.header("host", host) } else { request };
    let answer = t.send(request, "").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()
}

fn host_of(url: &str) -> &str {
    url.strip_prefix("http://").unwrap().split('/').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_has_an_origin_of_its_own() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let port = learners_server().await;
    let link = open(&t, &s, port, None).await;
    let host = host_of(&link.url);
    assert!(host.ends_with(&format!(".localhost:{}", t.address.port())), "{host}");

    let request = Request::get("/headers")
        .header("host", host)
        .header("cookie", "drydock=mine; app=2")
        .header("connection", "x-secret")
        .header("x-secret", "1");
    let answer = t.send(request, "").await;
    let seen = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(seen.contains("cookie: app=2") && seen.contains(&format!("host: {host}")), "{seen}");
    assert!(
        seen.contains("x-forwarded-for: 127.0.0.1") && seen.contains("x-forwarded-proto: http"),
        "{seen}"
    );
    assert!(!seen.contains("mine") && !seen.contains("x-secret"), "{seen}");
    let cookies: Vec<&str> =
        answer.headers.get_all("set-cookie").iter().map(|c| c.to_str().unwrap()).collect();
    assert_eq!(cookies, ["app=1"]);

    let answer = t.send(Request::get("/dir").header("host", host), "").await;
    assert_eq!(answer.headers["location"], "/dir/");

    // Bodies stream both ways.
    let pieces = (0..100).map(|_| Ok::<_, std::io::Error>(vec![5u8; 10_000]));
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let answer = t.send(Request::post("/echo").header("host", host), body).await;
    assert_eq!(answer.body.len(), 1_000_000);

    // The API is not there, and the page's cookie would not be sent.
    assert_eq!(t.send(Request::get("/api/v1/host").header("host", host), "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_go_through_and_end_with_the_capability() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let (number, _) = t.link(&s, "type").await;
    let port = learners_server().await;
    let link = open(&t, &s, port, None).await;
    let mut request = format!("ws://{}/ws", t.address).into_client_request().unwrap();
    request.headers_mut().insert("host", host_of(&link.url).parse().unwrap());
    let stream = TcpStream::connect(t.address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text("hello"));

    t.call(Method::DELETE, &format!("/sessions/{}/links/{number}", s.id), Some(&s.token), None).await;
    let end = tokio::time::timeout(std::time::Duration::from_secs(5), socket.next()).await.unwrap();
    assert!(!matches!(end, Some(Ok(Message::Text(_)))), "{end:?}");
    let answer = t.send(Request::get("/headers").header("host", host_of(&link.url)), "").await;
    assert_eq!(answer.status, 403);
    // The owner opens it again at another address.
    let again = open(&t, &s, port, None).await;
    assert_ne!(again.url, link.url);
    assert_eq!(t.send(Request::get("/headers").header("host", host_of(&again.url)), "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_a_port_is_below_a_path_and_sandboxed() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let port = learners_server().await;
    let link = open(&t, &s, port, Some("192.0.2.1:8080")).await;
    let path = link.url.strip_prefix("http://192.0.2.1:8080").unwrap();
    assert!(path.starts_with("/p/node1-"), "{path}");
    let answer = t.send(Request::get(format!("{path}headers")), "").await;
    assert_eq!(answer.status, 200);
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("sandbox allow-scripts") && !policy.contains("allow-same-origin"), "{policy}");
    assert_eq!(answer.headers["set-cookie"], format!("app=1; Path={path}"));
    let seen = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(seen.contains(&format!("x-forwarded-prefix: {}", path.trim_end_matches('/'))), "{seen}");
    let answer = t.send(Request::get(format!("{path}moved")), "").await;
    assert_eq!(answer.headers["location"], format!("{path}headers"));
    let answer = t.send(Request::get(format!("{path}dir")).header("host", "192.0.2.1:8080"), "").await;
    assert_eq!(answer.headers["location"], format!("{path}dir/"));
    let answer = t.send(Request::get(path.trim_end_matches('/')), "").await;
    assert_eq!((answer.status.as_u16(), answer.headers["location"].to_str().unwrap()), (307, path));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_domain_is_used_where_there_is_one() {
    let t = TestServer::start(&[
        "--wildcard-domain",
        "*.play.example.org",
        "--public-url",
        "https://play.example.org",
    ])
    .await;
    let s = t.create().await;
    let port = learners_server().await;
    let link = open(&t, &s, port, None).await;
    let host = link.url.strip_prefix("https://").unwrap().trim_end_matches('/');
    assert!(host.ends_with(".play.example.org"), "{host}");
    let answer = t.send(Request::get("/headers").header("host", host), "").await;
    assert!(String::from_utf8_lossy(&answer.body).contains("x-forwarded-proto: https"));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_why_a_port_is_not_shown() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let link = open(&t, &s, free, None).await;
    let answer = t.send(Request::get("/").header("host", host_of(&link.url)), "").await;
    let page = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status, 502);
    assert!(page.contains("nothing listens") && page.contains("0.0.0.0"), "{page}");
    // In a sandbox without this no page looks again by itself.
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.ends_with("sandbox allow-scripts"), "{policy}");
    assert_eq!(answer.headers["refresh"], "2");

    // One that speaks TLS: to other words and to a greeting that it does not like it answers with an alert.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            stream.write_all(&[21, 3, 3, 0, 2, 2, 40]).await.unwrap();
        }
    });
    let tls = open(&t, &s, secret, None).await;
    let answer = t.send(Request::get("/").header("host", host_of(&tls.url)), "").await;
    let page = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status, 502);
    assert!(page.contains("speaks TLS") && !answer.headers.contains_key("refresh"), "{page}");

    // One that speaks neither: it listens, so nobody is told that nothing does.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"-ERR what?\r\n").await;
        }
    });
    let other = open(&t, &s, other, None).await;
    let answer = t.send(Request::get("/").header("host", host_of(&other.url)), "").await;
    let page = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status, 502);
    assert!(page.contains("does not answer in HTTP") && !page.contains("0.0.0.0"), "{page}");
    assert_eq!(answer.headers["refresh"], "2");

    let forged = host_of(&link.url).replacen("node1", "node2", 1);
    assert_eq!(t.send(Request::get("/").header("host", forged), "").await.status, 403);
    t.call(Method::DELETE, &format!("/sessions/{}", s.id), Some(&s.token), None).await;
    let stream = TcpStream::connect(t.address).await.unwrap();
    let answer =
        send_over(stream, Request::get("/").header("host", host_of(&link.url)), "", Body::empty()).await;
    assert_eq!(answer.status, 403);
    assert_eq!(t.send(Request::get("/p/nonsense/"), "").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_has_no_ports() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let open = async |node: &str| {
        let path = format!("/sessions/{}/ports/{node}/80", s.id);
        t.call(Method::POST, &path, Some(&s.token), None).await.status
    };
    assert_eq!((open("node1").await.as_u16(), open("node7").await.as_u16()), (200, 404));
}
