//! Images in the words of the API: a line of the list, `inspect`, `history`, what a removal answers.

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{ApiVersion, Json, ordered};
use drydock_images::Digest;
use drydock_images::config::RunConfig;
use drydock_images::local::{ChainId, Image, LocalStore, Removal};
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap};

/// One image of `GET /images/json`. What costs work to know is -1 unless somebody asked for it.
pub fn summary(image: &Image, version: ApiVersion, shared: Option<i64>, containers: i64) -> Value {
    let nameless = image.repo_tags.is_empty() && image.repo_digests.is_empty();
    // Before 1.43 an image without a name had one.
    let (tags, digests) = if nameless && !version.at_least(43) {
        (json!(["<none>:<none>"]), json!(["<none>@<none>"]))
    } else {
        (json!(image.repo_tags), json!(image.repo_digests))
    };
    let mut value = json!({
        "Containers": containers,
        "Created": image.created_unix(),
        "Id": image.id.to_string(),
        "Labels": image.config.config.labels,
        "ParentId": parent(image),
        "RepoDigests": digests,
        "RepoTags": tags,
        "SharedSize": shared.unwrap_or(-1),
        "Size": image.size,
    });
    if !version.at_least(44) {
        value["VirtualSize"] = json!(image.size);
    }
    value
}

/// Bytes of all layers that images have, each once.
pub fn layers_size(store: &LocalStore) -> u64 {
    let used: BTreeSet<_> =
        store.images().iter().flat_map(|image| chains(&image.config.rootfs.diff_ids)).collect();
    store.layers().iter().filter(|layer| used.contains(&layer.chain)).map(|layer| layer.size).sum()
}

/// Bytes of each image's layers that other images have too.
pub fn shared_sizes(store: &LocalStore) -> HashMap<Digest, i64> {
    let images = store.images();
    let sizes: HashMap<ChainId, u64> =
        store.layers().into_iter().map(|layer| (layer.chain, layer.size)).collect();
    let mut uses: HashMap<ChainId, usize> = HashMap::new();
    let chains: Vec<_> = images.iter().map(|image| chains(&image.config.rootfs.diff_ids)).collect();
    for chain in chains.iter().flatten() {
        *uses.entry(chain.clone()).or_default() += 1;
    }
    let shared = |chain: &&ChainId| uses.get(*chain).is_some_and(|uses| *uses > 1);
    let sum = |chains: &Vec<ChainId>| {
        let bytes: u64 = chains.iter().filter(shared).filter_map(|chain| sizes.get(chain)).sum();
        i64::try_from(bytes).unwrap_or(i64::MAX)
    };
    images.iter().zip(&chains).map(|(image, chains)| (image.id.clone(), sum(chains))).collect()
}

/// The chain id of each layer, lowest first.
pub fn chains(diff_ids: &[Digest]) -> Vec<ChainId> {
    let mut all: Vec<ChainId> = vec![];
    for diff_id in diff_ids {
        all.push(ChainId::of(all.last(), diff_id));
    }
    all
}

fn parent(image: &Image) -> String {
    image.shown_parent().map(ToString::to_string).unwrap_or_default()
}

/// `GET /images/{name}/json`.
pub fn inspect(store: &LocalStore, image: &Image, version: ApiVersion) -> Result<Json> {
    let config = &image.config;
    let last_comment = || config.history.last().and_then(|entry| entry.comment.clone());
    let comment = config.comment.clone().filter(|text| !text.is_empty()).or_else(last_comment);
    let created = config.created.clone().filter(|text| !text.is_empty());
    let old = !version.at_least(45);
    let container = || config.other.get("container").and_then(Value::as_str).unwrap_or("");
    let container_config = || config.other.get("container_config").cloned().unwrap_or_else(|| json!({}));
    Ok(ordered! {
        "Id": image.id.to_string(),
        "RepoTags": image.repo_tags,
        "RepoDigests": image.repo_digests,
        "Parent": parent(image),
        "Comment": comment.unwrap_or_default(),
        "Created"?: created.or_else(|| (!version.at_least(44)).then(|| Timestamp::ZERO.to_string())),
        "Container"?: old.then(container),
        "ContainerConfig"?: old.then(container_config),
        "DockerVersion": config.docker_version.as_deref().unwrap_or(""),
        "Author": config.author.as_deref().unwrap_or(""),
        "Config": run_config(&config.config, version)?,
        "Architecture": config.architecture,
        "Variant"?: config.variant.as_deref().filter(|text| !text.is_empty()),
        "Os": if config.os.is_empty() { "linux" } else { &config.os },
        "OsVersion"?: config.other.get("os.version"),
        "Size": image.size,
        "VirtualSize"?: (!version.at_least(44)).then_some(image.size),
        "GraphDriver": graph_driver(store, image)?,
        "RootFS": root_fs(image),
        "Metadata": ordered! {
            "LastTagTime": image.last_tag_time.as_deref().unwrap_or("0001-01-01T00:00:00Z"),
        },
    })
}

fn root_fs(image: &Image) -> Json {
    let layers: Vec<_> = image.config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
    ordered! { "Type": "layers", "Layers"?: Some(layers).filter(|layers| !layers.is_empty()), }
}

/// Where the layers lie on the node. An image without layers has nothing to tell.
fn graph_driver(store: &LocalStore, image: &Image) -> Result<Value> {
    let stack = store.stack(image.top.as_ref())?;
    let Some((top, below)) = stack.dirs.split_first() else {
        return Ok(json!({ "Data": null, "Name": "overlay2" }));
    };
    let beside = |name: &str| top.parent().map_or_else(|| top.clone(), |directory| directory.join(name));
    let mut data = Map::new();
    if !below.is_empty() {
        let lower: Vec<_> = below.iter().map(|directory| directory.to_string_lossy()).collect();
        data.insert("LowerDir".to_owned(), json!(lower.join(":")));
    }
    data.insert("MergedDir".to_owned(), json!(beside("merged")));
    data.insert("UpperDir".to_owned(), json!(top));
    data.insert("WorkDir".to_owned(), json!(beside("work")));
    Ok(json!({ "Data": data, "Name": "overlay2" }))
}

/// Fields of a configuration in the order of Go's structs: those of OCI, then Docker's own.
const FIELDS: [&str; 21] = [
    "Hostname",
    "Domainname",
    "User",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "ExposedPorts",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Env",
    "Entrypoint",
    "Cmd",
    "Image",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
    "Healthcheck",
    "OnBuild",
];

/// The configuration with the fields that Docker shows even when they are empty.
fn run_config(config: &RunConfig, version: ApiVersion) -> Result<Json> {
    let mut value = serde_json::to_value(config).map_err(|error| Error::internal(error.to_string()))?;
    let Some(fields) = value.as_object_mut() else { return Ok(Json::Null) };
    for name in ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"] {
        fields.entry(name).or_insert(Value::Null);
    }
    for name in ["User", "WorkingDir"] {
        fields.entry(name).or_insert_with(|| json!(""));
    }
    // What images never had, but old answers showed.
    if !version.at_least(50) {
        for name in ["AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"] {
            fields.insert(name.to_owned(), json!(false));
        }
        for name in ["Domainname", "Hostname", "Image"] {
            fields.insert(name.to_owned(), json!(""));
        }
    }
    Ok(Json::of(&value).arranged(&FIELDS))
}

/// What is gone, as `DELETE /images/{name}` and prune tell it.
pub fn removed(removals: &[Removal]) -> Value {
    let tell = |removal: &Removal| match removal {
        Removal::Untagged { name, .. } => json!({ "Untagged": name }),
        Removal::Image(id) => json!({ "Deleted": id.to_string() }),
        Removal::Layer(chain) => json!({ "Deleted": chain.digest().to_string() }),
    };
    removals.iter().map(tell).collect()
}
