//! What `drydock serve` does while it is still root, and how it stops being root. Called once by `serve`, before any
//! thread exists; reads top to bottom as the list of privileged steps.

use crate::{config::Config, space, state_dir, warden::connect_packet_socket};
use anyhow::{Context, bail, ensure};
use drydock_warden::messages::{Call, MAX_PACKET, Request};
use nix::{
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
        stat::{Mode, umask},
    },
    unistd::{Gid, Pid, Uid, getresgid, getresuid, setgroups, setresgid, setresuid, setuid},
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    net::TcpListener,
    os::{
        fd::AsFd,
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// How long the warden may take to be ready: its first start makes and formats the disk file.
const WARDEN_WITHIN_MS: u16 = 60_000;

/// What the web process gets from root.
#[derive(Debug)]
pub struct Prepared {
    /// The state directory's absolute path.
    pub state_dir: PathBuf,
    /// Bound to the address for browsers.
    pub listener: TcpListener,
    /// A connection to the warden. A warden with nothing to do ends with its last connection, so this one must be held
    /// until the web process has its own.
    pub warden: UnixStream,
}

/// Does all that needs root, then gives it up.
pub fn prepare(state_dir: &Path, config: &Config) -> anyhow::Result<Prepared> {
    ensure!(
        Uid::effective().is_root(),
        "drydock serve must be started as root: it makes user and network namespaces, control groups and mounts for sessions. \
         Try: sudo drydock serve"
    );
    let state_dir = state_dir::make(state_dir)?;
    raise_descriptor_limit()?;
    let warden = match greet_warden(&state_dir) {
        Some(connection) if is_up_to_date(&connection) || is_served(&state_dir) => connection,
        Some(old) => {
            end_warden(old)?;
            // It waits until the other one has ended, and goes on with its sessions.
            start_warden(&state_dir, config)?
        }
        None => start_warden(&state_dir, config)?,
    };
    // Not before the warden is started, whose nodes would inherit it.
    umask(Mode::from_bits_truncate(0o077));
    let listener = TcpListener::bind(config.listen).with_context(|| {
        format!(
            "cannot listen on {}: is another server there? Choose another address with --listen",
            config.listen
        )
    })?;
    listener.set_nonblocking(true)?;
    // The warden chooses the user id of this server and gives it this directory.
    let user = fs::metadata(state_dir.join("web")).context("the warden has made no web/")?.uid();
    give_up_root(user)?;
    Ok(Prepared { state_dir, listener, warden })
}

/// Every page holds a descriptor here and one to its session.
fn raise_descriptor_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")
}

/// A connection to a warden that answers, if there is one. One that is just ending accepts but does not answer.
fn greet_warden(state_dir: &Path) -> Option<UnixStream> {
    let mut socket = connect_packet_socket(&state_dir.join("run/warden.sock")).ok()?;
    let call = serde_json::to_vec(&Call { number: 0, request: Request::List }).ok()?;
    socket.set_nonblocking(false).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    socket.write_all(&call).ok()?;
    let mut packet = vec![0; MAX_PACKET];
    let n = socket.read(&mut packet).ok()?;
    (n > 0).then_some(socket)
}

/// Whether the warden is made of the same file as this process. After an upgrade it is not, even where that has the same name.
fn is_up_to_date(warden: &UnixStream) -> bool {
    let file = |process: &str| fs::metadata(format!("/proc/{process}/exe")).map(|m| (m.dev(), m.ino()));
    match getsockopt(warden, PeerCredentials).map(|peer| file(&peer.pid().to_string())) {
        Ok(Ok(theirs)) => file("self").is_ok_and(|ours| ours == theirs),
        // Nothing speaks for another one.
        _ => true,
    }
}

/// Whether a server uses the state directory now, whose warden is its own business.
fn is_served(state_dir: &Path) -> bool {
    let lock = fs::File::open(state_dir.join("web/lock"));
    lock.is_ok_and(|lock| Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_err())
}

/// Has a warden of another build end. Sessions are not part of it and go on.
fn end_warden(warden: UnixStream) -> anyhow::Result<()> {
    let pid = getsockopt(&warden, PeerCredentials)?.pid();
    tracing::info!(pid, "the warden is of another build: this one's takes its place, and its sessions go on");
    kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot end the warden of the build before")
}

/// Starts a warden and connects to it. It outlives this process.
fn start_warden(state_dir: &Path, config: &Config) -> anyhow::Result<UnixStream> {
    let log_path = state_dir.join("log/warden.log");
    let log =
        OpenOptions::new().create(true).append(true).open(&log_path).context("cannot open log/warden.log")?;
    let (mut ready, tell_ready) = io::pipe()?;
    // The pipe is the child's standard input, so that no descriptor must be made inheritable; it makes itself the
    // leader of a session of its own, which detaches it from this terminal.
    let mut child = Command::new(std::env::current_exe()?)
        .arg("warden")
        .arg("--state-dir")
        .arg(state_dir)
        .arg("--registry-bytes")
        .arg(space::of_registry(config).to_string())
        .arg("--tell-ready")
        .current_dir("/")
        .stdin(Stdio::from(tell_ready))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the warden")?;
    let n = poll(&mut [PollFd::new(ready.as_fd(), PollFlags::POLLIN)], PollTimeout::from(WARDEN_WITHIN_MS))?;
    let mut byte = [0];
    if n > 0 && ready.read(&mut byte)? == 1 {
        return greet_warden(state_dir).context("the warden started but does not answer");
    }
    if n == 0 {
        // A warden that hangs would keep the next one from starting.
        child.kill()?;
    }
    let log = fs::read_to_string(&log_path).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(5).collect();
    let last: String = last.iter().rev().map(|l| format!("\n    {l}")).collect();
    bail!(
        "the warden did not start. The end of {}:{last}\n`drydock doctor` tells what this machine lacks.",
        log_path.display()
    )
}

/// From here on this process is `uid`, without any capability and without a way to get one.
fn give_up_root(uid: u32) -> anyhow::Result<()> {
    ensure!(uid != 0, "the web process must not be root: web/ in the state directory belongs to root");
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;

    let (users, groups) = (getresuid()?, getresgid()?);
    ensure!(
        [users.real, users.effective, users.saved] == [user; 3]
            && [groups.real, groups.effective, groups.saved] == [group; 3],
        "could not give up root"
    );
    ensure!(setuid(Uid::from_raw(0)).is_err(), "could not give up root for good");
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    for name in ["CapEff:", "CapPrm:", "CapAmb:"] {
        let value = status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or("?");
        ensure!(
            !value.is_empty() && value.bytes().all(|b| b == b'0'),
            "could not give up capabilities: {name} {value}"
        );
    }
    Ok(())
}
