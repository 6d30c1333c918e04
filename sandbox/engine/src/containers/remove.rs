//! `docker rm`: out of the index and out of the way at once; deleting the files follows in the background, where nobody waits
//! for it. On a full disk the files go where they are, while somebody waits: there is no room for a rename.

use super::{Container, record::Phase, sources, stop};
use crate::{
    engine::Engine,
    error::{Error, Result, is_full},
};
use drydock_go::io_text;
use drydock_runtime::clear;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Also if it runs.
    pub force: bool,
    /// With its anonymous volumes.
    pub volumes: bool,
}

impl Options {
    /// `docker run --rm`
    pub fn auto() -> Self {
        Self { force: true, volumes: true }
    }
}

/// Removes a container.
pub async fn remove(engine: &Arc<Engine>, container: &Arc<Container>, options: Options) -> Result<()> {
    let (phase, name) = {
        let record = container.record();
        (record.state.phase, record.name.clone())
    };
    let refuse = |why: &str| Err(Error::conflict(format!("cannot remove container \"{name}\": {why}")));
    match phase {
        Phase::Removing => {
            return Err(Error::conflict(format!("removal of container {name} is already in progress")));
        }
        Phase::Running if !options.force => {
            return refuse("container is running: stop the container before removing or force remove");
        }
        Phase::Paused if !options.force => return refuse("container is paused and must be unpaused first"),
        Phase::Restarting if !options.force => {
            return refuse("container is restarting: stop the container before removing or force remove");
        }
        Phase::Running | Phase::Paused | Phase::Restarting => {
            stop::kill_for_removal(engine, container).await?
        }
        _ => {}
    }
    let _turn = loop {
        let turn = container.turn.lock().await;
        {
            let mut record = container.record();
            match record.state.phase {
                // With `--rm` its own end was faster.
                Phase::Removing => return Ok(()),
                // Somebody has started it meanwhile.
                Phase::Running | Phase::Paused if options.force => {}
                Phase::Running | Phase::Paused => {
                    drop(record);
                    return refuse(
                        "container is running: stop the container before removing or force remove",
                    );
                }
                _ => {
                    record.state.phase = Phase::Removing;
                    break turn;
                }
            }
        }
        drop(turn);
        stop::kill_for_removal(engine, container).await?;
    };
    let removed = discard(engine, container).await;
    if let Err(error) = removed {
        container.record().state.phase = Phase::Dead;
        let message = format!("unable to remove filesystem for {}: {}", container.id, error.message);
        container.ends.send_modify(|e| e.error.clone_from(&message));
        return Err(Error::internal(message));
    }
    forget(engine, container, options.volumes);
    Ok(())
}

/// Takes the files out of the way. After this no engine knows the container any more.
async fn discard(engine: &Arc<Engine>, container: &Container) -> Result<()> {
    let mut left = sources::release_images(engine, &container.record().clone());
    let root = engine.roots.dir(&container.id);
    engine.roots.detach(&container.id);
    // The larger one first: what it held makes room for what follows.
    let root = out_of_the_way(root, |root| engine.roots.doomed(root)).await?;
    let dir =
        out_of_the_way(engine.containers.dir(&container.id), |dir| dir.with_extension("removing")).await?;
    if let Err(error) = engine.images.release(&container.id) {
        tracing::warn!(container = container.id, %error, "its layers are still held");
    }
    left.extend([dir, root]);
    tokio::task::spawn_blocking(move || {
        for path in left {
            if let Err(error) = clear::tree(&path) {
                tracing::warn!(path = %path.display(), %error, "files of a removed container stay");
            }
        }
    });
    Ok(())
}

/// Renames a directory, or deletes it where it is if the disk is full. Tells where it is now.
async fn out_of_the_way(path: PathBuf, to: impl FnOnce(&Path) -> PathBuf) -> Result<PathBuf> {
    let doomed = to(&path);
    let failed = |error: &io::Error| {
        Error::internal(format!("rename {} {}: {}", path.display(), doomed.display(), io_text(error)))
    };
    match fs::rename(&path, &doomed) {
        Err(error) if is_full(&error) => {
            let here = path.clone();
            crate::engine::blocking(move || {
                clear::tree(&here)
                    .map_err(|e| Error::internal(format!("unlinkat {}: {}", here.display(), io_text(&e))))
            })
            .await?;
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    Ok(doomed)
}

fn forget(engine: &Arc<Engine>, container: &Arc<Container>, volumes: bool) {
    engine.execs.forget_container(engine, &container.id);
    engine.containers.departed.add(container.clone());
    engine.containers.forget(container);
    engine.containers.spare.forget(&container.id);
    container.wake.notify_waiters();
    let record = container.record().clone();
    if volumes {
        let anonymous: Vec<String> =
            record.mount_points.iter().filter(|m| m.anonymous).map(|m| m.point.name.clone()).collect();
        for name in anonymous {
            if engine.containers.using_volume(&name).is_empty() && engine.volumes.remove(&name, &[]).is_ok() {
                let attributes = [("driver".to_string(), "local".to_string())];
                engine.events.emit("volume", "destroy", &name, attributes.into());
            }
        }
    }
    engine.container_event(&record, "destroy", &[]);
    container.ends.send_modify(|e| (e.removed, e.running) = (true, false));
}

/// Deletes what removals that were cut short have left.
pub fn sweep(engine: &Arc<Engine>) {
    let engine = engine.clone();
    tokio::task::spawn_blocking(move || {
        for root in [engine.containers.root().to_path_buf(), engine.root.join("overlay2")] {
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let id = name.strip_suffix(".removing").or_else(|| name.strip_suffix("-removing"));
                if id.is_some_and(|id| id.len() == 64) {
                    let _best_effort = clear::tree(&entry.path());
                }
            }
        }
    });
}
