//! Notices when the kernel ends a container's process for want of memory, be it its first one or another: `OOMKilled` is true from then
//! on, whatever the run's exit code, and the event `oom` comes at once (moby's daemon/monitor.go, `EventOOM`).

use super::{Container, streams::watched_for};
use crate::{cgroup::Groups, engine::Engine};
use rustix::event::{EventfdFlags, eventfd};
use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::AbortHandle,
};

/// Control groups v1 tell that memory has run out just before the kernel decides whom to kill.
const DECISION: [u64; 5] = [0, 1, 5, 20, 100];

/// Watches over a run. Nobody is told at once if the container has no memory limit of its own: its end tells.
pub fn watch(engine: &Arc<Engine>, container: &Arc<Container>) -> Option<AbortHandle> {
    if container.record().host.resources.memory <= 0 {
        return None;
    }
    let mut kills = Kills::watch(&engine.groups, &container.id)
        .inspect_err(
            |error| tracing::debug!(container = container.id, %error, "its want of memory shows at its end"),
        )
        .ok()?;
    let (engine, container) = (engine.clone(), container.clone());
    let task = tokio::spawn(async move {
        while kills.next(&engine.groups, &container.id).await.is_ok() {
            happened(&engine, &container);
            engine.save_soon(&container);
        }
    });
    Some(task.abort_handle())
}

/// Before the group goes: what was not noticed yet.
pub fn at_the_end(engine: &Engine, container: &Container) {
    if !container.record().state.oom_killed && engine.groups.oom_kills(&container.id) > 0 {
        happened(engine, container);
    }
}

fn happened(engine: &Engine, container: &Container) {
    let mut record = container.record();
    record.state.oom_killed = true;
    engine.container_event(&record, "oom", &[]);
}

/// The kernel's word about one group.
struct Kills {
    seen: u64,
    news: AsyncFd<OwnedFd>,
    interest: Interest,
}

impl Kills {
    /// `memory.events` of v2 can be polled (Documentation/admin-guide/cgroup-v2.rst); v1 wants an eventfd(2) for `memory.oom_control`
    /// (Documentation/admin-guide/cgroup-v1/memory.rst, section 10).
    fn watch(groups: &Groups, id: &str) -> io::Result<Self> {
        let name = if groups.v2() { "memory.events" } else { "memory.oom_control" };
        let path = groups.file("memory", id, name).ok_or(io::ErrorKind::NotFound)?;
        let file = File::open(&path)?;
        let (news, interest) = if groups.v2() {
            (OwnedFd::from(file), Interest::PRIORITY)
        } else {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let pair = format!("{} {}", event.as_raw_fd(), file.as_raw_fd());
            fs::write(path.with_file_name("cgroup.event_control"), pair)?;
            (event, Interest::READABLE)
        };
        Ok(Self { seen: groups.oom_kills(id), news: watched_for(news, interest)?, interest })
    }

    /// Returns when there is one more.
    async fn next(&mut self, groups: &Groups, id: &str) -> io::Result<()> {
        loop {
            let mut ready = self.news.ready(self.interest).await?;
            ready.clear_ready();
            // Nothing to read is no error: the next word comes all the same.
            let _count = rustix::io::read(&self.news, &mut [0; 8]);
            // All groups below one that is out of memory are told, and mostly nobody in this one is meant.
            for pause in DECISION {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let now = groups.oom_kills(id);
                if now > self.seen {
                    self.seen = now;
                    return Ok(());
                }
            }
        }
    }
}
