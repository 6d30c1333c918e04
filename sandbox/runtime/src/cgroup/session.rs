//! A session's own group, from the host: made, limited, frozen, killed and removed by the warden.

use super::{
    Hierarchies, MOST_AT_ONCE, NodesDir, SOCKETS_LIMIT, Sample, V2_CONTROLLERS, V2_OPTIONAL, nodes::Tree,
    tree,
};
use crate::{Error, Result, error::Context, limits::Limits};
use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
    unistd::{Gid, Uid, chown},
};
use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

/// How deep, and how many, groups a session may make (v2; v1 has no such limits).
const GROUP_DEPTH: &str = "32";
const GROUPS: &str = "2000";
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
            tree::thaw(dir.as_fd(), "nodes", MOST_AT_ONCE);
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
        Ok(parent) => {
            tree::remove(parent.as_fd(), name, MOST_AT_ONCE).step(|| format!("remove {}", path.display()))
        }
    }
}
