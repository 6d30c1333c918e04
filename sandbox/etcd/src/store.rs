//! The store as its users see it. One lock guards the state: readers and writers hold it for as long as a look into memory takes,
//! never across an await. A write is checked, applied, written to the journal and shown to watchers under the same lock; so nobody
//! ever reads what a crash could take back.

use crate::Error;
use crate::lease::Leases;
use crate::mvcc::{Found, Query, State};
use crate::record::{KeyRange, Record};
use crate::txn::{self, Compare, Op, OpResult, Txn, TxnResult};
use crate::watch::Watcher;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// Memory that the history of events may hold, about, before the oldest are forgotten without anybody asking.
const HISTORY: usize = 48 << 20;
/// A lease is shared by so many keys, as in the API server's lease_manager.go.
const KEYS_PER_LEASE: usize = 1000;

/// A store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    state: RwLock<State>,
    writer: Writer,
    /// The next lease expires at another time than before.
    lease_changed: Notify,
    /// Some revision was reached that somebody may wait for.
    advanced: Notify,
    shared_lease: Mutex<Option<SharedLease>>,
}

/// Who carries out writes.
pub(crate) enum Writer {
    /// This process, and nobody keeps them.
    Memory,
}

/// The lease that the last one who asked for this time to live got.
struct SharedLease {
    id: i64,
    ttl: i64,
    keys: usize,
    granted: Instant,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

/// What became of a write that has a condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done {
        /// The new version; after a deletion the tombstone, whose `mod_revision` is that of the deletion.
        record: Arc<Record>,
        /// The version before.
        prev: Option<Arc<Record>>,
    },
    /// The condition does not hold: this is what there is now.
    Conflict(Option<Arc<Record>>),
}

impl Store {
    /// The largest request, as etcd's `--max-request-bytes`.
    pub const MAX_REQUEST: usize = 3 << 19;

    /// An empty store that nobody keeps. Leases expire only while [`Self::run_leases`] runs.
    pub fn memory() -> Self {
        Self::with(State::new(random()), Writer::Memory)
    }

    pub(crate) fn with(state: State, writer: Writer) -> Self {
        let inner = Inner {
            state: RwLock::new(state),
            writer,
            lease_changed: Notify::new(),
            advanced: Notify::new(),
            shared_lease: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Tells this store's history from that of any other.
    pub fn id(&self) -> u64 {
        self.inner.read().id
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.inner.read().revision()
    }

    /// The oldest revision that can be read; 0: nothing was compacted.
    pub fn compacted(&self) -> i64 {
        self.inner.read().compacted()
    }

    /// A key, at a revision or now.
    pub fn get(&self, key: &[u8], at: Option<i64>) -> Result<Option<Arc<Record>>, Error> {
        self.inner.read().get(key, at).map(Option::<&_>::cloned)
    }

    /// Some keys.
    pub fn range(&self, keys: &KeyRange, query: &Query) -> Result<Found, Error> {
        self.inner.read().range(keys, query)
    }

    /// Waits until a revision is there.
    pub async fn reached(&self, revision: i64) {
        loop {
            let notified = self.inner.advanced.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.revision() >= revision {
                return;
            }
            notified.await;
        }
    }

    /// Watches keys from a revision on (all events of it and later), or from now on.
    pub fn watch(&self, keys: &KeyRange, from: Option<i64>) -> Result<Watcher, Error> {
        Watcher::new(Arc::clone(&self.inner), keys, from)
    }

    /// Carries out a transaction. When it returns, the result can be read here and survives this process.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        match &self.inner.writer {
            Writer::Memory => self.inner.write(&txn),
        }
    }

    /// Writes a key if it does not exist.
    pub async fn create(&self, key: Bytes, value: Bytes, lease: i64) -> Result<Outcome, Error> {
        let condition = Compare::absent(key.clone());
        self.put_if(condition, key, value, lease).await
    }

    /// Writes a key if its version is still of this revision.
    pub async fn update_if(
        &self,
        key: Bytes,
        mod_revision: i64,
        value: Bytes,
        lease: i64,
    ) -> Result<Outcome, Error> {
        let condition = Compare::unchanged(key.clone(), mod_revision);
        self.put_if(condition, key, value, lease).await
    }

    async fn put_if(
        &self,
        condition: Compare,
        key: Bytes,
        value: Bytes,
        lease: i64,
    ) -> Result<Outcome, Error> {
        let otherwise = vec![Op::get(key.clone())];
        let then = vec![Op::Put { key, value: Some(value), lease: Some(lease) }];
        let mut done = self.txn(Txn { compares: vec![condition], then, otherwise }).await?;
        Ok(match done.results.pop() {
            Some(OpResult::Put { record, prev }) => Outcome::Done { record, prev },
            Some(OpResult::Range(found)) => Outcome::Conflict(found.records.into_iter().next()),
            _ => return Err(Error::Unavailable("the answer fits no question".into())),
        })
    }

    /// Deletes a key if its version is still of this revision.
    pub async fn delete_if(&self, key: Bytes, mod_revision: i64) -> Result<Outcome, Error> {
        let txn = Txn {
            compares: vec![Compare::unchanged(key.clone(), mod_revision)],
            then: vec![Op::Delete(KeyRange::Key(key.clone()))],
            otherwise: vec![Op::get(key)],
        };
        let mut done = self.txn(txn).await?;
        Ok(match done.results.pop() {
            Some(OpResult::Delete(mut gone)) => match gone.pop() {
                Some(prev) => {
                    let record = Arc::new(Record::tombstone(prev.key.clone(), done.revision));
                    Outcome::Done { record, prev: Some(prev) }
                }
                // The revision was 0: "delete it if it does not exist".
                None => Outcome::Conflict(None),
            },
            Some(OpResult::Range(found)) => Outcome::Conflict(found.records.into_iter().next()),
            _ => return Err(Error::Unavailable("the answer fits no question".into())),
        })
    }

    /// Forgets what only revisions before this one need: it is the oldest that can be read from now on.
    pub async fn compact(&self, revision: i64) -> Result<(), Error> {
        match &self.inner.writer {
            Writer::Memory => self.inner.state().compact(revision),
        }
    }

    /// A new lease; its number is chosen if `id` is 0. Seconds.
    pub async fn grant(&self, id: i64, ttl: i64) -> Result<i64, Error> {
        match &self.inner.writer {
            Writer::Memory => self.inner.grant(id, ttl),
        }
    }

    /// Begins a lease's time anew; its time to live.
    pub async fn keep_alive(&self, id: i64) -> Result<i64, Error> {
        match &self.inner.writer {
            Writer::Memory => {
                let ttl = self.inner.state().leases.keep_alive(id)?;
                self.inner.lease_changed.notify_one();
                Ok(ttl)
            }
        }
    }

    /// Ends a lease: the keys that hang on it are deleted.
    pub async fn revoke(&self, id: i64) -> Result<(), Error> {
        match &self.inner.writer {
            Writer::Memory => self.inner.revoke(id),
        }
    }

    /// A lease for a key that is to live `ttl` seconds, shared with others: it may live up to a twentieth, or a minute, longer.
    pub async fn lease_for(&self, ttl: i64) -> Result<i64, Error> {
        let longer = (ttl / 20).max(60);
        {
            let mut shared = self.inner.shared_lease();
            if let Some(lease) = shared.as_mut()
                && lease.ttl == ttl
                && lease.keys < KEYS_PER_LEASE
                && lease.granted.elapsed() < Duration::from_secs(longer.unsigned_abs())
            {
                lease.keys += 1;
                return Ok(lease.id);
            }
        }
        let id = self.grant(0, ttl + longer).await?;
        *self.inner.shared_lease() = Some(SharedLease { id, ttl, keys: 1, granted: Instant::now() });
        Ok(id)
    }

    /// Deletes what hangs on leases that expire, for as long as it is polled.
    pub async fn run_leases(&self) {
        loop {
            let changed = self.inner.lease_changed.notified();
            // Not in the match itself, whose guard would live as long as it.
            let expired = self.inner.read().leases.expired();
            if let Some(id) = expired {
                if let Err(error) = self.inner.revoke(id) {
                    tracing::warn!(lease = id, %error, "an expired lease stays");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                continue;
            }
            let deadline = self.inner.read().leases.next_deadline();
            match deadline {
                Some(deadline) => tokio::select! {
                    () = tokio::time::sleep_until(deadline) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }
}

impl Inner {
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while it was held can't leave it half changed for long: what is not committed is rolled back at the next write.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared_lease(&self) -> MutexGuard<'_, Option<SharedLease>> {
        self.shared_lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction on the state that this process owns.
    fn write(&self, txn: &Txn) -> Result<TxnResult, Error> {
        let mut state = self.state();
        let (result, events) = txn::apply(&mut state, txn)?;
        if !events.is_empty() {
            state.commit(events);
            state.groups.wake();
            self.advanced.notify_waiters();
            self.bound_history(&mut state)?;
        }
        Ok(result)
    }

    fn bound_history(&self, state: &mut State) -> Result<(), Error> {
        match state.compaction_for(HISTORY) {
            Some(revision) => state.compact(revision),
            None => Ok(()),
        }
    }

    fn grant(&self, id: i64, ttl: i64) -> Result<i64, Error> {
        let mut state = self.state();
        let id = if id == 0 { free_lease(&state.leases) } else { id };
        state.leases.check(id, ttl)?;
        state.leases.grant(id, ttl);
        drop(state);
        self.lease_changed.notify_one();
        Ok(id)
    }

    fn revoke(&self, id: i64) -> Result<(), Error> {
        let mut state = self.state();
        let keys: Vec<Bytes> = state.leases.keys(id)?.cloned().collect();
        let events = keys.iter().filter_map(|key| state.delete(key)).collect();
        state.leases.remove(id)?;
        state.commit(events);
        state.groups.wake();
        self.advanced.notify_waiters();
        Ok(())
    }
}

fn free_lease(leases: &Leases) -> i64 {
    loop {
        let id = (random() >> 1).cast_signed();
        if id != 0 && !leases.exists(id) {
            return id;
        }
    }
}

/// A number that nobody has had before.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's keys are the operating system's randomness.
    RandomState::new().hash_one(std::time::SystemTime::now())
}
