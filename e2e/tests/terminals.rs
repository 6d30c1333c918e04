//! Terminals over the page's WebSocket: who may type, what hostile frames do, sizes, floods.

use drydock_e2e::{Event, PageSocket, Server, page_socket::FIRST};
use drydock_protocol::{
    TerminalId,
    control::{FromPage, ToPage, close},
    frame::{ClientFrame, Size, WINDOW},
    state::Role,
};
use futures_util::{SinkExt, StreamExt};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{self, Message};

fn notice(event: &Event) -> bool {
    matches!(event, Event::Message(ToPage::Notice { .. }))
}

async fn resize(page: &mut PageSocket, cols: u16, rows: u16) {
    page.frame(&ClientFrame::Resize { terminal: FIRST, room: Some(Size { cols, rows }) }).await;
}

#[tokio::test]
async fn a_viewer_sees_all_and_types_nothing() {
    let server = Server::shared();
    let session = server.session().await;
    let (_, view) = server.link(&session, Role::View, None).await;
    let mut owner = server.page_at_prompt(&session.id, &session.token, "owner").await;
    let mut viewer = server.page_at_prompt(&session.id, &view, "viewer").await;
    assert_eq!((viewer.role, owner.role), (Some(Role::View), Some(Role::Own)));

    viewer.input(FIRST, "touch /root/forbidden\n").await;
    viewer.input(FIRST, "\x03").await;
    resize(&mut viewer, 33, 11).await;
    let node = "node1".parse().unwrap();
    viewer.say(&FromPage::Open { node, request: 1 }).await;
    viewer.until("a refusal", |_, e| notice(e)).await;
    viewer.say(&FromPage::Close { terminal: FIRST, anyway: true }).await;
    viewer.until("a refusal", |_, e| notice(e)).await;
    viewer.say(&FromPage::Power { node, on: false }).await;
    viewer.until("a refusal", |_, e| notice(e)).await;
    viewer.ping().await;
    owner.input(FIRST, "ls /root/forbid*; stty size; echo visi''ble\n").await;
    viewer.until_seen(FIRST, "visible").await;
    owner.until_seen(FIRST, "visible").await;
    for page in [&viewer, &owner] {
        let text = page.screen(FIRST).text();
        assert!(
            text.contains("cannot access") && text.contains("24 80") && !text.contains("touch"),
            "{text}"
        );
    }

    let base = format!("/sessions/{}", session.id);
    for (method, rest) in [
        ("GET", "/nodes/node1/files?path=/"),
        ("GET", "/nodes/node1/file?path=/etc/passwd"),
        ("DELETE", "/nodes/node1/file?path=/etc/passwd"),
        ("POST", "/nodes/node1/files/mkdir?path=/x"),
        ("POST", "/ports/node1/80"),
        ("POST", "/nodes"),
        ("GET", "/links"),
        ("DELETE", ""),
    ] {
        let answer = server.call(method.parse().unwrap(), &format!("{base}{rest}"), Some(&view), None).await;
        answer.refused(403, "role_too_low");
    }
    let url = format!("ws://{}/api/v1{base}/nodes/node1/exec", server.address());
    let error = server.websocket(&url, &[("authorization", &format!("Bearer {view}"))]).await.unwrap_err();
    assert!(matches!(error, tungstenite::Error::Http(r) if r.status() == 403));
}

#[tokio::test]
async fn only_our_own_page_and_programs_may_open_the_socket() {
    let server = Server::shared();
    let session = server.session().await;
    let url = |rest: &str| format!("ws://{}/api/v1/sessions/{}/ws{rest}", server.address(), session.id);
    let cookie = format!("drydock={}", session.token);
    let bearer = format!("Bearer {}", session.token);
    let status =
        async |rest: &str, headers: &[(&str, &str)]| match server.websocket(&url(rest), headers).await {
            Ok(_) => 101,
            Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
            Err(e) => panic!("{e}"),
        };
    let own = server.url();
    assert_eq!(status("?client=a", &[("cookie", &cookie), ("origin", &own)]).await, 101);
    for origin in ["http://evil.example", "null", "http://localhost:1", "http://node1-80-x.localhost"] {
        assert_eq!(status("?client=a", &[("cookie", &cookie), ("origin", origin)]).await, 403, "{origin}");
        assert_eq!(
            status("?client=a", &[("authorization", &bearer), ("origin", origin)]).await,
            403,
            "{origin}"
        );
    }
    assert_eq!(status("?client=a", &[("cookie", &cookie)]).await, 403, "a browser without Origin");
    for bad in ["", "?client=", "?client=a%20b", &format!("?client={}", "x".repeat(65))] {
        assert_eq!(status(bad, &[("authorization", &bearer)]).await, 400, "{bad}");
    }
    server
        .get(&format!("/sessions/{}/ws?client=a", session.id), &session.token)
        .await
        .refused(426, "not_a_websocket");
}

#[tokio::test]
async fn hostile_messages_harm_nobody() {
    let server = Server::shared();
    let session = server.session().await;
    let url = format!("ws://{}/api/v1/sessions/{}/ws?client=evil", server.address(), session.id);
    let bearer = format!("Bearer {}", session.token);
    let open = async || server.websocket(&url, &[("authorization", &bearer)]).await.unwrap();
    let mut socket = open().await;
    let input = |terminal, bytes: &[u8]| ClientFrame::Input { terminal, seq: 1, bytes }.encode();
    for message in [
        Message::binary(vec![]),
        Message::binary(vec![0]),
        Message::binary(vec![255; 1000]),
        Message::binary(input(TerminalId(77), b"nobody")),
        Message::binary(input(FIRST, &vec![b'x'; 70_000])),
        Message::binary(ClientFrame::Ack { terminal: FIRST, offset: u64::MAX }.encode()),
        Message::binary(ClientFrame::Resize { terminal: TerminalId(u32::MAX), room: None }.encode()),
        Message::text(""),
        Message::text("{"),
        Message::text("{\"type\":\"attach\"}"),
        Message::text("{\"type\":\"attach\",\"terminal\":1,\"from\":18446744073709551615}"),
        Message::text("{\"type\":\"open\",\"node\":\"../x\",\"request\":1}"),
        Message::text("{\"type\":\"power\",\"node\":\"node99\",\"on\":true}"),
        Message::text("[".repeat(100_000)),
    ] {
        socket.send(message).await.unwrap();
    }
    // The connection itself goes on; too large a message ends it.
    socket.send(Message::text("{\"type\":\"ping\",\"t\":7.0}")).await.unwrap();
    loop {
        let message =
            tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap().unwrap().unwrap();
        if message.to_text().is_ok_and(|t| t.contains("\"pong\"")) {
            break;
        }
    }
    // It may break off while we still send.
    drop(socket.send(Message::binary(vec![0; 3 << 20])).await);
    while let Some(Ok(_)) = socket.next().await {}

    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    page.input(FIRST, "echo un''harmed\n").await;
    page.until_seen(FIRST, "unharmed").await;
    assert!(!page.screen(FIRST).text().contains("xxxx"));
}

#[tokio::test]
async fn the_smallest_writer_gives_the_size_and_odd_sizes_are_bounded() {
    let server = Server::shared();
    let session = server.session().await;
    let mut one = server.page_at_prompt(&session.id, &session.token, "one").await;
    let mut two = server.page_at_prompt(&session.id, &session.token, "two").await;
    let size =
        |cols, rows| move |p: &PageSocket, _: &Event| p.screen(FIRST).size == Some(Size { cols, rows });
    resize(&mut one, 120, 30).await;
    one.until("the size of one", size(120, 30)).await;
    resize(&mut two, 100, 40).await;
    one.until("the smaller of both", size(100, 30)).await;
    two.until("the smaller of both", size(100, 30)).await;
    one.input(FIRST, "stty size; echo do''ne\n").await;
    one.until_seen(FIRST, "done").await;
    assert!(one.screen(FIRST).text().contains("30 100"), "{}", one.screen(FIRST).text());
    drop(two);
    one.until("its own again", size(120, 30)).await;
    resize(&mut one, 1, 1).await;
    one.until("the least", size(20, 5)).await;
    resize(&mut one, u16::MAX, u16::MAX).await;
    one.until("the most", size(500, 300)).await;
}

#[tokio::test]
async fn a_page_that_does_not_acknowledge_gets_a_window_and_no_more() {
    let server = Server::shared();
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "lazy").await;
    page.acknowledge = false;
    let before = page.screen(FIRST).offset;
    page.input(FIRST, "yes\n").await;
    // Until the pty is held: then nothing comes any more.
    while page.next_within(Duration::from_millis(500)).await.is_some() {}
    let got = page.screen(FIRST).offset - before;
    assert!(got > 0 && got <= WINDOW + 1024, "{got} bytes without an acknowledgement");

    page.acknowledge = true;
    let offset = page.screen(FIRST).offset;
    page.frame(&ClientFrame::Ack { terminal: FIRST, offset }).await;
    page.until("more", |p, _| p.screen(FIRST).offset > offset + 4 * WINDOW).await;
    // Ctrl-C is heard in the flood.
    let pressed = Instant::now();
    page.input(FIRST, "\x03").await;
    page.until("a prompt", |p, _| p.screen(FIRST).bytes.ends_with(b"# ")).await;
    assert!(pressed.elapsed() < Duration::from_secs(2), "{:?}", pressed.elapsed());
}

#[tokio::test]
async fn a_slow_viewer_does_not_slow_the_writer() {
    let server = Server::shared();
    let session = server.session().await;
    let (_, view) = server.link(&session, Role::View, None).await;
    let mut owner = server.page_at_prompt(&session.id, &session.token, "owner").await;
    let mut slow = server.page_at_prompt(&session.id, &view, "slow").await;
    slow.acknowledge = false;
    owner.keep = false;
    owner.input(FIRST, "seq $((2000*1000)); echo end > /root/end\n").await;
    owner.until("17 MB", |p, _| p.screen(FIRST).offset > 16_888_896).await;
    // What the slow one has missed is replaced by the screen as it is.
    slow.acknowledge = true;
    let offset = slow.screen(FIRST).offset;
    slow.frame(&ClientFrame::Ack { terminal: FIRST, offset }).await;
    slow.until_seen(FIRST, "2000000").await;
    assert!(slow.screen(FIRST).snapshots >= 2);
}

#[tokio::test]
async fn characters_are_never_cut() {
    let server = Server::shared();
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    page.input(FIRST, "for i in $(seq 30000); do printf 'aß→🦀'; done; echo; echo e''nd\n").await;
    let mut last = 0;
    page.until("the end", |p, event| {
        if matches!(event, Event::Terminal(_)) {
            let bytes = &p.screen(FIRST).bytes;
            assert!(
                std::str::from_utf8(&bytes[last.min(bytes.len())..]).is_ok(),
                "a frame ends inside a character"
            );
            last = bytes.len();
        }
        p.screen(FIRST).bytes.ends_with(b"# ") && last > 300_000
    })
    .await;
    let text = page.screen(FIRST).text();
    assert_eq!(text.matches('🦀').count(), 30_001);
}

#[tokio::test]
async fn terminals_open_get_titles_end_and_close() {
    let server = Server::shared();
    let session = server.create(serde_json::json!({ "playground": "linux", "nodes": 2 })).await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    page.say(&FromPage::Open { node: "node2".parse().unwrap(), request: 9 }).await;
    let event = page
        .until("a new terminal", |_, e| matches!(e, Event::Message(ToPage::Opened { request: 9, .. })))
        .await;
    let Event::Message(ToPage::Opened { terminal, .. }) = event else { panic!() };
    page.attach(terminal, None).await;
    page.until("its prompt", |p, _| p.screen(terminal).text().contains("# ")).await;
    page.input(terminal, "hostname; printf '\\033]2;my title\\007'; kill -9 $$\n").await;
    page.until("its end", |p, _| p.screen(terminal).exited == Some(137)).await;
    assert!(page.screen(terminal).text().contains("node2\r\n"));
    let find = |p: &PageSocket| p.state.terminals.iter().find(|t| t.id == terminal).cloned();
    page.until("its picture", |p, _| find(p).is_some_and(|t| t.title == "my title" && t.exited == Some(137)))
        .await;
    page.say(&FromPage::Close { terminal, anyway: true }).await;
    page.until("it is gone", |p, _| find(p).is_none()).await;
    page.say(&FromPage::Open { node: "node7".parse().unwrap(), request: 10 }).await;
    page.until("a refusal", |_, e| matches!(e, Event::Message(ToPage::Notice { request: Some(10), .. })))
        .await;
}

#[tokio::test]
async fn closing_a_session_closes_its_pages() {
    let server = Server::shared();
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    server.end(&session).await;
    assert_eq!(page.until_closed().await, close::GONE);
}
