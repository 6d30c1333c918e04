//! Names and labels of a pod's containers in the engine: dockershim's (`pkg/kubelet/dockershim/naming.go`), so that `docker ps` shows
//! what every book about Kubernetes on Docker shows, and a kubelet that starts anew knows its containers again.

use super::pod;
use k8s_openapi::api::core::v1::{Container, Pod};

/// Label: the container's name in the pod's specification; of the first container of a pod, `POD`.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Label: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: `podsandbox` or `container`.
pub const TYPE: &str = "io.kubernetes.docker.type";
/// Label: the pod's first container.
pub const SANDBOX_ID: &str = "io.kubernetes.sandbox.id";
/// Label: where the kubelet wants its log.
pub const LOG_PATH: &str = "io.kubernetes.container.logpath";
/// Label: a digest of the container's specification.
pub const HASH: &str = "annotation.io.kubernetes.container.hash";
/// Label: how often it was started before.
pub const RESTART_COUNT: &str = "annotation.io.kubernetes.container.restartCount";
/// Label: where it leaves a last word.
pub const TERMINATION_PATH: &str = "annotation.io.kubernetes.container.terminationMessagePath";
/// Label: when the log counts as a last word.
pub const TERMINATION_POLICY: &str = "annotation.io.kubernetes.container.terminationMessagePolicy";
/// Label: whom its first process runs as.
pub const IDENTITY: &str = "annotation.io.kubernetes.container.user";
/// Label: how long it may take to stop.
pub const GRACE_PERIOD: &str = "annotation.io.kubernetes.pod.terminationGracePeriod";

/// [`TYPE`] of a pod's first container.
pub const SANDBOX: &str = "podsandbox";
/// [`TYPE`] of the others.
pub const CONTAINER: &str = "container";
/// [`CONTAINER_NAME`] of a pod's first container.
pub const SANDBOX_NAME: &str = "POD";

/// `k8s_nginx_web-1_default_UID_0`.
pub fn container_name(pod: &Pod, container: &str, attempt: u32) -> String {
    format!("k8s_{container}_{}_{}_{}_{attempt}", pod::name(pod), pod::namespace(pod), pod::uid(pod))
}

/// A digest of what makes a container another one when it changes (`HashContainer`: since 1.35 name and image).
pub fn hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    // FNV-1a, as upstream's hash/fnv.
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_image_is_another_container() {
        let of = |image: &str| {
            hash(&Container { name: "a".into(), image: Some(image.into()), ..Container::default() })
        };
        assert_ne!(of("nginx:1"), of("nginx:2"));
        assert_eq!(of("nginx:1"), of("nginx:1"));
    }
}
