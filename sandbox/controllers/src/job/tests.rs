//! Cases of Jobs, after upstream's pkg/controller/job/job_controller_test.go.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, JobStatus, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
    SuccessPolicy, SuccessPolicyRule, UncountedTerminatedPods,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodTemplateSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::SignedDuration;

use super::assess::{Assessment, assess, look_again_in};
use super::backoff::Record;
use super::plan::plan;
use super::pods::{FINALIZER, INDEX, INDEX_FAILURES, new_pod};
use crate::shared::meta::Meta;
use crate::shared::pods::tests::{at, pod};

fn job(completions: Option<i32>, parallelism: i32) -> Job {
    Job {
        metadata: ObjectMeta {
            name: Some("work".into()),
            namespace: Some("default".into()),
            uid: Some("job".into()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            completions,
            parallelism: Some(parallelism),
            backoff_limit: Some(2),
            template: PodTemplateSpec {
                metadata: None,
                spec: Some(PodSpec {
                    containers: vec![Container { name: "c".into(), ..Container::default() }],
                    restart_policy: Some("Never".into()),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        status: Some(JobStatus {
            start_time: Some(Time(at(0))),
            uncounted_terminated_pods: Some(UncountedTerminatedPods::default()),
            ..JobStatus::default()
        }),
    }
}

fn indexed(completions: i32, parallelism: i32) -> Job {
    let mut job = job(Some(completions), parallelism);
    job.spec.as_mut().unwrap().completion_mode = Some("Indexed".into());
    job
}

fn of(phase: &str, number: usize) -> Pod {
    let mut pod = pod(&format!("{phase}-{number}"), "n", phase, (phase == "Running").then_some(0));
    pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
    pod
}

fn with_index(mut pod: Pod, index: i32, failures: i32) -> Pod {
    pod.metadata.uid = Some(format!("{}-{index}-{failures}", pod.name()));
    pod.metadata.annotations = Some(
        [(INDEX.to_owned(), index.to_string()), (INDEX_FAILURES.to_owned(), failures.to_string())].into(),
    );
    pod
}

fn pods(running: usize, succeeded: usize, failed: usize) -> Vec<Arc<Pod>> {
    let all = (0..running).map(|n| of("Running", n));
    let all =
        all.chain((0..succeeded).map(|n| of("Succeeded", n))).chain((0..failed).map(|n| of("Failed", n)));
    all.map(Arc::new).collect()
}

fn end(all: &Assessment) -> Option<(bool, &str)> {
    all.end.as_ref().map(|end| (end.success, &*end.reason))
}

/// Completions, parallelism, (running, succeeded, failed), pods to make, to delete.
#[test]
fn how_many_pods() {
    for (completions, parallelism, (running, succeeded, failed), create, delete) in [
        (Some(5), 2, (0, 0, 0), 2, 0),
        (None, 2, (0, 0, 0), 2, 0),
        (None, 2, (2, 0, 0), 0, 0),
        (None, 2, (1, 1, 0), 0, 0),
        (Some(5), 2, (1, 0, 0), 1, 0),
        (Some(5), 2, (0, 4, 0), 1, 0),
        (Some(5), 2, (5, 0, 0), 0, 3),
        (Some(5), 0, (2, 0, 0), 0, 2),
        (Some(2), 5, (2, 1, 0), 0, 1),
    ] {
        let job = job(completions, parallelism);
        let all = assess(&job, &pods(running, succeeded, failed), at(1000));
        assert_eq!(end(&all), None);
        let plan = plan(&job, &all, Record::default(), at(1000));
        assert_eq!(
            (plan.create.len(), plan.delete.len()),
            (create, delete),
            "{completions:?} {parallelism} {running} {succeeded} {failed}"
        );
    }
}

#[test]
fn how_it_ends() {
    for (completions, pods, expected) in [
        (Some(2), pods(0, 2, 0), Some((true, "CompletionsReached"))),
        (Some(2), pods(1, 1, 0), None),
        (None, pods(1, 1, 0), None),
        (None, pods(0, 1, 1), Some((true, "CompletionsReached"))),
        (Some(2), pods(0, 0, 2), None),
        (Some(2), pods(1, 0, 3), Some((false, "BackoffLimitExceeded"))),
    ] {
        assert_eq!(
            end(&assess(&job(completions, 1), &pods, at(10))),
            expected,
            "{completions:?} {}",
            pods.len()
        );
    }
    let mut late = job(Some(1), 1);
    late.spec.as_mut().unwrap().active_deadline_seconds = Some(30);
    assert_eq!(end(&assess(&late, &pods(1, 0, 0), at(29))), None);
    assert_eq!(end(&assess(&late, &pods(1, 0, 0), at(30))), Some((false, "DeadlineExceeded")));
}

#[test]
fn restarts_in_place_count_against_the_limit() {
    let mut job = job(Some(1), 1);
    job.spec.as_mut().unwrap().template.spec.as_mut().unwrap().restart_policy = Some("OnFailure".into());
    let restarted = |count| {
        let mut pod = of("Running", 0);
        pod.status.as_mut().unwrap().container_statuses =
            Some(vec![ContainerStatus { restart_count: count, ..ContainerStatus::default() }]);
        vec![Arc::new(pod)]
    };
    assert_eq!(end(&assess(&job, &restarted(1), at(1))), None);
    assert_eq!(end(&assess(&job, &restarted(2), at(1))), Some((false, "BackoffLimitExceeded")));
}

/// Whether the Job waits for the real end of pods or not, and whatever its policy does not ignore.
#[test]
fn what_still_runs_when_a_job_fails_has_failed_too() {
    for (replaces, completions, failed) in [("Failed", 2, 2), ("TerminatingOrFailed", 2, 2), ("Failed", 1, 1)]
    {
        let mut job = indexed(completions, 2);
        let spec = job.spec.as_mut().unwrap();
        spec.pod_replacement_policy = Some(replaces.into());
        spec.backoff_limit = Some(0);
        let mut going = with_index(of("Running", 0), 1, 0);
        going.metadata.deletion_timestamp = Some(Time(at(1)));
        let pods = [Arc::new(with_index(of("Failed", 0), 0, 0)), Arc::new(going)];
        let all = assess(&job, &pods, at(2));
        assert_eq!(end(&all), Some((false, "BackoffLimitExceeded")));
        // An index that the Job does not have counts for nothing.
        assert_eq!((all.failed, all.to_release.len()), (failed, 2), "{replaces} {completions}");
        let noted = all.noted.uncounted_terminated_pods.unwrap().failed.unwrap();
        assert_eq!((noted.len(), all.must_note), (usize::try_from(failed).unwrap(), true));
    }
}

/// A pod is noted, released and counted: once, whatever is read in between.
#[test]
fn pods_are_counted_once() {
    let mut job = job(Some(3), 3);
    let one = pods(0, 1, 1);
    let first = assess(&job, &one, at(1));
    assert!(first.must_note);
    assert_eq!(
        (first.succeeded, first.failed, first.to_release.len(), first.newly_ended.len()),
        (1, 1, 2, 2)
    );
    job.status = Some(first.noted);
    let second = assess(&job, &one, at(2));
    assert!(!second.must_note, "it is noted already");
    assert_eq!(
        (second.succeeded, second.failed, second.to_release.len(), second.newly_ended.len()),
        (1, 1, 2, 0)
    );
    let released: Vec<_> = one
        .iter()
        .map(|pod| {
            let mut pod = Pod::clone(pod);
            pod.metadata.finalizers = None;
            Arc::new(pod)
        })
        .collect();
    job.status = Some(second.noted);
    let third = assess(&job, &released, at(3));
    assert_eq!((third.noted.succeeded, third.noted.failed), (Some(1), Some(1)));
    assert_eq!((third.succeeded, third.failed), (1, 1));
    job.status = Some(third.noted.clone());
    assert_eq!(assess(&job, &released, at(4)).noted, third.noted);
}

#[test]
fn indexes_are_made_from_the_lowest_and_never_twice() {
    let job = indexed(5, 3);
    let there = [with_index(of("Succeeded", 0), 0, 0), with_index(of("Running", 0), 2, 0)].map(Arc::new);
    let all = assess(&job, &there, at(1));
    assert_eq!(all.noted.completed_indexes.as_deref(), Some("0"));
    let first = plan(&job, &all, Record::default(), at(1));
    assert_eq!(first.create, [Some((1, 0)), Some((3, 0))]);
    let twice = [
        with_index(of("Running", 0), 2, 0),
        with_index(of("Running", 1), 2, 0),
        with_index(of("Running", 2), 7, 0),
    ]
    .map(Arc::new);
    let second = plan(&job, &assess(&job, &twice, at(1)), Record::default(), at(1));
    assert_eq!(second.delete.len(), 2, "one too many, and one beyond the end");
}

#[test]
fn a_pod_of_an_index_knows_it() {
    let pod = new_pod(&indexed(3, 1), Some((2, 0))).unwrap();
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("work-2-"));
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("work-2"));
    assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
    assert_eq!(pod.label(INDEX), Some("2"));
    assert!(pod.has_finalizer(FINALIZER));
}

#[test]
fn limits_per_index() {
    let mut job = indexed(2, 2);
    job.spec.as_mut().unwrap().backoff_limit_per_index = Some(1);
    let failed_once = [with_index(of("Failed", 0), 0, 0), with_index(of("Running", 0), 1, 0)].map(Arc::new);
    let first = assess(&job, &failed_once, at(5));
    assert!(first.failed_indexes.is_empty());
    assert!(first.to_release.is_empty(), "only the pod tells how often its index failed");
    assert_eq!(plan(&job, &first, Record::default(), at(5)).wait.unwrap().as_secs(), 5);
    assert_eq!(plan(&job, &first, Record::default(), at(10)).create, [Some((0, 1))]);
    let failed_twice = [
        with_index(of("Failed", 0), 0, 0),
        with_index(of("Failed", 1), 0, 1),
        with_index(of("Succeeded", 0), 1, 0),
    ]
    .map(Arc::new);
    let second = assess(&job, &failed_twice, at(30));
    assert_eq!(second.noted.failed_indexes.as_deref(), Some("0"));
    assert_eq!(second.to_release.len(), 3);
    assert_eq!(end(&second), Some((false, "FailedIndexes")));
}

#[test]
fn policies() {
    let exit = |number, code| {
        let mut pod = of("Failed", number);
        pod.status.as_mut().unwrap().container_statuses = Some(vec![ContainerStatus {
            name: "c".into(),
            state: Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: code,
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            }),
            ..ContainerStatus::default()
        }]);
        vec![Arc::new(pod)]
    };
    let rule = |action: &str, code| PodFailurePolicyRule {
        action: action.into(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: None,
            operator: "In".into(),
            values: vec![code],
        }),
        on_pod_conditions: None,
    };
    let mut job = job(Some(1), 1);
    job.spec.as_mut().unwrap().pod_failure_policy =
        Some(PodFailurePolicy { rules: vec![rule("Ignore", 3), rule("FailJob", 4)] });
    assert_eq!(assess(&job, &exit(0, 3), at(1)).failed, 0);
    assert_eq!(assess(&job, &exit(0, 1), at(1)).failed, 1);
    let failed = assess(&job, &exit(0, 4), at(1));
    assert_eq!(
        failed.end.unwrap().message,
        "Container c for pod default/Failed-0 failed with exit code 4 matching FailJob rule at index 1"
    );
    let mut job = indexed(5, 5);
    let rule = SuccessPolicyRule { succeeded_count: Some(1), succeeded_indexes: Some("0,2".into()) };
    job.spec.as_mut().unwrap().success_policy = Some(SuccessPolicy { rules: vec![rule] });
    let done = |index| [Arc::new(with_index(of("Succeeded", 0), index, 0))];
    assert_eq!(end(&assess(&job, &done(1), at(1))), None);
    assert_eq!(end(&assess(&job, &done(2), at(1))), Some((true, "SuccessPolicy")));
}

#[test]
fn a_suspended_job_has_no_pods() {
    let mut job = job(Some(2), 2);
    job.spec.as_mut().unwrap().suspend = Some(true);
    let all = assess(&job, &pods(2, 0, 0), at(1));
    assert_eq!(plan(&job, &all, Record::default(), at(1)).delete.len(), 2);
}

#[test]
fn a_job_past_its_deadline_waits_for_its_pods_and_not_for_the_time() {
    let mut job = job(Some(1), 1);
    job.spec.as_mut().unwrap().active_deadline_seconds = Some(10);
    let running = pods(1, 0, 0);
    let look = |job: &Job, now: i64| {
        let all = assess(job, &running, at(now));
        (end(&all).map(|(success, reason)| (success, reason.to_owned())), look_again_in(job, &all, at(now)))
    };
    assert_eq!(look(&job, 4), (None, Some(SignedDuration::from_secs(6))));
    let exceeded = Some((false, "DeadlineExceeded".to_owned()));
    assert_eq!(look(&job, 10), (exceeded.clone(), None));
    assert_eq!(look(&job, 60), (exceeded, None));
}

#[test]
fn no_number_of_a_job_or_its_pods_makes_a_sum_wrap() {
    let mut job = indexed(1, 1);
    let spec = job.spec.as_mut().unwrap();
    (spec.active_deadline_seconds, spec.backoff_limit_per_index) = (Some(i64::MAX), Some(i32::MAX));
    spec.template.spec.as_mut().unwrap().restart_policy = Some("OnFailure".into());
    let status = job.status.as_mut().unwrap();
    status.start_time = Some(Time(at(1000)));
    status.failed = Some(i32::MAX);
    let mut running = with_index(of("Running", 1), 0, 0);
    let container = ContainerStatus { restart_count: i32::MAX, ..ContainerStatus::default() };
    running.status.as_mut().unwrap().container_statuses = Some(vec![container.clone(), container]);
    let failed = with_index(of("Failed", 0), 0, i32::MAX);
    let all = assess(&job, &[Arc::new(running), Arc::new(failed)], at(1));
    assert_eq!(all.failed, i32::MAX);
    assert_eq!(end(&all), Some((false, "BackoffLimitExceeded")));
    job.status.as_mut().unwrap().failed = None;
    let all = assess(&job, &[], at(1));
    assert_eq!(look_again_in(&job, &all, at(1)).unwrap().as_secs(), i64::MAX);
}
