//! Ending containers: hook, signal, grace, force (`killContainer`, `killContainersWithSyncResult`).

use super::{labels, observed::Observed, pod, start};
use crate::{docker::Container as Found, kubelet::Kubelet};
use drydock_kubeclient::EventType;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::time::{Duration, Instant};

/// What a container gets at least after its hook (`minimumGracePeriodInSeconds`).
const LEAST: i64 = 2;

/// All that an event says of a hook: what a command wrote may be a secret.
const PRE_STOP_FAILED: &str = "PreStopHook failed";

/// Why a container is ended: what its event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its pod ends.
    PodEnds,
    /// It was described anew.
    Changed,
    /// It gets other limits, which it wants to begin with.
    Resized,
    /// A probe says so: its name.
    Probe(&'static str),
    /// Its hook failed.
    PostStartHook,
    /// Its pod's first container is gone.
    SandboxGone,
}

impl Why {
    fn message(self, container: &str) -> String {
        match self {
            Self::PodEnds | Self::SandboxGone => format!("Stopping container {container}"),
            Self::Changed => format!("Container {container} definition changed, will be restarted"),
            Self::Resized => format!("Container {container} resize requires restart"),
            Self::Probe(probe) => format!("Container {container} failed {probe} probe, will be restarted"),
            Self::PostStartHook => "FailedPostStartHook".into(),
        }
    }
}

/// Ends one container within `grace` seconds; returns when it has ended.
pub async fn container(kubelet: &Kubelet, pod: &Pod, container: &Container, id: &str, why: Why, grace: i64) {
    kubelet.probes.forget(id);
    kubelet.container_event(
        pod,
        &container.name,
        EventType::Normal,
        "Killing",
        &why.message(&container.name),
    );
    let began = Instant::now();
    let handler = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let Some(handler) = handler.filter(|_| grace > 0) {
        let address = kubelet.address_of(pod);
        let within = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let hook = start::hook(kubelet, pod, container, handler, id, address);
        if let Ok(Err(message)) = tokio::time::timeout(within, hook).await {
            tracing::error!(
                pod = pod::described(pod),
                container = container.name,
                message,
                "{PRE_STOP_FAILED}"
            );
            kubelet.container_event(
                pod,
                &container.name,
                EventType::Warning,
                "FailedPreStopHook",
                PRE_STOP_FAILED,
            );
        }
    }
    let spent = i64::try_from(began.elapsed().as_secs()).unwrap_or(grace);
    let left = if grace == 0 { 0 } else { (grace - spent).max(LEAST) };
    match kubelet.docker.stop(id, left).await {
        Ok(()) => {}
        Err(e) if e.is_not_found() => {}
        Err(error) => {
            tracing::error!(pod = pod::described(pod), container = container.name, %error, "Kill container failed")
        }
    }
}

/// Ends all that runs of a pod: the containers, sidecars after the others and in the order opposite to that of their start, then the
/// first container.
pub async fn all(kubelet: &Kubelet, pod: &Pod, observed: &Observed, why: Why, grace: i64) {
    let sidecars: Vec<String> =
        pod::init_containers(pod).iter().filter(|c| pod::is_sidecar(c)).map(|c| c.name.clone()).collect();
    let running: Vec<(&str, &Found)> = observed.running().collect();
    let began = Instant::now();
    let left = || match grace {
        0 => 0,
        grace => (grace - i64::try_from(began.elapsed().as_secs()).unwrap_or(grace)).max(LEAST),
    };
    let end = async |name: &str, found: &Found| {
        let spec = pod::container(pod, name)
            .unwrap_or_else(|| Container { name: name.into(), ..Container::default() });
        container(kubelet, pod, &spec, &found.id, why, left()).await;
    };
    join_all(running.iter().filter(|(n, _)| !sidecars.iter().any(|s| s == n)).map(|(n, f)| end(n, f))).await;
    for sidecar in sidecars.iter().rev() {
        for (name, found) in running.iter().filter(|(n, _)| n == sidecar) {
            end(name, found).await;
        }
    }
    sandboxes(kubelet, observed).await;
}

/// Ends a pod's first containers and takes their addresses back.
pub async fn sandboxes(kubelet: &Kubelet, observed: &Observed) {
    for sandbox in &observed.sandboxes {
        if sandbox.state.running
            && let Err(error) = kubelet.docker.stop(&sandbox.id, 10).await
            && !error.is_not_found()
        {
            tracing::error!(sandbox = sandbox.id, %error, "StopPodSandbox failed");
        }
        kubelet.host_ports.close(&sandbox.id).await;
        kubelet.network.release(&sandbox.id);
    }
}

/// Deletes all that there is of a pod in the engine.
pub async fn remove(kubelet: &Kubelet, uid: &str) -> Result<(), crate::docker::DockerError> {
    let list = kubelet.docker.list(&format!("{}={uid}", labels::POD_UID)).await?;
    let (sandboxes, others): (Vec<_>, Vec<_>) =
        list.into_iter().partition(|c| c.labels.get(labels::TYPE).is_some_and(|t| t == labels::SANDBOX));
    for container in others {
        kubelet.probes.forget(&container.id);
        kubelet.docker.remove(&container.id).await?;
    }
    for sandbox in sandboxes {
        kubelet.docker.remove(&sandbox.id).await?;
        kubelet.host_ports.close(&sandbox.id).await;
        kubelet.network.release(&sandbox.id);
    }
    Ok(())
}
