//! The host's control group hierarchies that sessions do not use: a v2 tree without controllers on a v1 host, v1 controllers that
//! limit nothing of ours, systemd's own.
//!
//! Root in a node may mount any of them (cgroup_namespaces(7)) and then sees what is below the group that its session was in when
//! the namespace was made. Where that is the root, it would see the names of all the host's groups; so the warden, whose group
//! sessions inherit, is in one of its own.

use super::Hierarchies;
use std::{fs, path::PathBuf};

/// The groups that the calling process is in. Sessions stay in theirs when it leaves.
#[derive(Debug, Default)]
pub struct UnusedHierarchies {
    /// (where the hierarchy is mounted, our group in it).
    groups: Vec<(PathBuf, PathBuf)>,
}

impl UnusedHierarchies {
    /// Moves the calling process into `drydock/<server>` of each hierarchy in whose root it is. One that refuses is logged: sessions
    /// work without.
    pub fn enter(used: &Hierarchies, server: &str) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let rooted = rooted(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let mut groups = Vec::new();
        for mount in rooted.into_iter().filter(|mount| !used.mounts().contains(&mount.as_path())) {
            let group = mount.join("drydock").join(server);
            match fs::create_dir_all(&group).and_then(|()| fs::write(group.join("cgroup.procs"), "0")) {
                Ok(()) => groups.push((mount, group)),
                Err(e) => tracing::warn!("sessions see the control groups in {}: {e}", mount.display()),
            }
        }
        Self { groups }
    }

    /// Moves the calling process back, and removes the groups where no session holds them.
    pub fn leave(self) {
        for (mount, group) in self.groups {
            if let Err(e) = fs::write(mount.join("cgroup.procs"), "0") {
                tracing::warn!("leave the control group {}: {e}", group.display());
            }
            let _still_used = fs::remove_dir(&group).and_then(|()| fs::remove_dir(mount.join("drydock")));
        }
    }
}

/// Mount points of the hierarchies in whose root a process is, from the texts of its mountinfo (proc_pid_mountinfo(5)) and its list
/// of groups (cgroups(7)).
fn rooted(mountinfo: &str, groups: &str) -> Vec<PathBuf> {
    let in_root = groups.lines().filter_map(|line| line.split_once(':')?.1.strip_suffix(":/"));
    in_root.filter_map(|controllers| mount_point(mountinfo, controllers)).collect()
}

/// Where the hierarchy of these v1 controllers, separated by commas, is mounted; that of v2 if there are none.
fn mount_point(mountinfo: &str, controllers: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let [_, _, _, "/", mount_point, ..] = left.split(' ').collect::<Vec<_>>()[..] else { return None };
        let [kind, _, options] = right.split(' ').collect::<Vec<_>>()[..] else { return None };
        let here = match kind {
            "cgroup2" => controllers.is_empty(),
            "cgroup" => {
                !controllers.is_empty()
                    && controllers.split(',').all(|name| options.split(',').any(|o| o == name))
            }
            _ => false,
        };
        here.then(|| mount_point.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_in_whose_root_we_are() {
        let mounts = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2 cgroup2 rw
";
        let groups = "3:cpu,cpuacct:/\n2:memory:/a:/b\n1:name=systemd:/\n4:pids:/\n0::/\n";
        let found = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
        assert_eq!(rooted(mounts, groups), found.map(PathBuf::from));
        assert_eq!(
            rooted(mounts, "1:name=systemd:/system.slice\n0::/user.slice\n"),
            [""; 0].map(PathBuf::from)
        );
        assert_eq!(rooted(&mounts.replace("0:38 /", "0:38 /part"), "0::/\n"), [""; 0].map(PathBuf::from));
    }
}
