//! Containers of the node. One file per thing that is done to them; [`record`] is what is remembered, [`model`] the words of
//! the API. A container's record is behind a lock that is never held across an `await`; what takes time (start, pause, remove)
//! is put in a row by [`Container::turn`].

mod addresses;
pub mod attach;
pub mod changes;
pub mod child;
pub mod commit;
pub mod copy;
pub mod create;
pub mod departed;
pub mod exit;
pub mod failures;
pub mod files;
pub mod health;
pub mod image;
pub mod inspect;
mod limits;
pub mod links;
pub mod list;
pub mod log_options;
pub mod logs;
pub mod model;
pub mod mounts;
pub mod names;
pub mod net;
mod oom;
mod output;
pub mod prune;
pub mod record;
pub mod remove;
pub mod seccomp;
pub mod signals;
pub mod sources;
pub mod spare;
pub mod spec;
pub mod start;
pub mod stats;
pub mod stop;
pub mod streams;
pub mod top;
pub mod update;
pub mod validate;
pub mod wait;
pub mod words;

use crate::{
    engine::Engine,
    error::{Error, Result},
    init::Init,
};
use drydock_runtime::container::messages::EngineToInit;
use record::{Phase, Record};
use std::{
    collections::{BTreeMap, HashMap},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Semaphore, watch};

/// Logs are written by so many threads at most.
const LOG_THREADS: usize = 8;
/// Changes of a container's state within this time are written once.
const SAVE_AFTER: std::time::Duration = std::time::Duration::from_millis(50);
/// Longest wait before a state that could not be written is tried again.
const SAVE_AGAIN: std::time::Duration = std::time::Duration::from_secs(60);

pub use exit::{adopt, save_all};
pub use stop::stop_all;

/// All containers of the node.
#[derive(Debug)]
pub struct Containers {
    /// `/var/lib/docker/containers`.
    root: PathBuf,
    /// Where their states go while the disk is full.
    pub spare: spare::Spare,
    /// Threads that write logs at the same time: they may all wait for the disk.
    log_threads: Arc<Semaphore>,
    /// Those that were removed a moment ago.
    pub departed: Arc<departed::Departed>,
    index: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Names that are taken, also by containers that are just being made.
    by_name: HashMap<String, String>,
}

/// One container.
#[derive(Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    record: Mutex<Record>,
    /// Held while it is started, paused, removed: one thing at a time.
    pub turn: tokio::sync::Mutex<()>,
    /// Held while somebody restarts it, from its stop to its start.
    restart: tokio::sync::Mutex<()>,
    /// For those who wait for its end.
    pub ends: watch::Sender<wait::Ends>,
    /// Its input and output.
    pub streams: streams::Streams,
    /// Its log.
    pub log: logs::Log,
    /// The process, while there is one.
    live: Mutex<Option<Arc<Live>>>,
    /// Our ends of its pipes that the init keeps too: [terminal] or [stdout, stderr, stdin].
    kept: Mutex<Vec<Arc<streams::Io>>>,
    /// Ends the pause before a restart early.
    pub wake: tokio::sync::Notify,
    /// Somebody asked for its end: no restart policy holds.
    pub stopping: AtomicBool,
    unsaved: AtomicBool,
}

/// What exists only while a container runs.
#[derive(Debug)]
pub struct Live {
    /// Process id of its first process in the node.
    pub pid: i32,
    /// Process descriptor of it.
    pub pidfd: OwnedFd,
    /// Its control group, below the node's.
    pub cgroup: String,
}

impl Container {
    /// Puts a record to life.
    pub fn new(record: Record, root: &std::path::Path) -> Self {
        let dir = root.join(&record.id);
        let log = logs::Log::new(&dir, &record);
        Self {
            id: record.id.clone(),
            ends: watch::Sender::new(wait::Ends::of(&record)),
            record: Mutex::new(record),
            turn: tokio::sync::Mutex::default(),
            restart: tokio::sync::Mutex::default(),
            streams: streams::Streams::default(),
            log,
            live: Mutex::default(),
            kept: Mutex::default(),
            wake: tokio::sync::Notify::new(),
            stopping: AtomicBool::new(false),
            unsaved: AtomicBool::new(false),
        }
    }

    /// Returns when it runs again, if it does not because somebody restarts it: clients that hear of its end and ask at once what has become
    /// of it shall not take it for ended (with dockerd they wait for the container's lock).
    pub async fn between_runs(&self) {
        if !self.phase().alive() {
            let _it_runs = self.restart.lock().await;
        }
    }

    /// The record. Never held across an `await`.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.record().state.phase
    }

    /// The process, while there is one.
    pub fn live(&self) -> Option<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or forgets the process.
    pub fn set_live(&self, live: Option<Arc<Live>>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Lets the init keep our ends of the container's pipes for an engine to come.
    pub fn keep(&self, init: &Init, ends: &child::Ends) {
        let all = [&ends.terminal, &ends.stdout, &ends.stderr, &ends.stdin];
        let all: Vec<_> = all.into_iter().flatten().cloned().collect();
        self.set_kept(init, all);
    }

    fn set_kept(&self, init: &Init, all: Vec<Arc<streams::Io>>) {
        let fds: Vec<BorrowedFd<'_>> = all.iter().map(|io| io.as_fd()).collect();
        init.tell(&EngineToInit::Keep { key: self.id.clone() }, &fds);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Closes the standard input of a container without terminal: here, and in what the init keeps.
    pub fn close_input(&self, init: &Init) {
        self.streams.set_input(streams::Input::Closed);
        let mut kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        kept.truncate(2);
        self.set_kept(init, kept);
    }

    /// A run is over: nothing is kept of it.
    pub fn forget_ends(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The process, or Docker's refusal.
    pub fn running(&self) -> Result<Arc<Live>> {
        self.live().ok_or_else(|| Error::conflict(format!("container {} is not running", self.id)))
    }
}

impl Containers {
    /// None yet; [`adopt`] reads the disk.
    pub fn new(root: PathBuf, spare: spare::Spare) -> Self {
        let log_threads = Arc::new(Semaphore::new(LOG_THREADS));
        Self { root, spare, log_threads, departed: Arc::default(), index: RwLock::default() }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// `/var/lib/docker/containers`.
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// Directory of a container.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// All, the oldest first.
    pub fn all(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = self.read().by_id.values().cloned().collect();
        all.sort_by_key(|c| c.record().created);
        all
    }

    /// By whole id, name or unambiguous beginning of an id.
    pub fn get(&self, name: &str) -> Result<Arc<Container>> {
        let bare = name.strip_prefix('/').unwrap_or(name);
        let index = self.read();
        if let Some(found) = index.by_id.get(bare) {
            return Ok(found.clone());
        }
        if let Some(found) = index.by_name.get(bare).and_then(|id| index.by_id.get(id)) {
            return Ok(found.clone());
        }
        let none = || Error::not_found(format!("No such container: {name}"));
        if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(none());
        }
        let mut with_prefix =
            index.by_id.range(bare.to_string()..).take_while(|(id, _)| id.starts_with(bare));
        match (with_prefix.next(), with_prefix.next()) {
            (Some((_, found)), None) => Ok(found.clone()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("multiple IDs found with provided prefix: {bare}")))
            }
            _ => Err(none()),
        }
    }

    /// Takes a name for an id, or refuses in Docker's words.
    pub fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut index = self.write();
        match index.by_name.get(name) {
            Some(other) if other != id => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{other}\". You have to remove (or rename) that container to be able to reuse that name."
            ))),
            _ => {
                index.by_name.insert(name.into(), id.into());
                Ok(())
            }
        }
    }

    /// Gives a name back.
    pub fn release(&self, name: &str, id: &str) {
        let mut index = self.write();
        if index.by_name.get(name).is_some_and(|owner| owner == id) {
            index.by_name.remove(name);
        }
    }

    /// Whether nobody has this name.
    pub fn is_free(&self, name: &str) -> bool {
        !self.read().by_name.contains_key(name)
    }

    /// Adds one whose name is reserved.
    pub fn add(&self, container: Arc<Container>) {
        self.write().by_id.insert(container.id.clone(), container);
    }

    /// Takes one out, with its name.
    pub fn forget(&self, container: &Container) {
        let name = container.record().name.clone();
        self.release(&name, &container.id);
        self.write().by_id.remove(&container.id);
    }

    /// Ids of the containers that have this volume.
    pub fn using_volume(&self, volume: &str) -> Vec<String> {
        self.using(|r| r.mount_points.iter().any(|m| m.point.kind == "volume" && m.point.name == volume))
    }

    /// Ids of the containers whose record fits.
    pub fn using(&self, fits: impl Fn(&Record) -> bool) -> Vec<String> {
        self.read().by_id.values().filter(|c| fits(&c.record())).map(|c| c.id.clone()).collect()
    }
}

impl Engine {
    /// Tells that something happened to a container. Nobody hears of BuildKit's own, which are none of dockerd's.
    pub fn container_event(&self, record: &Record, action: &str, more: &[(&str, String)]) {
        if record.step {
            return;
        }
        let mut attributes = record.attributes();
        attributes.extend(more.iter().map(|(k, v)| ((*k).to_string(), v.clone())));
        self.events.emit("container", action, &record.id, attributes);
    }

    /// A process of a container through which its namespaces and root can be entered. With `--init` that is not the first one:
    /// nobody may look into ours.
    pub fn way_in(&self, container: &Container, live: &Live) -> i32 {
        if container.record().host.init != Some(true) {
            return live.pid;
        }
        self.groups.processes(&container.id).into_iter().find(|pid| *pid != live.pid).unwrap_or(live.pid)
    }

    /// Writes a container's state to the disk soon. Several changes in a row are written once, and those of a container that
    /// is removed right away (`docker run --rm`) never.
    pub fn save_soon(self: &Arc<Self>, container: &Arc<Container>) {
        if container.unsaved.swap(true, Ordering::AcqRel) {
            return;
        }
        let (engine, container) = (self.clone(), container.clone());
        tokio::spawn(async move {
            let mut wait = SAVE_AFTER;
            loop {
                tokio::time::sleep(wait).await;
                if engine.save_now(&container) {
                    return;
                }
                // The disk may be full: what is not written would be forgotten with the engine.
                container.unsaved.store(true, Ordering::Release);
                wait = (wait * 4).min(SAVE_AGAIN);
            }
        });
    }

    /// Writes a container's state if it has changed. Tells whether what is on the disk is true now.
    pub fn save_now(&self, container: &Container) -> bool {
        if !container.unsaved.swap(false, Ordering::AcqRel) {
            return true;
        }
        let record = container.record();
        if record.state.phase == Phase::Removing {
            return true;
        }
        let spare = &self.containers.spare;
        match record.save_state(&self.containers.dir(&container.id)) {
            Ok(()) => {
                spare.forget(&container.id);
                true
            }
            Err(error) => {
                tracing::warn!(container = record.short(), %error, "the container's state can't be written");
                if crate::error::is_full(&error)
                    && let Err(error) = spare.keep(&record)
                {
                    tracing::warn!(container = record.short(), %error, "nor kept in memory");
                }
                false
            }
        }
    }
}
