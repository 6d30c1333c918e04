//! Nothing is left behind: what is on the host is counted before and after many sessions, some of which are
//! killed at random points of their making, some with the warden.

use crate::host::{Host, Session};
use drydock_runtime::egress::Egress;
use drydock_warden::messages::{Answer, Request};
use libtest_mimic::Trial;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

pub fn tests() -> Vec<Trial> {
    vec![
        Trial::test("nothing_is_left_of_fifty_sessions", nothing_is_left_of_fifty_sessions),
        Trial::test("nothing_is_left_of_a_killed_warden", nothing_is_left_of_a_killed_warden),
    ]
}

/// What the sessions of one server make on a host.
#[derive(Debug, PartialEq, Eq)]
pub struct Count {
    mounts: usize,
    warden_mounts: usize,
    cgroups: BTreeSet<String>,
    processes: BTreeSet<String>,
    files: BTreeSet<String>,
}

fn count(host: &Host) -> Count {
    let lines = |path: String| fs::read_to_string(path).map_or(0, |t| t.lines().count());
    // serve's user is the first id of the server's range: 1,024 times 65,536 ids, the number of which is the server's.
    let first = fs::metadata(host.state().join("web")).unwrap().uid();
    let server = (first - (1 << 30)) >> 26;
    let mut cgroups = BTreeSet::new();
    // v2 has one tree at the top, v1 one in each directory.
    let v1 = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path());
    for hierarchy in v1.chain(["/sys/fs/cgroup".into()]) {
        list(&hierarchy.join("drydock").join(server.to_string()), &mut cgroups);
    }
    cgroups.retain(|path| Path::new(path).is_dir());
    let mut files = BTreeSet::new();
    list(host.state(), &mut files);
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|e| e.path());
    let processes = processes.filter(|p| p.join("stat").exists() && is_of(p, first));
    Count {
        mounts: lines("/proc/self/mountinfo".into()),
        warden_mounts: lines(format!("/proc/{}/mountinfo", host.warden_pid())),
        cgroups,
        processes: processes.map(|p| p.display().to_string()).collect(),
        files,
    }
}

/// True if the process runs as a user of the server's range (proc_pid_status(5); the owner of the directory
/// would be the host's root for processes that can't be traced).
fn is_of(process: &Path, first: u32) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let uid =
        status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().next()?.parse::<u32>().ok());
    uid.is_some_and(|uid| (first..first + (1 << 26)).contains(&uid))
}

fn list(dir: &Path, files: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        files.insert(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            list(&entry.path(), files);
        }
    }
}

/// What is there when a session has gone: directories that stay are made by the first one. Its last process may take a moment to go.
pub fn after_one_session(host: &Host) -> Count {
    host.create(1).destroy();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let now = count(host);
        if now.processes.is_empty() {
            return now;
        }
        assert!(Instant::now() < until, "a session does not go:\n{now:#?}");
        std::thread::yield_now();
    }
}

/// Counts until the count is as wanted, since the kernel frees namespaces in the background; fails after 20 s.
pub fn comes_back_to(host: &Host, wanted: &Count) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let now = count(host);
        if now == *wanted {
            return;
        }
        assert!(Instant::now() < until, "left behind:\n{now:#?}\nbefore:\n{wanted:#?}");
        std::thread::yield_now();
    }
}

fn nothing_is_left_of_fifty_sessions() -> Result<(), libtest_mimic::Failed> {
    let host = Host::new();
    let before = after_one_session(&host);
    // Deterministic, but without a pattern that the code could know: a step of a linear congruential generator.
    let mut random = 12345u32;
    for round in 0..50 {
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12345);
        let s: Session<'_> = host.create(1 + (random >> 16) as u8 % 3);
        match round % 4 {
            // Used, then ended.
            0 => {
                s.run(1, "setsid sleep 1000 >/dev/null 2>&1 & mkdir -p /sys/fs/cgroup/memory/a/b; mount -t tmpfs x /mnt");
                s.destroy();
            }
            // Ended while its nodes are being made.
            1 => {
                s.destroy();
            }
            // Its first process killed at some point of the making of the nodes.
            2 => {
                let until = Instant::now() + Duration::from_micros(u64::from(random >> 16) % 20_000);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                s.kill();
                while host.ask(Request::List) != (Answer::Sessions { sessions: vec![] }) {}
            }
            // Frozen, then ended.
            _ => {
                host.ask(Request::Freeze { id: s.id.clone(), frozen: true });
                s.destroy();
            }
        }
    }
    comes_back_to(&host, &before);
    Ok(())
}

fn nothing_is_left_of_a_killed_warden() -> Result<(), libtest_mimic::Failed> {
    let host = Host::new();
    let before = after_one_session(&host);
    for round in 0..12u32 {
        let id = drydock_protocol::SessionId::from_random([round as u8; 10]);
        host.send(Request::Create {
            id,
            nodes: 2,
            image: "node".into(),
            limits: crate::host::small(),
            egress: Egress::default(),
            cluster: false,
        });
        let until = Instant::now() + Duration::from_micros(u64::from(round) * 1500);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        host.restart();
        if let Answer::Sessions { sessions } = host.ask(Request::List) {
            for id in sessions {
                host.ask(Request::Destroy { id });
            }
        }
    }
    comes_back_to(&host, &before);
    Ok(())
}
