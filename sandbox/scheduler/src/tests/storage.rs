use std::sync::Arc;

use drydock_kubeclient::ObjectKey;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{add, core, place};
use crate::core::{Change, Core, Decision};
use crate::testing::{PodBuilder, node, pod};
use crate::volumes::Step;

fn claim(core: &mut Core, name: &str, change: impl FnOnce(&mut Value)) {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "annotations": {}},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    });
    change(&mut value);
    let claim = Arc::new(serde_json::from_value(value).unwrap());
    core.apply(Change::Claim(ObjectKey::new("default", name), Some(claim)), Instant::now());
}

fn class(core: &mut Core, name: &str, provisioner: &str, mode: &str) {
    let value = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
    core.apply(
        Change::Class(name.into(), Some(Arc::new(serde_json::from_value(value).unwrap()))),
        Instant::now(),
    );
}

fn volume(core: &mut Core, name: &str, size: &str, on: &str) {
    let terms =
        json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}]}]);
    let value = json!({
        "metadata": {"name": name},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}},
        "status": {"phase": "Available"},
    });
    core.apply(
        Change::Volume(name.into(), Some(Arc::new(serde_json::from_value(value).unwrap()))),
        Instant::now(),
    );
}

fn using(name: &str, claim: &str) -> PodBuilder {
    pod(name).with("/spec/volumes", json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]))
}

fn two() -> Core {
    core([node("n1").build(), node("n2").build()])
}

#[test]
fn a_claim_that_waits_gets_the_smallest_volume_that_the_node_has() {
    let mut core = two();
    class(&mut core, "local", "kubernetes.io/no-provisioner", "WaitForFirstConsumer");
    claim(&mut core, "data", |_| ());
    claim(&mut core, "more", |_| ());
    volume(&mut core, "small", "500Mi", "n1");
    volume(&mut core, "large", "10Gi", "n2");
    volume(&mut core, "right", "1Gi", "n2");
    add(&mut core, using("p", "data"));
    let Some(Decision::Bind(_, placement)) = core.decide(Instant::now()) else { panic!("it fits n2") };
    assert_eq!(placement.node, "n2");
    assert!(
        matches!(&placement.steps[..], [Step::Bind { volume, .. }] if volume.metadata.name.as_deref() == Some("right"))
    );
    add(&mut core, using("q", "more"));
    let Some(Decision::Bind(_, placement)) = core.decide(Instant::now()) else { panic!("there is another") };
    assert!(
        matches!(&placement.steps[..], [Step::Bind { volume, .. }] if volume.metadata.name.as_deref() == Some("large"))
    );
    claim(&mut core, "third", |_| ());
    let message = place(&mut core, using("r", "third")).unwrap_err();
    assert!(
        message.starts_with(
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. "
        ),
        "{message}"
    );
}

#[test]
fn a_provisioner_is_told_the_node() {
    let mut core = two();
    class(&mut core, "local", "example.com/provisioner", "WaitForFirstConsumer");
    claim(&mut core, "data", |_| ());
    add(&mut core, using("p", "data"));
    let Some(Decision::Bind(_, placement)) = core.decide(Instant::now()) else {
        panic!("it can be made anywhere")
    };
    assert!(matches!(&placement.steps[..], [Step::Provision { .. }]));
    claim(&mut core, "kept", |claim| {
        claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = json!("n1")
    });
    assert_eq!(place(&mut core, using("q", "kept")), Ok("n1".into()), "once told, the node stays");
}

#[test]
fn claims_that_cannot_be_used_say_why() {
    let mut core = two();
    class(&mut core, "local", "example.com/provisioner", "Immediate");
    claim(&mut core, "unbound", |_| ());
    claim(&mut core, "lost", |claim| {
        claim["status"]["phase"] = json!("Lost");
        claim["spec"]["volumeName"] = json!("gone");
    });
    claim(&mut core, "bound", |claim| {
        claim["spec"]["volumeName"] = json!("here");
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
    });
    volume(&mut core, "here", "1Gi", "n2");
    let cases = [
        ("unbound", "pod has unbound immediate PersistentVolumeClaims"),
        ("lost", "persistentvolumeclaim \"lost\" bound to non-existent persistentvolume \"gone\""),
        ("none", "persistentvolumeclaim \"none\" not found"),
    ];
    for (name, reason) in cases {
        let message = place(&mut core, using(name, name)).unwrap_err();
        assert!(message.starts_with(&format!("0/2 nodes are available: {reason}. not found")), "{message}");
    }
    assert_eq!(place(&mut core, using("p", "bound")), Ok("n2".into()));
    core.apply(Change::NodeGone("n2".into()), Instant::now());
    let message = place(&mut core, using("q", "bound")).unwrap_err();
    assert!(
        message.starts_with(
            "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity. "
        ),
        "{message}"
    );
    // The claim that was missing comes.
    claim(&mut core, "none", |claim| claim["spec"]["volumeName"] = json!("here"));
    assert!(core.decide(Instant::now() + std::time::Duration::from_secs(2)).is_some());
}
