//! Control groups of containers: `docker/<id>` in each hierarchy that the node has, v1 or v2. The engine makes them with their
//! limits before the container's process is there; the process moves itself in. The node's own limits stand above and can't be
//! exceeded: a limit that is larger is no error, it just never binds.

use crate::{
    containers::model::Resources,
    error::{Error, Result},
};
use drydock_go::io_text;
use drydock_runtime::cgroup::SOCKETS_LIMIT;
use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, atomic::AtomicBool},
};

mod block;
mod ready;

const MOUNT: &str = "/sys/fs/cgroup";
/// Where containers are below the node's group.
const PARENT: &str = "docker";
/// CFS period when only a number of CPUs is asked for, in microseconds.
const PERIOD: i64 = 100_000;

/// The node's hierarchies.
#[derive(Debug)]
pub struct Groups {
    trees: Vec<Tree>,
    v2: bool,
    /// Whether a block device has the scheduler bfq.
    bfq: bool,
    /// Where the groups of containers are that have asked for another parent (`--cgroup-parent`), below the node's group.
    elsewhere: RwLock<HashMap<String, String>>,
    /// Groups lie ready for the next container.
    ready: AtomicBool,
}

#[derive(Debug)]
struct Tree {
    controllers: Vec<String>,
    dir: PathBuf,
}

impl Groups {
    /// Looks what is mounted.
    pub fn detect() -> Self {
        Self::at(Path::new(MOUNT))
    }

    pub(crate) fn at(mount: &Path) -> Self {
        let bfq = block::some_has_bfq();
        if let Ok(controllers) = fs::read_to_string(mount.join("cgroup.controllers")) {
            let controllers: Vec<String> = controllers.split_whitespace().map(Into::into).collect();
            let parent = mount.join(PARENT);
            let _there_already = fs::create_dir(&parent);
            for dir in [mount, parent.as_path()] {
                for controller in &controllers {
                    // What can't be passed on (processes beside the groups) is not there for containers.
                    let _refused = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
            let passed = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
            let controllers = passed.split_whitespace().map(Into::into).collect();
            return Self {
                trees: vec![Tree { controllers, dir: parent }],
                v2: true,
                bfq,
                elsewhere: RwLock::default(),
                ready: AtomicBool::default(),
            };
        }
        let mut trees = Vec::new();
        for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            let names = entry.file_name().to_string_lossy().into_owned();
            let dir = entry.path().join(PARENT);
            match fs::create_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => continue,
                _ => trees.push(Tree { controllers: names.split(',').map(Into::into).collect(), dir }),
            }
        }
        Self { trees, v2: false, bfq, elsewhere: RwLock::default(), ready: AtomicBool::default() }
    }

    /// Whether this is one tree for all controllers.
    pub fn v2(&self) -> bool {
        self.v2
    }

    /// Whether containers can be limited in this: `memory`, `cpu`, `cpuset`, `pids`, `blkio` …
    pub fn has(&self, controller: &str) -> bool {
        self.tree(controller).is_some()
    }

    /// Whether a container's group has this file of a controller: some depend on the kernel's configuration.
    pub fn offers(&self, controller: &str, file: &str) -> bool {
        self.tree(controller).is_some_and(|tree| tree.dir.join(file).exists())
    }

    /// Whether containers can have a share of block devices' time.
    pub fn weighs_devices(&self) -> bool {
        block::weight_file(self).is_some()
    }

    /// Whether the speed of block devices can be limited: `read_bps`, `write_iops` …
    pub fn throttles_devices(&self, what: &str) -> bool {
        let file = if self.v2 { "io.max".to_owned() } else { format!("blkio.throttle.{what}_device") };
        self.offers("blkio", &file)
    }

    /// Processors (`cpus`) or memory nodes (`mems`) that the node has, as `0-3,6`; empty without such a controller.
    pub fn available(&self, what: &str) -> String {
        let file = format!("cpuset.{what}{}", if self.v2 { ".effective" } else { "" });
        let path = self.tree("cpuset").and_then(|tree| Some(tree.dir.parent()?.join(file)));
        path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default().trim().to_owned()
    }

    /// Whether the block devices that a container's limits name are there.
    pub fn check_devices(&self, limits: &Resources) -> Result<()> {
        block::lines(self, limits).map(drop)
    }

    /// A container's group below the node's.
    pub fn name(&self, id: &str) -> String {
        let elsewhere = self.elsewhere.read().unwrap_or_else(PoisonError::into_inner);
        format!("{}/{id}", elsewhere.get(id).map_or(PARENT, String::as_str))
    }

    /// A container has this parent; empty: the usual one. Before its group is made or found.
    pub fn set_parent(&self, id: &str, parent: &str) {
        let parts = parent.split('/').fold(Vec::new(), |mut parts, part| {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
            parts
        });
        let mut elsewhere = self.elsewhere.write().unwrap_or_else(PoisonError::into_inner);
        match parts.as_slice() {
            [] => drop(elsewhere.remove(id)),
            parts => drop(elsewhere.insert(id.to_owned(), parts.join("/"))),
        }
    }

    fn dir(&self, tree: &Tree, id: &str) -> PathBuf {
        // The parent's own parent is the node's group.
        tree.dir.parent().unwrap_or(&tree.dir).join(self.name(id))
    }

    fn tree(&self, controller: &str) -> Option<&Tree> {
        let wanted = match controller {
            "blkio" if self.v2 => "io",
            "cpuacct" if self.v2 => "cpu",
            other => other,
        };
        self.trees.iter().find(|t| t.controllers.iter().any(|c| c == wanted))
    }

    /// A file of a container's group, if the controller is there.
    pub fn file(&self, controller: &str, id: &str, file: &str) -> Option<PathBuf> {
        self.tree(controller).map(|tree| self.dir(tree, id).join(file))
    }

    /// Reads a file of a container's group; empty if it is not there.
    pub fn read(&self, controller: &str, id: &str, file: &str) -> String {
        self.file(controller, id, file).and_then(|p| fs::read_to_string(p).ok()).unwrap_or_default()
    }

    /// Makes a container's group with its limits.
    pub fn create(&self, id: &str, limits: &Resources) -> Result<()> {
        let lay_ready = self.take_ready(id);
        for tree in self.trees.iter().filter(|tree| !self.on_demand(tree) && !lay_ready(tree)) {
            self.make(tree, id)?;
            if !self.v2 && tree.controllers.iter().any(|name| name == "memory") {
                // No limit, but from now on counted for the session, which has one. A kernel may be built without.
                let _not_counted = fs::write(self.dir(tree, id).join(SOCKETS_LIMIT), "-1");
            }
        }
        self.limit(id, limits)
    }

    /// Makes a container's group in one hierarchy. False if it was there.
    fn make(&self, tree: &Tree, id: &str) -> Result<bool> {
        let dir = self.dir(tree, id);
        match fs::create_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Somebody has tidied up, or it is to be elsewhere.
                fs::create_dir_all(&dir).map_err(|e| failed("mkdir", &dir, &e))?;
                self.pass_on(tree, &dir);
            }
            other => other.map_err(|e| failed("mkdir", &dir, &e))?,
        }
        Ok(true)
    }

    /// Whether containers have a group in this hierarchy only if they are limited there: to make and to enter one takes the kernel
    /// longer than most steps of a start, and few ask for processors or block devices.
    fn on_demand(&self, tree: &Tree) -> bool {
        !self.v2 && tree.controllers.iter().all(|name| ["cpuset", "blkio"].contains(&name.as_str()))
    }

    /// Gives a container its group in such a hierarchy, with the processes that it has already.
    fn demand(&self, controller: &str, id: &str) -> Result<()> {
        let Some(tree) = self.tree(controller).filter(|tree| self.on_demand(tree)) else { return Ok(()) };
        if !self.make(tree, id)? {
            return Ok(());
        }
        let procs = self.dir(tree, id).join("cgroup.procs");
        // What is forked meanwhile is found in the next round; nobody forks faster for ever.
        for _ in 0..100 {
            let inside = fs::read_to_string(&procs).unwrap_or_default();
            let is_inside = |pid: &i32| inside.lines().any(|line| line == pid.to_string());
            let outside: Vec<i32> = self.processes(id).into_iter().filter(|pid| !is_inside(pid)).collect();
            if outside.is_empty() {
                break;
            }
            for pid in outside {
                let _ended_meanwhile = fs::write(&procs, pid.to_string());
            }
        }
        Ok(())
    }

    /// The groups above a container's give their controllers to it (v2).
    fn pass_on(&self, tree: &Tree, dir: &Path) {
        let top = tree.dir.parent().unwrap_or(dir);
        let above: Vec<_> = dir.ancestors().skip(1).take_while(|above| *above != top).collect();
        for above in above.into_iter().rev().filter(|_| self.v2) {
            for controller in &tree.controllers {
                let _processes_are_in_it =
                    fs::write(above.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
    }

    /// Sets limits, of a group that may have processes.
    pub fn limit(&self, id: &str, limits: &Resources) -> Result<()> {
        self.limit_memory(id, limits)?;
        let period = if limits.cpu_period > 0 { limits.cpu_period } else { PERIOD };
        let quota = if limits.nano_cpus > 0 {
            limits.nano_cpus.saturating_mul(period) / 1_000_000_000
        } else {
            limits.cpu_quota
        };
        let shares = limits.cpu_shares.clamp(0, 262_144);
        if self.v2 {
            if quota != 0 || limits.cpu_period > 0 {
                let quota = if quota > 0 { quota.to_string() } else { "max".into() };
                self.set("cpu", id, "cpu.max", &format!("{quota} {period}"))?;
            }
            if shares > 0 {
                self.set("cpu", id, "cpu.weight", &(1 + ((shares - 2).max(0) * 9999) / 262_142).to_string())?;
            }
        } else {
            if limits.cpu_period > 0 || quota > 0 {
                self.set("cpu", id, "cpu.cfs_period_us", &period.to_string())?;
            }
            if quota != 0 {
                self.set("cpu", id, "cpu.cfs_quota_us", &quota.to_string())?;
            }
            if shares > 0 {
                self.set("cpu", id, "cpu.shares", &shares.max(2).to_string())?;
            }
        }
        for (file, value) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
            if !value.is_empty() {
                self.demand("cpuset", id)?;
                self.set("cpuset", id, file, value)?;
            }
        }
        for (file, value) in block::lines(self, limits)? {
            self.demand("blkio", id)?;
            self.set("blkio", id, file, &value)?;
        }
        match limits.pids_limit {
            Some(n) if n > 0 => self.set("pids", id, "pids.max", &n.to_string()),
            Some(_) => self.set("pids", id, "pids.max", "max"),
            None => Ok(()),
        }
    }

    fn limit_memory(&self, id: &str, limits: &Resources) -> Result<()> {
        let (memory, total) = (limits.memory, limits.memory_swap);
        if self.v2 {
            if memory > 0 {
                self.set("memory", id, "memory.max", &memory.to_string())?;
                let swap = if total < 0 { "max".into() } else { (total - memory).max(0).to_string() };
                self.set("memory", id, "memory.swap.max", &swap)?;
            }
            if limits.memory_reservation > 0 {
                self.set("memory", id, "memory.low", &limits.memory_reservation.to_string())?;
            }
            return Ok(());
        }
        if memory > 0 {
            // The sum may never be below the first, so a raised limit needs the other order.
            let first = self.set("memory", id, "memory.limit_in_bytes", &memory.to_string());
            if total != 0 {
                self.set("memory", id, "memory.memsw.limit_in_bytes", &total.to_string())?;
            }
            if first.is_err() {
                self.set("memory", id, "memory.limit_in_bytes", &memory.to_string())?;
            }
        }
        if limits.memory_reservation > 0 {
            self.set("memory", id, "memory.soft_limit_in_bytes", &limits.memory_reservation.to_string())?;
        }
        if let Some(swappiness) = limits.memory_swappiness.filter(|s| *s >= 0) {
            self.set("memory", id, "memory.swappiness", &swappiness.to_string())?;
        }
        if limits.oom_kill_disable == Some(true) {
            self.set("memory", id, "memory.oom_control", "1")?;
        }
        Ok(())
    }

    /// Writes one file. A controller that is not there is no error (creation has warned); nor is a value above the parent's.
    fn set(&self, controller: &str, id: &str, file: &str, value: &str) -> Result<()> {
        let Some(path) = self.file(controller, id, file) else { return Ok(()) };
        let written =
            fs::OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(value.as_bytes()));
        match written {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) if controller == "cpu" && e.raw_os_error() == Some(nix::libc::EINVAL) => {
                tracing::debug!(%value, file, "a limit above the node's own");
                Ok(())
            }
            Err(e) => Err(Error::internal(format!(
                "failed to write \"{value}\": write {}: {}",
                path.display(),
                io_text(&e)
            ))),
            Ok(()) => Ok(()),
        }
    }

    /// Stops all processes of a container, or lets them go on. Returns when they are.
    pub fn freeze(&self, id: &str, frozen: bool) -> Result<()> {
        let (controller, file, value, state) = match (self.v2, frozen) {
            (true, true) => ("", "cgroup.freeze", "1", "frozen 1"),
            (true, false) => ("", "cgroup.freeze", "0", "frozen 0"),
            (false, true) => ("freezer", "freezer.state", "FROZEN", "FROZEN"),
            (false, false) => ("freezer", "freezer.state", "THAWED", "THAWED"),
        };
        let tree = if self.v2 { self.trees.first() } else { self.tree(controller) };
        let dir = tree.ok_or_else(|| Error::internal("the node has no freezer"))?;
        let dir = self.dir(dir, id);
        fs::write(dir.join(file), value).map_err(|e| failed("write", &dir.join(file), &e))?;
        let watched = if self.v2 { dir.join("cgroup.events") } else { dir.join(file) };
        for _ in 0..200 {
            let now = fs::read_to_string(&watched).unwrap_or_default();
            if now.lines().any(|line| line.trim() == state) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            // v1 may stay on its way when a process was forking: asking again helps (cgroup-v1/freezer-subsystem).
            let _asked = if self.v2 { Ok(()) } else { fs::write(dir.join(file), value) };
        }
        let _back =
            if frozen { fs::write(dir.join(file), if self.v2 { "0" } else { "THAWED" }) } else { Ok(()) };
        Err(Error::internal("unable to freeze"))
    }

    /// Whether a container's processes are stopped.
    pub fn frozen(&self, id: &str) -> bool {
        let (tree, file, state) = match self.v2 {
            true => (self.trees.first(), "cgroup.freeze", "1"),
            false => (self.tree("freezer"), "freezer.state", "FROZEN"),
        };
        let text = tree.and_then(|tree| fs::read_to_string(self.dir(tree, id).join(file)).ok());
        text.is_some_and(|text| text.trim() == state)
    }

    /// Processes of a container, with those of `docker exec`.
    pub fn processes(&self, id: &str) -> Vec<i32> {
        let tree = self.tree("pids").or_else(|| self.trees.first());
        let Some(tree) = tree else { return vec![] };
        let mut found = Vec::new();
        let mut dirs = vec![self.dir(tree, id)];
        while let Some(dir) = dirs.pop() {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            if found.len() < 65_536 {
                let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
                dirs.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
            }
        }
        found.sort_unstable();
        found
    }

    /// How often the kernel has killed for want of memory.
    pub fn oom_kills(&self, id: &str) -> u64 {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        field(&self.read("memory", id, file), "oom_kill")
    }

    /// Kills what is left in a container's group (processes of a container without pid namespace of its own).
    pub fn kill(&self, id: &str) {
        if self.v2 && self.trees.iter().any(|t| fs::write(self.dir(t, id).join("cgroup.kill"), "1").is_ok()) {
            return;
        }
        for pid in self.processes(id).into_iter().filter(|pid| *pid > 0) {
            let _gone =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// Removes the groups of containers that no longer are, as long as nothing runs in them. `known`: by id.
    pub fn sweep(&self, known: impl Fn(&str) -> bool) {
        for tree in &self.trees {
            for entry in fs::read_dir(&tree.dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
                if is_id && !known(&name) {
                    let _something_runs = remove_tree(&entry.path());
                }
            }
        }
    }

    /// Removes a container's group. False while a process is left in it.
    pub fn remove(&self, id: &str) -> bool {
        // All are tried, whatever becomes of the first.
        let left = self.trees.iter().filter(|tree| !remove_tree(&self.dir(tree, id))).count();
        if left == 0 {
            // A start tells the parent again.
            self.set_parent(id, "");
        }
        left == 0
    }
}

/// The number after a word in a file of `key value` lines.
pub fn field(text: &str, key: &str) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(name, _)| *name == key).find_map(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

/// Deepest groups first. Containers may have made groups in theirs.
fn remove_tree(path: &Path) -> bool {
    let mut stack = vec![path.to_path_buf()];
    while let Some(dir) = stack.last().cloned() {
        match fs::remove_dir(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
                let below: Vec<_> =
                    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect();
                if below.is_empty() || stack.len() > 4096 {
                    return false;
                }
                stack.extend(below);
            }
            _ => {
                stack.pop();
            }
        }
    }
    true
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::internal(format!("{what} {}: {}", path.display(), io_text(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories stand in for hierarchies: the files are made beforehand, as the kernel does.
    fn v1() -> (tempfile::TempDir, Groups) {
        let temp = tempfile::tempdir().unwrap();
        for (dir, files) in [
            ("memory", "memory.limit_in_bytes memory.memsw.limit_in_bytes"),
            ("cpu,cpuacct", "cpu.shares cpu.cfs_quota_us cpu.cfs_period_us"),
            ("pids", "pids.max"),
        ] {
            let group = temp.path().join(dir).join("docker/x");
            fs::create_dir_all(&group).unwrap();
            files.split(' ').for_each(|f| fs::write(group.join(f), "").unwrap());
        }
        let groups = Groups::at(temp.path());
        (temp, groups)
    }

    #[test]
    fn limits_are_written_where_their_controller_is() {
        let (_temp, groups) = v1();
        assert!(groups.has("cpu") && groups.has("cpuacct") && !groups.has("cpuset") && !groups.v2());
        let limits = Resources {
            memory: 64 << 20,
            memory_swap: 128 << 20,
            nano_cpus: 500_000_000,
            cpuset_cpus: "0".into(),
            pids_limit: Some(0),
            ..Resources::default()
        };
        groups.create("x", &limits).unwrap();
        assert_eq!(groups.read("memory", "x", "memory.limit_in_bytes"), "67108864");
        assert_eq!(groups.read("memory", "x", "memory.memsw.limit_in_bytes"), "134217728");
        assert_eq!(groups.read("cpu", "x", "cpu.cfs_quota_us"), "50000");
        assert_eq!(groups.read("cpu", "x", "cpu.shares"), "");
        assert_eq!(groups.read("pids", "x", "pids.max"), "max");
    }

    #[test]
    fn groups_of_nobody_are_swept() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("pids")).unwrap();
        let groups = Groups::at(temp.path());
        let (known, unknown) = ("a".repeat(64), "b".repeat(64));
        for id in [&known, &unknown, "ready"] {
            groups.create(id, &Resources::default()).unwrap();
        }
        groups.sweep(|id| id == known);
        let left = |id: &str| temp.path().join("pids/docker").join(id).is_dir();
        assert_eq!([&known, &unknown, "ready"].map(left), [true, false, true]);
    }

    #[test]
    fn a_container_may_have_another_parent() {
        let (temp, groups) = v1();
        groups.set_parent("y", "/lab/../lab//a/");
        assert_eq!(groups.name("y"), "lab/a/y");
        groups.create("y", &Resources::default()).unwrap();
        assert!(temp.path().join("pids/lab/a/y").is_dir());
        // Where a file is more than the kernel's, the directory stays.
        let _memory_is_left = groups.remove("y");
        assert!(!temp.path().join("pids/lab/a/y").exists());
        for usual in ["", "/", "/.."] {
            groups.set_parent("y", usual);
            assert_eq!(groups.name("y"), "docker/y");
        }
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field("oom 1\noom_kill 5\noom_kill_disable 0\n", "oom_kill"), 5);
        assert_eq!(field("", "oom_kill"), 0);
    }
}
