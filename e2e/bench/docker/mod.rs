//! The Docker engine of a node: what a container costs, beside the least that the kernel asks for it and beside Debian's own
//! docker.io, podman, crun and runc, all in turns in the same run. The others are measured if `DRYDOCK_PEERS` names
//! the directory into which `bench/docker/peers.sh get` has unpacked them. The client is the official one of the node image for both engines, or the one that
//! `DRYDOCK_CLIENT` names: Debian's 28.5.2 was built with go-runewidth 0.0.27, which spends 30 ms of every start on a table
//! (<https://github.com/mattn/go-runewidth/issues/104>), whatever it talks to.

mod engine;
mod execs;
pub mod floor;
mod instant;
mod peers;

use crate::{
    memory,
    table::{Table, at_least, at_most, median},
};
use bytes::Bytes;
use drydock_e2e::{Lab, server};
use engine::{Api, Client, Times, at_once, run as time};
use execs::Execs;
use floor::Floor;
use peers::Peers;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

const ROUNDS: usize = 20;
const WARM_UP: usize = 2;
/// Rounds of things that take long.
const FEW: usize = 5;
const AT_ONCE: usize = 20;
const IDLE: usize = 50;
const REST: Duration = Duration::from_secs(3);
/// Before each measurement: the kernel takes namespaces apart for a while after their last process has ended, which would be on the account
/// of what comes next.
const SETTLE: Duration = Duration::from_millis(30);
const NETWORKS: [&str; 2] = ["none", "bridge"];

const STEPS: &str = "FROM busybox\nENV A=1\nWORKDIR /app\nCOPY a.txt .\nRUN echo one > one\nRUN echo two > two\n\
    COPY b.txt .\nRUN cat a.txt b.txt > c\nLABEL a=b\nCMD [\"cat\", \"c\"]\n";

/// One engine under measurement, and what was measured of it.
struct Subject {
    socket: PathBuf,
    api: Api,
    client: Client,
    lives: [Vec<Times>; 2],
    runs: [Vec<f64>; 2],
    create_and_rm: Vec<f64>,
    at_once: Vec<f64>,
    builds: Vec<f64>,
    client_builds: Vec<f64>,
    /// KB for each idle container.
    memory: f64,
}

impl Subject {
    async fn new(program: &Path, socket: PathBuf, settings: &Path) -> Self {
        Self {
            api: Api::connect(&socket).await,
            client: Client::new(program, &socket, settings),
            socket,
            lives: Default::default(),
            runs: Default::default(),
            create_and_rm: vec![],
            at_once: vec![],
            builds: vec![],
            client_builds: vec![],
            memory: f64::NAN,
        }
    }

    async fn live(&mut self, execs: &Execs, keep: bool) {
        for (i, network) in NETWORKS.into_iter().enumerate() {
            tokio::time::sleep(SETTLE).await;
            let life = self.api.life(network, execs).await;
            if keep {
                self.lives[i].push(life);
            }
        }
    }

    async fn run(&mut self, keep: bool) {
        for (i, network) in NETWORKS.into_iter().enumerate() {
            tokio::time::sleep(SETTLE).await;
            let run = self.client.time(&["run", "--rm", "--network", network, "busybox", "true"]);
            if keep {
                self.runs[i].push(run);
            }
        }
        let took = self.client.time(&["create", "--name", "bench", "busybox", "true"]);
        let took = took + self.client.time(&["rm", "bench"]);
        if keep {
            self.create_and_rm.push(took);
        }
    }

    async fn rarely(&mut self, context: &Path, tar: &Bytes) {
        self.at_once.push(at_once(&self.socket, AT_ONCE).await);
        let (took, cached) = self.api.build(tar).await;
        // The first build fills the cache.
        if cached {
            self.builds.push(took);
            self.client_builds.push(self.client.time(&["build", "-t", "bench", &context.to_string_lossy()]));
        }
    }

    fn of_lives(&self, network: usize, part: fn(&Times) -> f64) -> f64 {
        median(&self.lives[network].iter().map(part).collect::<Vec<_>>())
    }
}

/// Prints the table. On one thread: a client that wakes another thread for each request and answer takes longer than some of what it asks for.
pub async fn run() {
    let measured = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(measure());
    });
    measured.await.expect("the measurement");
}

async fn measure() {
    let lab = Lab::on(Arc::new(crate::serve()), 1).await;
    lab.sh("docker pull -q busybox").await;
    let scratch = lab.server().scratch();
    let (settings, context) = (scratch.path().join("settings"), scratch.path().join("context"));
    fs::create_dir(&settings).expect("mkdir");
    let tar = write_context(&context);
    let (layer, client) = (busybox(), client());
    let of_session = lab.server().session_pid(&lab.id);
    let engine =
        memory::processes_of(of_session).into_iter().find(|p| p.name == "dockerd").expect("an engine");
    let mut ours =
        Subject::new(&client, format!("/proc/{}/root/run/docker.sock", engine.pid).into(), &settings).await;
    let nothing = scratch.path().join("instant.sock");
    instant::serve(&nothing);
    let (nothing, mut alone) = (Client::new(&client, &nothing, &settings), Vec::new());
    let execs = Execs::start();
    let mut floor = Floor::start(&layer, &scratch.path().join("floor"));
    let mut peers = Peers::start(&layer, scratch.path());
    let mut theirs = None;
    if let Some(peers) = &peers {
        let subject = Subject::new(&client, peers.socket(), &settings).await;
        time(&mut subject.client.command(&["import", &peers.busybox().to_string_lossy(), "busybox"]));
        theirs = Some(subject);
    }
    let mut floors: [Vec<f64>; 2] = Default::default();
    let mut others: [Vec<f64>; 4] = Default::default();
    let mut inside = Vec::new();
    let rounds = || (0..WARM_UP + ROUNDS).map(|round| round >= WARM_UP);
    for keep in rounds() {
        for (i, times) in floors.iter_mut().enumerate() {
            tokio::time::sleep(SETTLE).await;
            let took = floor.measure(i == 1, &execs);
            if keep {
                times.push(took);
            }
        }
        ours.live(&execs, keep).await;
        if let Some(theirs) = &mut theirs {
            theirs.live(&execs, keep).await;
        }
    }
    // Programs of their own, which leave the processors' caches to nobody else.
    for keep in rounds() {
        tokio::time::sleep(SETTLE).await;
        let took = nothing.time(&["run", "--rm", "busybox", "true"]);
        if keep {
            alone.push(took);
        }
        ours.run(keep).await;
        if let (Some(theirs), Some(peers)) = (&mut theirs, &mut peers) {
            theirs.run(keep).await;
            let took = [peers.runtime("crun"), peers.runtime("runc")];
            others.iter_mut().zip(took).filter(|_| keep).for_each(|(list, t)| list.push(t));
        }
    }
    for _ in 0..=FEW {
        ours.rarely(&context, &tar).await;
        inside.extend(in_node(&lab).await);
        if let (Some(theirs), Some(peers)) = (&mut theirs, &peers) {
            theirs.rarely(&context, &tar).await;
            others[2].push(peers.podman("none"));
            others[3].push(peers.podman("bridge"));
        }
    }
    ours.memory = memory_of_ours(&mut ours.api, of_session).await;
    if let (Some(theirs), Some(peers)) = (&mut theirs, &peers) {
        theirs.memory = memory_of_shims(&mut theirs.api, &peers.mark()).await;
    }
    print(&floors, &ours, theirs.as_ref(), &others, [&alone, &inside]);
    // Nothing may be left when the server looks.
    drop((floor, peers));
    lab.end().await;
}

/// The node's own client, in the node: `docker run --rm busybox true`, each in milliseconds.
async fn in_node(lab: &Lab) -> Vec<f64> {
    let script = "for i in 1 2 3 4; do a=$EPOCHREALTIME; docker run --rm busybox true; b=$EPOCHREALTIME; echo $((${b/./} - ${a/./})); done";
    let micros = lab.sh(script).await;
    micros.lines().map(|l| l.parse::<f64>().expect("microseconds") / 1000.0).collect()
}

/// PSS of all that is ours in the session, before and after, for each container.
async fn memory_of_ours(api: &mut Api, session: i32) -> f64 {
    let sum = || {
        let all = memory::processes_of(session);
        all.iter().filter(|p| p.name != "sleep").map(|p| p.pss).sum::<f64>()
    };
    tokio::time::sleep(REST).await;
    let before = sum();
    let ids = idle(api, IDLE).await;
    tokio::time::sleep(REST).await;
    let after = sum();
    for id in ids {
        api.remove(&id).await;
    }
    (after - before) * 1.024 / IDLE as f64
}

/// PSS of containerd's shims, for each container.
async fn memory_of_shims(api: &mut Api, mark: &str) -> f64 {
    let ids = idle(api, FEW).await;
    tokio::time::sleep(REST).await;
    let sum: f64 = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("containerd-shim") && line.contains(mark)
        })
        .map(memory::pss)
        .sum();
    for id in ids {
        api.remove(&id).await;
    }
    sum * 1.024 / FEW as f64
}

async fn idle(api: &mut Api, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let id = api.create("bridge", &["sleep", "1000"]).await;
        api.start(&id).await;
        ids.push(id);
    }
    ids
}

fn write_context(dir: &Path) -> Bytes {
    fs::create_dir(dir).expect("mkdir");
    for (name, text) in [("Dockerfile", STEPS), ("a.txt", "a\n"), ("b.txt", "b\n")] {
        fs::write(dir.join(name), text).expect("a file of the context");
    }
    let tar = Command::new("tar").arg("-C").arg(dir).args(["-c", "."]).output().expect("tar(1)");
    tar.stdout.into()
}

/// The official client: the one that the environment names, else out of the node image.
fn client() -> PathBuf {
    if let Some(named) = std::env::var_os("DRYDOCK_CLIENT") {
        return named.into();
    }
    let layers = fs::read_dir(server::images().join("layers")).expect("layers of the node image");
    let mut found = layers.flatten().map(|layer| layer.path().join("usr/bin/docker"));
    found.find(|path| path.exists()).expect("the node image has the client")
}

/// Root directory of the catalogue's busybox, which has one layer.
fn busybox() -> PathBuf {
    let catalogue = server::catalogue();
    let json = |path: PathBuf| -> Value {
        serde_json::from_slice(&fs::read(&path).expect("the catalogue's file")).expect("JSON")
    };
    let blob = |digest: &Value| {
        json(catalogue.join("blobs").join(digest.as_str().expect("a digest").replace(':', "/")))
    };
    let index = json(catalogue.join("index.json"));
    let images = index["manifests"].as_array().expect("a list");
    let named = |m: &&Value| {
        m["annotations"]["org.opencontainers.image.ref.name"] == "docker.io/library/busybox:latest"
    };
    let image = images.iter().find(named).expect("busybox is in the catalogue");
    let config = blob(&blob(&image["digest"])["config"]["digest"]);
    let layer = config["rootfs"]["diff_ids"][0].as_str().expect("a layer").replace("sha256:", "");
    catalogue.join("layers").join(layer)
}

fn print(
    floors: &[Vec<f64>; 2],
    ours: &Subject,
    theirs: Option<&Subject>,
    others: &[Vec<f64>; 4],
    [alone, inside]: [&[f64]; 2],
) {
    let mut table = Table::new(
        format!("docker: medians of {ROUNDS} rounds, ms; in turns"),
        &["", "ours", "docker.io", "times faster", "of the floor", "goal", "met"],
    );
    let (cell, none) = (|v: f64| if v.is_nan() { "-".to_owned() } else { format!("{v:.1}") }, String::new);
    let base = median(&floors[0]);
    for (name, times) in ["floor: overlay, clone, pivot_root, exec", "floor with an interface on a bridge"]
        .into_iter()
        .zip(floors)
    {
        table.row([
            name.into(),
            cell(median(times)),
            none(),
            none(),
            format!("{:.2}x", median(times) / base),
            none(),
            none(),
        ]);
    }
    let mut row = |name: &str, measure: &dyn Fn(&Subject) -> f64, of_floor: bool, goal: Goal| {
        let (we, they) = (measure(ours), theirs.map_or(f64::NAN, measure));
        let faster = they / we;
        let (text, met) = match goal {
            Goal::None => (none(), none()),
            Goal::OfFloor(most) => (format!("<= {most:.1} floors"), at_most(we / base, most)),
            Goal::Most(most) => (format!("<= {most:.0}"), at_most(we, most)),
            Goal::Faster(least) if faster.is_nan() => (format!(">= {least:.0}x"), none()),
            Goal::Faster(least) => (format!(">= {least:.0}x"), at_least(faster, least)),
        };
        let times = if faster.is_nan() { none() } else { format!("{faster:.1}x") };
        let floors = if of_floor { format!("{:.2}x", we / base) } else { none() };
        table.row([name.into(), cell(we), cell(they), times, floors, text, met]);
    };
    row("request to exec, no network", &|s| s.of_lives(0, |t| t.exec), true, Goal::OfFloor(1.5));
    row("request to exec, bridge", &|s| s.of_lives(1, |t| t.exec), true, Goal::OfFloor(2.5));
    row("start at the API, no network", &|s| s.of_lives(0, |t| t.start), true, Goal::None);
    row("start at the API, bridge", &|s| s.of_lives(1, |t| t.start), true, Goal::None);
    row("create at the API", &|s| s.of_lives(1, |t| t.create), true, Goal::None);
    row("remove at the API", &|s| s.of_lives(1, |t| t.remove), true, Goal::None);
    row("docker run --rm --network none busybox true", &|s| median(&s.runs[0]), false, Goal::Faster(7.0));
    row("docker run --rm busybox true", &|s| median(&s.runs[1]), false, Goal::Most(45.0));
    row("docker run --rm busybox true, beside docker.io", &|s| median(&s.runs[1]), false, Goal::Faster(7.0));
    row("docker create, docker rm", &|s| median(&s.create_and_rm), false, Goal::None);
    row("20 at once, until the last runs", &|s| median(&s.at_once), false, Goal::Faster(10.0));
    row("ten cached steps, at the API", &|s| median(&s.builds), false, Goal::Most(100.0));
    row("ten cached steps, docker build", &|s| median(&s.client_builds), false, Goal::None);
    row("KB of PSS for an idle container (theirs: the shim)", &|s| s.memory, false, Goal::Most(100.0));
    for (name, took) in [
        ("docker run --rm busybox true, server that answers at once", median(alone)),
        ("docker run --rm busybox true, in the node", median(inside)),
    ] {
        table.row([name.into(), cell(took), none(), none(), none(), none(), none()]);
    }
    // Of the 45 ms the client was to need 25 when they were promised.
    let share = median(&ours.runs[1]) - median(alone);
    let (name, goal) = ("of docker run, what is not the client's".into(), "<= 20".into());
    table.row([name, cell(share), none(), none(), none(), goal, at_most(share, 20.0)]);
    let names =
        ["crun run", "runc run", "podman run --rm --network none", "podman run --rm --network bridge"];
    for (name, times) in names.into_iter().zip(others).filter(|(_, times)| !times.is_empty()) {
        table.row([name.into(), none(), cell(median(times)), none(), none(), none(), none()]);
    }
    table.print();
}

/// What was promised.
enum Goal {
    None,
    OfFloor(f64),
    Most(f64),
    Faster(f64),
}
