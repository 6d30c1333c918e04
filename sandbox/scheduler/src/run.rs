//! The scheduler as a component: informers feed the core, decisions become bindings, conditions and events. Called by the control plane's
//! program. One loop decides, one pod after the other; what needs the API server runs beside it, so that no decision waits for an answer.

mod bind;
mod feed;
mod report;

use futures_util::future::BoxFuture;
use std::sync::Arc;

use drydock_kubeclient::leader::Times;
use drydock_kubeclient::{Elector, Informer, Informers, Recorder, Reporter};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Client;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::core::{Change, Core, Decision};

/// As many bindings and reports are on their way at a time: enough to keep the API server busy, and no more memory than that.
const IN_FLIGHT: usize = 256;

/// How the component runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the scheduler: pods ask for it, and events come from it.
    pub name: String,
    /// Whoever holds the lease works. None: no lease is asked for.
    pub lease: Option<Lease>,
}

/// A lease in namespace `kube-system`.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its name.
    pub name: String,
    /// This candidate's name.
    pub identity: String,
    /// Its times.
    pub times: Times,
}

/// Why the scheduler ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another may schedule now.
    #[error("leaderelection lost")]
    LeadershipLost,
}

/// What bindings and reports need.
pub(crate) struct Context {
    client: Client,
    reporter: Reporter,
    name: String,
    changes: mpsc::UnboundedSender<Change>,
    claims: Informer<PersistentVolumeClaim>,
    /// Told whenever a claim changes.
    claim_changed: Arc<Notify>,
}

/// Schedules until `stop` is done, or leadership is lost. Boxed, so that it is compiled here and not once more in whatever runs it.
pub fn run(
    client: Client,
    options: Options,
    stop: BoxFuture<'static, ()>,
) -> BoxFuture<'static, Result<(), Error>> {
    Box::pin(schedule(client, options, stop))
}

async fn schedule(client: Client, options: Options, mut stop: BoxFuture<'static, ()>) -> Result<(), Error> {
    let (changes, received) = mpsc::unbounded_channel();
    let informers = Informers::new(client.clone());
    let claim_changed = Arc::new(Notify::new());
    let claims = feed::subscribe(&informers, &changes, &claim_changed);
    informers.start();
    let context = Context {
        reporter: Reporter::new(client.clone(), &options.name),
        name: options.name.clone(),
        changes,
        claims,
        claim_changed,
        client: client.clone(),
    };
    // Of its lease it tells in the old form.
    let recorder = Recorder::new(client.clone(), &options.name, None);
    let mut elector = options
        .lease
        .map(|lease| Elector::new(client, recorder, "kube-system", &lease.name, lease.identity, lease.times));
    let begin = async {
        informers.synced().await;
        if let Some(elector) = &mut elector {
            elector.acquire().await;
        }
    };
    tokio::select! {
        () = begin => {}
        () = &mut stop => return Ok(()),
    }
    let hold = async {
        match &mut elector {
            Some(elector) => elector.hold().await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        () = work(context, received) => Ok(()),
        () = hold => Err(Error::LeadershipLost),
        () = &mut stop => Ok(()),
    };
    if result.is_ok()
        && let Some(elector) = &elector
        && let Err(error) = elector.release().await
    {
        tracing::warn!(%error, "the lease could not be given up");
    }
    result
}

async fn work(context: Context, mut received: mpsc::UnboundedReceiver<Change>) {
    let context = Arc::new(context);
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut core = Core::new(&context.name);
    loop {
        while let Ok(change) = received.try_recv() {
            core.apply(change, Instant::now());
        }
        let Some(decision) = core.decide(Instant::now()) else {
            if !wait(&mut core, &mut received).await {
                return;
            }
            continue;
        };
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let context = context.clone();
        match decision {
            Decision::Bind(pod, placement) => {
                tokio::spawn(async move {
                    bind::bind(&context, pod, placement).await;
                    drop(permit);
                });
            }
            Decision::Wait(pod, unschedulable) => {
                let less_important = unschedulable.preemption.as_ref().map_or_else(Vec::new, |preemption| {
                    core.nominations().less_important(&preemption.node, &pod)
                });
                tokio::spawn(async move {
                    report::report(&context, &pod, &unschedulable, &less_important).await;
                    drop(permit);
                });
            }
        }
        // Informers and bindings share the thread.
        tokio::task::yield_now().await;
    }
}

/// Waits until there may be something to decide; false: nothing will come any more.
async fn wait(core: &mut Core, received: &mut mpsc::UnboundedReceiver<Change>) -> bool {
    let deadline = core.queue().deadline();
    let due = async {
        match deadline {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        change = received.recv() => match change {
            Some(change) => {
                core.apply(change, Instant::now());
                true
            }
            None => false,
        },
        () = due => true,
    }
}
