//! Leases: keys that hang on one are deleted when it is not kept alive. Time is tokio's, so tests can advance it. A lease that is
//! loaded from the journal begins its time to live anew, as etcd's do when a leader is elected.

use crate::Error;
use crate::store::random;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// As etcd's MaxLeaseTTL, in seconds.
const MAX_TTL: i64 = 9_000_000_000;

/// All leases of a store.
#[derive(Default)]
pub(crate) struct Leases {
    by_id: HashMap<i64, Lease>,
    /// The order in which they expire.
    deadlines: BTreeSet<(Instant, i64)>,
}

struct Lease {
    ttl: i64,
    deadline: Instant,
    keys: BTreeSet<Bytes>,
}

impl Leases {
    /// True if there is such a lease.
    pub fn exists(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// A number that no lease has.
    pub fn free(&self) -> i64 {
        loop {
            let id = (random() >> 1).cast_signed();
            if id != 0 && !self.exists(id) {
                return id;
            }
        }
    }

    /// Checks what [`Self::grant`] is going to get.
    pub fn check(&self, id: i64, ttl: i64) -> Result<(), Error> {
        if id == 0 || self.exists(id) {
            return Err(Error::LeaseExists);
        }
        if ttl > MAX_TTL { Err(Error::LeaseTtl) } else { Ok(()) }
    }

    /// A new lease.
    pub fn grant(&mut self, id: i64, ttl: i64) {
        let deadline = deadline(ttl);
        self.by_id.insert(id, Lease { ttl, deadline, keys: BTreeSet::new() });
        self.deadlines.insert((deadline, id));
    }

    /// Begins its time anew; its time to live.
    pub fn keep_alive(&mut self, id: i64) -> Result<i64, Error> {
        let lease = self.by_id.get_mut(&id).ok_or(Error::LeaseNotFound)?;
        self.deadlines.remove(&(lease.deadline, id));
        lease.deadline = deadline(lease.ttl);
        self.deadlines.insert((lease.deadline, id));
        Ok(lease.ttl)
    }

    /// Forgets it; the keys that hang on it.
    pub fn remove(&mut self, id: i64) -> Result<BTreeSet<Bytes>, Error> {
        let lease = self.by_id.remove(&id).ok_or(Error::LeaseNotFound)?;
        self.deadlines.remove(&(lease.deadline, id));
        Ok(lease.keys)
    }

    /// The keys that hang on it.
    pub fn keys(&self, id: i64) -> Result<impl Iterator<Item = &Bytes>, Error> {
        Ok(self.by_id.get(&id).ok_or(Error::LeaseNotFound)?.keys.iter())
    }

    /// Seconds granted and seconds left.
    pub fn time_to_live(&self, id: i64) -> Result<(i64, i64), Error> {
        let lease = self.by_id.get(&id).ok_or(Error::LeaseNotFound)?;
        let left = lease.deadline.saturating_duration_since(Instant::now()).as_secs();
        Ok((lease.ttl, i64::try_from(left).unwrap_or(i64::MAX)))
    }

    /// All of them with their times to live.
    pub fn all(&self) -> impl Iterator<Item = (i64, i64)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease.ttl))
    }

    /// When the next one expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// One that has expired.
    pub fn expired(&self) -> Option<i64> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= Instant::now()).map(|(_, id)| *id)
    }

    /// A key hangs on another lease than before. Leases that are not known (as in a replica) don't matter.
    pub fn moved(&mut self, key: &Bytes, before: i64, now: i64) {
        if before != now
            && let Some(lease) = self.by_id.get_mut(&before)
        {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.by_id.get_mut(&now) {
            lease.keys.insert(key.clone());
        }
    }
}

fn deadline(ttl: i64) -> Instant {
    // As etcd: at least a second, so that it can be kept alive at all.
    let seconds = u64::try_from(ttl).unwrap_or(0).clamp(1, MAX_TTL as u64);
    Instant::now() + Duration::from_secs(seconds)
}
