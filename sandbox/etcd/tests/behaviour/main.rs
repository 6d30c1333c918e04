//! The contract of a store, run on each kind of store: in memory, with a journal, and as a copy of one in another process (here: in
//! the same process, but over the socket).

mod contract;
mod durability;
mod model;
mod replicas;

use drydock_etcd::Store;
use std::path::Path;
use tokio::net::UnixListener;

/// A store with what it needs to live.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    _dir: tempfile::TempDir,
}

/// The kinds of stores.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Memory,
    Journal,
    Replica,
}

impl Fixture {
    pub(crate) async fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = match kind {
            Kind::Memory => Store::memory(),
            Kind::Journal => Store::open(dir.path(), true).expect("a journal"),
            Kind::Replica => {
                let socket = dir.path().join("socket");
                serve(&Store::memory(), &socket);
                Store::replica(&socket).await.expect("a copy")
            }
        };
        let leases = store.clone();
        tokio::spawn(async move { leases.run_leases().await });
        Self { store, _dir: dir }
    }
}

/// Feeds copies of a store until the task is aborted.
pub(crate) fn serve(store: &Store, socket: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("a socket");
    let owner = store.clone();
    tokio::spawn(async move {
        tokio::join!(owner.serve_replicas(listener), owner.run_leases());
    })
}
