//! Probes of containers (`pkg/kubelet/prober`): a task for each container that runs and has some. What they find is asked for by the
//! container's id, so a container that is started again begins with nothing.

mod grpc;
mod http;
mod run;
mod times;

pub use http::{get, words};
pub use run::target;

use crate::{
    kubelet::Kubelet,
    pods::{
        pod::{self, ProbeTimes},
        status::Health,
    },
};
use drydock_kubeclient::EventType;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use times::{Plan, Row};
use tokio::{task::AbortHandle, time::Instant};

/// How a probe went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Good,
    /// Well, but for something.
    Warning(String),
    /// Badly: why.
    Bad(String),
    /// It could not be carried out: why.
    Error(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

#[derive(Debug)]
struct Watched {
    health: Health,
    /// The probe that says that it must be started anew.
    failed: Option<&'static str>,
    task: AbortHandle,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Probes {
    known: Mutex<HashMap<String, Watched>>,
}

/// What a task probes.
struct Subject {
    kubelet: Arc<Kubelet>,
    pod: Arc<Pod>,
    container: Container,
    id: String,
    address: Ipv4Addr,
}

impl Probes {
    /// Sees that a running container is probed.
    pub fn watch(
        &self,
        kubelet: &Arc<Kubelet>,
        pod: &Arc<Pod>,
        container: &Container,
        id: &str,
        address: Ipv4Addr,
        running_for: Duration,
    ) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(id) {
            return;
        }
        let subject = Subject {
            kubelet: kubelet.clone(),
            pod: pod.clone(),
            container: container.clone(),
            id: id.into(),
            address,
        };
        let health =
            Health { started: container.startup_probe.is_none(), ready: container.readiness_probe.is_none() };
        let begun = Instant::now().checked_sub(running_for).unwrap_or_else(Instant::now);
        let task = tokio::spawn(probe_all(subject, begun)).abort_handle();
        known.insert(id.into(), Watched { health, failed: None, task });
    }

    /// What is known of a container.
    pub fn health(&self, id: &str) -> Option<Health> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).map(|w| w.health)
    }

    /// Which probe says that the container must be started anew.
    pub fn failed(&self, id: &str) -> Option<&'static str> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).and_then(|w| w.failed)
    }

    /// Its pod ends: readiness goes on, the others must not restart anything.
    pub fn forget(&self, id: &str) {
        if let Some(watched) = self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            watched.task.abort();
        }
    }

    fn set(&self, id: &str, change: impl FnOnce(&mut Watched)) {
        if let Some(watched) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
            change(watched);
        }
    }
}

async fn probe_all(subject: Subject, begun: Instant) {
    let container = &subject.container;
    if let Some(probe) = &container.startup_probe {
        let good = repeat(&subject, Kind::Startup, probe, begun).await;
        if !good {
            return;
        }
    }
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            repeat(&subject, Kind::Liveness, probe, begun).await;
        }
    };
    let readiness = async {
        if let Some(probe) = &container.readiness_probe {
            repeat(&subject, Kind::Readiness, probe, begun).await;
        }
    };
    tokio::join!(liveness, readiness);
}

/// Probes again and again. Returns when a startup probe was good (true), or when the container must be started anew (false).
async fn repeat(subject: &Subject, kind: Kind, probe: &Probe, begun: Instant) -> bool {
    let times = pod::probe_times(probe);
    let plan = Plan::of(kind, times);
    let mut row = Row::default();
    for soon in plan.soon.iter().filter(|soon| begun + soon.after > Instant::now()) {
        tokio::time::sleep_until(begun + soon.after).await;
        let found = if soon.counts {
            once(subject, kind, probe, times).await
        } else {
            let outcome = run::once(subject, probe, Duration::from_secs(times.timeout)).await;
            matches!(outcome, Outcome::Good | Outcome::Warning(_)).then_some(true)
        };
        if let Some(end) = found.and_then(|good| note(subject, kind, row.verdict(good, times))) {
            return end;
        }
        if found == Some(true) {
            break;
        }
    }
    let mut ticks = tokio::time::interval_at(begun + plan.first, Duration::from_secs(times.period));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = once(subject, kind, probe, times).await;
        if let Some(end) = found.and_then(|good| note(subject, kind, row.verdict(good, times))) {
            return end;
        }
    }
}

/// Notes what is certain of a container by now, if something is. Answers what ends its probing.
fn note(subject: &Subject, kind: Kind, verdict: Option<bool>) -> Option<bool> {
    match (kind, verdict?) {
        (Kind::Startup, true) => {
            change(subject, |w| w.health.started = true);
            Some(true)
        }
        (Kind::Startup | Kind::Liveness, false) => {
            change(subject, |w| w.failed = Some(if kind == Kind::Startup { "startup" } else { "liveness" }));
            Some(false)
        }
        (Kind::Liveness, true) => None,
        (Kind::Readiness, good) => {
            let before = subject.kubelet.probes.health(&subject.id).is_some_and(|h| h.ready);
            if before != good {
                change(subject, |w| w.health.ready = good);
            }
            None
        }
    }
}

fn change(subject: &Subject, change: impl FnOnce(&mut Watched)) {
    subject.kubelet.probes.set(&subject.id, change);
    subject.kubelet.wake(pod::uid(&subject.pod));
}

/// One probe with its events; none if it could not be carried out.
async fn once(subject: &Subject, kind: Kind, probe: &Probe, times: ProbeTimes) -> Option<bool> {
    /// A probe that can't be carried out is tried so often (`maxProbeRetries`).
    const TRIES: usize = 3;
    let mut outcome = Outcome::Error(String::new());
    for _ in 0..TRIES {
        outcome = run::once(subject, probe, Duration::from_secs(times.timeout)).await;
        if !matches!(outcome, Outcome::Error(_)) {
            break;
        }
    }
    let event = |reason: &str, message: String| {
        subject.kubelet.container_event(
            &subject.pod,
            &subject.container.name,
            EventType::Warning,
            reason,
            &message,
        );
    };
    match outcome {
        Outcome::Good => Some(true),
        Outcome::Warning(what) => {
            event("ProbeWarning", format!("{} probe warning: {what}", kind.name()));
            Some(true)
        }
        Outcome::Bad(why) => {
            event("Unhealthy", format!("{} probe failed: {why}", kind.name()));
            Some(false)
        }
        Outcome::Error(why) => {
            event("Unhealthy", format!("{} probe errored and resulted in unknown state: {why}", kind.name()));
            None
        }
    }
}
