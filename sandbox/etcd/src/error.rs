//! What can be wrong with a request to the store.

use serde::{Deserialize, Serialize};

/// Why the store did not do it. Texts are etcd's (api/v3rpc/rpctypes/error.go), since `etcdctl` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// The revision is no longer kept: read the present state instead.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The oldest revision that can be read.
        oldest: i64,
    },
    /// The revision does not exist yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision {
        /// The newest one.
        current: i64,
    },
    /// A key would be written twice under one revision.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A key is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// More operations than a transaction may have.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// The request is larger than [`crate::Store::MAX_REQUEST`].
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// A put keeps the value of a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// There is no such lease, or it has expired.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease with this number exists.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The time to live makes no sense.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtl,
    /// The disk is full, or cannot be written: nothing changed.
    #[error("etcdserver: mvcc: database space exceeded: {0}")]
    NoSpace(String),
    /// The process that owns the store cannot be reached. A write may or may not have happened.
    #[error("rpc error: code = Unavailable desc = {0}")]
    Unavailable(String),
    /// A file is no journal, or one that is damaged before its end.
    #[error("etcdserver: {0}")]
    Corrupt(String),
}

impl Error {
    /// No connection comes about, as gRPC's client says it.
    pub(crate) fn connection(why: String) -> Self {
        Self::Unavailable(format!("connection error: desc = \"{why}\""))
    }
}
