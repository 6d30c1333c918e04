//! Work inside another network namespace: on a thread that enters it and ends afterwards, so that the engine itself
//! never leaves the node's.

use crate::{Error, Result, error::Kind};
use nix::sched::{CloneFlags, setns};
use std::{fs::File, os::fd::OwnedFd, thread};

/// Threads do next to nothing.
const STACK: usize = 128 << 10;

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace(OwnedFd);

impl Namespace {
    /// That of a process.
    pub fn of(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).map_err(|e| Error::io(&format!("open {path}"), &e))?;
        Ok(Self(file.into()))
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
