//! What a pull or a push tells while it runs, in the form of Docker's stream.

use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How much of something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Bytes done.
    pub current: u64,
    /// Bytes in all; 0 where nobody knows.
    pub total: u64,
}

/// One line of Docker's progress stream (`{"id":…,"status":…,"progressDetail":{…}}`).
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The layer's short id, the tag, or nothing for a line about the whole.
    pub id: String,
    /// `Pulling fs layer`, `Downloading`, `Pushed`, ….
    pub status: String,
    /// For the lines that have a bar.
    pub amount: Option<Amount>,
    /// The line is about a layer: Docker sends an empty `progressDetail` with it, which plain messages do not have.
    pub layer: bool,
    /// The `aux` object that ends a push.
    pub aux: Option<serde_json::Value>,
}

/// Who gets the events. It is called from any task and must not block.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

impl Event {
    /// A line about the whole.
    pub fn message(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self { id: id.into(), status: status.into(), amount: None, layer: false, aux: None }
    }

    /// A line about a layer, without a bar.
    pub fn layer(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self { layer: true, ..Self::message(id, status) }
    }

    /// A line about a layer, with a bar.
    pub fn bar(id: impl Into<String>, status: impl Into<String>, current: u64, total: u64) -> Self {
        Self { amount: Some(Amount { current, total }), ..Self::layer(id, status) }
    }
}

/// Reports a growing amount, seldom enough that a fast transfer does not drown its reader: after each 512 KiB or percent,
/// and at most every tenth of a second.
pub(crate) struct Meter {
    events: Events,
    id: String,
    status: &'static str,
    total: u64,
    current: u64,
    told: u64,
    last: Option<Instant>,
}

impl Meter {
    pub(crate) fn new(events: Events, id: String, status: &'static str, total: u64) -> Self {
        Self { events, id, status, total, current: 0, told: 0, last: None }
    }

    pub(crate) fn set(&mut self, current: u64) {
        self.current = current;
    }

    pub(crate) fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.current += bytes;
        let step = if self.total > 0 { (self.total / 100).min(512 * 1024) } else { 512 * 1024 };
        let seldom = self.last.is_none_or(|last| last.elapsed() >= Duration::from_millis(100));
        if (self.current - self.told.min(self.current) > step && seldom) || self.current == self.total {
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.told = self.current;
        self.last = Some(Instant::now());
        (self.events)(Event::bar(self.id.clone(), self.status, self.current, self.total));
    }
}
