//! The store as its users see it. One lock guards the state: readers and writers hold it for as long as a look into memory takes,
//! never across an await. A write is checked, applied, written to the journal and shown to watchers under the same lock; so nobody
//! ever reads what a crash could take back.

use crate::Error;
use crate::journal::{self, Journal};
use crate::mvcc::{Found, Query, State};
use crate::owner::Owner;
use crate::record::{KeyRange, Record};
use crate::replica::{self, Link};
use crate::replication::{self, Request};
use crate::servers::Servers;
use crate::txn::{Compare, Op, OpResult, Txn, TxnResult};
use crate::watch::Watcher;
use bytes::Bytes;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

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
    pub lease_changed: Notify,
    /// Some revision was reached that somebody may wait for.
    advanced: Notify,
    shared_lease: Mutex<Option<SharedLease>>,
}

/// Who carries out writes.
pub(crate) enum Writer {
    /// This process.
    Owner(Owner),
    /// Another one.
    Replica(Link),
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
        Self::with(State::new(random()), Writer::Owner(Owner::default()))
    }

    /// The store that a journal in this directory keeps; an empty one if there is none yet. With `fsync` an acknowledged write
    /// survives the machine, without it only this process. Leases expire only while [`Self::run_leases`] runs.
    pub fn open(dir: &Path, fsync: bool) -> Result<Self, Error> {
        let (journal, state) = Journal::open(dir, random())?;
        Ok(Self::with(state, Writer::Owner(Owner::kept(journal, fsync))))
    }

    /// A copy of the store that another process serves ([`crate::serve`]).
    pub async fn replica(servers: Servers) -> Result<Self, Error> {
        replica::open(servers).await
    }

    /// Feeds a copy in another process until it leaves.
    pub async fn serve_replica(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), Error> {
        replication::serve(self.clone(), Box::new(io)).await
    }

    /// Refuses if this is a copy that has lost its owner: what is read is what was known then.
    pub fn check_connection(&self) -> Result<(), Error> {
        match &self.inner.writer {
            Writer::Owner(_) => Ok(()),
            Writer::Replica(link) => link.check_connection(),
        }
    }

    /// All that it knows as one file, a piece at a time: what [`Self::restore`] takes.
    pub fn snapshot(&self) -> impl Iterator<Item = Result<Vec<u8>, Error>> + use<> {
        let export = self.inner.read().export();
        journal::snapshot(export)
    }

    /// Puts a snapshot into a directory that has no journal. What [`Self::open`] finds there is a store of its own: copies and
    /// watchers of the old one begin anew.
    pub fn restore(snapshot: &Path, dir: &Path) -> Result<(), Error> {
        journal::restore(snapshot, dir, random())
    }

    /// Bytes that it takes on the disk.
    pub fn size_on_disk(&self) -> u64 {
        self.inner.owner().map_or(0, Owner::size)
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

    /// What lies below a prefix now, without the pains of [`Self::range`]: for what is asked again and again and is mostly nothing.
    pub fn below(&self, prefix: &[u8]) -> Vec<Arc<Record>> {
        self.inner.read().below(prefix).cloned().collect()
    }

    /// Waits until a revision is there.
    pub async fn reached(&self, revision: i64) {
        self.until(|state| state.revision() >= revision).await;
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let notified = self.inner.advanced.notified();
            tokio::pin!(notified);
            // From here on no wake-up is missed.
            notified.as_mut().enable();
            if holds(&self.inner.read()) {
                return;
            }
            notified.await;
        }
    }

    /// Watches keys from a revision on (all events of it and later), or from now on.
    pub fn watch(&self, keys: &KeyRange, from: Option<i64>) -> Result<Watcher, Error> {
        Watcher::new(Arc::clone(&self.inner), keys, from)
    }

    /// Carries out a transaction. When it returns, the result can be read here and survives the owner's process.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        match &self.inner.writer {
            Writer::Owner(owner) => {
                let (result, written) = owner.txn(&self.inner, &txn)?;
                owner.durable(&self.inner, written).await?;
                Ok(result)
            }
            Writer::Replica(link) => {
                // What is wrong with it needs no way to the owner.
                txn.check()?;
                replication::understand(&self.inner, link.ask(Request::Txn(txn)).await?)
            }
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
            Writer::Owner(owner) => {
                let written = owner.compact(&self.inner, revision)?;
                owner.durable(&self.inner, written).await
            }
            Writer::Replica(link) => {
                link.ask(Request::Compact(revision)).await?;
                self.until(|state| state.compacted() >= revision).await;
                Ok(())
            }
        }
    }

    /// Waits until all that the owner has done before this call can be read here.
    pub async fn sync(&self) -> Result<(), Error> {
        if let Writer::Replica(link) = &self.inner.writer {
            let revision = link.number(Request::Revision).await?;
            self.reached(revision).await;
        }
        Ok(())
    }

    /// A new lease; its number is chosen if `id` is 0. Seconds.
    pub async fn grant(&self, id: i64, ttl: i64) -> Result<i64, Error> {
        match &self.inner.writer {
            Writer::Owner(owner) => {
                let (id, written) = owner.grant(&self.inner, id, ttl)?;
                owner.durable(&self.inner, written).await?;
                Ok(id)
            }
            Writer::Replica(link) => link.number(Request::Grant { id, ttl }).await,
        }
    }

    /// Begins a lease's time anew; its time to live.
    pub async fn keep_alive(&self, id: i64) -> Result<i64, Error> {
        match &self.inner.writer {
            Writer::Owner(owner) => owner.keep_alive(&self.inner, id),
            Writer::Replica(link) => link.number(Request::KeepAlive(id)).await,
        }
    }

    /// Ends a lease: the keys that hang on it are deleted.
    pub async fn revoke(&self, id: i64) -> Result<(), Error> {
        match &self.inner.writer {
            Writer::Owner(owner) => {
                let written = owner.revoke(&self.inner, id)?;
                owner.durable(&self.inner, written).await
            }
            Writer::Replica(link) => link.ask(Request::Revoke(id)).await.map(drop),
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

    /// Deletes what hangs on leases that expire, for as long as it is polled. In a copy there is nothing to do: its owner does it.
    pub async fn run_leases(&self) {
        let Some(owner) = self.inner.owner() else { return std::future::pending().await };
        loop {
            let changed = self.inner.lease_changed.notified();
            // Not in the match itself, whose guard would live as long as it.
            let expired = self.inner.read().leases.expired();
            if let Some(id) = expired {
                if let Err(error) = owner.revoke(&self.inner, id) {
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

    /// Who writes, if that is this process.
    pub fn owner(&self) -> Option<&Owner> {
        match &self.writer {
            Writer::Owner(owner) => Some(owner),
            Writer::Replica(_) => None,
        }
    }

    /// Wakes whoever waits for what was committed.
    pub fn wake(&self, state: &mut State) {
        state.groups.wake();
        self.advanced.notify_waiters();
    }

    /// The state becomes another one, of the same history or not.
    pub fn replace(&self, new: State) {
        let mut state = self.state();
        state.replaced_by(new);
        self.wake(&mut state);
    }
}

/// A number that nobody has had before.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's keys are the operating system's randomness.
    RandomState::new().hash_one(std::time::SystemTime::now())
}
