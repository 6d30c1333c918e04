use std::collections::BTreeMap;

use drydock_kubeclient::ObjectKey;
use serde_json::json;

use super::{add, core, decide, place};
use crate::core::Change;
use crate::testing::{PodBuilder, node, pod};

fn three() -> [std::sync::Arc<k8s_openapi::api::core::v1::Node>; 3] {
    ["n1", "n2", "n3"].map(|name| node(name).label("zone", name).build())
}

#[test]
fn the_emptier_node_wins() {
    let mut core = core([node("n1").build(), node("n2").build()]);
    add(&mut core, pod("big").cpu("2").memory("4Gi").on("n1"));
    assert_eq!(place(&mut core, pod("p").cpu("1").memory("1Gi")), Ok("n2".into()));
}

#[test]
fn decisions_count_before_they_are_confirmed() {
    let mut core = core([node("n1").cpu("2").build(), node("n2").cpu("2").build()]);
    let mut nodes: Vec<String> =
        (0..2).map(|number| place(&mut core, pod(&format!("p{number}")).cpu("2")).unwrap()).collect();
    nodes.sort();
    assert_eq!(nodes, ["n1", "n2"]);
    assert!(
        place(&mut core, pod("third").cpu("1"))
            .unwrap_err()
            .starts_with("0/2 nodes are available: 2 Insufficient cpu.")
    );
}

#[test]
fn selectors_and_affinity_choose_nodes() {
    let mut core = core(three());
    let selected = pod("a").with("/spec/nodeSelector", json!({"zone": "n2"}));
    assert_eq!(place(&mut core, selected), Ok("n2".into()));
    let expression =
        json!([{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["n1", "n2"]}]}]);
    let required = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": expression}}});
    assert_eq!(place(&mut core, pod("b").with("/spec/affinity", required)), Ok("n3".into()));
    let preferred = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["n3"]}]}}]}});
    assert_eq!(place(&mut core, pod("c").with("/spec/affinity", preferred)), Ok("n3".into()));
    let by_name = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]);
    let daemon = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": by_name}}});
    assert_eq!(place(&mut core, pod("d").with("/spec/affinity", daemon)), Ok("n1".into()));
}

#[test]
fn soft_taints_and_images_tip_the_scales() {
    let mut tainted = core([node("n1").taint("slow", "", "PreferNoSchedule").build(), node("n2").build()]);
    assert_eq!(place(&mut tainted, pod("p")), Ok("n2".into()));
    let mut imaged = core([node("n1").build(), node("n2").image("nginx:latest", 900).build()]);
    let nginx = pod("p").with("/spec/containers/0/image", json!("nginx"));
    assert_eq!(place(&mut imaged, nginx), Ok("n2".into()));
}

fn near(name: &str, kind: &str, required: bool, app: &str) -> PodBuilder {
    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}});
    let affinity = if required {
        json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    } else {
        json!({kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}})
    };
    pod(name).with("/spec/affinity", affinity)
}

#[test]
fn pods_are_near_or_far_as_they_want() {
    let mut core = core(three());
    add(&mut core, pod("db").label("app", "db").on("n2"));
    assert_eq!(place(&mut core, near("a", "podAffinity", true, "db")), Ok("n2".into()));
    assert_eq!(place(&mut core, near("b", "podAffinity", false, "db")), Ok("n2".into()));
    let far = place(&mut core, near("c", "podAntiAffinity", true, "db").label("app", "lonely")).unwrap();
    assert_ne!(far, "n2");
    // An existing pod's wish counts for those that come later: `c` wants no `db` near.
    for number in 0..2 {
        let later = place(&mut core, pod(&format!("db{number}")).label("app", "db")).unwrap();
        assert_ne!(later, far);
    }
    assert_ne!(place(&mut core, near("d", "podAntiAffinity", false, "db")).unwrap(), "n2");
    let first = place(&mut core, near("e", "podAffinity", true, "new").label("app", "new")).unwrap();
    assert_eq!(
        place(&mut core, near("f", "podAffinity", true, "new").label("app", "new")),
        Ok(first),
        "the first of a group begins it"
    );
}

#[test]
fn hard_spreading_keeps_numbers_even() {
    let mut core = core(three());
    let constraint = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let mut count = BTreeMap::new();
    for number in 0..9 {
        let web = pod(&format!("w{number}"))
            .label("app", "web")
            .with("/spec/topologySpreadConstraints", constraint.clone());
        *count.entry(place(&mut core, web).unwrap()).or_insert(0) += 1;
    }
    assert_eq!(count.into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn pods_of_a_service_are_spread_by_default() {
    let mut core = core(three());
    let selector = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    core.apply(
        Change::Service(ObjectKey::new("default", "web"), Some(selector)),
        tokio::time::Instant::now(),
    );
    let mut nodes: Vec<String> = (0..3)
        .map(|number| place(&mut core, pod(&format!("w{number}")).label("app", "web")).unwrap())
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["n1", "n2", "n3"]);
}

#[test]
fn a_gated_pod_is_not_touched_until_its_gates_are_gone() {
    let mut core = core(three());
    add(&mut core, pod("p").gate("example.com/wait"));
    assert!(core.decide(tokio::time::Instant::now()).is_none());
    assert!(place(&mut core, pod("p")).is_ok());
    add(&mut core, pod("other").with("/spec/schedulerName", json!("mine")));
    assert!(core.decide(tokio::time::Instant::now()).is_none(), "pods of other schedulers are theirs");
}

#[test]
fn a_failed_binding_frees_what_was_taken() {
    let mut core = core([node("n1").cpu("2").build()]);
    let now = tokio::time::Instant::now();
    assert_eq!(place(&mut core, pod("p").cpu("2")), Ok("n1".into()));
    core.apply(Change::Unbound { uid: "uid-p".into(), steps: Vec::new() }, now);
    assert_eq!(place(&mut core, pod("q").cpu("2")), Ok("n1".into()));
    core.apply(Change::PodGone(pod("q").raw()), now);
    assert!(core.decide(now).is_none(), "it is tried again only after a while");
    assert!(core.decide(now + std::time::Duration::from_secs(1)).is_some());
}

#[test]
fn pods_on_a_node_that_is_full_of_pods_go_elsewhere() {
    let mut core = core([node("n1").build(), node("n2").build()]);
    for number in 0..110 {
        add(&mut core, pod(&format!("p{number}")).on("n1"));
    }
    assert_eq!(place(&mut core, pod("last")), Ok("n2".into()));
    assert!(core.decide(tokio::time::Instant::now()).is_none());
    add(&mut core, pod("next").with("/spec/nodeSelector", json!({"kubernetes.io/hostname": "n1"})));
    assert!(decide(&mut core).unwrap_err().starts_with(
        "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match Pod's node affinity/selector."
    ));
}
