//! Pulling the images of containers (`pkg/kubelet/images/image_manager.go`): policies, events, growing delays.

use crate::{
    docker::Image,
    kubelet::Kubelet,
    pods::{backoff::Backoff, pod},
    pull_secrets, text,
};
use drydock_images::Reference;
use drydock_kubeclient::EventType;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Why a container waits: what its state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `ErrImagePull`, `CrashLoopBackOff` …
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// When to look again, if not by the usual delay.
    pub retry: Option<Duration>,
}

impl Waiting {
    /// Without a delay of its own.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry: None }
    }
}

/// Delays of images that can't be pulled.
#[derive(Debug, Default)]
pub struct Images {
    delays: Mutex<Backoff>,
    failures: Mutex<HashMap<String, String>>,
    /// One pull at a time, as a kubelet does by default.
    turn: tokio::sync::Mutex<()>,
}

/// With a tag, if it has neither tag nor digest.
fn with_tag(image: &str) -> Result<String, String> {
    let parsed = Reference::parse(image).map_err(|e| {
        format!("Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {e}")
    })?;
    Ok(if parsed.tag().is_none() && parsed.digest().is_none() {
        format!("{image}:latest")
    } else {
        image.into()
    })
}

/// An image that a pod wants.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container that is made from it; none if it is a volume.
    pub container: Option<&'a str>,
    /// Its name as the pod has it.
    pub image: &'a str,
    /// `Always`, `IfNotPresent` or `Never`.
    pub policy: &'a str,
}

impl<'a> Wanted<'a> {
    /// That of a container.
    pub fn by(pod: &'a Pod, container: &'a Container) -> Self {
        Self {
            pod,
            container: Some(&container.name),
            image: container.image.as_deref().unwrap_or_default(),
            policy: pod::pull_policy(container),
        }
    }

    fn event(&self, kubelet: &Kubelet, kind: EventType, reason: &str, message: &str) {
        match self.container {
            Some(container) => kubelet.container_event(self.pod, container, kind, reason, message),
            None => kubelet.event(self.pod, kind, reason, message),
        }
    }
}

/// Makes sure that an image is there, and notes how it is named.
pub async fn ensure(kubelet: &Kubelet, which: &Wanted<'_>) -> Result<Image, Waiting> {
    let image = find(kubelet, which).await?;
    kubelet.name_images(std::slice::from_ref(&image));
    Ok(image)
}

async fn find(kubelet: &Kubelet, which: &Wanted<'_>) -> Result<Image, Waiting> {
    let wanted = which.image;
    let event = |kind, reason, message: &str| which.event(kubelet, kind, reason, message);
    let image = with_tag(wanted).map_err(|message| {
        event(EventType::Warning, "InspectFailed", &message);
        Waiting::new("InvalidImageName", message)
    })?;
    let present = match kubelet.docker.image(&image).await {
        Ok(found) => Some(found),
        Err(e) if e.is_not_found() => None,
        Err(e) => {
            let message = format!("Failed to inspect image \"{wanted}\": {e}");
            event(EventType::Warning, "InspectFailed", &message);
            return Err(Waiting::new("ImageInspectError", message));
        }
    };
    match present {
        Some(found) if which.policy != "Always" => {
            let message = format!(
                "Container image \"{wanted}\" already present on machine and can be accessed by the pod"
            );
            event(EventType::Normal, "Pulled", &message);
            Ok(found)
        }
        None if which.policy == "Never" => {
            let message = format!("Container image \"{wanted}\" is not present with pull policy of Never");
            event(EventType::Warning, "ErrImageNeverPull", &message);
            Err(Waiting::new("ErrImageNeverPull", message))
        }
        _ => pull(kubelet, which, &image).await,
    }
}

async fn pull(kubelet: &Kubelet, which: &Wanted<'_>, image: &str) -> Result<Image, Waiting> {
    let (pod, wanted) = (which.pod, which.image);
    let event = |kind, reason, message: &str| which.event(kubelet, kind, reason, message);
    let key = format!("{}_{wanted}", pod::uid(pod));
    let images = &kubelet.images;
    let delay = images
        .delays
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .wait_since_update(&key, SystemTime::now());
    if let Some(left) = delay {
        let mut message = format!("Back-off pulling image \"{wanted}\"");
        event(EventType::Normal, "BackOff", &message);
        if let Some(last) = images.failures.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            message = format!("{message}: ErrImagePull: {last}");
        }
        return Err(Waiting { reason: "ImagePullBackOff", message, retry: Some(left) });
    }
    event(EventType::Normal, "Pulling", &format!("Pulling image \"{wanted}\""));
    let asked = Instant::now();
    let turn = images.turn.lock().await;
    let began = Instant::now();
    let pulled = match kubelet.docker.pull(image, pull_secrets::header(kubelet, pod, image).await).await {
        Ok(()) => kubelet.docker.image(image).await,
        Err(e) => Err(e),
    };
    drop(turn);
    match pulled {
        Ok(found) => {
            images.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            let took =
                |since: Instant| text::duration(Duration::from_millis(since.elapsed().as_millis() as u64));
            let message = format!(
                "Successfully pulled image \"{wanted}\" in {} ({} including waiting). Image size: {} bytes.",
                took(began),
                took(asked),
                found.size
            );
            event(EventType::Normal, "Pulled", &message);
            Ok(found)
        }
        Err(e) => {
            let message = format!("Error response from daemon: {e}");
            event(EventType::Warning, "Failed", &format!("Failed to pull image \"{wanted}\": {message}"));
            let now = SystemTime::now();
            images.delays.lock().unwrap_or_else(PoisonError::into_inner).next(&key, now, now);
            images.failures.lock().unwrap_or_else(PoisonError::into_inner).insert(key, message.clone());
            Err(Waiting::new("ErrImagePull", message))
        }
    }
}

impl Images {
    /// A pod is gone.
    pub fn release(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !key.starts_with(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_tag_or_are_refused() {
        assert_eq!(with_tag("nginx").unwrap(), "nginx:latest");
        assert_eq!(with_tag("localhost:5000/a").unwrap(), "localhost:5000/a:latest");
        assert_eq!(with_tag("nginx:1.29").unwrap(), "nginx:1.29");
        let said = with_tag("Nginx::x").unwrap_err();
        assert!(
            said.starts_with("Failed to apply default image tag \"Nginx::x\": couldn't parse image name"),
            "{said}"
        );
    }
}
