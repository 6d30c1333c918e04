//! The state of a store: all kept versions of all keys, in the order of keys, and all events since the last compaction, in the order
//! of revisions. Only `store` locks it; nothing here waits or does input and output.
//!
//! A key's versions are pointers to records in the order of revisions, tombstones included. Compaction walks over the events that it
//! forgets and looks at just the keys that these name, so its cost is the number of changes and not of keys.

use crate::Error;
use crate::lease::Leases;
use crate::record::{Event, EventKind, KeyRange, Record, Revisions};
use crate::watch::Groups;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

type Versions = SmallVec<[Arc<Record>; 2]>;

/// How to read a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// At this revision; none: the newest.
    pub at: Option<i64>,
    /// At most so many records; 0: all.
    pub limit: usize,
    /// No records, just how many there are.
    pub count_only: bool,
    /// Without this, [`Found::count`] is exact only if the limit was not reached. Counting costs a walk over the rest.
    pub count: bool,
}

/// What a range holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// In the order of keys.
    pub records: Vec<Arc<Record>>,
    /// True if there are more than the limit allowed.
    pub more: bool,
    /// How many there are; see [`Query::count`].
    pub count: usize,
    /// The store's revision when it was read.
    pub revision: i64,
}

/// All that a store knows.
pub(crate) struct State {
    /// Tells this store's history from that of any other.
    pub id: u64,
    keys: BTreeMap<Bytes, Versions>,
    history: VecDeque<Arc<Event>>,
    /// Memory that the history holds, about.
    history_weight: usize,
    revision: i64,
    compacted: i64,
    /// Who hangs on which lease; empty in a replica.
    pub leases: Leases,
    /// Who watches.
    pub groups: Groups,
}

/// All that a store knows, by reference: what is written down while the store goes on.
pub(crate) struct Export {
    /// See [`State::id`].
    pub id: u64,
    /// The oldest revision that is kept.
    pub compacted: i64,
    /// The records of that revision.
    pub base: Vec<Arc<Record>>,
    /// Leases and their times to live.
    pub leases: Vec<(i64, i64)>,
    /// What happened since.
    pub events: Vec<Arc<Event>>,
}

impl State {
    /// An empty one, at revision 1 as etcd begins.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            keys: BTreeMap::new(),
            history: VecDeque::new(),
            history_weight: 0,
            revision: 1,
            compacted: 0,
            leases: Leases::default(),
            groups: Groups::default(),
        }
    }

    /// One that begins at a compacted revision, with these records and leases.
    pub fn begin(id: u64, compacted: i64, records: Vec<Record>, leases: &[(i64, i64)]) -> Self {
        let mut state = Self::new(id);
        state.revision = compacted.max(1);
        state.compacted = compacted;
        for (lease, ttl) in leases {
            state.leases.grant(*lease, *ttl);
        }
        for record in records {
            state.leases.moved(&record.key, 0, record.lease);
            state.keys.insert(record.key.clone(), SmallVec::from_iter([Arc::new(record)]));
        }
        state
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What was compacted: the oldest revision that can be read. 0: nothing.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The present version of a key.
    pub fn newest(&self, key: &[u8]) -> Option<&Arc<Record>> {
        self.keys.get(key)?.last().filter(|record| !record.is_tombstone())
    }

    /// The version of a key at a revision.
    pub fn get(&self, key: &[u8], at: Option<i64>) -> Result<Option<&Arc<Record>>, Error> {
        match self.readable(at)? {
            None => Ok(self.newest(key)),
            Some(at) => Ok(self.keys.get(key).and_then(|versions| version_at(versions, at))),
        }
    }

    /// The version that a revision made of a key.
    pub fn exactly(&self, key: &[u8], mod_revision: i64) -> Option<&Arc<Record>> {
        let versions = self.keys.get(key)?;
        versions.iter().rev().find(|record| record.mod_revision == mod_revision)
    }

    /// Present records, in the order of keys.
    pub fn present(&self, keys: &KeyRange) -> impl Iterator<Item = &Arc<Record>> {
        self.walk(keys).filter_map(|versions| versions.last().filter(|record| !record.is_tombstone()))
    }

    /// Present records whose keys begin so, in the order of keys.
    pub fn below(&self, prefix: &[u8]) -> impl Iterator<Item = &Arc<Record>> {
        let all = self.keys.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        let found = all.take_while(move |(key, _)| key.starts_with(prefix));
        found.filter_map(|(_, versions)| versions.last().filter(|record| !record.is_tombstone()))
    }

    /// Reads a range.
    pub fn range(&self, keys: &KeyRange, query: &Query) -> Result<Found, Error> {
        Ok(match self.readable(query.at)? {
            None => self.range_newest(keys, query),
            Some(at) => self.gather(self.walk(keys).filter_map(|versions| version_at(versions, at)), query),
        })
    }

    /// Reads a range of the present state.
    pub fn range_newest(&self, keys: &KeyRange, query: &Query) -> Found {
        if let KeyRange::Key(key) = keys {
            return self.gather(self.newest(key).into_iter(), query);
        }
        self.gather(self.present(keys), query)
    }

    fn gather<'a>(&self, mut records: impl Iterator<Item = &'a Arc<Record>>, query: &Query) -> Found {
        let mut found = Found { revision: self.revision, ..Found::default() };
        if query.count_only {
            found.count = records.count();
            return found;
        }
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        found.records.extend(records.by_ref().take(limit).cloned());
        found.count = found.records.len();
        if found.count == limit && records.next().is_some() {
            found.more = true;
            found.count += 1;
            if query.count {
                found.count += records.count();
            }
        }
        found
    }

    fn walk(&self, keys: &KeyRange) -> impl Iterator<Item = &Versions> {
        let (start, end) = keys.bounds();
        // A range that ends before it begins holds nothing; BTreeMap would panic.
        let end = match end {
            Some(end) if end <= start => Bound::Excluded(start.clone()),
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        self.keys.range((Bound::Included(start), end)).map(|(_, versions)| versions)
    }

    fn readable(&self, at: Option<i64>) -> Result<Option<i64>, Error> {
        match at {
            None | Some(..=0) => Ok(None),
            Some(at) if at > self.revision => Err(Error::FutureRevision { current: self.revision }),
            Some(at) if at < self.compacted => Err(Error::Compacted { oldest: self.compacted }),
            Some(at) if at == self.revision => Ok(None),
            at => Ok(at),
        }
    }

    /// Writes a key under the next revision; nobody is told before [`Self::commit`].
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: i64) -> Arc<Event> {
        let mod_revision = self.revision + 1;
        let versions = self.keys.entry(key.clone()).or_default();
        let prev = versions.last().filter(|record| !record.is_tombstone()).cloned();
        let revisions = match &prev {
            Some(prev) => {
                Revisions { create_revision: prev.create_revision, mod_revision, version: prev.version + 1 }
            }
            None => Revisions { create_revision: mod_revision, mod_revision, version: 1 },
        };
        // The key's bytes are shared by all its versions.
        let key = prev.as_ref().map_or(key, |prev| prev.key.clone());
        let record = Arc::new(Record::new(key, value, revisions, lease));
        versions.push(Arc::clone(&record));
        Arc::new(Event { kind: EventKind::Put, record, prev })
    }

    /// Deletes a key under the next revision, if it is there.
    pub fn delete(&mut self, key: &[u8]) -> Option<Arc<Event>> {
        let mod_revision = self.revision + 1;
        let versions = self.keys.get_mut(key)?;
        let prev = versions.last().filter(|record| !record.is_tombstone()).cloned()?;
        let record = Arc::new(Record::tombstone(prev.key.clone(), mod_revision));
        versions.push(Arc::clone(&record));
        Some(Arc::new(Event { kind: EventKind::Delete, record, prev: Some(prev) }))
    }

    /// Undoes what was not committed.
    pub fn rollback(&mut self, events: &[Arc<Event>]) {
        for event in events.iter().rev() {
            let key = &event.record.key;
            let Some(versions) = self.keys.get_mut(key) else { continue };
            versions.pop();
            if versions.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    /// Makes what was put and deleted the next revision and shows it to those who watch (see [`Groups::wake`]).
    pub fn commit(&mut self, events: Vec<Arc<Event>>) {
        if events.is_empty() {
            return;
        }
        self.revision += 1;
        for event in events {
            let before = event.prev.as_ref().map_or(0, |prev| prev.lease);
            self.leases.moved(&event.record.key, before, event.record.lease);
            self.history_weight += weight(&event);
            self.groups.publish(&event);
            self.history.push_back(event);
        }
    }

    /// Forgets what only revisions before `revision` need.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision { current: self.revision });
        }
        if revision <= self.compacted {
            return Err(Error::Compacted { oldest: self.compacted });
        }
        self.compacted = revision;
        while let Some(event) = self.history.pop_front_if(|event| event.revision() <= revision) {
            self.history_weight -= weight(&event);
            self.trim(&event.record.key, revision);
        }
        self.groups.compact(revision);
        Ok(())
    }

    fn trim(&mut self, key: &Bytes, compacted: i64) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let newer = versions.iter().position(|record| record.mod_revision > compacted);
        let first_newer = newer.unwrap_or(versions.len());
        let Some(kept) = first_newer.checked_sub(1) else { return };
        let first = if versions[kept].is_tombstone() { kept + 1 } else { kept };
        versions.drain(..first);
        if versions.is_empty() {
            self.keys.remove(key);
        }
    }

    /// The revision to compact to so that the history holds at most `most` bytes; none: it does.
    pub fn compaction_for(&self, most: usize) -> Option<i64> {
        let mut weight_left = self.history_weight;
        if weight_left <= most {
            return None;
        }
        // Half of it, so that this is not asked at every write.
        let mut events = self.history.iter();
        let mut revision = None;
        while weight_left > most / 2 {
            let event = events.next()?;
            weight_left -= weight(event);
            revision = Some(event.revision());
        }
        // The newest revision stays readable in any case.
        revision.map(|revision| revision.min(self.revision)).filter(|revision| *revision > self.compacted)
    }

    /// All that it knows.
    pub fn export(&self) -> Export {
        let at_compacted = |versions| version_at(versions, self.compacted).cloned();
        Export {
            id: self.id,
            compacted: self.compacted,
            base: self.keys.values().filter_map(at_compacted).collect(),
            leases: self.leases.all().collect(),
            events: self.history.iter().cloned().collect(),
        }
    }

    /// Begins to watch a range: the group that it is part of.
    pub fn join(&mut self, keys: &KeyRange, from: Option<i64>) -> Result<u64, Error> {
        if from.is_some_and(|from| from <= self.compacted && from <= self.revision) {
            return Err(Error::Compacted { oldest: self.compacted });
        }
        Ok(self.groups.join(keys, self.compacted, &self.history))
    }

    /// Takes another's place but for those who watch: they go on if their next revision is known to the new one.
    pub fn replaced_by(&mut self, mut new: Self) {
        std::mem::swap(&mut new.groups, &mut self.groups);
        let goes_on = self.id == new.id && self.revision <= new.revision;
        new.groups.rebuild(goes_on, new.compacted, &new.history);
        *self = new;
    }
}

fn version_at(versions: &Versions, at: i64) -> Option<&Arc<Record>> {
    versions.iter().rev().find(|record| record.mod_revision <= at).filter(|record| !record.is_tombstone())
}

fn weight(event: &Event) -> usize {
    // The version before is kept alive by the event alone.
    event.record.weight() + event.prev.as_ref().map_or(0, |prev| prev.weight())
}
