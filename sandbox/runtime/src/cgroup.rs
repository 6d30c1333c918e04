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

mod nodes;
mod session;
mod tree;
mod unused;
mod usage;

pub use nodes::NodesDir;
pub use session::SessionGroup;
pub use unused::UnusedHierarchies;
pub use usage::Sample;

use crate::{Error, Result, error::Context};
use std::{
    fs, io,
    os::fd::OwnedFd,
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

/// Whether all nodes of a session share one group in the v1 hierarchy of these controllers.
pub(crate) fn shared(controllers: &[String]) -> bool {
    controllers.iter().all(|name| V1_OPTIONAL.contains(&name.as_str()))
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
