//! `drydock serve` is killed and started again: what runs goes on, what died meanwhile is cleaned up.

use drydock_e2e::{Event, PageSocket, Server, page_socket::FIRST, until};
use drydock_protocol::{
    TerminalId,
    api::{Created, Session, Status},
    control::{FromPage, ToPage, close},
    frame::ClientFrame,
    state::{Power, Role},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn end_process(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("it runs");
}

async fn show(server: &Server, session: &Created) -> Session {
    server.cli(&["session", "show", session.id.as_str(), "--json"]).await.json()
}

/// The numbers of the whole lines `tick N`.
fn ticks(page: &PageSocket) -> Vec<u32> {
    let text = page.screen(FIRST).text();
    text.split("tick ").filter_map(|l| l.split_once("\r\n")?.0.parse().ok()).collect()
}

#[tokio::test]
async fn sessions_processes_and_terminals_outlive_a_killed_server() {
    let server = Server::start(&[]);
    let session = server.create(serde_json::json!({ "playground": "linux", "nodes": 2 })).await;
    let (_, guest) = server.link(&session, Role::Type, None).await;
    let pid = server
        .exec(&session.id, "node2", "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!")
        .await
        .ok()
        .text();

    let mut page = server.page_at_prompt(&session.id, &session.token, "laptop").await;
    // Counts on while nobody serves; stops when a file says so.
    page.input(
        FIRST,
        "i=0; until [ -e stop ]; do i=$((i+1)); echo tick $i; sleep 0.01; done; echo end''ed $i\n",
    )
    .await;
    page.until("some ticks", |p, _| ticks(p).len() > 20).await;
    server.kill();
    page.until("the end of the connection", |_, e| matches!(e, Event::Closed(..))).await;
    let before = page.screen(FIRST).clone();
    let last_seen = *ticks(&page).last().unwrap();

    server.start_again();
    let mut page = {
        let mut again = server.page(&session.id, &session.token, "laptop").await;
        again.screens.insert(FIRST, before.clone());
        again.seq = page.seq;
        again
    };
    // From here every frame is checked to begin where the last one ended.
    page.attach(FIRST, Some(before.offset)).await;
    page.until("later ticks", |p, _| ticks(p).last().is_some_and(|n| *n > last_seen + 20)).await;
    assert_eq!((page.role, page.input_seq), (Some(Role::Own), 1));
    assert_eq!(page.screen(FIRST).snapshots, before.snapshots, "it went on without a new snapshot");

    // A frame that was sent already is taken once.
    page.frame(&ClientFrame::Input { terminal: FIRST, seq: 1, bytes: b"touch doubled\n" }).await;
    server.exec(&session.id, "node1", "touch stop").await.ok();
    page.until("the end of the loop", |p, _| p.screen(FIRST).text().contains("ended ")).await;
    let all = ticks(&page);
    assert_eq!(all, (1..=all.len() as u32).collect::<Vec<_>>(), "every line came once and in order");
    page.input(FIRST, "ls doub*; echo next''line\n").await;
    page.until_seen(FIRST, "nextline").await;
    assert!(page.screen(FIRST).text().contains("cannot access"), "{}", page.screen(FIRST).text());

    // The process on the other node still runs, the links hold, and new things work.
    assert_eq!(
        server.exec(&session.id, "node2", &format!("cat /proc/{}/comm", pid.trim())).await.ok().text(),
        "sleep\n"
    );
    assert_eq!(
        server.get(&format!("/sessions/{}", session.id), &guest).await.has(200).json::<Session>().role,
        Role::Type
    );
    let shown = show(&server, &session).await;
    assert_eq!((shown.status, shown.expires_at), (Status::Running, session.expires_at));
    page.say(&FromPage::Open { node: "node2".parse().unwrap(), request: 4 }).await;
    page.until("a new terminal", |_, e| matches!(e, Event::Message(ToPage::Opened { request: 4, .. }))).await;
    let another = server.session().await;
    assert_eq!(server.exec(&another.id, "node1", "hostname").await.ok().text(), "node1\n");
}

#[tokio::test]
async fn what_died_meanwhile_is_cleaned_up_and_shown_as_ended() {
    let server = Server::start(&[]);
    let (lives, dies) = (server.session().await, server.session().await);
    server.exec(&dies.id, "node1", "sleep 1000 </dev/null >/dev/null 2>&1 &").await.ok();
    let dead = server.session_pid(&dies.id);
    server.kill();
    end_process(dead, Signal::SIGKILL);
    let record = server.state_dir().join(format!("run/warden/{}.json", dies.id));
    until("the warden has cleaned up", async || !record.exists()).await;
    server.start_again();

    let shown = show(&server, &dies).await;
    assert_eq!((shown.status, shown.state), (Status::Ended, None));
    assert_eq!(shown.ended_because.as_deref(), Some("It ended while the server was away."));
    let answer = server.get(&format!("/sessions/{}", dies.id), &dies.token).await;
    assert!(answer.refused(410, "session_ended").message.contains("while the server was away"));
    assert_eq!(server.page(&dies.id, &dies.token, "p").await.until_closed().await, close::GONE);
    assert!(!server.state_dir().join(format!("run/sessions/{}.sock", dies.id)).exists());
    assert_eq!(show(&server, &lives).await.status, Status::Running);
    assert_eq!(server.exec(&lives.id, "node1", "echo fine").await.ok().text(), "fine\n");
}

#[tokio::test]
async fn a_session_that_dies_says_so_to_its_pages() {
    let server = Server::shared();
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    end_process(server.session_pid(&session.id), Signal::SIGKILL);
    assert_eq!(page.until_closed().await, close::GONE);
    let shown = show(&server, &session).await;
    assert_eq!(shown.status, Status::Ended);
    assert!(shown.ended_because.unwrap().starts_with("It ended: "));
    server
        .cli(&["exec", session.id.as_str(), "node1", "--", "true"])
        .await
        .refused(125, &["This session is over"]);
}

#[tokio::test]
async fn a_server_that_ends_asks_its_pages_to_come_back() {
    let server = Server::start(&[]);
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    end_process(server.pid().cast_signed(), Signal::SIGTERM);
    assert_eq!(page.until_closed().await, close::RESTART);
    assert!(server.wait().success());
    server.start_again();
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    page.input(FIRST, "echo still''here\n").await;
    page.until_seen(FIRST, "stillhere").await;
}

#[tokio::test]
async fn sessions_outlive_server_and_warden() {
    let server = Server::start(&[]);
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    page.input(FIRST, "echo before''hand\n").await;
    page.until_seen(FIRST, "beforehand").await;
    let offset = page.screen(FIRST).offset;
    let warden = warden_of(&server);
    server.kill();
    end_process(warden, Signal::SIGKILL);
    server.start_again();

    assert_eq!(show(&server, &session).await.status, Status::Running);
    let mut page = server.page(&session.id, &session.token, "q").await;
    page.attach(FIRST, Some(offset)).await;
    page.input(FIRST, "echo after''wards\n").await;
    page.until_seen(FIRST, "afterwards").await;
    assert_eq!(page.screen(FIRST).snapshots, 0);
    // The new warden knows it: it can get nodes and be ended.
    let path = format!("/sessions/{}/nodes", session.id);
    server.call(hyper::Method::POST, &path, Some(&session.token), None).await.has(201);
    page.until("the new node", |p, _| p.state.nodes.len() == 2 && p.state.nodes[1].power == Power::On).await;
    assert_eq!(server.exec(&session.id, "node2", "hostname").await.ok().text(), "node2\n");
    server.end(&session).await;
    assert_eq!(page.until_closed().await, close::GONE);
}

fn warden_of(server: &Server) -> i32 {
    let processes = drydock_e2e::server::processes_of(&server.state_dir());
    let warden = processes.iter().find(|(pid, line)| line.contains(" warden ") && parent_is_init(**pid));
    warden.expect("a warden runs").0.cast_signed()
}

/// A program of another file, as an upgrade brings it: its own warden takes over, and only if no other server uses the old one.
#[tokio::test]
async fn an_upgrade_upgrades_the_warden_and_sessions_go_on() {
    let server = Server::start(&[]);
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    page.input(FIRST, "echo before''hand\n").await;
    page.until_seen(FIRST, "beforehand").await;
    let old = warden_of(&server);
    let scratch = server.scratch();
    let upgraded = scratch.path().join("drydock");
    std::fs::copy(drydock_e2e::server::binary(), &upgraded).expect("a copy of the program");
    let second = std::process::Command::new(&upgraded)
        .args(["serve", "--listen", "127.0.0.1:0", "--state-dir"])
        .arg(server.state_dir())
        .output()
        .expect("it is started");
    assert!(String::from_utf8_lossy(&second.stderr).contains("another drydock serve uses"), "{second:?}");
    assert_eq!(warden_of(&server), old);
    server.kill();
    server.start_again_as(&upgraded);
    let new = warden_of(&server);
    assert_eq!(std::fs::read_link(format!("/proc/{new}/exe")).expect("it runs"), upgraded);
    assert_eq!(show(&server, &session).await.status, Status::Running);
    assert_eq!(server.exec(&session.id, "node1", "hostname").await.ok().text(), "node1\n");
    // The same file again changes nothing.
    server.kill();
    server.start_again_as(&upgraded);
    assert_eq!(warden_of(&server), new);
    server.end(&session).await;
}

/// The warden's own children have the same command line as it has.
fn parent_is_init(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent =
        status.lines().find_map(|l| l.strip_prefix("PPid:")).and_then(|p| p.trim().parse::<u32>().ok());
    parent.is_some_and(|p| {
        !std::fs::read_to_string(format!("/proc/{p}/cmdline")).unwrap_or_default().contains("\0warden\0")
    })
}

#[tokio::test]
async fn a_terminal_that_was_closed_is_gone_after_a_restart_too() {
    let server = Server::start(&[]);
    let session = server.session().await;
    let mut page = server.page_at_prompt(&session.id, &session.token, "p").await;
    page.input(FIRST, "exit 3\n").await;
    page.until("the shell's end", |p, _| p.screen(FIRST).exited == Some(3)).await;
    page.say(&FromPage::Open { node: "node1".parse().unwrap(), request: 1 }).await;
    page.until("a new one", |p, _| p.state.terminals.len() == 2).await;
    page.say(&FromPage::Close { terminal: FIRST, anyway: true }).await;
    page.until("the old one gone", |p, _| p.state.terminals.len() == 1).await;
    server.kill();
    server.start_again();
    let shown = show(&server, &session).await.state.unwrap();
    assert_eq!(shown.terminals.iter().map(|t| t.id).collect::<Vec<_>>(), [TerminalId(2)]);
}
