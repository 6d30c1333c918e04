//! The groups of a session's nodes, from inside the session.

use super::{MOST_AT_ONCE, SOCKETS_LIMIT, Sample, V2_CONTROLLERS, V2_OPTIONAL, shared, tree};
use crate::{Error, Result, error::Context};
use drydock_protocol::NodeName;
use nix::{
    fcntl::{OFlag, openat},
    sys::stat::{Mode, mkdirat},
};
use std::{
    fs,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Where a node's own processes are on v2, as systemd calls it.
const INIT_GROUP: &str = "init.scope";
/// The `nodes` directory of a session in every hierarchy, as descriptors. Used inside the session.
#[derive(Debug)]
pub struct NodesDir {
    pub(super) trees: Vec<Tree>,
}

/// A hierarchy.
#[derive(Debug)]
pub(super) struct Tree {
    /// `None`: v2, all controllers.
    pub controllers: Option<Vec<String>>,
    /// Its `nodes`.
    pub dir: OwnedFd,
}

impl Tree {
    /// Whether nodes have no group of their own in it.
    fn shared(&self) -> bool {
        self.controllers.as_deref().is_some_and(shared)
    }
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
            tree::thaw(tree.dir.as_fd(), &node.to_string(), MOST_AT_ONCE);
        }
    }

    /// Removes the group of a node and what the node made below it. `ResourceBusy` while a process is left.
    pub fn remove(&self, node: NodeName) -> Result<()> {
        for tree in self.divided() {
            tree::remove(tree.dir.as_fd(), &node.to_string(), usize::MAX)
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
