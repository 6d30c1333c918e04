//! A copy of a store that another process owns: reads and watches are answered here, writes go to the owner. Its task keeps the
//! connection; while there is none, writes fail with [`Error::Unavailable`], reads are of what was last known, and watchers wait.

use crate::frame::{self, Builder, Frame};
use crate::replication::{Answer, Reader, Request, ToOwner, ToReplica, write};
use crate::servers::{Servers, Stream};
use crate::store::{Inner, Store, Writer};
use crate::{Error, mvcc::State};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::io::{WriteHalf, split};
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait to be sent.
const REQUESTS: usize = 1024;
/// Bytes of requests that are sent together, about.
const PIECE: usize = 256 << 10;
/// Between tries to find the owner again: at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// For finding it and hearing its first word.
const PATIENCE: Duration = Duration::from_secs(20);

/// The way to the owner.
pub(crate) struct Link {
    requests: mpsc::Sender<Asked>,
    lost: Lost,
}

/// Why there is no connection; none: there is one.
type Lost = Arc<Mutex<Option<Error>>>;

struct Asked {
    request: Request,
    reply: oneshot::Sender<Result<Answer, Error>>,
}

impl Link {
    /// Refuses if nothing has been heard of the owner since a connection ended.
    pub fn check_connection(&self) -> Result<(), Error> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    /// Asks the owner. The answer speaks of revisions that are here.
    pub async fn ask(&self, request: Request) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::Unavailable("the connection ended".into());
        self.requests.send(Asked { request, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Asks for a number.
    pub async fn number(&self, request: Request) -> Result<i64, Error> {
        match self.ask(request).await? {
            Answer::Number(number) => Ok(number),
            _ => Err(Error::Unavailable("the answer fits no question".into())),
        }
    }
}

/// Connects, fetches the state, and keeps it up to date for as long as anybody has the store.
pub(crate) async fn open(servers: Servers) -> Result<Store, Error> {
    let mut connection = Connection::open(&servers, 0, 0).await?;
    let Some(state) = connection.first_state().await? else {
        return Err(Error::Corrupt("the owner sends no state".into()));
    };
    let (requests, asked) = mpsc::channel(REQUESTS);
    let lost = Lost::default();
    let store = Store::with(state, Writer::Replica(Link { requests, lost: Arc::clone(&lost) }));
    let keeper = Keeper { servers, inner: Arc::downgrade(&store.inner), asked, lost };
    tokio::spawn(keeper.run(connection));
    Ok(store)
}

/// A connection to the owner.
struct Connection {
    reader: Reader,
    writer: WriteHalf<Stream>,
}

impl Connection {
    async fn open(servers: &Servers, id: u64, revision: i64) -> Result<Self, Error> {
        let (reader, mut writer) = split(servers.connect().await?);
        let mut hello = Vec::new();
        frame::encode(&ToOwner::Hello { id, revision }, &mut hello)?;
        write(&mut writer, &hello).await.map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Self { reader: Reader::new(reader), writer })
    }

    /// The state that the owner sends first; none if the one that is here goes on.
    async fn first_state(&mut self) -> Result<Option<State>, Error> {
        match self.reader.next().await? {
            ToReplica::Frame(Frame::Ready) => Ok(None),
            ToReplica::Frame(begin) => self.state_after(begin).await.map(Some),
            ToReplica::Answer { .. } => Err(Error::Corrupt("an answer before any question".into())),
        }
    }

    async fn state_after(&mut self, begin: Frame) -> Result<State, Error> {
        let mut builder = Builder::default();
        let mut frame = begin;
        loop {
            if let Some(state) = builder.take(frame)? {
                return Ok(state);
            }
            frame = match self.reader.next().await? {
                ToReplica::Frame(frame) => frame,
                ToReplica::Answer { .. } => {
                    return Err(Error::Corrupt("an answer within a state".into()));
                }
            };
        }
    }
}

/// Keeps a copy up to date.
struct Keeper {
    servers: Servers,
    inner: Weak<Inner>,
    asked: mpsc::Receiver<Asked>,
    lost: Lost,
}

impl Keeper {
    async fn run(mut self, first: Connection) {
        let mut connection = first;
        loop {
            let error = match self.follow(connection).await {
                Ok(()) => return,
                Err(error) => error,
            };
            tracing::warn!(%error, "lost the store");
            self.set_lost(Some(error));
            connection = match self.connect_again().await {
                Some(connection) => connection,
                None => return,
            };
            self.set_lost(None);
            tracing::info!("found the store again");
        }
    }

    fn set_lost(&self, why: Option<Error>) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Until the connection fails, or nobody has the store any more.
    async fn follow(&mut self, connection: Connection) -> Result<(), Error> {
        let Connection { reader, mut writer } = connection;
        let (answers, mut waiting) = mpsc::unbounded_channel();
        let inner = Weak::clone(&self.inner);
        // In a task of its own, since a message must not be left half read.
        let mut reading = tokio::spawn(read(reader, inner, answers));
        let mut open = Open::default();
        let result = loop {
            tokio::select! {
                asked = self.asked.recv() => {
                    let Some(asked) = asked else { break Ok(()) };
                    let buffer = open.encode(asked, &mut self.asked);
                    if let Err(error) = write(&mut writer, &buffer).await {
                        break Err(Error::Unavailable(error.to_string()));
                    }
                }
                answer = waiting.recv() => {
                    let Some((number, answer)) = answer else {
                        break match (&mut reading).await {
                            Ok(result) => result,
                            Err(error) => Err(Error::Unavailable(error.to_string())),
                        };
                    };
                    if let Some(reply) = open.replies.remove(&number) {
                        // Whoever asked may have gone.
                        let _gone = reply.send(answer);
                    }
                }
            }
        };
        reading.abort();
        for (_, reply) in open.replies {
            let _gone = reply.send(Err(Error::Unavailable("the connection ended".into())));
        }
        result
    }

    async fn connect_again(&mut self) -> Option<Connection> {
        let mut pause = RETRY.0;
        loop {
            let (id, revision) = {
                let inner = self.inner.upgrade()?;
                let state = inner.read();
                (state.id, state.revision())
            };
            let servers = self.servers.clone();
            let attempt = async move {
                let mut connection = Connection::open(&servers, id, revision).await?;
                let state = connection.first_state().await?;
                Ok::<_, Error>((connection, state))
            };
            let silent = Error::Unavailable("error reading from server: context deadline exceeded".into());
            let attempt = async { tokio::time::timeout(PATIENCE, attempt).await.unwrap_or(Err(silent)) };
            match self.refuse_during(attempt).await? {
                Ok((connection, state)) => {
                    if let Some(new) = state {
                        self.inner.upgrade()?.replace(new);
                    }
                    return Some(connection);
                }
                Err(error) => {
                    tracing::debug!(%error, "the store is not there yet");
                    self.set_lost(Some(error));
                }
            }
            self.refuse_during(tokio::time::sleep(pause)).await?;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// What comes of some work, during which whoever asks is refused; none: nobody has the store any more.
    async fn refuse_during<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                asked = self.asked.recv() => {
                    let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let error = lost.unwrap_or_else(|| Error::Unavailable("the connection ended".into()));
                    // Whoever asked may have gone.
                    let _gone = asked?.reply.send(Err(error));
                }
            }
        }
    }
}

/// Questions without an answer.
#[derive(Default)]
struct Open {
    last: u64,
    replies: HashMap<u64, oneshot::Sender<Result<Answer, Error>>>,
}

impl Open {
    /// A question and those that wait behind it, as they are sent.
    fn encode(&mut self, first: Asked, more: &mut mpsc::Receiver<Asked>) -> Vec<u8> {
        let mut buffer = Vec::new();
        let mut next = Some(first);
        while let Some(Asked { request, reply }) = next {
            self.last += 1;
            let message = ToOwner::Request { number: self.last, request };
            match frame::encode(&message, &mut buffer) {
                Ok(()) => {
                    self.replies.insert(self.last, reply);
                }
                Err(error) => {
                    // Whoever asked may have gone.
                    let _gone = reply.send(Err(error));
                }
            }
            next = if buffer.len() < PIECE { more.try_recv().ok() } else { None };
        }
        buffer
    }
}

type Answers = mpsc::UnboundedSender<(u64, Result<Answer, Error>)>;

/// Takes in what the owner sends. There are no more answers than questions, so their queue needs no bound.
async fn read(mut reader: Reader, inner: Weak<Inner>, answers: Answers) -> Result<(), Error> {
    let mut new: Option<Builder> = None;
    loop {
        let message = reader.next().await?;
        let Some(inner) = inner.upgrade() else { return Ok(()) };
        match message {
            ToReplica::Answer { number, answer } => {
                if answers.send((number, answer)).is_err() {
                    return Ok(());
                }
            }
            ToReplica::Frame(begin @ Frame::Begin { .. }) => {
                let mut builder = Builder::default();
                builder.take(begin)?;
                new = Some(builder);
            }
            ToReplica::Frame(frame) => match &mut new {
                None => {
                    let mut state = inner.state();
                    frame::replay(&mut state, frame)?;
                    inner.wake(&mut state);
                }
                Some(builder) => {
                    if let Some(state) = builder.take(frame)? {
                        inner.replace(state);
                        new = None;
                    }
                }
            },
        }
    }
}
