//! What the store holds: records and the events that made them. Shared by reference with all readers, never changed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

type Memo = Arc<dyn Any + Send + Sync>;

/// One version of a key. A version of 0 is a tombstone: `mod_revision` tells when the key was deleted.
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision at which the key came to be.
    pub create_revision: i64,
    /// Revision that made this version.
    pub mod_revision: i64,
    /// How often the key was written since it came to be.
    pub version: i64,
    /// The lease that it hangs on; 0: none.
    pub lease: i64,
    memo: OnceLock<Memo>,
}

impl Record {
    pub(crate) fn new(key: Bytes, value: Bytes, revisions: Revisions, lease: i64) -> Self {
        let Revisions { create_revision, mod_revision, version } = revisions;
        Self { key, value, create_revision, mod_revision, version, lease, memo: OnceLock::new() }
    }

    pub(crate) fn tombstone(key: Bytes, mod_revision: i64) -> Self {
        let revisions = Revisions { create_revision: 0, mod_revision, version: 0 };
        Self::new(key, Bytes::new(), revisions, 0)
    }

    /// The same version of the same key with another value: as somebody reads it who wants it in another form.
    pub fn with_value(&self, value: Bytes) -> Self {
        let Self { create_revision, mod_revision, version, lease, .. } = *self;
        let revisions = Revisions { create_revision, mod_revision, version };
        Self::new(self.key.clone(), value, revisions, lease)
    }

    /// True if it tells of a deletion.
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    /// What somebody derived from this record, derived once and shared by all who ask later. The first type asked for is the one
    /// that is kept; another type is derived anew each time.
    pub fn memo<T: Any + Send + Sync>(&self, derive: impl FnOnce(&Self) -> T) -> Arc<T> {
        if let Some(kept) = self.memo.get() {
            return match Arc::downcast(Arc::clone(kept)) {
                Ok(kept) => kept,
                Err(_other_type) => Arc::new(derive(self)),
            };
        }
        let made = Arc::new(derive(self));
        match self.memo.set(made.clone()) {
            Ok(()) => made,
            // Somebody else was quicker.
            Err(_) => self.memo.get().and_then(|kept| Arc::downcast(Arc::clone(kept)).ok()).unwrap_or(made),
        }
    }

    /// About how much memory it takes.
    pub(crate) fn weight(&self) -> usize {
        self.key.len() + self.value.len() + 200
    }
}

/// The three numbers that a version carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revisions {
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("value", &self.value)
            .field("create_revision", &self.create_revision)
            .field("mod_revision", &self.mod_revision)
            .field("version", &self.version)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        (self.create_revision, self.mod_revision, self.version, self.lease)
            == (other.create_revision, other.mod_revision, other.version, other.lease)
            && self.key == other.key
            && self.value == other.value
    }
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new version, or the tombstone.
    pub record: Arc<Record>,
    /// The version before, if there was one.
    pub prev: Option<Arc<Record>>,
}

impl Event {
    /// The revision that it is part of.
    pub fn revision(&self) -> i64 {
        self.record.mod_revision
    }

    /// True if the key came to be by it.
    pub fn is_create(&self) -> bool {
        self.record.version == 1
    }
}

/// Some of all keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyRange {
    /// This one.
    Key(Bytes),
    /// All that begin so. An empty prefix means all keys.
    Prefix(Bytes),
    /// From the first up to, but without, the second; without a second, to the end.
    Span(Bytes, Option<Bytes>),
}

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::Key(key.into())
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self::Prefix(prefix.into())
    }

    /// The keys that begin with `prefix` and are not before `start`: the rest of a list that was cut.
    pub fn rest(prefix: &[u8], start: impl Into<Bytes>) -> Self {
        Self::Span(start.into(), after_prefix(prefix))
    }

    /// Of etcd's `key` and `range_end`.
    pub fn of_etcd(key: Bytes, range_end: Bytes) -> Self {
        match &range_end[..] {
            [] => Self::Key(key),
            [0] if key[..] == [0] => Self::Prefix(Bytes::new()),
            [0] => Self::Span(key, None),
            _ if after_prefix(&key).is_some_and(|end| end == range_end) => Self::Prefix(key),
            _ => Self::Span(key, Some(range_end)),
        }
    }

    /// True if it is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(one) => one == key,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Span(start, end) => key >= &start[..] && end.as_ref().is_none_or(|end| key < &end[..]),
        }
    }

    /// The first key that may be part, and the first after all of them.
    pub(crate) fn bounds(&self) -> (Bytes, Option<Bytes>) {
        match self {
            Self::Key(key) => {
                let mut after = Vec::with_capacity(key.len() + 1);
                after.extend_from_slice(key);
                after.push(0);
                (key.clone(), Some(after.into()))
            }
            Self::Prefix(prefix) => (prefix.clone(), after_prefix(prefix)),
            Self::Span(start, end) => (start.clone(), end.clone()),
        }
    }
}

/// The first key after all that begin with `prefix`; none if there is no such key.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_etcd() {
        let cases: &[(&[u8], &[u8], KeyRange)] = &[
            (b"a", b"", KeyRange::key("a")),
            (b"a", b"b", KeyRange::prefix("a")),
            (b"/registry/", b"/registry0", KeyRange::prefix("/registry/")),
            (b"a", b"c", KeyRange::Span("a".into(), Some("c".into()))),
            (b"a", b"\0", KeyRange::Span("a".into(), None)),
            (b"\0", b"\0", KeyRange::prefix("")),
            (b"a\xff", b"b", KeyRange::prefix(&b"a\xff"[..])),
        ];
        for (key, end, range) in cases {
            let made = KeyRange::of_etcd(Bytes::copy_from_slice(key), Bytes::copy_from_slice(end));
            assert_eq!(made, *range, "{key:?} {end:?}");
        }
        assert!(KeyRange::prefix(&b"a\xff"[..]).contains(b"a\xff\xff"));
        assert_eq!(KeyRange::prefix(&b"\xff"[..]).bounds(), (Bytes::from_static(b"\xff"), None));
    }

    #[test]
    fn a_memo_is_derived_once() {
        let revisions = Revisions { create_revision: 2, mod_revision: 2, version: 1 };
        let record = Record::new("k".into(), "12".into(), revisions, 0);
        let parse = |record: &Record| String::from_utf8_lossy(&record.value).parse::<u32>().unwrap_or(0);
        let first = record.memo(parse);
        let second = record.memo(|_| -> u32 { panic!("it is kept") });
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(*first, 12);
        assert_eq!(*record.memo(|_| "other"), "other");
    }
}
