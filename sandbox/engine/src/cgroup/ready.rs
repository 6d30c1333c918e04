//! Groups that lie ready for the next container. With v1 the kernel makes one in every hierarchy, which takes it longer than all else that
//! a start has it do beside the root; to give one another name takes it next to nothing. With v2, where that can't be done (kernel,
//! `cgroup1_rename`), there is only one to make.

use super::{Groups, PARENT, SOCKETS_LIMIT, Tree};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

/// What it is called beside those of the containers.
const NAME: &str = "ready";

impl Groups {
    /// Whether a container's groups lie ready, or never do.
    pub fn lie_ready(&self) -> bool {
        self.v2 || self.ready.load(Ordering::Acquire)
    }

    /// Makes them.
    pub fn make_ready(&self) {
        for tree in self.trees.iter().filter(|tree| !self.v2 && !self.on_demand(tree)) {
            let dir = tree.dir.join(NAME);
            match fs::create_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    // The next container makes its own.
                    tracing::debug!(error = %e, dir = %dir.display(), "no group lies ready");
                    continue;
                }
                _ => {}
            }
            if tree.controllers.iter().any(|name| name == "memory") {
                // As for a group that is made when it is asked for.
                let _not_counted = fs::write(dir.join(SOCKETS_LIMIT), "-1");
            }
        }
        self.ready.store(true, Ordering::Release);
    }

    /// Nobody wanted them.
    pub fn discard_ready(&self) {
        if self.ready.swap(false, Ordering::AcqRel) {
            for tree in &self.trees {
                let _taken_or_never_made = fs::remove_dir(tree.dir.join(NAME));
            }
        }
    }

    /// Makes those that lie ready a container's. Answers in which hierarchies it has one now.
    pub(super) fn take_ready(&self, id: &str) -> impl Fn(&Tree) -> bool {
        let usual = self.name(id) == format!("{PARENT}/{id}");
        let taken = usual && self.ready.swap(false, Ordering::AcqRel);
        let renamed = |tree: &Tree| {
            let ready = tree.dir.join(NAME);
            is_empty(&ready) && fs::rename(ready, tree.dir.join(id)).is_ok()
        };
        let taken: Vec<PathBuf> = self
            .trees
            .iter()
            .filter(|tree| taken && !self.on_demand(tree) && renamed(tree))
            .map(|tree| tree.dir.clone())
            .collect();
        move |tree| taken.contains(&tree.dir)
    }
}

/// Whether no other group is in it: somebody may have chosen it as the parent of a container.
fn is_empty(group: &Path) -> bool {
    // A directory counts its own name, its `.`, and those below it.
    fs::metadata(group).is_ok_and(|found| found.nlink() <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::model::Resources;

    #[test]
    fn groups_that_lie_ready_become_the_next_containers() {
        let temp = tempfile::tempdir().unwrap();
        for tree in ["memory", "pids", "cpuset"] {
            fs::create_dir(temp.path().join(tree)).unwrap();
        }
        let groups = Groups::at(temp.path());
        let is = |path: &str| temp.path().join(path).is_dir();
        assert!(!groups.lie_ready());
        groups.make_ready();
        assert!(groups.lie_ready() && is("pids/docker/ready") && !is("cpuset/docker/ready"));
        fs::write(temp.path().join("pids/docker/ready/mark"), "").unwrap();
        groups.set_parent("elsewhere", "lab");
        groups.create("elsewhere", &Resources::default()).unwrap();
        assert!(groups.lie_ready() && is("pids/lab/elsewhere"));
        groups.create("x", &Resources::default()).unwrap();
        assert!(!groups.lie_ready() && !is("pids/docker/ready") && !is("memory/docker/ready"));
        assert!(temp.path().join("pids/docker/x/mark").exists());
        groups.create("y", &Resources::default()).unwrap();
        assert!(is("memory/docker/y") && is("pids/docker/y"));
        groups.make_ready();
        groups.set_parent("child", "docker/ready");
        groups.create("child", &Resources::default()).unwrap();
        groups.create("z", &Resources::default()).unwrap();
        assert!(is("pids/docker/ready/child") && is("pids/docker/z") && !is("pids/docker/z/child"));
    }

    #[test]
    fn groups_that_nobody_wants_go() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("pids")).unwrap();
        let groups = Groups::at(temp.path());
        groups.make_ready();
        groups.discard_ready();
        assert!(!groups.lie_ready() && !temp.path().join("pids/docker/ready").exists());
    }
}
