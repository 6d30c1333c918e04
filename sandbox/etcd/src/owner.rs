//! Writes in the process that owns the store: checked, applied, written to the journal and shown under one lock.

use crate::Error;
use crate::frame::Frame;
use crate::journal::Journal;
use crate::mvcc::State;
use crate::record::Event;
use crate::store::Inner;
use crate::txn::{self, Txn, TxnResult};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Memory that the history of events may hold, about, before the oldest are forgotten without anybody asking.
const HISTORY: usize = 24 << 20;

/// A store that belongs to this process.
#[derive(Default)]
pub(crate) struct Owner {
    kept: Option<Kept>,
}

/// What keeps it.
struct Kept {
    journal: Mutex<Journal>,
    /// None: the operating system writes when it likes to.
    durable: Option<Durable>,
}

/// How much of the journal is on the disk.
struct Durable {
    synced: watch::Sender<Result<u64, Error>>,
    is_running: AtomicBool,
}

/// A write that was done: it may be told once [`Owner::durable`] says so.
#[must_use]
pub(crate) struct Written(u64);

impl Owner {
    /// With a journal.
    pub fn kept(journal: Journal, fsync: bool) -> Self {
        let durable =
            fsync.then(|| Durable { synced: watch::Sender::new(Ok(0)), is_running: AtomicBool::new(false) });
        Self { kept: Some(Kept { journal: Mutex::new(journal), durable }) }
    }

    /// Bytes on the disk.
    pub fn size(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.journal().length())
    }

    /// Carries out a transaction.
    pub fn txn(&self, inner: &Inner, txn: &Txn) -> Result<(TxnResult, Written), Error> {
        let mut state = inner.state();
        let (result, events) = txn::apply(&mut state, txn)?;
        self.commit(inner, &mut state, events)?;
        if let Some(revision) = state.compaction_for(HISTORY) {
            self.forget(&mut state, revision)?;
        }
        self.bound_journal(&state);
        Ok((result, self.written()))
    }

    fn commit(&self, inner: &Inner, state: &mut State, events: Vec<Arc<Event>>) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.append(|| Frame::write(state.revision() + 1, &events)) {
            state.rollback(&events);
            return Err(error);
        }
        state.commit(events);
        inner.wake(state);
        Ok(())
    }

    /// Forgets revisions before this one.
    pub fn compact(&self, inner: &Inner, revision: i64) -> Result<Written, Error> {
        let mut state = inner.state();
        self.forget(&mut state, revision)?;
        inner.wake(&mut state);
        self.bound_journal(&state);
        Ok(self.written())
    }

    fn forget(&self, state: &mut State, revision: i64) -> Result<(), Error> {
        state.compact(revision)?;
        // Not being written down costs nothing but a compaction that is repeated after a restart.
        self.append(|| Frame::Compact { revision })
    }

    /// A new lease.
    pub fn grant(&self, inner: &Inner, id: i64, ttl: i64) -> Result<(i64, Written), Error> {
        let mut state = inner.state();
        let id = if id == 0 { state.leases.free() } else { id };
        state.leases.check(id, ttl)?;
        self.append(|| Frame::Grant { id, ttl })?;
        state.leases.grant(id, ttl);
        drop(state);
        inner.lease_changed.notify_one();
        Ok((id, self.written()))
    }

    /// Begins a lease's time anew.
    pub fn keep_alive(&self, inner: &Inner, id: i64) -> Result<i64, Error> {
        let ttl = inner.state().leases.keep_alive(id)?;
        inner.lease_changed.notify_one();
        Ok(ttl)
    }

    /// Ends a lease.
    pub fn revoke(&self, inner: &Inner, id: i64) -> Result<Written, Error> {
        let mut state = inner.state();
        let keys: Vec<Bytes> = state.leases.keys(id)?.cloned().collect();
        let events = keys.iter().filter_map(|key| state.delete(key)).collect();
        self.commit(inner, &mut state, events)?;
        self.append(|| Frame::Revoke { id })?;
        state.leases.remove(id)?;
        Ok(self.written())
    }

    fn append(&self, frame: impl FnOnce() -> Frame) -> Result<(), Error> {
        match &self.kept {
            Some(kept) => kept.journal().append(&frame()),
            None => Ok(()),
        }
    }

    fn bound_journal(&self, state: &State) {
        let Some(kept) = &self.kept else { return };
        let mut journal = kept.journal();
        if journal.is_large()
            && let Err(error) = journal.rewrite(state.export())
        {
            tracing::error!(%error, "the journal can't be written anew");
        }
    }

    fn written(&self) -> Written {
        Written(self.kept.as_ref().map_or(0, |kept| kept.journal().written))
    }

    /// Waits until a write is on the disk, if that is asked of this store. Writes that wait together are synchronised together.
    pub async fn durable(&self, inner: &Arc<Inner>, written: Written) -> Result<(), Error> {
        let Some(durable) = self.kept.as_ref().and_then(|kept| kept.durable.as_ref()) else {
            return Ok(());
        };
        let mut synced = durable.synced.subscribe();
        loop {
            if synced.borrow_and_update().clone()? >= written.0 {
                return Ok(());
            }
            if !durable.is_running.swap(true, Ordering::AcqRel) {
                let inner = Arc::clone(inner);
                tokio::task::spawn_blocking(move || synchronise(&inner));
            }
            if synced.changed().await.is_err() {
                return Err(Error::Unavailable("it is being shut down".into()));
            }
        }
    }
}

impl Kept {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn synchronise(inner: &Inner) {
    let Some(kept) = inner.owner().and_then(|owner| owner.kept.as_ref()) else { return };
    let Some(durable) = &kept.durable else { return };
    let (file, written) = {
        let journal = kept.journal();
        (journal.file(), journal.written)
    };
    let result = file.sync_data().map(|()| written).map_err(|error| Error::NoSpace(error.to_string()));
    // First this, so that whoever is woken by the next line and needs more can begin.
    durable.is_running.store(false, Ordering::Release);
    let _before = durable.synced.send_replace(result);
}
