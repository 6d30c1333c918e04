//! Volumes whose files the kubelet writes: ConfigMaps, Secrets, the pod's own fields, and all of these in one (projected).

use super::{
    atomic::{File, Files},
    tokens::Wish,
};
use crate::{
    kubelet::Kubelet,
    objects::ObjectError,
    pods::{fields, fields::Here, pod},
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{
        ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection, Volume,
    },
};
use std::collections::BTreeMap;

/// What a file's mode is if nothing else is said.
const MODE: i32 = 0o644;

/// (plugin, files) of a volume.
pub async fn of(
    kubelet: &Kubelet,
    pod: &Pod,
    volume: &Volume,
    here: &Here,
) -> Result<(&'static str, Files), String> {
    let (namespace, uid) = (pod::namespace(pod), pod::uid(pod));
    let mut files = Files::new();
    let plugin = if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(MODE);
        let found = kubelet.objects.config_map(namespace, &source.name, uid).await;
        if let Some(map) = optional(found, source.optional)? {
            keys(&data_of_map(&map), source.items.as_deref(), mode, source.optional, &mut files)?;
        }
        "configmap"
    } else if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let found = kubelet.objects.secret(namespace, name, uid).await;
        if let Some(secret) = optional(found, source.optional)? {
            keys(&data_of_secret(&secret), source.items.as_deref(), mode, source.optional, &mut files)?;
        }
        "secret"
    } else if let Some(source) = &volume.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        downward(pod, items, source.default_mode.unwrap_or(MODE), here, &mut files)?;
        "downward-api"
    } else if volume.projected.is_some() {
        projected(kubelet, pod, volume, here, &mut files).await?;
        "projected"
    } else {
        return Err("no volume plugin matched".into());
    };
    Ok((plugin, files))
}

async fn projected(
    kubelet: &Kubelet,
    pod: &Pod,
    volume: &Volume,
    here: &Here,
    files: &mut Files,
) -> Result<(), String> {
    let Some(source) = &volume.projected else { return Ok(()) };
    let (namespace, uid) = (pod::namespace(pod), pod::uid(pod));
    let mode = source.default_mode.unwrap_or(MODE);
    for source in source.sources.iter().flatten() {
        if let Some(s) = &source.config_map {
            let found = kubelet.objects.config_map(namespace, &s.name, uid).await;
            if let Some(map) = optional(found, s.optional)? {
                keys(&data_of_map(&map), s.items.as_deref(), mode, s.optional, files)?;
            }
        } else if let Some(s) = &source.secret {
            let found = kubelet.objects.secret(namespace, &s.name, uid).await;
            if let Some(secret) = optional(found, s.optional)? {
                keys(&data_of_secret(&secret), s.items.as_deref(), mode, s.optional, files)?;
            }
        } else if let Some(s) = &source.downward_api {
            downward(pod, s.items.as_deref().unwrap_or_default(), mode, here, files)?;
        } else if let Some(s) = &source.service_account_token {
            token(kubelet, pod, s, mode, files).await?;
        }
    }
    Ok(())
}

async fn token(
    kubelet: &Kubelet,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    mode: i32,
    files: &mut Files,
) -> Result<(), String> {
    let account = pod::spec(pod).service_account_name.clone().filter(|a| !a.is_empty());
    let wish = Wish {
        namespace: pod::namespace(pod).into(),
        account: account.unwrap_or_else(|| "default".into()),
        audience: source.audience.clone().unwrap_or_default(),
        seconds: source.expiration_seconds.unwrap_or(3600),
        pod: pod::name(pod).into(),
        uid: pod::uid(pod).into(),
    };
    let text = kubelet.tokens.get(&kubelet.client, &wish).await?;
    files.insert(source.path.clone(), file(text.into_bytes(), mode));
    Ok(())
}

/// What is missing may be missing, if the volume says so.
fn optional<T>(found: Result<T, ObjectError>, optional: Option<bool>) -> Result<Option<T>, String> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(e) if optional == Some(true) && e.is_not_found() => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

fn file(data: Vec<u8>, mode: i32) -> File {
    File { data, mode: u32::try_from(mode).unwrap_or(0) & 0o777 }
}

fn data_of_map(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v): (_, &ByteString)| (k.clone(), v.0.clone()));
    text.chain(binary).collect()
}

fn data_of_secret(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect()
}

/// Keys as files: all, or those that are listed.
fn keys(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: Option<bool>,
    files: &mut Files,
) -> Result<(), String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        files.extend(data.iter().map(|(key, value)| (key.clone(), file(value.clone(), mode))));
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                files.insert(item.path.clone(), file(value.clone(), item.mode.unwrap_or(mode)));
            }
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(())
}

fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    here: &Here,
    files: &mut Files,
) -> Result<(), String> {
    for item in items {
        let value = if let Some(reference) = &item.field_ref {
            fields::field(pod, &reference.field_path, here)?
        } else if let Some(selector) = &item.resource_field_ref {
            let name = selector.container_name.as_deref().unwrap_or_default();
            let container = pod::container(pod, name).ok_or_else(|| format!("container {name} not found"))?;
            fields::resource(&container, selector, here)?
        } else {
            continue;
        };
        files.insert(item.path.clone(), file(value.into_bytes(), item.mode.unwrap_or(mode)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_files() {
        let data: BTreeMap<String, Vec<u8>> =
            [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())].into();
        let mut files = Files::new();
        keys(&data, None, 0o400, None, &mut files).unwrap();
        assert_eq!(files["b"], File { data: b"2".to_vec(), mode: 0o400 });
        let item = |key: &str| KeyToPath { key: key.into(), path: "x/y".into(), mode: Some(0o600) };
        let mut files = Files::new();
        keys(&data, Some(&[item("a")]), 0o644, None, &mut files).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["x/y"]);
        let said = keys(&data, Some(&[item("c")]), 0o644, None, &mut files).unwrap_err();
        assert_eq!(said, "references non-existent config key: c");
        keys(&data, Some(&[item("c")]), 0o644, Some(true), &mut files).unwrap();
    }
}
