//! A pod's phase and conditions from the statuses of its containers (`getPhase`, `pkg/kubelet/status/generate.go`).

use super::{eviction, pod, resize, status::Facts};
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

/// `Pending`, `Running`, `Succeeded` or `Failed`. `finished`: no container will be started any more.
pub fn of(pod: &Pod, init: &[ContainerStatus], main: &[ContainerStatus], finished: bool) -> &'static str {
    let (mut pending_init, mut failed_init, mut failed_for_good) = (0, 0, 0);
    for (container, status) in pod::init_containers(pod).iter().zip(init) {
        let state = status.state.clone().unwrap_or_default();
        if pod::is_sidecar(container) {
            // It counts until it has started once.
            let begun =
                status.started == Some(true) || state.terminated.is_some() || status.restart_count > 0;
            pending_init += i32::from(!begun);
            continue;
        }
        match ended(status) {
            Some(0) if state.terminated.is_some() => {}
            None | Some(0) => pending_init += 1,
            Some(code) => {
                failed_init += 1;
                failed_for_good += i32::from(!pod::should_restart(pod, container, code));
            }
        }
    }
    let (mut running, mut waiting, mut stopped, mut stopped_for_good, mut succeeded) = (0, 0, 0, 0, 0);
    for status in main {
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            running += 1;
        } else if let Some(code) = ended(status) {
            stopped += 1;
            succeeded += i32::from(code == 0 && state.terminated.is_some());
            let container = pod::spec(pod).containers.iter().find(|c| c.name == status.name);
            let again = container.is_some_and(|c| pod::should_restart(pod, c, code));
            stopped_for_good += i32::from(!again);
        } else {
            waiting += 1;
        }
    }
    if finished && running == 0 {
        // Also one that never began.
        let all = stopped > 0 && stopped == succeeded && waiting == 0 && failed_init == 0;
        return if all { "Succeeded" } else { "Failed" };
    }
    if failed_for_good > 0 {
        return "Failed";
    }
    if pending_init > 0 || failed_init > 0 && running + stopped == 0 || waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    if stopped == 0 {
        return "Pending";
    }
    match stopped == stopped_for_good {
        false => "Running",
        true if stopped == succeeded => "Succeeded",
        true => "Failed",
    }
}

/// How a container ended that does not run, now or the last time.
fn ended(status: &ContainerStatus) -> Option<i32> {
    let state = status.state.as_ref()?;
    let last = status.last_state.as_ref().filter(|_| state.running.is_none());
    let ended = state.terminated.as_ref().or_else(|| last?.terminated.as_ref());
    ended.map(|ended| ended.exit_code)
}

struct Said {
    kind: &'static str,
    status: &'static str,
    reason: Option<String>,
    message: Option<String>,
}

impl Said {
    fn new(kind: &'static str, value: bool) -> Self {
        Self { kind, status: if value { "True" } else { "False" }, reason: None, message: None }
    }

    fn because(kind: &'static str, value: bool, reason: &str, message: Option<String>) -> Self {
        Self { reason: Some(reason.to_owned()), message, ..Self::new(kind, value) }
    }
}

/// Conditions of others that the pod has, then the kubelet's in their order (`generateAPIPodStatus`, `mergePodStatus`).
pub fn conditions(
    facts: &Facts<'_>,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let pod = facts.pod;
    let has_network = facts.observed.sandbox().is_some() && facts.pod_ip.is_some();
    let containers = containers_ready("ContainersReady", phase, main);
    let ready = ready(facts, phase, main);
    let all = [
        Said::new("PodReadyToStartContainers", has_network),
        initialized(pod, phase, init, main),
        ready,
        containers,
        Said::new("PodScheduled", true),
    ];
    // A Job may want to know that it was not the pod's fault.
    let evicted = facts.ended.filter(|(reason, _)| *reason == eviction::REASON).map(|(_, message)| {
        Said::because("DisruptionTarget", true, "TerminationByKubelet", Some(message.to_owned()))
    });
    let now = Time(Timestamp::now());
    let (waits, error) = facts.resize;
    let pending =
        waits.map(|why| Said::because(resize::PENDING, true, &why.reason, Some(why.message.clone())));
    let failed = error.map(|why| Said::because(resize::IN_PROGRESS, true, "Error", Some(why.to_owned())));
    let own: Vec<PodCondition> = pending
        .into_iter()
        .chain(failed)
        .chain(evicted)
        .chain(all)
        .map(|said| {
            let old = find(facts.old, said.kind).or_else(|| find(pod.status.as_ref(), said.kind));
            let since = old.filter(|o| o.status == said.status).and_then(|o| o.last_transition_time.clone());
            PodCondition {
                type_: said.kind.into(),
                status: said.status.into(),
                reason: said.reason,
                message: said.message,
                last_transition_time: Some(since.unwrap_or_else(|| now.clone())),
                last_probe_time: None,
                observed_generation: pod.metadata.generation,
            }
        })
        .collect();
    let others = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let passing = |kind: &str| [resize::PENDING, resize::IN_PROGRESS].contains(&kind);
    let others = others.filter(|c| !passing(&c.type_) && !own.iter().any(|o| o.type_ == c.type_));
    others.cloned().collect::<Vec<_>>().into_iter().chain(own).collect()
}

fn find<'a>(status: Option<&'a PodStatus>, kind: &str) -> Option<&'a PodCondition> {
    status?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

fn initialized(pod: &Pod, phase: &str, init: &[ContainerStatus], main: &[ContainerStatus]) -> Said {
    const KIND: &str = "Initialized";
    if phase == "Succeeded" {
        return Said::because(KIND, true, "PodCompleted", None);
    }
    // Once one of the others has run, initialization is over for good.
    let begun = main.iter().any(|s| {
        s.restart_count > 0
            || s.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    });
    let incomplete: Vec<&str> = pod::init_containers(pod)
        .iter()
        .zip(init)
        .filter(|(c, s)| if pod::is_sidecar(c) { s.started != Some(true) } else { !s.ready })
        .map(|(c, _)| c.name.as_str())
        .collect();
    if incomplete.is_empty() || begun {
        return Said::new(KIND, true);
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Said::because(KIND, false, "ContainersNotInitialized", Some(message))
}

fn containers_ready(kind: &'static str, phase: &str, main: &[ContainerStatus]) -> Said {
    match phase {
        "Succeeded" => return Said::because(kind, false, "PodCompleted", None),
        "Failed" => return Said::because(kind, false, "PodFailed", None),
        _ => {}
    }
    let unready: Vec<&str> = main.iter().filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    if unready.is_empty() {
        return Said::new(kind, true);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Said::because(kind, false, "ContainersNotReady", Some(message))
}

fn ready(facts: &Facts<'_>, phase: &str, main: &[ContainerStatus]) -> Said {
    let said = containers_ready("Ready", phase, main);
    if said.status != "True" {
        return said;
    }
    for gate in pod::spec(facts.pod).readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        let condition = find(facts.pod.status.as_ref(), kind);
        let message = match condition {
            None => format!("corresponding condition of pod readiness gate \"{kind}\" does not exist."),
            Some(c) if c.status != "True" => {
                format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", c.status)
            }
            Some(_) => continue,
        };
        return Said::because("Ready", false, "ReadinessGatesNotReady", Some(message));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn statuses(list: &[Value]) -> Vec<ContainerStatus> {
        let full = |v: &Value| {
            let mut full =
                json!({ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0 });
            full.as_object_mut().unwrap().extend(v.as_object().unwrap().clone());
            serde_json::from_value(full).unwrap()
        };
        list.iter().map(full).collect()
    }

    fn pod(policy: &str, init: usize) -> Pod {
        let inits: Vec<_> = (0..init).map(|n| json!({ "name": format!("i{n}") })).collect();
        let spec =
            json!({ "restartPolicy": policy, "containers": [{ "name": "c" }], "initContainers": inits });
        serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap()
    }

    #[test]
    fn containers_with_policies_of_their_own_count_by_these() {
        let ended = |code: i32| json!({ "state": { "terminated": { "exitCode": code } } });
        let crashed = |code: i32| json!({ "state": { "waiting": {} }, "lastState": { "terminated": { "exitCode": code } } });
        let of = |policy: &str, own: Value, status: Value| {
            let mut container = json!({ "name": "c" });
            container.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            let pod =
                json!({ "metadata": {}, "spec": { "restartPolicy": policy, "containers": [container] } });
            of(&serde_json::from_value(pod).unwrap(), &[], &statuses(&[status]), false)
        };
        let rules = json!({ "restartPolicy": "Never", "restartPolicyRules": [
            { "action": "Restart", "exitCodes": { "operator": "In", "values": [42] } }] });
        assert_eq!(of("Never", rules.clone(), ended(42)), "Running");
        assert_eq!(of("Never", rules.clone(), crashed(42)), "Running");
        assert_eq!(of("Never", rules.clone(), ended(1)), "Failed");
        assert_eq!(of("Never", rules, ended(0)), "Succeeded");
        assert_eq!(of("Never", json!({ "restartPolicy": "Always" }), ended(0)), "Running");
        assert_eq!(of("Always", json!({ "restartPolicy": "Never" }), ended(1)), "Failed");
    }

    /// From upstream's `TestPodPhaseWithRestart…` and `…InitContainers`.
    #[test]
    fn phases() {
        let running = || json!({ "state": { "running": {} } });
        let ended = |code: i32| json!({ "state": { "terminated": { "exitCode": code } } });
        let waiting = || json!({ "state": { "waiting": {} } });
        let crashed = |code: i32| json!({ "state": { "waiting": {} }, "lastState": { "terminated": { "exitCode": code } } });
        for (policy, main, wanted) in [
            ("Always", vec![waiting()], "Pending"),
            ("Always", vec![running(), running()], "Running"),
            ("Always", vec![ended(0), ended(1)], "Running"),
            ("Always", vec![running(), crashed(1)], "Running"),
            ("Always", vec![running(), waiting()], "Pending"),
            ("Never", vec![ended(0), ended(0)], "Succeeded"),
            ("Never", vec![ended(0), ended(1)], "Failed"),
            ("Never", vec![running(), ended(1)], "Running"),
            ("OnFailure", vec![ended(0), ended(0)], "Succeeded"),
            ("OnFailure", vec![ended(1), ended(0)], "Running"),
            ("OnFailure", vec![crashed(1)], "Running"),
        ] {
            assert_eq!(of(&pod(policy, 0), &[], &statuses(&main), false), wanted, "{policy} {main:?}");
        }
        for (policy, init, wanted) in [
            ("Never", running(), "Pending"),
            ("Never", ended(1), "Failed"),
            ("Always", ended(1), "Pending"),
            ("Always", crashed(1), "Pending"),
        ] {
            assert_eq!(of(&pod(policy, 1), &statuses(&[init]), &statuses(&[waiting()]), false), wanted);
        }
        assert_eq!(of(&pod("Always", 0), &[], &statuses(&[ended(0)]), true), "Succeeded");
        assert_eq!(of(&pod("Always", 0), &[], &statuses(&[ended(137)]), true), "Failed");
        assert_eq!(of(&pod("Always", 0), &[], &statuses(&[waiting()]), true), "Failed");
    }
}
