//! The one format in which a store's history is written down: in the journal, in a snapshot file, and on the way to a copy in another
//! process. A frame is its length, a checksum of its body, and a checksum of these two (four bytes each,
//! little-endian), then the frame in postcard.
//!
//! A history is `Begin`, a `Record` for each key of the compacted revision, a `Grant` for each lease, `Write`s since, `Ready`; then
//! it goes on with what happens.

use crate::Error;
use crate::mvcc::{Export, State};
use crate::record::{Event, EventKind, Record, Revisions};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first number of a history; another number is another format.
const FORMAT: u32 = 0xd0c5_0001;
/// Length, checksum of the body, checksum of these two.
pub(crate) const HEADER: usize = 12;
/// The largest frame. A deletion of all keys is one frame.
const MAX_FRAME: usize = 256 << 20;

/// A piece of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Frame {
    /// A history begins.
    Begin {
        /// [`FORMAT`].
        format: u32,
        /// See [`State::id`].
        id: u64,
        /// The oldest revision that is kept.
        compacted: i64,
    },
    /// A key at the compacted revision.
    Record { key: Bytes, value: Bytes, create_revision: i64, mod_revision: i64, version: i64, lease: i64 },
    /// All that came before is a whole state.
    Ready,
    /// A revision.
    Write { revision: i64, changes: Vec<Change> },
    /// Older revisions are forgotten.
    Compact { revision: i64 },
    /// There is a lease.
    Grant { id: i64, ttl: i64 },
    /// A lease is gone (its keys were deleted by a `Write` before).
    Revoke { id: i64 },
}

/// What a revision did to a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Change {
    Put { key: Bytes, value: Bytes, lease: i64 },
    Delete { key: Bytes },
}

impl Frame {
    /// Of the events of one revision.
    pub fn write(revision: i64, events: &[Arc<Event>]) -> Self {
        let change = |event: &Arc<Event>| {
            let record = &event.record;
            match event.kind {
                EventKind::Put => {
                    Change::Put { key: record.key.clone(), value: record.value.clone(), lease: record.lease }
                }
                EventKind::Delete => Change::Delete { key: record.key.clone() },
            }
        };
        Self::Write { revision, changes: events.iter().map(change).collect() }
    }

    fn record(record: &Record) -> Self {
        Self::Record {
            key: record.key.clone(),
            value: record.value.clone(),
            create_revision: record.create_revision,
            mod_revision: record.mod_revision,
            version: record.version,
            lease: record.lease,
        }
    }
}

/// The frames of a whole history, one after the other.
pub(crate) fn history(export: Export) -> impl Iterator<Item = Frame> {
    let Export { id, compacted, base, leases, events } = export;
    let begin = Frame::Begin { format: FORMAT, id, compacted };
    let records = base.into_iter().map(|record| Frame::record(&record));
    let leases = leases.into_iter().map(|(id, ttl)| Frame::Grant { id, ttl });
    let mut events = events.into_iter().peekable();
    let writes = std::iter::from_fn(move || {
        let revision = events.peek()?.revision();
        let mut same = Vec::new();
        while let Some(event) = events.next_if(|event| event.revision() == revision) {
            same.push(event);
        }
        Some(Frame::write(revision, &same))
    });
    std::iter::once(begin).chain(records).chain(leases).chain(writes).chain([Frame::Ready])
}

/// Events as frames, one a revision.
pub(crate) fn writes(events: &[Arc<Event>]) -> impl Iterator<Item = Frame> {
    events
        .chunk_by(|a, b| a.revision() == b.revision())
        .filter_map(|events| Some(Frame::write(events.first()?.revision(), events)))
}

/// A state that is being put together from frames.
#[derive(Default)]
pub(crate) enum Builder {
    /// Nothing has come.
    #[default]
    Empty,
    /// Records and leases come.
    Base { id: u64, compacted: i64, records: Vec<Record>, leases: Vec<(i64, i64)> },
    /// These were all.
    State(Box<State>),
}

impl Builder {
    /// Takes a frame in; the state once it is whole.
    pub fn take(&mut self, frame: Frame) -> Result<Option<State>, Error> {
        match (std::mem::take(self), frame) {
            (Self::Empty, Frame::Begin { format: FORMAT, id, compacted }) => {
                *self = Self::Base { id, compacted, records: Vec::new(), leases: Vec::new() };
            }
            (Self::Empty, _) => return Err(Error::Corrupt("this is no history of a store".into())),
            (Self::Base { id, compacted, mut records, mut leases }, frame) => match frame {
                Frame::Record { key, value, create_revision, mod_revision, version, lease } => {
                    let revisions = Revisions { create_revision, mod_revision, version };
                    records.push(Record::new(key, value, revisions, lease));
                    *self = Self::Base { id, compacted, records, leases };
                }
                Frame::Grant { id: lease, ttl } => {
                    leases.push((lease, ttl));
                    *self = Self::Base { id, compacted, records, leases };
                }
                frame => {
                    *self = Self::State(Box::new(State::begin(id, compacted, records, &leases)));
                    return self.take(frame);
                }
            },
            (Self::State(state), Frame::Ready) => return Ok(Some(*state)),
            (Self::State(mut state), frame) => {
                replay(&mut state, frame)?;
                *self = Self::State(state);
            }
        }
        Ok(None)
    }
}

/// Does again what a frame tells of.
pub(crate) fn replay(state: &mut State, frame: Frame) -> Result<(), Error> {
    match frame {
        Frame::Write { revision, changes } => {
            if revision != state.revision() + 1 {
                let now = state.revision();
                return Err(Error::Corrupt(format!("revision {revision} follows on revision {now}")));
            }
            let mut events = Vec::with_capacity(changes.len());
            for change in changes {
                match change {
                    Change::Put { key, value, lease } => events.push(state.put(key, value, lease)),
                    Change::Delete { key } => events.extend(state.delete(&key)),
                }
            }
            state.commit(events);
        }
        Frame::Compact { revision } => {
            // It may be known already: a state that was sent whole is a little newer than what follows it.
            if revision > state.compacted() {
                state.compact(revision)?;
            }
        }
        Frame::Grant { id, ttl } => state.leases.grant(id, ttl),
        Frame::Revoke { id } => {
            // Not being there is what it asks for.
            let _gone = state.leases.remove(id);
        }
        Frame::Begin { .. } | Frame::Record { .. } | Frame::Ready => {
            return Err(Error::Corrupt("a history begins within a history".into()));
        }
    }
    Ok(())
}

/// Appends a message as a frame. If this fails `out` is as before.
pub(crate) fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let written = postcard::to_io(message, &mut *out)
        .map(drop)
        .map_err(|error| Error::Corrupt(format!("a message that can't be written: {error}")));
    let body = out.len() - start - HEADER;
    let length = u32::try_from(body).ok().filter(|_| body <= MAX_FRAME).ok_or(Error::TooLarge);
    let length = match written.and(length) {
        Ok(length) => length,
        Err(error) => {
            out.truncate(start);
            return Err(error);
        }
    };
    let sum = crc32fast::hash(&out[start + HEADER..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32fast::hash(&out[start..start + 8]);
    out[start + 8..start + HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// Length of the body and its checksum.
pub(crate) fn header(bytes: [u8; HEADER]) -> Result<(usize, u32), Error> {
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if crc32fast::hash(&bytes[..8]) != number(8) {
        return Err(Error::Corrupt("a frame's head does not fit its checksum".into()));
    }
    let length = number(0) as usize;
    if length > MAX_FRAME {
        return Err(Error::Corrupt(format!("a frame of {length} bytes")));
    }
    Ok((length, number(4)))
}

/// A message of a frame's body.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8], sum: u32) -> Result<T, Error> {
    if crc32fast::hash(body) != sum {
        return Err(Error::Corrupt("a frame's checksum does not fit".into()));
    }
    postcard::from_bytes(body).map_err(|error| Error::Corrupt(format!("a frame can't be read: {error}")))
}
