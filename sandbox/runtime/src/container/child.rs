//! The child that the node's init clones for a container, from its first step to the container's program. Read [`build`] from top to
//! bottom. It is a fork without exec of an untraceable process: what it holds can't be reached from the container.

use super::{
    beforehand::Beforehand,
    groups::Hierarchy,
    messages::{Failure, FailureKind, FromChild, ToChild, With},
    net,
    process::{self as program, Parent, Program, Start, Stdio},
    reaper,
    root::{self, Root},
    seccomp::Filters,
    spec::{ContainerSpec, Namespace, ProcessSpec},
};
use crate::{Error, Result, cgroup, channel::Channel, error::Context, mounts, process};
use nix::{
    poll::{PollFd, PollFlags},
    sched::{CloneFlags, setns, unshare},
    unistd::{sethostname, setsid},
};
use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use std::{
    fs::File,
    io::{self, Write},
    mem::ManuallyDrop,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Its name until it is its program.
pub const TITLE: &str = "drydock-init";
/// How long a child waits for its container, in milliseconds: longer than anybody gives it one ([`super::messages::FRESH`]).
const WAIT: u16 = 3000;
/// Largest specification, in bytes.
const MAX_SPEC: u64 = 4 << 20;

/// What a child is born with.
pub struct ChildBoot<'a> {
    /// Memory file with its specification.
    pub spec: OwnedFd,
    /// Where it reports.
    pub report: Channel,
    /// Standard input, output and error; absent with a terminal.
    pub stdio: Option<Stdio>,
    /// The node's root directory.
    pub node_root: BorrowedFd<'a>,
    /// The node's control group hierarchies ([`crate::cgroup::NodesDir::layout`]).
    pub hierarchies: &'a [Option<Vec<String>>],
    /// The containers' system call filters.
    pub filters: &'a Filters,
    /// See [`super::EngineBoot::wasm`].
    pub wasm: Option<BorrowedFd<'a>>,
    /// Compiled code for it.
    pub code: Option<OwnedFd>,
    /// The network namespace that it takes for its own, [`net::prepare`]d.
    pub net: Option<OwnedFd>,
    /// What it need not make for itself.
    pub beforehand: Beforehand,
}

/// Becomes a container's first process; returns the exit status of a child that could not. What `boot` owns is closed on the way: the caller
/// must never drop it.
pub fn run(boot: &ChildBoot<'_>) -> i32 {
    match detach() {
        Ok(()) => become_first(boot),
        Err(e) => report(&boot.report, other(e)),
    }
}

/// Leaves what the init has that no descriptor stands for.
fn detach() -> Result<()> {
    process::set_title(TITLE);
    process::reset_signals();
    setsid().step(|| "setsid").map(drop)
}

fn become_first(boot: &ChildBoot<'_>) -> i32 {
    match build(boot) {
        // Nobody reads this status: the report tells why.
        Err(failure) => report(&boot.report, failure),
        Ok((spec, stdio)) => {
            let code = boot.code.as_ref().map(AsFd::as_fd);
            let wasm = spec.wasm.then_some(program::Wasm { program: boot.wasm, code });
            match program::enter(
                &spec.process,
                stdio,
                boot.report.as_fd(),
                boot.filters,
                Start::First { wasm },
            ) {
                Err(failure) => report(&boot.report, failure),
                Ok(program) if spec.init => reaper::run(&program, &boot.report),
                Ok(program) => execute(&program, Parent::Engine, &boot.report),
            }
        }
    }
}

/// Waits for a container and becomes its first process, as [`run`] does; ends when none comes, or the other end of `channel` is closed. What
/// comes over it is told at [`super::messages::EngineToInit::Expect`]; `boot` makes of it, and of `keep`, which alone stays open, what
/// the process would have been born with.
pub fn wait<'a>(
    channel: &'a Channel,
    keep: impl Iterator<Item = BorrowedFd<'a>>,
    boot: impl FnOnce(With, Vec<OwnedFd>) -> Result<ChildBoot<'a>>,
) -> i32 {
    process::close_all_but(&keep.chain([channel.as_fd()]).collect::<Vec<_>>());
    if detach().is_err() {
        return 128;
    }
    // Without it the container makes its own, and tells what refuses it.
    let proc = root::proc().ok();
    let mut ready = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    if nix::poll::poll(&mut ready, WAIT) != Ok(1) {
        return 0;
    }
    let Ok(Some(((with, flags), fds))) = channel.recv::<(With, i32)>() else { return 0 };
    let Ok(mut boot) = boot(with, fds).map(ManuallyDrop::new) else { return 128 };
    boot.beforehand.proc = proc;
    match unshare(CloneFlags::from_bits_truncate(flags)).step(|| "make namespaces") {
        Ok(()) => become_first(&boot),
        Err(e) => report(&boot.report, other(e)),
    }
}

/// Becomes a process of `docker exec` in the container whose namespaces this process is in by now.
pub fn exec(boot: &ChildBoot<'_>) -> i32 {
    let begin = || -> std::result::Result<(ProcessSpec, Stdio), Failure> {
        setsid().step(|| "setsid").map_err(other)?;
        process::reset_signals();
        let spec: ProcessSpec = read_spec(boot.spec.as_fd()).map_err(other)?;
        let stdio = stdio(
            boot,
            spec.tty.map(|size| {
                let devpts = root::find_devpts()?;
                root::open_pty(devpts.as_fd(), size, false)
            }),
        )?;
        Ok((spec, stdio))
    };
    let begun = begin();
    match begun {
        Err(failure) => report(&boot.report, failure),
        Ok((spec, stdio)) => {
            match program::enter(&spec, stdio, boot.report.as_fd(), boot.filters, Start::Exec) {
                Err(failure) => report(&boot.report, failure),
                Ok(program) => execute(&program, Parent::Engine, &boot.report),
            }
        }
    }
}

/// Becomes the program, or tells why not; returns the exit status of that.
pub(super) fn execute(program: &Program<'_>, parent: Parent, channel: &Channel) -> i32 {
    program::execute(program, parent).unwrap_or_else(|failure| report(channel, failure))
}

/// Tells why it did not become what it should; the status is Docker's for this.
pub(super) fn report(report: &Channel, failure: Failure) -> i32 {
    let status = match failure.kind {
        FailureKind::NotFound => 127,
        FailureKind::NotExecutable => 126,
        FailureKind::Other => 128,
    };
    let _engine_gone = report.send(&FromChild::Failed(failure), &[]);
    status
}

fn other(e: impl std::fmt::Display) -> Failure {
    Failure { kind: FailureKind::Other, message: e.to_string() }
}

/// The steps from a fresh clone to a container that only lacks its program.
fn build(boot: &ChildBoot<'_>) -> std::result::Result<(ContainerSpec, Stdio), Failure> {
    let spec: ContainerSpec = read_spec(boot.spec.as_fd()).map_err(other)?;
    leave(boot, &spec).map_err(other)?;
    let Beforehand { dev, groups, proc } = boot.beforehand.try_clone().map_err(other)?;
    let root = Root::begin(&spec, dev, proc).map_err(other)?;
    let hierarchies = take_place(boot, &spec).map_err(other)?;
    let devpts = root.enter(&spec, &hierarchies, groups, || mounted_root(boot)).map_err(other)?;
    let size = spec.process.tty;
    let stdio = stdio(boot, size.map(|size| root::open_pty(devpts.as_fd(), size, true)))?;
    if size.is_none() {
        boot.report.send(&FromChild::Prepared, &[]).map_err(other)?;
    }
    let Some((ToChild::Go(interfaces), _)) = boot.report.recv().map_err(other)? else {
        return Err(other("the engine is gone"));
    };
    if spec.namespaces.net == Namespace::New {
        net::set_up(&interfaces, boot.net.is_some()).map_err(other)?;
    }
    if !interfaces.is_empty() {
        boot.report.send(&FromChild::Linked, &[]).map_err(other)?;
    }
    write_sysctls(&spec.sysctls)?;
    root::lock(&spec).map_err(other)?;
    if !interfaces.is_empty()
        && boot.report.recv().map_err(other)?.map(|(told, _)| told) != Some(ToChild::Linked)
    {
        return Err(other("the engine is gone"));
    }
    Ok((spec, stdio))
}

/// Waits for the root that the engine mounts meanwhile.
fn mounted_root(boot: &ChildBoot<'_>) -> Result<OwnedFd> {
    let heard = boot.report.recv::<ToChild>().step(|| "hear from the engine")?;
    let tree = heard.and_then(|(told, fds)| fds.into_iter().next().filter(|_| told == ToChild::Root));
    tree.ok_or_else(|| Error::new("hear from the engine", io::ErrorKind::UnexpectedEof))
}

/// Closes what was the init's, and enters the namespaces that are there.
fn leave(boot: &ChildBoot<'_>, spec: &ContainerSpec) -> Result<()> {
    let mut keep = vec![boot.spec.as_fd(), boot.report.as_fd(), boot.node_root];
    keep.extend(boot.stdio.iter().flatten().map(AsFd::as_fd));
    keep.extend(boot.wasm.into_iter().chain(boot.beforehand.fds()));
    keep.extend([&boot.code, &boot.net].into_iter().flatten().map(AsFd::as_fd));
    process::close_all_but(&keep);
    if let Some(namespace) = &boot.net {
        setns(namespace, CloneFlags::CLONE_NEWNET).step(|| "enter the network namespace")?;
    } else if spec.namespaces.net == Namespace::New {
        let namespace = File::open("/proc/thread-self/ns/net").step(|| "open the network namespace")?;
        boot.report.send(&FromChild::Network, &[namespace.as_fd()]).step(|| "report")?;
    }
    let others = [
        (spec.namespaces.ipc, "ipc", CloneFlags::CLONE_NEWIPC),
        (spec.namespaces.net, "net", CloneFlags::CLONE_NEWNET),
        (spec.namespaces.uts, "uts", CloneFlags::CLONE_NEWUTS),
        (spec.namespaces.cgroup, "cgroup", CloneFlags::CLONE_NEWCGROUP),
    ];
    for (namespace, name, flag) in others {
        if let Namespace::Of(pid) = namespace {
            let path = format!("/proc/{pid}/ns/{name}");
            let namespace = File::open(&path).step(|| format!("open {path}"))?;
            setns(namespace, flag).step(|| format!("join {path}"))?;
        }
    }
    if spec.namespaces.uts == Namespace::New {
        // In Go's words, for runc tells nothing more of it.
        sethostname(&spec.hostname)
            .map_err(|errno| std::io::Error::other(errno.desc().to_lowercase()))
            .step(|| "sethostname")?;
        if !spec.domainname.is_empty() {
            rustix::system::setdomainname(spec.domainname.as_bytes()).step(|| "setdomainname")?;
        }
    }
    Ok(())
}

/// Goes into the control groups that the engine makes meanwhile. Returns the hierarchies, with what it has in them.
fn take_place<'a>(boot: &ChildBoot<'a>, spec: &ContainerSpec) -> Result<Vec<Hierarchy<'a>>> {
    let Some((ToChild::Place, _)) = boot.report.recv().step(|| "hear from the engine")? else {
        return Err(Error::new("hear from the engine", io::ErrorKind::UnexpectedEof));
    };
    let hierarchies = join_groups(boot.node_root, boot.hierarchies, &spec.cgroup)?;
    if spec.namespaces.cgroup == Namespace::New {
        unshare(CloneFlags::CLONE_NEWCGROUP).step(|| "unshare the control group namespace")?;
    }
    Ok(hierarchies)
}

/// Moves this process into the group (a path below the node's) in every hierarchy; of those that nodes share, in which it is. Returns
/// them, with where it was.
pub(crate) fn join_groups<'a>(
    node_root: BorrowedFd<'_>,
    hierarchies: &'a [Option<Vec<String>>],
    group: &str,
) -> Result<Vec<Hierarchy<'a>>> {
    let mut all = Vec::with_capacity(hierarchies.len());
    for hierarchy in hierarchies {
        let controllers = hierarchy.as_deref();
        let dir = hierarchy.as_ref().map_or_else(String::new, |names| names.join(","));
        let path = format!("sys/fs/cgroup/{dir}/{group}/cgroup.procs");
        let shared = controllers.is_some_and(cgroup::shared);
        let file = match mounts::open_below(node_root, &path, OFlags::WRONLY | OFlags::NONBLOCK) {
            Err(e) if shared && e.kind() == io::ErrorKind::NotFound => {
                all.push(Hierarchy { controllers, own: false });
                continue;
            }
            other => other.step(|| format!("open /{path}"))?,
        };
        File::from(file).write_all(b"0").step(|| format!("write to /{path}"))?;
        all.push(Hierarchy { controllers, own: true });
    }
    Ok(all)
}

/// The process's three descriptors; the master of a new terminal goes to the engine.
fn stdio(
    boot: &ChildBoot<'_>,
    pty: Option<Result<(OwnedFd, OwnedFd)>>,
) -> std::result::Result<Stdio, Failure> {
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(other);
    match (pty, &boot.stdio) {
        (Some(pty), _) => {
            let (master, slave) = pty.map_err(other)?;
            boot.report.send(&FromChild::Prepared, &[master.as_fd()]).map_err(other)?;
            Ok([copy(&slave)?, copy(&slave)?, slave])
        }
        (None, Some([a, b, c])) => Ok([copy(a)?, copy(b)?, copy(c)?]),
        (None, None) => Err(other("the process has neither a terminal nor pipes")),
    }
}

fn write_sysctls(sysctls: &[(String, String)]) -> std::result::Result<(), Failure> {
    for (name, value) in sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(&path, value).map_err(|e| {
            let why = nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(0)).desc().to_lowercase();
            other(format!("open {path}: {why}"))
        })?;
    }
    Ok(())
}

fn read_spec<T: DeserializeOwned>(memory: BorrowedFd<'_>) -> Result<T> {
    let step = || "read the specification";
    let size = rustix::fs::fstat(memory).step(step)?.st_size;
    let size = u64::try_from(size).unwrap_or(0).min(MAX_SPEC);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pread(memory, &mut bytes[done..], done as u64).step(step)? {
            0 => break,
            read => done += read,
        }
    }
    bytes.truncate(done);
    postcard::from_bytes(&bytes).map_err(|e| Error::new("read the specification", io::Error::other(e)))
}
