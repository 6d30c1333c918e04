//! Cases of the plan and the status of Deployments, most of them upstream's (pkg/controller/deployment/{rolling,recreate,sync,progress}_test.go).

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, ReplicaSet, ReplicaSetSpec,
    ReplicaSetStatus, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::plan::{State, Step, plan};
use super::replica_sets::{DESIRED, HASH_LABEL, MAXIMUM, REVISION, annotate_size, make_new, proportion};
use super::status::{look_again, status};
use crate::shared::conditions::get;
use crate::shared::meta::{Labels, Meta};
use crate::shared::pods::tests::at;

fn app() -> Labels {
    [("app".to_owned(), "web".to_owned())].into()
}

fn template(image: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(app()), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "c".into(),
                image: Some(image.into()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
    }
}

fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("d".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector { match_labels: Some(app()), match_expressions: None },
            template: template("new"),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(10),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn recreating(replicas: i32) -> Deployment {
    let mut deployment = deployment(replicas, 0, 0);
    deployment.spec.as_mut().unwrap().strategy =
        Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None });
    deployment
}

/// A ReplicaSet of an image with a size and available pods, annotated as the Deployment would have done.
fn set(of: &Deployment, image: &str, size: i32, available: i32, revision: i64) -> ReplicaSet {
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("web-{image}")),
            namespace: Some("default".into()),
            uid: Some(image.into()),
            creation_timestamp: Some(Time(at(revision))),
            annotations: Some([(REVISION.to_owned(), revision.to_string())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            template: Some(template(image)),
            ..ReplicaSetSpec::default()
        }),
        status: Some(ReplicaSetStatus {
            replicas: size,
            available_replicas: Some(available),
            ready_replicas: Some(available),
            ..ReplicaSetStatus::default()
        }),
    };
    annotate_size(of, &mut set);
    set
}

fn steps(deployment: &Deployment, sets: Vec<ReplicaSet>) -> Vec<Step> {
    let sets: Vec<_> = sets.into_iter().map(Arc::new).collect();
    plan(&State { deployment, sets: &sets, old_pods_run: false })
}

#[test]
fn the_first_replica_set_is_created_whole() {
    assert_eq!(steps(&deployment(3, 1, 1), vec![]), [Step::Create { replicas: 3, revision: 1 }]);
    let made = make_new(&deployment(3, 1, 0), 3, 1).unwrap();
    let hash = made.label(HASH_LABEL).unwrap();
    assert_eq!(made.name(), format!("web-{hash}"));
    assert_eq!((made.annotation(DESIRED), made.annotation(MAXIMUM)), (Some("3"), Some("4")));
    let selector = &made.spec.as_ref().unwrap().selector;
    assert_eq!(selector.match_labels.as_ref().unwrap()[HASH_LABEL], hash);
}

#[test]
fn a_collision_gives_another_name() {
    let mut deployment = deployment(1, 0, 1);
    let first = make_new(&deployment, 1, 1).unwrap();
    deployment.status = Some(DeploymentStatus { collision_count: Some(1), ..DeploymentStatus::default() });
    assert_ne!(first.name(), make_new(&deployment, 1, 1).unwrap().name());
}

/// `TestDeploymentController_reconcileNewReplicaSet` and `…OldReplicaSets`: replicas, surge, unavailable, (size, available) of the new and
/// the old one, expected sizes (new, old).
#[test]
fn rolling_update() {
    for (replicas, surge, unavailable, new, old, expected) in [
        // The new one grows as far as the surge lets it.
        (10, 0, 0, (0, 0), (10, 10), (None, Some(9))),
        (10, 2, 0, (0, 0), (10, 10), (Some(2), None)),
        (10, 5, 0, (0, 0), (10, 10), (Some(5), None)),
        (10, 0, 2, (0, 0), (10, 10), (None, Some(8))),
        (10, 2, 0, (2, 2), (10, 10), (None, Some(8))),
        // Old pods that are not available go first, and count nothing.
        (10, 0, 2, (2, 0), (8, 8), (None, None)),
        (10, 0, 2, (2, 0), (10, 8), (None, Some(8))),
        (10, 0, 4, (4, 0), (10, 6), (None, Some(6))),
        // A new one that is too large shrinks.
        (3, 1, 0, (5, 5), (1, 1), (Some(3), None)),
    ] {
        let deployment = deployment(replicas, surge, unavailable);
        let sets = vec![set(&deployment, "new", new.0, new.1, 2), set(&deployment, "old", old.0, old.1, 1)];
        let mut wanted = Vec::new();
        wanted.extend(expected.0.map(|size| Step::Scale(0, size)));
        wanted.extend(expected.1.map(|size| Step::Scale(1, size)));
        assert_eq!(steps(&deployment, sets), wanted, "{replicas} +{surge} -{unavailable} {new:?} {old:?}");
    }
}

#[test]
fn a_new_template_gets_the_next_revision_and_what_the_surge_leaves() {
    let deployment = deployment(4, 1, 0);
    let sets = vec![set(&deployment, "old", 4, 4, 7)];
    assert_eq!(steps(&deployment, sets), [Step::Create { replicas: 1, revision: 8 }]);
}

#[test]
fn going_back_to_an_old_template_makes_it_the_newest_revision() {
    let deployment = deployment(2, 1, 0);
    let sets = vec![set(&deployment, "new", 0, 0, 1), set(&deployment, "old", 2, 2, 2)];
    let steps = steps(&deployment, sets);
    let [Step::Refresh(0, refreshed)] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(refreshed.annotation(REVISION), Some("3"));
    assert_eq!(refreshed.annotation("deployment.kubernetes.io/revision-history"), Some("1"));
}

#[test]
fn annotations_of_the_deployment_follow_but_not_those_of_kubectl() {
    let mut deployment = deployment(1, 1, 0);
    deployment.metadata.annotations = Some(
        [
            ("team".to_owned(), "a".to_owned()),
            ("kubectl.kubernetes.io/last-applied-configuration".to_owned(), "{}".to_owned()),
        ]
        .into(),
    );
    let steps = steps(&deployment, vec![set(&deployment, "new", 1, 1, 1)]);
    let [Step::Refresh(0, refreshed)] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(refreshed.annotation("team"), Some("a"));
    assert_eq!(refreshed.annotation("kubectl.kubernetes.io/last-applied-configuration"), None);
}

#[test]
fn recreate_empties_first_and_waits_for_the_pods() {
    let deployment = recreating(3);
    let old = || set(&deployment, "old", 3, 3, 1);
    assert_eq!(steps(&deployment, vec![old()]), [Step::Scale(0, 0)]);
    let empty = [Arc::new(set(&deployment, "old", 0, 0, 1))];
    let mut state = State { deployment: &deployment, sets: &empty, old_pods_run: true };
    assert_eq!(plan(&state), []);
    state.old_pods_run = false;
    assert_eq!(plan(&state), [Step::Create { replicas: 3, revision: 2 }]);
}

/// `TestScale`: old and new size of the Deployment, sizes of the ReplicaSets (newest first) before and after. Surge 0 unless said.
#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    for (name, before, after, surge, sizes, expected) in [
        ("normal scaling event: 10 -> 12", 10, 12, 0, vec![10], vec![12]),
        ("normal scaling event: 10 -> 5", 10, 5, 0, vec![10], vec![5]),
        ("proportional scaling: 5 -> 10", 5, 10, 0, vec![2, 3], vec![4, 6]),
        ("proportional scaling: 5 -> 3", 5, 3, 0, vec![2, 3], vec![1, 2]),
        ("proportional scaling: 9 -> 4", 9, 4, 0, vec![8, 1], vec![4, 0]),
        ("proportional scaling: 7 -> 10", 7, 10, 0, vec![2, 3, 2], vec![3, 4, 3]),
        ("proportional scaling: 13 -> 8", 13, 8, 0, vec![3, 8, 2], vec![2, 5, 1]),
        ("leftover distribution: 3 -> 4", 3, 4, 0, vec![1, 1, 1], vec![2, 1, 1]),
        ("3 -> 10", 3, 10, 0, vec![1, 1, 1], vec![4, 3, 3]),
        ("5 -> 6 with surge", 5, 6, 2, vec![2, 3], vec![2, 6]),
    ] {
        let old = deployment(before, surge, 1);
        let new = deployment(after, surge, 1);
        let count = i64::try_from(sizes.len()).unwrap();
        let images = ["new", "old", "older"];
        let sets: Vec<_> = sizes
            .iter()
            .zip(images)
            .zip(0..)
            .map(|((size, image), index)| set(&old, image, *size, 0, count - index))
            .collect();
        let mut result = sizes.clone();
        for step in steps(&new, sets) {
            let Step::Scale(index, size) = step else { panic!("{name}: {step:?}") };
            result[index] = size;
        }
        assert_eq!(result, expected, "{name}");
    }
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut paused = deployment(3, 1, 0);
    paused.spec.as_mut().unwrap().paused = Some(true);
    assert_eq!(steps(&paused, vec![set(&paused, "old", 3, 3, 1)]), []);
    let larger = {
        let mut larger = paused.clone();
        larger.spec.as_mut().unwrap().replicas = Some(5);
        larger
    };
    assert_eq!(steps(&larger, vec![set(&paused, "old", 3, 3, 1)]), [Step::Scale(0, 5)]);
}

#[test]
fn history_beyond_the_limit_goes_oldest_first() {
    let mut deployment = deployment(1, 1, 0);
    deployment.spec.as_mut().unwrap().revision_history_limit = Some(1);
    deployment.status = Some(DeploymentStatus {
        replicas: Some(1),
        updated_replicas: Some(1),
        available_replicas: Some(1),
        observed_generation: Some(1),
        ..DeploymentStatus::default()
    });
    let mut sets = vec![set(&deployment, "new", 1, 1, 5)];
    sets.extend((1..=3).rev().map(|revision| set(&deployment, &format!("old{revision}"), 0, 0, revision)));
    assert_eq!(steps(&deployment, sets), [Step::Delete(3), Step::Delete(2)]);
}

#[test]
fn proportions_stay_within_what_is_allowed() {
    let deployment = deployment(10, 0, 0);
    let five = set(&self::deployment(5, 0, 0), "old", 3, 3, 1);
    assert_eq!(proportion(&five, &deployment, 5, 0), 3);
    assert_eq!(proportion(&five, &deployment, 5, 4), 1);
    assert_eq!(proportion(&five, &deployment, 0, 0), 0);
}

#[test]
fn progress_is_told_and_its_end() {
    let mut deployment = deployment(2, 1, 0);
    let condition = |deployment: &Deployment, type_: &str| {
        let status = deployment.status.as_ref().unwrap();
        get(&status.conditions, type_).map(|one| (one.status.clone(), one.reason.clone().unwrap()))
    };
    let told = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    let mut step = |size, available, now: i64| {
        let sets = [Arc::new(set(&deployment, "new", size, available, 1))];
        deployment.status = Some(status(&deployment, &sets, true, at(now)));
        (condition(&deployment, "Available"), condition(&deployment, "Progressing"))
    };
    assert_eq!(
        step(2, 0, 0),
        (told("False", "MinimumReplicasUnavailable"), told("True", "ReplicaSetUpdated"))
    );
    assert_eq!(step(2, 1, 100).1, told("True", "ReplicaSetUpdated"));
    assert_eq!(
        step(2, 1, 699).1,
        told("True", "ReplicaSetUpdated"),
        "the deadline is 600 s after the last progress"
    );
    assert_eq!(step(2, 1, 700).1, told("False", "ProgressDeadlineExceeded"));
    assert_eq!(
        step(2, 2, 800),
        (told("True", "MinimumReplicasAvailable"), told("True", "NewReplicaSetAvailable"))
    );
    assert_eq!(
        step(2, 1, 2000).1,
        told("True", "NewReplicaSetAvailable"),
        "a pod that fails later is no rollout"
    );
    let status = deployment.status.as_ref().unwrap();
    assert_eq!(look_again(&deployment, status, at(2000)), None);
}

#[test]
fn a_deployment_that_makes_no_progress_is_looked_at_after_its_deadline() {
    let deployment = deployment(1, 1, 0);
    let sets = [Arc::new(set(&deployment, "new", 1, 0, 1))];
    let first = status(&deployment, &sets, true, at(0));
    assert_eq!(look_again(&deployment, &first, at(10)).unwrap().as_secs(), 591);
}

#[test]
fn pausing_is_told_once_and_resuming_too() {
    let mut deployment = deployment(1, 1, 0);
    let sets = [Arc::new(set(&deployment, "new", 1, 1, 1))];
    deployment.status = Some(status(&deployment, &sets, true, at(0)));
    deployment.spec.as_mut().unwrap().paused = Some(true);
    deployment.status = Some(status(&deployment, &sets, false, at(10)));
    let reason = |deployment: &Deployment| {
        get(&deployment.status.as_ref().unwrap().conditions, "Progressing")
            .and_then(|one| one.reason.clone())
            .unwrap()
    };
    assert_eq!(reason(&deployment), "DeploymentPaused");
    assert_eq!(Some(&status(&deployment, &sets, false, at(20))), deployment.status.as_ref());
    deployment.spec.as_mut().unwrap().paused = Some(false);
    deployment.status = Some(status(&deployment, &sets, false, at(30)));
    assert_eq!(reason(&deployment), "DeploymentResumed");
}

#[test]
fn counts_and_revisions_as_large_as_can_be_do_not_wrap() {
    let most = i32::MAX;
    let of = deployment(most, most, 0);
    assert_eq!(steps(&of, vec![]), [Step::Create { replicas: most, revision: 1 }]);
    let mut old = set(&of, "old", most, most, 1);
    old.metadata.annotations.as_mut().unwrap().insert(REVISION.into(), i64::MAX.to_string());
    assert_eq!(steps(&of, vec![old.clone()]), [Step::Create { replicas: 0, revision: i64::MAX }]);
    let told = status(&of, &[Arc::new(old.clone()), Arc::new(set(&of, "new", most, 0, 1))], true, at(1));
    assert_eq!((told.replicas, told.available_replicas), (Some(most), Some(most)));
    let (old, new) = (set(&of, "old", most, most, 1), set(&of, "new", most, 0, 2));
    let all = steps(&deployment(1, 0, 1), vec![old, new]);
    assert!(!all.is_empty());
    assert!(
        all.iter().all(|step| matches!(step, Step::Scale(_, size) if (0..=most).contains(size))),
        "{all:?}"
    );
}
