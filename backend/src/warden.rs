//! The client of the warden: one packet socket, one message a packet (`drydock_warden::messages`). A task owns the
//! socket, matches answers with calls, tells of sessions that died, and connects again when the warden was
//! restarted. Called by `sessions`. It must run after serve has given up root: the warden takes no one else.

use drydock_warden::messages::{Answer, Call, FailureKind, MAX_PACKET, Message, Request};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::{
    collections::HashMap,
    io,
    os::{fd::AsRawFd, unix::net::UnixStream as StdStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};

/// The warden cannot do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WardenError {
    /// Not connected, or the connection was lost before the answer.
    #[error("the warden does not run")]
    Lost,
    /// It did not answer in time.
    #[error("the warden did not answer in time")]
    Timeout,
    /// It answered something else than was asked.
    #[error("the warden gave an answer to another question")]
    Confused,
    /// It failed.
    #[error("{message}")]
    Failed {
        /// What kind of failure.
        kind: FailureKind,
        /// In its words.
        message: String,
    },
}

impl From<WardenError> for crate::error::Error {
    fn from(e: WardenError) -> Self {
        tracing::warn!(error = %e, "warden");
        match e {
            // What is full is in the log: disk, memory, id ranges, loop devices.
            WardenError::Failed { kind: FailureKind::Full, .. } => Self::unavailable(
                "host_full",
                "This server has no room left for that. Its operator finds the reason in the log; try again in a few minutes.",
            ),
            WardenError::Failed { kind: FailureKind::NotFound, message } => {
                Self::not_found("not_found", message)
            }
            WardenError::Failed { kind: FailureKind::InUse, message } => Self::conflict("in_use", message),
            WardenError::Failed { kind: FailureKind::Invalid, message } => Self::invalid("invalid", message),
            WardenError::Failed { kind: FailureKind::Failed, message } => {
                Self::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "host_failed", message)
            }
            e => Self::unavailable(
                "warden_away",
                format!(
                    "The server cannot make or change sessions now: {e}. Its operator mends that by starting drydock serve again."
                ),
            ),
        }
    }
}

/// What the warden tells without being asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Connected (again): what it runs must be compared with what we know.
    Connected,
    /// An image of the catalogue is being made.
    Preparing {
        /// Its name.
        name: String,
        /// How far that is, for people.
        line: String,
    },
    /// A session ended by itself.
    Died {
        /// Which.
        id: drydock_protocol::SessionId,
        /// Why.
        reason: String,
    },
}

/// Longest wait for an answer. Making a session takes milliseconds; a disk under pressure may take seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Calls waiting for the task.
const PENDING: usize = 256;

type Asked = (Request, oneshot::Sender<Result<Answer, WardenError>>);

/// A handle to the task; clones share it.
#[derive(Debug, Clone)]
pub struct Warden {
    calls: mpsc::Sender<Asked>,
    connected: watch::Receiver<bool>,
}

impl Warden {
    /// Starts the task and the stream of its events.
    pub fn start(socket: PathBuf) -> (Self, mpsc::Receiver<Event>) {
        let (calls, asked) = mpsc::channel(PENDING);
        let (events, told) = mpsc::channel(1024);
        let (up, connected) = watch::channel(false);
        tokio::spawn(run(socket, asked, events, up));
        (Self { calls, connected }, told)
    }

    /// Whether the warden is there.
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Asks one thing.
    pub async fn call(&self, request: Request) -> Result<Answer, WardenError> {
        self.call_within(ANSWER_WITHIN, request).await
    }

    /// Asks one thing that may take so long.
    pub async fn call_within(&self, within: Duration, request: Request) -> Result<Answer, WardenError> {
        let (tx, rx) = oneshot::channel();
        self.calls.send((request, tx)).await.map_err(|_| WardenError::Lost)?;
        match tokio::time::timeout(within, rx).await {
            Ok(Ok(Ok(Answer::Failed { kind, message }))) => Err(WardenError::Failed { kind, message }),
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(WardenError::Lost),
            Err(_) => Err(WardenError::Timeout),
        }
    }

    /// Asks one thing whose answer is [`Answer::Done`].
    pub async fn done(&self, request: Request) -> Result<(), WardenError> {
        match self.call(request).await? {
            Answer::Done => Ok(()),
            _ => Err(WardenError::Confused),
        }
    }
}

/// Connects once. Also tells `serve`, still as root, whether a warden listens.
pub fn connect_packet_socket(path: &Path) -> io::Result<StdStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(StdStream::from(fd))
}

async fn run(
    path: PathBuf,
    mut asked: mpsc::Receiver<Asked>,
    events: mpsc::Sender<Event>,
    up: watch::Sender<bool>,
) {
    let mut pause = Duration::from_millis(50);
    loop {
        match connect_packet_socket(&path).and_then(UnixStream::from_std) {
            Ok(socket) => {
                tracing::info!("connected to the warden");
                up.send_replace(true);
                pause = Duration::from_millis(50);
                // The receiver lives as long as the server.
                if events.send(Event::Connected).await.is_err() {
                    return;
                }
                let why = converse(Arc::new(socket), &mut asked, &events).await;
                up.send_replace(false);
                match why {
                    Some(e) => tracing::warn!(error = %e, "lost the warden; connecting again"),
                    None => return,
                }
            }
            Err(e) => {
                tracing::debug!(error = %e, "the warden does not answer");
                // Meanwhile calls are refused, not kept waiting.
                let refuse = async {
                    while let Some((_, answer)) = asked.recv().await {
                        drop(answer.send(Err(WardenError::Lost)));
                    }
                };
                if tokio::time::timeout(pause, refuse).await.is_ok() {
                    return;
                }
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        }
    }
}

/// Talks until the connection is lost (`Some`) or nobody asks any more (`None`).
async fn converse(
    socket: Arc<UnixStream>,
    asked: &mut mpsc::Receiver<Asked>,
    events: &mpsc::Sender<Event>,
) -> Option<io::Error> {
    let mut waiting: HashMap<u64, oneshot::Sender<Result<Answer, WardenError>>> = HashMap::new();
    let mut next = 0u64;
    let mut packet = vec![0; MAX_PACKET];
    loop {
        tokio::select! {
            () = events.closed() => return None,
            call = asked.recv() => {
                let (request, answer) = call?;
                next += 1;
                let bytes = match serde_json::to_vec(&Call { number: next, request }) {
                    Ok(bytes) if bytes.len() <= MAX_PACKET => bytes,
                    _ => { drop(answer.send(Err(WardenError::Confused))); continue }
                };
                waiting.retain(|_, w| !w.is_closed());
                waiting.insert(next, answer);
                if let Err(e) = send(&socket, &bytes).await { return Some(e) }
            }
            got = receive(&socket, &mut packet) => {
                let bytes = match got { Ok(n) => &packet[..n], Err(e) => return Some(e) };
                match serde_json::from_slice::<Message>(bytes) {
                    Ok(Message::Answer { number, answer }) => {
                        if let Some(w) = waiting.remove(&number) { drop(w.send(Ok(answer))) }
                    }
                    Ok(Message::Preparing { name, line }) => {
                        if events.send(Event::Preparing { name, line }).await.is_err() { return None }
                    }
                    Ok(Message::Died { id, reason }) => {
                        if events.send(Event::Died { id, reason }).await.is_err() { return None }
                    }
                    Err(e) => return Some(io::Error::new(io::ErrorKind::InvalidData, e)),
                }
            }
        }
    }
}

/// Sends one packet. `try_write` is one `write`, which on a packet socket sends all or nothing.
async fn send(socket: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    loop {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => return done.map(drop),
        }
    }
}

/// Receives one packet. `try_read` is one `read`, which on a packet socket takes exactly one packet.
async fn receive(socket: &UnixStream, packet: &mut [u8]) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        match socket.try_read(packet) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}
