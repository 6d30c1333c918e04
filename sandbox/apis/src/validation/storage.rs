//! Claims, volumes and classes of storage.

use super::{
    diff, dns_subdomain, immutable, immutable_struct, indexed, label_selector, one_of, qualified_name, same,
    scheduling, spec, volumes,
};
use crate::quantity;
use crate::tree::{at, entries, get, has, list, text, texts};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::quantity::Quantity;
use serde_json::{Value, json};

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

fn access_modes(errors: &mut ErrorList, holder: &Value, path: &Path) {
    let path = path.child("accessModes");
    let modes = texts(holder, "accessModes");
    for mode in &modes {
        one_of(errors, mode, &path, ACCESS_MODES, true);
    }
    let others = modes.iter().any(|mode| *mode != "ReadWriteOncePod" && ACCESS_MODES.contains(mode));
    if modes.contains(&"ReadWriteOncePod") && others {
        errors.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// `ValidatePersistentVolumeClaimSpec`.
pub fn claim_spec(errors: &mut ErrorList, claim: &Value, path: &Path) {
    if list(claim, "accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    label_selector(errors, get(claim, "selector"), &path.child("selector"));
    access_modes(errors, claim, path);
    let size = at(claim, &["resources", "requests", "storage"]);
    let size_path = path.entry("resources", "storage");
    match Quantity::of(size) {
        None => errors.required(&size_path, ""),
        Some(size) if size.is_zero() || size.is_negative() => {
            errors.invalid(&size_path, size.to_string(), super::NOT_POSITIVE);
        }
        Some(_) => {}
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let class = text(claim, field);
        if !class.is_empty() {
            dns_subdomain(errors, (path, field), class);
        }
    }
    one_of(errors, text(claim, "volumeMode"), (path, "volumeMode"), VOLUME_MODES, false);
    for field in ["dataSource", "dataSourceRef"] {
        if !has(claim, field) {
            continue;
        }
        let (source, path) = (get(claim, field), path.child(field));
        for name in ["name", "kind"] {
            if text(source, name).is_empty() {
                errors.required(&path.child(name), "");
            }
        }
        if text(source, "apiGroup").is_empty() && text(source, "kind") != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(&path, text(source, "kind"), detail);
        }
    }
}

/// A claim, new or changed.
pub fn validate_claim(claim: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    claim_spec(&mut errors, get(claim, "spec"), &spec());
    if let Some(old) = old {
        claim_update(&mut errors, claim, old);
    }
    errors
}

fn claim_update(errors: &mut ErrorList, claim: &Value, old: &Value) {
    let (new_spec, old_spec) = (get(claim, "spec"), get(old, "spec"));
    let mut munged = new_spec.clone();
    let Some(map) = munged.as_object_mut() else { return };
    // Who binds a claim names its volume, once.
    let mut set_back = vec!["volumeAttributesClassName"];
    if text(old_spec, "volumeName").is_empty() {
        set_back.push("volumeName");
    }
    if !has(old_spec, "storageClassName") {
        set_back.push("storageClassName");
    }
    for field in set_back {
        match old_spec.get(field) {
            Some(value) => map.insert(field.into(), value.clone()),
            None => map.remove(field),
        };
    }
    let (before, after) = (
        at(old_spec, &["resources", "requests", "storage"]).clone(),
        at(new_spec, &["resources", "requests", "storage"]).clone(),
    );
    if text(get(claim, "status"), "phase") == "Bound" || quantity::same(&before, &after) {
        crate::tree::within(&mut munged, &["resources", "requests"], |requests| {
            requests.insert("storage".into(), before.clone());
        });
    }
    if !same(&munged, old_spec) {
        let changes = diff::of("PersistentVolumeClaimSpec", old_spec, &munged);
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{changes}"
        );
        errors.forbidden(&spec(), detail);
    }
    let (Some(before), Some(after)) = (Quantity::of(&before), Quantity::of(&after)) else { return };
    let real = Quantity::of(at(old, &["status", "capacity", "storage"])).unwrap_or_default();
    if after < before && after <= real {
        let path = Path::new("spec.resources.requests.storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
}

/// A volume, new or changed.
pub fn validate_volume(volume: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(volume, "spec"), spec());
    if list(given, "accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    access_modes(&mut errors, given, &path);
    let capacity = path.child("capacity");
    if !has(given, "capacity") {
        errors.required(&capacity, "");
    }
    let amounts: Vec<_> = entries(given, "capacity").collect();
    if amounts.len() != 1 || amounts[0].0 != "storage" {
        errors.not_supported(&capacity, get(given, "capacity").clone(), &["storage"]);
    }
    for (name, amount) in amounts {
        let Some(amount) = Quantity::of(amount) else { continue };
        if amount.is_negative() || amount.is_zero() {
            errors.invalid(&capacity.key(name), amount.to_string(), super::NOT_POSITIVE);
        }
    }
    let policies = &["Delete", "Recycle", "Retain"];
    let policy = text(given, "persistentVolumeReclaimPolicy");
    one_of(&mut errors, policy, &path.child("persistentVolumeReclaimPolicy"), policies, false);
    one_of(&mut errors, text(given, "volumeMode"), &path.child("volumeMode"), VOLUME_MODES, false);
    let class = text(given, "storageClassName");
    if !class.is_empty() {
        dns_subdomain(&mut errors, &path.child("storageClassName"), class);
    }
    let affinity = get(given, "nodeAffinity");
    if has(given, "nodeAffinity") {
        let path = path.child("nodeAffinity.required");
        if has(affinity, "required") {
            scheduling::node_selector(&mut errors, get(affinity, "required"), &path);
        } else {
            errors.required(&path, "must specify required node constraints");
        }
    }
    source(&mut errors, given, &path);
    if let Some(old) = old {
        source_stays(&mut errors, given, get(old, "spec"));
    }
    errors
}

const VOLUME_SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

fn source(errors: &mut ErrorList, given: &Value, path: &Path) {
    let mut sources = VOLUME_SOURCES.iter().filter(|field| has(given, field));
    let Some(first) = sources.next() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    let at = path.child(first);
    volumes::common_source(errors, first, get(given, first), &at);
    match *first {
        "local" if !has(given, "nodeAffinity") => {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
        "hostPath"
            if text(get(given, first), "path") == "/"
                && text(given, "persistentVolumeReclaimPolicy") == "Recycle" =>
        {
            errors.forbidden(path, "may not be 'recycle' for a hostPath mount of '/'");
        }
        "csi" if text(get(given, first), "volumeHandle").is_empty() => {
            errors.required(&at.child("volumeHandle"), "");
        }
        _ => {}
    }
    for more in sources {
        errors.forbidden(&path.child(more), "may not specify more than 1 volume type");
    }
}

fn source_stays(errors: &mut ErrorList, new: &Value, old: &Value) {
    let only = |holder: &Value| -> Value {
        VOLUME_SOURCES
            .iter()
            .filter_map(|field| holder.get(*field).map(|value| ((*field).to_string(), value.clone())))
            .collect()
    };
    let (before, after) = (only(old), only(new));
    if !same(&before, &after) {
        let changes = diff::of("PersistentVolumeSource", &before, &after);
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
        errors.forbidden(&Path::new("spec.persistentvolumesource"), detail);
    }
    immutable(errors, get(new, "volumeMode"), get(old, "volumeMode"), &Path::new("volumeMode"));
    if has(old, "nodeAffinity") {
        let (new, old) = (get(new, "nodeAffinity"), get(old, "nodeAffinity"));
        immutable_struct(errors, "VolumeNodeAffinity", new, old, &Path::new("nodeAffinity"));
    }
}

/// A storage class, new or changed.
pub fn validate_class(class: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let root = Path::default();
    let provisioner = text(class, "provisioner");
    if provisioner.is_empty() {
        errors.required(&Path::new("provisioner"), provisioner);
    } else {
        qualified_name(&mut errors, &Path::new("provisioner"), &provisioner.to_lowercase());
    }
    let count = entries(class, "parameters").count();
    if count > 512 {
        errors.push(
            drydock_apimachinery::field::ErrorKind::TooLong,
            &Path::new("parameters"),
            None,
            "may not be more than 512 bytes",
        );
    }
    for (key, _) in entries(class, "parameters") {
        if key.is_empty() {
            errors.invalid(&Path::new("parameters"), key.clone(), "field can not be empty.");
        }
    }
    one_of(
        &mut errors,
        text(class, "reclaimPolicy"),
        &Path::new("reclaimPolicy"),
        &["Delete", "Retain"],
        false,
    );
    let modes = &["Immediate", "WaitForFirstConsumer"];
    one_of(&mut errors, text(class, "volumeBindingMode"), &Path::new("volumeBindingMode"), modes, true);
    for (path, term) in indexed(class, "allowedTopologies", &root) {
        for (path, expression) in indexed(term, "matchLabelExpressions", &path) {
            qualified_name(&mut errors, &path.child("key"), text(expression, "key"));
            if list(expression, "values").is_empty() {
                errors.required(&path.child("values"), "");
            }
        }
    }
    if let Some(old) = old {
        for field in ["parameters", "provisioner", "reclaimPolicy"] {
            if !same(get(class, field), get(old, field)) {
                errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
            }
        }
        let path = Path::new("volumeBindingMode");
        immutable(&mut errors, get(class, "volumeBindingMode"), get(old, "volumeBindingMode"), &path);
    }
    errors
}

/// A volume attributes class.
pub fn validate_attributes_class(class: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    volumes::csi_driver_name(&mut errors, text(class, "driverName"), &Path::new("driverName"));
    if let Some(old) = old {
        for field in ["driverName", "parameters"] {
            if !same(get(class, field), get(old, field)) {
                errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
            }
        }
    }
    errors
}

/// A volume attachment, whose specification never changes.
pub fn validate_attachment(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    volumes::csi_driver_name(&mut errors, text(given, "attacher"), &path.child("attacher"));
    if text(given, "nodeName").is_empty() {
        errors.required(&path.child("nodeName"), "");
    }
    let source = get(given, "source");
    if text(source, "persistentVolumeName").is_empty() && !has(source, "inlineVolumeSpec") {
        errors.required(
            &path.child("source"),
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        );
    }
    if let Some(old) = old
        && !same(given, get(old, "spec"))
    {
        errors.invalid(&path, json!(given), super::IMMUTABLE);
    }
    errors
}

/// A CSI driver.
pub fn validate_csi_driver(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    for (path, mode) in indexed(get(object, "spec"), "volumeLifecycleModes", &spec()) {
        one_of(&mut errors, mode.as_str().unwrap_or_default(), &path, &["Ephemeral", "Persistent"], true);
    }
    let policies = &["File", "None", "ReadWriteOnceWithFSType"];
    let given = get(object, "spec");
    one_of(&mut errors, text(given, "fsGroupPolicy"), &Path::new("spec.fsGroupPolicy"), policies, true);
    if let Some(old) = old {
        for field in ["attachRequired", "volumeLifecycleModes"] {
            immutable(&mut errors, get(given, field), get(get(old, "spec"), field), &spec().child(field));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(spec: Value) -> Value {
        let mut object = json!({"spec": spec});
        crate::defaults::core::claim(&mut object);
        object
    }

    #[test]
    fn claims() {
        let good =
            claim(json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}));
        assert!(validate_claim(&good, None).is_empty());
        let bad = claim(json!({"accessModes": ["RWO"]}));
        let texts: Vec<_> = validate_claim(&bad, None).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.accessModes: Unsupported value: \"RWO\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.resources[storage]: Required value",
            ]
        );
        let mut bound = good.clone();
        bound["spec"]["volumeName"] = json!("pv");
        assert!(validate_claim(&bound, Some(&good)).is_empty());
        let mut other = good.clone();
        other["spec"]["accessModes"] = json!(["ReadWriteMany"]);
        let text = validate_claim(&other, Some(&good)).aggregate();
        assert!(text.starts_with("spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"), "{text}");
        let mut larger = bound.clone();
        larger["status"]["phase"] = json!("Bound");
        larger["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
        assert!(validate_claim(&larger, Some(&bound)).is_empty());
    }

    #[test]
    fn volumes_and_classes() {
        let volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/d"}}});
        assert!(validate_volume(&volume, None).is_empty());
        let texts: Vec<_> = validate_volume(&json!({"spec": {"accessModes": ["ReadWriteOnce"]}}), None)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "spec.capacity: Required value",
                "spec.capacity: Unsupported value: null: supported values: \"storage\"",
                "spec: Required value: must specify a volume type"
            ]
        );
        let class = json!({"provisioner": "p", "volumeBindingMode": "Immediate", "reclaimPolicy": "Delete"});
        let mut changed = class.clone();
        changed["provisioner"] = json!("q");
        assert_eq!(
            validate_class(&changed, Some(&class)).aggregate(),
            "provisioner: Forbidden: updates to provisioner are forbidden."
        );
    }
}
