//! Memory of an idle session, and many idle sessions at once.
//!
//! A session's processes are its first one and all below that. Their PSS is read after some seconds in
//! which nothing happens: a shell that has just started still gives memory back.

use crate::{
    create,
    table::{Table, at_most, median, ms},
};
use drydock_e2e::Server;
use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

const REST: Duration = Duration::from_secs(5);
const GOAL: f64 = 15.0;
pub const KIB_IN_MB: f64 = 1024.0 / 1e6;

/// Prints both tables.
pub async fn run() {
    let server = crate::serve();
    one(&server).await;
    many(&server).await;
}

/// What one process takes, in KiB.
#[derive(Debug, Default, Clone)]
pub struct Usage {
    pub pid: i32,
    pub name: String,
    pub pss: f64,
    pub own: f64,
}

async fn one(server: &Server) {
    let session = create(server, 1).await;
    tokio::time::sleep(REST).await;
    let processes = processes_of(server.session_pid(&session.id));
    let mut table = Table::new(
        "memory: an idle session of one node, MB of PSS",
        &["", "page cache aside", "all", "goal", "met"],
    );
    let mb = |kib: f64| format!("{:.2}", kib * KIB_IN_MB);
    let own: f64 = processes.iter().map(|p| p.own).sum();
    let pss: f64 = processes.iter().map(|p| p.pss).sum();
    let met = at_most(own * KIB_IN_MB, GOAL);
    table.row(["all its processes".into(), mb(own), mb(pss), format!("<= {GOAL:.0}"), met]);
    for p in processes {
        table.row([format!("  {}", p.name), mb(p.own), mb(p.pss), String::new(), String::new()]);
    }
    table.print();
    crate::end(server, session.id.as_str()).await;
}

/// The session's first process and all below it: nothing leaves its process namespace.
pub fn processes_of(spawner: i32) -> Vec<Usage> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        // Gone already.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| {
            status.lines().find_map(|l| Some(l.strip_prefix(name)?.split_whitespace().next()?.to_owned()))
        };
        let parent = field("PPid:").and_then(|p| p.parse::<i32>().ok()).unwrap_or(0);
        all.insert(pid, (parent, field("Name:").unwrap_or_default()));
    }
    let belongs = |mut pid: i32| {
        while pid != spawner {
            let Some((parent, _)) = all.get(&pid) else { return false };
            pid = *parent;
        }
        true
    };
    let mut found = Vec::new();
    for (pid, (_, name)) in all.iter().filter(|(pid, _)| belongs(**pid)) {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let kib = |name: &str| -> f64 {
            let line = rollup.lines().find_map(|l| l.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
        };
        found.push(Usage {
            pid: *pid,
            name: name.clone(),
            pss: kib("Pss:"),
            own: kib("Pss_Anon:") + kib("Pss_Shmem:"),
        });
    }
    assert!(found.iter().any(|p| p.pss > 0.0), "no process of the session was found");
    found.sort_unstable_by(|a, b| b.pss.total_cmp(&a.pss));
    found
}

async fn many(server: &Server) {
    let wanted: usize = std::env::var("DRYDOCK_BENCH_SESSIONS")
        .ok()
        .map_or(200, |n| n.parse().expect("a number of sessions"));
    let before = available_mb();
    let began = Instant::now();
    let mut sessions = Vec::new();
    let mut ready = Vec::new();
    for _ in 0..wanted {
        let session = create(server, 1).await;
        ready.push(session.ready_ms);
        sessions.push(session.id);
    }
    let took = began.elapsed();
    tokio::time::sleep(REST).await;
    let used = before - available_mb();
    let processes: Vec<Usage> = sessions.iter().flat_map(|id| processes_of(server.session_pid(id))).collect();
    let pss: f64 = processes.iter().map(|p| p.pss).sum::<f64>() * KIB_IN_MB;
    let began = Instant::now();
    for id in &sessions {
        crate::end(server, id.as_str()).await;
    }
    let ended = began.elapsed();

    let count = wanted.max(1) as f64;
    let mut table =
        Table::new(format!("memory: {wanted} idle sessions at once"), &["", "all", "for each session"]);
    let mb = |v: f64| format!("{v:.1} MB");
    table.row(["time to make them".into(), format!("{:.1} s", took.as_secs_f64()), per(ms(took) / count)]);
    table.row([
        "request to prompt, first 20".into(),
        String::new(),
        per(median(&ready[..20.min(ready.len())])),
    ]);
    table.row([
        "request to prompt, last 20".into(),
        String::new(),
        per(median(&ready[ready.len().saturating_sub(20)..])),
    ]);
    table.row(["PSS of their processes".into(), mb(pss), mb(pss / count)]);
    table.row(["memory that the host has less".into(), mb(used), mb(used / count)]);
    table.row(["time to end them".into(), format!("{:.1} s", ended.as_secs_f64()), per(ms(ended) / count)]);
    table.print();
}

/// PSS of one process, in KiB; 0 if it has gone.
pub fn pss(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|l| l.strip_prefix("Pss:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

fn per(ms: f64) -> String {
    format!("{ms:.1} ms")
}

/// Memory that new programs could have, by the kernel's own estimate.
fn available_mb() -> f64 {
    let info = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:")).expect("MemAvailable");
    let kib: f64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    kib * KIB_IN_MB
}
