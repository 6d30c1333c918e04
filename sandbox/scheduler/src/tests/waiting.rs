use std::sync::Arc;

use drydock_kubeclient::ObjectKey;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::json;
use tokio::time::Instant;

use super::{add, core, decide, names, place};
use crate::core::{Change, Core, Decision};
use crate::preemption::Preemption;
use crate::testing::{PodBuilder, node, pod};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

#[test]
fn messages_say_what_is_wrong_with_how_many_nodes() {
    let mut cluster = core([
        node("n1").taint(CONTROL_PLANE, "", "NoSchedule").build(),
        node("n2").build(),
        node("n3").build(),
    ]);
    let cases = [
        (
            pod("huge").cpu("100"),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        ),
        (
            pod("nowhere").with("/spec/nodeSelector", json!({"disk": "ssd"})),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match \
             Pod's node affinity/selector. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        ),
        (
            pod("greedy").with(
                "/spec/containers/0/resources/requests",
                json!({"cpu": "100", "memory": "1Ti", "nvidia.com/gpu": "1"}),
            ),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu, \
             2 Insufficient memory, 2 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for \
             scheduling.",
        ),
        (
            pod("meek").cpu("100").with("/spec/preemptionPolicy", json!("Never")),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.",
        ),
        (
            pod("claims").with(
                "/spec/volumes",
                json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]),
            ),
            "0/3 nodes are available: persistentvolumeclaim \"data\" not found. not found",
        ),
    ];
    for (pod, expected) in cases {
        assert_eq!(place(&mut cluster, pod), Err(expected.into()));
    }
    add(&mut cluster, pod("a").cpu("3").on("n2"));
    add(&mut cluster, pod("b").cpu("3").on("n3"));
    let expected = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
                    no new claims to deallocate, preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for \
                    incoming pod.";
    assert_eq!(place(&mut cluster, pod("late").cpu("2")), Err(expected.into()));
    let mut none = core([]);
    assert_eq!(place(&mut none, pod("p")), Err("no nodes available to schedule pods".into()));
    let mut cordoned = core([node("n1").cordoned().build()]);
    let message = place(&mut cordoned, pod("p")).unwrap_err();
    assert!(message.starts_with("0/1 nodes are available: 1 node(s) were unschedulable. "), "{message}");
}

#[test]
fn a_pod_that_waits_goes_when_its_reason_does() {
    let mut core = core([node("n1").taint("k", "v", "NoSchedule").build()]);
    assert!(place(&mut core, pod("p")).is_err());
    core.apply(
        Change::Node(node("n1").label("a", "b").taint("k", "v", "NoSchedule").build()),
        Instant::now(),
    );
    assert!(core.decide(Instant::now()).is_none(), "another label does not help");
    core.apply(Change::Node(node("n1").build()), Instant::now());
    assert_eq!(decide(&mut core), Ok("n1".into()));
}

/// A low pod on each node: `n1` has two small ones, `n2` a large one.
fn crowded() -> Core {
    let mut core = core([node("n1").build(), node("n2").build()]);
    for (name, cpu, priority, on) in
        [("small1", "2", 1, "n1"), ("small2", "2", 2, "n1"), ("large", "4", 5, "n2")]
    {
        add(&mut core, pod(name).cpu(cpu).priority(priority).label("app", name).on(on));
    }
    core
}

fn preempt(core: &mut Core, pod: PodBuilder) -> Preemption {
    add(core, pod);
    match core.decide(Instant::now()) {
        Some(Decision::Wait(_, why)) => why.preemption.expect("room can be made"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_least_important_victims_go_and_no_more_than_needed() {
    let mut core = crowded();
    let room = preempt(&mut core, pod("urgent").cpu("2").priority(10));
    assert_eq!((room.node.as_str(), names(&room.victims)), ("n1", vec!["small1"]));
    // Room that was made for one is not given to a less important one.
    core.apply(Change::PodGone(pod("small1").raw()), Instant::now());
    add(&mut core, pod("meanwhile").cpu("2").priority(0));
    let later = Instant::now() + std::time::Duration::from_secs(2);
    let decided: Vec<(String, bool)> = std::iter::from_fn(|| core.decide(later))
        .map(|decision| match decision {
            Decision::Bind(pod, placement) => (pod.key.name.clone(), placement.node == "n1"),
            Decision::Wait(pod, _) => (pod.key.name.clone(), false),
        })
        .collect();
    assert_eq!(decided, [("urgent".to_owned(), true), ("meanwhile".to_owned(), false)]);
}

#[test]
fn budgets_are_kept_if_there_is_another_way() {
    let mut core = crowded();
    let budget = |name: &str, app: &str| {
        let budget: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
        }))
        .unwrap();
        Change::Budget(ObjectKey::new("default", name), Some(Arc::new(budget)))
    };
    core.apply(budget("one", "small1"), Instant::now());
    let room = preempt(&mut core, pod("urgent").cpu("2").priority(10));
    assert_eq!(
        (room.node.as_str(), names(&room.victims)),
        ("n1", vec!["small2"]),
        "the other one on the node is free to go"
    );
    core.apply(budget("two", "small2"), Instant::now());
    let room = preempt(&mut core, pod("second").cpu("4").priority(10));
    assert_eq!((room.node.as_str(), names(&room.victims)), ("n2", vec!["large"]));
}

#[test]
fn whoever_has_made_room_waits_for_it() {
    let mut core = crowded();
    let room = preempt(&mut core, pod("urgent").cpu("4").priority(10));
    assert_eq!(names(&room.victims), ["small2", "small1"]);
    let status = json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]});
    for (name, priority) in [("small1", 1), ("small2", 2)] {
        let going = pod(name).cpu("2").priority(priority).on("n1").with("/status", status.clone());
        add(&mut core, going.with("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")));
    }
    add(&mut core, pod("urgent").cpu("4").priority(10).nominated("n1").label("changed", "to be tried again"));
    let message = match core.decide(Instant::now() + std::time::Duration::from_secs(2)) {
        Some(Decision::Wait(_, why)) => why.message,
        other => panic!("{other:?}"),
    };
    assert!(
        message.ends_with(". no new claims to deallocate, preemption: not eligible due to a terminating pod on the nominated node."),
        "{message}"
    );
}

#[test]
fn a_pod_waits_for_its_claims_of_devices_and_is_told_what_is_missing() {
    let mut core = core([node("n1").build()]);
    let now = Instant::now();
    let claims = json!([{"name": "gpu", "resourceClaimName": "gpu"}]);
    let claiming = || pod("p").with("/spec/resourceClaims", claims.clone());
    add(&mut core, claiming());
    assert!(core.decide(now).is_none(), "there is no claim");
    let claim = json!({"metadata": {"name": "gpu", "namespace": "default"},
        "spec": {"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "gpu.example.com"}}]}}});
    let claim = Arc::new(serde_json::from_value(claim).unwrap());
    core.apply(Change::DeviceClaim(ObjectKey::new("default", "gpu"), Some(claim)), now);
    let message = decide(&mut core).unwrap_err();
    assert_eq!(
        message,
        "0/1 nodes are available: request one: device class gpu.example.com does not exist. no new claims to deallocate, \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    core.apply(Change::DeviceClass("gpu.example.com".into(), true), now);
    let message = match core.decide(now + std::time::Duration::from_secs(2)) {
        Some(Decision::Wait(_, why)) => why.message,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        message,
        "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling."
    );
}
