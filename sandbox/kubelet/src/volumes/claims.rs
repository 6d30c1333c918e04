//! Volumes that a pod has by a claim: what PersistentVolume is bound to it, and where that is on this node.

use super::{Mounted, host_path};
use crate::{kubelet::Kubelet, pods::pod};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;

/// Finds the volume of a claim.
pub async fn find(kubelet: &Kubelet, pod: &Pod, name: &str, read_only: bool) -> Result<Mounted, String> {
    let namespace = pod::namespace(pod);
    let failed = |why: String| format!("error processing PVC {namespace}/{name}: {why}");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(kubelet.client.clone(), namespace);
    let claim = claims.get(name).await;
    let claim = claim.map_err(|e| failed(format!("failed to fetch PVC from API server: {e}")))?;
    if claim.metadata.deletion_timestamp.is_some() && claim.status.as_ref().is_none_or(|s| s.phase.is_none())
    {
        return Err(failed("PVC is being deleted".into()));
    }
    let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let volume = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|v| !v.is_empty() && bound);
    let volume = volume.ok_or_else(|| failed("PVC is not bound".into()))?;
    let volumes: Api<PersistentVolume> = Api::all(kubelet.client.clone());
    let found = volumes.get(&volume).await;
    let found = found.map_err(|e| failed(format!("failed to fetch PV {volume} from API server: {e}")))?;
    let spec = found.spec.unwrap_or_default();
    if let Some(source) = &spec.host_path {
        let path = host_path::check(&source.path, source.type_.as_deref().unwrap_or_default())?;
        return Ok(Mounted { path, read_only });
    }
    if let Some(source) = &spec.local {
        let path = host_path::check(&source.path, "Directory")?;
        return Ok(Mounted { path, read_only });
    }
    Err(format!(
        "volume {volume} is of a type that this node can't mount: hostPath and local are what there is"
    ))
}
