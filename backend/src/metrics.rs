//! Figures for the operator in the Prometheus text format, at `/metrics`. Called by `sessions` (events) and the API
//! (the page). No ids, addresses or secrets go in here.

use crate::sessions::{Sessions, live::EndKind};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusClass {
    status: u16,
}

/// All figures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    created: Counter,
    ended: Family<Reason, Counter>,
    ready: Histogram,
    requests: Family<StatusClass, Counter>,
    running: Gauge,
    capacity: Gauge,
    queued: Gauge,
    connections: Gauge,
    warden_up: Gauge,
    disk_free: Gauge,
}

impl Metrics {
    /// Figures that begin at zero.
    pub fn new() -> Self {
        let mut r = Registry::with_prefix("drydock");
        let buckets = [0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
        let m = Self {
            created: Counter::default(),
            ended: Family::default(),
            ready: Histogram::new(buckets),
            requests: Family::default(),
            running: Gauge::default(),
            capacity: Gauge::default(),
            queued: Gauge::default(),
            connections: Gauge::default(),
            warden_up: Gauge::default(),
            disk_free: Gauge::default(),
            registry: Registry::default(),
        };
        r.register("sessions_created", "Sessions made since the server started", m.created.clone());
        r.register("sessions_ended", "Sessions ended since the server started, by reason", m.ended.clone());
        r.register("session_ready_seconds", "Time from request to first prompt", m.ready.clone());
        r.register(
            "http_requests",
            "HTTP requests answered, by class of status (2: 2xx)",
            m.requests.clone(),
        );
        r.register("sessions", "Sessions that run or sleep", m.running.clone());
        r.register("sessions_capacity", "Sessions that fit", m.capacity.clone());
        r.register("sessions_queued", "Newcomers waiting", m.queued.clone());
        r.register("session_connections", "Pages, commands and port connections open", m.connections.clone());
        r.register("warden_up", "1 if the warden answers", m.warden_up.clone());
        r.register(
            "disk_free_bytes",
            "Free space on the host's disk, where the sessions' disks are; too little: no new sessions",
            m.disk_free.clone(),
        );
        Self { registry: r, ..m }
    }

    /// A session was made.
    pub fn created(&self, ready_ms: f64) {
        self.created.inc();
        self.ready.observe(ready_ms / 1000.0);
    }

    /// A session ended.
    pub fn ended(&self, kind: EndKind) {
        self.ended.get_or_create(&Reason { reason: kind.name() }).inc();
    }

    /// A request was answered.
    pub fn answered(&self, status: axum::http::StatusCode) {
        self.requests.get_or_create(&StatusClass { status: status.as_u16() / 100 }).inc();
    }

    /// The figures as text, those of `sessions` as they are now.
    pub fn text(&self, sessions: &Sessions) -> Result<String, std::fmt::Error> {
        let host = sessions.host();
        self.running.set(host.running.into());
        self.capacity.set(host.capacity.into());
        self.queued.set(host.queued.into());
        if let Some(free) = sessions.free_space() {
            self.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
        }
        self.connections.set(sessions.connections().into());
        self.warden_up.set(sessions.is_healthy().into());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
