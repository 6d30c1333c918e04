//! Control groups, v2 and v1.
//!
//! ```text
//! drydock/<server>/<session>           limits; owned by the host's root; spawner and session process (v1)
//!                           /agent     spawner and session process (v2, which wants processes in leaves)
//!                           /nodes     owned by the session's root; frozen when the session sleeps
//!                           /nodes/node1 …  made by the spawner; the root of the node's cgroup namespace
//! ```
//!
//! The limits stand on `<session>`, whose files a session can't write, so what is made or changed below `nodes` can only
//! divide what the session has. On v1 the same tree is made in each hierarchy that we need; in those that only containers need
//! (`cpuset`, `blkio`) all nodes share `nodes`, since to move one more process into one more group takes the kernel longer than
//! most steps of a node's start.

use crate::{Error, Result, cgroup_tree, error::Context, limits::Limits};
use drydock_protocol::NodeName;
use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::{Mode, mkdirat},
    unistd::{Gid, Uid, chown},
};
use std::{
    fs, io,
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// v1 controllers that a session needs; `freezer` is a controller only there.
const V1_CONTROLLERS: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "freezer"];
/// v1 controllers that containers get where the host has them mounted: which processors and memory nodes they use, block devices.
const V1_OPTIONAL: [&str; 2] = ["cpuset", "blkio"];
/// v2 controllers that containers get where the host has them.
const V2_OPTIONAL: [&str; 2] = ["cpuset", "io"];
/// Most groups that one call thaws or removes; a thousand take some hundredths of a second.
const MOST_AT_ONCE: usize = 5000;
/// What sockets of a group may hold (v1); until it is written nothing of that group's is counted, whatever stands above it.
pub const SOCKETS_LIMIT: &str = "memory.kmem.tcp.limit_in_bytes";
/// How deep, and how many, groups a session may make (v2; v1 has no such limits).
const GROUP_DEPTH: &str = "32";
const GROUPS: &str = "2000";
/// Where a node's own processes are on v2, as systemd calls it.
const INIT_GROUP: &str = "init.scope";
/// v2 controllers that a session needs.
const V2_CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Lets processes be moved between control groups in 0.3 instead of 12 ms, for as long as what it returns is open: the kernel
/// then keeps the lock that such a move takes ready for it, which costs every fork and exit on the host some
/// nanoseconds. `favordynmods` (cgroups documentation, "Mounting") works for all hierarchies, whichever it is given
/// with; so it is given with an empty one of our own, that nobody sees. Needs root and Linux 6.0.
pub fn favor_moves() -> Result<OwnedFd> {
    let mount = |name: &str| {
        let options = [("none", ""), ("name", name), ("favordynmods", "")];
        crate::mounts::create("cgroup", &options, rustix::mount::MountAttrFlags::empty())
    };
    // Learners see the name in /proc/self/cgroup. One that is just going away can't be had again: then another.
    mount("drydock").or_else(|_| mount(&format!("drydock-{}", std::process::id())))
}

/// The host's control group hierarchies, as far as we use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchies {
    /// One tree for all controllers, mounted here.
    V2(PathBuf),
    /// A tree for each set of controllers: (controllers, where it is mounted).
    V1(Vec<(Vec<String>, PathBuf)>),
}

impl Hierarchies {
    /// Finds what is mounted. Error `Unsupported` names the missing controllers.
    pub fn detect() -> Result<Self> {
        let text = fs::read_to_string("/proc/self/mountinfo").step(|| "read /proc/self/mountinfo")?;
        let v2_has = |path: &Path| fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        Self::from_mountinfo(&text, v2_has)
    }

    /// As [`Self::detect`], from the text of mountinfo (proc_pid_mountinfo(5)) and the v2 controllers.
    fn from_mountinfo(text: &str, v2_controllers: impl Fn(&Path) -> String) -> Result<Self> {
        let mut v1: Vec<(Vec<String>, PathBuf)> = Vec::new();
        let wanted =
            |name: &str, writable| V1_CONTROLLERS.contains(&name) || writable && V1_OPTIONAL.contains(&name);
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut left = left.split(' ').skip(4);
            let Some(mount_point) = left.next() else { continue };
            let writable = left.next().is_none_or(|options| options.split(',').all(|o| o != "ro"));
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) => {
                    let path = PathBuf::from(mount_point);
                    let has = v2_controllers(&path);
                    if V2_CONTROLLERS.iter().all(|c| has.split_whitespace().any(|h| h == *c)) {
                        return Ok(Self::V2(path));
                    }
                }
                (Some("cgroup"), Some(options)) => {
                    let ours: Vec<String> =
                        options.split(',').filter(|o| wanted(o, writable)).map(Into::into).collect();
                    if !ours.is_empty() && !v1.iter().any(|(have, _)| *have == ours) {
                        v1.push((ours, mount_point.into()));
                    }
                }
                _ => {}
            }
        }
        let missing: Vec<&str> = V1_CONTROLLERS
            .into_iter()
            .filter(|c| !v1.iter().any(|(have, _)| have.iter().any(|h| h == c)))
            .collect();
        if missing.is_empty() {
            return Ok(Self::V1(v1));
        }
        Err(Error::new(
            format!("control groups: no v2 hierarchy with {V2_CONTROLLERS:?}, and v1 lacks {missing:?}"),
            io::Error::from(io::ErrorKind::Unsupported),
        ))
    }

    /// True if sessions of this server have control groups on this host, so that its ids may be in use.
    pub fn has_sessions(&self, server: &str) -> bool {
        self.mounts().into_iter().any(|mount| {
            let entries = fs::read_dir(mount.join("drydock").join(server));
            entries.is_ok_and(|list| list.flatten().any(|e| e.file_type().is_ok_and(|t| t.is_dir())))
        })
    }

    /// Where they are mounted.
    pub(crate) fn mounts(&self) -> Vec<&Path> {
        match self {
            Self::V2(path) => vec![path],
            Self::V1(list) => list.iter().map(|(_, path)| path.as_path()).collect(),
        }
    }

    /// Where a session's first processes are below its group, in each hierarchy.
    fn first(&self) -> Vec<(&Path, &'static str)> {
        match self {
            Self::V2(path) => vec![(path, "agent/cgroup.procs")],
            Self::V1(list) => {
                let of = |names: &[String]| if shared(names) { "nodes/cgroup.procs" } else { "cgroup.procs" };
                list.iter().map(|(names, path)| (path.as_path(), of(names))).collect()
            }
        }
    }
}

/// A session's control group, in all hierarchies. The warden's side.
#[derive(Debug, Clone)]
pub struct SessionGroup {
    hierarchies: Hierarchies,
    name: PathBuf,
}

impl SessionGroup {
    /// Names (does not make) the group `drydock/<server>/<session>`.
    pub fn new(hierarchies: Hierarchies, server: &str, session: &str) -> Self {
        Self { hierarchies, name: Path::new("drydock").join(server).join(session) }
    }

    /// Makes the group with its limits and gives `nodes` to `owner` (the session's root, as the host sees it).
    pub fn create(&self, limits: &Limits, owner: u32) -> Result<()> {
        if let Hierarchies::V2(mount) = &self.hierarchies {
            // Each level above must pass the controllers on.
            let mut level = mount.clone();
            for part in &self.name {
                enable_v2_controllers(&level)?;
                level.push(part);
                make_dir(&level)?;
            }
            enable_v2_controllers(&level)?;
            make_dir(&level.join("agent"))?;
        }
        self.pass_cpus_on()?;
        for mount in self.hierarchies.mounts() {
            let dir = mount.join(&self.name);
            fs::create_dir_all(&dir).step(|| format!("make control group {}", dir.display()))?;
            let nodes = dir.join("nodes");
            make_dir(&nodes)?;
            let mut given = vec![nodes.clone(), nodes.join("cgroup.procs")];
            match &self.hierarchies {
                Hierarchies::V1(_) => given.push(nodes.join("tasks")),
                Hierarchies::V2(_) => {
                    enable_v2_controllers(&nodes)?;
                    given.extend([nodes.join("cgroup.subtree_control"), nodes.join("cgroup.threads")]);
                    // cgroups(7), delegation: moving from `agent` to `nodes` needs the common ancestor's file.
                    given.push(dir.join("cgroup.procs"));
                }
            }
            for path in given {
                chown(&path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
                    .step(|| format!("give {} to the session", path.display()))?;
            }
        }
        self.set_limits(limits)
    }

    /// Groups of `cpuset` (v1) are born without processors and memory, and then no process may enter. Those below ours are born with what
    /// stands above them.
    fn pass_cpus_on(&self) -> Result<()> {
        let Hierarchies::V1(list) = &self.hierarchies else { return Ok(()) };
        let Some((_, mount)) = list.iter().find(|(have, _)| have.iter().any(|h| h == "cpuset")) else {
            return Ok(());
        };
        let mut level = mount.clone();
        for part in self.name.parent().into_iter().flatten() {
            let above = level.clone();
            level.push(part);
            make_dir(&level)?;
            write(&level.join("cgroup.clone_children"), "1")?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let read = |dir: &Path| {
                    let path = dir.join(file);
                    fs::read_to_string(&path).step(|| format!("read {}", path.display()))
                };
                if read(&level)?.trim().is_empty() {
                    write(&level.join(file), read(&above)?.trim())?;
                }
            }
        }
        Ok(())
    }

    fn set_limits(&self, limits: &Limits) -> Result<()> {
        let quota = u64::from(limits.cpu_millis) * 100;
        let (memory, pids) = (limits.memory.to_string(), limits.pids.to_string());
        match &self.hierarchies {
            Hierarchies::V2(mount) => {
                let dir = mount.join(&self.name);
                write(&dir.join("memory.max"), &memory)?;
                write_if_there(&dir.join("memory.swap.max"), "0")?;
                write(&dir.join("cgroup.max.depth"), GROUP_DEPTH)?;
                write(&dir.join("cgroup.max.descendants"), GROUPS)?;
                write(&dir.join("pids.max"), &pids)?;
                write(&dir.join("cpu.max"), &format!("{quota} 100000"))
            }
            Hierarchies::V1(_) => {
                let memory_dir = self.v1_dir("memory");
                write(&memory_dir.join("memory.limit_in_bytes"), &memory)?;
                write_if_there(&memory_dir.join("memory.memsw.limit_in_bytes"), &memory)?;
                // What sockets hold, of all protocols, is counted by itself, and only if there is a limit.
                let sockets = (limits.memory / 4).to_string();
                write_if_there(&memory_dir.join(SOCKETS_LIMIT), &sockets)?;
                write(&self.v1_dir("pids").join("pids.max"), &pids)?;
                let cpu = self.v1_dir("cpu");
                write(&cpu.join("cpu.cfs_period_us"), "100000")?;
                write(&cpu.join("cpu.cfs_quota_us"), &quota.to_string())
            }
        }
    }

    fn v1_dir(&self, controller: &str) -> PathBuf {
        match &self.hierarchies {
            Hierarchies::V2(mount) => mount.join(&self.name),
            Hierarchies::V1(list) => list
                .iter()
                .find(|(have, _)| have.iter().any(|h| h == controller))
                .map_or_else(PathBuf::new, |(_, mount)| mount.join(&self.name)),
        }
    }

    /// Moves the calling process into the group. Done by a child of the warden while it is still root.
    pub fn join(&self) -> Result<()> {
        let mut places = self.hierarchies.first().into_iter();
        places.try_for_each(|(mount, leaf)| write(&mount.join(&self.name).join(leaf), "0"))
    }

    /// Freezes or thaws everything in the session's nodes. The kernel finishes it by itself.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        match &self.hierarchies {
            Hierarchies::V2(mount) => {
                write(&mount.join(&self.name).join("nodes/cgroup.freeze"), if frozen { "1" } else { "0" })
            }
            Hierarchies::V1(_) => {
                let state = if frozen { "FROZEN" } else { "THAWED" };
                write(&self.v1_dir("freezer").join("nodes/freezer.state"), state)
            }
        }
    }

    /// Thaws every group below, paused containers among them: what is frozen on v1 does not even die.
    pub fn thaw_all(&self) -> Result<()> {
        self.freeze(false)?;
        if let Hierarchies::V1(_) = &self.hierarchies {
            let dir = self.v1_dir("freezer");
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let dir = open(&dir, flags, Mode::empty()).step(|| format!("open {}", dir.display()))?;
            cgroup_tree::thaw(dir.as_fd(), "nodes", MOST_AT_ONCE);
        }
        Ok(())
    }

    /// Moves every process of these host users into the session's own group, which is thawed: what is frozen (v1) in a group so far
    /// below that [`Self::thaw_all`] does not come to it can die there.
    pub fn gather(&self, users: std::ops::Range<u32>) -> Result<()> {
        let Hierarchies::V1(_) = &self.hierarchies else { return Ok(()) };
        let into = self.v1_dir("freezer").join("cgroup.procs");
        let owned = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let user = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            let user = user.split_whitespace().next()?.parse().ok()?;
            users.contains(&user).then_some(())
        };
        for entry in fs::read_dir("/proc").step(|| "read /proc")?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else {
                continue;
            };
            if owned(pid).is_some() {
                let _gone_meanwhile = fs::write(&into, pid);
            }
        }
        Ok(())
    }

    /// How often the kernel killed a process of the session for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = match self.hierarchies {
            Hierarchies::V2(_) => "memory.events",
            Hierarchies::V1(_) => "memory.oom_control",
        };
        let text = fs::read_to_string(self.v1_dir("memory").join(file)).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    /// The `nodes` directories as descriptors, for the spawner and the session process.
    pub fn open_nodes(&self) -> Result<NodesDir> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open_dir = |mount: &Path| {
            let dir = mount.join(&self.name).join("nodes");
            open(&dir, flags, Mode::empty()).step(|| format!("open control group {}", dir.display()))
        };
        Ok(NodesDir {
            trees: match &self.hierarchies {
                Hierarchies::V2(mount) => vec![Tree { controllers: None, dir: open_dir(mount)? }],
                Hierarchies::V1(list) => list
                    .iter()
                    .map(|(c, mount)| Ok(Tree { controllers: Some(c.clone()), dir: open_dir(mount)? }))
                    .collect::<Result<_>>()?,
            },
        })
    }

    /// What the whole session uses. Anybody may read it.
    pub fn usage(&self) -> io::Result<Sample> {
        Sample::of(matches!(self.hierarchies, Hierarchies::V2(_)), |controller, file| {
            let dir = match &self.hierarchies {
                Hierarchies::V2(mount) => mount.join(&self.name),
                Hierarchies::V1(list) => {
                    let has = |(controllers, _): &&(Vec<String>, PathBuf)| {
                        controllers.iter().any(|c| c == controller)
                    };
                    let (_, mount) = list.iter().find(has).ok_or(io::ErrorKind::NotFound)?;
                    mount.join(&self.name)
                }
            };
            fs::read_to_string(dir.join(file))
        })
    }

    /// Kills every process in the group, wherever below it. They may take a moment to be gone.
    pub fn kill(&self) -> Result<()> {
        if let Hierarchies::V2(mount) = &self.hierarchies {
            return write_if_there(&mount.join(&self.name).join("cgroup.kill"), "1");
        }
        // The end of the spawner, which is in the top group, is the end of all others (pid_namespaces(7)).
        let procs = fs::read_to_string(self.v1_dir("pids").join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|l| l.parse().ok()) {
            let _gone =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        Ok(())
    }

    /// Removes the group with all groups below it. `ResourceBusy` while a process is left in one of them, `WouldBlock` if there are so
    /// many that another call must go on.
    pub fn remove(&self) -> Result<()> {
        for mount in self.hierarchies.mounts() {
            remove_tree(&mount.join(&self.name))?;
        }
        Ok(())
    }

    /// Removes the empty parent groups of a server that ends (they are kept while another session uses them).
    pub fn remove_parents(hierarchies: &Hierarchies, server: &str) {
        for mount in hierarchies.mounts() {
            let base = mount.join("drydock");
            let _still_used = fs::remove_dir(base.join(server)).and_then(|()| fs::remove_dir(base));
        }
    }
}

/// The `nodes` directory of a session in every hierarchy, as descriptors. Used inside the session.
#[derive(Debug)]
pub struct NodesDir {
    trees: Vec<Tree>,
}

#[derive(Debug)]
struct Tree {
    /// `None`: v2, all controllers.
    controllers: Option<Vec<String>>,
    dir: OwnedFd,
}

impl Tree {
    /// Whether nodes have no group of their own in it.
    fn shared(&self) -> bool {
        self.controllers.as_deref().is_some_and(shared)
    }
}

/// Whether all nodes of a session share one group in the v1 hierarchy of these controllers.
pub(crate) fn shared(controllers: &[String]) -> bool {
    controllers.iter().all(|name| V1_OPTIONAL.contains(&name.as_str()))
}

impl Sample {
    /// From a group's files: (controller, file) by `read`.
    fn of(v2: bool, read: impl Fn(&str, &str) -> io::Result<String>) -> io::Result<Self> {
        let number = |controller: &str, file: &str| -> io::Result<u64> {
            let text = read(controller, file)?;
            text.trim()
                .parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {text}")))
        };
        let field = |controller: &str, file: &str, key: &str| -> io::Result<u64> {
            let text = read(controller, file)?;
            let mut lines = text.lines().filter_map(|l| l.split_once(' '));
            Ok(lines.find(|(k, _)| *k == key).and_then(|(_, v)| v.trim().parse().ok()).unwrap_or(0))
        };
        let (cpu_nanos, used, droppable) = if v2 {
            (
                field("cpu", "cpu.stat", "usage_usec")? * 1000,
                number("memory", "memory.current")?,
                field("memory", "memory.stat", "inactive_file")?,
            )
        } else {
            (
                number("cpuacct", "cpuacct.usage")?,
                number("memory", "memory.usage_in_bytes")?,
                field("memory", "memory.stat", "total_inactive_file")?,
            )
        };
        let processes = u32::try_from(number("pids", "pids.current")?).unwrap_or(u32::MAX);
        Ok(Self { cpu_nanos, memory: used.saturating_sub(droppable), processes })
    }
}

/// What a node or a session has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// CPU time since the node's group was made, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory in use now, in bytes, without page cache that can be dropped.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
}

impl NodesDir {
    /// The hierarchies in which each node has a group.
    fn divided(&self) -> impl Iterator<Item = &Tree> {
        self.trees.iter().filter(|tree| !tree.shared())
    }

    /// The descriptors, which must stay open in a process that uses this.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.trees.iter().map(|t| t.dir.as_fd())
    }

    /// Another handle to the same directories.
    pub fn try_clone(&self) -> Result<Self> {
        let clone = |t: &Tree| Ok(Tree { controllers: t.controllers.clone(), dir: t.dir.try_clone()? });
        let trees =
            self.trees.iter().map(clone).collect::<io::Result<_>>().step(|| "duplicate descriptors")?;
        Ok(Self { trees })
    }

    /// Makes the group of a node (it may be there already). On v1 what its sockets hold counts for the session only if the group has a
    /// limit of its own ([`SOCKETS_LIMIT`]); so it gets one. On v2 it gets the session's limit of memory (bytes) once more, which
    /// stands where the node can't see it, for programs that look.
    pub fn create(&self, node: NodeName, memory: u64) -> Result<()> {
        for tree in self.divided() {
            match mkdirat(&tree.dir, node.to_string().as_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
                Err(e) => return Err(Error::new(format!("make the control group of {node}"), e)),
            }
            let file = match &tree.controllers {
                None => "memory.max",
                Some(controllers) if controllers.iter().any(|c| c == "memory") => SOCKETS_LIMIT,
                Some(_) => continue,
            };
            let path = format!("{node}/{file}");
            let fd = openat(&tree.dir, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
            // A kernel may be built without.
            if file == SOCKETS_LIMIT && matches!(fd, Err(nix::errno::Errno::ENOENT)) {
                continue;
            }
            fs::File::from(fd.step(|| format!("open {path}"))?)
                .write_all(memory.to_string().as_bytes())
                .step(|| format!("write {memory} to {path}"))?;
        }
        Ok(())
    }

    /// Moves the calling process into the group of a node.
    pub fn join(&self, node: NodeName) -> Result<()> {
        for tree in self.divided() {
            let path = format!("{node}/cgroup.procs");
            let fd = openat(&tree.dir, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
                .step(|| format!("open {path}"))?;
            fs::File::from(fd).write_all(b"0").step(|| format!("join the control group of {node}"))?;
        }
        Ok(())
    }

    /// Moves the calling process, the node's init in its control group namespace, on into a leaf of the node's group, so that groups
    /// with controllers can be made beside it: on v2 no group may have both (cgroups(7), "no internal processes").
    pub fn leave_room(&self, node: NodeName) -> Result<()> {
        let Some(tree) = self.trees.iter().find(|t| t.controllers.is_none()) else { return Ok(()) };
        let leaf = format!("{node}/{INIT_GROUP}");
        match mkdirat(&tree.dir, leaf.as_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(Error::new(format!("make the control group {leaf}"), e)),
        }
        let put = |path: String, text: &str| -> Result<()> {
            let fd = openat(&tree.dir, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
                .step(|| format!("open {path}"))?;
            fs::File::from(fd).write_all(text.as_bytes()).step(|| format!("write {text} to {path}"))
        };
        put(format!("{leaf}/cgroup.procs"), "0")?;
        put(format!("{node}/cgroup.subtree_control"), &V2_CONTROLLERS.map(|c| format!("+{c}")).join(" "))?;
        for controller in V2_OPTIONAL {
            // Only where the host passes it on.
            let _not_here = put(format!("{node}/cgroup.subtree_control"), &format!("+{controller}"));
        }
        Ok(())
    }

    /// Thaws every group of a node, so that what is in it can die (v1).
    pub fn thaw(&self, node: NodeName) {
        let freezer = |t: &&Tree| t.controllers.iter().flatten().any(|c| c == "freezer");
        if let Some(tree) = self.trees.iter().find(freezer) {
            cgroup_tree::thaw(tree.dir.as_fd(), &node.to_string(), MOST_AT_ONCE);
        }
    }

    /// Removes the group of a node and what the node made below it. `ResourceBusy` while a process is left.
    pub fn remove(&self, node: NodeName) -> Result<()> {
        for tree in self.divided() {
            cgroup_tree::remove(tree.dir.as_fd(), &node.to_string(), usize::MAX)
                .step(|| format!("remove the control group of {node}"))?;
        }
        Ok(())
    }

    /// What a node uses.
    pub fn usage(&self, node: NodeName) -> io::Result<Sample> {
        let v2 = self.trees.iter().any(|t| t.controllers.is_none());
        Sample::of(v2, |controller, file| self.read(controller, node, file))
    }

    fn read(&self, controller: &str, node: NodeName, file: &str) -> io::Result<String> {
        let serves = |t: &&Tree| t.controllers.as_ref().is_none_or(|c| c.iter().any(|c| c == controller));
        let tree = self.trees.iter().find(serves).ok_or(io::ErrorKind::NotFound)?;
        let path = format!("{node}/{file}");
        let fd = openat(&tree.dir, path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        fs::File::from(fd).take(64 * 1024).read_to_string(&mut text)?;
        Ok(text)
    }

    /// (directory, v1 controllers or none for v2), for mounting the node's view of `/sys/fs/cgroup`.
    pub(crate) fn layout(&self) -> impl Iterator<Item = Option<&[String]>> {
        self.trees.iter().map(|t| t.controllers.as_deref())
    }
}

fn enable_v2_controllers(dir: &Path) -> Result<()> {
    for controller in V2_OPTIONAL {
        let _not_here = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    write(&dir.join("cgroup.subtree_control"), &V2_CONTROLLERS.map(|c| format!("+{c}")).join(" "))
}

fn make_dir(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.step(|| format!("make control group {}", path.display())),
    }
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).step(|| format!("write {value} to {}", path.display()))
}

/// For files that depend on the kernel's configuration (swap accounting).
fn write_if_there(path: &Path, value: &str) -> Result<()> {
    if path.exists() { write(path, value) } else { Ok(()) }
}

fn remove_tree(path: &Path) -> Result<()> {
    let Some((parent, name)) = path.parent().zip(path.file_name().and_then(|n| n.to_str())) else {
        return Ok(());
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match open(parent, flags, Mode::empty()) {
        Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::new(format!("open {}", parent.display()), e)),
        Ok(parent) => cgroup_tree::remove(parent.as_fd(), name, MOST_AT_ONCE)
            .step(|| format!("remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime shared:1 - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_v2_tree_without_our_controllers_is_passed_over() {
        let Hierarchies::V1(list) = Hierarchies::from_mountinfo(V1, |_| "hugetlb".into()).unwrap() else {
            panic!("v1 expected")
        };
        assert_eq!(list.len(), 4);
        assert_eq!(list[0].0, ["cpu", "cpuacct"]);
    }

    #[test]
    fn what_containers_alone_need_is_taken_where_it_is_mounted_and_writable() {
        let more = "\
42 31 0:39 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
43 31 0:40 / /sys/fs/cgroup/blkio ro,relatime - cgroup cgroup rw,blkio
";
        let found = Hierarchies::from_mountinfo(&format!("{V1}{more}"), |_| String::new()).unwrap();
        let Hierarchies::V1(list) = found else { panic!("v1 expected") };
        assert_eq!(list.len(), 5);
        assert_eq!(list[4], (vec!["cpuset".to_owned()], "/sys/fs/cgroup/cpuset".into()));
    }

    #[test]
    fn v2_is_taken_where_it_has_our_controllers() {
        let found = Hierarchies::from_mountinfo(V1, |_| "cpuset cpu io memory pids".into()).unwrap();
        assert_eq!(found, Hierarchies::V2("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn missing_controllers_are_named() {
        let text = V1.replace("cgroup rw,memory", "cgroup rw,blkio");
        let error = Hierarchies::from_mountinfo(&text, |_| String::new()).unwrap_err().to_string();
        assert!(error.contains("memory") && !error.contains("\"freezer\"]\","), "{error}");
    }
}
