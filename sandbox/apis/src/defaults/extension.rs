//! What extends the API: webhooks and policies of admission, custom resource definitions, aggregated services.

use crate::tree::{Object, child, default, default_zero, each, made, with_spec, within};
use serde_json::{Value, json};

fn client_config(map: &mut Object) {
    if let Some(service) = child(map, "clientConfig").and_then(|config| child(config, "service")) {
        default(service, "port", 443);
    }
}

fn webhook(hook: &mut Object) {
    default(hook, "failurePolicy", "Fail");
    default(hook, "matchPolicy", "Equivalent");
    default(hook, "namespaceSelector", json!({}));
    default(hook, "objectSelector", json!({}));
    default(hook, "timeoutSeconds", 10);
    each(hook, "rules", |rule| default(rule, "scope", "*"));
    client_config(hook);
}

/// Validating webhooks.
pub fn validating_webhooks(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        each(map, "webhooks", webhook);
    }
}

/// Mutating webhooks.
pub fn mutating_webhooks(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        each(map, "webhooks", |hook| {
            webhook(hook);
            default(hook, "reinvocationPolicy", "Never");
        });
    }
}

fn match_resources(map: &mut Object) {
    default(map, "matchPolicy", "Equivalent");
    default(map, "namespaceSelector", json!({}));
    default(map, "objectSelector", json!({}));
    for field in ["resourceRules", "excludeResourceRules"] {
        each(map, field, |rule| default(rule, "scope", "*"));
    }
}

/// Validating admission policies.
pub fn admission_policy(object: &mut Value) {
    with_spec(object, |spec| {
        default(spec, "failurePolicy", "Fail");
        if let Some(constraints) = child(spec, "matchConstraints") {
            match_resources(constraints);
        }
    });
}

/// Their bindings.
pub fn admission_policy_binding(object: &mut Value) {
    with_spec(object, |spec| {
        if let Some(resources) = child(spec, "matchResources") {
            match_resources(resources);
        }
    });
}

/// Custom resource definitions.
pub fn custom_resource_definition(object: &mut Value) {
    with_spec(object, |spec| {
        if let Some(names) = made(spec, "names") {
            let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_string();
            if !kind.is_empty() {
                default_zero(names, "singular", kind.to_lowercase());
                default_zero(names, "listKind", format!("{kind}List"));
            }
        }
        default(spec, "conversion", json!({"strategy": "None"}));
        if let Some(hook) = child(spec, "conversion").and_then(|conversion| child(conversion, "webhook")) {
            client_config(hook);
        }
    });
}

/// Aggregated services.
pub fn api_service(object: &mut Value) {
    within(object, &["spec", "service"], |service| default(service, "port", 443));
}
