//! What a node is to its user: a machine.

use crate::{
    agent::Ask,
    host::{Host, node},
};
use drydock_runtime::egress::Egress;
use drydock_warden::messages::{Answer, FailureKind, Request};
use libtest_mimic::Trial;
use rustix::fs::inotify;

pub fn tests() -> Vec<Trial> {
    vec![
        Trial::test("a_node_is_a_machine", a_node_is_a_machine),
        Trial::test("nodes_of_a_session_reach_each_other", nodes_reach_each_other),
        Trial::test("nodes_come_and_go", nodes_come_and_go),
        Trial::test("a_node_that_could_not_be_added_can_be_added_again", a_node_that_could_not_be_added),
        Trial::test("a_node_with_many_files_goes", a_node_with_many_files_goes),
        Trial::test("a_session_survives_the_warden", a_session_survives_the_warden),
        Trial::test("a_frozen_session_stands_still", a_frozen_session_stands_still),
        Trial::test("bad_requests_are_refused", bad_requests_are_refused),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;

fn a_node_is_a_machine() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    assert_eq!(s.run(1, "id -u; hostname; cat /proc/1/comm"), "0\nnode1\ninit");
    assert_eq!(s.run(1, "ps -e -o pid= | head -1 | tr -d ' '"), "1");
    // Only init and the shell are there.
    assert_eq!(s.run(1, "set -- /proc/[0-9]*; echo $#"), "2");
    assert_eq!(
        s.run(1, "echo x > /dev/null; head -c 3 /dev/zero | wc -c; ls /dev/pts /dev/shm | wc -l"),
        "3\n4"
    );
    assert_eq!(s.run(1, "for d in /proc /sys /dev /dev/pts /dev/shm /dev/mqueue /run; do mountpoint -q $d || echo $d; done"), "");
    assert!(s.run(1, "stat -f -c %T /").starts_with("overlay"));
    assert!(s.run(1, "ip -4 -o addr show eth0").contains("192.168.0.11/24"));
    assert_eq!(s.run(1, "ip -o link show lo | grep -c UP"), "1");
    // A learner mounts, makes namespaces, traces and has a firewall, as on a machine of their own.
    s.run(1, "mkdir /mnt/a && mount -t tmpfs x /mnt/a && umount /mnt/a");
    s.run(1, "unshare --pid --fork --mount-proc sh -c 'test $(ps -e -o pid= | wc -l) = 2 || ps -e'");
    s.run(1, "strace -o /tmp/t true && grep -q execve /tmp/t");
    s.run(1, "nft add table ip t && nft list tables | grep -q 't'");
    assert_eq!(
        s.run(1, "readlink /proc/self/ns/pid | grep -c pid; lsns | grep -c bash > /dev/null; echo ok"),
        "1\nok"
    );
    // Other users: PAM, set-user-id programs and file capabilities work.
    assert_eq!(s.run(1, "useradd -m -s /bin/bash ann && su - ann -c 'id -un; ping -c1 -W2 127.0.0.1 >/dev/null && echo pong'"), "ann\npong");
    // Files keep what they are given, also over a layer below.
    s.run(1, "chown 1000:1000 /etc/passwd && rm /etc/motd && mv /usr/share/bash-completion /tmp/moved && echo hi > /usr/local/hi");
    assert_eq!(s.run(1, "stat -c %u /etc/passwd; test ! -e /etc/motd && cat /usr/local/hi"), "1000\nhi");
    // Zombies are reaped by pid 1.
    assert_eq!(s.run(1, "sh -c '(sleep 0.01 &)'; sleep 0.1; ps -e -o stat= | grep -c Z; true"), "0");
    // Exit statuses as a shell has them.
    assert_eq!(s.try_run(1, "exit 7").0, 7);
    assert_eq!(s.try_run(1, "kill -9 $$").0, 137);
    Ok(())
}

fn nodes_reach_each_other() -> Outcome {
    let host = Host::new();
    let s = host.create(3);
    s.run(1, "ping -c1 -W2 192.168.0.13 >/dev/null");
    // Different machines: own processes, own disk.
    s.run(1, "touch /root/only-here");
    assert_eq!(s.run(2, "ls /root"), "");
    Ok(())
}

fn nodes_come_and_go() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    assert_eq!(host.ask(Request::AddNode { id: s.id.clone(), node: node(2) }), Answer::Done);
    assert_eq!(s.ask(&Ask::Await(node(2))).0, 0);
    assert_eq!(s.run(2, "hostname; echo kept > /root/file; ping -c1 -W2 192.168.0.11 >/dev/null"), "node2");
    // Off and on again: the disk stays, the processes do not, the address is the same.
    s.run(2, "setsid sleep 1000 >/dev/null 2>&1 &");
    assert_eq!(s.ask(&Ask::Off(node(2))).0, 0);
    assert_eq!(s.ask(&Ask::On(node(2))).0, 0);
    assert_eq!(s.run(2, "cat /root/file; pgrep sleep; true"), "kept");
    s.run(1, "ping -c1 -W2 192.168.0.12 >/dev/null");
    // Gone, and a new one of that name is empty.
    assert_eq!(s.ask(&Ask::Remove(node(2))).0, 0);
    assert_eq!(host.ask(Request::ForgetNode { id: s.id.clone(), node: node(2) }), Answer::Done);
    assert_eq!(host.ask(Request::AddNode { id: s.id.clone(), node: node(2) }), Answer::Done);
    assert_eq!(s.run(2, "ls /root"), "");
    Ok(())
}

fn a_node_that_could_not_be_added() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    // The record can't be written.
    let in_the_way = host.state().join("run/warden").join(format!("{}.new", s.id));
    std::fs::create_dir(&in_the_way)?;
    let add = Request::AddNode { id: s.id.clone(), node: node(2) };
    let answer = host.ask(add.clone());
    assert!(matches!(answer, Answer::Failed { kind: FailureKind::Failed, .. }), "{answer:?}");
    std::fs::remove_dir(&in_the_way)?;
    assert_eq!(host.ask(add), Answer::Done);
    assert_eq!(s.ask(&Ask::Await(node(2))).0, 0);
    Ok(())
}

/// A removed node may have had any number of files, and as deep as it liked: its name is free at once, nobody waits.
fn a_node_with_many_files_goes() -> Outcome {
    let host = Host::new();
    let s = host.create(2);
    s.run(2, "mkdir /root/m; cd /root/m; seq 1 5000 | xargs touch; mkdir deep; cd deep; perl -e 'for (1..5000) { mkdir \"d\"; chdir \"d\" }'");
    // And the disk may be full.
    s.try_run(2, "head -c 100M /dev/zero > /root/m/zero; sync");
    assert_eq!(s.ask(&Ask::Remove(node(2))).0, 0);
    assert_eq!(host.ask(Request::ForgetNode { id: s.id.clone(), node: node(2) }), Answer::Done);
    assert_eq!(host.ask(Request::AddNode { id: s.id.clone(), node: node(2) }), Answer::Done);
    assert_eq!(s.run(2, "ls /root"), "");
    let doomed = format!("/proc/{}/root{}/disk/{}/doomed", host.warden_pid(), host.state().display(), s.id);
    let events = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&events, &doomed, inotify::WatchFlags::DELETE)?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&events, &mut buffer);
    while std::fs::read_dir(&doomed)?.next().is_some() {
        events.next()?;
    }
    Ok(())
}

fn a_session_survives_the_warden() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    s.run(1, "setsid sleep 1000 >/dev/null 2>&1 & echo state > /root/file");
    host.restart();
    assert_eq!(s.run(1, "cat /root/file; pgrep -c sleep"), "state\n1");
    assert_eq!(host.ask(Request::List), Answer::Sessions { sessions: vec![s.id.clone()] });
    assert_eq!(host.ask(Request::AddNode { id: s.id.clone(), node: node(2) }), Answer::Done);
    assert_eq!(s.run(2, "hostname"), "node2");
    assert!(matches!(s.destroy(), Answer::Destroyed { .. }));
    Ok(())
}

fn a_frozen_session_stands_still() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    s.run(1, "setsid sh -c 'while :; do date +%N > /tmp/now; done' >/dev/null 2>&1 &");
    let freeze = |frozen| assert_eq!(host.ask(Request::Freeze { id: s.id.clone(), frozen }), Answer::Done);
    freeze(true);
    freeze(false);
    // It goes on, and can be ended while frozen.
    s.run(1, "a=$(cat /tmp/now); for i in $(seq 200); do [ \"$a\" != \"$(cat /tmp/now)\" ] && exit 0; sleep 0.05; done; exit 1");
    freeze(true);
    assert!(matches!(s.destroy(), Answer::Destroyed { .. }));
    Ok(())
}

fn bad_requests_are_refused() -> Outcome {
    let host = Host::new();
    let refused = |answer: Answer, wanted: FailureKind, word: &str| match answer {
        Answer::Failed { kind, message } => {
            assert_eq!(kind, wanted, "{message}");
            assert!(message.contains(word), "{message}");
        }
        other => panic!("not refused: {other:?}"),
    };
    let s = host.create(1);
    let limits = crate::host::small();
    let create = |nodes, image: &str, limits| {
        let id = "zzzzzzzzzz".parse().unwrap();
        host.ask(Request::Create {
            id,
            nodes,
            image: image.into(),
            limits,
            egress: Egress::default(),
            cluster: false,
        })
    };
    refused(create(0, "node", limits), FailureKind::Invalid, "nodes is 0");
    refused(create(9, "node", limits), FailureKind::Invalid, "nodes is 9");
    refused(create(1, "nope", limits), FailureKind::NotFound, "nope");
    refused(
        create(1, "node", drydock_runtime::limits::Limits { memory: 1, ..limits }),
        FailureKind::Invalid,
        "memory",
    );
    let again = Request::Create {
        id: s.id.clone(),
        nodes: 1,
        image: "node".into(),
        limits,
        egress: Egress::default(),
        cluster: false,
    };
    refused(host.ask(again), FailureKind::InUse, "exists");
    refused(host.ask(Request::AddNode { id: s.id.clone(), node: node(1) }), FailureKind::InUse, "node1");
    refused(
        host.ask(Request::ForgetNode { id: s.id.clone(), node: node(4) }),
        FailureKind::NotFound,
        "node4",
    );
    refused(
        host.ask(Request::Freeze { id: "zzzzzzzzzz".parse()?, frozen: true }),
        FailureKind::NotFound,
        "zzzz",
    );
    refused(host.ask(Request::Exit), FailureKind::InUse, "1 sessions");
    assert_eq!(host.ask(Request::Destroy { id: "zzzzzzzzzz".parse()? }), Answer::Destroyed { trace: vec![] });
    Ok(())
}
