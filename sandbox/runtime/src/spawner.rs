//! The spawner: pid 1 of a session. It builds the session's private root and network, forks the session process, and
//! from then on starts and ends nodes when the session process (or, with a new node's disk, the warden) says so.
//!
//! It has one thread for ever, because it forks without exec. When it ends, the kernel ends everything in the session;
//! it ends when the session process does. A node is in one of the states of [`Node`]:
//!
//! ```text
//!   off ──power on──▶ starting ──its init reports──▶ on ──its init ends──▶ off
//!                        └────────its init ends: failed──────────────────▶ off
//! ```

use crate::{
    Error, Result, caps,
    cgroup::NodesDir,
    channel::Channel,
    cluster::ClusterWish,
    error::Context,
    launch::{Launch, NodeDisk},
    limits::Limits,
    messages::{FromSpawner, FromWarden, Given, SessionBoot, ToSpawner},
    mounts, netlink, node_init, process, session_root,
    trace::Trace,
};
use drydock_protocol::{NodeName, pipe::Step};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{pipe2, sethostname},
};
use rustix::{
    fs::{Mode, OFlags},
    mount::{UnmountFlags, unmount},
};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

/// Number of the session's bridge in the session's network namespace.
const BRIDGE: u32 = 2;
/// Number of a node's `eth0` in the node's network namespace.
pub(crate) const ETH0: u32 = 2;
/// The session's own address on the bridge.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
/// Length of the prefix of the session's network.
pub const PREFIX: u8 = 24;

/// The address of a node on the session's bridge: 192.168.0.11 for node1.
pub fn address(node: NodeName) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 0, 10 + node.number())
}

/// The address of the node that has the control plane of the session's cluster: the first one's.
pub fn control_plane() -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 0, 11)
}

/// What the kernel counts per user namespace (namespaces(7), `/proc/sys/user`), beside the limits that an operator sets.
const NAMESPACE_LIMITS: [(&str, u32); 8] = [
    ("max_user_namespaces", 64),
    ("max_pid_namespaces", 512),
    ("max_mnt_namespaces", 512),
    ("max_net_namespaces", 300),
    ("max_uts_namespaces", 512),
    ("max_ipc_namespaces", 512),
    ("max_cgroup_namespaces", 512),
    ("max_time_namespaces", 32),
];

/// Where the Docker engine of a node keeps its data, below the node's root.
const DOCKER_ROOT: &str = "var/lib/docker";

struct Node {
    /// Its init, unless it is off.
    pid: Option<i32>,
    /// While it starts: where its init reports, and our end of the channel to it.
    starting: Option<(OwnedFd, Channel)>,
    /// The session process wants it gone.
    remove: bool,
}

struct Spawner<'a> {
    launch: &'a Launch<'a>,
    cgroup: NodesDir,
    session: Channel,
    session_pid: i32,
    signals: SignalFd,
    nodes: BTreeMap<NodeName, Node>,
    /// The cluster that they make up.
    cluster: Option<ClusterWish>,
    /// When the session was asked for.
    origin: Instant,
    /// Network namespaces of nodes to come, with their interface.
    networks: BTreeMap<NodeName, OwnedFd>,
}

/// For so many nodes network namespaces are made before there are any: that takes the kernel the longest of all that a node needs.
const NETWORKS: u8 = 3;

/// Runs as pid 1 of the session until the session ends; returns the exit status.
pub fn run(launch: &Launch<'_>, cgroup: NodesDir) -> i32 {
    process::set_title("drydock-spawner");
    let mut spawner = match Spawner::boot(launch, cgroup) {
        Ok(spawner) => spawner,
        Err(e) => {
            tracing::error!(session = %launch.id, "the session can't start: {e}");
            return 1;
        }
    };
    match spawner.serve() {
        Ok(status) => status,
        Err(e) => {
            tracing::error!(session = %launch.id, "the spawner failed: {e}");
            1
        }
    }
}

impl<'a> Spawner<'a> {
    fn boot(launch: &'a Launch<'a>, cgroup: NodesDir) -> Result<Self> {
        let mut trace = Trace::from_origin(launch.origin);
        let keep: Vec<_> = launch.needed(&cgroup).collect();
        process::close_all_but(&keep);
        session_root::build(launch.shared.as_ref().map(|shared| shared.place))?;
        trace.step("session root");
        sethostname(format!("drydock-{}", launch.id)).step(|| "sethostname")?;
        // Of the session's own, so that `nsenter --all` works between its processes. Children are in it, this process is not.
        // A kernel may be without.
        if let Err(error) = unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)) {
            tracing::debug!(%error, "no time namespace");
        }
        limit_namespaces(launch.limits)?;
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).step(|| "block SIGCHLD")?;
        let signals =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).step(|| "signalfd")?;
        let (ours, theirs) = Channel::pair().step(|| "make a channel")?;
        let mut spawner = Self {
            launch,
            cgroup,
            session: ours,
            session_pid: 0,
            signals,
            nodes: BTreeMap::new(),
            cluster: None,
            origin: launch.origin,
            networks: BTreeMap::new(),
        };
        // It makes its runtime, and listens at the gateway's address to be, while this process makes the network.
        spawner.session_pid = spawner.fork_session_process(theirs, trace.into_steps())?;
        netlink::Batch::new()
            .up(netlink::LOOPBACK)
            .bridge("br0", BRIDGE, [2, 0, 0, 0, 0, 1])
            .address(BRIDGE, GATEWAY, PREFIX)
            .send()?;
        spawner.prepare_networks()?;
        Ok(spawner)
    }

    fn fork_session_process(&self, channel: Channel, trace: Vec<Step>) -> Result<i32> {
        process::fork(|| {
            process::set_title("drydock-session");
            let boot = || -> Result<SessionBoot> {
                let listener = self.launch.listener.try_clone_to_owned().step(|| "duplicate the listener")?;
                let cgroup = self.cgroup.try_clone()?;
                let mut keep = vec![listener.as_fd(), channel.as_fd()];
                keep.extend(cgroup.fds());
                process::close_all_but(&keep);
                process::reset_signals();
                caps::limit_session_process()?;
                process::make_untraceable()?;
                Ok(SessionBoot {
                    id: self.launch.id.clone(),
                    limits: *self.launch.limits,
                    spawner: channel,
                    listener,
                    cgroup,
                    trace,
                    origin: self.origin,
                })
            };
            match boot() {
                Ok(boot) => (self.launch.mains.session)(boot),
                Err(e) => {
                    tracing::error!("the session process can't start: {e}");
                    1
                }
            }
        })
    }

    fn serve(&mut self) -> Result<i32> {
        loop {
            let control = self.launch.control;
            let starting: Vec<NodeName> =
                self.nodes.iter().filter(|(_, n)| n.starting.is_some()).map(|(name, _)| *name).collect();
            let mut fds = vec![
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.session.as_fd(), PollFlags::POLLIN),
                PollFd::new(control.as_fd(), PollFlags::POLLIN),
            ];
            for name in &starting {
                if let Some((report, _)) = self.nodes.get(name).and_then(|n| n.starting.as_ref()) {
                    fds.push(PollFd::new(report.as_fd(), PollFlags::POLLIN));
                }
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(Error::new("poll", e)),
            }
            let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
            drop(fds);
            for (name, _) in starting.iter().zip(&ready[3..]).filter(|(_, ready)| **ready) {
                self.node_reported(*name)?;
            }
            if ready[1] && !self.session_said()? {
                return Ok(0);
            }
            if ready[2] {
                self.warden_said();
            }
            if ready[0]
                && let Some(status) = self.reap()?
            {
                return Ok(status);
            }
        }
    }

    /// Makes network namespaces for the first nodes, as long as nobody asks for nodes.
    fn prepare_networks(&mut self) -> Result<()> {
        let own = netns()?;
        for name in (1..=NETWORKS).filter_map(NodeName::new) {
            let mut asked = [PollFd::new(self.launch.control.as_fd(), PollFlags::POLLIN)];
            if poll(&mut asked, PollTimeout::ZERO).step(|| "poll")? > 0 {
                break;
            }
            unshare(CloneFlags::CLONE_NEWNET).step(|| "make a network namespace")?;
            let network = netns();
            setns(&own, CloneFlags::CLONE_NEWNET).step(|| "go back to the session's network namespace")?;
            let network = network?;
            let mut links = netlink::Batch::new();
            links.veth(
                &veth_name(name),
                veth_index(name),
                Some(BRIDGE),
                &eth0(name),
                netlink::In::Namespace(network.as_fd()),
            );
            links.send()?;
            self.networks.insert(name, network);
        }
        Ok(())
    }

    /// Starts nodes that are off, all at once: the kernel's waits for one overlap with the work for another.
    fn power_on(&mut self, names: &[NodeName]) -> Result<()> {
        let mut links = netlink::Batch::new();
        let mut waiting = Vec::new();
        for &name in names {
            let (ours, theirs) = Channel::pair().step(|| "make a channel")?;
            let (report, reporter) = pipe2(OFlag::O_CLOEXEC).step(|| "pipe")?;
            let (go, goer) = pipe2(OFlag::O_CLOEXEC).step(|| "pipe")?;
            self.cgroup.create(name, self.launch.limits.memory)?;
            let network = self.networks.remove(&name);
            let new_network = if network.is_none() { libc::CLONE_NEWNET } else { 0 };
            let namespaces = libc::CLONE_NEWPID
                | libc::CLONE_NEWNS
                | libc::CLONE_NEWUTS
                | libc::CLONE_NEWIPC
                | new_network;
            let cgroup = &self.cgroup;
            let filter = self.launch.filter;
            let (origin, resolvers) = (self.origin, self.launch.resolvers);
            let (mains, cluster) = (self.launch.mains, self.cluster);
            let wasm = self.launch.wasm;
            let pid = process::clone(namespaces, || {
                node_init::run(node_init::InitBoot {
                    node: name,
                    network,
                    channel: theirs,
                    go,
                    reporter,
                    cgroup,
                    filter,
                    resolvers,
                    mains,
                    cluster,
                    wasm,
                    origin,
                })
            })?;
            if new_network != 0 {
                let there = netlink::In::Process(pid);
                links.veth(&veth_name(name), veth_index(name), Some(BRIDGE), &eth0(name), there);
            }
            if let Some(node) = self.nodes.get_mut(&name) {
                node.pid = Some(pid);
                node.starting = Some((report, ours));
            }
            waiting.push(goer);
        }
        links.send()?;
        // Closing the pipes is the word that the interfaces are there.
        drop(waiting);
        Ok(())
    }

    /// A node's init has built its root, or says why it can't.
    fn node_reported(&mut self, name: NodeName) -> Result<()> {
        let Some(node) = self.nodes.get_mut(&name) else { return Ok(()) };
        let Some((report, channel)) = node.starting.take() else { return Ok(()) };
        let mut text = Vec::new();
        fs::File::from(report)
            .take(64 * 1024)
            .read_to_end(&mut text)
            .step(|| format!("read {name}'s report"))?;
        let report: std::result::Result<Vec<Step>, String> =
            serde_json::from_slice(&text).unwrap_or_else(|_| Err("its init ended without a word".into()));
        match (report, node.pid) {
            (Ok(trace), Some(pid)) => self.tell(&FromSpawner::Up { node: name, pid, trace }, Some(channel)),
            (Err(message), _) => {
                tracing::warn!(node = %name, "can't start: {message}");
                self.tell(&FromSpawner::Failed { node: name, message }, None)
            }
            (Ok(_), None) => Ok(()),
        }
    }

    fn tell(&self, message: &FromSpawner, channel: Option<Channel>) -> Result<()> {
        let fds: Vec<_> = channel.iter().map(AsFd::as_fd).collect();
        self.session.send(message, &fds).step(|| "tell the session process")
    }

    /// False: the session process has closed its end.
    fn session_said(&mut self) -> Result<bool> {
        let Some((message, _)) = self.session.recv::<ToSpawner>().step(|| "read from the session process")?
        else {
            return Ok(false);
        };
        match message {
            ToSpawner::PowerOn(name) => {
                if self.nodes.get(&name).is_some_and(|n| n.pid.is_none())
                    && let Err(e) = self.power_on(&[name])
                {
                    self.tell(&FromSpawner::Failed { node: name, message: e.to_string() }, None)?;
                }
            }
            ToSpawner::PowerOff(name) => self.kill(name),
            ToSpawner::Remove(name) => {
                match self.nodes.get_mut(&name) {
                    Some(node) if node.pid.is_some() => {
                        node.remove = true;
                        self.kill(name);
                    }
                    _ => self.forget(name)?,
                };
            }
        }
        Ok(true)
    }

    fn kill(&self, name: NodeName) {
        if let Some(pid) = self.nodes.get(&name).and_then(|n| n.pid) {
            // Our own child, not yet reaped: the number can't belong to another process.
            let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            self.cgroup.thaw(name);
        }
    }

    /// Lets go of a node that is off.
    fn forget(&mut self, name: NodeName) -> Result<()> {
        self.nodes.remove(&name);
        let place = session_root::node_path(name);
        if let Err(e) = unmount(&place, UnmountFlags::DETACH)
            .map_err(io::Error::from)
            .and_then(|()| fs::remove_dir(&place))
        {
            tracing::warn!(node = %name, "left at {}: {e}", place.display());
        }
        self.tell(&FromSpawner::Removed(name), None)
    }

    /// The warden connects to say something of nodes. Whatever goes wrong here must not end the session.
    fn warden_said(&mut self) {
        let said = self.launch.control.accept().step(|| "accept the warden").and_then(|(connection, _)| {
            while let Some((message, fds)) = connection.recv().step(|| "read from the warden")? {
                match message {
                    FromWarden::Disks(names) => self.take_disks(&names, fds)?,
                    FromWarden::Start { names, given } => self.start(&names, given)?,
                }
            }
            Ok(())
        });
        if let Err(e) = said {
            tracing::error!("what the warden said was not done: {e}");
        }
    }

    fn take_disks(&mut self, names: &[NodeName], fds: Vec<OwnedFd>) -> Result<()> {
        if fds.len() != 2 * names.len() {
            return Err(Error::new("new nodes", io::Error::other("their disks did not come along")));
        }
        let mut fds = fds.into_iter();
        for &name in names {
            let (Some(root), Some(docker)) = (fds.next(), fds.next()) else { break };
            if let Err(e) = self.attach(name, &NodeDisk { root, docker }) {
                self.tell(&FromSpawner::Failed { node: name, message: e.to_string() }, None)?;
            }
        }
        Ok(())
    }

    fn attach(&mut self, name: NodeName, disk: &NodeDisk) -> Result<()> {
        if self.nodes.contains_key(&name) {
            return Err(Error::new(name, io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        attach_disk(name, disk)?;
        self.nodes.insert(name, Node { pid: None, starting: None, remove: false });
        Ok(())
    }

    fn start(&mut self, names: &[NodeName], given: Option<Given>) -> Result<()> {
        if let Some(Given { after, cluster }) = given {
            self.origin = self.launch.origin + after;
            self.cluster = cluster;
            self.tell(&FromSpawner::Given(after), None)?;
        }
        // What is missing has failed before.
        let is_off = |name: &NodeName| self.nodes.get(name).is_some_and(|node| node.pid.is_none());
        let names: Vec<NodeName> = names.iter().copied().filter(is_off).collect();
        for &name in &names {
            self.tell(&FromSpawner::Added(name), None)?;
        }
        if let Err(e) = self.power_on(&names) {
            for node in names {
                self.tell(&FromSpawner::Failed { node, message: e.to_string() }, None)?;
            }
        }
        Ok(())
    }

    /// Takes in all children that have ended; the session's exit status if its process is among them.
    fn reap(&mut self) -> Result<Option<i32>> {
        while matches!(self.signals.read_signal(), Ok(Some(_))) {}
        loop {
            let (pid, status, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid.as_raw(), status, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32, Some(signal)),
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(None),
                Ok(_) => continue,
                Err(e) => return Err(Error::new("wait", e)),
            };
            if pid == self.session_pid {
                return Ok(Some(status));
            }
            if let Some(name) = self.nodes.iter().find(|(_, n)| n.pid == Some(pid)).map(|(name, _)| *name) {
                self.node_ended(name, signal)?;
            }
        }
    }

    fn node_ended(&mut self, name: NodeName, signal: Option<Signal>) -> Result<()> {
        self.node_reported(name)?;
        let Some(node) = self.nodes.get_mut(&name) else { return Ok(()) };
        node.pid = None;
        let remove = node.remove;
        // The interfaces go with the node's network namespace, but the kernel takes its time over that.
        let _gone_already = netlink::Batch::new().delete(veth_index(name)).send();
        if let Err(e) = self.cgroup.remove(name) {
            tracing::debug!(node = %name, "{e}");
        }
        // reboot(2) in a pid namespace: the kernel ends pid 1 by SIGHUP for a restart.
        self.tell(&FromSpawner::Down { node: name, reboot: signal == Some(Signal::SIGHUP) }, None)?;
        if remove { self.forget(name) } else { Ok(()) }
    }
}

/// The network namespace that this process is in.
fn netns() -> Result<OwnedFd> {
    Ok(fs::File::open("/proc/self/ns/net").step(|| "open the network namespace")?.into())
}

/// Name of a node's port on the bridge.
fn veth_name(node: NodeName) -> String {
    format!("veth-{node}")
}

/// The node's own end.
fn eth0(node: NodeName) -> netlink::Peer<'static> {
    netlink::Peer { name: "eth0", index: ETH0, mac: [2, 0, 0, 0, 1, node.number()] }
}

/// Interface number of a node's port on the bridge.
fn veth_index(node: NodeName) -> u32 {
    10 + u32::from(node.number())
}

/// Mounts a node's disk at its place in the session's root. Nothing of the learner runs in the node yet, and a new disk has only
/// what the image has.
fn attach_disk(name: NodeName, disk: &NodeDisk) -> Result<()> {
    let place = session_root::node_path(name);
    fs::create_dir(&place).step(|| format!("make {}", place.display()))?;
    mounts::attach_at(disk.root.as_fd(), &place)?;
    let root = rustix::fs::open(&place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open {}", place.display()))?;
    mounts::attach_below(disk.docker.as_fd(), root.as_fd(), DOCKER_ROOT)?;
    let catalogue = session_root::catalogue();
    if mounts::is_mount_point(catalogue) {
        let copy = mounts::copy(rustix::fs::CWD, &catalogue.to_string_lossy(), false)?;
        mounts::attach_below(copy.as_fd(), root.as_fd(), &format!("{DOCKER_ROOT}/catalogue"))?;
    }
    Ok(())
}

fn limit_namespaces(limits: &Limits) -> Result<()> {
    let own = [
        ("max_inotify_watches", limits.inotify_watches),
        ("max_inotify_instances", limits.inotify_instances),
    ];
    for (name, value) in NAMESPACE_LIMITS.into_iter().chain(own) {
        let path = format!("/proc/sys/user/{name}");
        fs::write(&path, value.to_string()).step(|| format!("write {value} to {path}"))?;
    }
    Ok(())
}
