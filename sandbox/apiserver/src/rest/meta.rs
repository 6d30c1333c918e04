//! `metadata`: what the server decides of it, and whether the rest is allowed (k8s.io/apiserver `pkg/registry/rest/meta.go`,
//! k8s.io/apimachinery `pkg/api/validation/objectmeta.go`).

use super::options::check_manager;
use crate::resource::{Resource, group_version};
use drydock_apimachinery::Status;
use drydock_apimachinery::field::{ErrorKind, ErrorList, Path};
use drydock_apimachinery::names;
use drydock_apimachinery::object::{self, at, int, list, map, map_mut, text};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// Of all annotations together.
const LARGEST_ANNOTATIONS: usize = 256 << 10;

/// Letters of generated names: no vowels and nothing that looks like another (`pkg/util/rand`).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Metadata of an object, made if it is not there.
pub fn of(tree: &mut Value) -> &mut Map<String, Value> {
    map_mut(tree, &["metadata"])
}

/// Now, as objects tell times.
pub fn now() -> String {
    seconds(Timestamp::now())
}

/// A time as objects tell times: whole seconds.
pub fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// What only the server may say.
pub fn wipe(tree: &mut Value) {
    let metadata = of(tree);
    for field in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
}

/// A new object's time and uid.
pub fn fill(tree: &mut Value) -> Result<(), Status> {
    let uid = uid()?;
    let metadata = of(tree);
    metadata.insert("creationTimestamp".into(), now().into());
    metadata.insert("uid".into(), uid.into());
    Ok(())
}

/// A random UUID (RFC 9562, version 4).
pub fn uid() -> Result<String, Status> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(Status::internal)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push(DIGITS[usize::from(byte >> 4)].into());
        out.push(DIGITS[usize::from(byte & 0xf)].into());
    }
    Ok(out)
}

/// A name that begins with `base` (`pkg/storage/names/generate.go`).
pub fn generate_name(base: &str) -> Result<String, Status> {
    let mut end = base.len().min(58);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = [0u8; 5];
    getrandom::fill(&mut bytes).map_err(Status::internal)?;
    let suffix = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
    Ok(base[..end].chars().chain(suffix).collect())
}

/// An object is where the request says.
pub fn set_namespace(tree: &mut Value, resource: &Resource, namespace: &str) -> Result<(), Status> {
    let wanted = if resource.namespaced { namespace } else { "" };
    let has = object::namespace(tree);
    if has == wanted {
        return Ok(());
    }
    if has.is_empty() {
        of(tree).insert("namespace".into(), wanted.into());
        return Ok(());
    }
    if wanted.is_empty() {
        of(tree).remove("namespace");
        return Ok(());
    }
    let why = "the namespace of the provided object does not match the namespace sent on the request";
    Err(Status::bad_request(why))
}

/// An object's name is that of the path.
pub fn check_name(tree: &Value, name: &str) -> Result<(), Status> {
    let has = object::name(tree);
    if has == name {
        return Ok(());
    }
    if has.is_empty() {
        let why =
            format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
        return Err(Status::bad_request(why));
    }
    let why = format!("the name of the object ({has}) does not match the name on the URL ({name})");
    Err(Status::bad_request(why))
}

/// Drops owners that are named twice; the warning, if there were some.
pub fn dedup_owners(tree: &mut Value, after_admission: bool) -> Option<String> {
    let owners = list(tree, &["metadata", "ownerReferences"]);
    let is_repeated = |&(index, owner): &(usize, &Value)| owners[..index].contains(owner);
    let (repeated, kept): (Vec<_>, Vec<_>) = owners.iter().enumerate().partition(is_repeated);
    if repeated.is_empty() {
        return None;
    }
    let twice: Vec<_> = repeated.into_iter().map(|(_, owner)| text(owner, &["uid"]).to_string()).collect();
    let kept: Vec<_> = kept.into_iter().map(|(_, owner)| owner.clone()).collect();
    of(tree).insert("ownerReferences".into(), kept.into());
    let when = if after_admission { " after mutating admission happens" } else { "" };
    Some(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, \
         and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        twice.join(", ")
    ))
}

/// What is wrong with a new object's metadata.
pub fn validate(tree: &Value, resource: &Resource) -> ErrorList {
    let mut errors = ErrorList::default();
    let path = Path::new("metadata");
    let generate = text(tree, &["metadata", "generateName"]);
    if !generate.is_empty() {
        for why in resource.validate_name(generate, true) {
            errors.invalid(&path.child("generateName"), generate, why);
        }
    }
    let name = object::name(tree);
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        for why in resource.validate_name(name, false) {
            errors.invalid(&path.child("name"), name, why);
        }
    }
    let namespace = object::namespace(tree);
    if !resource.namespaced {
        if !namespace.is_empty() {
            errors.forbidden(&path.child("namespace"), "not allowed on this type");
        }
    } else if namespace.is_empty() {
        errors.required(&path.child("namespace"), "");
    } else {
        for why in names::is_dns1123_label(namespace) {
            errors.invalid(&path.child("namespace"), namespace, why);
        }
    }
    validate_common(&mut errors, tree, &path);
    validate_finalizers(&mut errors, tree, resource, &path.child("finalizers"));
    errors
}

/// Groups of built-in kinds whose validation is that of the generic API server: it takes finalizers of any name.
const GENERIC_GROUPS: [&str; 3] =
    ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"];

fn validate_finalizers(errors: &mut ErrorList, tree: &Value, resource: &Resource, path: &Path) {
    let finalizers = list(tree, &["metadata", "finalizers"]);
    for name in finalizers.iter().filter_map(Value::as_str) {
        for why in names::is_qualified_name(name) {
            errors.invalid(path, name, why);
        }
    }
    let has = |name: &str| finalizers.iter().any(|one| one == name);
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(path, finalizers.to_vec(), why);
    }
    if resource.builtin_kind().is_none() || GENERIC_GROUPS.contains(&&*resource.group) {
        return;
    }
    // `validateKubeFinalizerName` of `pkg/apis/core/validation`.
    for (index, name) in finalizers.iter().filter_map(Value::as_str).enumerate() {
        if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&path.index(index), name, why);
        }
    }
}

fn validate_common(errors: &mut ErrorList, tree: &Value, path: &Path) {
    let generation = int(tree, &["metadata", "generation"]).unwrap_or(0);
    if generation < 0 {
        errors.invalid(&path.child("generation"), generation, "must be greater than or equal to 0");
    }
    for (key, value) in map(tree, &["metadata", "labels"]).into_iter().flatten() {
        for why in names::is_qualified_name(key) {
            errors.invalid(&path.child("labels"), key.as_str(), why);
        }
        let value = value.as_str().unwrap_or_default();
        for why in names::is_valid_label_value(value) {
            errors.invalid(&path.child("labels"), value, why);
        }
    }
    let mut size = 0;
    for (key, value) in map(tree, &["metadata", "annotations"]).into_iter().flatten() {
        for why in names::is_qualified_name(&key.to_lowercase()) {
            errors.invalid(&path.child("annotations"), key.as_str(), why);
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > LARGEST_ANNOTATIONS {
        errors.too_long(&path.child("annotations"), LARGEST_ANNOTATIONS);
    }
    validate_owners(errors, tree, &path.child("ownerReferences"));
    validate_managed_fields(errors, tree, &path.child("managedFields"));
}

fn validate_owners(errors: &mut ErrorList, tree: &Value, path: &Path) {
    let owners = list(tree, &["metadata", "ownerReferences"]);
    let mut first: Option<String> = None;
    for (index, owner) in owners.iter().enumerate() {
        let path_of = path.index(index);
        let api_version = text(owner, &["apiVersion"]);
        let (group, version) = group_version(api_version);
        if version.is_empty() {
            errors.invalid(&path_of.child("apiVersion"), api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            let value = text(owner, &[field]);
            if value.is_empty() {
                errors.invalid(&path_of.child(field), value, "must not be empty");
            }
        }
        let kind = text(owner, &["kind"]);
        if (group, version, kind) == ("", "v1", "Event") {
            errors.invalid(&path_of, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner["controller"] == true {
            let this = format!("{kind}/{}", text(owner, &["name"]));
            match &first {
                None => first = Some(this),
                Some(other) => errors.invalid(
                    path,
                    owners.to_vec(),
                    format!(
                        "Only one reference can have Controller set to true. \
                         Found \"true\" in references for {other} and {this}"
                    ),
                ),
            }
        }
    }
}

fn validate_managed_fields(errors: &mut ErrorList, tree: &Value, path: &Path) {
    for (index, entry) in list(tree, &["metadata", "managedFields"]).iter().enumerate() {
        let path = path.index(index);
        match text(entry, &["operation"]) {
            "Apply" | "Update" => {}
            other => {
                let supported = "supported values: \"Apply\", \"Update\"";
                let path = path.child("operation");
                errors.push(ErrorKind::NotSupported, &path, Some(other.into()), supported);
            }
        }
        let type_ = text(entry, &["fieldsType"]);
        if !type_.is_empty() && type_ != "FieldsV1" {
            errors.invalid(&path.child("fieldsType"), type_, "must be `FieldsV1`");
        }
        check_manager(errors, text(entry, &["manager"]), &path.child("manager"));
        if text(entry, &["subresource"]).len() > 256 {
            errors.too_long(&path.child("subresource"), 256);
        }
    }
}

/// What an update may not change is as it was: what a writer left out or may not say is taken from the old object
/// (`BeforeUpdate` of `pkg/registry/rest/update.go`).
pub fn keep(new: &mut Value, old: &Value) {
    let was = |field: &str| at(old, &["metadata", field]).cloned();
    let metadata = of(new);
    put(metadata, "generation", was("generation"));
    if metadata.get("uid").and_then(Value::as_str).is_none_or(str::is_empty) {
        put(metadata, "uid", was("uid"));
    }
    if let Some(time) = was("creationTimestamp").filter(|time| !time.is_null()) {
        metadata.insert("creationTimestamp".into(), time);
    }
    if object::is_deleting(old) {
        put(metadata, "deletionTimestamp", was("deletionTimestamp"));
    }
    if metadata.get("deletionGracePeriodSeconds").is_none_or(Value::is_null) {
        put(metadata, "deletionGracePeriodSeconds", was("deletionGracePeriodSeconds"));
    }
    metadata.remove("selfLink");
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    match value {
        Some(value) => map.insert(key.into(), value),
        None => map.remove(key),
    };
}

/// What is wrong with an update's metadata (`ValidateObjectMetaAccessorUpdate`).
pub fn validate_update(new: &Value, old: &Value, resource: &Resource) -> ErrorList {
    let mut errors = ErrorList::default();
    let path = Path::new("metadata");
    if object::is_deleting(old) {
        let had = list(old, &["metadata", "finalizers"]);
        let extra = list(new, &["metadata", "finalizers"]).iter().filter(|one| !had.contains(one));
        let mut extra: Vec<_> = extra.filter_map(Value::as_str).map(|one| format!("{one:?}")).collect();
        extra.sort();
        extra.dedup();
        if !extra.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, \
                 found new finalizers []string{{{}}}",
                extra.join(", ")
            );
            errors.forbidden(&path.child("finalizers"), why);
        }
    }
    let immutable =
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for field in immutable {
        let (was, is) = (at(old, &["metadata", field]), at(new, &["metadata", field]));
        if was != is {
            errors.invalid(&path.child(field), is.cloned().unwrap_or(Value::Null), "field is immutable");
        }
    }
    validate_common(&mut errors, new, &path);
    validate_finalizers(&mut errors, new, resource, &path.child("finalizers"));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn generated_names_fit() {
        let name = generate_name(&"a".repeat(80)).expect("random bytes");
        assert_eq!(name.len(), 63);
        let name = generate_name("web-").expect("random bytes");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert!(name[4..].bytes().all(|byte| ALPHABET.contains(&byte)), "{name}");
    }

    #[test]
    fn uids_are_random_uuids() {
        let uid = uid().expect("random bytes");
        assert_eq!((uid.len(), &uid[14..15]), (36, "4"));
        assert!("89ab".contains(&uid[19..20]), "{uid}");
    }

    fn resource(group: &str, plural: &str) -> std::sync::Arc<Resource> {
        let served = crate::resource::Registry::new().snapshot();
        served.find(group, "v1", plural).expect("it is built in").clone()
    }

    #[test]
    fn finalizers_of_built_in_kinds_are_known_or_qualified() {
        let finalizers = ["orphan", "foo", "a.b/c"];
        let tree = json!({"metadata": {"name": "a.io", "namespace": "n", "finalizers": finalizers}});
        let told = "metadata.finalizers[1]: Invalid value: \"foo\": name is neither a standard finalizer name nor is it fully \
                    qualified";
        let maps = resource("", "configmaps");
        assert_eq!(validate(&tree, &maps).aggregate(), told);
        assert_eq!(validate_update(&tree, &tree, &maps).aggregate(), told);
        let definitions = resource("apiextensions.k8s.io", "customresourcedefinitions");
        assert!(validate_update(&tree, &tree, &definitions).is_empty());
    }

    #[test]
    fn a_deleted_object_gets_no_new_finalizers() {
        let deleted = "2026-01-01T00:00:00Z";
        let old = json!({"metadata": {"name": "a", "deletionTimestamp": deleted, "finalizers": ["x/y"]}});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["x/y", "a.b/c"]);
        assert_eq!(
            validate_update(&new, &old, &resource("", "configmaps")).aggregate(),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
             found new finalizers []string{\"a.b/c\"}"
        );
    }

    #[test]
    fn times_have_no_fractions() {
        let time: Timestamp = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        assert_eq!(seconds(time), "2026-01-02T03:04:05Z");
    }
}
