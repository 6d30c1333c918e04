//! Parts of volumes: `subPath` of a mount (`pkg/volume/util/subpath`, and `makeMounts` of `pkg/kubelet/kubelet_pods.go` for the words).

use super::{Mounted, inside};

/// Where a part of a volume is on the node. It is made if it is not there, and it can't lead out of the volume.
pub fn prepare(volume: &Mounted, sub: &str, mount: &str, container: &str) -> Result<String, String> {
    let base = &volume.path;
    if sub.is_empty() {
        return Ok(base.to_string_lossy().into_owned());
    }
    if sub.starts_with('/') {
        return Err(format!("error SubPath `{sub}` must not be an absolute path"));
    }
    if sub.split('/').any(|part| part == "..") {
        return Err(format!("unable to provision SubPath `{sub}`: must not contain '..'"));
    }
    let (place, failed) = if base.join(sub).exists() {
        (inside::find(base, sub), "failed to prepare subPath")
    } else {
        let made = inside::mode(base).and_then(|mode| inside::make(base, sub, mode));
        (made, "failed to create subPath directory")
    };
    match place {
        Ok(place) => Ok(place.to_string_lossy().into_owned()),
        Err(error) => {
            // Not for the pod's owner: it says what there is on the node.
            tracing::error!(volume = mount, container, sub, %error, "{failed}");
            Err(format!("{failed} for volumeMount \"{mount}\" of container \"{container}\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_link_out_of_the_volume_is_refused_before_anything_is_made() {
        let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), volume.path().join("x")).unwrap();
        let mounted = Mounted { path: volume.path().to_owned(), read_only: false };
        let prepare = |sub: &str| prepare(&mounted, sub, "v", "c");
        assert_eq!(
            prepare("x/newdir").unwrap_err(),
            "failed to create subPath directory for volumeMount \"v\" of container \"c\""
        );
        assert!(!outside.path().join("newdir").exists());
        assert_eq!(
            prepare("x").unwrap_err(),
            "failed to prepare subPath for volumeMount \"v\" of container \"c\""
        );
        assert_eq!(
            prepare("a/../b").unwrap_err(),
            "unable to provision SubPath `a/../b`: must not contain '..'"
        );
        let made = prepare("a/b").unwrap();
        assert!(fs::metadata(&made).unwrap().is_dir() && made.ends_with("/a/b"));
        assert_eq!(prepare("a/b").unwrap(), made);
    }
}
