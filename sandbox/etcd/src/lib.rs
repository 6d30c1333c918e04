//! The store of a cluster: MVCC with watches and leases, journalled, spoken to as etcd v3.
//!
//! [`Store`] is the whole contract. One is in memory ([`Store::memory`]), one keeps a journal on disk ([`Store::open`]), and one is a
//! copy of a store in another process ([`Store::replica`]); all three pass the same suite (`tests/behaviour`). Reads are answered
//! from memory, at any revision that is kept. A write goes through [`Store::txn`]: it is checked and applied in `txn`, written to the
//! journal by `journal`, and told to whoever watches by `watch`.
//!
//! A worked example: a fresh store is at revision 1. `put a` makes revision 2: the record of `a` is created at 2, modified at 2,
//! version 1. `put a` again makes 3: created 2, modified 3, version 2. `delete a` makes 4: reading `a` now finds nothing, reading it
//! at 3 or 2 finds what was there. `compact 3` forgets what only revisions before 3 need: reading at 2 is refused with
//! [`Error::Compacted`], reading at 3 is not, and a watch can begin at 4 or later.

mod error;
mod frame;
mod grpc;
mod journal;
mod lease;
mod mvcc;
mod owner;
mod record;
mod replica;
mod replication;
mod serve;
mod servers;
mod store;
mod tls;
mod txn;
mod watch;

pub use error::Error;
pub use mvcc::{Found, Query};
pub use record::{Event, EventKind, KeyRange, Record};
pub use serve::{Options, ServeError, serve};
pub use servers::Servers;
pub use store::{Outcome, Store};
pub use tls::{ClientFiles, FlagError};
pub use txn::{Compare, CompareOp, Op, OpResult, Target, Txn, TxnResult};
pub use watch::{Batch, Watcher};
