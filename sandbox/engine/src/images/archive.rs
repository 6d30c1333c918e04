//! Images as tars: `docker import` and `docker load`.

use super::{blocking, emit};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::http::{Lines, Progress, VERSION, drain, lines};
use drydock_dockerfile::build::{Config, apply_changes};
use drydock_images::Digest;
use drydock_images::config::{ImageConfig, RunConfig};
use drydock_images::local::LoadEvent;
use drydock_registry::Platform;
use serde_json::json;
use std::io::Read;

/// Makes an image of one layer from a tar. `changes` are instructions of a Dockerfile; `comment` tells where it comes from.
pub async fn import(
    engine: &Engine,
    mut tar: impl Read + Send + 'static,
    platform: Option<Platform>,
    comment: String,
    changes: Vec<String>,
) -> Result<Digest> {
    let config = changed(&RunConfig::default(), &changes)?;
    let platform = platform.unwrap_or_else(Platform::host);
    let image = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: Some(platform.variant).filter(|variant| !variant.is_empty()),
        comment: Some(comment),
        config,
        docker_version: Some(VERSION.to_owned()),
        ..ImageConfig::default()
    };
    let id = blocking(engine, move |store| {
        let done = store.import(&mut tar, image, None);
        drain(&mut tar);
        done
    })
    .await?;
    emit(engine, "import", &id.to_string(), &id.to_string());
    Ok(id)
}

/// Takes in the images of a tar (those for a platform, if one is given), and tells which. `quiet`: without the layers.
pub async fn load(
    engine: &Engine,
    mut tar: impl Read + Send + 'static,
    platform: Option<Platform>,
    quiet: bool,
    out: &Lines,
) -> Result<()> {
    let out = out.clone();
    let loaded = blocking(engine, move |store| {
        let mut loaded = vec![];
        let wanted = |config: &ImageConfig| {
            platform.as_ref().is_none_or(|platform| super::platform::fits(config, platform))
        };
        let done = store.load(&mut tar, &wanted, &mut |event| {
            let line = match event {
                LoadEvent::Layer { diff_id, size } if !quiet => {
                    let id = diff_id.hex().get(..12).unwrap_or_default();
                    lines::transfer(id, "Loading layer", Progress { current: size, total: size })
                }
                LoadEvent::Message(text) => json!({ "stream": text }),
                LoadEvent::Image(id) => return loaded.push(id),
                LoadEvent::Layer { .. } => return,
            };
            // A client that is gone has broken the tar too.
            let _gone = out.send_blocking(&line);
        });
        drain(&mut tar);
        done?;
        Ok::<_, Error>(loaded)
    })
    .await?;
    for id in loaded {
        emit(engine, "load", &id.to_string(), &id.to_string());
    }
    Ok(())
}

/// A configuration with the instructions of `--change` applied.
pub fn changed(config: &RunConfig, changes: &[String]) -> Result<RunConfig> {
    if changes.is_empty() {
        return Ok(config.clone());
    }
    let mut built: Config =
        serde_json::to_value(config).and_then(serde_json::from_value).map_err(not_convertible)?;
    apply_changes(&mut built, changes).map_err(|error| Error::invalid(error.to_string()))?;
    from_builder(&built)
}

/// The builder's configuration in the store's form; lists that are empty are none, as Docker has them.
pub fn from_builder(config: &Config) -> Result<RunConfig> {
    let mut value = serde_json::to_value(config).map_err(not_convertible)?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, value| !value.is_null() && (name != "Env" || *value != json!([])));
    }
    serde_json::from_value(value).map_err(not_convertible)
}

fn not_convertible(error: serde_json::Error) -> Error {
    Error::internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_applied() {
        let changes = ["CMD [\"x\", \"y\"]".to_owned(), "ENV a=b".to_owned(), "WORKDIR /w".to_owned()];
        let config = changed(&RunConfig::default(), &changes).unwrap();
        assert_eq!(config.cmd, Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!((config.env, config.working_dir.as_str()), (Some(vec!["a=b".to_owned()]), "/w"));
        let wrong = changed(&RunConfig::default(), &["RUN true".to_owned()]).unwrap_err();
        assert!(wrong.message.contains("is not a valid change command"), "{wrong}");
    }
}
