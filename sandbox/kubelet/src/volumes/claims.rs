//! Volumes that a pod has by a claim: what PersistentVolume is bound to it, and where that is on this node.

use super::{Failure, Mounted, Step, host_path};
use crate::{kubelet::Kubelet, pods::pod};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Pod};
use kube::Api;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Finds the volume of a claim: its name, and what it is.
pub async fn find(
    kubelet: &Kubelet,
    pod: &Pod,
    name: &str,
) -> Result<(String, PersistentVolumeSpec), String> {
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
    Ok((volume, found.spec.unwrap_or_default()))
}

/// How containers use a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Its files.
    Directory,
    /// The device itself.
    Device,
}

/// How a pod's containers use a volume. All must use it as what it is (`createVolumeSpec`).
pub fn usage(pod: &Pod, name: &str, spec: &PersistentVolumeSpec) -> Result<Usage, String> {
    let mode = spec.volume_mode.as_deref().unwrap_or("Filesystem");
    let containers = pod::all_containers(pod);
    let misused = |field| Err(format!("volume {name} has volumeMode {mode}, but is specified in {field}"));
    let mounted = containers.iter().flat_map(|c| c.volume_mounts.iter().flatten()).any(|m| m.name == name);
    if mounted && mode != "Filesystem" {
        return misused("volumeMounts");
    }
    let is_device = containers.iter().flat_map(|c| c.volume_devices.iter().flatten()).any(|d| d.name == name);
    match is_device {
        true if mode != "Block" => misused("volumeDevices"),
        true => Ok(Usage::Device),
        false => Ok(Usage::Directory),
    }
}

/// Where a volume is.
pub fn mount(spec: &PersistentVolumeSpec, usage: Usage, read_only: bool) -> Result<Mounted, Failure> {
    if usage == Usage::Device {
        let why = "block devices are not given to containers on this node";
        return Err(Failure { step: Step::Map, ..why.to_owned().into() });
    }
    let path = match (&spec.host_path, &spec.local) {
        (Some(source), _) => host_path::check(&source.path, source.type_.as_deref().unwrap_or_default())?,
        (None, Some(source)) => {
            local(&source.path).map_err(|why| Failure { step: Step::NewMounter, ..why.into() })?
        }
        (None, None) => {
            let why = "its type is none that this node can mount: hostPath and local are what there is";
            return Err(why.to_owned().into());
        }
    };
    Ok(Mounted { path, read_only })
}

/// A directory that somebody has made on this node (`pkg/volume/local/local.go`).
fn local(path: &str) -> Result<PathBuf, String> {
    let place = Path::new("/").join(path);
    match fs::metadata(&place) {
        Ok(found) if found.is_dir() => Ok(place),
        Ok(_) => Err("only directory and block device are supported".into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(format!("path {path:?} does not exist")),
        Err(e) => Err(e.to_string()),
    }
}
