//! The ends of sessions: dying ones are helped, and what ended ones have left on the host is deleted, tried again for as long as
//! something of it resists. Called by the warden's loop.

use super::Sessions;
use crate::{error::Error, place::state_paths, record::Record};
use drydock_protocol::SessionId;
use drydock_runtime::cgroup::SessionGroup;
use std::{
    fs,
    time::{Duration, Instant},
};

impl Sessions {
    /// Helps sessions to end that were killed a while ago. How long until it is time again, if any is left.
    pub fn help_dying(&mut self) -> Option<Duration> {
        let running = &self.running;
        self.dying.retain(|one| running.contains_key(&one.id));
        for one in self.dying.iter_mut().filter(|one| one.again.is_due()) {
            let group = SessionGroup::new(self.hierarchies.clone(), &self.place.server(), one.id.as_str());
            if let Err(e) = group.gather(self.place.users(one.slot)) {
                tracing::warn!(session = %one.id, "{e}");
            }
            one.again.later();
        }
        Again::first(self.dying.iter().map(|one| &one.again))
    }

    /// Deletes all that a session has left on the host. What can't be deleted yet is tried again by [`Self::sweep_lingering`].
    pub(super) fn sweep(&mut self, mut left: Lingering) {
        let record = &left.record;
        let id = &record.id;
        let group = self.group(id);
        for path in
            [state_paths::session_socket(self.place.state(), id), self.control_path(id), self.log_path(id)]
        {
            if let Err(e) = fs::remove_file(&path)
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!("{}: {e}", path.display());
            }
        }
        let uplink = if record.uplink { self.uplink(record).delete() } else { Ok(()) };
        let swept = group.kill().and_then(|()| group.remove()).and(uplink).map_err(Error::from);
        let swept = swept.and_then(|()| self.disk.delete(id));
        match swept {
            Ok(()) => record.delete(self.place.state()),
            Err(e) => {
                tracing::debug!(session = %id, "not yet gone: {e}");
                left.wait(&e);
                self.lingering.push(left);
            }
        }
    }

    /// Tries again what could not be deleted, where it is time. How long until it is again, if something is left.
    pub fn sweep_lingering(&mut self) -> Option<Duration> {
        let (due, later) =
            std::mem::take(&mut self.lingering).into_iter().partition(|left| left.again.is_due());
        self.lingering = later;
        for left in due {
            self.sweep(left);
        }
        Again::first(self.lingering.iter().map(|left| &left.again))
    }
}

/// A session that was killed and whose processes have not all ended.
pub(super) struct Dying {
    pub(super) id: SessionId,
    slot: u32,
    again: Again,
}

impl Dying {
    /// When to look after it first: most are gone long before.
    const SOON: Duration = Duration::from_millis(200);

    pub(super) fn new(id: SessionId, slot: u32) -> Self {
        let again = Again { next: Instant::now() + Self::SOON, pause: Self::SOON };
        Self { id, slot, again }
    }
}

/// A session that has ended and of which something is left on the host.
pub(super) struct Lingering {
    pub(super) record: Record,
    again: Again,
}

impl Lingering {
    /// How soon to look again at first: the kernel tells nobody when a control group is empty (v1).
    const SOON: Duration = Duration::from_millis(20);

    pub(super) fn new(record: Record) -> Self {
        Self { record, again: Again { next: Instant::now(), pause: Self::SOON } }
    }

    /// Waits longer each time, unless the work was just too much for one go.
    fn wait(&mut self, why: &Error) {
        match why {
            Error::Sandbox(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                self.again.next = Instant::now() + Self::SOON;
            }
            _ => self.again.later(),
        }
    }
}

/// When to try something again.
struct Again {
    next: Instant,
    pause: Duration,
}

impl Again {
    const LATEST: Duration = Duration::from_secs(5);

    fn is_due(&self) -> bool {
        self.next <= Instant::now()
    }

    /// After the pause, which is twice as long the next time.
    fn later(&mut self) {
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(Self::LATEST);
    }

    /// How long until the first of several.
    fn first<'a>(all: impl Iterator<Item = &'a Self>) -> Option<Duration> {
        all.map(|one| one.next).min().map(|next| next.saturating_duration_since(Instant::now()))
    }
}
