//! Measures the whole product from outside against what it promises: `cargo bench -p drydock-e2e`, or with the names of
//! subjects behind `--`. Prints tables of medians with the goal beside each; nothing is asserted about the
//! figures, so a slow machine fails no build. Needs root, the node image and Chromium, and a machine with nothing else to do.
//!
//! `DRYDOCK_BIN`: the binary, a release build. `DRYDOCK_IMAGES`: the node image. `DRYDOCK_BENCH_SESSIONS`: how many
//! idle sessions `memory` makes (200). `DRYDOCK_PEERS`: other engines to measure beside ours (see [`docker`]).

mod cluster;
mod docker;
mod keys;
mod load;
mod memory;
mod output;
mod page;
mod start;
mod stream;
mod table;

use drydock_e2e::{Server, server};
use drydock_protocol::api::Created;
use hyper::Method;
use serde_json::json;
use std::{
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

/// The playground with a cluster.
const KUBERNETES: &str = "kubernetes";

/// One subject: its name, its longest time, what it does.
type Subject = (&'static str, Duration, fn() -> Pin<Box<dyn Future<Output = ()> + Send>>);

const SUBJECTS: [Subject; 9] = [
    ("start", Duration::from_secs(40), || Box::pin(start::run())),
    ("page", Duration::from_secs(60), || Box::pin(page::run())),
    ("keys", Duration::from_secs(40), || Box::pin(keys::run())),
    ("output", Duration::from_secs(90), || Box::pin(output::run())),
    ("stream", Duration::from_secs(60), || Box::pin(stream::run())),
    ("memory", Duration::from_secs(120), || Box::pin(memory::run())),
    ("load", Duration::from_secs(20), || Box::pin(load::run())),
    ("docker", Duration::from_secs(240), || Box::pin(docker::run())),
    ("cluster", Duration::from_secs(240), || Box::pin(cluster::run())),
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|a| a == "be-the-floor") {
        let mut path = || std::path::PathBuf::from(args.next().expect("a path"));
        docker::floor::serve(&path(), &path());
        return ExitCode::SUCCESS;
    }
    tokio::runtime::Runtime::new().expect("a runtime").block_on(measure())
}

async fn measure() -> ExitCode {
    // Cargo adds options of its own, such as `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let names = SUBJECTS.map(|s| s.0).join(", ");
    if let Some(unknown) = wanted.iter().find(|w| SUBJECTS.iter().all(|s| s.0 != **w)) {
        eprintln!("there is no subject '{unknown}'; there are: {names}");
        return ExitCode::from(2);
    }
    println!("binary: {}", server::binary().display());
    println!("image:  {}", server::images().display());
    println!("load:   {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    let mut failed = false;
    for (name, limit, run) in SUBJECTS {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        let began = Instant::now();
        // A task of its own: the panic of one subject does not take the others with it.
        let mut work = tokio::spawn(run());
        match tokio::time::timeout(limit, &mut work).await {
            Ok(Ok(())) => println!("({name} took {:.0} s)", began.elapsed().as_secs_f64()),
            Ok(Err(e)) => {
                println!("\n{name} failed: {e}");
                failed = true;
            }
            Err(_) => {
                work.abort();
                // What it has started ends before the next subject begins.
                drop(work.await);
                println!("\n{name} was broken off after {limit:?}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

/// A server for measurements: no limit of sessions is met.
fn serve() -> Server {
    Server::start(&["--max-sessions", "2000", "--sessions-per-client", "2000", "--queue-length", "2000"])
}

/// A session made by the operator.
async fn create(server: &Server, nodes: u8) -> Created {
    let wish = json!({ "playground": "linux", "nodes": nodes });
    server.operate(Method::POST, "/sessions", Some(wish)).await.has(201).json()
}

/// Ends a session that is only known by its id.
async fn end(server: &Server, id: &str) {
    server.operate(Method::DELETE, &format!("/sessions/{id}"), None).await.has(204);
}

/// Runs a script in the session's first node.
async fn in_node(server: &Server, session: &Created, script: &str) {
    server.exec(&session.id, "node1", script).await.ok();
}
