//! The other side of serve, for tests: a warden on a packet socket, and for each session a socket that answers like a
//! session process. A "terminal" echoes, files live in a map, port N of a node is TCP port N of this machine.

use drydock_protocol::{
    NodeName, SessionId,
    control::{FromPage, ToPage},
    frame::Size,
    pipe::{Argument, BINARY, Control, Entry, EntryKind, ErrorKind, FileOp, Open, Reply, Step, TEXT, exec},
    state::{Node, Power, SessionState},
};
use drydock_warden::messages::{Answer, Call, FailureKind, MAX_PACKET, Message, Request};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, listen, socket};
use std::{
    collections::{BTreeMap, HashMap},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixListener, UnixStream},
    runtime::Handle,
    task::JoinHandle,
};

#[derive(Default)]
pub struct State {
    pub sessions: HashMap<SessionId, Session>,
    pub log: Vec<String>,
    pub fail_create: bool,
    pub never_ready: bool,
    pub idle_micros: u64,
    /// The session that it is to keep ready.
    pub ready: Option<SessionId>,
    clients: Vec<StdStream>,
}

pub struct Session {
    /// Those that its process has.
    pub nodes: Vec<NodeName>,
    /// Those that the warden has.
    pub disks: Vec<NodeName>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub half_written: usize,
    task: JoinHandle<()>,
}

#[derive(Clone)]
pub struct Fake {
    pub state: Arc<Mutex<State>>,
    dir: PathBuf,
}

impl Fake {
    /// Listens at `run/warden.sock` for as long as the test lives.
    pub fn start(dir: &Path) -> Self {
        let fake = Self { state: Arc::default(), dir: dir.to_owned() };
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new(&dir.join("run/warden.sock")).unwrap()).unwrap();
        listen(&fd, Backlog::new(8).unwrap()).unwrap();
        let (this, handle) = (fake.clone(), Handle::current());
        std::thread::spawn(move || accept_all(&fd, &this, &handle));
        fake
    }

    /// A session's process dies.
    pub fn kill(&self, id: &SessionId, reason: &str) {
        self.state.lock().unwrap().remove(&self.dir, id);
        self.tell_died(id, reason);
    }

    /// Says that a session has ended, as a warden does.
    pub fn tell_died(&self, id: &SessionId, reason: &str) {
        let died = serde_json::to_vec(&Message::Died { id: id.clone(), reason: reason.into() }).unwrap();
        self.state.lock().unwrap().clients.retain_mut(|c| c.write_all(&died).is_ok());
    }

    /// Drops every connection, as a warden that restarts.
    pub fn hang_up(&self) {
        for client in self.state.lock().unwrap().clients.drain(..) {
            client.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }
}

impl State {
    fn remove(&mut self, dir: &Path, id: &SessionId) {
        if let Some(session) = self.sessions.remove(id) {
            session.task.abort();
            std::fs::remove_file(dir.join(format!("run/sessions/{id}.sock"))).unwrap();
        }
    }
}

#[expect(unsafe_code, reason = "nix's accept(2) gives a bare number")]
fn accept_all(fd: &OwnedFd, fake: &Fake, handle: &Handle) {
    while let Ok(client) = accept(fd.as_raw_fd()) {
        // SAFETY: the descriptor is fresh from accept(2), and nobody else's.
        let client = StdStream::from(unsafe { OwnedFd::from_raw_fd(client) });
        fake.state.lock().unwrap().clients.push(client.try_clone().unwrap());
        let (fake, handle) = (fake.clone(), handle.clone());
        std::thread::spawn(move || converse(client, &fake, &handle));
    }
}

fn converse(mut client: StdStream, fake: &Fake, handle: &Handle) {
    let mut packet = vec![0; MAX_PACKET];
    while let Ok(n) = client.read(&mut packet)
        && n > 0
    {
        let call: Call = serde_json::from_slice(&packet[..n]).unwrap();
        let answer = answer(fake, handle, call.request);
        let bytes = serde_json::to_vec(&Message::Answer { number: call.number, answer }).unwrap();
        if client.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn answer(fake: &Fake, handle: &Handle, request: Request) -> Answer {
    let step = |name: &str| vec![Step { name: name.into(), start_micros: 1, micros: 2 }];
    let mut state = fake.state.lock().unwrap();
    match request {
        Request::Create { id, nodes, .. } => {
            state.log.push("create".into());
            if state.fail_create {
                return Answer::Failed { kind: FailureKind::Full, message: "No disk space is left.".into() };
            }
            let listener = {
                let _in_runtime = handle.enter();
                UnixListener::bind(fake.dir.join(format!("run/sessions/{id}.sock"))).unwrap()
            };
            let task = handle.spawn(session(listener, fake.clone(), id.clone()));
            let nodes: Vec<NodeName> = (1..=nodes).filter_map(NodeName::new).collect();
            let disks = nodes.clone();
            state
                .sessions
                .insert(id, Session { nodes, disks, files: BTreeMap::new(), half_written: 0, task });
            Answer::Created { trace: step("clone namespaces") }
        }
        Request::Destroy { id } => {
            state.log.push("destroy".into());
            state.remove(&fake.dir, &id);
            Answer::Destroyed { trace: step("kill") }
        }
        Request::Freeze { frozen, .. } => {
            state.log.push(format!("freeze {frozen}"));
            Answer::Done
        }
        Request::KeepReady { id, .. } => {
            state.ready = Some(id);
            Answer::Done
        }
        Request::AddNode { id, node } => {
            let session = state.sessions.get_mut(&id).unwrap();
            if session.disks.contains(&node) {
                return failed(FailureKind::InUse, format!("{node} exists already"));
            }
            session.disks.push(node);
            session.nodes.push(node);
            Answer::Done
        }
        Request::ForgetNode { id, node } => {
            let disks = &mut state.sessions.get_mut(&id).unwrap().disks;
            if !disks.contains(&node) {
                return failed(FailureKind::NotFound, format!("there is no {node}"));
            }
            disks.retain(|n| *n != node);
            state.log.push(format!("forget {node}"));
            Answer::Done
        }
        Request::PrepareImage { name } => {
            state.log.push(format!("prepare {name}"));
            Answer::Done
        }
        Request::List => Answer::Sessions { sessions: state.sessions.keys().cloned().collect() },
        Request::Exit => {
            state.log.push("exit".into());
            Answer::Done
        }
    }
}

fn failed(kind: FailureKind, message: String) -> Answer {
    Answer::Failed { kind, message }
}

async fn session(listener: UnixListener, fake: Fake, id: SessionId) {
    while let Ok((stream, _)) = listener.accept().await {
        let (fake, id) = (fake.clone(), id.clone());
        tokio::spawn(async move { drop(connection(stream, fake, id).await) });
    }
}

async fn read(stream: &mut UnixStream) -> std::io::Result<(u8, Vec<u8>)> {
    let tag = stream.read_u8().await?;
    let mut payload = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut payload).await?;
    Ok((tag, payload))
}

async fn write(stream: &mut UnixStream, tag: u8, payload: &[u8]) -> std::io::Result<()> {
    stream.write_u8(tag).await?;
    stream.write_u32(payload.len() as u32).await?;
    stream.write_all(payload).await
}

async fn say<T: serde::Serialize>(stream: &mut UnixStream, value: &T) -> std::io::Result<()> {
    write(stream, TEXT, &serde_json::to_vec(value).unwrap()).await
}

async fn connection(mut s: UnixStream, fake: Fake, id: SessionId) -> std::io::Result<()> {
    let (_, open) = read(&mut s).await?;
    match serde_json::from_slice(&open).unwrap() {
        Open::Control { request } => {
            let reply = control(&fake, &id, request).await;
            say(&mut s, &reply).await
        }
        Open::Viewer { role, client } => {
            fake.state.lock().unwrap().log.push(format!("viewer {role:?} {client}"));
            say(&mut s, &ToPage::Hello { you: 1, role, input_seq: 0 }).await?;
            loop {
                match read(&mut s).await? {
                    (TEXT, text) => match serde_json::from_slice(&text).unwrap_or(FromPage::Unknown) {
                        FromPage::Ping { t } => say(&mut s, &ToPage::Pong { t }).await?,
                        FromPage::Close { .. } => return write(&mut s, 77, b"not a frame").await,
                        _ => {}
                    },
                    (_, bytes) => write(&mut s, BINARY, &bytes).await?,
                }
            }
        }
        Open::Exec { argv, env, tty, .. } => exec_command(&mut s, &argv, &env, tty).await,
        Open::Tcp { port, .. } => match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(mut tcp) => {
                say(&mut s, &Reply::Done).await?;
                tokio::io::copy_bidirectional(&mut s, &mut tcp).await.map(drop)
            }
            Err(_) => {
                let message = format!("nothing listens on port {port}");
                say(&mut s, &Reply::Error { kind: ErrorKind::Conflict, message }).await
            }
        },
        // No node of these tests calls.
        Open::Services => read(&mut s).await.map(drop),
        Open::Take { .. } => {
            let message = "nobody waits".into();
            say(&mut s, &Reply::Error { kind: ErrorKind::Invalid, message }).await
        }
        Open::File { op, .. } => file(&mut s, &fake, &id, op).await,
    }
}

async fn control(fake: &Fake, id: &SessionId, request: Control) -> Reply {
    if fake.state.lock().unwrap().never_ready && request == Control::Ready {
        return Reply::Error { kind: ErrorKind::Failed, message: "The shell did not start.".into() };
    }
    let mut state = fake.state.lock().unwrap();
    let idle_micros = state.idle_micros;
    let Some(session) = state.sessions.get_mut(id) else {
        return Reply::Error { kind: ErrorKind::Failed, message: "gone".into() };
    };
    match request {
        Control::State => {
            let node = |name: &NodeName| Node {
                name: *name,
                address: format!("10.0.0.{}", name.number()),
                power: Power::On,
                usage: None,
                ports: vec![],
                docker: None,
            };
            let nodes = session.nodes.iter().map(node).collect();
            Reply::State { state: SessionState { nodes, ..Default::default() }, idle_micros, viewers: 0 }
        }
        Control::Ready => {
            Reply::Ready { trace: vec![Step { name: "shell".into(), start_micros: 0, micros: 5 }] }
        }
        Control::RemoveNode { node } | Control::Power { node, .. } if !session.nodes.contains(&node) => {
            Reply::Error { kind: ErrorKind::NotFound, message: format!("There is no {node}.") }
        }
        Control::RemoveNode { node } => {
            session.nodes.retain(|n| *n != node);
            Reply::Done
        }
        _ => Reply::Done,
    }
}

/// `cat` echoes its input, `env` prints its environment and the size; anything else is not found.
async fn exec_command(
    s: &mut UnixStream,
    argv: &[Argument],
    env: &[(String, String)],
    tty: Option<Size>,
) -> std::io::Result<()> {
    match argv.first().map(Argument::as_bytes) {
        Some(b"cat") => loop {
            let (_, bytes) = read(s).await?;
            match bytes.split_first() {
                Some((&exec::STDIN, data)) => {
                    let out = [&[exec::STDOUT][..], data].concat();
                    write(s, BINARY, &out).await?;
                }
                _ => break,
            }
        },
        Some(b"env") => {
            let text = format!("{env:?} {tty:?}\n");
            write(s, BINARY, &[&[exec::STDOUT][..], text.as_bytes()].concat()).await?;
            write(s, BINARY, &[&[exec::STDERR][..], b"warned\n"].concat()).await?;
        }
        _ => {
            let message = "There is no program of that name.".into();
            return say(s, &Reply::Error { kind: ErrorKind::NotFound, message }).await;
        }
    }
    say(s, &Reply::Exit { status: 7 }).await
}

async fn file(s: &mut UnixStream, fake: &Fake, id: &SessionId, op: FileOp) -> std::io::Result<()> {
    let entry = |name: &str, size: usize| Entry {
        name: name.into(),
        kind: EntryKind::File,
        size: size as u64,
        mode: 0o644,
        modified_micros: 1234,
        target: None,
    };
    let not_found =
        |path: &str| Reply::Error { kind: ErrorKind::NotFound, message: format!("There is no {path}.") };
    let reply = match op {
        FileOp::List { path } => {
            let state = fake.state.lock().unwrap();
            let below = format!("{}/", path.trim_end_matches('/'));
            let files = &state.sessions[id].files;
            let found: Vec<Entry> = files
                .iter()
                .filter_map(|(p, data)| Some(entry(p.strip_prefix(&below)?, data.len())))
                .filter(|e| !e.name.contains('/'))
                .collect();
            if found.is_empty() && path != "/" && path != "/root" {
                not_found(&path)
            } else {
                Reply::Entries { entries: found, cut: false }
            }
        }
        FileOp::Read { path, limit } => {
            let (found, is_directory) = {
                let state = fake.state.lock().unwrap();
                let files = &state.sessions[id].files;
                (files.get(&path).cloned(), files.keys().any(|p| p.starts_with(&format!("{path}/"))))
            };
            match found {
                Some(data) if limit.is_some_and(|l| data.len() as u64 > l) => {
                    Reply::Error { kind: ErrorKind::Limit, message: "The file is too large.".into() }
                }
                Some(data) => {
                    say(s, &Reply::File { entry: entry("x", data.len()) }).await?;
                    for piece in data.chunks(1000) {
                        write(s, BINARY, piece).await?;
                    }
                    Reply::Done
                }
                None if is_directory => {
                    Reply::Error { kind: ErrorKind::Conflict, message: format!("{path} is a directory.") }
                }
                None => not_found(&path),
            }
        }
        FileOp::Write { path, unless_changed_since_micros, .. } => {
            if unless_changed_since_micros.is_some_and(|m| m != 1234) {
                Reply::Error { kind: ErrorKind::Conflict, message: "The file was changed meanwhile.".into() }
            } else {
                let mut data = Vec::new();
                fake.state.lock().unwrap().log.push("write".into());
                loop {
                    match read(s).await {
                        Ok((BINARY, piece)) => data.extend(piece),
                        Ok(_) => break,
                        Err(e) => {
                            fake.state.lock().unwrap().sessions.get_mut(id).unwrap().half_written += 1;
                            return Err(e);
                        }
                    }
                }
                let written = Reply::File { entry: entry("x", data.len()) };
                fake.state.lock().unwrap().sessions.get_mut(id).unwrap().files.insert(path, data);
                written
            }
        }
        FileOp::Remove { path } => {
            match fake.state.lock().unwrap().sessions.get_mut(id).unwrap().files.remove(&path) {
                Some(_) => Reply::Done,
                None => not_found(&path),
            }
        }
        _ => Reply::Done,
    };
    say(s, &reply).await
}
