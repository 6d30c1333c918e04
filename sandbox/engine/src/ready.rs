//! What is made before a container asks for it: a network namespace, control groups, and file systems that are the same in all. The first
//! is the largest single step of a container's start (the kernel sets up a loopback interface, its tables and some hundred files), and all
//! need nothing of the container; so one of each lies ready, made on a thread of its own after the last start, and thrown away when
//! nothing was started for a while.

use crate::{
    cgroup::Groups,
    error::{Context, Error, Result},
};
use drydock_runtime::container::{beforehand::Beforehand, net};
use nix::sched::{CloneFlags, unshare};
use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Threads do next to nothing.
const STACK: usize = 128 << 10;
/// How long it lies ready.
const KEPT: Duration = Duration::from_secs(30);

/// What lies ready. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Ready(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    net: Option<OwnedFd>,
    mounts: Option<Beforehand>,
    /// More is on its way.
    making: bool,
    /// How often something was made, so that the end of one's time does not throw away the next.
    count: u64,
}

impl Ready {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A network namespace with what [`net::prepare`] does; made now if none lies ready.
    pub async fn network(&self) -> Result<OwnedFd> {
        let ready = self.state().net.take();
        match ready {
            Some(namespace) => Ok(namespace),
            None => in_background(network).await,
        }
    }

    /// File systems, if they lie ready: to make them takes a container's child no longer than us.
    pub fn mounts(&self) -> Beforehand {
        self.state().mounts.take().unwrap_or_default()
    }

    /// Has one of each lie ready for the next container. Call it in the runtime, when nothing waits for this.
    pub fn refill(&self, groups: &Arc<Groups>) {
        let (net, mounts) = {
            let mut state = self.state();
            let missing = (state.net.is_none(), state.mounts.is_none());
            if missing == (false, false) && groups.lie_ready() || state.making {
                return;
            }
            state.making = true;
            missing
        };
        let (ready, groups) = (self.clone(), Arc::clone(groups));
        tokio::spawn(async move {
            let made = Arc::clone(&groups);
            let _only_slower = tokio::task::spawn_blocking(move || made.make_ready()).await;
            let made = (
                if net { in_background(network).await.map(Some) } else { Ok(None) },
                if mounts { in_background(file_systems).await.map(Some) } else { Ok(None) },
            );
            let count = ready.keep(made);
            tokio::time::sleep(KEPT).await;
            let mut state = ready.state();
            if state.count == count {
                (state.net, state.mounts) = (None, None);
                groups.discard_ready();
            }
        });
    }

    fn keep(&self, (net, mounts): (Result<Option<OwnedFd>>, Result<Option<Beforehand>>)) -> u64 {
        let mut state = self.state();
        state.making = false;
        state.count += 1;
        for error in [net.as_ref().err(), mounts.as_ref().err()].into_iter().flatten() {
            tracing::debug!(%error, "nothing lies ready for the next container");
        }
        state.net = net.ok().flatten().or(state.net.take());
        state.mounts = mounts.ok().flatten().or(state.mounts.take());
        state.count
    }
}

/// Runs `work` on a thread that ends with it, since what it enters it does not leave.
async fn in_background<T: Send + 'static>(work: fn() -> Result<T>) -> Result<T> {
    let failed = || Error::internal("making what a container needs failed");
    let made = tokio::task::spawn_blocking(move || {
        let thread = thread::Builder::new().name("ready".into()).stack_size(STACK).spawn(work);
        let thread = thread.doing(|| "start a thread".to_string())?;
        thread.join().unwrap_or_else(|_| Err(failed()))
    });
    made.await.unwrap_or_else(|_| Err(failed()))
}

fn network() -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(std::io::Error::from)
        .doing(|| "make a network namespace".to_string())?;
    net::prepare().map_err(|error| Error::internal(error.to_string()))?;
    announce();
    let path = "/proc/thread-self/ns/net";
    Ok(File::open(path).doing(|| format!("open {path}"))?.into())
}

fn file_systems() -> Result<Beforehand> {
    Beforehand::make().map_err(|error| Error::internal(error.to_string()))
}

/// Interfaces of this namespace tell their neighbours when they come up: a container that has another's address has another
/// link-layer address, which those who remember the first one must hear of. Docker sends such messages itself.
fn announce() {
    for path in ["/proc/sys/net/ipv4/conf/all/arp_notify", "/proc/sys/net/ipv6/conf/all/ndisc_notify"] {
        if let Err(error) = fs::write(path, "1") {
            tracing::debug!(%error, path, "neighbours learn later");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn number(file: &OwnedFd) -> (u64, u64) {
        let meta = File::from(file.try_clone().unwrap()).metadata().unwrap();
        (meta.dev(), meta.ino())
    }

    /// Needs root.
    #[tokio::test(start_paused = true)]
    async fn one_of_each_lies_ready_for_a_while() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (ready, temp) = (Ready::default(), tempfile::tempdir().unwrap());
        let groups = Arc::new(Groups::at(temp.path()));
        let own = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let first = ready.network().await.unwrap();
        assert_ne!(number(&first).1, own, "it is a new one");
        assert!(ready.mounts().dev.is_none());
        ready.refill(&groups);
        ready.refill(&groups);
        while ready.state().making {
            tokio::task::yield_now().await;
        }
        let net = number(ready.state().net.as_ref().unwrap());
        let dev = number(ready.state().mounts.as_ref().unwrap().dev.as_ref().unwrap());
        assert_eq!(number(&ready.network().await.unwrap()), net);
        assert_eq!(number(&ready.mounts().dev.unwrap()), dev);
        assert!(ready.state().net.is_none() && ready.mounts().dev.is_none(), "one only");
        ready.refill(&groups);
        tokio::time::sleep(KEPT * 2).await;
        assert!(ready.state().net.is_none() && ready.mounts().dev.is_none(), "nobody wanted it");
    }
}
