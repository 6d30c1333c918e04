//! Stop-watch for the steps of a start or stop.

use drydock_protocol::pipe::Step;
use std::time::Instant;

/// Collects [`Step`]s relative to one moment.
#[derive(Debug)]
pub struct Trace {
    origin: Instant,
    last: Instant,
    steps: Vec<Step>,
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Trace {
    /// Starts the watch.
    pub fn new() -> Self {
        let now = Instant::now();
        Self { origin: now, last: now, steps: Vec::new() }
    }

    /// Starts with another watch's origin, so that the steps of two processes stand on one time line
    /// (`CLOCK_MONOTONIC` is the same for all processes of a host).
    pub fn from_origin(origin: Instant) -> Self {
        Self { origin, last: Instant::now(), steps: Vec::new() }
    }

    /// The moment that all steps are relative to.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Ends the step that began when the one before ended.
    pub fn step(&mut self, name: &str) {
        let now = Instant::now();
        self.steps.push(Step {
            name: name.into(),
            start_micros: micros(self.last - self.origin),
            micros: micros(now - self.last),
        });
        self.last = now;
    }

    /// The steps.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

fn micros(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
