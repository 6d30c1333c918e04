//! The engine in a node of a real session, asked by the official client there. Needs root, a node image and the catalogue
//! (`DRYDOCK_IMAGES`, `DRYDOCK_CATALOGUE`, or those in the user's cache).

// The tests of the warden have all that starts a session; what is not used here is used there.
#[allow(dead_code)]
#[path = "../../../warden/tests/sandbox/agent.rs"]
mod agent;
#[allow(dead_code)]
#[path = "../../../warden/tests/sandbox/host.rs"]
mod host;

mod engine {
    pub fn main(boot: drydock_runtime::container::EngineBoot) -> i32 {
        drydock_engine::run(boot)
    }
}

use drydock_runtime::limits::Limits;
use host::{Host, Session};
use std::{path::PathBuf, process::Command};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, dir] = &arguments[..]
        && word == "warden"
    {
        return host::be_the_warden(PathBuf::from(dir));
    }
    if let [_, word, scripts @ ..] = &arguments[..]
        && word == "try"
    {
        return with_session(|session| {
            for script in scripts {
                let (status, output) = session.try_run(1, script);
                println!("$ {script}\n{output}[{status}]");
            }
        });
    }
}

/// A session with one node and the images of the catalogue.
fn with_session(work: impl FnOnce(&Session<'_>)) {
    let host = Host::new();
    let cache = PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/drydock/catalogue");
    let catalogue = std::env::var_os("DRYDOCK_CATALOGUE").map_or(cache, PathBuf::from);
    let copied =
        Command::new("cp").arg("-aT").arg(catalogue).arg(host.state().join("catalogue")).status().unwrap();
    assert!(copied.success());
    let session = host.create_with(1, Limits { memory: 1 << 30, pids: 1000, disk: 1 << 30, ..host::small() });
    work(&session);
    println!(
        "{}",
        std::fs::read_to_string(host.state().join("log").join(format!("{}.log", session.id)))
            .unwrap_or_default()
    );
}
