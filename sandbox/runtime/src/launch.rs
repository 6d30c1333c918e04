//! The birth of a session, the warden's side: forks a process that lays down the host's root step by step and becomes the
//! session's spawner. Read [`stage`] from top to bottom: the order of the steps is what makes it safe.

use crate::{
    Error, Result,
    cgroup::{NodesDir, SessionGroup},
    channel::Listener,
    error::Context,
    limits::Limits,
    mounts, process, session_root, spawner, userns,
};
use drydock_protocol::SessionId;
use nix::{
    fcntl::{OFlag, open},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        stat::Mode,
    },
    unistd::{pipe2, read, setsid, write},
};
use seccompiler::BpfProgram;
use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Instant,
};

/// All that a session is made of before it has nodes, which come by [`crate::messages::FromWarden`].
pub struct Launch<'a> {
    /// Its id.
    pub id: &'a SessionId,
    /// Its limits.
    pub limits: &'a Limits,
    /// Its user namespace ([`userns::create`]).
    pub userns: BorrowedFd<'a>,
    /// Its control group, with limits set.
    pub group: &'a SessionGroup,
    /// What all sessions share; without, nodes have the host's own device files and no images.
    pub shared: Option<Shared<'a>>,
    /// The program of WebAssembly containers ([`crate::container::EngineBoot::wasm`]), a file of the host's root.
    pub wasm: Option<BorrowedFd<'a>>,
    /// Listening stream socket for serve.
    pub listener: BorrowedFd<'a>,
    /// Listening packet socket for the warden's later messages ([`crate::messages::FromWarden`]).
    pub control: &'a Listener,
    /// Where its processes log to.
    pub log: BorrowedFd<'a>,
    /// If the session has a way out of its network: name servers that its nodes may ask beside the session's own.
    pub resolvers: Option<&'a [Ipv4Addr]>,
    /// The nodes' system call filter.
    pub filter: &'a BpfProgram,
    /// What the session's processes do.
    pub mains: Mains,
    /// Zero of the time line of all traces.
    pub origin: Instant,
}

/// What the processes of a session do once they are set up; each returns its exit status. All are forks without exec.
#[derive(Debug, Clone, Copy)]
pub struct Mains {
    /// The session process.
    pub session: fn(crate::messages::SessionBoot) -> i32,
    /// The Docker engine of a node.
    pub engine: fn(crate::container::EngineBoot) -> i32,
    /// The kubelet of a node, in sessions with a cluster.
    pub kubelet: fn(crate::cluster::KubeletBoot) -> i32,
}

/// The disk of a node: detached mounts.
#[derive(Debug)]
pub struct NodeDisk {
    /// Its root file system.
    pub root: OwnedFd,
    /// `/var/lib/docker`: a plain directory, since an overlay can't be the writable layer of another.
    pub docker: OwnedFd,
}

/// What all sessions share, as nodes see it: device files and container images.
///
/// The mounts are read-only, and must stay so whatever root does in a node (to which the ids of what is in them are mapped: it could
/// take the device files' permissions from everybody). The kernel sees to that for mounts that are copied into a mount namespace
/// of another user namespace (mount_namespaces(7), "Restrictions on mount namespaces"), not for those that are attached
/// there: so they hang in the caller's mount namespace while the session's is made from that.
#[derive(Debug)]
pub struct Shared<'a> {
    /// The detached mount of [`crate::session_root::own_devices`].
    pub devices: OwnedFd,
    /// The detached mount of the images.
    pub images: OwnedFd,
    /// Where they hang meanwhile: where the device files are, in a mount namespace of the caller's own.
    pub place: &'a Path,
}

const NAMESPACES: i32 = libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;

impl Launch<'_> {
    /// Starts the session. Returns the process id of its spawner, a child of the caller; when that process ends, all
    /// of the session has ended. Needs root and a single thread.
    pub fn start(&self) -> Result<i32> {
        let Some(shared) = &self.shared else { return self.fork() };
        mounts::attach_at(shared.devices.as_fd(), shared.place)?;
        let images = mounts::attach_at(shared.images.as_fd(), &shared.place.join(session_root::IMAGES));
        let started = images.and_then(|()| self.fork());
        // Takes what hangs below with it.
        mounts::detach(shared.place)?;
        started
    }

    fn fork(&self) -> Result<i32> {
        let nodes_dir = self.group.open_nodes()?;
        let (told, tell) = pipe2(OFlag::O_CLOEXEC).step(|| "pipe")?;
        let pid = process::fork(|| {
            let message = match self.stage(nodes_dir, tell.as_fd()) {
                Ok(pid) => format!("{pid}"),
                Err(e) => format!("{e}"),
            };
            let _told = write(&tell, message.as_bytes());
            0
        })?;
        drop(tell);
        let mut message = vec![0; 1024];
        let length = read(&told, &mut message).step(|| "read from the new session")?;
        process::wait(pid)?;
        let message = String::from_utf8_lossy(&message[..length]);
        message.parse().map_err(|_| Error::new(message, std::io::Error::other("the session was not started")))
    }

    /// In the forked process: lays down root and clones the spawner into the session's namespaces.
    fn stage(&self, nodes_dir: NodesDir, tell: BorrowedFd<'_>) -> Result<i32> {
        let null =
            open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).step(|| "open /dev/null")?;
        process::set_stdio(null.as_fd(), self.log, self.log)?;
        drop(null);
        let mut keep = vec![tell, self.userns];
        keep.extend(self.needed(&nodes_dir));
        process::close_all_but(&keep);
        process::reset_signals();
        setsid().step(|| "setsid")?;
        // If the warden is killed before the spawner is there, nothing shall be left of this process. (The
        // kernel forgets this wish when the user changes, which is when the session begins to stand by itself.)
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .step(|| "prctl PR_SET_PDEATHSIG")?;
        self.group.join()?;
        set_rlimits(self.limits)?;
        userns::enter(self.userns)?;
        // From here on there is no way back to the host's root.
        process::make_untraceable()?;
        process::clone(NAMESPACES | libc::CLONE_PARENT, || spawner::run(self, nodes_dir))
    }
}

impl<'a> Launch<'a> {
    /// The descriptors that a spawner needs.
    pub(crate) fn needed<'b>(&'b self, nodes_dir: &'b NodesDir) -> impl Iterator<Item = BorrowedFd<'b>>
    where
        'a: 'b,
    {
        let sockets = [self.listener, self.control.as_fd()];
        sockets.into_iter().chain(self.wasm).chain(nodes_dir.fds())
    }
}

fn set_rlimits(limits: &Limits) -> Result<()> {
    let set = |resource, name: &str, wanted: u64| {
        let (_, hard) = getrlimit(resource).step(|| format!("getrlimit {name}"))?;
        let value = wanted.min(hard);
        setrlimit(resource, value, value).step(|| format!("set {name} to {value}"))
    };
    set(Resource::RLIMIT_NOFILE, "RLIMIT_NOFILE", limits.open_files)?;
    // A core pattern with a pipe would start a program of the host's.
    set(Resource::RLIMIT_CORE, "RLIMIT_CORE", 0)?;
    set(Resource::RLIMIT_NPROC, "RLIMIT_NPROC", u64::from(limits.pids))?;
    set(Resource::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING", 4096)?;
    set(Resource::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE", 819_200)?;
    set(Resource::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK", 8 << 20)
}
