//! Starting one container of a pod, and its first container (`pkg/kubelet/kuberuntime/kuberuntime_container.go`, `startContainer`).

use super::{
    config::{self, PAUSE, Parts},
    fields::Here,
    labels, observed, pod, seccomp, stop,
    sync::Failure,
};
use crate::{
    docker::{Container as Found, Image},
    images::{self, Waiting, Wanted},
    kubelet::Kubelet,
    paths,
    volumes::{Volumes, image},
};
use drydock_kubeclient::EventType;
use k8s_openapi::api::{
    core::v1::{Container, LifecycleHandler, Pod},
    node::v1::RuntimeClass,
};
use kube::Api;
use std::{fs, net::Ipv4Addr, os::unix::fs::symlink, sync::Arc, time::Duration};

/// A pod's first container: its id and its address.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The container's id.
    pub id: String,
    /// The pod's address; with the node's network, the node's.
    pub address: Ipv4Addr,
}

/// Makes a pod's first container and its network.
pub async fn sandbox(kubelet: &Kubelet, pod: &Pod, attempt: u32) -> Result<Sandbox, Failure> {
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        let message = format!("Failed to create pod sandbox: {what}: {why}");
        kubelet.event(pod, EventType::Warning, "FailedCreatePodSandBox", &message);
        Failure::Sandbox(message)
    };
    if kubelet.docker.image(PAUSE).await.is_err_and(|e| e.is_not_found()) {
        let pulled = kubelet.docker.pull(PAUSE, None).await;
        pulled.map_err(|e| failed(&format!("failed pulling image \"{PAUSE}\""), &e))?;
    }
    let name = labels::container_name(pod, labels::SANDBOX_NAME, attempt);
    let runtime = runtime(kubelet, pod).await.map_err(|e| failed("failed to get sandbox runtime", &e))?;
    let body =
        config::sandbox(pod, kubelet.settings.cluster_domain(), runtime.as_deref()).map_err(|message| {
            let message = format!("Failed to create pod sandbox: {message}");
            kubelet.event(pod, EventType::Warning, "FailedCreatePodSandBox", &message);
            Failure::Sandbox(message)
        })?;
    let id = create(kubelet, &name, &body).await;
    let id = id.map_err(|e| failed("failed to create a sandbox", &e))?;
    kubelet.docker.start(&id).await.map_err(|e| failed("failed to start sandbox container", &e))?;
    if pod::is_host_network(pod) {
        return Ok(Sandbox { id, address: kubelet.host_ip });
    }
    let found = kubelet.docker.inspect(&id).await.map_err(|e| failed("failed to look at the sandbox", &e))?;
    match connect(kubelet, pod, &id, found.state.pid).await {
        Ok(address) => Ok(Sandbox { id, address }),
        Err(e) => {
            let what =
                format!("failed to set up sandbox container \"{id}\" network for pod \"{}\"", pod::name(pod));
            let failure = failed(&what, &e);
            let _tried_again_anyway = kubelet.docker.remove(&id).await;
            Err(failure)
        }
    }
}

/// The engine's runtime that the pod's class names (`pkg/kubelet/runtimeclass`); without a class the engine has one.
async fn runtime(kubelet: &Kubelet, pod: &Pod) -> Result<Option<String>, kube::Error> {
    let Some(class) = pod::spec(pod).runtime_class_name.as_deref().filter(|c| !c.is_empty()) else {
        return Ok(None);
    };
    let classes: Api<RuntimeClass> = Api::all(kubelet.client.clone());
    classes.get(class).await.map(|class| Some(class.handler))
}

/// Gives a pod its address, and the ports of the node that it wants.
async fn connect(kubelet: &Kubelet, pod: &Pod, id: &str, pid: i32) -> Result<Ipv4Addr, String> {
    let address = kubelet.network.attach(id, pid).map_err(|e| e.to_string())?;
    let opened = kubelet.host_ports.open(pod, id, address, kubelet.network.cidr()).await;
    opened.inspect_err(|_| kubelet.network.release(id)).map_err(|e| e.to_string())?;
    Ok(address)
}

/// Creates a container; one of this name that a kubelet which died has left goes first.
async fn create(
    kubelet: &Kubelet,
    name: &str,
    body: &serde_json::Value,
) -> Result<String, crate::docker::DockerError> {
    match kubelet.docker.create(name, body).await {
        Err(e) if e.is_conflict() => {
            kubelet.docker.remove(name).await?;
            kubelet.docker.create(name, body).await
        }
        other => other,
    }
}

/// What a container is started in.
pub struct Place<'a> {
    /// The pod's first container.
    pub sandbox: &'a Sandbox,
    /// The pod's volumes.
    pub volumes: &'a Volumes,
    /// What the pod knows of itself only here.
    pub here: &'a Here,
    /// The container whose processes an ephemeral one wants to see.
    pub target: Option<&'a str>,
}

/// Starts a container of a pod. `before`: the containers of this name that there are, newest first.
pub async fn container(
    kubelet: &Arc<Kubelet>,
    pod: &Arc<Pod>,
    container: &Container,
    before: &[Found],
    place: &Place<'_>,
) -> Result<(), Waiting> {
    let event =
        |kind, reason, message: &str| kubelet.container_event(pod, &container.name, kind, reason, message);
    let image: Image = images::ensure(kubelet, &Wanted::by(pod, container)).await.inspect_err(|waiting| {
        event(EventType::Warning, "Failed", &format!("Error: {}", waiting.reason));
    })?;
    image::mount_all(kubelet, pod, container).await.inspect_err(|waiting| {
        event(EventType::Warning, "Failed", &format!("Error: {}", waiting.message));
    })?;
    let attempt = before.first().map_or(0, |newest| observed::restart_count(newest) + 1);
    let failed = |reason: &'static str, message: String| {
        event(EventType::Warning, "Failed", &format!("Error: {message}"));
        Waiting::new(reason, message)
    };
    let seccomp = seccomp::option(pod, container);
    let parts = Parts {
        sandbox: &place.sandbox.id,
        attempt,
        image: &image,
        volumes: place.volumes,
        here: place.here,
        target: place.target,
        seccomp: seccomp.as_ref().ok().and_then(Option::as_deref),
    };
    let body = config::container(kubelet, pod, container, &parts).await;
    let body = body.map_err(|message| failed("CreateContainerConfigError", message))?;
    seccomp.map_err(|message| failed("CreateContainerError", message))?;
    let name = labels::container_name(pod, &container.name, attempt);
    let id = create(kubelet, &name, &body).await;
    let id = id.map_err(|e| failed("CreateContainerError", format!("Error response from daemon: {e}")))?;
    event(EventType::Normal, "Created", "Container created");
    let started = kubelet.docker.start(&id).await;
    started.map_err(|e| {
        failed(
            "RunContainerError",
            format!("failed to start container \"{id}\": Error response from daemon: {e}"),
        )
    })?;
    event(EventType::Normal, "Started", "Container started");
    link_log(kubelet, pod, container, attempt, &id).await;
    // The newest of those before stays for `logs --previous` (`MaxPerPodContainerCount` 1).
    for old in before.iter().skip(1) {
        let _next_time = kubelet.docker.remove(&old.id).await;
    }
    post_start(kubelet, pod, container, &id, place).await
}

/// Where logs are looked for on every node: links to the engine's files.
async fn link_log(kubelet: &Kubelet, pod: &Pod, container: &Container, attempt: u32, id: &str) {
    let Ok(found) = kubelet.docker.inspect(id).await else { return };
    if found.log_path.is_empty() {
        return;
    }
    let (name, namespace, uid) = (pod::name(pod), pod::namespace(pod), pod::uid(pod));
    let log = paths::container_log(namespace, name, uid, &container.name, attempt);
    let link = || {
        log.parent().map(fs::create_dir_all).transpose()?;
        let _old = fs::remove_file(&log);
        symlink(&found.log_path, &log)?;
        fs::create_dir_all("/var/log/containers")?;
        let by_container = format!("/var/log/containers/{name}_{namespace}_{}-{id}.log", container.name);
        symlink(&log, by_container)
    };
    if let Err(error) = link() {
        tracing::debug!(%error, "Failed to link a container's log");
    }
}

/// All that an event says of a hook: what a command wrote may be a secret.
const POST_START_FAILED: &str = "PostStartHook failed";

async fn post_start(
    kubelet: &Arc<Kubelet>,
    pod: &Arc<Pod>,
    container: &Container,
    id: &str,
    place: &Place<'_>,
) -> Result<(), Waiting> {
    let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
        return Ok(());
    };
    let Err(message) = hook(kubelet, pod, container, handler, id, place.sandbox.address).await else {
        return Ok(());
    };
    tracing::error!(pod = pod::described(pod), container = container.name, message, "{POST_START_FAILED}");
    kubelet.container_event(
        pod,
        &container.name,
        EventType::Warning,
        "FailedPostStartHook",
        POST_START_FAILED,
    );
    stop::container(kubelet, pod, container, id, stop::Why::PostStartHook, pod::grace_seconds(pod)).await;
    Err(Waiting::new("PostStartHookError", message))
}

/// Carries out a hook (`pkg/kubelet/lifecycle/handlers.go`).
pub async fn hook(
    kubelet: &Kubelet,
    pod: &Pod,
    container: &Container,
    handler: &LifecycleHandler,
    id: &str,
    address: Ipv4Addr,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let (error, text) = match kubelet.docker.run(id, &command).await {
            Ok(output) if output.status == 0 => return Ok(()),
            Ok(output) => {
                let error =
                    format!("command '{}' exited with {}: {}", command.join(" "), output.status, output.text);
                (error, output.text)
            }
            Err(e) => (e.to_string(), String::new()),
        };
        return Err(format!(
            "Exec lifecycle hook ([{}]) for Container \"{}\" in Pod \"{}\" failed - error: {error}, message: {text:?}",
            command.join(" "),
            container.name,
            pod::described(pod)
        ));
    }
    if let Some(action) = &handler.http_get {
        let target = crate::probes::target(container, action, address)?;
        return match crate::probes::get(&target).await {
            Ok(answer) if (200..400).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("HTTP hook failed with statuscode: {}", answer.status)),
            Err(failure) => Err(failure.why),
        };
    }
    if let Some(action) = &handler.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err("invalid handler: no action was given".into())
}
