//! One round of a pod: what there is, what there shall be, and the steps from one to the other (`SyncPod`, `computePodActions`). A round
//! may be broken off at any await: the next one begins by looking again.

use super::{
    config, eviction,
    fields::Here,
    labels,
    memory::Memory,
    observed::{self, Observed},
    pod, resize,
    start::{self, Place, Sandbox},
    status::{self, Facts},
    stop::{self, Why},
};
use crate::{
    docker::{Container as Found, DockerError},
    images::Waiting,
    kubelet::Kubelet,
    text,
    volumes::{self, Step, Unmounted, VolumeError, Volumes},
};
use drydock_kubeclient::EventType;
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodStatus},
    jiff::Timestamp,
};
use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// What stands in the way of a round; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The pod has no sandbox, so that nothing else of it can run.
    #[error("{0}")]
    Sandbox(String),
    /// Anything else; its containers may run.
    #[error("{0}")]
    Other(String),
}

impl From<DockerError> for Failure {
    fn from(error: DockerError) -> Self {
        Self::Other(error.to_string())
    }
}

/// A sandbox that ends sooner is not made anew at once (upstream looks at its engine so often, `genericPlegRelistPeriod`).
const LEAST_LIFE: Duration = Duration::from_secs(1);

/// One pod in one round.
pub struct Round<'a> {
    /// The kubelet.
    pub kubelet: &'a Arc<Kubelet>,
    /// The pod.
    pub pod: &'a Arc<Pod>,
    /// What is remembered.
    pub memory: &'a mut Memory,
    /// Something was started or ended in this round.
    acted: bool,
}

/// Shortest of two delays.
fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

impl<'a> Round<'a> {
    /// A round of a pod.
    pub fn new(kubelet: &'a Arc<Kubelet>, pod: &'a Arc<Pod>, memory: &'a mut Memory) -> Self {
        Self { kubelet, pod, memory, acted: false }
    }

    /// Looks, and tells how the pod is. `finished`: nothing will be started any more.
    pub async fn look(&mut self, finished: bool) -> Result<(Observed, PodStatus), DockerError> {
        let observed = self.observe().await?;
        let status = self.tell(&observed, finished);
        Ok((observed, status))
    }

    async fn observe(&mut self) -> Result<Observed, DockerError> {
        let observed = Observed::of(&self.kubelet.docker, pod::uid(self.pod)).await?;
        for list in observed.containers.values() {
            for found in list.iter().take(2) {
                if observed::has_ended(found) && !self.memory.words.contains_key(&found.id) {
                    let word = observed::last_word(&self.kubelet.docker, self.pod, found).await;
                    self.memory.words.insert(found.id.clone(), word.unwrap_or_default());
                }
            }
        }
        Ok(observed)
    }

    /// Tells how the pod is, and returns it as it is: others hear of a pod's end only when nothing of it runs any more.
    fn tell(&mut self, observed: &Observed, finished: bool) -> PodStatus {
        let status = self.status(observed, finished);
        let mut told = status.clone();
        if observed.running().next().is_some() {
            status::hold_back(&mut told, self.memory.told.as_ref());
        }
        self.kubelet.statuses.set(self.pod, &told);
        self.kubelet.noted(self.pod, &told);
        self.memory.told = Some(told);
        status
    }

    /// The pod's address, if it has one.
    fn address(&self, observed: &Observed) -> Option<Ipv4Addr> {
        let sandbox = observed.sandbox()?;
        if pod::is_host_network(self.pod) {
            Some(self.kubelet.host_ip)
        } else {
            self.kubelet.network.address_of(&sandbox.id)
        }
    }

    fn status(&self, observed: &Observed, finished: bool) -> PodStatus {
        let probes = &self.kubelet.probes;
        let ended = self.memory.ended.as_ref().map(|(r, m)| (r.as_str(), m.as_str()));
        if let Some(why) = ended.filter(|_| self.memory.refused) {
            return status::refused(self.pod, why, self.memory.start_time.clone());
        }
        let mut status = status::of(&Facts {
            pod: self.pod,
            observed,
            host_ip: self.kubelet.host_ip,
            pod_ip: self.address(observed),
            reasons: &self.memory.reasons,
            health: &|id| probes.health(id),
            words: &self.memory.words,
            images: &|id| self.kubelet.image_name(id),
            digests: &|id| self.kubelet.image_digest(id),
            old: self.memory.told.as_ref(),
            finished: finished || ended.is_some(),
            ended,
            resize: (self.memory.waits_for.as_ref(), self.memory.resize_error.as_deref()),
            start_time: self.memory.start_time.clone(),
        });
        if status.pod_ip.is_none()
            && let Some(old) = &self.memory.told
        {
            // A pod that has ended keeps the address that it had.
            status.pod_ip.clone_from(&old.pod_ip);
            status.pod_ips.clone_from(&old.pod_ips);
        }
        status
    }

    /// Does what is missing. Returns when to look again at the latest.
    pub async fn sync(&mut self) -> Result<Option<Duration>, Failure> {
        let mut observed = self.observe().await?;
        self.watch_probes(&observed);
        let status = self.tell(&observed, false);
        let phase = status.phase.as_deref().unwrap_or_default();
        if self.memory.ended.is_some() || matches!(phase, "Succeeded" | "Failed") {
            let evicted = self.memory.ended.as_ref().is_some_and(|(reason, _)| reason == eviction::REASON);
            let grace = if evicted { eviction::GRACE } else { pod::grace_seconds(self.pod) };
            stop::all(self.kubelet, self.pod, &observed, Why::PodEnds, grace).await;
            self.look(true).await?;
            return Ok(None);
        }
        let left = match self.deadline() {
            Some(Duration::ZERO) => {
                let message = "Pod was active on the node longer than the specified deadline";
                self.kubelet.event(self.pod, EventType::Normal, "DeadlineExceeded", message);
                self.memory.ended = Some(("DeadlineExceeded".into(), message.into()));
                return Ok(Some(Duration::ZERO));
            }
            left => left,
        };
        // Without its volumes a pod has no sandbox either.
        let volumes = match volumes::set_up(self.kubelet, self.pod, &self.kubelet.here(None)).await {
            Ok(volumes) => volumes,
            Err(errors) => return Err(self.without_volumes(&errors)),
        };
        let sandbox = self.sandbox(&observed).await?;
        let here = self.kubelet.here(Some(sandbox.address));
        self.memory.unmounted = Unmounted::default();
        super::files::write(self.kubelet, self.pod, Some(sandbox.address))
            .map_err(|e| Failure::Other(e.to_string()))?;
        let next = self.containers(&observed, &sandbox, &volumes, &here).await;
        if self.acted {
            observed = self.observe().await?;
            self.watch_probes(&observed);
        }
        self.resized(&observed);
        // Also why containers wait may be new.
        self.tell(&observed, false);
        Ok(sooner(next, left))
    }

    /// Tells of each volume that cannot be set up, and now and then of all that the pod waits for.
    fn without_volumes(&mut self, errors: &[VolumeError]) -> Failure {
        let tell = |reason: &str, message: &str| {
            self.kubelet.event(self.pod, EventType::Warning, reason, message);
        };
        let (now, unmounted) = (Instant::now(), &mut self.memory.unmounted);
        let mut due = errors.to_vec();
        due.retain(|error| unmounted.is_due(&error.volume, now));
        let (unknown, failed): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|error| error.failure.step == Step::Process);
        failed.iter().for_each(|error| tell(error.failure.step.reason(), &error.to_string()));
        // Nobody waits for what is not known: that is said at once.
        let all = match volumes::unprocessed(errors) {
            Some(all) => Some(all).filter(|_| !unknown.is_empty()),
            None => unmounted.waited(errors, now),
        };
        if let Some(all) = all {
            tell(Step::Process.reason(), &format!("Unable to attach or mount volumes: {all}"));
        }
        Failure::Other(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    /// Time that the pod has left, if it has a deadline.
    fn deadline(&self) -> Option<Duration> {
        let seconds = u64::try_from(pod::spec(self.pod).active_deadline_seconds?).ok()?;
        let age = Timestamp::now().duration_since(self.memory.start_time.0);
        let age = Duration::try_from(age).unwrap_or_default();
        Some(Duration::from_secs(seconds).saturating_sub(age))
    }

    /// The pod's first container: the one that runs, or a new one.
    async fn sandbox(&mut self, observed: &Observed) -> Result<Sandbox, Failure> {
        if let Some(running) = observed.sandbox() {
            let id = running.id.clone();
            if pod::is_host_network(self.pod) {
                return Ok(Sandbox { id, address: self.kubelet.host_ip });
            }
            if let Some(address) = self.kubelet.network.address_of(&id) {
                return Ok(Sandbox { id, address });
            }
            // A kubelet died between its start and its network.
            stop::all(self.kubelet, self.pod, observed, Why::SandboxGone, pod::grace_seconds(self.pod)).await;
        }
        let attempt = observed.sandboxes.first().map_or(0, |newest| {
            let name = newest.name.rsplit('_').next().and_then(|n| n.parse::<u32>().ok());
            name.unwrap_or(0) + 1
        });
        let before = observed.sandboxes.first().filter(|s| !s.state.running);
        if before.and_then(|s| age(&s.state.started_at)).is_some_and(|age| age < LEAST_LIFE) {
            return Err(Failure::Sandbox(format!(
                "the pod's sandbox ended within {LEAST_LIFE:?} of its start"
            )));
        }
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.kubelet.event(self.pod, EventType::Normal, "SandboxChanged", message);
            stop::all(self.kubelet, self.pod, observed, Why::SandboxGone, pod::grace_seconds(self.pod)).await;
            for old in &observed.sandboxes {
                let removed = self.kubelet.docker.remove(&old.id).await;
                removed.map_err(|e| Failure::Sandbox(e.to_string()))?;
            }
        }
        self.acted = true;
        start::sandbox(self.kubelet, self.pod, attempt).await
    }

    /// Init containers, then the others. Returns when to look again.
    async fn containers(
        &mut self,
        observed: &Observed,
        sandbox: &Sandbox,
        volumes: &Volumes,
        here: &Here,
    ) -> Option<Duration> {
        let spec = pod::spec(self.pod).clone();
        let mut next = None;
        for ephemeral in pod::ephemeral_containers(self.pod) {
            if observed.newest(&ephemeral.name).is_none() {
                let target = spec.ephemeral_containers.iter().flatten().find(|c| c.name == ephemeral.name);
                let target = target.and_then(|c| c.target_container_name.as_deref());
                let target = target.and_then(|name| observed.newest(name)).map(|c| c.id.as_str());
                let place = Place { sandbox, volumes, here, target };
                next = sooner(next, self.start(observed, &ephemeral, &place).await);
            }
        }
        let place = Place { sandbox, volumes, here, target: None };
        let begun = spec.containers.iter().any(|c| in_sandbox(observed, &c.name, &sandbox.id).is_some());
        let (ready, wait) = self.init(observed, &place, begun).await;
        next = sooner(next, wait);
        if !ready {
            return next;
        }
        for container in &spec.containers {
            next = sooner(next, self.main(observed, container, &place).await);
        }
        next
    }

    /// One of the pod's ordinary containers, or a sidecar.
    async fn main(
        &mut self,
        observed: &Observed,
        container: &Container,
        place: &Place<'_>,
    ) -> Option<Duration> {
        let Some(newest) = observed.newest(&container.name) else {
            return self.start(observed, container, place).await;
        };
        if newest.state.running {
            let why = if observed::hash(newest) != labels::hash(container) {
                Why::Changed
            } else if let Some(probe) = self.kubelet.probes.failed(&newest.id) {
                Why::Probe(probe)
            } else if self.resize(newest, container).await {
                Why::Resized
            } else {
                self.memory.reasons.remove(&container.name);
                return None;
            };
            let probe = match why {
                Why::Probe("startup") => container.startup_probe.as_ref(),
                Why::Probe(_) => container.liveness_probe.as_ref(),
                _ => None,
            };
            let grace = probe.and_then(|p| p.termination_grace_period_seconds);
            let grace = grace.unwrap_or_else(|| pod::grace_seconds(self.pod));
            self.acted = true;
            stop::container(self.kubelet, self.pod, container, &newest.id, why, grace).await;
            // Changed: at once; by a probe: as if it had crashed.
            if matches!(why, Why::Changed | Why::Resized) {
                return self.start(observed, container, place).await;
            }
            return Some(Duration::ZERO);
        }
        let other_sandbox = in_sandbox(observed, &container.name, &place.sandbox.id).is_none();
        if !observed::has_ended(newest)
            || pod::should_restart(self.pod, container, newest.state.exit_code)
            || (other_sandbox && newest.state.exit_code != 0)
        {
            return self.start(observed, container, place).await;
        }
        None
    }

    /// Gives a running container what was allotted to it; true if it is to be started anew for that.
    async fn resize(&mut self, found: &Found, container: &Container) -> bool {
        let (has, wants) = (found.host_config, config::limits(self.pod, container));
        let cpu = (has.cpu_shares, has.cpu_quota) != (wants.cpu_shares, wants.cpu_quota);
        let memory = has.memory != wants.memory;
        if !cpu && !memory {
            return false;
        }
        if resize::restarts(container, cpu, memory) {
            return true;
        }
        let done = self.kubelet.docker.update(&found.id, wants).await;
        self.acted = true;
        if let Err(error) = &done {
            tracing::error!(pod = pod::described(self.pod), container = container.name, %error, "Failed to resize container");
        }
        let error = done.err().map(|e| e.to_string());
        if let Some(why) = error.as_ref().filter(|_| error != self.memory.resize_error) {
            let message = resize::told("Pod resize error", self.pod, why);
            self.kubelet.event(self.pod, EventType::Warning, "ResizeError", &message);
        }
        self.memory.resize_error = error;
        false
    }

    /// Tells once when all containers have what was allotted to them.
    fn resized(&mut self, observed: &Observed) {
        let has_all = |container: &Container| {
            let found = observed.newest(&container.name).filter(|found| found.state.running);
            found.is_none_or(|found| {
                let (has, wants) = (found.host_config, config::limits(self.pod, container));
                (has.cpu_shares, has.cpu_quota, has.memory)
                    == (wants.cpu_shares, wants.cpu_quota, wants.memory)
            })
        };
        let sidecars = pod::init_containers(self.pod).iter().filter(|container| pod::is_sidecar(container));
        if !pod::spec(self.pod).containers.iter().chain(sidecars).all(has_all) {
            return;
        }
        if let Some(generation) = self.memory.resizing.take() {
            let mut pod = Pod::clone(self.pod);
            pod.metadata.generation = Some(generation);
            let message = resize::told("Pod resize completed", &pod, "");
            self.kubelet.event(self.pod, EventType::Normal, "ResizeCompleted", &message);
        }
    }

    /// Init containers one after the other. (All are done, when to look again.)
    async fn init(
        &mut self,
        observed: &Observed,
        place: &Place<'_>,
        begun: bool,
    ) -> (bool, Option<Duration>) {
        let inits = pod::init_containers(self.pod).to_vec();
        let mut next = None;
        for container in &inits {
            let current = in_sandbox(observed, &container.name, &place.sandbox.id);
            if pod::is_sidecar(container) {
                let wait = match current {
                    None => self.start(observed, container, place).await,
                    Some(_) => self.main(observed, container, place).await,
                };
                next = sooner(next, wait);
                let started = current
                    .filter(|c| c.state.running)
                    .is_some_and(|c| self.kubelet.probes.health(&c.id).is_some_and(|h| h.started));
                // One that has just been started is looked at in the next round.
                if !started && !begun {
                    let again = if wait.is_none() && container.startup_probe.is_none() {
                        Some(Duration::ZERO)
                    } else {
                        next
                    };
                    return (false, again);
                }
                continue;
            }
            if begun {
                continue;
            }
            match current {
                None => return (false, sooner(next, self.start(observed, container, place).await)),
                Some(found) if found.state.running => {
                    self.memory.reasons.remove(&container.name);
                    return (false, next);
                }
                Some(found) if !observed::has_ended(found) => {
                    return (false, sooner(next, self.start(observed, container, place).await));
                }
                Some(found) if found.state.exit_code == 0 => {
                    self.memory.reasons.remove(&container.name);
                }
                Some(found) if pod::should_restart(self.pod, container, found.state.exit_code) => {
                    return (false, sooner(next, self.start(observed, container, place).await));
                }
                Some(_) => return (false, next),
            }
        }
        (true, next)
    }

    /// Starts a container, unless it has crashed too often lately. Returns when to try again.
    async fn start(
        &mut self,
        observed: &Observed,
        container: &Container,
        place: &Place<'_>,
    ) -> Option<Duration> {
        let before = observed.containers.get(&container.name).map_or(&[][..], Vec::as_slice);
        if let Some(waiting) = self.crashed_lately(container, before) {
            let retry = waiting.retry;
            self.memory.reasons.insert(container.name.clone(), waiting);
            return retry;
        }
        self.acted = true;
        match start::container(self.kubelet, self.pod, container, before, place).await {
            Ok(()) => {
                self.memory.reasons.remove(&container.name);
                None
            }
            Err(waiting) => {
                // As the kubelet's workers do after an error in a round (`backOffPeriod`).
                let retry = waiting.retry.map_or(super::backoff::FIRST, |r| r.min(super::backoff::FIRST));
                self.memory.reasons.insert(container.name.clone(), waiting);
                Some(retry)
            }
        }
    }

    /// `doBackOff`.
    fn crashed_lately(&mut self, container: &Container, before: &[Found]) -> Option<Waiting> {
        let last = before.iter().find(|c| observed::has_ended(c))?;
        let ended = pod::time(&last.state.finished_at).or_else(|| pod::time(&last.created))?;
        let (ended, now) = (SystemTime::from(ended), SystemTime::now());
        let key = format!("{}_{}", container.name, labels::hash(container));
        if let Some(left) = self.memory.delays.wait(&key, ended, now) {
            let described = pod::described(self.pod);
            let message =
                format!("Back-off restarting failed container {} in pod {described}", container.name);
            let kind = EventType::Warning;
            self.kubelet.container_event(self.pod, &container.name, kind, "BackOff", &message);
            let delay = text::duration(self.memory.delays.delay(&key));
            let message =
                format!("back-off {delay} restarting failed container={} pod={described}", container.name);
            return Some(Waiting { reason: "CrashLoopBackOff", message, retry: Some(left) });
        }
        self.memory.delays.next(&key, ended, now);
        None
    }

    fn watch_probes(&self, observed: &Observed) {
        for list in observed.containers.values() {
            list.iter().filter(|c| !c.state.running).for_each(|c| self.kubelet.probes.forget(&c.id));
        }
        let Some(address) = self.address(observed) else { return };
        for container in pod::all_containers(self.pod) {
            if let Some(found) = observed.newest(&container.name).filter(|c| c.state.running) {
                let age = age(&found.state.started_at).unwrap_or_default();
                self.kubelet.probes.watch(self.kubelet, self.pod, &container, &found.id, address, age);
            }
        }
    }
}

/// How long something has run that was started then (RFC 3339).
fn age(started: &str) -> Option<Duration> {
    Duration::try_from(Timestamp::now().duration_since(pod::time(started)?)).ok()
}

/// The newest container of a name, if it belongs to this sandbox.
fn in_sandbox<'a>(observed: &'a Observed, name: &str, sandbox: &str) -> Option<&'a Found> {
    let newest = observed.newest(name)?;
    (newest.config.labels.get(labels::SANDBOX_ID).map(String::as_str) == Some(sandbox)).then_some(newest)
}
