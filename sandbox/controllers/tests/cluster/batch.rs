//! Jobs and CronJobs.

use drydock_controllers::manager::Settings;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, template};

fn job(name: &str, more: Value) -> Value {
    let mut template = template(name, "work:1");
    template["spec"]["restartPolicy"] = "Never".into();
    let mut spec = json!({"template": template});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

fn ended(type_: &'static str) -> impl Fn(&Job) -> bool {
    move |job: &Job| {
        let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == type_ && one.status == "True"))
    }
}

#[tokio::test]
async fn a_job_completes_and_its_pods_are_counted_once() {
    let cluster = Cluster::with(Settings::default(), |_| Some(0)).await;
    cluster.create::<Job>(job("sum", json!({"completions": 5, "parallelism": 2}))).await;
    let job = cluster.when("sum", ended("Complete")).await;
    let status = job.status.unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(5), None, None));
    assert!(status.completion_time.is_some());
    cluster.event("Completed", "Job completed").await;
    let pods = cluster.api::<Pod>().list(&Default::default()).await.unwrap();
    assert_eq!(pods.items.len(), 5);
    assert!(pods.items.iter().all(|pod| pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)));
}

#[tokio::test]
async fn a_job_fails_at_its_limit() {
    let cluster = Cluster::with(Settings::default(), |_| Some(1)).await;
    cluster.create::<Job>(job("bad", json!({"backoffLimit": 0}))).await;
    let job = cluster.when("bad", ended("Failed")).await;
    let conditions = job.status.as_ref().unwrap().conditions.clone().unwrap();
    let reasons: Vec<_> =
        conditions.iter().map(|one| (&*one.type_, one.reason.as_deref().unwrap())).collect();
    assert_eq!(reasons, [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]);
    assert_eq!(job.status.unwrap().failed, Some(1));
    cluster.event("BackoffLimitExceeded", "Job has reached the specified backoff limit").await;
}

#[tokio::test]
async fn indexes_each_have_a_pod() {
    let cluster = Cluster::with(Settings::default(), |_| Some(0)).await;
    cluster
        .create::<Job>(job("parts", json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed"})))
        .await;
    let done = cluster.when("parts", ended("Complete")).await;
    assert_eq!(done.status.unwrap().completed_indexes.as_deref(), Some("0-3"));
}

#[tokio::test]
async fn a_suspended_job_waits() {
    let cluster = Cluster::with(Settings::default(), |_| Some(0)).await;
    cluster.create::<Job>(job("later", json!({"suspend": true}))).await;
    cluster.when("later", ended("Suspended")).await;
    assert!(cluster.pods().is_empty());
    let patch = Patch::Merge(json!({"spec": {"suspend": false}}));
    cluster.api::<Job>().patch("later", &PatchParams::default(), &patch).await.unwrap();
    cluster.when("later", ended("Complete")).await;
    cluster.event("Resumed", "Job resumed").await;
}

#[tokio::test]
async fn a_job_goes_after_its_time_and_its_pods_with_it() {
    let cluster = Cluster::with(Settings::default(), |_| Some(0)).await;
    cluster.create::<Job>(job("brief", json!({"ttlSecondsAfterFinished": 0}))).await;
    let api = cluster.api::<Job>();
    cluster
        .until("the job gone", || async { api.get_opt("brief").await.unwrap().is_none().then_some(()) })
        .await;
    cluster.when_pods("no pods", <[_]>::is_empty).await;
}

#[tokio::test]
async fn pods_of_a_deleted_job_are_let_go() {
    let cluster = Cluster::start().await;
    cluster.create::<Job>(job("long", json!({"parallelism": 2}))).await;
    cluster.when_pods("two pods", |pods| pods.len() == 2).await;
    cluster.api::<Job>().delete("long", &DeleteParams::background()).await.unwrap();
    let pods = cluster.api::<Pod>();
    cluster
        .until("no pods", || async {
            pods.list(&Default::default()).await.unwrap().items.is_empty().then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_cron_job_makes_jobs_and_keeps_few() {
    let cluster = Cluster::with(Settings::default(), |_| Some(0)).await;
    let mut template = template("tick", "work:1");
    template["spec"]["restartPolicy"] = "Never".into();
    cluster
        .create::<CronJob>(json!({
            "metadata": {"name": "tick"},
            "spec": {"schedule": "@every 1s", "successfulJobsHistoryLimit": 1, "jobTemplate": {"spec": {"template": template}}},
        }))
        .await;
    let ran =
        |cron: &CronJob| cron.status.as_ref().is_some_and(|status| status.last_successful_time.is_some());
    cluster.when("tick", ran).await;
    cluster.event("SuccessfulCreate", "Created job tick-").await;
    cluster.event("SawCompletedJob", "condition: Complete").await;
}
