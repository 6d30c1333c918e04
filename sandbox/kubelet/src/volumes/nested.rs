//! Places for what is mounted inside of a volume (`pkg/volume/util/nested_volumes.go`): a volume that containers may not write to can't
//! get them when a container starts.

use super::inside;
use crate::pods::pod;
use k8s_openapi::api::core::v1::Pod;
use std::{
    io,
    path::{Component, Path, PathBuf},
};

/// Makes directories in a volume for all that a container of the pod mounts below it.
pub fn make(pod: &Pod, volume: &str, path: &Path) -> io::Result<()> {
    for place in places(pod, volume) {
        inside::make(path, &place.to_string_lossy(), 0o755)?;
    }
    Ok(())
}

/// Relative to the volume, the outermost only.
fn places(pod: &Pod, volume: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for container in pod::all_containers(pod) {
        let mounts = container.volume_mounts.iter().flatten();
        let mut all: Vec<(PathBuf, bool)> =
            mounts.map(|mount| (clean(&mount.mount_path), mount.name == volume)).collect();
        all.sort();
        for (own, _) in all.iter().filter(|(_, is_own)| *is_own) {
            let mut last: Option<&Path> = None;
            for (other, _) in &all {
                let Ok(below) = other.strip_prefix(own) else { continue };
                if below.as_os_str().is_empty() || last.is_some_and(|last| other.starts_with(last)) {
                    continue;
                }
                last = Some(other);
                found.push(below.to_owned());
            }
        }
    }
    found
}

/// A path in a container without `.` and `..`; a relative one counts from the root.
fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => out.push(part),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mounts_within_mounts_have_a_place() {
        let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "volumeMounts": [
                mount("other", "/etc/podinfo/all"),
                mount("info", "/etc/podinfo/"),
                mount("deep", "/etc/podinfo/all/deeper"),
                mount("beside", "/etc/podinfo-not"),
            ]},
            {"name": "b", "volumeMounts": [mount("info", "/x/../info"), mount("other", "/info/b/c")]},
        ]}}))
        .unwrap();
        assert_eq!(places(&pod, "info"), [Path::new("all"), Path::new("b/c")]);
        assert_eq!(places(&pod, "other"), [Path::new("deeper")]);
        let volume = tempfile::tempdir().unwrap();
        make(&pod, "info", volume.path()).unwrap();
        assert!(volume.path().join("b/c").is_dir() && volume.path().join("all").is_dir());
    }
}
