//! What a container is made of, as the engine tells it to a node's init. Written to a sealed memory file (a specification may be
//! larger than a message) as postcard bytes; read only by the forked child that becomes the container.

use drydock_protocol::frame::Size;
use serde::{Deserialize, Serialize};

/// A container: its first process and all around it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Host name; empty: the node's (with [`Namespace::Host`]).
    pub hostname: String,
    /// NIS domain name, or empty.
    pub domainname: String,
    /// The first process.
    pub process: ProcessSpec,
    /// Where the root file system is mounted in the node (an absolute path).
    pub root: String,
    /// Nothing may write to the root.
    pub read_only: bool,
    /// Mounted in this order after `/proc`, `/sys`, `/dev` and so on.
    pub mounts: Vec<Mount>,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Its control group below the node's (`docker/<id>`), which the engine has made with its limits.
    pub cgroup: String,
    /// Paths that are hidden under an empty file or directory.
    pub masked: Vec<String>,
    /// Paths that are made read-only.
    pub read_only_paths: Vec<String>,
    /// (`net.ipv4.ip_forward`, `1`): only of the container's own namespaces.
    pub sysctls: Vec<(String, String)>,
    /// Size of `/dev/shm` in bytes; 0: there is none.
    pub shm_size: u64,
    /// A small init is process 1 and reaps; the container's program is its child (`docker run --init`).
    pub init: bool,
    /// Its program is a WebAssembly module: the first word names it, and [`super::EngineBoot::wasm`] runs it.
    pub wasm: bool,
    /// `/sys` is writable and nothing is masked (`docker run --privileged`, as far as a session has such privileges).
    pub privileged: bool,
    /// Its control groups can be written to, as those of a privileged container can.
    pub writable_cgroups: bool,
}

impl ContainerSpec {
    /// Whether it may make control groups below its own.
    pub fn writes_cgroups(&self) -> bool {
        self.privileged || self.writable_cgroups
    }
}

/// A process in a container: its first one, or one of `docker exec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program (looked up in the environment's PATH inside the container) and arguments.
    pub argv: Vec<String>,
    /// `NAME=value`. HOME is added from the user's entry in `/etc/passwd` if it is missing.
    pub env: Vec<String>,
    /// Working directory; made if it is missing (first process only).
    pub cwd: String,
    /// `""`, `name`, `uid`, `name:group`, `uid:gid`: looked up in the container's `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Further groups, by name or number.
    pub groups: Vec<String>,
    /// A pty of this size as controlling terminal.
    pub tty: Option<Size>,
    /// Capabilities that it has, as names without `CAP_` ("NET_BIND_SERVICE"). Others are also taken from the bounding set.
    /// What the node itself does not have is left out.
    pub capabilities: Vec<String>,
    /// prctl(2), `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Which system calls it may make, beside what the node's own filter refuses.
    pub seccomp: Filter,
    /// Resource limits: (`nofile`, soft, hard), names as in `docker run --ulimit`.
    pub rlimits: Vec<(String, u64, u64)>,
    /// `oom_score_adj`, raised only.
    pub oom_score_adj: Option<i32>,
}

/// A filter of system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// None.
    Off,
    /// Docker's own ([`super::seccomp`]).
    Default {
        /// As it is for a container with `CAP_SYS_ADMIN`.
        admin: bool,
    },
    /// One of a profile ([`super::profile`]).
    Program(Vec<Instruction>),
}

/// An instruction of a filter: code, jumps if true and if false, value (`struct sock_filter`).
pub type Instruction = (u16, u8, u8, u32);

/// What a container has of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Process ids.
    pub pid: Namespace,
    /// System V IPC and POSIX message queues (and `/dev/shm`).
    pub ipc: Namespace,
    /// Network.
    pub net: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Control groups.
    pub cgroup: Namespace,
}

/// Where one namespace comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one.
    New,
    /// The node's.
    Host,
    /// That of this process (a process id in the node).
    Of(i32),
}

/// Something mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub source: MountSource,
    /// Where in the container: an absolute path; made if it is missing. No link is followed out of the root.
    pub target: String,
    /// Nothing may be written to it.
    pub read_only: bool,
    /// Mount propagation for binds: `private` (absent), `rprivate`, `shared`, `rshared`, `slave`, `rslave`.
    pub propagation: Option<String>,
    /// Of a bind: what becomes of the mounts below its source.
    pub below: Below,
}

/// The mounts below the source of a bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Below {
    /// They come along; nothing may be written to them either, if that is so of the bind.
    #[default]
    Same,
    /// They come along as they are.
    AsTheyAre,
    /// They stay behind.
    Left,
}

/// Where the content of a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the node with all mounts below it, by absolute path. Must exist.
    Bind(String),
    /// A new tmpfs with these options (`size=1m`, `mode=1777`, `noexec` …).
    Tmpfs(Vec<String>),
}

/// An interface of a container, set up inside by its child before the program starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its number in the container's network namespace: the engine chose it when it made the pair (from 2).
    pub index: u32,
    /// Its name there (`eth0`).
    pub name: String,
    /// IPv4 address.
    pub address: Option<std::net::Ipv4Addr>,
    /// Length of the prefix.
    pub prefix: u8,
    /// Default route through here, if this is the interface for it.
    pub gateway: Option<std::net::Ipv4Addr>,
    /// IPv6 address and prefix length. Without it the interface has no IPv6.
    pub ipv6: Option<(std::net::Ipv6Addr, u8)>,
    /// The same of the default route of IPv6.
    pub ipv6_gateway: Option<std::net::Ipv6Addr>,
    /// More addresses, with lengths of their prefixes.
    pub more: Vec<(std::net::IpAddr, u8)>,
}

impl Namespaces {
    /// `CLONE_NEW…` flags of the namespaces that are new; a mount namespace always is. The control group namespace is left
    /// out: the child makes it when it is in its group.
    pub fn clone_flags(&self) -> i32 {
        let new = |namespace, flag| if namespace == Namespace::New { flag } else { 0 };
        libc::CLONE_NEWNS
            | new(self.pid, libc::CLONE_NEWPID)
            | new(self.ipc, libc::CLONE_NEWIPC)
            | new(self.net, libc::CLONE_NEWNET)
            | new(self.uts, libc::CLONE_NEWUTS)
    }
}
