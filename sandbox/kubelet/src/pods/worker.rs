//! The task of one pod (`pkg/kubelet/pod_workers.go`): rounds while it shall run, then its end, once and in order.
//!
//! ```text
//!   syncing ──deleted, or gone from its source──▶ terminating ──all has ended──▶ terminated
//! ```

use super::{
    admission, eviction,
    memory::Memory,
    observed::Observed,
    pod, resize,
    stop::{self, Why},
    sync::{Failure, Round},
};
use crate::{kubelet::Kubelet, paths, volumes};
use k8s_openapi::api::core::v1::Pod;
use std::{fs, sync::Arc, time::Duration};
use tokio::sync::{Notify, watch};

/// A pod is looked at so often even if nothing happens (`syncFrequency`).
const PERIOD: Duration = Duration::from_secs(60);
/// After a failed round, the first delay and the longest.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(15);

/// What is wanted of a pod.
#[derive(Debug, Clone)]
pub struct Desired {
    /// As its source has it.
    pub pod: Arc<Pod>,
    /// Its source has it no more.
    pub gone: bool,
    /// The node can't have it any longer: why.
    pub evicted: Option<String>,
}

impl Desired {
    /// A pod as its source has it.
    pub fn new(pod: Arc<Pod>) -> Self {
        Self { pod, gone: false, evicted: None }
    }

    fn ends(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    fn grace(&self) -> i64 {
        pod::grace_seconds(&self.pod)
    }
}

/// Runs a pod from its first round to its end. `others`: what was on the node before it, if it is not sure yet whether there is a place
/// for it too.
pub async fn run(
    kubelet: Arc<Kubelet>,
    mut desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    others: Option<Vec<Arc<Pod>>>,
) {
    let first = desired.borrow_and_update().clone();
    let uid = pod::uid(&first.pod).to_owned();
    let mut memory = Memory::new(&first.pod);
    if let Some(others) = others
        && let Some(refused) = admission::refusal(&kubelet, &first.pod, &others).await
    {
        memory.refuse(refused);
    }
    let mut pace = Pace { retry: FIRST_RETRY };
    loop {
        let now = desired.borrow_and_update().clone();
        if now.ends() {
            break;
        }
        if let Some(message) = &now.evicted {
            memory.ended.get_or_insert_with(|| (eviction::REASON.into(), message.clone()));
        }
        let pod = memory.allot(
            &now.pod,
            || resize::refusal(&kubelet, &now.pod),
            |kind, reason, message| kubelet.event(&now.pod, kind, reason, message),
        );
        let round = async {
            let mut round = Round::new(&kubelet, &pod, &mut memory);
            let next = round.sync().await?;
            let again = memory.waits_for.as_ref().map(|_| resize::RETRY);
            Ok(next.into_iter().chain(again).min())
        };
        let done: Result<_, Failure> = tokio::select! {
            done = round => done,
            // What a round waits for (a pull, a hook) does not hold up the end of the pod.
            () = until_it_ends(desired.clone(), now.evicted.is_some()) => continue,
        };
        if let Err(error) = &done {
            tracing::error!(pod = pod::described(&now.pod), %error, "Error syncing pod, skipping");
        }
        if !pace.wait(&done, &mut desired, &wake).await {
            return;
        }
    }
    terminate(&kubelet, &mut desired, &mut memory).await;
    let last = desired.borrow().clone();
    kubelet.pods.ended(&kubelet, &uid, &last.pod);
}

/// When the next round begins.
struct Pace {
    /// How long was waited after the last failure.
    retry: Duration,
}

impl Pace {
    /// Waits after a round for what calls for the next one. False: nobody is left who could want something of the pod.
    async fn wait(
        &mut self,
        done: &Result<Option<Duration>, Failure>,
        desired: &mut watch::Receiver<Desired>,
        wake: &Notify,
    ) -> bool {
        let wait = match done {
            Ok(next) => {
                self.retry = FIRST_RETRY;
                next.map_or(PERIOD, |n| n.min(PERIOD))
            }
            Err(_) => {
                self.retry = (self.retry * 2).min(LONGEST_RETRY);
                self.retry
            }
        };
        // What the engine tells while there is no sandbox is the end of the one that just failed: nothing else of the pod is left.
        let hears = !matches!(done, Err(Failure::Sandbox(_)));
        tokio::select! {
            changed = desired.changed() => changed.is_ok(),
            () = wake.notified(), if hears => true,
            () = tokio::time::sleep(wait) => true,
        }
    }
}

/// `evicted`: that it is evicted is known already.
async fn until_it_ends(mut desired: watch::Receiver<Desired>, evicted: bool) {
    let ends = |desired: &Desired| desired.ends() || !evicted && desired.evicted.is_some();
    while !ends(&desired.borrow_and_update()) {
        if desired.changed().await.is_err() {
            return;
        }
    }
}

/// Ends all of a pod, tells how it ended, and takes away what it had.
async fn terminate(kubelet: &Arc<Kubelet>, desired: &mut watch::Receiver<Desired>, memory: &mut Memory) {
    loop {
        let now = desired.borrow_and_update().clone();
        let mut round = Round::new(kubelet, &now.pod, memory);
        let observed = match round.look(false).await {
            Ok((observed, _)) => observed,
            Err(error) => {
                tracing::error!(pod = pod::described(&now.pod), %error, "Error syncing pod, skipping");
                tokio::time::sleep(FIRST_RETRY).await;
                continue;
            }
        };
        if observed.running().next().is_none() {
            stop::sandboxes(kubelet, &observed).await;
            if round.look(true).await.is_ok() {
                break;
            }
            continue;
        }
        let grace = now.grace();
        tokio::select! {
            () = end(kubelet, &now.pod, &observed, grace) => {}
            // Somebody is in a hurry: a second deletion may shorten the first one's grace.
            () = until_shorter(desired.clone(), grace) => {}
        }
    }
    let last = desired.borrow().clone();
    kubelet.pods.over(pod::uid(&last.pod));
    clean_up(kubelet, &last).await;
}

async fn end(kubelet: &Kubelet, pod: &Pod, observed: &Observed, grace: i64) {
    stop::all(kubelet, pod, observed, Why::PodEnds, grace).await;
}

async fn until_shorter(mut desired: watch::Receiver<Desired>, grace: i64) {
    while desired.borrow_and_update().grace() >= grace {
        if desired.changed().await.is_err() {
            // Nobody is left to hurry.
            return std::future::pending().await;
        }
    }
}

async fn clean_up(kubelet: &Arc<Kubelet>, last: &Desired) {
    let uid = pod::uid(&last.pod);
    if !last.gone {
        kubelet.statuses.settled(uid).await;
    }
    if let Err(error) = stop::remove(kubelet, uid).await {
        tracing::warn!(pod = pod::described(&last.pod), %error, "containers of a pod that ended are left");
    }
    if let Err(error) = volumes::tear_down(uid) {
        tracing::warn!(pod = pod::described(&last.pod), %error, "volumes of a pod that ended are left");
    }
    let logs = paths::pod_logs(pod::namespace(&last.pod), pod::name(&last.pod), uid);
    let _none_there = fs::remove_dir_all(logs);
    kubelet.objects.release(uid);
    kubelet.tokens.release(uid);
    kubelet.images.release(uid);
    if !last.gone {
        kubelet.statuses.delete(&last.pod).await;
    }
    kubelet.statuses.forget(uid);
    kubelet.forget(uid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    fn wanted() -> (watch::Sender<Desired>, watch::Receiver<Desired>) {
        watch::channel(Desired::new(Arc::default()))
    }

    /// What such a round did wakes the pod each time: once a pod of this kind kept the node busy with thousands of sandboxes.
    #[tokio::test(start_paused = true)]
    async fn a_sandbox_that_never_starts_is_tried_seldom() {
        let (_sender, mut desired) = wanted();
        let (wake, mut pace, mut attempts) = (Notify::new(), Pace { retry: FIRST_RETRY }, 0);
        let trying = async {
            loop {
                attempts += 1;
                wake.notify_one();
                pace.wait(&Err(Failure::Sandbox("no".into())), &mut desired, &wake).await;
            }
        };
        assert!(timeout(Duration::from_secs(100), trying).await.is_err());
        assert!((2..16).contains(&attempts), "{attempts}");
    }

    #[tokio::test(start_paused = true)]
    async fn news_end_the_wait_at_once() {
        let (sender, mut desired) = wanted();
        let (wake, mut pace, began) = (Notify::new(), Pace { retry: FIRST_RETRY }, Instant::now());
        for done in [Ok(None), Err(Failure::Other("no".into()))] {
            wake.notify_one();
            assert!(pace.wait(&done, &mut desired, &wake).await);
        }
        sender.send_modify(|desired| desired.gone = true);
        assert!(pace.wait(&Err(Failure::Sandbox("no".into())), &mut desired, &wake).await);
        assert_eq!(Instant::now(), began);
        drop(sender);
        assert!(!pace.wait(&Ok(None), &mut desired, &wake).await);
    }
}
