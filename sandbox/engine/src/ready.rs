//! What is made before a container asks for it: a network namespace and a `/dev`. The first is the largest single step of a container's
//! start (the kernel sets up a loopback interface, its tables and some hundred files), and both need nothing of the container; so one
//! of each lies ready, made on a thread of its own after the last start, and thrown away when nothing was started for a while.

use crate::error::{Context, Error, Result};
use drydock_runtime::container::{dev, net};
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
    dev: Option<OwnedFd>,
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

    /// A `/dev` ([`dev::prepare`]), if one lies ready: to make it takes a container's child no longer than us.
    pub fn dev(&self) -> Option<OwnedFd> {
        self.state().dev.take()
    }

    /// Has both lie ready for the next container. Call it in the runtime, when nothing waits for this.
    pub fn refill(&self) {
        let (net, dev) = {
            let mut state = self.state();
            let missing = (state.net.is_none(), state.dev.is_none());
            if missing == (false, false) || state.making {
                return;
            }
            state.making = true;
            missing
        };
        let ready = self.clone();
        tokio::spawn(async move {
            let made = (
                if net { in_background(network).await.map(Some) } else { Ok(None) },
                if dev { in_background(devices).await.map(Some) } else { Ok(None) },
            );
            let count = ready.keep(made);
            tokio::time::sleep(KEPT).await;
            let mut state = ready.state();
            if state.count == count {
                (state.net, state.dev) = (None, None);
            }
        });
    }

    fn keep(&self, (net, dev): (Result<Option<OwnedFd>>, Result<Option<OwnedFd>>)) -> u64 {
        let mut state = self.state();
        state.making = false;
        state.count += 1;
        for error in [net.as_ref().err(), dev.as_ref().err()].into_iter().flatten() {
            tracing::debug!(%error, "nothing lies ready for the next container");
        }
        state.net = net.ok().flatten().or(state.net.take());
        state.dev = dev.ok().flatten().or(state.dev.take());
        state.count
    }
}

/// Runs `work` on a thread that ends with it, since what it enters it does not leave.
async fn in_background(work: fn() -> Result<OwnedFd>) -> Result<OwnedFd> {
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

fn devices() -> Result<OwnedFd> {
    dev::prepare().map_err(|error| Error::internal(error.to_string()))
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
        let ready = Ready::default();
        let own = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let first = ready.network().await.unwrap();
        assert_ne!(number(&first).1, own, "it is a new one");
        assert!(ready.dev().is_none());
        ready.refill();
        ready.refill();
        while ready.state().making {
            tokio::task::yield_now().await;
        }
        let net = number(ready.state().net.as_ref().unwrap());
        let dev = number(ready.state().dev.as_ref().unwrap());
        assert_eq!(number(&ready.network().await.unwrap()), net);
        assert_eq!(number(&ready.dev().unwrap()), dev);
        assert!(ready.state().net.is_none() && ready.dev().is_none(), "one only");
        ready.refill();
        tokio::time::sleep(KEPT * 2).await;
        assert!(ready.state().net.is_none() && ready.dev().is_none(), "nobody wanted it");
    }
}
