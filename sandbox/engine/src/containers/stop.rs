//! Stop, kill, restart, pause, rename. None of them waits by polling: the end of a run tells itself.

use super::{
    Container, Live, names,
    record::Phase,
    signals, start,
    wait::{self, Condition},
};
use crate::{
    engine::Engine,
    error::{Error, Result},
};
use drydock_runtime::pidfd;
use std::{
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

const TERM: i32 = 15;
const KILL: i32 = 9;
/// How long a killed container may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// `docker stop`. `seconds`: until it is killed; negative: never.
pub async fn stop(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    signal: Option<&str>,
    seconds: Option<i64>,
) -> Result<()> {
    let (phase, own, timeout) = {
        let record = container.record();
        (record.state.phase, record.config.stop_signal.clone(), record.stop_timeout())
    };
    if !phase.running() {
        return Err(Error::not_modified());
    }
    let text = signal.filter(|s| !s.is_empty()).unwrap_or(&own);
    let signal = if text.is_empty() { TERM } else { signals::parse(text)? };
    end(engine, container, signal, seconds.unwrap_or(timeout)).await?;
    engine.container_event(&container.record(), "stop", &[]);
    Ok(())
}

/// Ends all runs because the engine ends, if containers shall not outlive it (moby `daemon.go`, `Shutdown`).
pub async fn stop_all(engine: &Arc<Engine>) {
    let mut ends = tokio::task::JoinSet::new();
    for container in engine.containers.all().into_iter().filter(|container| container.live().is_some()) {
        let engine = engine.clone();
        ends.spawn(async move { shut_down(&engine, &container).await });
    }
    ends.join_all().await;
}

/// Ends a run as `docker stop` does, but nobody meant this container: its restart policy holds again with the next engine.
pub async fn shut_down(engine: &Arc<Engine>, container: &Arc<Container>) {
    container.stopping.store(true, Ordering::Release);
    let (own, timeout) = {
        let record = container.record();
        (record.config.stop_signal.clone(), record.stop_timeout())
    };
    let signal = signals::parse(&own).unwrap_or(TERM);
    if let Some(live) = container.live()
        && let Err(error) = end_run(engine, container, &live, signal, timeout).await
    {
        tracing::warn!(container = container.id, error = error.message, "could not be stopped");
    }
}

/// Ends a run, whatever the restart policy says.
async fn end(engine: &Arc<Engine>, container: &Arc<Container>, signal: i32, seconds: i64) -> Result<()> {
    intend(container);
    match container.live() {
        Some(live) => end_run(engine, container, &live, signal, seconds).await,
        None => {
            give_up_restart(engine, container).await;
            Ok(())
        }
    }
}

async fn end_run(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    live: &Live,
    signal: i32,
    seconds: i64,
) -> Result<()> {
    let ended = wait::wait(container, Condition::NotRunning);
    send(engine, container, live, signal)?;
    resume_to_die(engine, container);
    tokio::pin!(ended);
    let patience = match u64::try_from(seconds) {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::from_secs(u64::from(u32::MAX)),
    };
    if tokio::time::timeout(patience, &mut ended).await.is_ok() {
        return Ok(());
    }
    send(engine, container, live, KILL)?;
    after_kill(ended).await
}

async fn after_kill(ended: impl Future<Output = wait::Answer>) -> Result<()> {
    tokio::time::timeout(AFTER_KILL, ended)
        .await
        .map(drop)
        .map_err(|_| Error::internal("tried to kill container, but did not receive an exit event"))
}

/// No restart policy holds from here on.
fn intend(container: &Container) {
    container.stopping.store(true, Ordering::Release);
    container.record().has_been_manually_stopped = true;
}

/// A container between two runs: there will be no next one.
async fn give_up_restart(engine: &Arc<Engine>, container: &Arc<Container>) {
    container.wake.notify_waiters();
    let _turn = container.turn.lock().await;
    let mut record = container.record();
    if record.state.phase == Phase::Restarting {
        record.state.phase = Phase::Exited;
        container.ends.send_modify(|e| e.running = false);
    }
    drop(record);
    engine.save_soon(container);
}

/// A frozen process dies when it thaws.
fn resume_to_die(engine: &Engine, container: &Container) {
    let mut record = container.record();
    if record.state.phase == Phase::Paused && engine.groups.freeze(&container.id, false).is_ok() {
        record.state.phase = Phase::Running;
    }
}

/// Sends a signal and tells it.
fn send(engine: &Engine, container: &Container, live: &Live, number: i32) -> Result<()> {
    signal(live, number)?;
    engine.container_event(&container.record(), "kill", &[("signal", number.to_string())]);
    Ok(())
}

/// Sends a signal to a container's first process; one that has just ended is no error.
fn signal(live: &Live, number: i32) -> Result<()> {
    match pidfd::signal(live.pidfd.as_fd(), number) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::internal(format!("cannot kill container: {e}")))
        }
        _ => Ok(()),
    }
}

/// `docker kill`. `name`: as the client called it.
pub async fn kill(engine: &Arc<Engine>, container: &Arc<Container>, name: &str, text: &str) -> Result<()> {
    let number = if text.is_empty() { KILL } else { signals::parse(text)? };
    let not_running = || {
        Error::conflict(format!("cannot kill container: {name}: container {} is not running", container.id))
    };
    let Some(live) = container.live() else {
        if container.phase() == Phase::Restarting {
            intend(container);
            give_up_restart(engine, container).await;
            return Ok(());
        }
        return Err(not_running());
    };
    let own = container.record().config.stop_signal.clone();
    let ends = own.is_empty() || number == KILL || signals::parse(&own).is_ok_and(|own| own == number);
    let ended = wait::wait(container, Condition::NextExit);
    if ends {
        intend(container);
    }
    send(engine, container, &live, number)?;
    if ends {
        resume_to_die(engine, container);
    }
    if number == KILL { after_kill(ended).await } else { Ok(()) }
}

/// Kills without an event of its own, for removal by force.
pub async fn kill_for_removal(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let ended = wait::wait(container, Condition::NotRunning);
    intend(container);
    let Some(live) = container.live() else {
        give_up_restart(engine, container).await;
        return Ok(());
    };
    send(engine, container, &live, KILL)?;
    resume_to_die(engine, container);
    after_kill(ended).await
}

/// `docker restart`.
pub async fn restart(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    signal: Option<&str>,
    seconds: Option<i64>,
) -> Result<()> {
    let _until_it_runs_again = container.restart.lock().await;
    // A container that removes itself stays for its next run.
    let auto_remove = std::mem::take(&mut container.record().host.auto_remove);
    let stopped = match stop(engine, container, signal, seconds).await {
        Err(e) if e.status == axum::http::StatusCode::NOT_MODIFIED => Ok(()),
        other => other,
    };
    let started = match stopped {
        Ok(()) => start::start(engine, container).await,
        failed => failed,
    };
    container.record().host.auto_remove = auto_remove;
    match started {
        Err(e) if e.status != axum::http::StatusCode::NOT_MODIFIED => Err(Error::new(
            e.status,
            format!("Cannot restart container {}: {}", container.record().name, e.message),
        )),
        _ => {
            engine.container_event(&container.record(), "restart", &[]);
            Ok(())
        }
    }
}

/// `docker pause`.
pub async fn pause(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let _turn = container.turn.lock().await;
    match container.phase() {
        Phase::Running => {}
        Phase::Paused => {
            return Err(Error::conflict(format!("Container {} is already paused", container.id)));
        }
        Phase::Restarting => {
            return Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            )));
        }
        _ => return Err(Error::conflict(format!("container {} is not running", container.id))),
    }
    let failed =
        |e: Error| Error::internal(format!("cannot pause container {}: {}", container.id, e.message));
    engine.groups.freeze(&container.id, true).map_err(failed)?;
    set_phase(engine, container, Phase::Paused, "pause");
    Ok(())
}

/// `docker unpause`.
pub async fn unpause(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let _turn = container.turn.lock().await;
    if container.phase() != Phase::Paused {
        return Err(Error::internal(format!("Container {} is not paused", container.id)));
    }
    let failed =
        |e: Error| Error::internal(format!("cannot unpause container {}: {}", container.id, e.message));
    engine.groups.freeze(&container.id, false).map_err(failed)?;
    set_phase(engine, container, Phase::Running, "unpause");
    Ok(())
}

fn set_phase(engine: &Arc<Engine>, container: &Arc<Container>, phase: Phase, action: &str) {
    let mut record = container.record();
    record.state.phase = phase;
    engine.container_event(&record, action, &[]);
    drop(record);
    engine.save_soon(container);
}

/// `docker rename`.
pub async fn rename(engine: &Arc<Engine>, container: &Arc<Container>, to: &str) -> Result<()> {
    let new = to.strip_prefix('/').unwrap_or(to);
    if new.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    let _turn = container.turn.lock().await;
    let old = container.record().name.clone();
    if old == new {
        return Err(Error::invalid("Renaming a container with the same name as its current name"));
    }
    names::check(new)
        .map_err(|e| Error::new(e.status, format!("Error when allocating new name: {}", e.message)))?;
    engine
        .containers
        .reserve(new, &container.id)
        .map_err(|e| Error::new(e.status, format!("Error when allocating new name: {}", e.message)))?;
    engine.containers.release(&old, &container.id);
    engine.networks.rename(&container.id, &old, new);
    {
        let mut record = container.record();
        record.name = new.to_string();
        for settings in record.networks.values_mut() {
            for name in settings.dns_names.iter_mut().flatten().filter(|n| **n == old) {
                *name = new.to_string();
            }
        }
        engine.container_event(&record, "rename", &[("oldName", format!("/{old}"))]);
    }
    // At once: others go by the name.
    container.unsaved.store(true, Ordering::Release);
    if !engine.save_now(container) {
        engine.save_soon(container);
    }
    Ok(())
}
