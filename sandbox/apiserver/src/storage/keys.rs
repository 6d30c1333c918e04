//! Where objects are in the store. The keys are those of a real cluster, so that `etcdctl get --prefix /registry` shows what the
//! textbooks show (kube-apiserver: `pkg/kubeapiserver/default_storage_factory_builder.go` and the registries' `rest.Storage`s).

use crate::resource::Resource;
use drydock_apis::Kind;

/// Where everything is.
pub const ROOT: &str = "/registry/";

/// Where the objects of a built-in kind are, with a slash at the end.
pub fn builtin_prefix(kind: &Kind) -> String {
    let (group, plural) = match &kind.stored_as {
        Some(stored) => (stored.group, kind.plural),
        None => (kind.group, kind.plural),
    };
    let name = match (group, plural) {
        ("", "services") => "services/specs",
        ("", "endpoints") => "services/endpoints",
        ("", "nodes") => "minions",
        ("", "replicationcontrollers") => "controllers",
        ("networking.k8s.io", "ingresses") => "ingress",
        // One storage for both groups' events.
        ("events.k8s.io", "events") => "events",
        ("apiextensions.k8s.io" | "apiregistration.k8s.io" | "metrics.k8s.io", _) => {
            return format!("{ROOT}{group}/{plural}/");
        }
        _ => plural,
    };
    format!("{ROOT}{name}/")
}

/// Where the objects of a custom resource are.
pub fn custom_prefix(group: &str, plural: &str) -> String {
    format!("{ROOT}{group}/{plural}/")
}

/// The key of an object.
pub fn of(resource: &Resource, namespace: &str, name: &str) -> String {
    if resource.namespaced {
        [&*resource.prefix, namespace, "/", name].concat()
    } else {
        [&*resource.prefix, name].concat()
    }
}

/// What the keys of all objects in a namespace (empty: in all) begin with.
pub fn prefix(resource: &Resource, namespace: &str) -> String {
    if resource.namespaced && !namespace.is_empty() {
        format!("{}{namespace}/", resource.prefix)
    } else {
        resource.prefix.clone()
    }
}
