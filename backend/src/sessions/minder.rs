//! One task per session that waits for what time brings: expiry, sleep, end by disuse. It sleeps until the next of
//! them is due, or until the session's life changes or its last connection goes.
//!
//! Falling asleep and waking exclude each other by `Live::gate`. A visitor first counts itself in and then takes the
//! gate; the minder takes the gate and then looks whether anybody is counted. So either the minder sees the
//! visitor and does not freeze, or the visitor comes after the freeze and thaws.

use super::{
    Sessions,
    live::{EndKind, Live, Phase},
    now,
};
use crate::error::Error;
use drydock_protocol::api::Status;
use drydock_warden::messages::Request;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

impl Sessions {
    /// Watches over a session until it has ended.
    pub(super) async fn mind(self: Arc<Self>, live: Arc<Live>) {
        tokio::spawn(self.clone().serve_registry(live.clone()));
        let mut life_changes = live.life.subscribe();
        let mut closing = self.closing.subscribe();
        // What the session process last said about its idleness: not idle before this moment.
        let mut used_at = Instant::now();
        loop {
            let life = life_changes.borrow_and_update().clone();
            if matches!(life.phase, Phase::Ended(_)) {
                return;
            }
            let left = Duration::from_secs(life.expires_at.saturating_sub(now()));
            if left.is_zero() {
                self.end(&live, EndKind::Expired, "Its time was over.").await;
                return;
            }
            let idle_due = self.idle_limit(&life.phase).filter(|_| live.active() == 0);
            let idle_left = idle_due.map(|limit| {
                (live.last_used().max(used_at) + limit).saturating_duration_since(Instant::now())
            });
            if idle_left.is_some_and(|d| d.is_zero()) {
                used_at = self.idle_since(&live, &life.phase).await;
                let idle = used_at.elapsed();
                if self.config.end_idle_after.unless_never().is_some_and(|limit| idle >= limit)
                    && live.active() == 0
                {
                    self.end(&live, EndKind::Idle, &unused(idle)).await;
                    return;
                }
                if self.config.sleep_after.unless_never().is_some_and(|limit| idle >= limit)
                    && let Err(e) = self.fall_asleep(&live).await
                {
                    tracing::warn!(id = %live.id, error = %e, "cannot put a session to sleep");
                    used_at = Instant::now();
                }
                continue;
            }
            // The clock may be set while we wait: look again now and then.
            let wait = idle_left.unwrap_or(left).min(left).min(Duration::from_secs(3600));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = life_changes.changed() => {}
                () = live.left.notified() => {}
                // The next server minds it.
                _ = closing.wait_for(|c| *c) => return,
            }
        }
    }

    /// After how much disuse something is due next.
    fn idle_limit(&self, phase: &Phase) -> Option<Duration> {
        let sleep = self.config.sleep_after.unless_never();
        let end = self.config.end_idle_after.unless_never();
        match phase {
            Phase::Running => [sleep, end].into_iter().flatten().min(),
            Phase::Asleep => end,
            Phase::Starting | Phase::Ended(_) => None,
        }
    }

    /// When somebody last did something.
    async fn idle_since(&self, live: &Live, phase: &Phase) -> Instant {
        let by_us = live.last_used();
        if *phase == Phase::Asleep {
            return by_us;
        }
        match self.state(&live.id).await {
            Ok((_, idle_micros)) => Instant::now()
                .checked_sub(Duration::from_micros(idle_micros))
                .map_or(by_us, |by_them| by_them.max(by_us)),
            Err(_) => by_us,
        }
    }

    async fn fall_asleep(&self, live: &Live) -> Result<(), Error> {
        let _gate = live.gate.lock().await;
        if live.active() > 0 || live.now().phase != Phase::Running {
            return Ok(());
        }
        self.warden.done(Request::Freeze { id: live.id.clone(), frozen: true }).await?;
        live.set_phase(Phase::Asleep);
        self.store.set_status(&live.id, Status::Asleep).map_err(Error::internal)?;
        tracing::info!(id = %live.id, "session sleeps");
        Ok(())
    }

    /// Wakes a session if it sleeps; an error if it cannot be used.
    pub(super) async fn wake(&self, live: &Live) -> Result<(), Error> {
        let _gate = live.gate.lock().await;
        let phase = live.now().phase;
        match phase {
            Phase::Running => Ok(()),
            Phase::Asleep => {
                self.warden.done(Request::Freeze { id: live.id.clone(), frozen: false }).await?;
                live.set_phase(Phase::Running);
                self.store.set_status(&live.id, Status::Running).map_err(Error::internal)?;
                tracing::info!(id = %live.id, "session wakes");
                Ok(())
            }
            Phase::Starting => Err(Error::conflict("starting", "This session is still being made.")),
            Phase::Ended(end) => Err(Error::new(
                axum::http::StatusCode::GONE,
                "session_ended",
                format!("This session is over. {} Start a new one from the start page.", end.because),
            )),
        }
    }
}

/// Why a session ends that nobody used.
fn unused(idle: Duration) -> String {
    let (number, unit) = match idle.as_secs() {
        seconds @ 0..120 => (seconds, "second"),
        seconds => (seconds / 60, "minute"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("Nobody used it for {number} {unit}{plural}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_fitting_units() {
        for (seconds, text) in
            [(1, "1 second"), (59, "59 seconds"), (119, "119 seconds"), (600, "10 minutes")]
        {
            assert_eq!(unused(Duration::from_secs(seconds)), format!("Nobody used it for {text}."));
        }
    }
}
