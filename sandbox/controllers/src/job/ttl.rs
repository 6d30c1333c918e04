//! Deletes Jobs some time after they have ended (k8s.io/kubernetes/pkg/controller/ttlafterfinished).

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};

use crate::context::{Context, Reconcile, Running, wait, work};
use crate::error::Error;
use crate::shared::meta::Meta;

struct Controller {
    client: Client,
    jobs: Informer<Job>,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let jobs = context.informer::<Job>();
    let to_queue = queue.clone();
    jobs.subscribe(move |event| {
        let job = event.object();
        if !matches!(event, Event::Deleted(_)) && !job.deleting() && left(job, Timestamp::now()).is_some() {
            to_queue.add(job.key());
        }
    });
    work(Arc::new(Controller { client: context.client.clone(), jobs }), queue, 1)
}

/// How long a Job may stay; `None`: it has not ended, or stays.
fn left(job: &Job, now: Timestamp) -> Option<SignedDuration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let ended = job
        .status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|one| matches!(&*one.type_, "Complete" | "Failed") && one.status == "True")?;
    let at =
        ended.last_transition_time.as_ref()?.0.checked_add(SignedDuration::from_secs(seconds.into())).ok()?;
    Some(at.duration_since(now))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(job) = self.jobs.get(key) else { return Ok(None) };
        let now = Timestamp::now();
        match left(&job, now) {
            None => return Ok(None),
            Some(left) if left > SignedDuration::ZERO => return Ok(Some(wait(left))),
            Some(_) => {}
        }
        // The time may have been made longer meanwhile: the API server's word counts.
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(fresh) = api.get_opt(&key.name).await? else { return Ok(None) };
        if left(&fresh, now).is_none_or(|left| left > SignedDuration::ZERO) {
            return Ok(None);
        }
        let mut params = DeleteParams::foreground();
        params.preconditions = Some(Preconditions {
            uid: fresh.metadata.uid.clone(),
            resource_version: fresh.metadata.resource_version.clone(),
        });
        errors::unless_gone(api.delete(&key.name, &params).await)?;
        Ok(None)
    }
}
