//! Transactions: what a writer asks, and how it is checked and carried out. Semantics are etcd's (server/etcdserver/txn): all
//! comparisons look at the state before, operations see what the ones before them did, all changes are of one revision.

use crate::mvcc::{Found, Query, State};
use crate::record::{Event, KeyRange, Record};
use crate::{Error, Store};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;

/// As etcd's `--max-txn-ops`.
const MAX_OPS: usize = 128;

/// If all comparisons hold, `then`, else `otherwise`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Txn {
    /// All of these must hold.
    pub compares: Vec<Compare>,
    /// What to do if they do.
    pub then: Vec<Op>,
    /// What to do if one does not.
    pub otherwise: Vec<Op>,
}

/// A condition on keys. A key that does not exist has revisions and version 0; its value equals none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// All of these must fulfil it.
    pub keys: KeyRange,
    /// How.
    pub op: CompareOp,
    /// What, and with what.
    pub target: Target,
}

/// How two things are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOp {
    /// The key's is equal.
    Equal,
    /// The key's is different.
    NotEqual,
    /// The key's is greater.
    Greater,
    /// The key's is less.
    Less,
}

/// What of a key is compared, and with what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// How often it was written.
    Version(i64),
    /// When it came to be.
    Create(i64),
    /// When it changed last.
    Mod(i64),
    /// Its value.
    Value(Bytes),
    /// Its lease.
    Lease(i64),
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Write a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its value; none: the one that it has.
        value: Option<Bytes>,
        /// The lease that it hangs on (0: none); none: the one that it has.
        lease: Option<i64>,
    },
    /// Delete keys.
    Delete(KeyRange),
    /// Read keys.
    Range(KeyRange, Query),
}

impl Op {
    /// Writes a key without a lease.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: Some(value.into()), lease: Some(0) }
    }

    /// Reads a key.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Range(KeyRange::key(key), Query::default())
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct TxnResult {
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// The store's revision after it: its own if it changed something.
    pub revision: i64,
    /// What became of each operation.
    pub results: Vec<OpResult>,
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq)]
pub enum OpResult {
    /// Written.
    Put {
        /// The new version.
        record: Arc<Record>,
        /// The one before.
        prev: Option<Arc<Record>>,
    },
    /// These were deleted.
    Delete(Vec<Arc<Record>>),
    /// These were read.
    Range(Found),
}

impl Compare {
    /// The key does not exist.
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self { keys: KeyRange::key(key), op: CompareOp::Equal, target: Target::Mod(0) }
    }

    /// The key has not changed since this revision.
    pub fn unchanged(key: impl Into<Bytes>, mod_revision: i64) -> Self {
        Self { keys: KeyRange::key(key), op: CompareOp::Equal, target: Target::Mod(mod_revision) }
    }

    fn holds(&self, state: &State) -> bool {
        // As applyCompare: a value that does not exist fulfils nothing, not even "is different".
        let absent = || !matches!(self.target, Target::Value(_)) && self.fits(None);
        if let KeyRange::Key(key) = &self.keys {
            return state.newest(key).map_or_else(absent, |record| self.fits(Some(record)));
        }
        let mut records = state.present(&self.keys).peekable();
        if records.peek().is_none() {
            return absent();
        }
        records.all(|record| self.fits(Some(record)))
    }

    fn fits(&self, record: Option<&Arc<Record>>) -> bool {
        let number = |of: fn(&Record) -> i64, with: i64| record.map_or(0, |record| of(record)).cmp(&with);
        let order = match &self.target {
            Target::Version(with) => number(|record| record.version, *with),
            Target::Create(with) => number(|record| record.create_revision, *with),
            Target::Mod(with) => number(|record| record.mod_revision, *with),
            Target::Lease(with) => number(|record| record.lease, *with),
            Target::Value(with) => record.map_or(&[][..], |record| &record.value[..]).cmp(&with[..]),
        };
        match self.op {
            CompareOp::Equal => order == Ordering::Equal,
            CompareOp::NotEqual => order != Ordering::Equal,
            CompareOp::Greater => order == Ordering::Greater,
            CompareOp::Less => order == Ordering::Less,
        }
    }
}

impl Txn {
    /// Does this if these hold, and nothing else.
    pub fn when(compares: Vec<Compare>, then: Vec<Op>) -> Self {
        Self { compares, then, otherwise: Vec::new() }
    }

    /// What can be said without looking at the store: limits, and keys that are written twice.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if [self.compares.len(), self.then.len(), self.otherwise.len()].iter().any(|n| *n > MAX_OPS) {
            return Err(Error::TooManyOps);
        }
        let mut size = 0;
        for op in self.then.iter().chain(&self.otherwise) {
            size += match op {
                Op::Put { key, .. } if key.is_empty() => return Err(Error::EmptyKey),
                Op::Put { key, value, .. } => key.len() + value.as_ref().map_or(0, Bytes::len),
                Op::Delete(keys) | Op::Range(keys, _) => {
                    if matches!(keys, KeyRange::Key(key) if key.is_empty()) {
                        return Err(Error::EmptyKey);
                    }
                    0
                }
            };
        }
        if size > Store::MAX_REQUEST {
            return Err(Error::TooLarge);
        }
        check_writes(&self.then)?;
        check_writes(&self.otherwise)
    }
}

/// As checkIntervals of etcd's v3rpc/key.go: within one branch a key is put once, and not put and deleted.
fn check_writes(ops: &[Op]) -> Result<(), Error> {
    for (index, op) in ops.iter().enumerate() {
        let Op::Put { key, .. } = op else { continue };
        let again = ops.iter().enumerate().any(|(other, op)| match op {
            Op::Put { key: second, .. } => other > index && second == key,
            Op::Delete(keys) => keys.contains(key),
            Op::Range(..) => false,
        });
        if again {
            return Err(Error::DuplicateKey);
        }
    }
    Ok(())
}

/// Carries it out on the state under its next revision. What changed is in the state's versions but in nobody's eyes until
/// [`State::commit`]; [`State::rollback`] undoes it.
pub(crate) fn apply(state: &mut State, txn: &Txn) -> Result<(TxnResult, Vec<Arc<Event>>), Error> {
    txn.check()?;
    let succeeded = txn.compares.iter().all(|compare| compare.holds(state));
    let ops = if succeeded { &txn.then } else { &txn.otherwise };
    let mut events = Vec::new();
    let mut results = Vec::with_capacity(ops.len());
    for op in ops {
        match apply_op(state, op, &mut events) {
            Ok(result) => results.push(result),
            Err(error) => {
                state.rollback(&events);
                return Err(error);
            }
        }
    }
    let revision = state.revision() + i64::from(!events.is_empty());
    for result in &mut results {
        if let OpResult::Range(found) = result {
            found.revision = revision;
        }
    }
    Ok((TxnResult { succeeded, revision, results }, events))
}

fn apply_op(state: &mut State, op: &Op, events: &mut Vec<Arc<Event>>) -> Result<OpResult, Error> {
    match op {
        Op::Put { key, value, lease } => {
            let (value, lease) = match (value, lease) {
                (Some(value), Some(lease)) => (value.clone(), *lease),
                _ => {
                    let prev = state.newest(key).ok_or(Error::KeyNotFound)?;
                    (value.as_ref().unwrap_or(&prev.value).clone(), lease.unwrap_or(prev.lease))
                }
            };
            if lease != 0 && !state.leases.exists(lease) {
                return Err(Error::LeaseNotFound);
            }
            let event = state.put(key.clone(), value, lease);
            events.push(Arc::clone(&event));
            Ok(OpResult::Put { record: Arc::clone(&event.record), prev: event.prev.clone() })
        }
        Op::Delete(keys) => {
            let gone: Vec<_> = state.present(keys).cloned().collect();
            for record in &gone {
                events.extend(state.delete(&record.key));
            }
            Ok(OpResult::Delete(gone))
        }
        Op::Range(keys, query) => {
            let found = match query.at {
                // What this transaction wrote is part of the newest state.
                None => state.range_newest(keys, query),
                Some(_) => state.range(keys, query)?,
            };
            Ok(OpResult::Range(found))
        }
    }
}
