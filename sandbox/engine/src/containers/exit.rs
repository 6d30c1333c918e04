//! The end of a run, and what follows from it: the state, the events in Docker's order, a restart by the policy or removal. And
//! what a new engine does about containers that an earlier one has left.

use super::{
    Container, Live,
    child::Ends,
    files, health, net, oom,
    output::{Sink, pump_out},
    record::{Phase, Record},
    remove, sources, start,
    streams::{Input, Io, Stream},
};
use crate::{
    clock::Timestamp,
    engine::Engine,
    init::{Process, Survivor},
};
use drydock_runtime::container::messages::EngineToInit;
use std::{
    collections::HashMap,
    fs,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{RwLock, oneshot},
    task::JoinSet,
};

/// First pause before a restart; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run that was longer starts the pauses from the beginning.
const STABLE: Duration = Duration::from_secs(10);
/// How long output may still come after the end (from a process that has left the container's first one behind).
const DRAIN: Duration = Duration::from_secs(2);

/// Follows a run to its end.
pub fn watch(engine: &Arc<Engine>, container: &Arc<Container>, exit: oneshot::Receiver<i32>, ends: Ends) {
    let mut pumps = JoinSet::new();
    let writing = Arc::new(RwLock::new(()));
    let pairs = [(ends.stdout, Stream::Out), (ends.stderr, Stream::Err), (ends.terminal, Stream::Out)];
    for (io, stream) in pairs {
        if let Some(io) = io {
            pumps.spawn(pump_out(Sink::new(engine, container, stream, &writing), io, stream));
        }
    }
    let killed = oom::watch(engine, container);
    let (engine, container) = (engine.clone(), container.clone());
    tokio::spawn(async move {
        let Ok(status) = exit.await else { return };
        if let Some(killed) = killed {
            killed.abort();
        }
        let _late = tokio::time::timeout(DRAIN, async { while pumps.join_next().await.is_some() {} }).await;
        pumps.abort_all();
        // A thread that writes can't be stopped, and must not write where nothing is any more.
        let _all_written = writing.write().await;
        ended(&engine, &container, status).await;
    });
}

/// For an engine that takes a container over: whoever else gets its log is connected to with the next line.
fn reopen_log(container: &Arc<Container>) {
    let container = container.clone();
    tokio::spawn(async move {
        let record = container.record().clone();
        if let Err(error) = container.log.open(&record, true).await {
            tracing::warn!(container = record.short(), %error, "its log driver does not begin again");
        }
    });
}

/// A run has ended.
async fn ended(engine: &Arc<Engine>, container: &Arc<Container>, status: i32) {
    let turn = container.turn.lock().await;
    engine.init.tell(&EngineToInit::Forget { key: container.id.clone() }, &[]);
    health::stop(container);
    engine.execs.container_ended(engine, &container.id);
    oom::at_the_end(engine, container);
    // With a pid namespace of its own all its processes end with the first one.
    let shares_pids = !container.record().host.pid_mode.is_empty();
    if shares_pids {
        engine.groups.kill(&container.id);
    }
    container.set_live(None);
    container.forget_ends();
    let next = {
        let mut record = container.record();
        let now = Timestamp::now();
        let lasted = now.since(record.state.started_at);
        let next = decide(&record, status, container.stopping.load(Ordering::Acquire), lasted);
        record.state.pid = 0;
        record.state.exit_code = status;
        record.state.finished_at = now;
        record.state.phase = if next.is_some() { Phase::Restarting } else { Phase::Exited };
        if let Some(health) = record.state.health.as_mut().filter(|h| h.status != "none") {
            health.status = "unhealthy".into();
            health.failing_streak = 0;
        }
        if next.is_some() {
            record.restart_count += 1;
        }
        next
    };
    net::release(engine, container).await;
    unmount(engine, container);
    remove_group(engine, &container.id);
    let auto_remove = {
        let record = container.record();
        let seconds = record.state.finished_at.since(record.state.started_at).as_secs();
        let attributes = [("exitCode", status.to_string()), ("execDuration", seconds.to_string())];
        engine.container_event(&record, "die", &attributes);
        record.host.auto_remove && next.is_none()
    };
    container.log.set_live(false);
    container.streams.finish();
    container.streams.set_input(Input::NotYet);
    container.ends.send_modify(|e| {
        e.count += 1;
        (e.running, e.code) = (next.is_some(), status);
    });
    drop(turn);
    if auto_remove {
        if let Err(error) = remove::remove(engine, container, remove::Options::auto()).await {
            tracing::warn!(container = container.id, %error, "could not be removed at its end");
        }
        return;
    }
    engine.save_soon(container);
    if let Some(pause) = next {
        restart_after(engine, container, pause);
    }
}

/// How long to wait before the next run, if there is one (`restartmanager.go`).
fn decide(record: &Record, status: i32, stopping: bool, lasted: Duration) -> Option<Duration> {
    let policy = &record.host.restart_policy;
    let again = match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !record.has_been_manually_stopped,
        "on-failure" => {
            let left = policy.maximum_retry_count;
            status != 0 && (left == 0 || i64::try_from(record.restart_count).is_ok_and(|n| n < left))
        }
        _ => false,
    };
    if !again || stopping || record.has_been_manually_stopped {
        return None;
    }
    let doublings =
        if lasted > STABLE { 0 } else { u32::try_from(record.restart_count).unwrap_or(u32::MAX).min(20) };
    Some((FIRST * 2u32.pow(doublings)).min(LONGEST))
}

/// Starts it again after a pause, unless somebody stops, starts or removes it meanwhile.
fn restart_after(engine: &Arc<Engine>, container: &Arc<Container>, pause: Duration) {
    let (engine, container) = (engine.clone(), container.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = container.wake.notified() => return,
        }
        let turn = container.turn.lock().await;
        if container.phase() != Phase::Restarting || container.stopping.load(Ordering::Acquire) {
            return;
        }
        let failed = start::run(&engine, &container).await.err();
        drop(turn);
        if let Some(error) = failed {
            tracing::warn!(container = container.id, %error, "could not be started again");
        }
    });
}

/// Undoes the mounts of a run.
pub fn unmount(engine: &Engine, container: &Container) {
    engine.roots.unmount(&container.id);
    unmount_beside(engine, container);
}

/// The same of all but its root.
pub fn unmount_beside(engine: &Engine, container: &Container) {
    sources::unmount_images(engine, &container.record().clone());
    let volumes: Vec<String> = {
        let record = container.record();
        record
            .mount_points
            .iter()
            .filter(|m| m.point.kind == "volume")
            .map(|m| m.point.name.clone())
            .collect()
    };
    for volume in volumes {
        engine.volumes.unmount(&volume, &container.id);
        let attributes =
            [("container".to_string(), container.id.clone()), ("driver".to_string(), "local".to_string())];
        engine.events.emit("volume", "unmount", &volume, attributes.into());
    }
}

/// Removes the control group; processes that were killed may take a moment to be gone.
fn remove_group(engine: &Arc<Engine>, id: &str) {
    if engine.groups.remove(id) {
        return;
    }
    let (engine, id) = (engine.clone(), id.to_string());
    tokio::spawn(async move {
        for pause in [1, 5, 20, 100, 500, 2000] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let started_again = engine.containers.get(&id).is_ok_and(|c| c.live().is_some());
            if started_again || engine.groups.remove(&id) {
                return;
            }
            engine.groups.kill(&id);
        }
    });
}

/// Takes over what is on the disk and what still runs.
pub async fn adopt(engine: &Arc<Engine>, survivors: Vec<Survivor>) {
    let mut survivors: HashMap<String, Survivor> =
        survivors.into_iter().map(|s| (s.key.clone(), s)).collect();
    let _made = fs::create_dir_all(engine.containers.root());
    remove::sweep(engine);
    let (mut to_start, mut to_end) = (Vec::new(), Vec::new());
    for (record, unsaved) in recorded(engine) {
        if engine.containers.reserve(&record.name, &record.id).is_err() {
            tracing::warn!(container = record.short(), "two containers have one name");
            continue;
        }
        let survivor = survivors.remove(&record.id);
        let container = Arc::new(Container::new(record, engine.containers.root()));
        engine.containers.add(container.clone());
        if unsaved {
            engine.save_soon(&container);
        }
        match survivor {
            Some(survivor) => {
                take_over(engine, &container, survivor);
                to_end.push(container);
            }
            None => {
                if settle(engine, &container) {
                    to_start.push(container);
                }
            }
        }
    }
    end(engine, survivors);
    engine.groups.sweep(|id| engine.containers.get(id).is_ok());
    if let Err(error) = engine.networks.sweep() {
        tracing::warn!(%error, "interfaces of containers that are gone stay");
    }
    for container in to_start {
        start_again(engine, container);
    }
    let stay = engine.config.get().keeps_containers();
    for container in to_end {
        if container.record().step {
            remove_unwanted(engine, &container);
        } else if !stay {
            end_and_settle(engine, container);
        }
    }
}

/// Removes what nobody asked for and nobody sees.
fn remove_unwanted(engine: &Arc<Engine>, container: &Arc<Container>) {
    let (engine, container) = (engine.clone(), container.clone());
    tokio::spawn(async move {
        let _logged = remove::remove(&engine, &container, remove::Options::auto()).await;
    });
}

/// A container that has outlived an engine that it should not (moby `daemon.go`, `restore`).
fn end_and_settle(engine: &Arc<Engine>, container: Arc<Container>) {
    let engine = engine.clone();
    tokio::spawn(async move {
        super::stop::shut_down(&engine, &container).await;
        container.stopping.store(false, Ordering::Release);
        let again = starts_with_engine(&container.record(), true);
        if again {
            start_again(&engine, container);
        }
    });
}

/// The containers on the disk, oldest first, and whether what is known of one is newer than its record.
fn recorded(engine: &Engine) -> Vec<(Record, bool)> {
    let mut known = Vec::new();
    for entry in fs::read_dir(engine.containers.root()).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "removing") {
            continue;
        }
        match Record::load(&entry.path()) {
            Ok(mut record) => {
                let newer = engine.containers.spare.restore(&mut record);
                known.push((record, newer));
            }
            Err(error) => {
                tracing::warn!(path = %entry.path().display(), %error, "not a container");
            }
        }
    }
    known.sort_by_key(|(record, _)| record.created);
    known
}

/// Ends programs of `docker exec` whose client went with the old engine, and containers whose files are gone.
fn end(engine: &Arc<Engine>, orphans: HashMap<String, Survivor>) {
    for (key, survivor) in orphans {
        let pidfd = &survivor.process.pidfd;
        let _gone = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
        let engine = engine.clone();
        tokio::spawn(async move {
            let _status = survivor.process.exit.await;
            engine.init.tell(&EngineToInit::Forget { key }, &[]);
        });
    }
}

/// Starts a container with the engine, as its restart policy wants it.
fn start_again(engine: &Arc<Engine>, container: Arc<Container>) {
    let engine = engine.clone();
    tokio::spawn(async move {
        let _turn = container.turn.lock().await;
        if container.phase().alive() {
            return;
        }
        if let Err(error) = start::run(&engine, &container).await {
            tracing::warn!(container = container.id, %error, "could not be started with the engine");
        }
    });
}

/// A container that has gone on without an engine.
fn take_over(engine: &Arc<Engine>, container: &Arc<Container>, survivor: Survivor) {
    let Survivor { process: Process { pid, pidfd, exit }, kept, .. } = survivor;
    engine.roots.adopt(&container.id);
    let parent = container.record().host.resources.cgroup_parent.clone();
    engine.groups.set_parent(&container.id, &parent);
    sources::adopt_images(engine, &container.record().clone());
    container.set_live(Some(Arc::new(Live { pid, pidfd, cgroup: engine.groups.name(&container.id) })));
    let ends = sort_out(kept, container.record().config.tty);
    let endpoints = {
        let mut record = container.record();
        // The old engine may have died before it noted what it did.
        record.state.phase = if engine.groups.frozen(&container.id) { Phase::Paused } else { Phase::Running };
        record.state.pid = pid;
        if record.state.started_at.is_zero() {
            record.state.started_at = Timestamp::now();
        }
        record.has_been_started_before = true;
        record.endpoints.clone()
    };
    container.ends.send_modify(|e| e.running = true);
    let live = container.live();
    let pid = live.map_or(pid, |live| engine.way_in(container, &live));
    if let Err(error) = engine.networks.adopt(&endpoints, pid) {
        tracing::warn!(container = container.id, %error, "its networks are not as they were");
    }
    for mounted in container.record().mount_points.iter().filter(|m| m.point.kind == "volume") {
        let _mounted_already = engine.volumes.mount(&mounted.point.name, &container.id);
    }
    container.keep(&engine.init, &ends);
    let input = ends.terminal.clone().or(ends.stdin.clone()).map_or(Input::Closed, Input::Open);
    container.streams.set_input(input);
    container.log.set_live(true);
    reopen_log(container);
    watch(engine, container, exit, ends);
    health::watch(engine, container);
    let (engine, container) = (engine.clone(), container.clone());
    tokio::spawn(async move {
        let record = container.record().clone();
        if record.endpoints.iter().any(drydock_network::Endpoint::user_defined)
            && let Err(error) =
                engine.networks.serve_names(&record.id, pid, net::resolver(&engine, &record)).await
        {
            tracing::warn!(container = record.short(), %error, "no name server");
        }
        if files::own(&record)
            && let Err(error) = net::publish_again(&engine, &record).await
        {
            tracing::warn!(container = record.short(), %error, "its ports are not published any more");
        }
    });
}

/// The engine's ends in the order in which they were given to keep.
fn sort_out(kept: Vec<OwnedFd>, tty: bool) -> Ends {
    let mut all = kept.into_iter().filter_map(|fd| Io::new(fd).ok()).map(Arc::new);
    if tty {
        return Ends { terminal: all.next(), ..Ends::default() };
    }
    Ends { stdout: all.next(), stderr: all.next(), stdin: all.next(), terminal: None }
}

/// A container without a process. True if it is to be started with the engine.
fn settle(engine: &Arc<Engine>, container: &Arc<Container>) -> bool {
    let mut record = container.record();
    engine.roots.detach(&record.id);
    sources::detach_images(engine, &record);
    record.endpoints.clear();
    record.published.clear();
    let was = record.state.phase;
    if was.running() {
        record.state.phase = Phase::Exited;
        record.state.pid = 0;
        if was != Phase::Restarting {
            // Nobody knows how it ended.
            record.state.exit_code = 255;
            record.state.finished_at = Timestamp::now();
        }
    }
    if was == Phase::Removing || record.step || (was != Phase::Created && record.host.auto_remove) {
        record.state.phase = if was == Phase::Removing { Phase::Dead } else { Phase::Exited };
        drop(record);
        remove_unwanted(engine, container);
        return false;
    }
    let again = starts_with_engine(&record, was.running());
    container.ends.send_replace(super::wait::Ends::of(&record));
    drop(record);
    engine.save_soon(container);
    again
}

/// Whether its restart policy wants it to be started with the engine; `ran`: until the last one ended.
fn starts_with_engine(record: &Record, ran: bool) -> bool {
    match record.host.restart_policy.name.as_str() {
        "always" => record.has_been_started_before,
        "unless-stopped" => record.has_been_started_before && !record.has_been_manually_stopped,
        "on-failure" => ran && decide(record, record.state.exit_code, false, Duration::ZERO).is_some(),
        _ => false,
    }
}

/// Writes what has changed to the disk, before the engine ends.
pub fn save_all(engine: &Engine) {
    for container in engine.containers.all() {
        // What fails is told there; there is no later.
        let _saved = engine.save_now(&container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, retries: i64) -> Record {
        let mut record = Record::default();
        record.host.restart_policy.name = name.into();
        record.host.restart_policy.maximum_retry_count = retries;
        record
    }

    #[test]
    fn policies_do_what_their_definition_says() {
        let short = Duration::from_secs(1);
        assert_eq!(decide(&policy("no", 0), 1, false, short), None);
        assert_eq!(decide(&policy("always", 0), 0, false, short), Some(FIRST));
        assert_eq!(decide(&policy("always", 0), 0, true, short), None);
        assert_eq!(decide(&policy("on-failure", 2), 0, false, short), None);
        let mut record = policy("on-failure", 2);
        record.restart_count = 1;
        assert_eq!(decide(&record, 1, false, short), Some(FIRST * 2));
        record.restart_count = 2;
        assert_eq!(decide(&record, 1, false, short), None);
        let mut record = policy("unless-stopped", 0);
        record.restart_count = 50;
        assert_eq!(decide(&record, 0, false, short), Some(LONGEST));
        assert_eq!(decide(&record, 0, false, Duration::from_secs(11)), Some(FIRST));
        record.has_been_manually_stopped = true;
        assert_eq!(decide(&record, 0, false, short), None);
    }
}
