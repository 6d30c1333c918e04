//! The session process as serve sees it, over its socket.

mod world;

use drydock_protocol::{
    TerminalId,
    control::{FromPage, ToPage},
    frame::{ClientFrame, Size, WINDOW},
    pipe::{BINARY, Control, ErrorKind, FileOp, NodeCall, Open, Reply, TEXT, exec},
    state::{Power, Role, SessionState},
};
use drydock_runtime::messages::FromSpawner;
use drydock_session::Options;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};
use world::{Connection, Event, Page, World, node};

const FIRST: TerminalId = TerminalId(1);

fn key(terminal: TerminalId, seq: u32, text: &str) -> Vec<u8> {
    ClientFrame::Input { terminal, seq, bytes: text.as_bytes() }.encode()
}

fn attached(world: &World, role: Role, client: &str) -> Page {
    let mut page = world.page(role, client);
    assert!(matches!(world.ask(Control::Ready), Reply::Ready { .. }));
    page.send(&FromPage::Attach { terminal: FIRST, from: None });
    page.until(|_, event| matches!(event, Event::Snapshot(_)));
    page
}

fn ack(page: &mut Page) {
    let offset = page.at;
    page.send_frame(&ClientFrame::Ack { terminal: FIRST, offset });
}

fn state(world: &World) -> SessionState {
    match world.ask(Control::State) {
        Reply::State { state, .. } => state,
        other => panic!("{other:?}"),
    }
}

fn kind(reply: &Reply) -> Option<ErrorKind> {
    match reply {
        Reply::Error { kind, .. } => Some(*kind),
        _ => None,
    }
}

#[test]
fn the_prompt_is_there_before_anybody_looks() {
    let world = World::new();
    let Reply::Ready { trace } = world.ask(Control::Ready) else { panic!() };
    assert!(trace.iter().any(|s| s.name == "shell prompt"), "{trace:?}");
    let mut page = world.page(Role::Own, "a");
    let Event::Message(ToPage::Hello { role: Role::Own, input_seq: 0, .. }) = page.next() else { panic!() };
    let Event::Message(ToPage::State { state }) = page.next() else { panic!() };
    assert_eq!((state.nodes.len(), state.nodes[0].power, state.terminals.len()), (1, Power::On, 1));
    assert_eq!(state.nodes[0].address, "192.168.0.11");
    page.send(&FromPage::Attach { terminal: FIRST, from: None });
    let Event::Snapshot(bytes) = page.until(|_, e| matches!(e, Event::Snapshot(_))) else { panic!() };
    assert!(String::from_utf8_lossy(&bytes).contains("ready$"));
    // Figures come while somebody looks.
    page.until_message(|m| matches!(m, ToPage::State { state } if state.nodes[0].usage.is_some_and(|u| u.memory == 4_000_000)));
    world.end().unwrap();
}

#[test]
fn keys_are_taken_once_across_reconnects_and_output_goes_on_where_it_stopped() {
    let world = World::new();
    let mut page = attached(&world, Role::Type, "laptop");
    page.connection.binary(&key(FIRST, 1, "echo a$((1+1))b\n"));
    page.connection.binary(&key(FIRST, 1, "echo twice\n"));
    page.until_seen("a2b\r\n");
    let (at, seen) = (page.at, page.seen.clone());
    drop(page);
    let mut page = world.page(Role::Type, "laptop");
    let Event::Message(ToPage::Hello { input_seq: 1, .. }) = page.next() else { panic!() };
    (page.at, page.seen) = (at, seen);
    page.send(&FromPage::Attach { terminal: FIRST, from: Some(at) });
    page.connection.binary(&key(FIRST, 1, "echo twice\n"));
    page.connection.binary(&key(FIRST, 2, "echo c$((2+2))d\n"));
    page.until_seen("c4d\r\n");
    assert!(!String::from_utf8_lossy(&page.seen).contains("twice"));
    assert_eq!(state(&world).viewers.len(), 1);
}

#[test]
fn a_viewing_page_looks_and_nothing_else() {
    let world = World::new();
    let mut viewer = attached(&world, Role::View, "beamer");
    viewer.connection.binary(&key(FIRST, 1, "echo forbidden\n"));
    viewer.send(&FromPage::Open { node: node(1), request: 9 });
    viewer.until_message(|m| matches!(m, ToPage::Notice { request: Some(9), .. }));
    viewer.send(&FromPage::Close { terminal: FIRST, anyway: true });
    viewer.until_message(|m| matches!(m, ToPage::Notice { request: None, .. }));
    let mut writer = attached(&world, Role::Type, "laptop");
    writer.send(&FromPage::Power { node: node(1), on: false });
    writer.until_message(|m| matches!(m, ToPage::Notice { .. }));
    writer.connection.binary(&key(FIRST, 1, "echo allowe''d\n"));
    viewer.until_seen("allowed\r\n");
    assert!(!String::from_utf8_lossy(&viewer.seen).contains("forbidden"));
}

#[test]
fn a_terminal_in_which_something_runs_is_not_closed_at_once() {
    let world = World::new();
    let mut page = attached(&world, Role::Type, "laptop");
    let program = |page: &mut Page| {
        page.send(&FromPage::Close { terminal: FIRST, anyway: false });
        let ToPage::Busy { program, .. } = page.until_message(|m| matches!(m, ToPage::Busy { .. })) else {
            panic!()
        };
        program
    };
    page.connection.binary(&key(FIRST, 1, "sh -c 'echo beg\"\"un; exec sleep 1000'\n"));
    page.until_seen("begun\r\n");
    while program(&mut page) != "sleep" {}
    page.connection.binary(&key(FIRST, 2, "\u{3}"));
    page.connection.binary(&key(FIRST, 3, "sleep 1000 & echo in the back''ground\n"));
    page.until_seen("background\r\n");
    // A child on its way to its program.
    while program(&mut page) != "sleep" {}
    page.connection.binary(&key(FIRST, 4, "kill %1; wait; echo al''one\n"));
    page.until_seen("alone\r\n");
    page.send(&FromPage::Close { terminal: FIRST, anyway: false });
    page.until_message(|m| matches!(m, ToPage::State { state } if state.terminals.is_empty()));
}

#[test]
fn terminals_open_get_sizes_and_titles_exit_and_close() {
    let world = World::new();
    let mut page = attached(&world, Role::Own, "laptop");
    page.send(&FromPage::Open { node: node(1), request: 5 });
    let ToPage::Opened { terminal, .. } =
        page.until_message(|m| matches!(m, ToPage::Opened { request: 5, .. }))
    else {
        panic!()
    };
    page.send(&FromPage::Detach { terminal: FIRST });
    page.send(&FromPage::Attach { terminal, from: None });
    page.send_frame(&ClientFrame::Resize { terminal, room: Some(Size { cols: 101, rows: 33 }) });
    page.until(|page, _| page.size == Some(Size { cols: 101, rows: 33 }));
    page.connection.binary(&key(terminal, 1, "stty size; printf '\\033]0;my title\\007'\n"));
    page.until_seen("33 101\r\n");
    page.until_message(|m| matches!(m, ToPage::State { state } if state.terminals[1].title == "my title"));
    page.connection.binary(&key(terminal, 2, "echo la''st; exit 5\n"));
    assert!(matches!(page.until(|_, e| matches!(e, Event::Exit(_))), Event::Exit(5)));
    page.until_seen("last\r\n");
    assert_eq!(state(&world).terminals[1].exited, Some(5));
    assert_eq!(world.ask(Control::CloseTerminal { terminal }), Reply::Done);
    assert_eq!(kind(&world.ask(Control::CloseTerminal { terminal })), Some(ErrorKind::NotFound));
    // A close ends the processes.
    let Reply::Terminal { terminal } = world.ask(Control::OpenTerminal { node: node(1) }) else { panic!() };
    page.send(&FromPage::Attach { terminal, from: None });
    page.connection.binary(&key(terminal, 3, "echo pid=$$=\n"));
    let pid = loop {
        let text = String::from_utf8_lossy(&page.seen).into_owned();
        if let Some(pid) = text.rsplit("pid=").find_map(|t| t.split('=').next()?.parse::<u32>().ok()) {
            break pid;
        }
        page.next();
    };
    page.send(&FromPage::Close { terminal, anyway: true });
    let since = Instant::now();
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(since.elapsed() < Duration::from_secs(10), "{pid} lives on");
        std::thread::yield_now();
    }
}

#[test]
fn too_many_terminals_are_refused() {
    let world = World::new();
    assert!(matches!(world.ask(Control::Ready), Reply::Ready { .. }));
    for _ in 1..32 {
        assert!(matches!(world.ask(Control::OpenTerminal { node: node(1) }), Reply::Terminal { .. }));
    }
    assert_eq!(kind(&world.ask(Control::OpenTerminal { node: node(1) })), Some(ErrorKind::Limit));
    assert_eq!(kind(&world.ask(Control::OpenTerminal { node: node(4) })), Some(ErrorKind::NotFound));
}

#[test]
fn a_flood_is_held_by_its_page_comes_whole_and_stops_at_ctrl_c() {
    let world = World::new();
    let mut page = attached(&world, Role::Type, "laptop");
    let total = 64_000_000u64;
    page.connection.binary(&key(FIRST, 1, &format!("yes 0123456789abcde | head -c {total}; echo e''nd\n")));
    let start = page.at;
    // Unacknowledged, it stops after the window, or when what is left of that is no frame's worth.
    while page.at - start < WINDOW - 64 * 1024 {
        page.next();
    }
    assert!(page.at - start <= WINDOW);
    // As a page does that has caught up.
    ack(&mut page);
    let (since, mut last) = (Instant::now(), page.at);
    while !String::from_utf8_lossy(&page.seen[page.seen.len().saturating_sub(40)..]).contains("\nend\r\n") {
        if page.at - last >= 16 * 1024 || page.at - start >= WINDOW {
            ack(&mut page);
            last = page.at;
        }
        page.next();
        if page.seen.len() > 1_000_000 {
            page.seen.drain(..900_000);
        }
    }
    let got = page.at - start;
    println!(
        "{:.0} MB/s through pty, session and socket (unoptimised build)",
        got as f64 / 1e6 / since.elapsed().as_secs_f64()
    );
    assert!(got > total, "{got}");
    // A flood without end, a viewer that never acknowledges, and Ctrl-C.
    let mut reader = attached(&world, Role::View, "slow");
    page.connection.binary(&key(FIRST, 2, "yes\n"));
    let start = page.at;
    while page.at - start < 2_000_000 {
        page.next();
        ack(&mut page);
    }
    page.connection.binary(&key(FIRST, 3, "\x03"));
    let since = Instant::now();
    while !page.seen.ends_with(b"ready$ ") {
        page.next();
        ack(&mut page);
    }
    assert!(since.elapsed() < Duration::from_secs(5));
    // The slow reader saw all up to its window, then the screen as it is.
    reader.until(|_, event| matches!(event, Event::Snapshot(_)));
    reader.until_seen("ready$");
}

#[test]
fn a_paste_that_nobody_reads_holds_its_page_and_nobody_else() {
    let world = World::new();
    let mut page = attached(&world, Role::Type, "paster");
    page.connection.binary(&key(FIRST, 1, "stty raw -echo; echo s''tarted; exec sleep 1000\n"));
    page.until_seen("started");
    page.connection.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    for seq in 2..200 {
        if page.connection.frame(BINARY, &key(FIRST, seq, &"x".repeat(60_000))).is_err() {
            break;
        }
        sent += 60_000;
    }
    assert!(sent < 4_000_000, "{sent} bytes were taken");
    let mut other = attached(&world, Role::Type, "other");
    let Reply::Terminal { terminal } = world.ask(Control::OpenTerminal { node: node(1) }) else { panic!() };
    other.send(&FromPage::Attach { terminal, from: None });
    other.connection.binary(&key(terminal, 1, "echo o''k\n"));
    other.until_seen("ok\r\n");
    // Its page's going away is noticed although it is not read.
    drop(page);
    other.until_message(|m| matches!(m, ToPage::State { state } if state.viewers.len() == 1));
}

#[test]
fn nodes_are_switched_rebooted_and_removed() {
    let world = World::new();
    let mut page = attached(&world, Role::Own, "laptop");
    page.send(&FromPage::Power { node: node(1), on: false });
    assert!(matches!(page.until(|_, e| matches!(e, Event::Exit(_))), Event::Exit(137)));
    assert_eq!(world.ask(Control::Power { node: node(1), on: false }), Reply::Done);
    assert_eq!(state(&world).nodes[0].power, Power::Off);
    assert_eq!(kind(&world.ask(Control::OpenTerminal { node: node(1) })), Some(ErrorKind::Conflict));
    assert_eq!(world.ask(Control::Power { node: node(1), on: true }), Reply::Done);
    assert!(matches!(world.ask(Control::OpenTerminal { node: node(1) }), Reply::Terminal { .. }));
    world.say(&FromSpawner::Down { node: node(1), reboot: true });
    assert_eq!(world.ask(Control::AwaitNode { node: node(1) }), Reply::Done);
    world.say(&FromSpawner::Added(node(2)));
    world.say(&FromSpawner::Failed { node: node(2), message: "no luck".into() });
    let Reply::Error { message, .. } = world.ask(Control::AwaitNode { node: node(2) }) else { panic!() };
    assert_eq!(message, "The node node2 could not be started: no luck.");
    assert_eq!(world.ask(Control::RemoveNode { node: node(1) }), Reply::Done);
    assert_eq!(world.ask(Control::RemoveNode { node: node(2) }), Reply::Done);
    assert_eq!(state(&world).nodes.len() + state(&world).terminals.len(), 0);
    assert_eq!(kind(&world.ask(Control::Power { node: node(1), on: true })), Some(ErrorKind::NotFound));
}

fn run(world: &World, script: &str, tty: Option<Size>) -> Connection {
    let argv = vec!["sh".into(), "-c".into(), script.into()];
    world.open(&Open::Exec { node: node(1), argv, env: vec![("WORD".into(), "hi".into())], cwd: None, tty })
}

/// Standard output, standard error, last word.
fn outcome(connection: &mut Connection) -> (Vec<u8>, Vec<u8>, Reply) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        let (tag, payload) = connection.read().expect("a last word");
        match (tag, payload.split_first()) {
            (TEXT, _) => return (out, err, serde_json::from_slice(&payload).unwrap()),
            (_, Some((&exec::STDOUT, bytes))) => out.extend(bytes),
            (_, Some((&exec::STDERR, bytes))) => err.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn commands_get_input_and_give_output_and_status() {
    let world = World::new();
    assert!(matches!(world.ask(Control::Ready), Reply::Ready { .. }));
    let mut connection = run(&world, "cat; echo $WORD >&2; exit 3", None);
    let input: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut sender = Connection(connection.0.try_clone().unwrap());
    let sent = input.clone();
    let sender = std::thread::spawn(move || {
        for piece in sent.chunks(50_000) {
            sender.binary(&[&[exec::STDIN], piece].concat());
        }
        sender.binary(&[exec::STDIN_END]);
    });
    let (out, err, last) = outcome(&mut connection);
    sender.join().unwrap();
    assert!(out == input);
    assert_eq!((err.as_slice(), last), (b"hi\n".as_slice(), Reply::Exit { status: 3 }));
    // All output comes before the status, though others hold the pipe open.
    let mut connection = run(&world, "sleep 100 & echo $! >&2; head -c 3000000 /dev/zero", None);
    let (out, err, last) = outcome(&mut connection);
    let holder = Pid::from_raw(String::from_utf8(err).unwrap().trim().parse().unwrap());
    kill(holder, Signal::SIGKILL).unwrap();
    assert_eq!((out.len(), last), (3_000_000, Reply::Exit { status: 0 }));
    let none = Open::Exec { node: node(1), argv: vec!["no-such".into()], env: vec![], cwd: None, tty: None };
    assert_eq!(kind(&world.open(&none).reply()), Some(ErrorKind::NotFound));
}

#[test]
fn commands_get_signals_and_terminals() {
    let world = World::new();
    assert!(matches!(world.ask(Control::Ready), Reply::Ready { .. }));
    let mut connection = run(&world, "exec sleep 100", None);
    connection.binary(&[exec::SIGNAL, 15]);
    assert_eq!(outcome(&mut connection).2, Reply::Exit { status: 143 });
    let mut connection =
        run(&world, "stty -echo; echo go; read x; stty size; cat", Some(Size { cols: 70, rows: 20 }));
    assert_eq!(connection.read().unwrap().1, b"\x01go\r\n");
    connection.binary(&[exec::RESIZE, 0, 90, 0, 30]);
    connection.binary(&[&[exec::STDIN], &b"\n"[..]].concat());
    connection.binary(&[exec::STDIN_END]);
    let (out, _, last) = outcome(&mut connection);
    assert_eq!((out.as_slice(), last), (b"30 90\r\n".as_slice(), Reply::Exit { status: 0 }));
    // A command whose asker is gone is hung up.
    let marker = format!("drydock-hangup-{}", std::process::id());
    let connection = run(&world, &format!("echo $$ > /tmp/{marker}; exec sleep 1000"), None);
    let path = format!("/tmp/{marker}");
    let pid = loop {
        if let Ok(pid) = std::fs::read_to_string(&path).unwrap_or_default().trim().parse::<u32>() {
            break pid;
        }
        std::thread::yield_now();
    };
    std::fs::remove_file(path).unwrap();
    drop(connection);
    let since = Instant::now();
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(since.elapsed() < Duration::from_secs(10), "{pid} lives on");
        std::thread::yield_now();
    }
}

#[test]
fn files_are_worked_on_in_the_node() {
    let world = World::new();
    assert!(matches!(world.ask(Control::Ready), Reply::Ready { .. }));
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("a").to_str().unwrap().to_string();
    let op = FileOp::Write {
        path: path.clone(),
        mode: 0o600,
        unless_changed_since_micros: None,
        only_new: false,
        modified_micros: None,
    };
    let mut connection = world.open(&Open::File { node: node(1), op });
    connection.binary(b"content");
    connection.text(b"");
    assert!(matches!(connection.reply(), Reply::File { entry } if entry.size == 7));
    let mut connection = world.open(&Open::File { node: node(1), op: FileOp::Read { path, limit: None } });
    assert!(matches!(connection.reply(), Reply::File { entry } if entry.size == 7));
    assert_eq!(connection.read().unwrap().1, b"content");
    assert_eq!(connection.reply(), Reply::Done);
    let op = FileOp::List { path: "/".repeat(5000) };
    assert_eq!(kind(&world.open(&Open::File { node: node(1), op }).reply()), Some(ErrorKind::Invalid));
    let op = FileOp::List { path: "/".into() };
    assert_eq!(kind(&world.open(&Open::File { node: node(7), op }).reply()), Some(ErrorKind::NotFound));
    let Reply::State { idle_micros, .. } = world.ask(Control::State) else { panic!() };
    assert!(idle_micros < 20_000_000);
}

/// Runs [`in_a_network_of_its_own`] where the node's address is this machine's.
#[test]
fn ports_and_names_in_a_network_of_its_own() {
    let script = "ip link set lo up && ip addr add 192.168.0.1/24 dev lo && ip addr add 192.168.0.11/24 dev lo && \
                  exec \"$0\" --exact in_a_network_of_its_own --ignored";
    let this = std::env::current_exe().unwrap();
    let status = Command::new("unshare").args(["-rn", "sh", "-c", script]).arg(this).status().unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "run by the test above, in a network namespace"]
fn in_a_network_of_its_own() {
    let world = World::with(Options::default());
    assert!(matches!(world.ask(Control::Ready), Reply::Ready { .. }));
    let server = TcpListener::bind("192.168.0.11:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut connection = world.open(&Open::Tcp { node: node(1), port });
    assert_eq!(connection.reply(), Reply::Done);
    let (mut served, _) = server.accept().unwrap();
    connection.0.write_all(b"GET").unwrap();
    connection.0.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    served.read_to_end(&mut got).unwrap();
    served.write_all(b"still open this way").unwrap();
    drop(served);
    let mut back = Vec::new();
    connection.0.read_to_end(&mut back).unwrap();
    assert_eq!((got.as_slice(), back.as_slice()), (b"GET".as_slice(), b"still open this way".as_slice()));
    drop(server);
    assert_eq!(kind(&world.open(&Open::Tcp { node: node(1), port }).reply()), Some(ErrorKind::Conflict));
    // node1, A, IN.
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x05node1\0\0\x01\0\x01";
    let socket = UdpSocket::bind("192.168.0.11:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(question, "192.168.0.1:53").unwrap();
    let mut answer = [0; 512];
    let (len, _) = socket.recv_from(&mut answer).unwrap();
    assert!(answer[..len].ends_with(&[192, 168, 0, 11]));
    let mut tcp = std::net::TcpStream::connect("192.168.0.1:53").unwrap();
    tcp.write_all(&[&(question.len() as u16).to_be_bytes()[..], question].concat()).unwrap();
    let mut answer = vec![0; 2 + len];
    tcp.read_exact(&mut answer).unwrap();
    assert!(answer.ends_with(&[192, 168, 0, 11]));
    a_node_reaches_the_registry(&world);
}

fn a_node_reaches_the_registry(world: &World) {
    let registry = "192.168.0.1:5000";
    // Nobody serves it yet: closed at once.
    let mut nobody = std::net::TcpStream::connect(registry).unwrap();
    assert_eq!(nobody.read(&mut [0]).unwrap(), 0);
    let mut bell = world.open(&Open::Services);
    // The session has read what the connection is for when it has answered a later one.
    assert!(matches!(world.ask(Control::State), Reply::State { .. }));
    let mut client = std::net::TcpStream::connect(registry).unwrap();
    client.write_all(b"hello").unwrap();
    let call: NodeCall = serde_json::from_slice(&bell.read().unwrap().1).unwrap();
    assert_eq!(call.from.to_string(), "192.168.0.1");
    let mut taken = world.open(&Open::Take { call: call.call });
    assert_eq!(taken.reply(), Reply::Done);
    let mut got = [0; 5];
    taken.0.read_exact(&mut got).unwrap();
    taken.0.write_all(b"there").unwrap();
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"there");
    // Once only.
    assert_eq!(kind(&world.open(&Open::Take { call: call.call }).reply()), Some(ErrorKind::Invalid));
}
