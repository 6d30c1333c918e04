//! `docker start`: from a record to a running program. Read [`start`] from top to bottom. We make control groups and files while the
//! init clones the child, and its network while it prepares its root; all must be done before its program starts.

use super::{
    Container, Live,
    child::{Child, Ends, Plumbing, kept_from_its_program, report_pair},
    exit,
    failures::{code_of, create_failed, network_failed, start_failed},
    files, health, limits, links, log_options, mounts, net,
    record::{Phase, Record},
    sources, spec,
    streams::{Input, Io},
    validate,
};
use crate::{
    clock::Timestamp,
    engine::Engine,
    error::{Context, Error, Result},
    init::{Process, memory_file},
    wasm::{Place, Refused},
};
use drydock_images::local::LayerStack;
use drydock_runtime::{
    channel::Channel,
    container::{
        beforehand::Beforehand,
        messages::{EngineToInit, Failure, FailureKind, FromChild, ToChild, With},
        spec::{ContainerSpec, Namespace},
    },
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};
use tokio::task::JoinHandle;

/// Starts a container because somebody asks for it.
pub async fn start(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let turn = container.turn.lock().await;
    {
        let record = container.record();
        match record.state.phase {
            Phase::Paused => {
                return Err(Error::conflict("cannot start a paused container, try unpause instead"));
            }
            Phase::Running => return Err(Error::not_modified()),
            Phase::Removing | Phase::Dead => {
                return Err(Error::conflict("container is marked for removal and cannot be started"));
            }
            Phase::Created | Phase::Exited | Phase::Restarting => {}
        }
    }
    engine.init.expect();
    container.stopping.store(false, Ordering::Release);
    container.wake.notify_waiters();
    {
        let mut record = container.record();
        record.restart_count = 0;
        record.has_been_manually_stopped = false;
    }
    let started = run(engine, container).await;
    drop(turn);
    if started.is_err() && container.record().host.auto_remove {
        let _reported_by_start =
            super::remove::remove(engine, container, super::remove::Options::auto()).await;
    }
    started
}

/// Starts a container's program. The caller has the turn and has checked the phase.
pub async fn run(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let mut root = Root { path: engine.roots.parts(&container.id).merged, mounting: None, mounted: false };
    match begin(engine, container, &mut root).await {
        Ok((process, ends)) => {
            running(engine, container, process, ends);
            Ok(())
        }
        Err(error) => {
            // What failed first is told.
            let _second = root.mount().await;
            if root.mounted {
                engine.roots.unmount(&container.id);
            }
            give_up(engine, container, &error).await;
            Err(error)
        }
    }
}

/// (moby `volume/mounts/mounts.go`)
fn volume_failed(error: impl Into<Error>, source: &str) -> Error {
    let error = error.into();
    Error::new(error.status, format!("error while mounting volume '{source}': {}", error.message))
}

/// The root file system of a container that is started. It is mounted on a thread of its own, since the kernel takes as long for it as
/// all else takes until the child asks for it.
struct Root {
    path: PathBuf,
    mounting: Option<JoinHandle<Result<PathBuf>>>,
    /// By this start, so that it must unmount it if it fails.
    mounted: bool,
}

impl Root {
    /// Begins to mount it.
    fn begin(&mut self, engine: &Arc<Engine>, id: &str, layers: LayerStack) {
        let (engine, id) = (Arc::clone(engine), id.to_owned());
        self.mounting = Some(tokio::task::spawn_blocking(move || engine.roots.mount(&id, &layers)));
    }

    /// Waits until it is mounted.
    async fn mount(&mut self) -> Result<()> {
        if let Some(mounting) = self.mounting.take() {
            mounting.await.map_err(|error| Error::internal(error.to_string()))??;
            self.mounted = true;
        }
        Ok(())
    }
}

/// All steps until the program runs.
async fn begin(engine: &Arc<Engine>, container: &Arc<Container>, root: &mut Root) -> Result<(Process, Ends)> {
    let id = &container.id;
    let layers = match engine.images.held(id)? {
        Some(layers) => layers,
        // A build's step on `scratch`.
        None if container.record().image.is_empty() => LayerStack { dirs: vec![], links: vec![] },
        None => return Err(Error::internal(format!("the layers of container {id} are gone"))),
    };
    root.begin(engine, id, layers);
    links::check(engine, &container.record().clone())?;
    let snapshot = {
        let mut record = container.record();
        if files::own(&record) {
            net::reserve(engine, &mut record).map_err(network_failed)?;
        }
        record.clone()
    };
    for mounted in snapshot.mount_points.iter().filter(|m| m.point.kind == "volume") {
        let point = &mounted.point;
        let mounted = engine.volumes.mount(&point.name, id);
        mounted.map_err(|error| volume_failed(error, &point.source))?;
        let attributes = [
            ("container", id.clone()),
            ("destination", point.destination.clone()),
            ("driver", point.driver.clone()),
            ("propagation", point.propagation.clone()),
            ("read/write", point.rw.to_string()),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_string(), value));
        engine.events.emit("volume", "mount", &point.name, attributes.into());
    }
    sources::mount_images(engine, &snapshot)?;
    sources::check(&snapshot)?;
    validate::check_sysctls(&snapshot.host)?;
    limits::check_at_start(&snapshot.host.resources)?;
    engine.groups.set_parent(id, &snapshot.host.resources.cgroup_parent);
    engine.groups.check_devices(&snapshot.host.resources)?;
    log_options::check_log_driver(&snapshot.host)?;
    container.log.open(&snapshot, false).await.map_err(log_options::failed)?;
    snapshot.host.tmpfs.iter().flatten().try_for_each(|(_, options)| mounts::check_tmpfs(options))?;
    let description = spec::container(engine, &snapshot, &root.path)?;
    let code = if description.wasm {
        root.mount().await?;
        wasm_code(engine, &snapshot, &root.path, &description).await?
    } else {
        None
    };
    let net = match description.namespaces.net {
        Namespace::New => Some(Arc::new(engine.ready.network().await.map_err(create_failed)?)),
        Namespace::Host | Namespace::Of(_) => None,
    };
    let given = Given { code, net: net.clone(), beforehand: engine.ready.mounts() };
    let place = async |report: &Channel| place(engine, &snapshot, report, root).await;
    let Spawned { mut child, ends, placed } = spawn(engine, &snapshot, &description, given, place).await?;
    let prepared = match placed {
        Ok(()) => prepare(engine, &snapshot, &mut child, ends, &description, net).await,
        Err(error) => Err(error),
    };
    match prepared {
        Ok(ends) => Ok((child.process, ends)),
        Err(error) => {
            // It ends by itself when nobody is at the other end of its report; waiting for it keeps the key free.
            drop(child.report);
            let _pid = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(child.process.pid),
                nix::sys::signal::Signal::SIGKILL,
            );
            let _status = child.process.exit.await;
            engine.init.tell(&EngineToInit::Forget { key: id.clone() }, &[]);
            Err(error)
        }
    }
}

/// The compiled code of a WebAssembly container, if its module is one that the engine can see.
async fn wasm_code(
    engine: &Engine,
    record: &Record,
    root: &Path,
    description: &ContainerSpec,
) -> Result<Option<OwnedFd>> {
    let Some(wasm) = &engine.wasm else { return Ok(None) };
    let mounted = record.mount_points.iter().map(|m| m.point.destination.clone());
    let mounted = mounted.chain(record.host.tmpfs.iter().flatten().map(|(path, _)| path.clone())).collect();
    let place = Place::new(root, &description.process, mounted);
    wasm.code(place).await.map_err(|refused| match refused {
        Refused::Missing(message) => start_failed(&Failure { kind: FailureKind::NotFound, message }, record),
        Refused::Failed(message) => {
            start_failed(&Failure { kind: FailureKind::NotExecutable, message }, record)
        }
    })
}

/// Network and root are made beside each other: the child hears of its interfaces when its root is ready, and goes on by itself.
async fn prepare(
    engine: &Arc<Engine>,
    record: &Record,
    child: &mut Child,
    mut ends: Ends,
    description: &ContainerSpec,
    net: Option<Arc<OwnedFd>>,
) -> Result<Ends> {
    let early = || create_failed(Error::internal("the container's process has ended early"));
    let lost = || create_failed(Error::internal("the child has lost count"));
    let mut interfaces = vec![];
    if let Some(namespace) = net.filter(|_| !record.endpoints.is_empty()) {
        interfaces = net::plug(engine, record, namespace.into()).await.map_err(network_failed)?;
    }
    let told = record.endpoints.iter().filter(|_| !record.step);
    told.for_each(|endpoint| net::tell(engine, "connect", endpoint));
    let linked = !interfaces.is_empty();
    // If it has failed meanwhile, its report tells why.
    let _told_below = child.report.get_ref().send(&ToChild::Go(interfaces), &[]);
    match child.hear().await? {
        (Some(FromChild::Prepared), fds) => {
            if description.process.tty.is_some() {
                let none = || create_failed(Error::internal("no terminal came"));
                let master = fds.into_iter().next().ok_or_else(none)?;
                ends.terminal = Some(Arc::new(Io::new(master).doing(|| "take the terminal".to_string())?));
            }
        }
        (Some(FromChild::Failed(failure)), _) => return Err(start_failed(&failure, record)),
        (Some(FromChild::Network | FromChild::Linked), _) => return Err(lost()),
        (None, _) => return Err(early()),
    }
    if linked {
        match child.hear().await?.0 {
            Some(FromChild::Linked) => engine.networks.settle(&record.id).await,
            Some(FromChild::Failed(failure)) => return Err(start_failed(&failure, record)),
            Some(FromChild::Prepared | FromChild::Network) => return Err(lost()),
            None => return Err(early()),
        }
        let _told_below = child.report.get_ref().send(&ToChild::Linked, &[]);
    }
    match child.hear().await?.0 {
        None if kept_from_its_program(child, description).await => Err(Error::internal(
            "OCI runtime start failed: cannot start a container that has stopped: unknown",
        )),
        None => Ok(ends),
        Some(FromChild::Failed(failure)) => Err(start_failed(&failure, record)),
        Some(FromChild::Prepared | FromChild::Network | FromChild::Linked) => Err(lost()),
    }
}

/// What a child gets beside its description.
struct Given {
    /// Compiled code of a WebAssembly module.
    code: Option<OwnedFd>,
    /// Its network namespace.
    net: Option<Arc<OwnedFd>>,
    /// What it need not make for itself.
    beforehand: Beforehand,
}

/// A child that the init has cloned.
struct Spawned {
    child: Child,
    ends: Ends,
    /// Whether it has been given its place.
    placed: Result<()>,
}

async fn spawn(
    engine: &Arc<Engine>,
    record: &Record,
    description: &ContainerSpec,
    given: Given,
    place: impl AsyncFnOnce(&Channel) -> Result<()>,
) -> Result<Spawned> {
    let memory = memory_file(description)?;
    let (report, theirs) = report_pair()?;
    let plumbing = Plumbing::new(description.process.tty.is_some(), record.config.open_stdin)?;
    let message = EngineToInit::Run {
        key: record.id.clone(),
        flags: description.namespaces.clone_flags(),
        join_pid: spec::join_pid(description),
        with: With {
            code: given.code.is_some(),
            net: given.net.is_some(),
            dev: given.beforehand.dev.is_some(),
            groups: given.beforehand.groups.is_some(),
        },
    };
    let mut fds: Vec<BorrowedFd<'_>> = vec![memory.as_fd(), theirs.as_fd()];
    fds.extend(plumbing.theirs.iter().chain(&given.code).map(AsFd::as_fd));
    fds.extend(given.net.iter().map(|net| net.as_fd()).chain(given.beforehand.fds()));
    // The init clones meanwhile.
    let place = place(report.get_ref());
    let (started, placed) = tokio::join!(biased; engine.init.start(&record.id, &message, &fds), place);
    let process = started.map_err(|refused| create_failed(Error::internal(refused.message)))?;
    Ok(Spawned { child: Child { process, report }, ends: plumbing.ends, placed })
}

/// Makes the child's control groups, root and files, and tells it.
async fn place(engine: &Engine, record: &Record, report: &Channel, root: &mut Root) -> Result<()> {
    engine.groups.create(&record.id, &record.host.resources).map_err(create_failed)?;
    // If it has failed meanwhile, its report tells why.
    let _told_below = report.send(&ToChild::Place, &[]);
    if files::own(record) {
        files::prepare(engine, record)?;
    }
    root.mount().await?;
    let tree = drydock_runtime::mounts::copy(rustix::fs::CWD, &root.path.to_string_lossy(), false);
    let tree = tree.map_err(|error| create_failed(Error::internal(error.to_string())))?;
    let _told_below = report.send(&ToChild::Root, &[tree.as_fd()]);
    Ok(())
}

/// The program runs: notes it, tells it, and lets its output flow.
fn running(engine: &Arc<Engine>, container: &Arc<Container>, process: Process, ends: Ends) {
    let Process { pid, pidfd, exit } = process;
    raise_oom_score(pid, container.record().host.oom_score_adj);
    let live = Arc::new(Live { pid, pidfd, cgroup: engine.groups.name(&container.id) });
    container.set_live(Some(live));
    {
        let mut record = container.record();
        record.published = engine.networks.published(&container.id);
        // As they are now that the interfaces are made: an engine to come takes them over so.
        record.endpoints = engine.networks.endpoints(&container.id);
        let first = !record.has_been_started_before;
        record.has_been_started_before = true;
        let health = health::initial(&record);
        record.state = super::record::State {
            phase: Phase::Running,
            pid,
            started_at: Timestamp::now(),
            finished_at: if first { Timestamp::ZERO } else { record.state.finished_at },
            health,
            ..Default::default()
        };
        container.ends.send_modify(|e| (e.running, e.error) = (true, String::new()));
        engine.container_event(&record, "start", &[]);
    }
    container.keep(&engine.init, &ends);
    let input = ends.terminal.clone().or(ends.stdin.clone()).map_or(Input::Closed, Input::Open);
    container.streams.set_input(input);
    container.log.set_live(true);
    exit::watch(engine, container, exit, ends);
    health::watch(engine, container);
    engine.ready.refill(&engine.groups);
    engine.save_soon(container);
}

/// Makes it likelier that the kernel ends this one when memory is short. The program itself could do so only now, as what becomes a
/// container has no say about its own process. Making it less likely needs a privilege that no session has.
pub fn raise_oom_score(pid: i32, score: i32) {
    if score <= 0 {
        return;
    }
    // Of process 1 of `--init` nobody may say so, but of its program.
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for pid in std::iter::once(pid.to_string().as_str()).chain(children.split_whitespace()) {
        let _gone = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
    }
}

/// Takes back what a failed start has made.
async fn give_up(engine: &Arc<Engine>, container: &Arc<Container>, error: &Error) {
    net::release(engine, container).await;
    exit::unmount_beside(engine, container);
    engine.groups.remove(&container.id);
    let mut record = container.record();
    let code = code_of(&error.message);
    record.state.phase = if record.has_been_started_before { Phase::Exited } else { Phase::Created };
    record.state.pid = 0;
    record.state.exit_code = code;
    record.state.error.clone_from(&error.message);
    container.ends.send_modify(|e| {
        e.count += 1;
        (e.running, e.code) = (false, code);
    });
    drop(record);
    container.log.set_live(false);
    container.streams.finish();
    container.streams.set_input(Input::NotYet);
    engine.save_soon(container);
}
