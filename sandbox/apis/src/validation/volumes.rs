//! Volumes of pods, and sources that persistent volumes have too.

use super::{
    descending_path, dns_label, dns_subdomain, indexed, no_backsteps, one_of, qualified_name, reasons,
};
use crate::quantity;
use crate::tree::{entries, get, has, int, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Fields of a volume that name what is in it, in the order in which upstream looks at them.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// `ValidateVolumes`; gives the volumes that are fine, for mounts to name.
pub fn volumes<'a>(
    errors: &mut ErrorList,
    spec: &'a Value,
    pod: &str,
    path: &Path,
) -> BTreeMap<&'a str, &'a Value> {
    let mut found = BTreeMap::new();
    let created: HashSet<String> = list(spec, "volumes")
        .iter()
        .filter(|one| has(one, "ephemeral") && !pod.is_empty())
        .map(|one| format!("{pod}-{}", text(one, "name")))
        .collect();
    for (path, volume) in indexed(spec, "volumes", path) {
        let mut own = ErrorList::default();
        let name = text(volume, "name");
        volume_source(&mut own, volume, pod, &path);
        if name.is_empty() {
            own.required(&path.child("name"), "");
        } else {
            dns_label(&mut own, (&path, "name"), name);
        }
        if found.contains_key(name) {
            own.duplicate(&path.child("name"), name);
        }
        if own.is_empty() {
            found.insert(name, volume);
        }
        errors.extend(own);
        let claim = text(get(volume, "persistentVolumeClaim"), "claimName");
        if created.contains(claim) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&path.child("persistentVolumeClaim.claimName"), claim, detail);
        }
    }
    found
}

fn volume_source(errors: &mut ErrorList, volume: &Value, pod: &str, path: &Path) {
    // A volume has two fields, and there are thirty kinds.
    let there = volume.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null());
    let mut given: Vec<usize> =
        there.filter_map(|(name, _)| SOURCES.iter().position(|source| source == name)).collect();
    given.sort_unstable();
    let mut given = given.into_iter().map(|at| &SOURCES[at]);
    let Some(first) = given.next() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    for more in given {
        errors.forbidden(&path.child(more), "may not specify more than 1 volume type");
    }
    let source = get(volume, first);
    let at = path.child(first);
    match *first {
        "emptyDir" => {
            if has(source, "sizeLimit") && quantity::is_negative(get(source, "sizeLimit")) {
                errors.forbidden(&at.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "downwardAPI" => {
            mode(errors, source, "defaultMode", &at);
            for item in list(source, "items") {
                downward_file(errors, item, &at);
            }
        }
        "projected" => projected(errors, source, &at),
        "ephemeral" => ephemeral(errors, source, pod, text(volume, "name"), path),
        _ => common_source(errors, first, source, &at),
    }
}

/// Sources that are in pods and in persistent volumes alike.
pub fn common_source(errors: &mut ErrorList, kind: &str, source: &Value, path: &Path) {
    let required = |errors: &mut ErrorList, fields: &[&str]| {
        for field in fields {
            if text(source, field).is_empty() {
                errors.required(&path.child(field), "");
            }
        }
    };
    match kind {
        "hostPath" => host_path(errors, source, path),
        "secret" => {
            required(errors, &["secretName"]);
            mode(errors, source, "defaultMode", path);
            keys_to_paths(errors, source, path);
        }
        "configMap" => {
            required(errors, &["name"]);
            mode(errors, source, "defaultMode", path);
            keys_to_paths(errors, source, path);
        }
        "persistentVolumeClaim" => required(errors, &["claimName"]),
        "nfs" => {
            required(errors, &["server", "path"]);
            if !text(source, "path").starts_with('/') {
                errors.invalid(&path.child("path"), text(source, "path"), "must be an absolute path");
            }
        }
        "gitRepo" => {
            required(errors, &["repository"]);
            descending_path(errors, text(source, "directory"), &path.child("directory"));
        }
        "iscsi" => {
            required(errors, &["targetPortal", "iqn"]);
            let lun = int(source, "lun");
            if !(0..=255).contains(&lun) {
                errors.invalid(&path.child("lun"), lun, "must be between 0 and 255, inclusive");
            }
        }
        "csi" => csi_driver_name(errors, text(source, "driver"), &path.child("driver")),
        "gcePersistentDisk" => required(errors, &["pdName"]),
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => required(errors, &["volumeID"]),
        "glusterfs" => required(errors, &["endpoints", "path"]),
        "flexVolume" => required(errors, &["driver"]),
        "azureFile" => required(errors, &["secretName", "shareName"]),
        "azureDisk" => required(errors, &["diskName", "diskURI"]),
        "vsphereVolume" => required(errors, &["volumePath"]),
        "image" => required(errors, &["reference"]),
        "local" => {
            required(errors, &["path"]);
            no_backsteps(errors, text(source, "path"), &path.child("path"));
        }
        _ => {}
    }
}

/// `ValidateCSIDriverName`.
pub fn csi_driver_name(errors: &mut ErrorList, name: &str, path: &Path) {
    if name.is_empty() {
        errors.required(path, "");
    }
    if name.len() > 63 {
        errors.too_long(path, 63);
    }
    reasons(errors, path, name, names::is_dns1123_subdomain(&name.to_lowercase()));
}

fn host_path(errors: &mut ErrorList, source: &Value, path: &Path) {
    if text(source, "path").is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    no_backsteps(errors, text(source, "path"), &path.child("path"));
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    one_of(errors, text(source, "type"), (path, "type"), TYPES, false);
}

fn mode(errors: &mut ErrorList, source: &Value, field: &str, path: &Path) {
    if let Some(mode) = get(source, field).as_i64().filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&path.child(field), mode, FILE_MODE);
    }
}

fn keys_to_paths(errors: &mut ErrorList, source: &Value, path: &Path) {
    for (path, item) in indexed(source, "items", path) {
        for field in ["key", "path"] {
            if text(item, field).is_empty() {
                errors.required(&path.child(field), "");
            }
        }
        non_reserved_path(errors, text(item, "path"), &path.child("path"));
        mode(errors, item, "mode", &path);
    }
}

fn non_reserved_path(errors: &mut ErrorList, value: &str, path: &Path) {
    descending_path(errors, value, path);
    if value.starts_with("..") && !value.starts_with("../") && value != ".." {
        errors.invalid(path, value, "must not start with '..'");
    }
}

/// A key of a file in a volume, as the source of a variable (`validateFileKeySelector`).
pub fn file_key(errors: &mut ErrorList, selector: &Value, path: &Path) {
    for field in ["volumeName", "key", "path"] {
        if text(selector, field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    non_reserved_path(errors, text(selector, "path"), &path.child("path"));
}

fn downward_file(errors: &mut ErrorList, item: &Value, path: &Path) {
    const FIELDS: &[&str] =
        &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    if text(item, "path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    non_reserved_path(errors, text(item, "path"), &path.child("path"));
    if has(item, "fieldRef") {
        field_selector(errors, get(item, "fieldRef"), FIELDS, &path.child("fieldRef"));
        if has(item, "resourceFieldRef") {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.invalid(path, "resource", detail);
        }
    } else if has(item, "resourceFieldRef") {
        resource_selector(errors, get(item, "resourceFieldRef"), true, &path.child("resourceFieldRef"));
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    mode(errors, item, "mode", path);
}

/// `validateObjectFieldSelector`: a field of the pod itself.
pub fn field_selector(errors: &mut ErrorList, selector: &Value, supported: &[&str], path: &Path) {
    let field = text(selector, "fieldPath");
    for name in ["apiVersion", "fieldPath"] {
        if text(selector, name).is_empty() {
            errors.required(&path.child(name), "");
            return;
        }
    }
    if text(selector, "apiVersion") != "v1" {
        let detail =
            format!("error converting fieldPath: unsupported pod version: {}", text(selector, "apiVersion"));
        errors.invalid(&path.child("fieldPath"), field, detail);
        return;
    }
    let subscript = field.strip_suffix("']").and_then(|head| head.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => qualified_name(errors, path, &key.to_lowercase()),
        Some(("metadata.labels", key)) => qualified_name(errors, path, key),
        Some((other, _)) => errors.invalid(path, other, "does not support subscript"),
        None if supported.contains(&field) => {}
        None if is_known_pod_field(field) => errors.not_supported(&path.child("fieldPath"), field, supported),
        None => {
            let detail = format!("error converting fieldPath: field label not supported: {field}");
            errors.invalid(&path.child("fieldPath"), field, detail);
        }
    }
}

/// Fields that `ConvertDownwardAPIFieldLabel` knows.
fn is_known_pod_field(field: &str) -> bool {
    matches!(
        field,
        "metadata.annotations"
            | "metadata.labels"
            | "metadata.name"
            | "metadata.namespace"
            | "metadata.uid"
            | "spec.nodeName"
            | "spec.restartPolicy"
            | "spec.serviceAccountName"
            | "spec.schedulerName"
            | "status.phase"
            | "status.hostIP"
            | "status.hostIPs"
            | "status.podIP"
            | "status.podIPs"
    )
}

/// `validateContainerResourceFieldSelector`: a resource of a container.
pub fn resource_selector(errors: &mut ErrorList, selector: &Value, in_volume: bool, path: &Path) {
    const RESOURCES: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = text(selector, "resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && text(selector, "containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.not_supported(&path.child("resource"), resource, RESOURCES);
    }
    let divisor = quantity::shown(get(selector, "divisor"));
    if divisor == "0" {
        return;
    }
    let bytes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let refused = match resource {
        "limits.cpu" | "requests.cpu" if !["1m", "1"].contains(&&divisor[..]) => {
            Some("only divisor's values 1m and 1 are supported with the cpu resource".to_string())
        }
        "limits.memory" | "requests.memory" if !bytes.contains(&&divisor[..]) => {
            Some(format!("only divisor's values {} are supported with the memory resource", bytes.join(", ")))
        }
        _ => None,
    };
    if let Some(detail) = refused {
        errors.invalid(&path.child("divisor"), resource, detail);
    }
}

fn projected(errors: &mut ErrorList, source: &Value, path: &Path) {
    mode(errors, source, "defaultMode", path);
    let mut paths = HashSet::new();
    for (at, one) in indexed(source, "sources", path) {
        let mut kinds = 0;
        for kind in ["secret", "configMap"] {
            let projection = get(one, kind);
            if !has(one, kind) {
                continue;
            }
            kinds += 1;
            let at = at.child(kind);
            if text(projection, "name").is_empty() {
                errors.required(&at.child("name"), "");
            }
            keys_to_paths(errors, projection, &at);
            for item in list(projection, "items") {
                let target = text(item, "path");
                if !target.is_empty() && !paths.insert(target) {
                    errors.invalid(path, text(projection, "name"), "conflicting duplicate paths");
                }
            }
        }
        if has(one, "downwardAPI") {
            kinds += 1;
            for item in list(get(one, "downwardAPI"), "items") {
                downward_file(errors, item, &at.child("downwardAPI"));
                let target = text(item, "path");
                if !target.is_empty() && !paths.insert(target) {
                    errors.invalid(path, target, "conflicting duplicate paths");
                }
            }
        }
        if has(one, "serviceAccountToken") {
            kinds += 1;
            token_projection(errors, get(one, "serviceAccountToken"), path, &at.child("serviceAccountToken"));
        }
        if kinds > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

fn token_projection(errors: &mut ErrorList, token: &Value, volume: &Path, path: &Path) {
    let seconds = int(token, "expirationSeconds");
    if seconds < 600 {
        let detail = "may not specify a duration less than 10 minutes";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    if seconds > 1 << 32 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    if text(token, "path").is_empty() {
        errors.required(&volume.child("path"), "");
    }
}

fn ephemeral(errors: &mut ErrorList, source: &Value, pod: &str, volume: &str, path: &Path) {
    let at = path.child("ephemeral.volumeClaimTemplate");
    if !has(source, "volumeClaimTemplate") {
        errors.required(&at, "");
        return;
    }
    let template = get(source, "volumeClaimTemplate");
    let metadata = get(template, "metadata");
    super::annotations(errors, get(metadata, "annotations"), &at.child("metadata.annotations"));
    super::labels(errors, get(metadata, "labels"), (&at.child("metadata"), "labels"));
    for (field, value) in entries(template, "metadata") {
        if !matches!(&field[..], "annotations" | "labels") && !crate::tree::is_zero(value) {
            errors.forbidden(&at.child("metadata").child(field), "cannot be set");
        }
    }
    super::storage::claim_spec(errors, get(template, "spec"), &at.child("spec"));
    if !pod.is_empty() && !volume.is_empty() {
        let claim = format!("{pod}-{volume}");
        for why in names::is_dns1123_subdomain(&claim) {
            errors.invalid(&path.child("name"), volume, format!("PVC name {claim:?}: {why}"));
        }
    }
}

/// A name that must be there and be a subdomain.
pub fn required_name(errors: &mut ErrorList, holder: &Value, path: &Path) {
    let name = text(holder, "name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        dns_subdomain(errors, (path, "name"), name);
    }
}
