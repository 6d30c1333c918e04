//! The command line: what it prints, what it carries, what it refuses, and with which exit status.

use drydock_e2e::{Server, until};
use drydock_protocol::api::{Created, Host, Session, SessionLine, Status};
use hyper::Method;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    process::Stdio,
    time::UNIX_EPOCH,
};

async fn created(server: &Server) -> Created {
    server.cli(&["session", "create", "--json"]).await.json()
}

#[tokio::test]
async fn create_prints_the_promised_json() {
    let server = Server::shared();
    let output = server
        .cli(&["session", "create", "--playground", "linux", "--nodes", "3", "--ttl", "90m", "--json"])
        .await;
    let json: Value = output.json();
    let id = json["id"].as_str().unwrap();
    assert!(id.len() == 10 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{id}");
    assert!(json["url"].as_str().unwrap().starts_with(&format!("{}/s/{id}#t=", server.url())), "{json}");
    assert!(json["ready_ms"].as_f64().unwrap() > 0.0, "{json}");
    let nodes: Vec<(&str, &str)> = json["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| (n["name"].as_str().unwrap(), n["address"].as_str().unwrap()))
        .collect();
    assert_eq!(nodes, [("node1", "192.168.0.11"), ("node2", "192.168.0.12"), ("node3", "192.168.0.13")]);
    assert!(output.stderr.is_empty(), "{}", output.stderr);

    // The nodes are what was said, and know each other by name.
    for (name, address) in nodes {
        let told = server
            .exec(
                id,
                "node1",
                &format!("getent hosts {name}; ping -c1 -W2 {name} >/dev/null && echo answers"),
            )
            .await;
        assert!(told.ok().text().contains(address) && told.text().contains("answers"), "{}", told.text());
        let output = server.exec(id, name, "hostname").await;
        assert_eq!(output.text().trim(), name);
    }
}

#[tokio::test]
async fn list_show_extend_delete() {
    let server = Server::shared();
    let session = created(&server).await;
    let id = session.id.as_str();
    let list: Vec<SessionLine> = server.cli(&["session", "list", "--json"]).await.json();
    let line = list.iter().find(|l| l.id == session.id).expect("it is in the list");
    assert_eq!((line.status, line.nodes, line.expires_at), (Status::Running, 1, session.expires_at));
    assert!(server.cli(&["session", "list"]).await.ok().text().contains(id));

    let shown: Session = server.cli(&["session", "show", id, "--json"]).await.json();
    assert_eq!(shown.status, Status::Running);
    assert_eq!(shown.state.expect("it runs").nodes.len(), 1);
    for step in ["warden: record", "session: shell prompt"] {
        assert!(shown.trace.iter().any(|s| s.name == step), "no step '{step}' in {:?}", shown.trace);
    }
    let text = server.cli(&["session", "show", id]).await.ok().text();
    assert!(text.contains("limits: 2 CPUs, 1024 MiB of memory"), "{text}");
    assert!(text.contains("running") && text.contains("node1") && text.contains("took ms"), "{text}");
    // Nobody views it, and it is told all the same what it uses.
    assert!(!text.contains(" 0 processes") && !text.contains('?'), "{text}");
    let used = line.usage.expect("figures");
    assert!(used.memory > 0 && used.processes >= 3, "{used:?}");

    let longer: Session = server.cli(&["session", "extend", id, "--by", "30m", "--json"]).await.json();
    assert_eq!(longer.expires_at, session.expires_at + 1800);
    server
        .cli(&["session", "extend", id, "--by", "100h"])
        .await
        .refused(1, &["can be extended by", "not by 360000"]);

    server.cli(&["session", "delete", id]).await.ok();
    let list: Vec<SessionLine> = server.cli(&["session", "list", "--json"]).await.json();
    assert!(list.iter().all(|l| l.id != session.id));
    let shown: Session = server.cli(&["session", "show", id, "--json"]).await.json();
    assert_eq!(
        (shown.status, shown.ended_because.as_deref()),
        (Status::Ended, Some("The operator ended it."))
    );
    server.cli(&["session", "delete", id]).await.refused(1, &["This session is over"]);
    server.cli(&["exec", id, "node1", "--", "true"]).await.refused(125, &["This session is over"]);
}

#[tokio::test]
async fn create_does_not_wait_if_it_is_told_so() {
    let server = Server::start(&["--max-sessions", "1"]);
    created(&server).await;
    server.cli(&["session", "create", "--no-wait"]).await.refused(1, &["The host is full", "place 1"]);
    // It holds no place in the queue.
    let host: Host = server.call(Method::GET, "/host", None, None).await.json();
    assert_eq!((host.running, host.queued), (1, 0));
}

#[tokio::test]
async fn exec_gives_the_commands_exit_status() {
    let server = Server::shared();
    let id = created(&server).await.id;
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        assert_eq!(server.exec(&id, "node1", script).await.code(), code, "{script}");
    }
    assert_eq!(server.cli(&["exec", id.as_str(), "node1", "--", "/etc/passwd"]).await.code(), 126);
    let output = server.cli(&["exec", id.as_str(), "node1", "--", "no-such-program"]).await;
    assert_eq!((output.code(), output.stderr.contains("no-such-program")), (127, true), "{output:?}");

    let output = server.exec(&id, "node1", "echo out; echo err >&2; id -u; pwd").await;
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("out\n0\n/root\n", "err\n"));
    let args = [
        "exec",
        "-e",
        "FRUIT=a b",
        "-w",
        "/usr/lib",
        id.as_str(),
        "node1",
        "--",
        "sh",
        "-c",
        "echo $FRUIT; pwd",
    ];
    assert_eq!(server.cli(&args).await.ok().text(), "a b\n/usr/lib\n");
    let output = server.cli(&["exec", "-t", id.as_str(), "node1", "--", "sh", "-c", "tty; stty size"]).await;
    assert!(
        output.ok().text().starts_with("/dev/pts/") && output.text().contains("24 80"),
        "{}",
        output.text()
    );
}

#[tokio::test]
async fn exec_carries_its_input() {
    let server = Server::shared();
    let id = created(&server).await.id;
    let input: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let sum = hex(&Sha256::digest(&input));
    let output =
        server.cli_with_input(&["exec", "-i", id.as_str(), "node1", "--", "sha256sum"], Some(input)).await;
    assert_eq!(output.ok().text().split_whitespace().next(), Some(sum.as_str()));

    // Without -i a command sees the end of its input at once.
    let output =
        server.cli_with_input(&["exec", id.as_str(), "node1", "--", "cat"], Some(b"unread".into())).await;
    assert_eq!(output.ok().text(), "");
}

#[tokio::test]
async fn twenty_megabytes_arrive_whole() {
    let server = Server::shared();
    let id = created(&server).await.id;
    let script = "head -c 20000000 /dev/urandom > f; sha256sum < f >&2; cat f";
    let output = server.exec(&id, "node1", script).await;
    assert_eq!(output.ok().stdout.len(), 20_000_000);
    assert_eq!(output.stderr.split_whitespace().next(), Some(hex(&Sha256::digest(&output.stdout)).as_str()));
}

#[tokio::test]
async fn a_command_that_prints_what_it_reads_gets_and_gives_all_of_it() {
    let server = Server::shared();
    let id = created(&server).await.id;
    let input: Vec<u8> = (0..20_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let output =
        server.cli_with_input(&["exec", "-i", id.as_str(), "node1", "--", "cat"], Some(input.clone())).await;
    assert!(output.ok().stdout == input);
}

#[tokio::test]
async fn exec_of_a_command_that_reads_nothing_ends_by_a_signal() {
    let server = Server::shared();
    let id = created(&server).await.id;
    let mut child = server
        .command([
            "exec",
            "-i",
            id.as_str(),
            "node1",
            "--",
            "sh",
            "-c",
            "trap '' TERM; echo ready; exec sleep 1000",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let mut stdin = child.stdin.take().unwrap();
    // Until nothing more goes in: then not even a signal does, and the client ends.
    let writer = std::thread::spawn(move || while stdin.write_all(&[0; 65536]).is_ok() {});
    let process = Pid::from_raw(child.id().cast_signed());
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(tokio::time::Instant::now() < end, "it hears no signal");
        kill(process, Signal::SIGTERM).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    writer.join().unwrap();
}

#[tokio::test]
async fn exec_passes_signals_on() {
    let server = Server::shared();
    let id = created(&server).await.id;
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut child = server
        .command(["exec", id.as_str(), "node1", "--", "bash", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\ncaught\n");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[tokio::test]
async fn a_command_ends_when_its_exec_is_killed() {
    let server = Server::shared();
    let id = created(&server).await.id;
    let mut child =
        server.command(["exec", "-i", id.as_str(), "node1", "--", "sh", "-c", "echo up; exec cat"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    until("cat is gone", async || server.exec(&id, "node1", "pgrep -x cat").await.code() == 1).await;
}

#[tokio::test]
async fn what_a_command_leaves_running_goes_on() {
    let server = Server::shared();
    let id = created(&server).await.id;
    for _ in 0..5 {
        let pid =
            server.exec(&id, "node1", "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!").await.ok().text();
        // The answer to the next command comes behind whatever the end of the last one sets off.
        assert_eq!(
            server.exec(&id, "node1", &format!("cat /proc/{}/comm", pid.trim())).await.ok().text(),
            "sleep\n"
        );
    }
}

#[tokio::test]
async fn cp_copies_files_and_directories_both_ways() {
    let server = Server::shared();
    let id = created(&server).await.id;
    let here = server.scratch();
    let path = |name: &str| here.path().join(name).to_string_lossy().into_owned();
    let there = |path: &str| format!("{id}:node1:{path}");

    fs::write(path("tool.sh"), "#!/bin/sh\necho I run\n").unwrap();
    fs::set_permissions(path("tool.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = server.cli(&["cp", &path("tool.sh"), &there("/root/"), "--json"]).await;
    assert_eq!(output.json::<Value>(), serde_json::json!({ "files": 1, "bytes": 21 }));
    assert_eq!(
        server.exec(&id, "node1", "/root/tool.sh; stat -c '%a %U' tool.sh").await.ok().text(),
        "I run\n755 root\n"
    );
    server.cli(&["cp", &there("/root/tool.sh"), &path("back.sh")]).await.ok();
    assert_eq!(fs::read(path("back.sh")).unwrap(), fs::read(path("tool.sh")).unwrap());
    let looks = |name: &str| {
        let told = fs::metadata(path(name)).unwrap();
        (
            told.permissions().mode() & 0o7777,
            told.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_micros(),
        )
    };
    assert_eq!(looks("back.sh"), looks("tool.sh"));

    let big: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
    fs::create_dir_all(path("tree/deep/er")).unwrap();
    fs::write(path("tree/deep/er/big"), &big).unwrap();
    fs::write(path("tree/with space ü.txt"), "hello").unwrap();
    fs::write(path("tree/empty"), "").unwrap();
    server.cli(&["cp", &path("tree"), &there("/srv")]).await.ok();
    let output = server
        .exec(&id, "node1", "cd /srv/tree && find . -type f | LC_ALL=C sort && sha256sum < deep/er/big")
        .await;
    let sum = hex(&Sha256::digest(&big));
    assert_eq!(output.ok().text(), format!("./deep/er/big\n./empty\n./with space ü.txt\n{sum}  -\n"));
    server.cli(&["cp", &there("/srv/tree"), &path("copy")]).await.ok();
    assert_eq!(fs::read(path("copy/deep/er/big")).unwrap(), big);
    assert_eq!(fs::read_to_string(path("copy/with space ü.txt")).unwrap(), "hello");
    assert_eq!(fs::read(path("copy/empty")).unwrap(), b"");
    assert_eq!(looks("copy/empty"), looks("tree/empty"));

    // What is private stays so, what is no file is counted, and nothing from a node gives rights here.
    let odd = "mkdir -m 750 odd && cd odd && touch -d @1000000000 private && chmod 600 private && cp /bin/true . && \
               chmod 4755 true && mkfifo pipe && ln -s / up && ln -s private too";
    server.exec(&id, "node1", odd).await.ok();
    let copied = server.cli(&["cp", &there("/root/odd"), &path("odd")]).await;
    let left_out = |output: &drydock_e2e::Output, words: &[&str]| {
        assert_eq!(output.code(), 1);
        assert!(words.iter().all(|word| output.stderr.contains(word)), "{}", output.stderr);
    };
    left_out(&copied, &["odd/pipe", "odd/up", "odd/too", "3 files were left out"]);
    assert_eq!(looks("odd/private"), (0o600, 1_000_000_000_000_000));
    assert_eq!((looks("odd").0, looks("odd/true").0), (0o750, 0o755));
    // A node is the learner's: there links are made.
    std::os::unix::fs::symlink("private", path("odd/link")).unwrap();
    nix::unistd::mkfifo(path("odd/pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let copied = server.cli(&["cp", &path("odd"), &there("/srv")]).await;
    left_out(&copied, &["odd/pipe", "1 file was left out"]);
    assert!(copied.text().contains("1 links"), "{}", copied.text());
    assert_eq!(server.exec(&id, "node1", "readlink /srv/odd/link").await.ok().text(), "private\n");
    let told = server.exec(&id, "node1", "cd /srv && stat -c '%n %a %Y' odd/private && stat -c %a odd").await;
    assert_eq!(told.ok().text(), "odd/private 600 1000000000\n750\n");

    server.cli(&["cp", &path("missing"), &there("/root/")]).await.refused(1, &["missing"]);
    server.cli(&["cp", &there("/root/missing"), &path("x")]).await.refused(1, &["/root/missing"]);
    server.cli(&["cp", &there("/dev/null"), &path("x")]).await.refused(1, &["a device, socket or pipe"]);
    server.cli(&["cp", &path("tool.sh"), &there("/no/such/dir/f")]).await.refused(1, &["/no/such/dir"]);
    server.cli(&["cp", &path("tool.sh"), &path("other")]).await.refused(1, &["SESSION:NODE:/path"]);
    assert!(!fs::exists(path("x")).unwrap() && !fs::exists(path("other")).unwrap());
}

#[tokio::test]
async fn refusals_name_the_thing() {
    let server = Server::shared();
    let id = created(&server).await.id;
    server
        .cli(&["session", "create", "--playground", "atari"])
        .await
        .refused(1, &["no playground 'atari'", "linux"]);
    server.cli(&["session", "create", "--nodes", "0"]).await.refused(1, &["1 to 5 nodes"]);
    server.cli(&["session", "create", "--nodes", "6"]).await.refused(1, &["1 to 5 nodes, not 6"]);
    server.cli(&["session", "create", "--nodes", "300"]).await.refused(2, &["300"]);
    server.cli(&["session", "create", "--ttl", "0"]).await.refused(1, &["seconds"]);
    server.cli(&["session", "create", "--ttl", "9h"]).await.refused(1, &["28800"]);
    server.cli(&["session", "create", "--ttl", "soon"]).await.refused(2, &["length of time"]);
    for command in ["show", "delete", "extend"] {
        server
            .cli(&["session", command, "aaaaaaaaaa"])
            .await
            .refused(1, &["no session aaaaaaaaaa", "session list"]);
        server.cli(&["session", command, "../../x"]).await.refused(1, &["'../../x' is not valid"]);
    }
    server.cli(&["exec", "aaaaaaaaaa", "node1", "--", "true"]).await.refused(125, &["no session aaaaaaaaaa"]);
    server
        .cli(&["exec", id.as_str(), "node2", "--", "true"])
        .await
        .refused(125, &["no node2 in this session"]);
    server.cli(&["exec", id.as_str(), "node0", "--", "true"]).await.refused(2, &["node0"]);
    server.cli(&["cp", "/etc/hostname", &format!("{id}:node4:/root/")]).await.refused(1, &["node4"]);
    server.cli(&["frobnicate"]).await.refused(2, &["frobnicate"]);

    // Errors go to standard error only, also for programs.
    let output = server.cli(&["session", "show", "aaaaaaaaaa", "--json"]).await;
    assert_eq!((output.code(), output.text().as_str()), (1, ""));
}

#[tokio::test]
async fn stop_ends_sessions_and_server() {
    let server = Server::start(&[]);
    let ids = [created(&server).await.id, created(&server).await.id];
    assert!(server.exec(&ids[0], "node1", "sleep 1000 </dev/null >/dev/null 2>&1 &").await.status.success());
    assert_eq!(server.cli(&["stop", "--json"]).await.json::<Value>(), serde_json::json!({ "ended": 2 }));
    assert!(server.wait().success());
    until("the warden is gone", async || drydock_e2e::server::processes_of(&server.state_dir()).is_empty())
        .await;
    server.assert_nothing_left();
    server.cli(&["session", "list"]).await.refused(1, &["no drydock server answers", "drydock serve"]);
    assert_eq!(server.cli(&["stop"]).await.ok().text().trim(), "Nothing runs.");
}

#[tokio::test]
async fn stop_works_without_a_server() {
    let server = Server::start(&[]);
    created(&server).await;
    server.kill();
    assert_eq!(server.cli(&["stop"]).await.ok().text().trim(), "Stopped: 1 sessions ended.");
    until("the warden is gone", async || drydock_e2e::server::processes_of(&server.state_dir()).is_empty())
        .await;
    server.assert_nothing_left();
}

#[tokio::test]
async fn two_servers_do_not_meet() {
    let (one, two) = (Server::start(&[]), Server::start(&[]));
    let id = created(&one).await.id;
    two.cli(&["session", "show", id.as_str()]).await.refused(1, &["no session"]);
    assert!(two.cli(&["session", "list", "--json"]).await.json::<Vec<SessionLine>>().is_empty());
    let output = one.cli(&["serve", "--listen", &two.address().to_string()]).await;
    output.refused(1, &["cannot listen on", "--listen"]);
    let output = one.cli(&["serve", "--listen", "127.0.0.1:0"]).await;
    output.refused(1, &["another drydock serve uses"]);
    assert_eq!(one.exec(&id, "node1", "echo fine").await.ok().text(), "fine\n");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn arguments_are_what_they_are() {
    let server = Server::shared();
    let id = created(&server).await.id;
    let odd = OsStr::from_bytes(b"ab\xff\n\"c");
    let mut command = server.command(["exec", id.as_str(), "node1", "--", "printf", "%s"]);
    assert_eq!(command.arg(odd).output().unwrap().stdout, odd.as_bytes());
}
