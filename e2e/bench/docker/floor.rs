//! The least that a container costs the kernel: overlay, clone with all namespaces, proc, pivot_root, exec; with a network also a pair
//! of interfaces on a bridge, an address and a route. No limits, no devices, no filter, no supervision.
//!
//! It is measured inside a user namespace, where a session's containers are, by a process of its own with one thread: a
//! line on its standard input asks for one container; when that has ended, the time at which it was begun comes back on its standard output.

use super::execs::{Execs, now};
use drydock_runtime::{
    mounts,
    netlink::{Batch, In, LOOPBACK, Peer},
    process, userns,
};
use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountAttrFlags, MountPropagationFlags, mount_change},
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// A host user that no server uses.
const BASE: u32 = 3 << 29;
/// Number of the bridge.
const BRIDGE: u32 = 7;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);

/// The process that measures.
pub struct Floor {
    process: Child,
    /// Its end ends the process.
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Floor {
    /// Starts it. `layer`: root directory of an image with `/bin/true`. `scratch`: a directory for its files.
    pub fn start(layer: &Path, scratch: &Path) -> Self {
        let mut process = Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private"])
            .arg(std::env::current_exe().expect("this program's path"))
            .arg("be-the-floor")
            .args([layer, scratch])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare(1)");
        let ask = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, ask, answers }
    }

    /// Milliseconds from the beginning to the exec of a container's program.
    pub fn measure(&mut self, network: bool, execs: &Execs) -> f64 {
        let mut ask = self.ask.as_ref().expect("open until it is dropped");
        writeln!(ask, "{network}").expect("the floor reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the floor answers");
        let began: f64 = line.trim().parse().expect("the floor's answer is a number");
        execs.of_true() - began
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.ask = None;
        drop(self.process.wait());
    }
}

/// What the process does, in mount and network namespaces of its own.
pub fn serve(layer: &Path, scratch: &Path) {
    let namespace = userns::create(BASE).expect("user namespace");
    let (lower, disk) = (scratch.join("lower"), scratch.join("disk"));
    for dir in [&lower, &disk] {
        fs::create_dir_all(dir).expect("mkdir");
    }
    let tree = mounts::idmapped(layer, namespace.as_fd()).expect("idmapped layer");
    mounts::attach_at(tree.as_fd(), &lower).expect("attach the layer");
    std::os::unix::fs::chown(&disk, Some(BASE), Some(BASE)).expect("chown");
    userns::enter(namespace.as_fd()).expect("enter the user namespace");
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWPID;
    let pid = process::clone(own, || {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("private");
        let proc = mounts::create("proc", &[], MountAttrFlags::empty()).expect("proc");
        mounts::attach_at(proc.as_fd(), Path::new("/proc")).expect("attach /proc");
        let mut links = Batch::new();
        links.bridge("bench0", BRIDGE, [2, 0, 0, 0, 0, 1]).address(BRIDGE, GATEWAY, 24).up(BRIDGE);
        links.send().expect("bridge");
        for (number, line) in std::io::stdin().lines().map_while(Result::ok).enumerate() {
            let began = container(&lower, &disk.join(number.to_string()), number, line == "true");
            println!("{began}");
        }
        0
    });
    process::wait(pid.expect("clone")).expect("wait");
}

/// When it was begun, by [`now`]'s clock; it has ended.
fn container(lower: &Path, dir: &Path, number: usize, network: bool) -> f64 {
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    for dir in [&upper, &work] {
        fs::create_dir_all(dir).expect("mkdir");
    }
    let began = now();
    let options = [
        ("lowerdir", &*text(lower)),
        ("upperdir", &*text(&upper)),
        ("workdir", &*text(&work)),
        ("userxattr", ""),
    ];
    let root = mounts::create("overlay", &options, MountAttrFlags::empty()).expect("overlay");
    let (mut go, mut tell) = std::io::pipe().expect("pipe");
    let all = libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWCGROUP;
    let pid = process::clone(all, || {
        enter(&root);
        if network {
            go.read_exact(&mut [0]).expect("the word");
            let mut links = Batch::new();
            links.up(LOOPBACK).address(2, ADDRESS, 24).up(2).default_route(GATEWAY);
            links.send().expect("address and route");
        }
        let Err(e) = nix::unistd::execve(c"/bin/true", &[c"true"], &[c"A=b"]);
        panic!("{e}");
    });
    let pid = pid.expect("clone");
    if network {
        let name = format!("veth{number}");
        let peer = Peer { name: "eth0", index: 2, mac: [2, 0, 0, 0, 0, 2] };
        Batch::new()
            .veth(&name, 0, Some(BRIDGE), &peer, In::Process(pid))
            .send()
            .expect("pair of interfaces");
        tell.write_all(b".").expect("the child listens");
    }
    assert_eq!(process::wait(pid).expect("wait"), 0);
    drop(root);
    fs::remove_dir_all(dir).expect("remove the overlay's directories");
    began
}

fn enter(root: &OwnedFd) {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("private");
    let proc = mounts::create("proc", &[], MountAttrFlags::empty()).expect("proc");
    mounts::attach_at(root.as_fd(), Path::new("/tmp")).expect("attach the root");
    let new = open("/tmp", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open the root");
    mounts::pivot(new.as_fd()).expect("pivot_root");
    mounts::attach_at(proc.as_fd(), Path::new("/proc")).expect("attach /proc");
}
