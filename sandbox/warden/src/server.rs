//! The warden's loop: one thread, one poll over serve's connections, the sessions' process descriptors and signals.
//! One thread, because it forks without exec.

use crate::{
    error::{Error, at},
    messages::{Answer, Call, FailureKind, Message, Request},
    place::{Place, state_paths},
    prepare::{Ended, Preparations},
    sessions::{Sessions, Stores, Wish},
};
use drydock_protocol::SessionId;
use drydock_runtime::{
    channel::{Channel, Listener},
    launch::Mains,
};
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
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

/// Connections of serve at a time: the one, and one that has just been killed.
const MAX_CLIENTS: usize = 8;

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
    clients: Vec<Channel>,
    signals: SignalFd,
    /// Who waits for a session's end: (session, client's position at the time, call number).
    ending: Vec<(SessionId, u64)>,
    preparations: Preparations,
    had_client: bool,
}

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
        clients: vec![],
        signals,
        ending: vec![],
        preparations,
        had_client: false,
    };
    ready();
    server.serve()?;
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
    clients: Vec<bool>,
    ended: Vec<SessionId>,
}

impl Server {
    fn serve(&mut self) -> Result<(), Error> {
        loop {
            let lingering = self.sessions.sweep_lingering();
            let idle = self.clients.is_empty()
                && self.sessions.ids().is_empty()
                && lingering.is_none()
                && !self.preparations.is_busy();
            if self.had_client && idle {
                return Ok(());
            }
            let dying = self.sessions.help_dying();
            let ready = self.wait(lingering.into_iter().chain(dying).min())?;
            if ready.stop {
                return Ok(());
            }
            for id in ready.ended {
                self.session_ended(&id);
            }
            if ready.preparing {
                self.prepare();
            }
            let mut open = Vec::new();
            for (client, readable) in std::mem::take(&mut self.clients).into_iter().zip(ready.clients) {
                if !readable || self.read(&client) {
                    open.push(client);
                }
            }
            self.clients.append(&mut open);
            if ready.connection {
                self.accept();
            }
        }
    }

    fn wait(&mut self, most: Option<Duration>) -> Result<Ready, Error> {
        let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![input(self.signals.as_fd()), input(self.listener.as_fd())];
        fds.extend(self.clients.iter().map(|c| input(c.as_fd())));
        let ids: Vec<SessionId> = self.sessions.ids();
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
        let clients = self.clients.len();
        let mut stop = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // SIGCHLD only wakes us; sessions are known by their process descriptors.
            stop |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        let preparing = hit.len() > 2 + clients + ids.len() && hit[hit.len() - 1];
        Ok(Ready {
            stop,
            preparing,
            connection: hit[1],
            clients: hit[2..2 + clients].to_vec(),
            ended: ids
                .into_iter()
                .zip(&hit[2 + clients..])
                .filter(|(_, hit)| **hit)
                .map(|(id, _)| id)
                .collect(),
        })
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((client, user)) => {
                let allowed = user == 0 || user == self.sessions.place().web_user();
                if allowed && self.clients.len() < MAX_CLIENTS {
                    self.had_client = true;
                    self.clients.push(client);
                } else {
                    tracing::warn!(user, "connection refused");
                }
            }
            Err(e) => tracing::warn!("accept: {e}"),
        }
    }

    /// Reads one request and answers it; false when the connection is over.
    fn read(&mut self, client: &Channel) -> bool {
        let packet = match client.recv_bytes() {
            Ok(Some((packet, _))) => packet,
            Ok(None) => return false,
            Err(e) => {
                tracing::warn!("read from serve: {e}");
                return false;
            }
        };
        let call: Call = match serde_json::from_slice(&packet) {
            Ok(call) => call,
            Err(e) => {
                tracing::warn!("unreadable request: {e}");
                return false;
            }
        };
        let number = call.number;
        match self.answer(call) {
            Some(answer) => send(client, &Message::Answer { number, answer }),
            None => true,
        }
    }

    /// `None`: the answer comes when the session has ended.
    fn answer(&mut self, call: Call) -> Option<Answer> {
        let done = |result: Result<(), Error>| result.map(|()| Answer::Done);
        let answer = match call.request {
            Request::Create { id, nodes, image, limits, egress, cluster } => {
                let wish = Wish { nodes, image: &image, limits, egress: &egress, cluster };
                self.sessions.create(&id, &wish).map(|trace| Answer::Created { trace })
            }
            Request::AddNode { id, node } => done(self.sessions.add_node(&id, node)),
            Request::ForgetNode { id, node } => done(self.sessions.forget_node(&id, node)),
            Request::Freeze { id, frozen } => done(self.sessions.freeze(&id, frozen)),
            Request::Destroy { id } => match self.sessions.kill(&id) {
                Ok(true) => {
                    self.ending.push((id, call.number));
                    return None;
                }
                Ok(false) => Ok(Answer::Destroyed { trace: vec![] }),
                Err(e) => Err(e),
            },
            Request::PrepareImage { name } => match self.preparations.ask(&name, call.number) {
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
                0 => Ok(Answer::Done),
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
            let message = Message::Preparing { name, line };
            self.clients.retain(|client| send(client, &message));
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
        for number in ended.calls {
            let message = Message::Answer { number, answer: answer.clone() };
            self.clients.retain(|client| send(client, &message));
        }
    }

    fn session_ended(&mut self, id: &SessionId) {
        let (reason, trace) = self.sessions.ended(id);
        let (asked, others) =
            std::mem::take(&mut self.ending).into_iter().partition(|(ending, _)| ending == id);
        self.ending = others;
        let asked: Vec<(SessionId, u64)> = asked;
        if asked.is_empty() {
            tracing::info!(session = %id, reason, "died");
            let message = Message::Died { id: id.clone(), reason };
            self.clients.retain(|client| send(client, &message));
        }
        for (_, number) in asked {
            let message = Message::Answer { number, answer: Answer::Destroyed { trace: trace.clone() } };
            self.clients.retain(|client| send(client, &message));
        }
    }
}

/// False when the connection is over.
fn send(client: &Channel, message: &Message) -> bool {
    let sent =
        serde_json::to_vec(message).map_err(std::io::Error::other).and_then(|m| client.send_bytes(&m, &[]));
    if let Err(e) = &sent {
        tracing::warn!("answer to serve: {e}");
    }
    sent.is_ok()
}
