//! The command line, as the real binary, against a server of this test.

use crate::harness::TestServer;
use drydock_protocol::api::{Host, Session, SessionLine};
use hyper::Method;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    process::{Output, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

async fn drydock(t: &TestServer, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_drydock"))
        .arg("--state-dir")
        .arg(t.dir.path())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that needs no input may have ended.
    drop(stdin.write_all(input.as_bytes()).await);
    drop(stdin);
    child.wait_with_output().await.unwrap()
}

/// Starts a command that is told to end before it has.
fn start(t: &TestServer, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
    command.arg("--state-dir").arg(t.dir.path()).args(args).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

async fn end_by(child: Child, signal: Signal) -> Option<i32> {
    kill(Pid::from_raw(child.id().unwrap() as i32), signal).unwrap();
    child.wait_with_output().await.unwrap().status.code()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_from_the_command_line() {
    let t = TestServer::start(&[]).await;
    let made = out(&drydock(
        &t,
        &["session", "create", "--playground", "linux", "--nodes", "3", "--ttl", "2h", "--json"],
        "",
    )
    .await);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["nodes"][2], serde_json::json!({ "name": "node3", "address": "10.0.0.3" }));
    assert!(made["url"].as_str().unwrap().starts_with(&format!("http://{}/s/", t.address)));
    assert!(made["ready_ms"].as_f64().unwrap() > 0.0);
    let id = made["id"].as_str().unwrap();

    let lines: Vec<SessionLine> =
        serde_json::from_str(&out(&drydock(&t, &["session", "list", "--json"], "").await)).unwrap();
    assert_eq!(lines[0].id.as_str(), id);
    let shown = out(&drydock(&t, &["session", "show", id], "").await);
    assert!(shown.contains("warden: clone namespaces") && shown.contains("node2"), "{shown}");
    // Nobody can see what a session of these tests uses.
    assert!(shown.contains("? MiB     ? processes"), "{shown}");
    assert!(out(&drydock(&t, &["session", "list"], "").await).contains(" ? MiB"));
    let extended: Session =
        serde_json::from_str(&out(
            &drydock(&t, &["session", "extend", id, "--by", "30m", "--json"], "").await
        ))
        .unwrap();
    assert_eq!(extended.expires_at - extended.created_at, 9000);
    out(&drydock(&t, &["session", "delete", id], "").await);
    // What has ended can still be shown, with the steps of its end.
    let shown = out(&drydock(&t, &["session", "show", id], "").await);
    assert!(shown.contains("The operator ended it.") && shown.contains("warden, end: kill"), "{shown}");
    let refused = drydock(&t, &["session", "show", "zzzzzzzzzz"], "").await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("There is no session zzzzzzzzzz"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_nodes() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let id = s.id.as_str();
    let ran = drydock(&t, &["exec", "-i", id, "node1", "--", "cat"], "over and back\n").await;
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(7), &b"over and back\n"[..]));
    let ran = drydock(&t, &["exec", "-t", "-e", "A=b=c", id, "node1", "--", "env"], "").await;
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(text.contains(r#"("A", "b=c")"#) && text.contains("cols: 80"), "{ran:?}");
    assert_eq!(ran.stderr, b"warned\n");
    let ran = drydock(&t, &["exec", id, "node1", "--", "nonsense"], "").await;
    assert_eq!(ran.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("no program of that name"));
    let ran = drydock(&t, &["exec", "-it", id, "node1"], "").await;
    assert!(String::from_utf8_lossy(&ran.stderr).contains("no terminal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let local = tempfile::tempdir().unwrap();
    let path = |name: &str| local.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("d")).unwrap();
    std::fs::write(path("d/one"), "1").unwrap();
    std::fs::write(path("d/two words"), "22").unwrap();
    let node = |p: &str| format!("{}:node1:{p}", s.id);
    let copied = out(&drydock(&t, &["cp", &path("d"), &node("/root"), "--json"], "").await);
    assert_eq!(copied.trim(), r#"{"files":2,"bytes":3}"#);
    assert_eq!(t.fake.state.lock().unwrap().sessions[&s.id].files["/root/d/two words"], b"22");

    out(&drydock(&t, &["cp", &node("/root/d"), &path("back")], "").await);
    assert_eq!(std::fs::read_to_string(path("back/two words")).unwrap(), "22");
    out(&drydock(&t, &["cp", &node("/root/d/one"), local.path().to_str().unwrap()], "").await);
    assert_eq!(std::fs::read_to_string(path("one")).unwrap(), "1");
    let refused = drydock(&t, &["cp", &node("/nothing"), &path("x")], "").await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("There is no /nothing"));
    assert!(!std::path::Path::new(&path("x")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cannot_name_a_file_out_of_the_directory() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    t.fake
        .state
        .lock()
        .unwrap()
        .sessions
        .get_mut(&s.id)
        .unwrap()
        .files
        .insert("/evil/..".into(), b"x".to_vec());
    let local = tempfile::tempdir().unwrap();
    let to = local.path().join("in");
    let refused = drydock(&t, &["cp", &format!("{}:node1:/evil", s.id), to.to_str().unwrap()], "").await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is no name"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_one_is_told_how_to_start_it() {
    let mut t = TestServer::start(&[]).await;
    t.server.take().unwrap().finish().await;
    let refused = drydock(&t, &["session", "list"], "").await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("drydock serve --state-dir"));
}

fn err(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_written_into_and_dash_is_standard_input_and_output() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let file = format!("{}:node1:/root/x", s.id);
    out(&drydock(&t, &["cp", "-", &file], "from a pipe").await);
    assert_eq!(out(&drydock(&t, &["cp", &file, "-"], "").await), "from a pipe");
    let local = tempfile::tempdir().unwrap();
    let pipe = local.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let read = tokio::spawn(tokio::fs::read(pipe.clone()));
    out(&drydock(&t, &["cp", &file, pipe.to_str().unwrap()], "").await);
    assert_eq!(read.await.unwrap().unwrap(), b"from a pipe");
    assert_eq!(std::fs::read_dir(local.path()).unwrap().count(), 1);
    let folder = format!("{}:node1:/root", s.id);
    assert!(err(&drydock(&t, &["cp", &folder, "-"], "").await, 1).contains("pack it with tar"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_name_cannot_be_told_is_left_out_and_the_others_are_copied() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let put = |name: &str| {
        let mut state = t.fake.state.lock().unwrap();
        state.sessions.get_mut(&s.id).unwrap().files.insert(format!("/d/{name}"), b"x".to_vec());
    };
    put("a\u{fffd}b");
    put("c");
    let to = tempfile::tempdir().unwrap();
    let to = to.path().join("d");
    let copied = drydock(&t, &["cp", &format!("{}:node1:/d", s.id), to.to_str().unwrap()], "").await;
    let said = err(&copied, 1);
    assert!(said.contains("left out: /d/a") && said.contains("1 file was left out"), "{said}");
    assert_eq!(std::fs::read(to.join("c")).unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_that_can_be_deleted_is() {
    let t = TestServer::start(&[]).await;
    let (a, b) = (t.create().await, t.create().await);
    let ids = [a.id.as_str(), "zzzzzzzzzz", "no-id", b.id.as_str()];
    let deleted = drydock(&t, &[&["session", "delete", "--json"], &ids[..]].concat(), "").await;
    let said: serde_json::Value = serde_json::from_str(&err(&deleted, 1)).unwrap();
    let said = said["error"]["message"].as_str().unwrap();
    assert!(said.contains("zzzzzzzzzz: ") && said.contains("no-id: "), "{said}");
    let told: serde_json::Value = serde_json::from_slice(&deleted.stdout).unwrap();
    assert_eq!(told["deleted"], serde_json::json!([a.id, b.id]));
    assert_eq!(told["failed"][0]["id"], "zzzzzzzzzz");
    assert!(t.fake.state.lock().unwrap().sessions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_to_a_reader_who_has_gone() {
    let t = TestServer::start(&[]).await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = Command::new(env!("CARGO_BIN_EXE_drydock"))
        .args(["session", "list", "--state-dir"])
        .arg(t.dir.path())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(err(&ended.wait_with_output().await.unwrap(), 141), "");
}

#[tokio::test]
async fn the_help_names_no_command_that_is_not_for_people() {
    let program = env!("CARGO_BIN_EXE_drydock");
    let said = Command::new(program).output().await.unwrap();
    let help = err(&said, 2);
    assert!(help.contains("serve") && !help.contains("warden"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_queue_gives_the_place_up() {
    let t = TestServer::start(&["--max-sessions", "1"]).await;
    t.create().await;
    let queued = async || t.call(Method::GET, "/host", None, None).await.json::<Host>().queued;
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut waiting = start(&t, &["session", "create"]);
        let said = BufReader::new(waiting.stderr.take().unwrap()).lines().next_line().await.unwrap().unwrap();
        assert!(said.contains("place 1 in the queue"), "{said}");
        assert_eq!(queued().await, 1);
        assert_eq!(end_by(waiting, signal).await, Some(status));
        assert_eq!(queued().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_told_to_end_leaves_nothing() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let big = vec![7; 20 << 20];
    t.fake.state.lock().unwrap().sessions.get_mut(&s.id).unwrap().files.insert("/root/big".into(), big);
    let local = tempfile::tempdir().unwrap();
    let names =
        || std::fs::read_dir(local.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let from = format!("{}:node1:/root/big", s.id);
        let copying = start(&t, &["cp", &from, local.path().to_str().unwrap()]);
        until("it has begun", async || !names().is_empty()).await;
        assert_eq!(end_by(copying, signal).await, Some(status));
        assert!(names().is_empty(), "{:?}", names());
    }
}

/// What starts it again by itself (docs/operating.md) must know that this mends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_value_has_a_status_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in
        ["--default-ttl=0", "--max-sessions=0", "--session-memory=1KiB", "--cpu-overcommit=nan", "--listen=x"]
    {
        let started = Command::new(env!("CARGO_BIN_EXE_drydock"))
            .arg("--state-dir")
            .arg(dir.path())
            .args(["serve", wrong])
            .output()
            .await
            .unwrap();
        let option = wrong.split('=').next().unwrap();
        assert!(err(&started, 2).contains(option));
    }
}
