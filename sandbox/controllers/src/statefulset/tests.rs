//! Cases of StatefulSets, after upstream's stateful_set_control_test.go.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetOrdinals,
    StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetStatus,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::claims::owners;
use super::identity::{claims, new_pod, ordinal};
use super::plan::{Revisions, Step, plan, status};
use crate::shared::meta::Meta;
use crate::shared::pods::tests::{at, pod};

fn set(replicas: i32) -> StatefulSet {
    StatefulSet {
        metadata: ObjectMeta {
            name: Some("db".into()),
            namespace: Some("default".into()),
            uid: Some("s".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            service_name: Some("db-headless".into()),
            selector: LabelSelector {
                match_labels: Some([("app".to_owned(), "db".to_owned())].into()),
                match_expressions: None,
            },
            volume_claim_templates: Some(vec![PersistentVolumeClaim {
                metadata: ObjectMeta { name: Some("data".into()), ..ObjectMeta::default() },
                ..PersistentVolumeClaim::default()
            }]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn revisions(current: &str, update: &str) -> Revisions {
    Revisions { current: current.into(), update: update.into() }
}

fn member(ordinal: i32, phase: &str, ready: bool, revision: &str) -> Pod {
    let mut pod = pod(&format!("db-{ordinal}"), "n", phase, ready.then_some(0));
    pod.metadata.labels = Some([("controller-revision-hash".to_owned(), revision.to_owned())].into());
    pod
}

fn going(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(at(0)));
    pod
}

/// Steps in short: `+2` creates from the update, `~2` from the current template, `-2` deletes, `!2` replaces; claims are left out.
fn steps(set: &StatefulSet, revisions: &Revisions, pods: Vec<Pod>) -> Vec<String> {
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    let number = |pod: &Pod| ordinal(set, pod).unwrap();
    plan(set, revisions, &pods, at(100))
        .iter()
        .filter_map(|step| match step {
            Step::Create { ordinal, updated } => {
                Some(format!("{}{ordinal}", if *updated { '+' } else { '~' }))
            }
            Step::Delete(pod) => Some(format!("-{}", number(pod))),
            Step::Replace(pod) => Some(format!("!{}", number(pod))),
            Step::Claims(_) => None,
        })
        .collect()
}

#[test]
fn one_after_the_other() {
    let set = set(3);
    let same = revisions("a", "a");
    let ready = |ordinal| member(ordinal, "Running", true, "a");
    for (pods, expected) in [
        (vec![], vec!["+0"]),
        (vec![member(0, "Pending", false, "a")], vec![]),
        (vec![member(0, "Running", false, "a")], vec![]),
        (vec![ready(0)], vec!["+1"]),
        (vec![ready(0), ready(2)], vec!["+1"]),
        (vec![ready(0), going(ready(1)), ready(2)], vec![]),
        (vec![ready(0), member(1, "Failed", false, "a"), ready(2)], vec!["!1"]),
        (vec![ready(0), ready(1), ready(2)], vec![]),
        (vec![ready(0), ready(1), ready(2), ready(3), ready(4)], vec!["-4"]),
        (vec![ready(0), ready(1), ready(2), ready(3), going(ready(4))], vec![]),
        (vec![ready(0), ready(1), ready(2), member(3, "Running", false, "a"), ready(4)], vec!["-4"]),
        (vec![ready(0), member(1, "Running", false, "a"), ready(2), ready(3)], vec![]),
    ] {
        let names: Vec<_> = pods.iter().map(|pod| pod.name().to_owned()).collect();
        assert_eq!(steps(&set, &same, pods), expected, "{names:?}");
    }
}

#[test]
fn all_at_once() {
    let mut set = set(3);
    set.spec.as_mut().unwrap().pod_management_policy = Some("Parallel".into());
    let same = revisions("a", "a");
    assert_eq!(steps(&set, &same, vec![]), ["+0", "+1", "+2"]);
    let many = (0..5).map(|ordinal| member(ordinal, "Pending", false, "a")).collect();
    assert_eq!(steps(&set, &same, many), ["-4", "-3"]);
}

#[test]
fn updates_go_from_the_highest_down_to_the_partition() {
    let mut set = set(3);
    let roll = revisions("a", "b");
    let of = |revisions: [&str; 3]| {
        revisions
            .iter()
            .zip(0..)
            .map(|(revision, ordinal)| member(ordinal, "Running", true, revision))
            .collect::<Vec<_>>()
    };
    assert_eq!(steps(&set, &roll, of(["a", "a", "a"])), ["-2"]);
    assert_eq!(steps(&set, &roll, of(["a", "a", "b"])), ["-1"]);
    let mut starting = of(["a", "a", "b"]);
    starting[2] = member(2, "Running", false, "b");
    assert_eq!(steps(&set, &roll, starting), Vec::<String>::new());
    let strategy = |type_: &str, partition| StatefulSetUpdateStrategy {
        type_: Some(type_.into()),
        rolling_update: Some(RollingUpdateStatefulSetStrategy { partition, max_unavailable: None }),
    };
    set.spec.as_mut().unwrap().update_strategy = Some(strategy("RollingUpdate", Some(2)));
    assert_eq!(steps(&set, &roll, of(["a", "a", "b"])), Vec::<String>::new());
    assert_eq!(
        steps(&set, &roll, of(["a", "a", "b"]).split_off(1)),
        ["~0"],
        "below the partition the old template counts"
    );
    set.spec.as_mut().unwrap().update_strategy = Some(strategy("OnDelete", None));
    assert_eq!(steps(&set, &roll, of(["a", "a", "a"])), Vec::<String>::new());
}

#[test]
fn as_many_are_updated_together_as_may_be_away() {
    let mut set = set(5);
    let roll = revisions("a", "b");
    let mut limit = |limit: IntOrString, partition| {
        set.spec.as_mut().unwrap().update_strategy = Some(StatefulSetUpdateStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(RollingUpdateStatefulSetStrategy {
                partition,
                max_unavailable: Some(limit),
            }),
        });
        set.clone()
    };
    let old = || (0..5).map(|ordinal| member(ordinal, "Running", true, "a")).collect::<Vec<_>>();
    assert_eq!(steps(&limit(IntOrString::Int(2), None), &roll, old()), ["-4", "-3"]);
    assert_eq!(steps(&limit(IntOrString::String("70%".into()), None), &roll, old()), ["-4", "-3", "-2"]);
    assert_eq!(steps(&limit(IntOrString::String("10%".into()), None), &roll, old()), ["-4"]);
    assert_eq!(steps(&limit(IntOrString::Int(3), Some(3)), &roll, old()), ["-4", "-3"]);
    // One is back, the other is not yet: there is room for one more.
    let mut parallel = limit(IntOrString::Int(2), None);
    parallel.spec.as_mut().unwrap().pod_management_policy = Some("Parallel".into());
    let mut half = old();
    half[4] = member(4, "Running", true, "b");
    half[3] = member(3, "Pending", false, "b");
    assert_eq!(steps(&parallel, &roll, half.clone()), ["-2"]);
    half[2] = going(half[2].clone());
    assert_eq!(steps(&parallel, &roll, half), [] as [&str; 0]);
}

#[test]
fn status_follows_the_update() {
    let mut set = set(2);
    let of = |set: &StatefulSet, revisions: [&str; 2]| {
        let pods: Vec<_> = revisions
            .iter()
            .zip(0..)
            .map(|(revision, ordinal)| Arc::new(member(ordinal, "Running", true, revision)))
            .collect();
        status(set, &self::revisions("a", "b"), &pods, at(100))
    };
    let half = of(&set, ["a", "b"]);
    assert_eq!((half.replicas, half.current_replicas, half.updated_replicas), (2, Some(1), Some(1)));
    assert_eq!(half.current_revision.as_deref(), Some("a"));
    set.status = Some(StatefulSetStatus { collision_count: Some(3), ..StatefulSetStatus::default() });
    let whole = of(&set, ["b", "b"]);
    assert_eq!((whole.current_replicas, whole.current_revision.as_deref()), (Some(2), Some("b")));
    assert_eq!(whole.collision_count, Some(3));
}

#[test]
fn identities() {
    let set = set(3);
    let pod = new_pod(&set, &PodTemplateSpec::default(), "db-123", 2);
    assert_eq!(pod.name(), "db-2");
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-2"), Some("db-headless")));
    let volume = &spec.volumes.as_ref().unwrap()[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-2");
    assert_eq!(claims(&set, 2)[0].1.label("app"), Some("db"));
    for (name, expected) in [
        ("db-0", Some(0)),
        ("db-12", Some(12)),
        ("db-x", None),
        ("other-1", None),
        ("db-1-2", None),
        ("db-", None),
    ] {
        assert_eq!(ordinal(&set, &self::pod(name, "", "", None)), expected, "{name}");
    }
}

#[test]
fn claims_go_with_whom_the_policy_says() {
    let mut set = set(1);
    let pod = member(0, "Running", true, "a");
    let kinds = |set: &StatefulSet, condemned| {
        owners(set, Some(&pod), condemned, &[]).into_iter().map(|owner| owner.kind).collect::<Vec<_>>()
    };
    assert!(kinds(&set, true).is_empty());
    let policy = |deleted: &str, scaled: &str| StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some(deleted.into()),
        when_scaled: Some(scaled.into()),
    };
    set.spec.as_mut().unwrap().persistent_volume_claim_retention_policy = Some(policy("Delete", "Retain"));
    assert_eq!(
        (kinds(&set, false), kinds(&set, true)),
        (vec!["StatefulSet".to_owned()], vec!["StatefulSet".to_owned()])
    );
    set.spec.as_mut().unwrap().persistent_volume_claim_retention_policy = Some(policy("Retain", "Delete"));
    assert_eq!((kinds(&set, false), kinds(&set, true)), (vec![], vec!["Pod".to_owned()]));
}

#[test]
fn a_partition_above_all_ordinals_holds_all_of_them() {
    let mut set = set(1);
    let spec = set.spec.as_mut().unwrap();
    spec.ordinals = Some(StatefulSetOrdinals { start: Some(5) });
    spec.update_strategy = Some(StatefulSetUpdateStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateStatefulSetStrategy {
            partition: Some(i32::MAX),
            ..RollingUpdateStatefulSetStrategy::default()
        }),
    });
    assert_eq!(steps(&set, &revisions("a", "b"), vec![member(5, "Running", true, "a")]), [] as [&str; 0]);
}
