//! Volumes in a container: as directories, as block devices.

use super::super::{descending_path, indexed, one_of};
use super::Pod;
use crate::seen::Seen;
use crate::tree::{flag, get, has, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use serde_json::Value;
use std::collections::HashMap;

/// `volumeMounts` of a container.
pub(super) fn mounts(errors: &mut ErrorList, pod: &Pod<'_>, container: &Value, path: &Path) {
    let devices: HashMap<&str, &str> = list(container, "volumeDevices")
        .iter()
        .map(|one| (text(one, "name"), text(one, "devicePath")))
        .collect();
    let mounts_path = path.child("volumeMounts");
    let mut seen = Seen::default();
    for (path, mount) in indexed(container, "volumeMounts", path) {
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !pod.volumes.contains_key(name) {
            errors.not_found(&path.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if !seen.insert(target) {
            errors.invalid(&path.child("mountPath"), target, "must be unique");
        }
        if devices.contains_key(name) {
            errors.invalid(&path.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.values().any(|device| *device == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&path.child("mountPath"), target, detail);
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        // Upstream tells of these without the number of the mount.
        descending_path(errors, sub, (&mounts_path, "subPath"));
        if !expression.is_empty() && !sub.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&path.child("subPathExpr"), expression, detail);
        }
        descending_path(errors, expression, (&mounts_path, "subPathExpr"));
        if has(mount, "mountPropagation") {
            let propagation = text(mount, "mountPropagation");
            let at = mounts_path.child("mountPropagation");
            one_of(errors, propagation, &at, &["Bidirectional", "HostToContainer", "None"], true);
            if propagation == "Bidirectional" && !flag(get(container, "securityContext"), "privileged") {
                let detail = "Bidirectional mount propagation is available only to privileged containers";
                errors.forbidden(&at, detail);
            }
        }
    }
}

/// `volumeDevices` of a container.
pub(super) fn devices(errors: &mut ErrorList, pod: &Pod<'_>, container: &Value, path: &Path) {
    let (mut names, mut paths) = (Seen::default(), Seen::default());
    for (path, device) in indexed(container, "volumeDevices", path) {
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !names.insert(name) {
            errors.invalid(&path.child("name"), name, "must be unique");
        }
        match pod.volumes.get(name) {
            None => errors.not_found(&path.child("name"), name),
            Some(volume) if !has(volume, "persistentVolumeClaim") && !has(volume, "ephemeral") => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&path.child("name"), name, detail);
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errors.required(&path.child("devicePath"), "");
        } else if target.split('/').any(|part| part == "..") {
            errors.invalid(&path.child("devicePath"), target, "can not contain backsteps ('..')");
        } else if !paths.insert(target) {
            errors.invalid(&path.child("devicePath"), target, "must be unique");
        }
    }
}
