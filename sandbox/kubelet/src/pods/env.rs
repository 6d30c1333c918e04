//! A container's variables (`makeEnvironmentVariables`): from ConfigMaps and Secrets whole, then one by one in their order, each able
//! to use those before it, and those of Services below all of them.

use super::{
    expand::expand,
    fields::{self, Here},
    pod, service_env,
};
use crate::{kubelet::Kubelet, objects::ObjectError};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use std::collections::BTreeMap;

/// Variables in their order.
pub type Variables = Vec<(String, String)>;

/// Gathers them. The error is what the container's state says with `CreateContainerConfigError`.
pub async fn variables(
    kubelet: &Kubelet,
    pod: &Pod,
    container: &Container,
    here: &Here,
) -> Result<Variables, String> {
    let spec = pod::spec(pod);
    let namespace = pod::namespace(pod);
    let services = if pod::is_static(pod) {
        // They run before there is an API server to ask.
        BTreeMap::new()
    } else {
        kubelet.services.synced().await;
        let links = spec.enable_service_links != Some(false);
        service_env::variables(&kubelet.services.all(), namespace, links)
    };
    let mut result: Variables = Vec::new();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in whole(kubelet, pod, container).await? {
        set(&mut result, &mut known, key, value);
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(text), _) if !text.is_empty() => {
                let mut all = services.clone();
                all.extend(known.clone());
                Some(expand(text, &all))
            }
            (_, Some(_)) => from(kubelet, pod, container, variable, here).await?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut result, &mut known, variable.name.clone(), value);
        }
    }
    for (key, value) in services {
        if !known.contains_key(&key) {
            result.push((key, value));
        }
    }
    Ok(result)
}

fn set(result: &mut Variables, known: &mut BTreeMap<String, String>, key: String, value: String) {
    match result.iter_mut().find(|(k, _)| *k == key) {
        Some((_, old)) => old.clone_from(&value),
        None => result.push((key.clone(), value.clone())),
    }
    known.insert(key, value);
}

/// `envFrom`.
async fn whole(kubelet: &Kubelet, pod: &Pod, container: &Container) -> Result<Variables, String> {
    let (namespace, uid) = (pod::namespace(pod), pod::uid(pod));
    let mut all = Variables::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut add = |key: &str, value: String| all.push((format!("{prefix}{key}"), value));
        if let Some(reference) = &source.config_map_ref {
            match kubelet.objects.config_map(namespace, &reference.name, uid).await {
                Ok(map) => map.data.iter().flatten().for_each(|(k, v)| add(k, v.clone())),
                Err(e) => optional(reference.optional, e)?,
            }
        }
        if let Some(reference) = &source.secret_ref {
            match kubelet.objects.secret(namespace, &reference.name, uid).await {
                Ok(secret) => {
                    let data = secret.data.iter().flatten();
                    data.for_each(|(k, v)| add(k, String::from_utf8_lossy(&v.0).into_owned()));
                }
                Err(e) => optional(reference.optional, e)?,
            }
        }
    }
    Ok(all)
}

/// What is missing may be missing, if it says so.
fn optional(optional: Option<bool>, error: ObjectError) -> Result<(), String> {
    if optional == Some(true) && error.is_not_found() { Ok(()) } else { Err(error.to_string()) }
}

/// `valueFrom`; none if it is optional and missing.
async fn from(
    kubelet: &Kubelet,
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    here: &Here,
) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else { return Ok(None) };
    let (namespace, uid) = (pod::namespace(pod), pod::uid(pod));
    if let Some(field) = &source.field_ref {
        return fields::field(pod, &field.field_path, here).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let name = selector.container_name.as_deref().filter(|n| !n.is_empty());
        let other = name.and_then(|name| pod::container(pod, name));
        return fields::resource(other.as_ref().unwrap_or(container), selector, here).map(Some);
    }
    let (found, kind, reference_name, key, may_miss) = if let Some(r) = &source.config_map_key_ref {
        let map = kubelet.objects.config_map(namespace, &r.name, uid).await;
        let found = map.map(|m| m.data.as_ref().and_then(|d| d.get(&r.key)).cloned());
        (found, "ConfigMap", &r.name, &r.key, r.optional)
    } else if let Some(r) = &source.secret_key_ref {
        let secret = kubelet.objects.secret(namespace, &r.name, uid).await;
        let text = |v: &k8s_openapi::ByteString| String::from_utf8_lossy(&v.0).into_owned();
        let found = secret.map(|s| s.data.as_ref().and_then(|d| d.get(&r.key)).map(text));
        (found, "Secret", &r.name, &r.key, r.optional)
    } else {
        return Ok(None);
    };
    match found {
        Ok(Some(value)) => Ok(Some(value)),
        Ok(None) if may_miss == Some(true) => Ok(None),
        Ok(None) => Err(format!("couldn't find key {key} in {kind} {namespace}/{reference_name}")),
        Err(e) => optional(may_miss, e).map(|()| None),
    }
}
