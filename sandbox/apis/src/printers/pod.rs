//! A pod's row (`printPod`): the words of its status are what everybody looks at first.

use super::{NONE, age, is_deleting, name, parse, since};
use crate::defaults::pod::is_sidecar;
use crate::kind::{Cell, Column};
use crate::tree::{at, flag, get, has, int, list, text};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Columns of pods.
pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    Column::text("Status", "The aggregate status of the containers in this pod."),
    Column::text("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
    Column::AGE,
    Column::text("IP", "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.").wide(),
    Column::text("Node", "NodeName indicates in which node this pod is scheduled.").wide(),
    Column::text("Nominated Node", "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods.").wide(),
    Column::text("Readiness Gates", "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\".").wide(),
];

/// What is counted and concluded from the containers' statuses.
struct Summary {
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    reason: String,
}

impl Summary {
    fn restarted(&mut self, status: &Value) {
        self.restarts += int(status, "restartCount");
        self.last_restart = self.last_restart.max(last_end(status));
    }
}

fn last_end(status: &Value) -> Option<Timestamp> {
    parse(at(status, &["lastState", "terminated", "finishedAt"]))
}

/// Cells of [`COLUMNS`].
pub fn row(pod: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(pod, "spec");
    let summary = summarize(pod);
    let sidecars = list(spec, "initContainers").iter().filter(|one| is_sidecar(one)).count();
    let total = list(spec, "containers").len() + sidecars;
    let restarts = match summary.last_restart {
        Some(when) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, since(&json!(when.to_string()), now))
        }
        _ => summary.restarts.to_string(),
    };
    let status = get(pod, "status");
    let ip = list(status, "podIPs").first().map_or(text(status, "podIP"), |first| text(first, "ip"));
    vec![
        name(pod),
        json!(format!("{}/{total}", summary.ready)),
        json!(summary.reason),
        json!(restarts),
        age(pod, now),
        json!(super::or(ip, NONE)),
        json!(super::or(text(spec, "nodeName"), NONE)),
        json!(super::or(text(status, "nominatedNodeName"), NONE)),
        json!(readiness_gates(pod)),
    ]
}

fn summarize(pod: &Value) -> Summary {
    let status = get(pod, "status");
    let phase = text(status, "phase");
    let mut reason = super::or(text(status, "reason"), phase).to_string();
    let gated = list(status, "conditions")
        .iter()
        .any(|one| text(one, "type") == "PodScheduled" && text(one, "reason") == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".into();
    }
    let mut summary = Summary { ready: 0, restarts: 0, last_restart: None, reason };
    let (initializing, sidecars) = init_containers(pod, &mut summary);
    if !initializing || condition_is_true(status, "Initialized") {
        main_containers(status, sidecars, &mut summary);
    }
    if is_deleting(pod) && text(status, "reason") == "NodeLost" {
        summary.reason = "Unknown".into();
    } else if is_deleting(pod) && !matches!(phase, "Succeeded" | "Failed") {
        summary.reason = "Terminating".into();
    }
    summary
}

/// Looks at the init containers in their order; tells whether one is still at it, and restarts of sidecars alone.
fn init_containers(pod: &Value, summary: &mut Summary) -> (bool, (i64, Option<Timestamp>)) {
    let declared = list(get(pod, "spec"), "initContainers");
    let mut sidecars = (0, None);
    for (index, status) in list(get(pod, "status"), "initContainerStatuses").iter().enumerate() {
        summary.restarted(status);
        let sidecar = declared.iter().any(|one| text(one, "name") == text(status, "name") && is_sidecar(one));
        if sidecar {
            sidecars.0 += int(status, "restartCount");
            sidecars.1 = sidecars.1.max(last_end(status));
        }
        let (terminated, waiting) = (at(status, &["state", "terminated"]), at(status, &["state", "waiting"]));
        if has(get(status, "state"), "terminated") && int(terminated, "exitCode") == 0 {
            continue;
        }
        if sidecar && flag(status, "started") {
            summary.ready += usize::from(flag(status, "ready"));
            continue;
        }
        summary.reason = if has(get(status, "state"), "terminated") {
            format!("Init:{}", end_words(terminated))
        } else if !matches!(text(waiting, "reason"), "" | "PodInitializing") {
            format!("Init:{}", text(waiting, "reason"))
        } else {
            format!("Init:{index}/{}", declared.len())
        };
        return (true, sidecars);
    }
    (false, sidecars)
}

fn main_containers(status: &Value, sidecars: (i64, Option<Timestamp>), summary: &mut Summary) {
    (summary.restarts, summary.last_restart) = sidecars;
    let mut running = false;
    for container in list(status, "containerStatuses").iter().rev() {
        summary.restarted(container);
        let state = get(container, "state");
        let waiting = text(get(state, "waiting"), "reason");
        if !waiting.is_empty() {
            summary.reason = waiting.into();
        } else if has(state, "terminated") {
            summary.reason = end_words(get(state, "terminated"));
        } else if flag(container, "ready") && has(state, "running") {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        summary.reason = if condition_is_true(status, "Ready") { "Running" } else { "NotReady" }.into();
    }
}

fn end_words(terminated: &Value) -> String {
    match (text(terminated, "reason"), int(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", int(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.into(),
    }
}

fn condition_is_true(status: &Value, kind: &str) -> bool {
    list(status, "conditions").iter().any(|one| text(one, "type") == kind && text(one, "status") == "True")
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(get(pod, "spec"), "readinessGates");
    if gates.is_empty() {
        return NONE.into();
    }
    let status = get(pod, "status");
    let open = gates.iter().filter(|gate| condition_is_true(status, text(gate, "conditionType"))).count();
    format!("{open}/{}", gates.len())
}

/// Conditions of a pod's row: clients may leave out what is done.
pub fn row_conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(get(pod, "status"), "phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// Columns of pod templates.
pub const TEMPLATE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Containers", "Names of each container in the template."),
    Column::text("Images", "Images referenced by each container in the template."),
    Column::text("Pod Labels", "The labels for the pod template."),
];

/// Cells of [`TEMPLATE_COLUMNS`].
pub fn template_row(object: &Value, _now: Timestamp) -> Vec<Cell> {
    let [names, images] = super::containers(at(object, &["template", "spec"]));
    vec![
        name(object),
        names,
        images,
        json!(super::labels::format(at(object, &["template", "metadata", "labels"]))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_cells(pod: &Value) -> String {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let cells = row(pod, now);
        cells[1..5].iter().map(|cell| cell.as_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    fn pod(spec: Value, status: Value) -> Value {
        json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:58:00Z"}, "spec": spec, "status": status})
    }

    // Cases of TestPrintPod and TestPrintPodWithRestartableInitContainer.
    #[test]
    fn words_of_a_pods_status() {
        let two = json!({"containers": [{}, {}]});
        let one_init = json!({"initContainers": [{"name": "i"}], "containers": [{}]});
        let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}, "restartCount": 3});
        let ran = json!({"state": {"running": {}}, "ready": true, "restartCount": 3});
        let sidecar = json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}], "containers": [{}]});
        for (spec, status, want) in [
            (
                &two,
                json!({"phase": "podPhase", "containerStatuses": [ran, {"restartCount": 3}]}),
                "1/2 podPhase 6 2m",
            ),
            (
                &two,
                json!({"phase": "Pending", "containerStatuses": [waiting("ContainerWaitingReason"), ran]}),
                "1/2 ContainerWaitingReason 6 2m",
            ),
            (
                &two,
                json!({"phase": "Running", "containerStatuses": [
                {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 2, "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}}}, ran]}),
                "1/2 CrashLoopBackOff 5 (5m ago) 2m",
            ),
            (
                &two,
                json!({"phase": "Succeeded", "containerStatuses": [
                {"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}, {"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}),
                "0/2 Completed 0 2m",
            ),
            (
                &two,
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
                {"state": {"terminated": {"reason": "Completed"}}}, ran]}),
                "1/2 Running 3 2m",
            ),
            (
                &two,
                json!({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}, ran]}),
                "1/2 NotReady 3 2m",
            ),
            (
                &two,
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"signal": 11}}}]}),
                "0/2 Signal:11 0 2m",
            ),
            (
                &two,
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 2}}}]}),
                "0/2 ExitCode:2 0 2m",
            ),
            (&two, json!({"phase": "Failed", "reason": "Evicted"}), "0/2 Evicted 0 2m"),
            (
                &two,
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                "0/2 SchedulingGated 0 2m",
            ),
            (
                &one_init,
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}], "containerStatuses": [waiting("PodInitializing")]}),
                "0/1 Init:0/1 0 2m",
            ),
            (
                &one_init,
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}),
                "0/1 Init:ImagePullBackOff 0 2m",
            ),
            (
                &one_init,
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 3, "state": {"terminated": {"reason": "Error", "exitCode": 1}}}]}),
                "0/1 Init:Error 3 2m",
            ),
            (
                &one_init,
                json!({"phase": "Running", "initContainerStatuses": [{"name": "i", "restartCount": 3, "state": {"terminated": {"exitCode": 0}}}], "containerStatuses": [ran]}),
                "1/1 Running 3 2m",
            ),
            (
                &sidecar,
                json!({"phase": "Running", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "s", "started": true, "ready": true, "restartCount": 1}], "containerStatuses": [ran]}),
                "2/2 Running 4 2m",
            ),
            (
                &sidecar,
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "s", "started": false}]}),
                "0/2 Init:1/2 0 2m",
            ),
        ] {
            assert_eq!(first_cells(&pod(spec.clone(), status.clone())), want, "{status}");
        }
    }

    #[test]
    fn pods_that_go() {
        let mut going = pod(json!({"containers": [{}]}), json!({"phase": "Running"}));
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
        assert_eq!(first_cells(&going), "0/1 Terminating 0 2m");
        going["status"]["reason"] = json!("NodeLost");
        assert_eq!(first_cells(&going), "0/1 Unknown 0 2m");
        going["status"] = json!({"phase": "Succeeded"});
        assert_eq!(first_cells(&going), "0/1 Succeeded 0 2m");
        assert_eq!(row_conditions(&going).unwrap()[0]["reason"], "Succeeded");
    }

    #[test]
    fn wide_cells() {
        let pod = pod(
            json!({"nodeName": "node2", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]}),
            json!({"podIP": "10.244.1.2", "podIPs": [{"ip": "10.244.1.2"}], "conditions": [{"type": "b", "status": "True"}]}),
        );
        let cells = row(&pod, Timestamp::UNIX_EPOCH);
        assert_eq!(cells[5..], [json!("10.244.1.2"), json!("node2"), json!("<none>"), json!("1/2")]);
    }
}
