//! A pod's status from what there is of it (`generateAPIPodStatus`, `convertToAPIContainerStatuses`, `getPhase`). Pure: it asks nobody.

use super::{
    admission::Refused,
    observed::{self, Observed},
    phase, pod, qos,
};
use crate::{docker::Container as Found, images::Waiting};
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
        Pod, PodIP, PodStatus, ResourceRequirements, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::{collections::HashMap, net::Ipv4Addr};

/// What probes know of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Its startup probe was good, or it has none.
    pub started: bool,
    /// Its readiness probe is good, or it has none.
    pub ready: bool,
}

/// All that a status follows from.
pub struct Facts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What there is of it.
    pub observed: &'a Observed,
    /// The node's address.
    pub host_ip: Ipv4Addr,
    /// The pod's address.
    pub pod_ip: Option<Ipv4Addr>,
    /// Why containers wait.
    pub reasons: &'a HashMap<String, Waiting>,
    /// What probes know, by container id.
    pub health: &'a dyn Fn(&str) -> Option<Health>,
    /// Last words, by container id.
    pub words: &'a HashMap<String, String>,
    /// Names of images, by id.
    pub images: &'a dyn Fn(&str) -> Option<String>,
    /// Names with a digest by which images can be pulled, by id.
    pub digests: &'a dyn Fn(&str) -> Option<String>,
    /// The status before.
    pub old: Option<&'a PodStatus>,
    /// No container will be started any more.
    pub finished: bool,
    /// Why the pod was ended by the kubelet, if it was: reason, message.
    pub ended: Option<(&'a str, &'a str)>,
    /// Why it can't have what it wants, and why it has not what it was allotted.
    pub resize: (Option<&'a Refused>, Option<&'a str>),
    /// When the kubelet saw the pod first.
    pub start_time: Time,
}

/// Which of a pod's lists a container stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Init,
    Main,
    Ephemeral,
}

/// The status.
pub fn of(facts: &Facts<'_>) -> PodStatus {
    let (pod, spec) = (facts.pod, pod::spec(facts.pod));
    let ephemeral_specs = pod::ephemeral_containers(pod);
    let init = list(facts, pod::init_containers(pod), List::Init);
    let mut main = list(facts, &spec.containers, List::Main);
    let mut ephemeral = list(facts, &ephemeral_specs, List::Ephemeral);
    main.sort_by(|a, b| a.name.cmp(&b.name));
    ephemeral.sort_by(|a, b| a.name.cmp(&b.name));
    let phase = match facts.ended {
        Some(_) => "Failed",
        None => phase::of(pod, &init, &main, facts.finished),
    };
    let some = |list: Vec<ContainerStatus>| Some(list).filter(|l| !l.is_empty());
    let ip = |ip: Ipv4Addr| ip.to_string();
    let conditions = phase::conditions(facts, phase, &init, &main);
    PodStatus {
        phase: Some(phase.into()),
        reason: facts.ended.map(|(reason, _)| reason.into()),
        message: facts.ended.map(|(_, message)| message.into()),
        conditions: Some(conditions),
        host_ip: Some(ip(facts.host_ip)),
        host_ips: Some(vec![HostIP { ip: ip(facts.host_ip) }]),
        pod_ip: facts.pod_ip.map(ip),
        pod_ips: facts.pod_ip.map(|a| vec![PodIP { ip: ip(a) }]),
        start_time: Some(facts.start_time.clone()),
        init_container_statuses: some(init),
        container_statuses: some(main),
        ephemeral_container_statuses: some(ephemeral),
        qos_class: Some(qos::class(pod).into()),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// A pod whose containers still run, or are being stopped, has not ended for others: who waits for its end may want what it has
/// (`mergePodStatus`).
pub fn hold_back(status: &mut PodStatus, before: Option<&PodStatus>) {
    let ended = |phase: Option<&str>| matches!(phase, Some("Succeeded" | "Failed"));
    let before = before.filter(|before| !ended(before.phase.as_deref()));
    if let Some(before) = before.filter(|_| ended(status.phase.as_deref())) {
        status.phase.clone_from(&before.phase);
        status.reason.clone_from(&before.reason);
        status.message.clone_from(&before.message);
    }
}

/// The status of a pod that the node did not take: reason, message.
pub fn refused(pod: &Pod, (reason, message): (&str, &str), start_time: Time) -> PodStatus {
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        start_time: Some(start_time),
        qos_class: Some(qos::class(pod).into()),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn list(facts: &Facts<'_>, containers: &[Container], list: List) -> Vec<ContainerStatus> {
    containers.iter().map(|container| one(facts, container, list)).collect()
}

fn one(facts: &Facts<'_>, container: &Container, list: List) -> ContainerStatus {
    let old = old_status(facts.old, &container.name, list);
    let Some(newest) = facts.observed.newest(&container.name) else {
        return absent(facts, container, list, old);
    };
    let attempts = facts.observed.containers.get(&container.name).map_or(&[][..], Vec::as_slice);
    let terminated = |found: &Found| {
        observed::state(found, facts.words.get(&found.id).cloned()).filter(|s| s.terminated.is_some())
    };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        container_id: Some(observed::id(newest)),
        image: (facts.images)(&newest.image).unwrap_or_else(|| container.image.clone().unwrap_or_default()),
        image_id: match (facts.digests)(&newest.image) {
            Some(digest) => format!("docker-pullable://{digest}"),
            None => format!("docker://{}", newest.image),
        },
        restart_count: i32::try_from(observed::restart_count(newest)).unwrap_or(i32::MAX),
        state: observed::state(newest, facts.words.get(&newest.id).cloned()),
        last_state: attempts.get(1).and_then(terminated),
        resources: Some(resources(container)),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
        volume_mounts: mounts(container),
        user: observed::user(newest),
        ..ContainerStatus::default()
    };
    if status.state.is_none() {
        status.state = Some(waiting(facts));
    }
    if status.last_state.is_none() {
        // The one before was tidied away.
        status.last_state = old.and_then(|o| o.last_state.clone()).filter(|s| s.terminated.is_some());
    }
    waits_again(facts, container, list, &mut status);
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    let health = (facts.health)(&newest.id).unwrap_or(Health { started: false, ready: false });
    let done = status.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0);
    let plain_init = list == List::Init && !pod::is_sidecar(container);
    status.started = Some(running && (plain_init || health.started));
    status.ready = if plain_init { done } else { running && health.started && health.ready };
    if list == List::Ephemeral {
        (status.ready, status.started) = (false, None);
    }
    status
}

fn old_status<'a>(old: Option<&'a PodStatus>, name: &str, list: List) -> Option<&'a ContainerStatus> {
    let old = old?;
    let list = match list {
        List::Init => &old.init_container_statuses,
        List::Main => &old.container_statuses,
        List::Ephemeral => &old.ephemeral_container_statuses,
    };
    list.as_ref()?.iter().find(|s| s.name == name)
}

/// One that was not made yet, or that somebody has taken away.
fn absent(
    facts: &Facts<'_>,
    container: &Container,
    list: List,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(facts)),
        started: Some(false),
        ..ContainerStatus::default()
    };
    if let Some(reason) = facts.reasons.get(&container.name) {
        status.state = Some(waits(reason));
    }
    if list == List::Ephemeral {
        status.started = None;
    }
    let Some(old) = old else { return status };
    status.restart_count = old.restart_count;
    status.last_state.clone_from(&old.last_state);
    let ended = old.state.as_ref().is_some_and(|s| s.terminated.is_some());
    let ran = old.state.as_ref().is_some_and(|s| s.running.is_some());
    if ended {
        status.state.clone_from(&old.state);
        status.container_id.clone_from(&old.container_id);
        status.image_id.clone_from(&old.image_id);
        status.ready = list == List::Init && old.ready;
    } else if ran {
        // Its end was not seen (`ContainerStatusUnknown`).
        let unknown = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some(
                "The container could not be located when the pod was deleted.  The container used to be Running"
                    .into(),
            ),
            ..ContainerStateTerminated::default()
        };
        let state = Some(ContainerState { terminated: Some(unknown), ..ContainerState::default() });
        if facts.finished { status.state = state } else { status.last_state = state }
    }
    status
}

/// Why a container waits of which nothing else is known: in a pod with init containers, whichever it is, those are gone through first
/// (`convertToAPIContainerStatuses`).
fn waiting(facts: &Facts<'_>) -> ContainerState {
    let initializes = !pod::init_containers(facts.pod).is_empty();
    let reason = if initializes { "PodInitializing" } else { "ContainerCreating" };
    let waiting = ContainerStateWaiting { reason: Some(reason.into()), message: None };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn waits(reason: &Waiting) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.reason.into()),
        message: Some(reason.message.clone()).filter(|m| !m.is_empty()),
    };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// One that ended and will be started again waits, with the reason why it does.
fn waits_again(facts: &Facts<'_>, container: &Container, list: List, status: &mut ContainerStatus) {
    let Some(state) = &status.state else { return };
    if facts.finished || state.running.is_some() || list == List::Ephemeral {
        return;
    }
    if let Some(ended) = &state.terminated {
        let done = list == List::Init && !pod::is_sidecar(container) && ended.exit_code == 0;
        if done || !pod::should_restart(facts.pod, container, ended.exit_code) {
            return;
        }
    }
    let Some(reason) = facts.reasons.get(&container.name) else { return };
    if state.terminated.is_some() {
        status.last_state = status.state.clone();
    }
    status.state = Some(waits(reason));
}

fn resources(container: &Container) -> ResourceRequirements {
    ResourceRequirements { claims: None, ..container.resources.clone().unwrap_or_default() }
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|r| *r),
        recursive_read_only: mount.read_only.filter(|r| *r).map(|_| "Disabled".into()),
    });
    Some(mounts.collect::<Vec<_>>()).filter(|m| !m.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::labels;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "u", "generation": 3 },
            "spec": { "initContainers": [{ "name": "init" }], "containers": [{ "name": "b" }, { "name": "a" }] }
        }))
        .unwrap()
    }

    fn found(id: &str, attempt: u32, exit: Option<i32>) -> Found {
        let mut found = Found { id: id.into(), ..Found::default() };
        found.config.labels.insert(labels::RESTART_COUNT.into(), attempt.to_string());
        found.state.running = exit.is_none();
        found.state.status = if exit.is_none() { "running" } else { "exited" }.into();
        found.state.exit_code = exit.unwrap_or(0);
        found.state.started_at = "2026-11-28T06:00:00Z".into();
        found.state.finished_at = exit.map_or("0001-01-01T00:00:00Z", |_| "2026-11-28T06:00:01Z").into();
        found
    }

    fn status(observed: &Observed, reasons: &HashMap<String, Waiting>, finished: bool) -> PodStatus {
        let (pod, words) = (pod(), HashMap::new());
        of(&Facts {
            pod: &pod,
            observed,
            host_ip: Ipv4Addr::new(192, 168, 0, 12),
            pod_ip: Some(Ipv4Addr::new(10, 244, 2, 2)),
            reasons,
            health: &|_| Some(Health { started: true, ready: true }),
            words: &words,
            images: &|_| None,
            digests: &|_| None,
            old: None,
            finished,
            ended: None,
            resize: (None, None),
            start_time: Time(Timestamp::UNIX_EPOCH),
        })
    }

    fn waiting(status: &ContainerStatus) -> Option<&str> {
        status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
    }

    #[test]
    fn a_pod_that_has_just_come_waits() {
        let told = status(&Observed::default(), &HashMap::new(), false);
        assert_eq!(told.phase.as_deref(), Some("Pending"));
        let main = told.container_statuses.unwrap();
        assert_eq!(main.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(waiting(&main[0]), Some("PodInitializing"));
        assert_eq!(waiting(&told.init_container_statuses.unwrap()[0]), Some("PodInitializing"));
        let conditions = told.conditions.unwrap();
        let kinds: Vec<&str> = conditions.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(
            kinds,
            ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
        );
        assert_eq!(conditions[1].message.as_deref(), Some("containers with incomplete status: [init]"));
        assert_eq!(conditions[3].message.as_deref(), Some("containers with unready status: [a b]"));
        assert_eq!(conditions[0].observed_generation, Some(3));
    }

    #[test]
    fn a_pod_ends_when_its_last_container_has() {
        let of = |phase: &str, reason: Option<&str>| PodStatus {
            phase: Some(phase.into()),
            reason: reason.map(Into::into),
            ..PodStatus::default()
        };
        let told = |mut status: PodStatus, before: Option<&PodStatus>| {
            hold_back(&mut status, before);
            (status.phase.unwrap(), status.reason)
        };
        let running = of("Running", None);
        let failed = || of("Failed", Some("DeadlineExceeded"));
        assert_eq!(told(failed(), Some(&running)), ("Running".into(), None));
        assert_eq!(told(failed(), Some(&failed())).0, "Failed");
        assert_eq!(told(failed(), None).0, "Failed");
        assert_eq!(told(of("Running", None), Some(&of("Pending", None))).0, "Running");
    }

    #[test]
    fn one_that_crashes_waits_and_remembers() {
        let mut observed = Observed::default();
        observed.containers.insert("init".into(), vec![found("i", 0, Some(0))]);
        observed.containers.insert("a".into(), vec![found("a1", 1, Some(3)), found("a0", 0, Some(1))]);
        observed.containers.insert("b".into(), vec![found("b0", 0, None)]);
        let reasons = HashMap::from([("a".to_owned(), Waiting::new("CrashLoopBackOff", "back-off 10s"))]);
        let told = status(&observed, &reasons, false);
        assert_eq!(told.phase.as_deref(), Some("Running"));
        let main = told.container_statuses.unwrap();
        assert_eq!(
            (waiting(&main[0]), main[0].restart_count, main[0].ready),
            (Some("CrashLoopBackOff"), 1, false)
        );
        let last = main[0].last_state.as_ref().unwrap().terminated.as_ref().unwrap();
        assert_eq!((last.exit_code, last.container_id.as_deref()), (3, Some("docker://a1")));
        assert!(main[1].ready && main[1].started == Some(true));
        assert!(told.init_container_statuses.unwrap()[0].ready);
        // Nothing is started any more: it has ended, and does not wait.
        let main = status(&observed, &reasons, true).container_statuses.unwrap();
        assert!(main[0].state.as_ref().unwrap().terminated.is_some());
    }
}
