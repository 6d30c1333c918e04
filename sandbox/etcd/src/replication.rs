//! How a copy of the store in another process is fed: over a connection to etcd's port, in frames. The copy says what it has, and gets what it
//! lacks: the events since, or, if these are compacted or of another history, the whole state. From then on it gets each revision as
//! it is made. Its writes come the other way, and are answered after the revision that they made was sent; so a copy that hears of a
//! success can read it.
//!
//! A slow copy holds no memory here: it is a watcher like any other.

use crate::Error;
use crate::frame::{self, Frame};
use crate::record::{KeyRange, Record};
use crate::servers::Stream;
use crate::store::{Inner, Store};
use crate::txn::{Op, OpResult, Txn, TxnResult};
use crate::watch::Watcher;
use bytes::Bytes;
use drydock_go::io_text;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;

/// Answers that may wait to be sent; a copy that asks more and reads nothing is not read either.
const ANSWERS: usize = 1024;
/// Bytes that are put together before they are sent, about.
const PIECE: usize = 256 << 10;

/// What a copy says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToOwner {
    /// First of all: what it has; a revision of 0 is nothing.
    Hello { id: u64, revision: i64 },
    /// Something to do.
    Request { number: u64, request: Request },
}

/// What a copy wants done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Txn(Txn),
    Compact(i64),
    Grant { id: i64, ttl: i64 },
    KeepAlive(i64),
    Revoke(i64),
    Revision,
}

/// What a copy is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToReplica {
    /// A piece of the history.
    Frame(Frame),
    /// What became of a request.
    Answer { number: u64, answer: Result<Answer, Error> },
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Txn { succeeded: bool, revision: i64, results: Vec<Told> },
    Number(i64),
    Done,
}

/// An [`OpResult`] in which records are named by key and revision: the copy has them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Put { key: Bytes, prev: Option<i64> },
    Delete(Vec<(Bytes, i64)>),
    Range { records: Vec<(Bytes, i64)>, more: bool, count: usize },
}

/// Whether what begins with this byte is a copy's first word: that is shorter than 80 bytes, as its first byte says, and a client of etcd's
/// API begins with a `P` (RFC 9113, 3.4).
pub(crate) fn is_hello(first: u8) -> bool {
    first != b'P'
}

/// Feeds a copy until it leaves.
pub(crate) async fn serve(store: Store, stream: Stream) -> Result<(), Error> {
    let (reader, writer) = split(stream);
    let mut reader = Reader::new(reader);
    let ToOwner::Hello { id, revision } = reader.next().await? else {
        return Err(Error::Corrupt("it does not say what it has".into()));
    };
    let (answers, pending) = mpsc::channel(ANSWERS);
    let mut feed = Feed { store: store.clone(), writer, pending, waiting: VecDeque::new(), compacted: 0 };
    tokio::select! {
        result = read_requests(store, reader, answers) => result,
        result = feed.run(id, revision) => result,
    }
}

/// Carries out what comes, in the order in which it comes.
async fn read_requests(
    store: Store,
    mut reader: Reader,
    answers: mpsc::Sender<Pending>,
) -> Result<(), Error> {
    let owner = store.inner.owner().ok_or_else(|| Error::Unavailable("this is a copy itself".into()))?;
    let inner = &store.inner;
    loop {
        let ToOwner::Request { number, request } = reader.next().await? else {
            return Err(Error::Corrupt("it says twice what it has".into()));
        };
        let done = match request {
            Request::Txn(txn) => {
                owner.txn(inner, &txn).map(|(result, written)| (tell(&txn, &result), Some(written)))
            }
            Request::Compact(revision) => {
                owner.compact(inner, revision).map(|written| (Answer::Done, Some(written)))
            }
            Request::Grant { id, ttl } => {
                owner.grant(inner, id, ttl).map(|(id, written)| (Answer::Number(id), Some(written)))
            }
            Request::KeepAlive(id) => owner.keep_alive(inner, id).map(|ttl| (Answer::Number(ttl), None)),
            Request::Revoke(id) => owner.revoke(inner, id).map(|written| (Answer::Done, Some(written))),
            Request::Revision => Ok((Answer::Number(store.revision()), None)),
        };
        let pending = Pending { number, at: store.revision(), done };
        if answers.send(pending).await.is_err() {
            return Ok(());
        }
    }
}

fn tell(txn: &Txn, result: &TxnResult) -> Answer {
    let ops = if result.succeeded { &txn.then } else { &txn.otherwise };
    let name = |record: &Arc<Record>| (record.key.clone(), record.mod_revision);
    let results = result.results.iter().zip(ops).map(|(result, op)| match result {
        OpResult::Put { record, prev } => {
            Told::Put { key: record.key.clone(), prev: prev.as_ref().map(|prev| prev.mod_revision) }
        }
        OpResult::Delete(gone) => Told::Delete(gone.iter().map(name).collect()),
        OpResult::Range(found) => {
            debug_assert!(matches!(op, Op::Range(..)));
            let records = found.records.iter().map(name).collect();
            Told::Range { records, more: found.more, count: found.count }
        }
    });
    Answer::Txn { succeeded: result.succeeded, revision: result.revision, results: results.collect() }
}

/// An answer that waits until the copy has what it speaks of.
struct Pending {
    number: u64,
    at: i64,
    done: Result<(Answer, Option<crate::owner::Written>), Error>,
}

/// What one copy is sent.
struct Feed {
    store: Store,
    writer: WriteHalf<Stream>,
    pending: mpsc::Receiver<Pending>,
    waiting: VecDeque<Pending>,
    /// The compaction that it knows of.
    compacted: i64,
}

impl Feed {
    async fn run(&mut self, id: u64, revision: i64) -> Result<(), Error> {
        let is_known = id == self.store.id() && revision > 0 && revision <= self.store.revision();
        let watch = match is_known {
            true => self.store.watch(&KeyRange::prefix(""), Some(revision + 1)).ok(),
            false => None,
        };
        let mut watch = match watch {
            Some(watch) => {
                // Tells the copy that it may answer reads.
                self.send(&ToReplica::Frame(Frame::Ready)).await?;
                watch
            }
            None => self.send_all().await?,
        };
        loop {
            tokio::select! {
                batch = watch.next() => match batch {
                    Ok(batch) => self.send_events(&batch.events).await?,
                    Err(Error::Compacted { .. }) => watch = self.send_all().await?,
                    Err(error) => return Err(error),
                },
                pending = self.pending.recv() => match pending {
                    Some(pending) => self.waiting.push_back(pending),
                    None => return Ok(()),
                },
            }
            // What is there already goes out together.
            while let Ok(pending) = self.pending.try_recv() {
                self.waiting.push_back(pending);
            }
            while let Ok(batch) = watch.try_next() {
                if batch.events.is_empty() {
                    break;
                }
                self.send_events(&batch.events).await?;
            }
            self.send_answers(&watch).await?;
            self.send_compaction(&watch).await?;
        }
    }

    /// The whole state; the watch for what comes after it.
    async fn send_all(&mut self) -> Result<Watcher, Error> {
        let (export, revision) = {
            let state = self.store.inner.read();
            (state.export(), state.revision())
        };
        let watch = self.store.watch(&KeyRange::prefix(""), Some(revision + 1))?;
        let mut buffer = Vec::new();
        // Leases are the owner's business.
        self.compacted = export.compacted;
        let frames = frame::history(export).filter(|frame| !matches!(frame, Frame::Grant { .. }));
        for frame in frames {
            frame::encode(&ToReplica::Frame(frame), &mut buffer)?;
            if buffer.len() >= PIECE {
                self.write(&buffer).await?;
                buffer.clear();
            }
        }
        self.write(&buffer).await?;
        Ok(watch)
    }

    async fn send_events(&mut self, events: &[Arc<crate::Event>]) -> Result<(), Error> {
        let mut buffer = Vec::new();
        for frame in frame::writes(events) {
            frame::encode(&ToReplica::Frame(frame), &mut buffer)?;
        }
        self.write(&buffer).await
    }

    async fn send_answers(&mut self, watch: &Watcher) -> Result<(), Error> {
        let owner = self.store.inner.owner();
        let mut buffer = Vec::new();
        while let Some(pending) = self.waiting.pop_front_if(|pending| pending.at <= watch.read_to()) {
            let Pending { number, done, .. } = pending;
            let answer = match (done, owner) {
                (Ok((answer, Some(written))), Some(owner)) => {
                    owner.durable(&self.store.inner, written).await.map(|()| answer)
                }
                (done, _) => done.map(|(answer, _)| answer),
            };
            frame::encode(&ToReplica::Answer { number, answer }, &mut buffer)?;
        }
        self.write(&buffer).await
    }

    async fn send_compaction(&mut self, watch: &Watcher) -> Result<(), Error> {
        let compacted = self.store.compacted();
        if compacted <= self.compacted || compacted > watch.read_to() {
            return Ok(());
        }
        self.compacted = compacted;
        self.send(&ToReplica::Frame(Frame::Compact { revision: compacted })).await
    }

    async fn send(&mut self, message: &ToReplica) -> Result<(), Error> {
        let mut bytes = Vec::new();
        frame::encode(message, &mut bytes)?;
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        write(&mut self.writer, bytes).await.map_err(|error| Error::Unavailable(error.to_string()))
    }
}

/// Writes to a connection, which may keep what it has not been told to flush.
pub(crate) async fn write(writer: &mut WriteHalf<Stream>, bytes: &[u8]) -> std::io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// Reads frames from a connection.
pub(crate) struct Reader {
    socket: BufReader<ReadHalf<Stream>>,
    body: Vec<u8>,
}

impl Reader {
    pub fn new(socket: ReadHalf<Stream>) -> Self {
        Self { socket: BufReader::with_capacity(32 << 10, socket), body: Vec::new() }
    }

    /// The next message. What was read of it is lost if it is not awaited to its end.
    pub async fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Error> {
        let lost = |error: std::io::Error| {
            Error::Unavailable(match error.kind() {
                std::io::ErrorKind::UnexpectedEof => "error reading from server: EOF".into(),
                _ => format!("error reading from server: {}", io_text(&error)),
            })
        };
        let mut header = [0; frame::HEADER];
        self.socket.read_exact(&mut header).await.map_err(lost)?;
        let (length, sum) = frame::header(header)?;
        self.body.clear();
        // Not before it comes: a length alone must not cost memory.
        let mut piece = (&mut self.socket).take(length as u64);
        piece.read_to_end(&mut self.body).await.map_err(lost)?;
        if self.body.len() < length {
            return Err(Error::Unavailable("the connection ended".into()));
        }
        let message = frame::decode(&self.body, sum)?;
        self.body.shrink_to(PIECE);
        Ok(message)
    }
}

/// Puts together what an answer names.
pub(crate) fn understand(inner: &Inner, answer: Answer) -> Result<TxnResult, Error> {
    let Answer::Txn { succeeded, revision, results } = answer else {
        return Err(Error::Unavailable("the answer fits no question".into()));
    };
    let state = inner.read();
    let record = |(key, revision): (Bytes, i64)| {
        let known = state.exactly(&key, revision).cloned();
        known.ok_or_else(|| Error::Unavailable("what it answers is compacted already".into()))
    };
    let result = |told| {
        Ok(match told {
            Told::Put { key, prev } => OpResult::Put {
                prev: prev.map(|prev| record((key.clone(), prev))).transpose()?,
                record: record((key, revision))?,
            },
            Told::Delete(gone) => OpResult::Delete(gone.into_iter().map(record).collect::<Result<_, _>>()?),
            Told::Range { records, more, count } => {
                let records = records.into_iter().map(record).collect::<Result<_, _>>()?;
                OpResult::Range(crate::Found { records, more, count, revision })
            }
        })
    };
    let results = results.into_iter().map(result).collect::<Result<_, Error>>()?;
    Ok(TxnResult { succeeded, revision, results })
}
