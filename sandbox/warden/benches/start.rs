//! How much the sandbox adds to what the kernel itself takes: a session of one node and of three, from the request to the end of
//! `/bin/true` in every node, beside the floor (clone with all namespaces, overlay, proc, pivot_root, exec). Both are
//! measured in turns in one run; the ratios are what counts. Needs root and the node image (`DRYDOCK_IMAGES`).

#[path = "../tests/sandbox/agent.rs"]
mod agent;
#[path = "../tests/sandbox/engine.rs"]
mod engine;
#[path = "../tests/sandbox/host.rs"]
#[expect(dead_code, reason = "the tests ask for more than this bench does")]
mod host;

use drydock_images::{Image, Store};
use drydock_runtime::{limits::Limits, mounts, overlay, process, userns};
use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountAttrFlags, MountPropagationFlags, mount_change},
};
use std::{
    fs,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

const ROUNDS: usize = 40;
/// A host user that no server uses.
const BASE: u32 = 3 << 29;

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("warden") {
        host::be_the_warden(args.next().expect("state directory").into());
        return;
    }
    let images =
        std::env::var_os("DRYDOCK_IMAGES").expect("DRYDOCK_IMAGES names the store with the node image");
    let store = Store::open(images).expect("image store");
    let image = store.resolve("node").expect("node image");
    let host = host::Host::new();
    let mut times: [Vec<Duration>; 5] = Default::default();
    for round in 0..=ROUNDS {
        let took = [
            floor(&image, host.state()),
            session(&host, 1),
            session(&host, 3),
            ready_session(&host, 1),
            ready_session(&host, 3),
        ];
        // The first round warms the caches.
        if round > 0 {
            times.iter_mut().zip(took).for_each(|(list, t)| list.push(t));
        }
    }
    let [floor, one, three, ready_one, ready_three] = times.map(median);
    println!("median of {ROUNDS} rounds, to the end of /bin/true in every node");
    println!("{:<44} {:>8} {:>12}", "", "ms", "of the floor");
    for (name, time) in [
        ("floor: kernel alone", floor),
        ("session of one node", one),
        ("session of three nodes", three),
        ("session of one node, kept ready", ready_one),
        ("session of three nodes, kept ready", ready_three),
    ] {
        println!("{name:<44} {:>8.2} {:>11.2}x", ms(time), ms(time) / ms(floor));
    }
    println!("three nodes / one node: {:.2}x", ms(three) / ms(one));
    println!("three nodes / one node, kept ready: {:.2}x", ms(ready_three) / ms(ready_one));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The least that a container of this kind costs: no limits, no network, no devices, no supervision.
fn floor(image: &Image, scratch: &Path) -> Duration {
    let disk = scratch.join("floor");
    fs::create_dir_all(&disk).unwrap();
    let began = Instant::now();
    let namespace = userns::create(BASE).unwrap();
    let root = overlay::create(&image.layers, namespace.as_fd(), &disk, "n", BASE).unwrap();
    let pid = process::fork(|| {
        userns::enter(namespace.as_fd()).unwrap();
        let all = libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWCGROUP;
        let pid = process::clone(all, || {
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let proc = mounts::create("proc", &[], MountAttrFlags::empty()).unwrap();
            mounts::attach_at(root.as_fd(), Path::new("/tmp")).unwrap();
            let new = open("/tmp", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            mounts::pivot(new.as_fd()).unwrap();
            mounts::attach_at(proc.as_fd(), Path::new("/proc")).unwrap();
            let Err(e) = nix::unistd::execve(c"/bin/true", &[c"true"], &[c"A=b"]);
            panic!("{e}");
        });
        process::wait(pid.unwrap()).unwrap()
    });
    assert_eq!(process::wait(pid.unwrap()).unwrap(), 0);
    let took = began.elapsed();
    drop(root);
    fs::remove_dir_all(&disk).unwrap();
    took
}

fn session(host: &host::Host, nodes: u8) -> Duration {
    let began = Instant::now();
    used(host.create_with(nodes, Limits::default()), nodes, began)
}

/// As serve has it for whoever comes after a quiet moment ([`drydock_warden::messages::Request::KeepReady`]).
fn ready_session(host: &host::Host, nodes: u8) -> Duration {
    let id = host.ready(Limits::default());
    // Its processes come to rest, as they do before somebody comes.
    std::thread::sleep(Duration::from_millis(30));
    let began = Instant::now();
    used(host.create_as(id, nodes, Limits::default()), nodes, began)
}

fn used(session: host::Session<'_>, nodes: u8, began: Instant) -> Duration {
    for node in 1..=nodes {
        let argv = vec!["/bin/true".to_string()];
        assert_eq!(session.ask(&agent::Ask::Exec(host::node(node), argv)).0, 0);
    }
    let took = began.elapsed();
    session.destroy();
    took
}
