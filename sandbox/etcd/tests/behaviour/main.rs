//! The contract of a store, run on each kind of store: in memory, with a journal, and as a copy of one in another process (here: in
//! the same process, but over a connection).

mod contract;
mod durability;
mod model;
mod replicas;

use drydock_etcd::{ClientFiles, Servers, Store};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

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
                let (listener, address) = listen().await;
                serve(&Store::memory(), listener);
                replica(address).await
            }
        };
        let leases = store.clone();
        tokio::spawn(async move { leases.run_leases().await });
        Self { store, _dir: dir }
    }
}

/// A port that is free.
pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// A copy of what is served there, without TLS.
pub(crate) async fn replica(address: SocketAddr) -> Store {
    let servers = Servers::new(&[format!("http://{address}")], &ClientFiles::default()).expect("an address");
    Store::replica(servers).await.expect("a copy")
}

/// Feeds copies of a store until the task is aborted.
pub(crate) fn serve(store: &Store, listener: TcpListener) -> tokio::task::JoinHandle<()> {
    let owner = store.clone();
    tokio::spawn(async move {
        let accept = async {
            let mut copies = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                stream.set_nodelay(true).expect("a socket");
                let owner = owner.clone();
                copies.spawn(async move { owner.serve_replica(stream).await });
            }
        };
        tokio::select! {
            () = accept => {}
            () = owner.run_leases() => {}
        }
    })
}
