//! Whom the first process of a container runs as: a pod's security context, and what the image's `/etc/passwd` and `/etc/group` say of
//! that user. The runtimes of upstream work it out so before they make a container (containerd `pkg/oci/spec_opts.go`,
//! `WithAdditionalGIDs`), and tell the kubelet. The engine does as `docker run --user` and `--group-add`, which know no policy.

use crate::{docker::Image, volumes::inside};
use drydock_runtime::container::users;
use k8s_openapi::api::core::v1::{LinuxContainerUser, PodSecurityContext, SecurityContext};
use std::{io, path::Path};

/// Largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const MOST: u64 = 1 << 20;

/// Whom a container runs as.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Its ids.
    pub ids: LinuxContainerUser,
    /// What the engine, left to itself, would make of the same users and groups is something else.
    pub differs: bool,
}

impl Identity {
    /// Of a container of this image. The error is the engine's.
    pub fn of(of_pod: &PodSecurityContext, own: &SecurityContext, image: &Image) -> Result<Self, String> {
        resolve(of_pod, own, &image.config.user, &text(image, "etc/passwd"), &text(image, "etc/group"))
    }

    /// The user as the engine takes it. One whose group is named gets none from `/etc/group`.
    pub fn user(&self) -> String {
        format!("{}:{}", self.ids.uid, self.ids.gid)
    }

    /// The groups beside the user's own.
    pub fn groups(&self) -> Vec<String> {
        self.ids.supplemental_groups.iter().flatten().skip(1).map(ToString::to_string).collect()
    }
}

/// The groups that a pod wants for its processes.
pub fn wanted_groups(of_pod: &PodSecurityContext) -> Vec<String> {
    of_pod.supplemental_groups.iter().flatten().chain(&of_pod.fs_group).map(ToString::to_string).collect()
}

fn resolve(
    of_pod: &PodSecurityContext,
    own: &SecurityContext,
    of_image: &str,
    passwd: &str,
    group: &str,
) -> Result<Identity, String> {
    let (name, named_group) = of_image.split_once(':').unwrap_or((of_image, ""));
    let (name, named_group) = match own.run_as_user.or(of_pod.run_as_user) {
        Some(user) => (user.to_string(), String::new()),
        None => (name.to_owned(), named_group.to_owned()),
    };
    let named_group = own.run_as_group.or(of_pod.run_as_group).map_or(named_group, |group| group.to_string());
    let named = users::resolve(&format!("{name}:{named_group}"), &[], passwd, group)?;
    let is_strict = of_pod.supplemental_groups_policy.as_deref() == Some("Strict");
    let mut groups = wanted_groups(of_pod);
    if !is_strict {
        let of_user = users::resolve(&name, &[], passwd, group)?.groups;
        groups.extend(of_user.iter().skip(1).map(ToString::to_string));
    }
    let found = users::resolve(&format!("{}:{}", named.uid, named.gid), &groups, passwd, group)?;
    Ok(Identity {
        ids: LinuxContainerUser {
            uid: found.uid.into(),
            gid: found.gid.into(),
            supplemental_groups: Some(found.groups.into_iter().map(Into::into).collect()),
        },
        differs: is_strict || !named_group.is_empty(),
    })
}

/// A file of an image, as far as there is one.
fn text(image: &Image, path: &str) -> String {
    let data = &image.graph_driver.data;
    let layers = [data.upper_dir.as_str()].into_iter().chain(data.lower_dir.split(':'));
    for layer in layers.filter(|layer| !layer.is_empty()) {
        match inside::read(Path::new(layer), path, MOST) {
            Ok(text) => return text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Taken away by this layer, or no file.
            Err(_) => break,
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nalice:x:1000:\nsecret:x:50000:alice\n";

    fn of(context: Value, of_image: &str) -> (String, Vec<i64>, bool) {
        let of_pod: PodSecurityContext = serde_json::from_value(context).unwrap();
        let found = resolve(&of_pod, &SecurityContext::default(), of_image, PASSWD, GROUP).unwrap();
        (found.user(), found.ids.supplemental_groups.unwrap_or_default(), found.differs)
    }

    #[test]
    fn the_policy_decides_about_the_groups_of_the_image() {
        let context = |policy: Value| json!({ "runAsUser": 1000, "runAsGroup": 3000, "supplementalGroups": [4000], "supplementalGroupsPolicy": policy });
        let merged = ("1000:3000".to_owned(), vec![3000, 4000, 50000], true);
        assert_eq!(of(context(json!(null)), ""), merged);
        assert_eq!(of(context(json!("Merge")), ""), merged);
        assert_eq!(of(context(json!("Strict")), ""), ("1000:3000".to_owned(), vec![3000, 4000], true));
        let strict = json!({ "supplementalGroupsPolicy": "Strict", "fsGroup": 2000 });
        assert_eq!(of(strict, "alice"), ("1000:1000".to_owned(), vec![1000, 2000], true));
    }

    #[test]
    fn what_the_pod_does_not_say_the_image_says() {
        assert_eq!(of(json!({}), ""), ("0:0".to_owned(), vec![0], false));
        assert_eq!(of(json!({}), "alice"), ("1000:1000".to_owned(), vec![1000, 50000], false));
        assert_eq!(of(json!({}), "alice:root"), ("1000:0".to_owned(), vec![0, 50000], true));
        assert_eq!(
            of(json!({ "runAsGroup": 3000 }), "alice"),
            ("1000:3000".to_owned(), vec![3000, 50000], true)
        );
        assert_eq!(of(json!({ "runAsUser": 7 }), "alice:alice"), ("7:0".to_owned(), vec![0], false));
    }

    #[test]
    fn the_topmost_layer_with_a_file_has_it() {
        let (top, below) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(below.path().join("etc")).unwrap();
        std::fs::write(below.path().join("etc/passwd"), PASSWD).unwrap();
        let data = json!({ "UpperDir": top.path(), "LowerDir": below.path() });
        let image: Image =
            serde_json::from_value(json!({ "GraphDriver": { "Data": data, "Name": "overlay2" } })).unwrap();
        assert_eq!(text(&image, "etc/passwd"), PASSWD);
        assert_eq!(text(&image, "etc/group"), "");
        std::fs::create_dir_all(top.path().join("etc/passwd")).unwrap();
        assert_eq!(text(&image, "etc/passwd"), "");
    }
}
