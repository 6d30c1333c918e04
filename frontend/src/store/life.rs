//! The session's time: when it ends, and more of it.

use super::{known::Known, session::SessionStore, watch::watch};
use crate::reactive::*;
use crate::{browser, logic::clock, net::rest};
use gloo_timers::callback::Interval;
use wasm_bindgen_futures::spawn_local;

/// By how much one press of "extend" lengthens a session, in seconds.
const STEP: u64 = 1800;

/// What the page knows about the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Life {
    /// When it comes, on the clock of [`browser::now`].
    pub ends_at: f64,
    /// Seconds by which the owner may still extend it.
    pub can_extend: u64,
    /// The session sleeps.
    pub asleep: bool,
}

impl Life {
    /// From what the server says.
    pub fn new(seconds_left: u64, can_extend: u64, asleep: bool) -> Self {
        Self { ends_at: browser::now() + seconds_left as f64 * 1000.0, can_extend, asleep }
    }

    /// Whole seconds left.
    pub fn seconds_left(&self) -> u64 {
        ((self.ends_at - browser::now()) / 1000.0).max(0.0).round() as u64
    }

    /// By how much the next press of "extend" lengthens the session.
    pub fn next_step(&self) -> u64 {
        self.can_extend.min(STEP)
    }
}

impl SessionStore {
    /// Seconds left, counted down each second; says the warnings.
    pub fn countdown(self) -> Known<Option<u64>> {
        let left = Known::new(None::<u64>);
        let tick = move || {
            let now = self.life.get_untracked().map(|life| life.seconds_left());
            let before = left.get_untracked();
            if now != before {
                left.set(now);
                // A page that is opened late says the warning that is due.
                if let Some(now) = now
                    && let Some(sentence) = clock::warning(before.unwrap_or(u64::MAX), now)
                {
                    self.notices.info(sentence);
                }
            }
        };
        watch(move || {
            self.life.track();
            tick();
        });
        let timer = StoredValue::new_local(Some(Interval::new(1000, tick)));
        on_cleanup(move || timer.set_value(None));
        left
    }

    /// Gives the session more time.
    pub fn extend(self) {
        let (Some(id), Some(life)) = (self.id.get_untracked(), self.life.get_untracked()) else { return };
        let seconds = life.next_step();
        if seconds == 0 {
            return;
        }
        spawn_local(async move {
            match rest::extend(&id, seconds).await {
                Ok(()) => self.notices.info(format!("The session lasts {} longer.", clock::words(seconds))),
                Err(problem) => self.notices.error(problem.message),
            }
            self.ask_about();
        });
    }

    /// Ends the session.
    pub fn end(self) {
        let Some(id) = self.id.get_untracked() else { return };
        spawn_local(async move {
            match rest::end(&id).await {
                Ok(()) => self.over_by_choice(),
                Err(problem) if problem.status == 404 => self.over_by_choice(),
                Err(problem) => self.notices.error(problem.message),
            }
        });
    }
}
