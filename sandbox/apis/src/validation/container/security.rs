//! Security contexts of a pod and of a container.

use super::super::{descending_path, indexed, one_of};
use crate::tree::{flag, get, has, list, text};
use drydock_apimachinery::field::{At, ErrorList, Path};
use serde_json::Value;

/// A container's own security context.
pub(super) fn security(errors: &mut ErrorList, context: &Value, path: &Path) {
    if context.is_null() {
        return;
    }
    user_and_group(errors, context, path);
    if has(context, "procMount") {
        one_of(errors, text(context, "procMount"), (path, "procMount"), &["Default", "Unmasked"], true);
    }
    seccomp(errors, context, path);
    if get(context, "allowPrivilegeEscalation") == &Value::Bool(false) {
        if flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, context.clone(), detail);
        }
        if list(get(context, "capabilities"), "add").iter().any(|one| one == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, context.clone(), detail);
        }
    }
}

/// Numbers of users and groups of a security context.
pub fn user_and_group(errors: &mut ErrorList, context: &Value, path: &Path) {
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(errors, get(context, field), (path, field));
    }
    for (path, group) in indexed(context, "supplementalGroups", path) {
        id(errors, group, &path);
    }
}

fn id(errors: &mut ErrorList, id: &Value, at: impl At) {
    if let Some(id) = id.as_i64().filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errors.invalid(&at.path(), id, "must be between 0 and 2147483647, inclusive");
    }
}

/// `validateSeccompProfileField`.
pub fn seccomp(errors: &mut ErrorList, context: &Value, path: &Path) {
    if !has(context, "seccompProfile") {
        return;
    }
    let (profile, path) = (get(context, "seccompProfile"), path.child("seccompProfile"));
    let kind = text(profile, "type");
    match kind {
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        other => {
            let supported = &["Localhost", "RuntimeDefault", "Unconfined"];
            errors.not_supported(&path.child("type"), other, supported);
        }
    }
    let at = path.child("localhostProfile");
    match (kind, get(profile, "localhostProfile").as_str()) {
        ("Localhost", None) => errors.required(&at, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(local)) => descending_path(errors, local, &at),
        (_, Some(_)) => {
            errors.invalid(&at, profile.clone(), "can only be set when seccomp type is Localhost")
        }
        _ => {}
    }
}
