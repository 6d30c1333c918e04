//! A container's variables (`makeEnvironmentVariables`): from ConfigMaps and Secrets whole, then one by one in their order, each able
//! to use those before it, and those of Services below all of them.

use super::{
    env_file,
    expand::expand,
    fields::{self, Here},
    pod, service_env,
};
use crate::{
    kubelet::Kubelet,
    objects::ObjectError,
    volumes::{self, Volumes},
};
use k8s_openapi::api::core::v1::{Container, EnvVar, FileKeySelector, Pod};
use std::collections::BTreeMap;

/// Variables in their order.
pub type Variables = Vec<(String, String)>;

/// Gathers them. The error is what the container's state says with `CreateContainerConfigError`.
pub async fn variables(
    kubelet: &Kubelet,
    pod: &Pod,
    container: &Container,
    here: &Here,
    mounted: &Volumes,
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
            (_, Some(source)) => match &source.file_key_ref {
                Some(reference) => of_file(pod, reference, mounted)?,
                None => from(kubelet, pod, container, variable, here).await?,
            },
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

/// `fileKeyRef`; none if the key is optional and missing. The file itself has to be there.
fn of_file(pod: &Pod, reference: &FileKeySelector, mounted: &Volumes) -> Result<Option<String>, String> {
    let (volume, key) = (&reference.volume_name, &reference.key);
    let found = mounted.get(volume);
    let found = found.ok_or_else(|| format!("cannot find the volume {volume:?} referenced by FileKeyRef"))?;
    let read = volumes::read(found, &reference.path).map_err(|e| e.to_string());
    let value = read.and_then(|text| env_file::value(&text, key).map_err(|e| e.to_string()));
    let value = value.map_err(|error| {
        tracing::error!(pod = pod::described(pod), error, "Failed to parse env file");
        "couldn't parse env file"
    })?;
    if value.is_empty() {
        let file = found.path.join(&reference.path);
        let missing = || format!("environment variable key {key:?} not found in file {file:?}");
        return if reference.optional == Some(true) { Ok(None) } else { Err(missing()) };
    }
    Ok(Some(value))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::Mounted;

    #[test]
    fn variables_come_from_files_of_volumes() {
        let (dir, pod) = (tempfile::tempdir().unwrap(), Pod::default());
        std::fs::write(dir.path().join("x.env"), "A='1'\n").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("out.env")).unwrap();
        let mounted: Volumes =
            [("v".to_owned(), Mounted { path: dir.path().into(), read_only: false })].into();
        let of = |volume: &str, path: &str, key: &str, optional: bool| {
            let (volume_name, path, key) = (volume.into(), path.into(), key.into());
            of_file(&pod, &FileKeySelector { volume_name, path, key, optional: Some(optional) }, &mounted)
        };
        assert_eq!(of("v", "x.env", "A", false), Ok(Some("1".into())));
        assert_eq!(of("v", "x.env", "B", true), Ok(None));
        let path = dir.path().join("x.env");
        assert_eq!(
            of("v", "x.env", "B", false),
            Err(format!("environment variable key \"B\" not found in file {path:?}"))
        );
        for path in ["none.env", "out.env", "."] {
            assert_eq!(of("v", path, "A", true), Err("couldn't parse env file".into()), "{path}");
        }
        let unknown = "cannot find the volume \"w\" referenced by FileKeyRef";
        assert_eq!(of("w", "x.env", "A", true), Err(unknown.into()));
    }
}
