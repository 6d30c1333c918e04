//! `docker commit`: an image of what a container has changed.

use super::{Container, model::Config, record::Record};
use crate::{
    clock::Timestamp,
    engine::Engine,
    error::{Error, Result},
};
use drydock_images::{
    config::{HistoryEntry, ImageConfig, RunConfig},
    local::{NewImage, Origin},
};
use std::sync::Arc;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who makes it.
    pub author: String,
    /// What is said.
    pub comment: String,
    /// The container is stopped meanwhile.
    pub pause: bool,
    /// How containers of the image run, if not as this one.
    pub config: Option<Config>,
    /// Lines of a Dockerfile that change it (`docker commit -c`).
    pub changes: Vec<String>,
}

/// Makes the image; answers its id. Blocks: call it from `spawn_blocking`.
pub fn commit(engine: &Arc<Engine>, container: &Container, options: &Options) -> Result<String> {
    let pause = options.pause && container.phase() == super::record::Phase::Running;
    // A container that ends meanwhile can't be stopped and needn't be.
    let freeze = |frozen| {
        if let Err(error) = engine.groups.freeze(&container.id, frozen) {
            tracing::debug!(
                container = container.id,
                frozen,
                error = error.message,
                "not stopped for a commit"
            );
        }
    };
    if pause {
        freeze(true);
    }
    let made = make(engine, container, options);
    if pause {
        freeze(false);
    }
    made
}

fn make(engine: &Arc<Engine>, container: &Container, options: &Options) -> Result<String> {
    let record = container.record().clone();
    let base: drydock_images::Digest =
        record.image.parse().map_err(|_| Error::internal(format!("invalid image id {}", record.image)))?;
    let parent = engine.images.get(&base).ok();
    // What the container holds is there even if its image was removed by force.
    let below = engine.images.held_layer(&container.id);
    let layer = engine.images.commit_layer(&engine.roots.parts(&container.id).upper, below.as_ref())?;
    let before = parent.as_ref().map(|image| ImageConfig::clone(&image.config)).unwrap_or_default();
    let step = HistoryEntry {
        created: Some(Timestamp::now().to_string()),
        created_by: Some(
            std::iter::once(record.path.as_str())
                .chain(record.args.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        author: some(&options.author),
        comment: some(&options.comment),
        empty_layer: false,
    };
    let empty = layer.is_empty();
    let mut config = before.child((!empty).then(|| layer.diff_id()), step);
    config.author = some(&options.author);
    config.comment = some(&options.comment);
    config.docker_version = Some(crate::http::VERSION.to_string());
    config.config = run_config(&record, options.config.as_ref(), &before.config);
    config.config = crate::images::changed(&config.config, &options.changes)?;
    let bytes = serde_json::to_vec(&config).map_err(|e| Error::internal(e.to_string()))?;
    let new = NewImage {
        config: &bytes,
        top: if empty { below.as_ref() } else { Some(&layer) },
        parent: parent.as_ref().map(|image| &image.id),
        origin: Origin::Built,
    };
    Ok(engine.images.create(&new)?.to_string())
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

/// The container's own configuration, with what the request changes.
fn run_config(record: &Record, changed: Option<&Config>, image: &RunConfig) -> RunConfig {
    let own = &record.config;
    let config = changed.unwrap_or(own);
    let or = |a: &str, b: &str| if a.is_empty() { b.to_string() } else { a.to_string() };
    let set = |set: &Option<super::model::Set>| {
        set.as_ref().map(|s| s.keys().map(|k| (k.clone(), serde_json::json!({}))).collect())
    };
    RunConfig {
        user: or(&config.user, &own.user),
        exposed_ports: set(&config.exposed_ports).or_else(|| set(&own.exposed_ports)),
        env: config.env.clone().or_else(|| own.env.clone()),
        entrypoint: config.entrypoint.clone().or_else(|| own.entrypoint.clone()),
        cmd: config.cmd.clone().or_else(|| own.cmd.clone()),
        healthcheck: image.healthcheck.clone(),
        volumes: set(&config.volumes).or_else(|| set(&own.volumes)),
        working_dir: or(&config.working_dir, &own.working_dir),
        on_build: config.on_build.clone(),
        labels: config.labels.clone().or_else(|| own.labels.clone()),
        stop_signal: some(&or(&config.stop_signal, &own.stop_signal)),
        stop_timeout: config.stop_timeout.or(own.stop_timeout),
        shell: config.shell.clone().or_else(|| own.shell.clone()),
        ..RunConfig::default()
    }
}
