//! Variables of a container and where their values come from.

use super::super::volumes::{field_selector, file_key, required_name, resource_selector};
use super::super::{dns_subdomain, indexed, reasons};
use crate::tree::{get, has, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use serde_json::Value;

/// `env` and `envFrom` of a container.
pub(super) fn environment(errors: &mut ErrorList, container: &Value, path: &Path) {
    for (path, variable) in indexed(container, "env", path) {
        let name = text(variable, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            reasons(errors, (&path, "name"), name, names::is_env_var_name(name));
        }
        if has(variable, "valueFrom") {
            value_from(errors, variable, &path.child("valueFrom"));
        }
    }
    for (path, source) in indexed(container, "envFrom", path) {
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            reasons(errors, (&path, "prefix"), prefix, names::is_env_var_name(prefix));
        }
        let mut sources = 0;
        for field in ["configMapRef", "secretRef"] {
            if has(source, field) {
                sources += 1;
                required_name(errors, get(source, field), &path.child(field));
            }
        }
        // Upstream names the list itself here.
        let path = path.to_string();
        let list_path = Path::new(path.rsplit_once('[').map_or("envFrom", |(head, _)| head));
        if sources == 0 {
            errors.invalid(&list_path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if sources > 1 {
            errors.invalid(&list_path, "", "may not have more than one field specified at a time");
        }
    }
}

fn value_from(errors: &mut ErrorList, variable: &Value, path: &Path) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let from = get(variable, "valueFrom");
    let mut sources = 0;
    if has(from, "fieldRef") {
        sources += 1;
        field_selector(errors, get(from, "fieldRef"), FIELDS, &path.child("fieldRef"));
    }
    if has(from, "resourceFieldRef") {
        sources += 1;
        resource_selector(errors, get(from, "resourceFieldRef"), false, &path.child("resourceFieldRef"));
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        if !has(from, field) {
            continue;
        }
        sources += 1;
        let (selector, path) = (get(from, field), path.child(field));
        dns_subdomain(errors, (&path, "name"), text(selector, "name"));
        let key = text(selector, "key");
        if key.is_empty() {
            errors.required(&path.child("key"), "");
        } else {
            reasons(errors, (&path, "key"), key, names::is_config_map_key(key));
        }
    }
    if has(from, "fileKeyRef") {
        sources += 1;
        file_key(errors, get(from, "fileKeyRef"), &path.child("fileKeyRef"));
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", detail);
    } else if !text(variable, "value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}
