//! Network namespaces made beforehand. To make one is the largest single step of a container's start (the kernel sets up a loopback
//! interface, its tables and some hundred files), and it needs nothing of the container; so one lies ready, made on a thread of its
//! own after the last start, and thrown away when nothing was started for a while. A container that finds none has it made at once.

use crate::{Error, Result, error::Kind};
use drydock_runtime::container::net;
use nix::sched::{CloneFlags, unshare};
use std::{
    fs::File,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Threads do next to nothing.
const STACK: usize = 128 << 10;
/// How long one lies ready.
const KEPT: Duration = Duration::from_secs(30);

/// The one that lies ready, if there is one. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Spare(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ready: Option<OwnedFd>,
    /// One is on its way.
    making: bool,
    /// How many have lain ready, so that the end of one's time does not throw away the next.
    count: u64,
}

impl Spare {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A namespace for a container, with what [`net::prepare`] does.
    pub async fn take(&self) -> Result<OwnedFd> {
        let ready = self.state().ready.take();
        match ready {
            Some(namespace) => Ok(namespace),
            None => in_background().await,
        }
    }

    /// Has one lie ready for the next container. Call it in the runtime, when nothing waits for this one.
    pub fn refill(&self) {
        {
            let mut state = self.state();
            if state.ready.is_some() || state.making {
                return;
            }
            state.making = true;
        }
        let spare = self.clone();
        tokio::spawn(async move {
            let made = in_background().await;
            let count = {
                let mut state = spare.state();
                state.making = false;
                state.count += 1;
                match made {
                    Ok(namespace) => state.ready = Some(namespace),
                    Err(error) => tracing::debug!(%error, "no network namespace lies ready"),
                }
                state.count
            };
            tokio::time::sleep(KEPT).await;
            let mut state = spare.state();
            if state.count == count {
                state.ready = None;
            }
        });
    }
}

async fn in_background() -> Result<OwnedFd> {
    let made = tokio::task::spawn_blocking(make).await;
    made.unwrap_or_else(|_| Err(Kind::Internal.error("making a network namespace failed")))
}

/// Makes a namespace, on a thread that stays in it and ends.
fn make() -> Result<OwnedFd> {
    let work = || -> Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::io("make a network namespace", &e.into()))?;
        net::prepare()?;
        announce();
        let path = "/proc/thread-self/ns/net";
        Ok(File::open(path).map_err(|e| Error::io(&format!("open {path}"), &e))?.into())
    };
    let thread = thread::Builder::new().name("netns".into()).stack_size(STACK).spawn(work);
    let thread = thread.map_err(|e| Error::io("start a thread", &e))?;
    thread.join().unwrap_or_else(|_| Err(Kind::Internal.error("making a network namespace failed")))
}

/// Interfaces of this namespace tell their neighbours when they come up: a container that has another's address has another
/// link-layer address, which those who remember the first one must hear of. Docker sends such messages itself.
fn announce() {
    for path in ["/proc/sys/net/ipv4/conf/all/arp_notify", "/proc/sys/net/ipv6/conf/all/ndisc_notify"] {
        if let Err(error) = std::fs::write(path, "1") {
            tracing::debug!(%error, path, "neighbours learn later");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn number(namespace: &OwnedFd) -> u64 {
        File::from(namespace.try_clone().unwrap()).metadata().unwrap().ino()
    }

    /// Needs root.
    #[tokio::test(start_paused = true)]
    async fn one_lies_ready_for_a_while() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let spare = Spare::default();
        let own = std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let first = spare.take().await.unwrap();
        assert_ne!(number(&first), own, "it is a new one");
        spare.refill();
        spare.refill();
        while spare.state().making {
            tokio::task::yield_now().await;
        }
        let ready = number(spare.state().ready.as_ref().unwrap());
        assert_eq!(number(&spare.take().await.unwrap()), ready);
        assert!(spare.state().ready.is_none(), "one only");
        spare.refill();
        tokio::time::sleep(KEPT * 2).await;
        assert!(spare.state().ready.is_none(), "nobody wanted it");
    }
}
