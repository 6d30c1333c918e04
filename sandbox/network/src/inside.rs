//! Work inside another network namespace: on a thread that enters it and ends afterwards, so that the engine itself
//! never leaves the node's.

use crate::{Error, Result, error::Kind};
use nix::sched::{CloneFlags, setns};
use std::{fs::File, os::fd::OwnedFd, sync::Arc, thread};

/// Threads do next to nothing.
const STACK: usize = 128 << 10;

/// How a container's network namespace is found.
#[derive(Debug, Clone)]
pub enum Inside {
    /// By a process in it, whose program runs. (What a container's child is before that, nobody may look into.)
    Process(i32),
    /// By a descriptor, which the child gives away.
    Descriptor(Arc<OwnedFd>),
}

impl From<i32> for Inside {
    fn from(pid: i32) -> Self {
        Self::Process(pid)
    }
}

impl From<Arc<OwnedFd>> for Inside {
    fn from(namespace: Arc<OwnedFd>) -> Self {
        Self::Descriptor(namespace)
    }
}

impl From<OwnedFd> for Inside {
    fn from(namespace: OwnedFd) -> Self {
        Self::Descriptor(Arc::new(namespace))
    }
}

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace(OwnedFd);

impl Namespace {
    /// Opens it.
    pub fn of(inside: &Inside) -> Result<Self> {
        match inside {
            Inside::Process(pid) => {
                let path = format!("/proc/{pid}/ns/net");
                let file = File::open(&path).map_err(|e| Error::io(&format!("open {path}"), &e))?;
                Ok(Self(file.into()))
            }
            Inside::Descriptor(fd) => {
                let fd = fd.try_clone().map_err(|e| Error::io("duplicate a network namespace", &e))?;
                Ok(Self(fd))
            }
        }
    }

    /// Its descriptor.
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Does something there. Blocks: for short things only.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread =
                thread::Builder::new().name("inside".into()).stack_size(STACK).spawn_scoped(scope, || {
                    setns(&self.0, CloneFlags::CLONE_NEWNET)
                        .map_err(|e| Error::io("enter a network namespace", &e.into()))?;
                    work()
                });
            let thread = thread.map_err(|e| Error::io("start a thread", &e))?;
            thread.join().unwrap_or_else(|_| Err(Kind::Internal.error("work in a network namespace failed")))
        })
    }
}
