//! Volumes that are the files of an image: its layers one over the other, for reading. Runtimes do this where upstream's kubelet asks
//! them to (`toKubeContainerImageVolumes`); Docker has no such mounts.

use super::Mounted;
use crate::{
    docker::Image,
    images::{self, Waiting, Wanted},
    kubelet::Kubelet,
    paths,
    pods::pod,
};
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod, Volume};
use nix::mount::{MsFlags, mount};
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Where the engine has layers: short links to them, and a layer without files.
const LAYERS: &str = "/var/lib/docker/overlay2";

/// Where a volume of this kind will be, once a container wants it.
pub fn place(uid: &str, volume: &Volume) -> io::Result<Mounted> {
    let path = paths::volume(uid, "image", &volume.name);
    fs::create_dir_all(&path)?;
    Ok(Mounted { path, read_only: true })
}

/// Mounts the images that a container has as volumes, pulled as they say.
pub async fn mount_all(kubelet: &Kubelet, pod: &Pod, container: &Container) -> Result<(), Waiting> {
    let volumes = pod::spec(pod).volumes.iter().flatten();
    for volume in volumes {
        let used = container.volume_mounts.iter().flatten().any(|m| m.name == volume.name);
        let Some(source) = volume.image.as_ref().filter(|_| used) else { continue };
        let path = paths::volume(pod::uid(pod), "image", &volume.name);
        // What it leads to stays the same as long as the pod is there.
        if drydock_runtime::mounts::is_mount_point(&path) {
            continue;
        }
        let image = images::ensure(kubelet, &wanted(pod, source)).await?;
        lay(&image, Path::new(LAYERS), &path).map_err(|e| {
            let message = format!("failed to mount image volume {:?}: {e}", volume.name);
            Waiting::new("CreateContainerError", message)
        })?;
    }
    Ok(())
}

fn wanted<'a>(pod: &'a Pod, source: &'a ImageVolumeSource) -> Wanted<'a> {
    let image = source.reference.as_deref().unwrap_or_default();
    let policy = source.pull_policy.as_deref().filter(|p| !p.is_empty());
    Wanted { pod, container: None, image, policy: policy.unwrap_or_else(|| pod::policy_of_tag(image)) }
}

fn lay(image: &Image, layers: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let options = format!("lowerdir={},userxattr", lower(image, layers));
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("overlay"), path, Some("overlay"), flags, Some(options.as_str()))?)
}

/// The layers as overlayfs takes them, by their short names as far as they have some: mount(2) takes a page of text. One without files
/// is the lowest, since one layer alone is refused.
fn lower(image: &Image, layers: &Path) -> String {
    let links = fs::read_dir(layers.join("l")).into_iter().flatten().flatten();
    let short: HashMap<PathBuf, PathBuf> =
        links.filter_map(|link| Some((fs::canonicalize(link.path()).ok()?, link.path()))).collect();
    let data = &image.graph_driver.data;
    let dirs = [data.upper_dir.as_str()].into_iter().chain(data.lower_dir.split(':'));
    let dirs = dirs.filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let named = dirs.map(|dir| {
        let real = fs::canonicalize(&dir).ok();
        real.and_then(|real| short.get(&real).cloned()).unwrap_or(dir)
    });
    let all = named.chain([layers.join("drydock-empty/diff")]);
    all.map(|dir| dir.to_string_lossy().into_owned()).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn layers_go_by_their_short_names() {
        let temp = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(temp.path()).unwrap();
        for dir in ["l", "top", "below"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        std::os::unix::fs::symlink("../top", root.join("l/AB")).unwrap();
        let image = |data: serde_json::Value| -> Image {
            serde_json::from_value(json!({ "GraphDriver": { "Data": data, "Name": "overlay2" } })).unwrap()
        };
        let of = |data| lower(&image(data), &root);
        let (top, below, empty) = (root.join("top"), root.join("below"), root.join("drydock-empty/diff"));
        let both = of(json!({ "UpperDir": top, "LowerDir": format!("{}:/gone", below.display()) }));
        let link = root.join("l/AB");
        assert_eq!(both, format!("{}:{}:/gone:{}", link.display(), below.display(), empty.display()));
        assert_eq!(of(json!(null)), empty.to_string_lossy());
    }

    #[test]
    fn an_image_is_pulled_as_its_tag_says_if_nothing_else_does() {
        let pod = Pod::default();
        let policy = |reference: &str, policy: Option<&str>| {
            let source =
                ImageVolumeSource { reference: Some(reference.into()), pull_policy: policy.map(Into::into) };
            wanted(&pod, &source).policy.to_owned()
        };
        assert_eq!(policy("nginx", None), "Always");
        assert_eq!(policy("nginx:1", None), "IfNotPresent");
        assert_eq!(policy("nginx", Some("Never")), "Never");
    }
}
