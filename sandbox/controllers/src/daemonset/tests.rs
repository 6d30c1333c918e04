//! Cases of DaemonSets, after upstream's daemon_controller_test.go and update_test.go.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{Node, NodeSpec, Pod, PodSpec, PodTemplateSpec, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::nodes::{Fit, fit, new_pod, target};
use super::plan::{Plan, State, manage, roll, status};
use crate::shared::meta::Meta;
use crate::shared::pods::tests::{at, pod};

fn set(surge: i32, unavailable: i32) -> DaemonSet {
    DaemonSet {
        metadata: ObjectMeta {
            name: Some("agent".into()),
            namespace: Some("default".into()),
            ..ObjectMeta::default()
        },
        spec: Some(DaemonSetSpec {
            template: PodTemplateSpec { metadata: None, spec: Some(PodSpec::default()) },
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            ..DaemonSetSpec::default()
        }),
        status: None,
    }
}

fn node(name: &str, taints: &[(&str, &str)]) -> Node {
    let taint = |(key, effect): &(&str, &str)| Taint {
        key: (*key).into(),
        effect: (*effect).into(),
        ..Taint::default()
    };
    Node {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        spec: Some(NodeSpec { taints: Some(taints.iter().map(taint).collect()), ..NodeSpec::default() }),
        status: None,
    }
}

fn on(node: &str, hash: &str, ready: bool) -> Pod {
    let mut pod = pod(&format!("{node}-{hash}"), node, "Running", ready.then_some(0));
    pod.metadata.labels = Some([("controller-revision-hash".to_owned(), hash.to_owned())].into());
    pod
}

fn shown(plan: &Plan) -> (Vec<String>, Vec<String>) {
    (plan.create.clone(), plan.delete.iter().map(|pod| pod.name().to_owned()).collect())
}

/// What `what` plans for three nodes with these pods, template `b` being the newest.
fn planned(set: &DaemonSet, pods: Vec<Pod>, what: fn(&State<'_>) -> Plan) -> (Vec<String>, Vec<String>) {
    let nodes: Vec<_> = ["n1", "n2", "n3"].map(|name| Arc::new(node(name, &[]))).into();
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    shown(&what(&State { set, hash: "b", nodes: &nodes, pods: &pods, now: at(100) }))
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn taints_and_names_decide() {
    let fits = |should_run, should_continue| Fit { should_run, should_continue };
    for (taints, expected) in [
        (vec![], fits(true, true)),
        (vec![("node-role.kubernetes.io/control-plane", "NoSchedule")], fits(false, true)),
        (vec![("maintenance", "NoExecute")], fits(false, false)),
        (vec![("soft", "PreferNoSchedule")], fits(true, true)),
        // A node that is not well keeps its daemons, and gets them.
        (
            vec![
                ("node.kubernetes.io/not-ready", "NoExecute"),
                ("node.kubernetes.io/unschedulable", "NoSchedule"),
            ],
            fits(true, true),
        ),
        (vec![("node.kubernetes.io/network-unavailable", "NoSchedule")], fits(false, true)),
    ] {
        assert_eq!(fit(&set(0, 1), &node("n1", &taints)), expected, "{taints:?}");
    }
    let mut tolerant = set(0, 1);
    let spec = tolerant.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.tolerations = Some(vec![Toleration { operator: Some("Exists".into()), ..Toleration::default() }]);
    assert!(fit(&tolerant, &node("n1", &[("maintenance", "NoExecute")])).should_run);
    let spec = tolerant.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.node_selector = Some([("disk".to_owned(), "ssd".to_owned())].into());
    assert_eq!(fit(&tolerant, &node("n1", &[])), fits(false, false));
}

#[test]
fn a_new_pod_is_pinned_to_its_node() {
    let pod = new_pod(&set(0, 1), "b", "n2").unwrap();
    assert_eq!(target(&pod), Some("n2"));
    assert_eq!(pod.label("controller-revision-hash"), Some("b"));
    assert_eq!(pod.spec.unwrap().tolerations.unwrap().len(), 6);
}

#[test]
fn each_node_gets_one() {
    let set = set(0, 1);
    assert_eq!(planned(&set, vec![], manage), (strings(&["n1", "n2", "n3"]), vec![]));
    assert_eq!(planned(&set, vec![on("n1", "b", true), on("n1", "a", true)], manage).1.len(), 1);
    let mut failed = on("n2", "b", false);
    failed.status.as_mut().unwrap().phase = Some("Failed".into());
    let nodes = [Arc::new(node("n2", &[]))];
    let pods = [Arc::new(failed)];
    let plan = manage(&State { set: &set, hash: "b", nodes: &nodes, pods: &pods, now: at(0) });
    assert_eq!((plan.ended.len(), plan.create.len()), (1, 0), "the new one comes when the old one is gone");
    let mut going = on("n2", "b", true);
    going.metadata.deletion_timestamp = Some(Time(at(0)));
    let pods = [Arc::new(going)];
    assert!(manage(&State { set: &set, hash: "b", nodes: &nodes, pods: &pods, now: at(0) }).is_empty());
}

#[test]
fn rolling_without_surge() {
    let all = |hash, ready| vec![on("n1", hash, ready), on("n2", hash, ready), on("n3", hash, ready)];
    assert_eq!(planned(&set(0, 1), all("a", true), roll).1, strings(&["n1-a"]));
    assert_eq!(planned(&set(0, 2), all("a", true), roll).1.len(), 2);
    assert_eq!(planned(&set(0, 1), all("a", false), roll).1.len(), 3, "those that do not work may all go");
    assert_eq!(planned(&set(0, 1), all("b", true), roll).1.len(), 0);
    let starting = vec![on("n1", "b", false), on("n2", "a", true), on("n3", "a", true)];
    assert_eq!(planned(&set(0, 1), starting, roll).1.len(), 0);
    assert_eq!(planned(&set(0, 1), vec![on("n2", "a", true), on("n3", "a", true)], roll).1.len(), 0);
}

#[test]
fn rolling_with_surge() {
    let set = set(1, 0);
    let old = || vec![on("n1", "a", true), on("n2", "a", true), on("n3", "a", true)];
    assert_eq!(planned(&set, old(), roll), (strings(&["n1"]), vec![]));
    let with = |ready| {
        let mut pods = old();
        pods.push(on("n1", "b", ready));
        pods
    };
    assert_eq!(planned(&set, with(false), roll), (vec![], vec![]));
    assert_eq!(planned(&set, with(true), manage), (vec![], strings(&["n1-a"])), "the new one took over");
}

#[test]
fn status_counts_nodes() {
    let set = set(0, 1);
    let nodes = [node("n1", &[]), node("n2", &[]), node("n3", &[("x", "NoSchedule")])].map(Arc::new);
    let pods = [on("n1", "b", true), on("n2", "a", false), on("n3", "b", true)].map(Arc::new);
    let status = status(&State { set: &set, hash: "b", nodes: &nodes, pods: &pods, now: at(100) });
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_ready,
            status.number_misscheduled
        ),
        (2, 2, 1, 1)
    );
    assert_eq!(
        (status.updated_number_scheduled, status.number_available, status.number_unavailable),
        (Some(1), Some(1), Some(1))
    );
}
