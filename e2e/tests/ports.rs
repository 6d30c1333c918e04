//! Ports of nodes: found by themselves, opened through a link, proxied with HTTP and upgrades, closed again.

use drydock_e2e::{PageSocket, Server, http::full, page_socket::FIRST, until};
use drydock_protocol::{
    api::{Created, PortLink},
    state::{Port, Role},
};
use futures_util::{SinkExt, StreamExt};
use hyper::{Method, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

/// Starts the web server of `fixtures` in a terminal of the page.
async fn start_server(server: &Server, session: &Created, page: &mut PageSocket, address: &str, port: u16) {
    let script = &include_bytes!("fixtures/server.pl")[..];
    server.upload(session, "/root/server.pl", full(script)).await.has(204);
    page.input(FIRST, &format!("perl server.pl {address} {port} &\n")).await;
    page.until("the port appears by itself", |p, _| ports(p).iter().any(|found| found.port == port)).await;
}

fn ports(page: &PageSocket) -> Vec<Port> {
    page.state.nodes.first().map(|n| n.ports.clone()).unwrap_or_default()
}

async fn port_link(server: &Server, session: &Created, port: u16) -> String {
    let path = format!("/sessions/{}/ports/node1/{port}", session.id);
    server.call(Method::POST, &path, Some(&session.token), None).await.has(200).json::<PortLink>().url
}

/// `http://HOST/` taken apart.
fn host(url: &str) -> &str {
    url.strip_prefix("http://").and_then(|u| u.strip_suffix('/')).expect("an address of an own origin")
}

#[tokio::test]
async fn a_port_appears_opens_and_goes() {
    let server = Server::shared();
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    assert_eq!(ports(&page), []);
    start_server(&server, &session, &mut page, "0.0.0.0", 8000).await;
    assert_eq!(ports(&page), [Port { port: 8000, loopback_only: false }]);
    let url = port_link(&server, &session, 8000).await;
    let host = host(&url);
    assert!(host.starts_with(&format!("node1-8000-{}-", session.id)), "{host}");
    assert!(host.ends_with(&format!(".localhost:{}", server.address().port())), "{host}");

    let request = Request::post("/a/b?c=d")
        .header("host", host)
        .header("cookie", format!("x=1; drydock={}; y=2", session.token));
    let answer = server.send(request, full("the body")).await.has(200);
    let text = answer.text();
    for part in [
        "asked: POST /a/b?c=d",
        "body: the body",
        "cookie: x=1; y=2\n",
        &format!("x-forwarded-host: {host}\n"),
    ] {
        assert!(text.contains(part), "'{part}' is not in {text}");
    }
    assert!(!text.contains(&session.token), "the node never sees our cookie");
    assert_eq!(answer.headers["set-cookie"], "theirs=1");
    let answer = server.send(Request::get("/stream").header("host", host), full("")).await.has(200);
    assert_eq!(answer.text(), "part1part2part3");

    // The API is not to be had on the port's origin.
    let answer = server.send(Request::get("/api/v1/host").header("host", host), full("")).await.has(200);
    assert!(answer.text().contains("asked: GET /api/v1/host"));

    page.input(FIRST, "kill %1\n").await;
    page.until("the port goes", |p, _| ports(p).is_empty()).await;
    let answer = server.send(Request::get("/").header("host", host), full("")).await.has(502);
    assert!(answer.text().contains("Nothing answers on port 8000 of node1"), "{}", answer.text());
}

#[tokio::test]
async fn upgrades_go_through() {
    let server = Server::shared();
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    start_server(&server, &session, &mut page, "0.0.0.0", 9000).await;
    let url = port_link(&server, &session, 9000).await;
    let host = host(&url);

    let mut socket = server
        .websocket(&format!("ws://{host}/chat"), &[("origin", url.trim_end_matches('/'))])
        .await
        .unwrap();
    for text in ["hello", &"long ".repeat(5000)] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), text.to_uppercase());
    }

    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: shout"), "{head}");
    stream.write_all(b"quiet\n").await.unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"QUIET\n");

    // The session's end ends what was upgraded.
    server.end(&session).await;
    assert_eq!(stream.read(&mut answer).await.unwrap_or(0), 0);
    while let Some(Ok(_)) = socket.next().await {}
}

#[tokio::test]
async fn without_wildcard_names_a_port_is_a_path() {
    let server = Server::shared();
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    start_server(&server, &session, &mut page, "0.0.0.0", 8080).await;
    let request = Request::post(format!("/api/v1/sessions/{}/ports/node1/8080", session.id))
        .header("authorization", format!("Bearer {}", session.token))
        .header("host", "192.0.2.1:8080");
    let link: PortLink = server.send(request, full("")).await.has(200).json();
    let path = link.url.strip_prefix("http://192.0.2.1:8080").expect("on the host that was asked for");
    assert!(path.starts_with("/p/node1-8080-"), "{path}");
    let answer = server.send(Request::get(format!("{path}x/y?z")), full("")).await.has(200);
    assert!(answer.text().contains("asked: GET /x/y?z"), "{}", answer.text());
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("sandbox") && !policy.contains("allow-same-origin"), "{policy}");
    assert_eq!(server.send(Request::get(path.trim_end_matches('/')), full("")).await.status, 307);
    // Its pages, whose origin the browser calls null, may fetch and have modules.
    let module =
        server.send(Request::get(format!("{path}m.js")).header("origin", "null"), full("")).await.has(200);
    assert_eq!(module.headers["access-control-allow-origin"], "null");
    let asked = Request::options(format!("{path}api"))
        .header("origin", "null")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let allowed = server.send(asked, full("")).await.has(204);
    assert_eq!(allowed.headers["access-control-allow-headers"], "content-type");
    assert_eq!(answer.headers.get("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_port_needs_its_capability() {
    let server = Server::shared();
    let (session, other) = (server.session().await, server.session().await);
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    start_server(&server, &session, &mut page, "0.0.0.0", 8000).await;
    let (link, _) = server.link(&session, Role::Type, None).await;
    let url = port_link(&server, &session, 8000).await;
    let right = host(&url).to_owned();
    let get = async |host: &str| server.send(Request::get("/").header("host", host), full("")).await.status;
    assert_eq!(get(&right).await, 200);

    let (label, domain) = right.split_once('.').unwrap();
    let (name, capability) = label.rsplit_once('-').unwrap();
    let changed = capability.chars().rev().collect::<String>();
    for wrong in
        [format!("{name}-{changed}"), label.replace("-8000-", "-22-"), label.replace("node1", "node2")]
    {
        assert_eq!(get(&format!("{wrong}.{domain}")).await, 403, "{wrong}");
    }
    assert_eq!(
        get(&format!("{}.{domain}", label.replace(session.id.as_str(), other.id.as_str()))).await,
        403
    );
    for bad in ["0", "65536", "-1", "http"] {
        let path = format!("/sessions/{}/ports/node1/{bad}", session.id);
        server.call(Method::POST, &path, Some(&session.token), None).await.refused(400, "bad_port");
    }

    // When somebody who could open ports is shown out, addresses that he may have kept die.
    let path = format!("/sessions/{}/links/{}", session.id, link.id);
    server.call(Method::DELETE, &path, Some(&session.token), None).await.has(204);
    assert_eq!(get(&right).await, 403);
    assert_eq!(get(host(&port_link(&server, &session, 8000).await)).await, 200);
}

#[tokio::test]
async fn a_port_on_loopback_is_shown_as_such() {
    let server = Server::shared();
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    start_server(&server, &session, &mut page, "127.0.0.1", 8000).await;
    assert_eq!(ports(&page), [Port { port: 8000, loopback_only: true }]);
    let url = port_link(&server, &session, 8000).await;
    let answer = server.send(Request::get("/").header("host", host(&url)), full("")).await.has(502);
    assert!(answer.text().contains("0.0.0.0"), "{}", answer.text());
}

#[tokio::test]
async fn a_node_that_is_off_has_no_ports() {
    let server = Server::shared();
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    start_server(&server, &session, &mut page, "0.0.0.0", 8000).await;
    let url = port_link(&server, &session, 8000).await;
    let path = format!("/sessions/{}/nodes/node1/power", session.id);
    server
        .call(Method::POST, &path, Some(&session.token), Some(serde_json::json!({ "on": false })))
        .await
        .has(204);
    page.until("the port goes", |p, _| ports(p).is_empty()).await;
    until("the page says so", async || {
        let answer = server.send(Request::get("/").header("host", host(&url)), full("")).await;
        answer.status == 502 && answer.text().contains("node1")
    })
    .await;
}
