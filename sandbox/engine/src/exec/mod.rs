//! Programs in containers beside their first: `docker exec`, and health checks. What an exec is stays known for a while after its
//! end, so that a client can ask for its exit code.

use crate::{
    containers::{
        Container,
        child::{Child, Ends, Plumbing, report_pair},
        failures::unknown_user,
        record::Phase,
        seccomp, spec,
        start::raise_oom_score,
        streams::{Input, Io, Stream, Streams, pump},
    },
    engine::Engine,
    error::{Context, Error, Result},
    http::{Json, ordered},
    init::{Process, memory_file},
};
use bytes::Bytes;
use drydock_protocol::frame::Size;
use drydock_runtime::container::{
    messages::{EngineToInit, Failure, FailureKind, FromChild},
    spec::ProcessSpec,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet};

/// How long a finished exec is known.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How long a client may still ask about a program whose container is gone.
const OUTLIVES: Duration = Duration::from_secs(10);
/// How long output may still come after the end of the program.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client's size waits for the program's terminal (moby's `daemon/resize.go`).
const READY: Duration = Duration::from_secs(10);

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecConfig {
    pub user: String,
    pub privileged: bool,
    pub tty: bool,
    pub console_size: Option<[u32; 2]>,
    pub attach_stdin: bool,
    pub attach_stderr: bool,
    pub attach_stdout: bool,
    pub detach: bool,
    /// Go does not look at capitals: docker-py writes it so.
    #[serde(alias = "detachKeys")]
    pub detach_keys: String,
    pub env: Option<Vec<String>>,
    pub working_dir: String,
    pub cmd: Option<Vec<String>>,
}

/// One program.
#[derive(Debug)]
pub struct Exec {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its container.
    pub container: Arc<Container>,
    /// What was asked for.
    pub config: ExecConfig,
    /// Its input and output.
    pub streams: Streams,
    terminal: Mutex<Option<Arc<Io>>>,
    state: watch::Sender<State>,
}

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Running { pid: i32 },
    Ended { pid: i32, code: i32, when: Instant },
}

/// All that are known.
#[derive(Debug, Default)]
pub struct Execs(Mutex<BTreeMap<String, Arc<Exec>>>);

impl Execs {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By id.
    pub fn get(&self, id: &str) -> Result<Arc<Exec>> {
        self.all().get(id).cloned().ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    /// Ids of those that run in a container.
    pub fn running_in(&self, container: &str) -> Vec<String> {
        let all = self.all();
        let runs = |e: &&Arc<Exec>| {
            e.container.id == container && matches!(*e.state.borrow(), State::Running { .. })
        };
        all.values().filter(runs).map(|e| e.id.clone()).collect()
    }

    /// A container is gone, and with it what was never started. Who has started something in it has yet to ask how that ended.
    pub fn forget_container(&self, engine: &Arc<Engine>, container: &str) {
        let mut any = false;
        self.all().retain(|_, exec| {
            let is_in = exec.container.id == container;
            any |= is_in;
            !is_in || *exec.state.borrow() != State::Created
        });
        if any {
            let (engine, container) = (engine.clone(), container.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(OUTLIVES).await;
                engine.execs.all().retain(|_, exec| exec.container.id != container);
            });
        }
    }

    /// A container's run has ended, and with it all programs in it; their own ends come by themselves.
    pub fn container_ended(&self, _engine: &Engine, container: &str) {
        self.all().retain(|_, e| e.container.id != container || *e.state.borrow() != State::Created);
    }

    fn add(&self, exec: Arc<Exec>) {
        let mut all = self.all();
        all.retain(
            |_, e| !matches!(*e.state.borrow(), State::Ended { when, .. } if when.elapsed() > REMEMBERED),
        );
        all.insert(exec.id.clone(), exec);
    }
}

/// `docker exec`, first half: notes what shall run. `named`: as the client called the container.
pub fn create(
    engine: &Engine,
    container: &Arc<Container>,
    named: &str,
    config: ExecConfig,
) -> Result<Arc<Exec>> {
    let cmd = config.cmd.as_deref().unwrap_or_default();
    if cmd.is_empty() || cmd[0].is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    check_running(container, named)?;
    let exec = Arc::new(Exec {
        id: crate::containers::names::new_id(),
        container: container.clone(),
        config,
        streams: Streams::default(),
        terminal: Mutex::default(),
        state: watch::Sender::new(State::Created),
    });
    engine.execs.add(exec.clone());
    exec.tell(engine, "exec_create");
    Ok(exec)
}

fn check_running(container: &Container, named: &str) -> Result<()> {
    match container.phase() {
        Phase::Running => Ok(()),
        Phase::Paused => {
            Err(Error::conflict(format!("Container {named} is paused, unpause the container before exec")))
        }
        Phase::Restarting => Err(Error::conflict(format!(
            "container {} is restarting, wait until the container is running",
            container.id
        ))),
        _ => Err(Error::conflict(format!("container {} is not running", container.id))),
    }
}

impl Exec {
    fn words(&self) -> (&str, &[String]) {
        match self.config.cmd.as_deref() {
            Some([program, arguments @ ..]) => (program, arguments),
            _ => ("", &[]),
        }
    }

    fn tell(&self, engine: &Engine, action: &str) {
        let (program, arguments) = self.words();
        let action = format!("{action}: {program} {}", arguments.join(" "));
        engine.container_event(&self.container.record(), &action, &[("execID", self.id.clone())]);
    }

    /// Refuses one whose container does not run.
    pub fn check_container(&self) -> Result<()> {
        check_running(&self.container, &self.container.id)
    }

    /// Who comes first may start it; others are refused from then on. A client may ask twice in a row, and means its first request.
    pub fn claim(self: &Arc<Self>) -> Result<Claim> {
        let mut before = State::Created;
        self.state.send_if_modified(|state| {
            before = *state;
            if before == State::Created {
                *state = State::Running { pid: 0 };
            }
            before == State::Created
        });
        match before {
            State::Created => Ok(Claim { exec: self.clone(), used: false }),
            State::Running { .. } => {
                Err(Error::conflict(format!("Error: Exec command {} is already running", self.id)))
            }
            State::Ended { .. } => {
                Err(Error::conflict(format!("Error: Exec command {} has already run", self.id)))
            }
        }
    }

    /// `GET /exec/{id}/json`
    pub fn inspect(&self) -> Json {
        let (program, arguments) = self.words();
        let (running, code, pid) = match *self.state.borrow() {
            State::Created => (false, None, 0),
            State::Running { pid } => (true, None, pid),
            State::Ended { pid, code, .. } => (false, Some(code), pid),
        };
        let process = ordered! {
            "tty": self.config.tty,
            "entrypoint": program,
            "arguments": arguments,
            "privileged": self.config.privileged,
            "user"?: Some(&self.config.user).filter(|user| !user.is_empty()),
        };
        ordered! {
            "ID": self.id,
            "Running": running,
            "ExitCode": code,
            "ProcessConfig": process,
            "OpenStdin": self.config.attach_stdin,
            "OpenStderr": self.config.attach_stderr,
            "OpenStdout": self.config.attach_stdout,
            "CanRemove": false,
            "ContainerID": self.container.id,
            "DetachKeys": "",
            "Pid": pid,
        }
    }

    /// Sets the size of its terminal. Clients send it when the program is about to start.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let mut state = self.state.subscribe();
        let started = state.wait_for(|s| !matches!(s, State::Created | State::Running { pid: 0 }));
        match tokio::time::timeout(READY, started).await {
            Ok(Ok(state)) if matches!(*state, State::Ended { pid: 0, .. }) => {
                return Err(Error::invalid("exec process is not started"));
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(Error::internal("timeout waiting for exec session ready")),
        }
        let terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match terminal {
            Some(terminal) => terminal.resize(rows, columns).doing(|| "resize".to_string()),
            None => Err(Error::internal("cannot resize a stopped exec process")),
        }
    }

    /// Waits for its end.
    pub async fn ended(&self) -> i32 {
        let mut state = self.state.subscribe();
        let end = state.wait_for(|s| matches!(s, State::Ended { .. })).await;
        match end.as_deref() {
            Ok(State::Ended { code, .. }) => *code,
            _ => -1,
        }
    }

    fn end(&self, pid: i32, code: i32) {
        self.state.send_replace(State::Ended { pid, code, when: Instant::now() });
        *self.terminal.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.streams.finish();
    }
}

/// The right to start a program. Dropped unused, another may have it.
#[derive(Debug)]
pub struct Claim {
    exec: Arc<Exec>,
    used: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.used {
            self.exec.state.send_replace(State::Created);
        }
    }
}

/// `docker exec`, second half: starts it. `input`: somebody will write its standard input.
pub async fn start(
    engine: &Arc<Engine>,
    mut claim: Claim,
    input: bool,
    size: Option<[u32; 2]>,
) -> Result<()> {
    claim.exec.check_container()?;
    let live = claim.exec.container.running()?;
    // From here on it ends in one way or another.
    claim.used = true;
    let exec = &claim.exec;
    exec.tell(engine, "exec_start");
    match begin(engine, exec, &live, input, size).await {
        Ok((process, ends)) => {
            watch(engine, exec, process, ends);
            Ok(())
        }
        Err(error) => {
            let code = match error.message.as_str() {
                m if m.contains("executable file not found") || m.contains("no such file or directory") => {
                    127
                }
                m if m.contains("permission denied") || m.contains("is a directory") => 126,
                _ => 126,
            };
            exec.end(0, code);
            Err(error)
        }
    }
}

async fn begin(
    engine: &Arc<Engine>,
    exec: &Arc<Exec>,
    live: &crate::containers::Live,
    input: bool,
    size: Option<[u32; 2]>,
) -> Result<(Process, Ends)> {
    let description = describe(engine, exec, size)?;
    if !description.cwd.starts_with('/') {
        // runc `utils_linux.go`, validateProcessSpec.
        return Err(Error::internal(
            "OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown",
        ));
    }
    let pid = engine.way_in(&exec.container, live);
    let other = rustix::process::Pid::from_raw(pid).filter(|_| pid != live.pid);
    let other =
        other.and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok());
    let target = other.as_ref().unwrap_or(&live.pidfd);
    let memory = memory_file(&description)?;
    let (report, theirs) = report_pair()?;
    let plumbing = Plumbing::new(description.tty.is_some(), input)?;
    let message = EngineToInit::Exec { key: exec.id.clone(), cgroup: live.cgroup.clone() };
    let mut fds: Vec<BorrowedFd<'_>> = vec![memory.as_fd(), theirs.as_fd(), target.as_fd()];
    fds.extend(plumbing.theirs.iter().map(AsFd::as_fd));
    let started = engine.init.start(&exec.id, &message, &fds).await;
    let process = started.map_err(|refused| Error::internal(wrapped(&refused.message)))?;
    let Plumbing { mut ends, theirs: stdio } = plumbing;
    drop((theirs, stdio));
    let mut child = Child { process, report };
    loop {
        let (told, fds) = child.hear().await?;
        match told {
            Some(FromChild::Prepared) => {
                if let Some(master) = fds.into_iter().next() {
                    ends.terminal =
                        Some(Arc::new(Io::new(master).doing(|| "take the terminal".to_string())?));
                }
            }
            // Only a container's first process has something to tell of these.
            Some(FromChild::Network | FromChild::Linked) => {}
            Some(FromChild::Failed(failure)) => {
                let _status = child.process.exit.await;
                engine.init.tell(&EngineToInit::Forget { key: exec.id.clone() }, &[]);
                return Err(failed(&failure, exec));
            }
            None => return Ok((child.process, ends)),
        }
    }
}

fn describe(engine: &Engine, exec: &Exec, size: Option<[u32; 2]>) -> Result<ProcessSpec> {
    let record = exec.container.record();
    let (config, host) = (&exec.config, &record.host);
    let mut env = spec::environment(engine, &record, config.tty);
    spec::replace(&mut env, config.env.as_deref().unwrap_or_default());
    let or = |mine: &str, theirs: &str| if mine.is_empty() { theirs.to_string() } else { mine.to_string() };
    let size = size.or(config.console_size).unwrap_or_default().map(|n| u16::try_from(n).unwrap_or(0));
    let size =
        if size.contains(&0) { Size { rows: 24, cols: 80 } } else { Size { rows: size[0], cols: size[1] } };
    let daemon = engine.config.get();
    Ok(ProcessSpec {
        argv: config.cmd.clone().unwrap_or_default(),
        env,
        cwd: or(&or(&config.working_dir, &record.config.working_dir), "/"),
        user: or(&config.user, &record.config.user),
        groups: host.group_add.clone().unwrap_or_default(),
        tty: config.tty.then_some(size),
        capabilities: spec::capabilities(host, config.privileged || host.privileged),
        no_new_privileges: spec::no_new_privileges(host) || daemon.no_new_privileges,
        // The container's, even for `--privileged`: runc knows no other (moby's issue 21984).
        seccomp: seccomp::filter(host, &daemon)?,
        rlimits: spec::rlimits(host),
        oom_score_adj: (host.oom_score_adj != 0).then_some(host.oom_score_adj),
    })
}

/// Lets output flow and notes the end.
fn watch(engine: &Arc<Engine>, exec: &Arc<Exec>, process: Process, ends: Ends) {
    let Process { pid, exit, pidfd: _ } = process;
    raise_oom_score(pid, exec.container.record().host.oom_score_adj);
    *exec.terminal.lock().unwrap_or_else(PoisonError::into_inner) = ends.terminal.clone();
    exec.state.send_replace(State::Running { pid });
    let input = ends.terminal.clone().or(ends.stdin).map_or(Input::Closed, Input::Open);
    exec.streams.set_input(input);
    let mut pumps = JoinSet::new();
    let pairs = [(ends.stdout, Stream::Out), (ends.stderr, Stream::Err), (ends.terminal, Stream::Out)];
    for (io, stream) in pairs {
        let Some(io) = io else { continue };
        let exec = exec.clone();
        pumps.spawn(async move {
            let to = &exec.streams;
            pump(io, |piece: Bytes| async move { to.hand_out(stream, &piece).await }).await;
        });
    }
    let (engine, exec) = (engine.clone(), exec.clone());
    tokio::spawn(async move {
        let Ok(code) = exit.await else { return };
        let _late = tokio::time::timeout(DRAIN, async { while pumps.join_next().await.is_some() {} }).await;
        pumps.abort_all();
        engine.init.tell(&EngineToInit::Forget { key: exec.id.clone() }, &[]);
        exec.end(pid, code);
        let attributes = [("execID", exec.id.clone()), ("exitCode", code.to_string())];
        engine.container_event(&exec.container.record(), "exec_die", &attributes);
    });
}

/// Runs a program to its end and collects what it prints, up to `max` bytes, also if it does not end. It is killed when nobody waits
/// any more.
pub async fn run(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    config: ExecConfig,
    max: usize,
    collected: &mut Vec<u8>,
) -> Result<i32> {
    struct KillOnDrop(Arc<Exec>);
    impl Drop for KillOnDrop {
        fn drop(&mut self) {
            if let State::Running { pid: pid @ 1.. } = *self.0.state.borrow() {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ended_meanwhile = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
    let exec = create(engine, container, &container.id, config)?;
    let mut output = exec.streams.attach(true, true);
    let guard = KillOnDrop(exec.clone());
    start(engine, exec.claim()?, false, None).await?;
    while let Some((_, piece)) = output.recv().await {
        let room = max.saturating_sub(collected.len()).min(piece.len());
        collected.extend_from_slice(&piece[..room]);
    }
    let code = exec.ended().await;
    drop(guard);
    Ok(code)
}

fn wrapped(why: &str) -> String {
    format!("OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown")
}

fn failed(failure: &Failure, exec: &Exec) -> Error {
    let record = exec.container.record();
    let user = if exec.config.user.is_empty() { &record.config.user } else { &exec.config.user };
    let groups = record.host.group_add.as_deref().unwrap_or_default();
    if let Some(text) = unknown_user(&failure.message, user, groups) {
        return Error::internal(text);
    }
    let message = wrapped(&failure.message);
    match failure.kind {
        FailureKind::Other => Error::internal(message),
        FailureKind::NotFound | FailureKind::NotExecutable => Error::invalid(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::Record;
    use std::{fs::File, path::Path};

    fn created() -> Arc<Exec> {
        Arc::new(Exec {
            id: "e".into(),
            container: Arc::new(Container::new(Record::default(), Path::new("/nonexistent"))),
            config: ExecConfig::default(),
            streams: Streams::default(),
            terminal: Mutex::default(),
            state: watch::Sender::new(State::Created),
        })
    }

    /// A program whose start has been answered, and whose terminal comes a moment later.
    #[tokio::test(start_paused = true)]
    async fn a_size_waits_for_the_terminal() {
        let exec = created();
        exec.state.send_replace(State::Running { pid: 0 });
        let resizing = exec.clone();
        let resizing = tokio::spawn(async move { resizing.resize(40, 120).await });
        tokio::task::yield_now().await;
        let pty = nix::pty::openpty(None, None).unwrap();
        let slave = File::from(pty.slave);
        *exec.terminal.lock().unwrap() = Some(Arc::new(Io::new(pty.master).unwrap()));
        exec.state.send_replace(State::Running { pid: 7 });
        resizing.await.unwrap().unwrap();
        let size = rustix::termios::tcgetwinsize(&slave).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (40, 120));
    }

    #[tokio::test(start_paused = true)]
    async fn a_size_for_what_does_not_start_is_refused() {
        let exec = created();
        let error = exec.resize(1, 1).await.unwrap_err();
        assert_eq!(error.message, "timeout waiting for exec session ready");
        exec.end(0, 127);
        assert_eq!(exec.resize(1, 1).await.unwrap_err(), Error::invalid("exec process is not started"));
    }
}
