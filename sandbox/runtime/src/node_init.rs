//! The init of a node: pid 1 of its pid namespace. It builds the node's root, then reaps, and starts shells, commands and
//! file work when the session process asks. One thread, small, and never blocked by anything that a learner can make:
//! ptys are opened through its own devpts descriptor, and what may hang (looking up a program, files) is done in children.

use crate::{
    Error, Result, caps,
    cgroup::NodesDir,
    channel::Channel,
    cluster::{ClusterWish, KubeletBoot},
    engine_host::{self, EngineHost},
    error::Context,
    files,
    initctl::Control,
    launch::Mains,
    messages::{FromInit, ToInit},
    netlink,
    node_root::{self, NodeRoot},
    pidfd, process, pty, seccomp,
    service_host::{self, ServiceHost},
    spawner,
    trace::Trace,
};
use drydock_protocol::{NodeName, frame::Size};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{pipe2, read, sethostname, setsid},
};
use seccompiler::BpfProgram;
use std::{
    collections::HashMap,
    ffi::CString,
    io::{self, Write},
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

/// What a node's init is born with.
pub struct InitBoot<'a> {
    /// Which node.
    pub node: NodeName,
    /// The node's network namespace, if it is not in it yet.
    pub network: Option<OwnedFd>,
    /// To the session process.
    pub channel: Channel,
    /// Ends when the spawner has made the node's interface.
    pub go: OwnedFd,
    /// Where the steps of the start, or the failure, are written as JSON.
    pub reporter: OwnedFd,
    /// The session's `nodes` control groups.
    pub cgroup: &'a NodesDir,
    /// The system call filter.
    pub filter: &'a BpfProgram,
    /// See [`crate::launch::Launch::resolvers`].
    pub resolvers: Option<&'a [Ipv4Addr]>,
    /// What the node's services do when they are started; each returns its exit status.
    pub mains: Mains,
    /// The cluster that the node belongs to, if it does to one.
    pub cluster: Option<ClusterWish>,
    /// See [`crate::launch::Launch::wasm`].
    pub wasm: Option<BorrowedFd<'a>>,
    /// Zero of the time line of all traces.
    pub origin: Instant,
}

/// Where programs are looked up.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct Init {
    channel: Channel,
    root: NodeRoot,
    signals: SignalFd,
    services: Services,
    /// Processes that the session process has asked for, by process id.
    started: HashMap<i32, u32>,
}

/// What the init runs of itself, and where it is told to.
struct Services {
    control: Control,
    engine: EngineHost,
    kubelet: Option<ServiceHost>,
}

/// Runs as pid 1 of the node until it is killed; returns the exit status.
pub fn run(boot: InitBoot<'_>) -> i32 {
    process::set_title("init");
    let built = build(&boot);
    let hierarchies: Vec<_> = boot.cgroup.layout().map(|names| names.map(<[String]>::to_vec)).collect();
    let InitBoot { node, network, channel, go, reporter, mains, cluster, wasm, .. } = boot;
    drop((network, go));
    let built = built.and_then(|(root, steps)| {
        let engine = EngineHost::new(node, root.root.as_fd(), hierarchies, wasm, mains.engine)?;
        let kubelet = match cluster {
            Some(cluster) => {
                let address = spawner::address(node);
                let boot = KubeletBoot { node, address, control_plane: spawner::control_plane(), cluster };
                Some(ServiceHost::new(boot, mains.kubelet, root.root.as_fd())?)
            }
            None => None,
        };
        let services = Services { control: Control::make()?, engine, kubelet };
        Ok((root, services, steps))
    });
    let report = built.as_ref().map(|(_, _, steps)| steps).map_err(ToString::to_string);
    let mut reporter = std::fs::File::from(reporter);
    let _spawner_gone = reporter.write_all(&serde_json::to_vec(&report).unwrap_or_default());
    drop(reporter);
    let Ok((root, services, _)) = built else { return 1 };
    if let Err(e) = start(channel, root, services).and_then(|mut init| init.serve()) {
        tracing::error!(%node, "init failed: {e}");
    }
    1
}

/// The steps from a fresh clone to a node in which a learner may act. Their order matters: the control group before its
/// namespace, that before the mounts that show it; limits, capabilities and filter last, since the steps before need more.
fn build(boot: &InitBoot<'_>) -> Result<(NodeRoot, Vec<drydock_protocol::pipe::Step>)> {
    let mut trace = Trace::from_origin(boot.origin);
    let mut keep = vec![boot.channel.as_fd(), boot.go.as_fd(), boot.reporter.as_fd()];
    keep.extend(boot.cgroup.fds());
    keep.extend(boot.wasm);
    keep.extend(boot.network.as_ref().map(AsFd::as_fd));
    process::close_all_but(&keep);
    if let Some(network) = &boot.network {
        setns(network, CloneFlags::CLONE_NEWNET).step(|| "enter the network namespace")?;
    }
    boot.cgroup.join(boot.node)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).step(|| "unshare the control group namespace")?;
    boot.cgroup.leave_room(boot.node)?;
    trace.step(&format!("{} control group", boot.node));
    let root = node_root::enter(boot.node, boot.cgroup)?;
    trace.step(&format!("{} file systems", boot.node));
    let name = boot.node.to_string();
    sethostname(&name).step(|| "sethostname")?;
    let address = spawner::address(boot.node);
    let etc = root.root.as_fd();
    node_root::write_etc(etc, "hostname", &format!("{name}\n"))?;
    node_root::write_etc(
        etc,
        "hosts",
        &format!("127.0.0.1\tlocalhost\n{address}\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    )?;
    let resolvers = [spawner::GATEWAY].into_iter().chain(boot.resolvers.into_iter().flatten().copied());
    let resolvers: String = resolvers.map(|address| format!("nameserver {address}\n")).collect();
    node_root::write_etc(etc, "resolv.conf", &resolvers)?;
    let _end = read(&boot.go, &mut [0]).step(|| "wait for the interface")?;
    trace.step(&format!("{} waits for its interface", boot.node));
    // A namespace begins with what the host has now; a machine that boots forwards nothing, and Docker looks whether it does.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").step(|| "forward nothing")?;
    // As systemd sets it on every Debian machine: any user may send echo requests (icmp(7)).
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 65535").step(|| "let users ping")?;
    let mut links = netlink::Batch::new();
    links.up(netlink::LOOPBACK).address(spawner::ETH0, address, spawner::PREFIX).up(spawner::ETH0);
    if boot.resolvers.is_some() {
        links.default_route(spawner::GATEWAY);
    }
    // Without a way out there is no default route: "Network is unreachable" comes at once instead of a time-out.
    links.send()?;
    trace.step(&format!("{} network", boot.node));
    caps::limit_node()?;
    process::make_untraceable()?;
    seccomp::install(boot.filter)?;
    trace.step(&format!("{} capabilities and filter", boot.node));
    Ok((root, trace.into_steps()))
}

fn start(channel: Channel, root: NodeRoot, services: Services) -> Result<Init> {
    let mut keep = vec![channel.as_fd(), root.root.as_fd(), root.devpts.as_fd(), services.control.fd()];
    keep.extend(services.engine.fds());
    keep.extend(services.kubelet.as_ref().map(ServiceHost::fd));
    process::close_all_but(&keep);
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).step(|| "block SIGCHLD")?;
    let signals =
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).step(|| "signalfd")?;
    Ok(Init { channel, root, signals, services, started: HashMap::new() })
}

impl Init {
    fn serve(&mut self) -> Result<()> {
        loop {
            let mut fds = vec![
                PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            fds.push(PollFd::new(self.services.control.fd(), PollFlags::POLLIN));
            fds.extend(self.services.engine.poll_fd());
            match poll(&mut fds, self.services.deadline().map_or(PollTimeout::NONE, until)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(Error::new("poll", e)),
            }
            let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
            drop(fds);
            let (asked, children, ordered) = (ready[0], ready[1], ready[2]);
            // Requests first: a process that ends at once must be known before it is reaped.
            if asked {
                let Some((request, fds)) = self.channel.recv::<ToInit>().step(|| "read a request")? else {
                    return Ok(());
                };
                self.answer(request, fds)?;
            }
            if ordered {
                self.services.obey(&self.channel)?;
            }
            self.services.engine.work(ready.get(3) == Some(&true), &self.channel)?;
            if let Some(kubelet) = &mut self.services.kubelet {
                kubelet.work()?;
            }
            if children {
                self.reap()?;
            }
        }
    }

    fn answer(&mut self, request: ToInit, mut fds: Vec<OwnedFd>) -> Result<()> {
        match request {
            ToInit::Spawn { id, argv, env, cwd, tty } => {
                let command = Command::new(&argv, &env, cwd, tty.is_some());
                let (reply, fds) = match command.and_then(|command| self.spawn(&command, tty)) {
                    Ok((pid, fds)) => {
                        self.started.insert(pid, id);
                        (FromInit::Spawned { id, pid }, fds)
                    }
                    Err(e) => {
                        let errno = e.errno().unwrap_or(libc::EINVAL);
                        (FromInit::SpawnFailed { id, errno, message: e.to_string() }, vec![])
                    }
                };
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                self.channel.send(&reply, &fds).step(|| "answer")
            }
            ToInit::File { op } => {
                if let Some(connection) = fds.pop()
                    && let Err(e) = process::fork(|| {
                        process::close_all_but(&[connection.as_fd()]);
                        process::reset_signals();
                        files::serve(connection, op);
                        0
                    })
                {
                    // The connection closes with this end of it: the asker sees that nothing came.
                    tracing::warn!("no process for file work: {e}");
                }
                Ok(())
            }
        }
    }

    /// Starts a process; (its id, descriptors for [`FromInit::Spawned`]).
    fn spawn(&self, command: &Command, tty: Option<Size>) -> Result<(i32, Vec<OwnedFd>)> {
        let (theirs, ours) = match tty {
            Some(size) => {
                let (master, slave) =
                    pty::open(self.root.devpts.as_fd(), size.clamped()).step(|| "make a terminal")?;
                let again = || slave.try_clone().step(|| "duplicate the terminal");
                ([again()?, again()?, slave], vec![master])
            }
            None => {
                let pipe = || pipe2(OFlag::O_CLOEXEC).step(|| "pipe");
                let ((in_read, in_write), (out_read, out_write), (err_read, err_write)) =
                    (pipe()?, pipe()?, pipe()?);
                ([in_read, out_write, err_write], vec![in_write, out_read, err_read])
            }
        };
        let pid = process::fork(|| command.exec(&theirs, tty.is_some()))?;
        let mut fds = vec![pidfd::open(pid).step(|| "open the new process")?];
        fds.extend(ours);
        Ok((pid, fds))
    }

    fn reap(&mut self) -> Result<()> {
        while matches!(self.signals.read_signal(), Ok(Some(_))) {}
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid.as_raw(), status),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
                Ok(_) => continue,
                Err(e) => return Err(Error::new("wait", e)),
            };
            if self.services.ended(pid, status) {
                continue;
            }
            if let Some(id) = self.started.remove(&pid) {
                self.channel.send(&FromInit::Exited { id, status }, &[]).step(|| "tell an exit")?;
            }
        }
    }
}

impl Services {
    fn deadline(&self) -> Option<Instant> {
        let kubelet = self.kubelet.as_ref().and_then(ServiceHost::deadline);
        self.engine.deadline().into_iter().chain(kubelet).min()
    }

    /// Does what the node's root says.
    fn obey(&mut self, session: &Channel) -> Result<()> {
        for order in self.control.read() {
            match (order.verb, order.service.as_str(), &mut self.kubelet) {
                (Some(verb), engine_host::DOCKER, _) => self.engine.obey(verb, order.reply, session)?,
                (Some(verb), service_host::KUBELET, Some(kubelet)) => kubelet.obey(verb, order.reply)?,
                _ => order.reply.say("unknown"),
            }
        }
        Ok(())
    }

    /// A child of the init has ended; false if it is none of theirs.
    fn ended(&mut self, pid: i32, status: i32) -> bool {
        self.engine.ended(pid, status) || self.kubelet.as_mut().is_some_and(|k| k.ended(pid, status))
    }
}

/// As a time-out for poll(2), rounded up.
fn until(deadline: Instant) -> PollTimeout {
    let millis = deadline.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

/// A program with all that execve(2) wants, made before the fork.
struct Command {
    /// Paths to try in turn.
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    name: String,
}

impl Command {
    fn new(argv: &[Vec<u8>], env: &[(String, String)], cwd: Option<String>, tty: bool) -> Result<Self> {
        fn text(bytes: impl Into<Vec<u8>>) -> Result<CString> {
            CString::new(bytes).step(|| "an argument with a zero byte")
        }
        let name = argv.first().map_or(&b"bash"[..], Vec::as_slice);
        let programs: Vec<Vec<u8>> = match name {
            _ if argv.is_empty() => vec!["/bin/bash".into(), "/bin/sh".into()],
            path if path.contains(&b'/') => vec![path.into()],
            name => PATH.split(':').map(|dir| [dir.as_bytes(), b"/", name].concat()).collect(),
        };
        // A leading dash makes it a login shell (bash(1), INVOCATION).
        let login = [b"-bash".to_vec()];
        let argv = if argv.is_empty() { &login } else { argv };
        let mut variables = vec![
            ("HOME", "/root"),
            ("USER", "root"),
            ("LOGNAME", "root"),
            ("SHELL", "/bin/bash"),
            ("PATH", PATH),
            ("LANG", "C.UTF-8"),
        ];
        if tty {
            variables.extend([("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]);
        }
        variables.retain(|(key, _)| !env.iter().any(|(k, _)| k == key));
        let given = env.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let env = variables.into_iter().chain(given).map(|(k, v)| text(format!("{k}={v}")));
        Ok(Self {
            programs: programs.into_iter().map(text).collect::<Result<_>>()?,
            env: env.collect::<Result<_>>()?,
            argv: argv.iter().map(|argument| text(argument.as_slice())).collect::<Result<_>>()?,
            cwd: text(cwd.unwrap_or_else(|| "/root".into()))?,
            name: String::from_utf8_lossy(name).into_owned(),
        })
    }

    /// In the child: becomes the program. What it returns is the exit status of a child that could not
    /// (127: not found, 126: not executable, as shells have it).
    fn exec(&self, stdio: &[OwnedFd; 3], tty: bool) -> i32 {
        let set_up = || -> Result<()> {
            setsid().step(|| "setsid")?;
            let [input, output, error] = stdio.each_ref().map(AsFd::as_fd);
            process::set_stdio(input, output, error)?;
            process::close_all_but(&[]);
            process::reset_signals();
            if tty {
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).step(|| "take the terminal")?;
            }
            nix::unistd::chdir(self.cwd.as_c_str())
                .step(|| format!("working directory {}", self.cwd.to_string_lossy()))
        };
        let error = match set_up() {
            Err(e) => format!("{e}"),
            Ok(()) => {
                let mut failure = nix::errno::Errno::ENOENT;
                for program in &self.programs {
                    let Err(e) = nix::unistd::execve(program, &self.argv, &self.env);
                    if e != nix::errno::Errno::ENOENT {
                        failure = e;
                    }
                }
                let status = if failure == nix::errno::Errno::ENOENT { 127 } else { 126 };
                let _unread = writeln!(io::stderr(), "{}: {}", self.name, failure.desc());
                return status;
            }
        };
        let _unread = writeln!(io::stderr(), "{}: {error}", self.name);
        126
    }
}
