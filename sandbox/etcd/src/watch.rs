//! Watches: who wants to know of which keys, and how far each has read.
//!
//! Watchers of the same range form a group. A group holds pointers to the kept events of its range, so a watcher reads just what
//! concerns it, and an event looks up the few groups that its key belongs to, not all watchers. A watcher holds nothing but the next
//! revision that it wants: a slow one costs no memory, and if the events it has not read are compacted it ends with
//! [`Error::Compacted`].

use crate::Error;
use crate::record::{Event, KeyRange};
use crate::store::Inner;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Events that one batch has at most, but for the rest of its last revision.
const BATCH: usize = 500;

/// All groups.
#[derive(Default)]
pub(crate) struct Groups {
    by_id: HashMap<u64, Group>,
    keys: HashMap<Bytes, u64>,
    prefixes: HashMap<Bytes, u64>,
    /// Lengths of the prefixes and how many have each: what must be looked up for a key.
    lengths: BTreeMap<usize, usize>,
    spans: Vec<u64>,
    next_id: u64,
    /// Groups with events that nobody was woken for.
    touched: Vec<u64>,
}

struct Group {
    range: KeyRange,
    events: VecDeque<Arc<Event>>,
    /// Events up to here may be missing.
    forgotten: i64,
    watchers: usize,
    notify: Arc<Notify>,
    is_touched: bool,
}

impl Groups {
    /// One watcher more for a range.
    pub fn join(&mut self, range: &KeyRange, compacted: i64, history: &VecDeque<Arc<Event>>) -> u64 {
        let known = match range {
            KeyRange::Key(key) => self.keys.get(key).copied(),
            KeyRange::Prefix(prefix) => self.prefixes.get(prefix).copied(),
            KeyRange::Span(..) => self.spans.iter().copied().find(|id| self.by_id[id].range == *range),
        };
        if let Some(group) = known.and_then(|id| self.by_id.get_mut(&id)) {
            group.watchers += 1;
            return known.unwrap_or_default();
        }
        self.next_id += 1;
        let id = self.next_id;
        match range {
            KeyRange::Key(key) => {
                self.keys.insert(key.clone(), id);
            }
            KeyRange::Prefix(prefix) => {
                self.prefixes.insert(prefix.clone(), id);
                *self.lengths.entry(prefix.len()).or_default() += 1;
            }
            KeyRange::Span(..) => self.spans.push(id),
        }
        let events = history.iter().filter(|event| range.contains(&event.record.key)).cloned().collect();
        let notify = Arc::new(Notify::new());
        let range = range.clone();
        let group = Group { range, events, forgotten: compacted, watchers: 1, notify, is_touched: false };
        self.by_id.insert(id, group);
        id
    }

    /// One watcher less.
    pub fn leave(&mut self, id: u64) {
        let Some(group) = self.by_id.get_mut(&id) else { return };
        group.watchers -= 1;
        if group.watchers > 0 {
            return;
        }
        let Some(group) = self.by_id.remove(&id) else { return };
        match &group.range {
            // A group of a history that was replaced may have a successor by the same name.
            KeyRange::Key(key) if self.keys.get(key) == Some(&id) => {
                self.keys.remove(key);
            }
            KeyRange::Prefix(prefix) if self.prefixes.get(prefix) == Some(&id) => {
                self.prefixes.remove(prefix);
                if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
            KeyRange::Span(..) => self.spans.retain(|span| *span != id),
            _ => {}
        }
    }

    /// Shows an event to the groups that its key is part of.
    pub fn publish(&mut self, event: &Arc<Event>) {
        let key = &event.record.key[..];
        let prefixes = self
            .lengths
            .range(..=key.len())
            .filter_map(|(length, _)| self.prefixes.get(&key[..*length]).copied());
        let spans = self.spans.iter().copied().filter(|id| self.by_id[id].range.contains(key));
        let ids: smallvec::SmallVec<[u64; 8]> =
            self.keys.get(key).copied().into_iter().chain(prefixes).chain(spans).collect();
        for id in ids {
            let Some(group) = self.by_id.get_mut(&id) else { continue };
            group.events.push_back(Arc::clone(event));
            if !group.is_touched {
                group.is_touched = true;
                self.touched.push(id);
            }
        }
    }

    /// Wakes those who watch what was published. They run after whoever holds the lock has let go of it.
    pub fn wake(&mut self) {
        for id in self.touched.drain(..) {
            let Some(group) = self.by_id.get_mut(&id) else { continue };
            group.is_touched = false;
            group.notify.notify_waiters();
        }
    }

    /// Forgets events up to a revision.
    pub fn compact(&mut self, revision: i64) {
        for group in self.by_id.values_mut() {
            while let Some(event) = group.events.pop_front_if(|event| event.revision() <= revision) {
                group.forgotten = event.revision();
            }
            if group.events.is_empty() {
                group.events.shrink_to(16);
            }
        }
    }

    /// The history was replaced by another, or by more of the same.
    pub fn rebuild(&mut self, same_store: bool, compacted: i64, history: &VecDeque<Arc<Event>>) {
        for group in self.by_id.values_mut() {
            let range = &group.range;
            group.events =
                history.iter().filter(|event| range.contains(&event.record.key)).cloned().collect();
            group.forgotten = if same_store { compacted } else { i64::MAX };
            group.notify.notify_waiters();
        }
        if !same_store {
            // Those who watch are told and leave; whoever comes later begins anew.
            self.keys.clear();
            self.prefixes.clear();
            self.lengths.clear();
            self.spans.clear();
        }
    }
}

/// Some events in the order in which they happened. Events of one revision are never divided.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// May be empty for none but [`Watcher::try_next`].
    pub events: Vec<Arc<Event>>,
    /// The watcher has seen all that happened up to this revision.
    pub revision: i64,
}

/// A watch over a range.
pub struct Watcher {
    inner: Arc<Inner>,
    group: u64,
    notify: Arc<Notify>,
    next: i64,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Watcher {
    pub(crate) fn new(inner: Arc<Inner>, range: &KeyRange, from: Option<i64>) -> Result<Self, Error> {
        let mut state = inner.state();
        let group = state.join(range, from)?;
        let next = from.unwrap_or(state.revision() + 1);
        let notify = Arc::clone(&state.groups.by_id[&group].notify);
        drop(state);
        Ok(Self { inner, group, notify, next })
    }

    /// The next events, as soon as there are some. Nothing is lost if it is not awaited to its end.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        let notify = Arc::clone(&self.notify);
        loop {
            let notified = notify.notified();
            tokio::pin!(notified);
            // From here on no wake-up is missed, so what is looked at next can't be too old.
            notified.as_mut().enable();
            let batch = self.try_next()?;
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            notified.await;
        }
    }

    /// The events that are there now; an empty batch if there are none.
    pub fn try_next(&mut self) -> Result<Batch, Error> {
        let inner = Arc::clone(&self.inner);
        let state = inner.read();
        let compacted = Error::Compacted { oldest: state.compacted() };
        let group = state.groups.by_id.get(&self.group).ok_or_else(|| compacted.clone())?;
        if self.next <= group.forgotten {
            return Err(compacted);
        }
        let first = group.events.partition_point(|event| event.revision() < self.next);
        let mut end = group.events.len().min(first + BATCH);
        while end > first
            && end < group.events.len()
            && group.events[end].revision() == group.events[end - 1].revision()
        {
            end += 1;
        }
        let events: Vec<_> = group.events.range(first..end).cloned().collect();
        let is_complete = end == group.events.len();
        let read_to = if is_complete { state.revision() } else { group.events[end - 1].revision() };
        self.next = self.next.max(read_to + 1);
        Ok(Batch { events, revision: read_to })
    }

    /// The revision up to which everything has been read.
    pub fn read_to(&self) -> i64 {
        self.next - 1
    }

    /// The revision up to which nothing is left to read; none if something is.
    pub fn progress(&self) -> Option<i64> {
        let state = self.inner.read();
        let group = state.groups.by_id.get(&self.group)?;
        let is_complete = group.forgotten < self.next
            && group.events.back().is_none_or(|event| event.revision() < self.next);
        is_complete.then(|| state.revision())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.inner.state().groups.leave(self.group);
    }
}
