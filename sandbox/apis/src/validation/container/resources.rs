//! What containers, and a pod as a whole, ask for and may use.

use super::super::{
    NEGATIVE, container_resource_name, dns_label, dns_subdomain, indexed, internal, is_huge_page,
    may_be_overcommitted, resource_name, resource_quantity,
};
use super::Pod;
use crate::quantity;
use crate::seen::Seen;
use crate::tree::{at, entries, get, has, list, text};
use drydock_apimachinery::field::{ErrorKind, ErrorList, Path};
use drydock_apimachinery::quantity::Quantity;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};

/// `ValidateResourceRequirements`.
pub fn resources(errors: &mut ErrorList, pod: &Pod<'_>, resources: &Value, path: &Path) {
    amounts(errors, resources, path, container_resource_name);
    claims(errors, pod, resources, path);
}

/// What a pod asks for as a whole (`validatePodResources`).
pub fn pod_resources(errors: &mut ErrorList, spec: &Value, path: &Path) {
    let given = get(spec, "resources");
    if given.is_null() {
        return;
    }
    let path = path.child("resources");
    amounts(errors, given, &path, |errors, name, path| {
        let before = errors.len();
        resource_name(errors, name, path);
        if errors.len() == before && !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
            errors.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
        }
    });
    if has(given, "claims") {
        errors.forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level");
    }
    for (name, asked) in quantity::requests_of_containers(|field| get(spec, field)) {
        let Some(whole) = Quantity::of(at(given, &["requests", &name])) else { continue };
        if asked > whole {
            let detail = format!("must be greater than or equal to aggregate container requests of {asked}");
            errors.invalid(&path.entry("requests", &name), whole.to_string(), detail);
        }
    }
    // The path is upstream's.
    for (path, container) in indexed(spec, "containers", &path) {
        for (name, limit) in entries(get(container, "resources"), "limits") {
            let (limit, whole) = (Quantity::of(limit), Quantity::of(at(given, &["limits", name])));
            if let (Some(limit), Some(whole)) = (limit, whole)
                && limit > whole
            {
                let detail = format!("must be less than or equal to pod limits of {whole}");
                errors.invalid(&path.key(name).child("limits"), limit.to_string(), detail);
            }
        }
    }
}

fn amounts(
    errors: &mut ErrorList,
    resources: &Value,
    path: &Path,
    check_name: impl Fn(&mut ErrorList, &str, &Path),
) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let mut ordinary = false;
    let mut huge = false;
    for (name, quantity) in entries(resources, "limits") {
        let path = limits.key(name);
        check_name(errors, name, &path);
        resource_quantity(errors, name, quantity, &path);
        ordinary |= matches!(&name[..], "cpu" | "memory");
        huge |= is_huge_page(name);
    }
    for (name, quantity) in entries(resources, "requests") {
        let path = requests.key(name);
        check_name(errors, name, &path);
        resource_quantity(errors, name, quantity, &path);
        ordinary |= matches!(&name[..], "cpu" | "memory");
        huge |= is_huge_page(name);
        let limit = at(resources, &["limits", name]);
        let (Some(request), Some(limit)) = (Quantity::of(quantity), Quantity::of(limit)) else {
            if !may_be_overcommitted(name) && limit.is_null() {
                errors.required(&limits, "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        if request != limit && !may_be_overcommitted(name) {
            let detail = format!("must be equal to {name} limit of {limit}");
            errors.invalid(&requests, request.to_string(), detail);
        } else if request > limit {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid(&requests, request.to_string(), detail);
        }
    }
    if huge && !ordinary {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

/// Which of the pod's devices a container has (`validateResourceClaimNames`).
fn claims(errors: &mut ErrorList, pod: &Pod<'_>, resources: &Value, path: &Path) {
    let of_pod: BTreeSet<&str> =
        list(pod.spec, "resourceClaims").iter().map(|one| text(one, "name")).collect();
    let mut seen = HashSet::new();
    for (path, claim) in indexed(resources, "claims", path) {
        let name = text(claim, "name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !seen.insert((name, text(claim, "request"))) {
            errors.duplicate(&path, name);
        } else if !of_pod.contains(name) {
            let all: Vec<&str> = of_pod.iter().copied().collect();
            let all = if all.is_empty() { " which is empty".into() } else { format!(": {}", all.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{all}");
            errors.push(ErrorKind::NotFound, &path, Some(name.into()), detail);
        }
    }
}

/// Devices of a pod (`validatePodResourceClaims`).
pub fn pod_claims(errors: &mut ErrorList, spec: &Value, path: &Path) {
    let mut seen = Seen::default();
    for (path, claim) in indexed(spec, "resourceClaims", path) {
        let name = text(claim, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        } else {
            dns_label(errors, (&path, "name"), name);
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"].map(|field| has(claim, field));
        if sources == [true, true] {
            let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
            errors.invalid(&path, internal::shown("PodResourceClaim", claim), detail);
        } else if sources == [false, false] {
            let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            errors.invalid(&path, internal::shown("PodResourceClaim", claim), detail);
        }
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            if has(claim, field) {
                dns_subdomain(errors, (&path, field), text(claim, field));
            }
        }
    }
}

/// Resources that the pod as a whole has.
pub fn overhead(errors: &mut ErrorList, spec: &Value, path: &Path) {
    for (name, quantity) in entries(spec, "overhead") {
        let path = path.entry("overhead", name);
        container_resource_name(errors, name, &path);
        if quantity::is_negative(quantity) {
            errors.invalid(&path, quantity::shown(quantity), NEGATIVE);
        }
    }
}
