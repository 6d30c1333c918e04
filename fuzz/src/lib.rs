//! What the targets share: sound objects to start from.

use serde_json::{Value, json};

/// A Deployment with what patches name.
pub fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}, "finalizers": ["a/b"]},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                {"name": "a", "image": "x", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "B"}]},
                {"name": "b", "image": "y"}], "volumes": [{"name": "v", "emptyDir": {}}]}}}})
}

/// A custom resource with every kind of field.
pub fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties":
                {"spec": {"type": "object", "default": {}, "properties": {
                    "size": {"type": "string", "enum": ["S", "M"], "default": "S"}, "count": {"type": "integer"},
                    "list": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 20, "items": {"type": "string"}},
                    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "either": {"x-kubernetes-int-or-string": true}}}}}}}]}})
}

/// An object of [`definition`].
pub fn widget() -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
        "spec": {"size": "M", "count": 3, "list": ["a", "b"], "open": {"x": {"y": 1}}, "either": "50%"}})
}
