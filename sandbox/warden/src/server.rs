//! The warden's loop: one thread, one poll over serve's connections, the sessions' process descriptors and signals.
//! One thread, because it forks without exec.

use crate::{
    clients::{Caller, Clients},
    error::{Error, at},
    messages::{Answer, Call, FailureKind, Message, Request},
    neighbours,
    place::{Place, state_paths},
    prepare::{Ended, Preparations},
    sessions::{Sessions, Stores, Wish},
    shortage,
};
use drydock_protocol::SessionId;
use drydock_runtime::{channel::Listener, launch::Mains};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{Gid, Uid, chown},
};
use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How a warden is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The store of node images.
    pub images: PathBuf,
    /// The store of container images that all sessions share.
    pub catalogue: PathBuf,
    /// Size of the file that holds all sessions' disks, in bytes (it takes only what is used).
    pub disk_bytes: u64,
    /// Program and arguments that make an image of the catalogue whose name follows; empty: none are made.
    pub image_command: Vec<PathBuf>,
    /// The program of WebAssembly containers, which nobody but the host's root may write to; absent: there are none.
    pub wasm: Option<PathBuf>,
    /// What the processes of a session do.
    pub mains: Mains,
}

struct Server {
    sessions: Sessions,
    listener: Listener,
    clients: Clients,
    signals: SignalFd,
    /// Who waits for a session's end.
    ending: Vec<(SessionId, Caller)>,
    /// The sessions that end for the sake of the host, and why, for their owners.
    condemned: BTreeMap<SessionId, &'static str>,
    preparations: Preparations,
    had_client: bool,
    /// When the host's memory was looked at last.
    looked: Instant,
    /// When something was asked last.
    asked: Instant,
}

/// After so long without a request a session is made ready: it must not slow down one that somebody waits for.
const QUIET: Duration = Duration::from_millis(100);

/// Runs until it is told to end, or until neither serve nor a session is left. `ready` is called when requests
/// are taken. Needs root and a process with a single thread.
pub fn run(config: &Config, ready: impl FnOnce()) -> Result<(), Error> {
    let place = Place::take(&config.state_dir)?;
    // Mounts of ours shall not be seen on the host, and shall go when we go.
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| Error::Host(format!("unshare mounts: {e}")))?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::DOWNSTREAM | rustix::mount::MountPropagationFlags::REC,
    )
    .map_err(|e| Error::Host(format!("make mounts private: {e}")))?;
    drydock_runtime::session_root::own_devices(&state_paths::devices(place.state()))?;
    let socket = state_paths::warden_socket(place.state());
    let web = place.web_user();
    let images = drydock_images::Store::open(&config.images)?;
    let catalogue = drydock_images::Store::open(&config.catalogue)?;
    let stores = Stores { images, catalogue, wasm: config.wasm.as_deref().and_then(open_program) };
    let sessions = Sessions::new(place, stores, config.disk_bytes, config.mains)?;
    let _left_by_a_crash = fs::remove_file(&socket);
    let listener = Listener::bind(&socket).map_err(at(&socket))?;
    chown(&socket, Some(Uid::from_raw(web)), Some(Gid::from_raw(web)))
        .map_err(|e| Error::File(socket.clone(), e.into()))?;
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        set.add(signal);
    }
    let host = |what: &'static str| move |e| Error::Host(format!("{what}: {e}"));
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(host("block signals"))?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(host("signalfd"))?;
    let preparations = Preparations::new(config.image_command.clone());
    let mut server = Server {
        sessions,
        listener,
        clients: Clients::default(),
        signals,
        ending: vec![],
        condemned: BTreeMap::new(),
        preparations,
        had_client: false,
        looked: Instant::now(),
        asked: Instant::now(),
    };
    neighbours::make_room();
    ready();
    let served = server.serve();
    server.sessions.keep_none_ready();
    served?;
    let _already_gone = fs::remove_file(&socket);
    if server.sessions.ids().is_empty() {
        server.sessions.close();
    }
    Ok(())
}

/// Opened once: every session gets this descriptor.
fn open_program(path: &Path) -> Option<OwnedFd> {
    let opened = fs::File::open(path);
    opened
        .inspect_err(|e| tracing::warn!("no WebAssembly containers: {}: {e}", path.display()))
        .ok()
        .map(Into::into)
}

/// What one round of polling found.
struct Ready {
    stop: bool,
    connection: bool,
    preparing: bool,
    /// Those that have said something.
    clients: Vec<u64>,
    ended: Vec<SessionId>,
}

impl Server {
    fn serve(&mut self) -> Result<(), Error> {
        loop {
            if self.clients.is_empty() {
                self.sessions.keep_none_ready();
            }
            let lingering = self.sessions.sweep_lingering();
            let idle = self.clients.is_empty()
                && self.sessions.ids().is_empty()
                && lingering.is_none()
                && !self.preparations.is_busy();
            if self.had_client && idle {
                return Ok(());
            }
            let dying = self.sessions.help_dying();
            let look = self.look_at_host();
            let quiet = self.sessions.owes_ready().then(|| QUIET.saturating_sub(self.asked.elapsed()));
            let ready = self.wait([lingering, dying, look, quiet].into_iter().flatten().min())?;
            if ready.stop {
                return Ok(());
            }
            for id in ready.ended {
                self.session_ended(&id);
            }
            if ready.preparing {
                self.prepare();
            }
            for client in ready.clients {
                self.read(client);
            }
            if ready.connection {
                self.accept();
            }
            if quiet.is_some() && self.asked.elapsed() >= QUIET {
                self.sessions.make_ready();
            }
        }
    }

    /// Ends a session if the host runs out of what all share. Tells when to look again, if there are sessions.
    fn look_at_host(&mut self) -> Option<Duration> {
        if self.sessions.ids().is_empty() {
            return None;
        }
        let left = shortage::INTERVAL.saturating_sub(self.looked.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        self.looked = Instant::now();
        if let Some(crowd) = neighbours::crowd()
            && let Some((id, count)) = neighbours::heaviest(&self.sessions.users(), crowd)
        {
            tracing::warn!(session = %id, count, "the host's table of neighbours is nearly full: the session that has most of them ends");
            self.condemn(&id, "the host could remember no more neighbours in networks, and most of them were this session's");
        }
        if shortage::is_short()
            && let Some((id, bytes)) = shortage::heaviest(&self.sessions.users())
        {
            tracing::warn!(session = %id, mebibytes = bytes >> 20, "the host is short of memory: the session that may hold most of what is charged to none ends");
            self.condemn(
                &id,
                "the host was running out of memory, and this session's sockets may have held most of it",
            );
        }
        Some(shortage::INTERVAL)
    }

    fn condemn(&mut self, id: &SessionId, why: &'static str) {
        match self.sessions.kill(id) {
            Ok(_) => _ = self.condemned.insert(id.clone(), why),
            Err(error) => tracing::error!(session = %id, "{error}"),
        }
    }

    fn wait(&mut self, most: Option<Duration>) -> Result<Ready, Error> {
        let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![input(self.signals.as_fd()), input(self.listener.as_fd())];
        let clients: Vec<u64> = self.clients.fds().map(|(client, _)| client).collect();
        fds.extend(self.clients.fds().map(|(_, fd)| input(fd)));
        let ids: Vec<SessionId> = self.sessions.pidfds().map(|(id, _)| id.clone()).collect();
        fds.extend(self.sessions.pidfds().map(|(_, fd)| input(fd)));
        fds.extend(self.preparations.fd().map(input));
        // Rounded up: what is not yet due would be looked at in vain.
        let timeout = most.map_or(PollTimeout::NONE, |most| {
            PollTimeout::try_from(most + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::Host(format!("poll: {e}"))),
        }
        let hit: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
        drop(fds);
        let mut stop = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // SIGCHLD only wakes us; sessions are known by their process descriptors.
            stop |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        let (of_clients, others) = hit[2..].split_at(clients.len());
        let preparing = others.get(ids.len()).copied().unwrap_or(false);
        Ok(Ready {
            stop,
            preparing,
            connection: hit[1],
            clients: only_hit(clients, of_clients),
            ended: only_hit(ids, others),
        })
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((client, user)) => {
                if user != 0 && user != self.sessions.place().web_user() {
                    return tracing::warn!(user, "connection refused");
                }
                match self.clients.add(client) {
                    Ok(()) => self.had_client = true,
                    Err(e) => tracing::warn!(user, "connection refused: {e}"),
                }
            }
            Err(e) => tracing::warn!("accept: {e}"),
        }
    }

    /// Reads one request and answers it.
    fn read(&mut self, client: u64) {
        let Some(packet) = self.clients.read(client) else { return };
        self.asked = Instant::now();
        let Call { number, request } = match serde_json::from_slice(&packet) {
            Ok(call) => call,
            Err(e) => {
                tracing::warn!("unreadable request: {e}");
                return self.clients.hang_up(client);
            }
        };
        let caller = Caller { client, number };
        if let Some(answer) = self.answer(caller, request) {
            self.clients.answer(caller, answer);
        }
    }

    /// `None`: the answer comes when the session has ended.
    fn answer(&mut self, caller: Caller, request: Request) -> Option<Answer> {
        let done = |result: Result<(), Error>| result.map(|()| Answer::Done);
        let answer = match request {
            Request::Create { id, nodes, image, limits, egress, cluster } => {
                let wish = Wish { nodes, image: &image, limits, egress: &egress, cluster };
                self.sessions.create(&id, &wish).map(|trace| Answer::Created { trace })
            }
            Request::KeepReady { id, image, limits, egress } => {
                done(self.sessions.keep_ready(id, image, limits, egress))
            }
            Request::AddNode { id, node } => done(self.sessions.add_node(&id, node)),
            Request::ForgetNode { id, node } => done(self.sessions.forget_node(&id, node)),
            Request::Freeze { id, frozen } => done(self.sessions.freeze(&id, frozen)),
            Request::Destroy { id } => match self.sessions.kill(&id) {
                Ok(true) => {
                    self.ending.push((id, caller));
                    return None;
                }
                Ok(false) => Ok(Answer::Destroyed { trace: vec![] }),
                Err(e) => Err(e),
            },
            Request::PrepareImage { name } => match self.preparations.ask(&name, caller) {
                Ok(()) => {
                    let failed = self.preparations.start();
                    failed.into_iter().for_each(|ended| self.prepared(ended));
                    return None;
                }
                Err(e) => Err(e),
            },
            Request::List => Ok(Answer::Sessions { sessions: self.sessions.ids() }),
            Request::Exit => match self.sessions.ids().len() {
                // The loop ends when the connection does.
                0 => {
                    self.sessions.keep_none_ready();
                    Ok(Answer::Done)
                }
                n => Err(Error::Busy(n)),
            },
        };
        Some(answer.unwrap_or_else(|e| {
            tracing::warn!("{e}");
            Answer::Failed { kind: e.failure(), message: e.to_string() }
        }))
    }

    /// Passes on what the maker of images says.
    fn prepare(&mut self) {
        let (lines, ended) = self.preparations.read();
        for (name, line) in lines {
            self.clients.tell(&Message::Preparing { name, line }, &[]);
        }
        if let Some(ended) = ended {
            self.prepared(ended);
            let failed = self.preparations.start();
            failed.into_iter().for_each(|ended| self.prepared(ended));
        }
    }

    fn prepared(&mut self, ended: Ended) {
        let answer = match ended.result {
            Ok(()) => Answer::Done,
            Err(message) => Answer::Failed { kind: FailureKind::Failed, message },
        };
        for caller in ended.calls {
            self.clients.answer(caller, answer.clone());
        }
    }

    fn session_ended(&mut self, id: &SessionId) {
        if self.sessions.is_ready(id) {
            self.sessions.keep_none_ready();
            let reason = "it was kept ready".into();
            return self.clients.tell(&Message::Died { id: id.clone(), reason }, &[]);
        }
        let (how, trace) = self.sessions.ended(id);
        let reason = self.condemned.remove(id).map_or(how, str::to_owned);
        let (asked, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ending).into_iter().partition(|(ending, _)| ending == id);
        self.ending = others;
        let asked: Vec<Caller> = asked.into_iter().map(|(_, caller)| caller).collect();
        if asked.is_empty() {
            tracing::info!(session = %id, reason, "died");
        }
        self.clients.tell(&Message::Died { id: id.clone(), reason }, &asked);
        for caller in asked {
            self.clients.answer(caller, Answer::Destroyed { trace: trace.clone() });
        }
    }
}

/// Those of which the poll says that there is something.
fn only_hit<T>(all: Vec<T>, hit: &[bool]) -> Vec<T> {
    all.into_iter().zip(hit).filter(|(_, hit)| **hit).map(|(one, _)| one).collect()
}
