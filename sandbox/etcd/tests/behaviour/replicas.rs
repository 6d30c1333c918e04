//! Copies whose owner comes and goes.

use crate::{listen, replica, serve};
use drydock_etcd::{ClientFiles, Error, KeyRange, Op, Outcome, Servers, Store, Txn};
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An owner that can be ended as a kill would end it: its connections close and its journal is free.
struct Owner {
    store: Store,
    serving: JoinHandle<()>,
}

impl Owner {
    async fn start(dir: &Path, address: SocketAddr) -> Self {
        let store = Store::open(dir, false).expect("a journal");
        let serving = serve(&store, TcpListener::bind(address).await.expect("the port"));
        Self { store, serving }
    }
}

/// Runs an owner in a runtime of its own, so that all of its tasks end with it.
fn owner_thread(
    dir: &Path,
    address: SocketAddr,
) -> (std::thread::JoinHandle<()>, tokio::sync::oneshot::Sender<()>) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let dir = dir.to_path_buf();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let owner = Owner::start(&dir, address).await;
            ready.send(()).expect("somebody waits");
            let _either_way = stopped.await;
            owner.serving.abort();
            drop(owner.store);
        });
    });
    is_ready.recv().expect("it is ready");
    (thread, stop)
}

async fn create(store: &Store, key: &str) -> Result<Outcome, Error> {
    store.create(key.to_string().into(), "v".into(), 0).await
}

/// Writes until it works: after the owner came back, the copy may need a moment to find it.
async fn create_in_the_end(store: &Store, key: &str) {
    while let Err(Error::Unavailable(_)) = create(store, key).await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_copy_outlives_its_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = listen().await.1;
    let data = dir.path().join("data");
    let (thread, stop) = owner_thread(&data, address);
    let store = replica(address).await;
    let mut watch = store.watch(&KeyRange::prefix(""), None).expect("a watch");
    create(&store, "before").await.expect("a write");
    drop(stop);
    thread.join().expect("its end");

    // It may have been accepted by a dying socket, but nobody says that it was done.
    assert!(matches!(create(&store, "between").await, Err(Error::Unavailable(_))));
    assert!(store.get(b"before", None).expect("readable").is_some());
    let said = format!(
        "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: \
         dial tcp {address}: connect: connection refused\""
    );
    while store.check_connection().map_err(|error| error.to_string()) != Err(said.clone()) {
        tokio::task::yield_now().await;
    }

    let (thread, stop) = owner_thread(&data, address);
    create_in_the_end(&store, "after").await;
    assert_eq!(store.check_connection(), Ok(()));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|key| key != "after") {
        let batch = watch.next().await.expect("no event is lost");
        seen.extend(batch.events.iter().map(|event| event.record.key.clone()));
    }
    assert_eq!(seen, ["before", "after"]);
    drop(stop);
    thread.join().expect("its end");
}

/// Somebody else has the port, and says nothing.
#[tokio::test]
async fn who_asks_is_refused_while_nobody_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = listen().await.1;
    let (thread, stop) = owner_thread(&dir.path().join("data"), address);
    let store = replica(address).await;
    drop(stop);
    thread.join().expect("its end");
    let silent = TcpListener::bind(address).await.expect("the port");
    let (held, _) = silent.accept().await.expect("the copy looks for its owner");
    let asked = tokio::time::timeout(std::time::Duration::from_secs(10), create(&store, "meanwhile"));
    assert!(matches!(asked.await, Ok(Err(Error::Unavailable(_)))));
    drop(held);
}

#[tokio::test]
async fn a_copy_follows_another_history() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = listen().await.1;
    let (thread, stop) = owner_thread(&dir.path().join("first"), address);
    let store = replica(address).await;
    for n in 0..5 {
        create(&store, &format!("first {n}")).await.expect("a write");
    }
    let mut watch = store.watch(&KeyRange::prefix("first"), None).expect("a watch");
    let before = store.id();
    drop(stop);
    thread.join().expect("its end");

    let (thread, stop) = owner_thread(&dir.path().join("second"), address);
    create_in_the_end(&store, "second").await;
    assert_ne!(store.id(), before);
    assert_eq!(store.get(b"first 0", None), Ok(None));
    assert!(matches!(watch.next().await, Err(Error::Compacted { .. })), "what it saw never was");
    let mut anew = store.watch(&KeyRange::prefix("first"), None).expect("a watch");
    create(&store, "first again").await.expect("a write");
    drop(watch);
    assert_eq!(anew.next().await.expect("events").events.len(), 1);
    drop(stop);
    thread.join().expect("its end");
}

#[tokio::test]
async fn what_others_write_arrives() {
    let owner = Store::memory();
    for n in 0..300 {
        create(&owner, &n.to_string()).await.expect("a write");
    }
    owner.compact(100).await.expect("compaction");
    let (listener, address) = listen().await;
    let serving = serve(&owner, listener);
    let (one, two) = (replica(address).await, replica(address).await);
    assert_eq!((one.revision(), one.compacted(), one.id()), (301, 100, owner.id()));
    create(&two, "two").await.expect("a write");
    one.sync().await.expect("the owner");
    let (mine, its) = (one.get(b"two", None), owner.get(b"two", None));
    assert_eq!(mine, its);
    assert!(mine.expect("readable").is_some());

    // Many at once, as the API server writes.
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let store = one.clone();
            tokio::spawn(async move { create(&store, &format!("many {n}")).await })
        })
        .collect();
    for task in tasks {
        let outcome = task.await.expect("a task").expect("a write");
        let Outcome::Done { record, .. } = outcome else { panic!("a new key") };
        assert_eq!(one.get(&record.key, Some(record.mod_revision)), Ok(Some(record.clone())));
    }
    let txn = Txn { then: vec![Op::Delete(KeyRange::prefix("many"))], ..Txn::default() };
    let gone = one.txn(txn).await.expect("a write");
    assert!(matches!(&gone.results[..], [drydock_etcd::OpResult::Delete(gone)] if gone.len() == 200));
    serving.abort();
}

#[tokio::test]
async fn an_address_that_is_none_is_told_as_upstreams_client_tells_it() {
    let try_with = async |url: &str| {
        let servers = Servers::new(&[url.into()], &ClientFiles::default()).expect("no file");
        Store::replica(servers).await.expect_err(url).to_string()
    };
    for (url, said) in [
        ("this-is-very-wrong", ": address this-is-very-wrong: missing port in address"),
        ("https://127.0.0.1:1", " 127.0.0.1:1: connect: connection refused"),
    ] {
        assert!(try_with(url).await.contains(&format!("dial tcp{said}\"")), "{}", try_with(url).await);
    }
    let files = ClientFiles { ca: Some("/no/ca.crt".into()), ..ClientFiles::default() };
    let error = Servers::new(&["https://127.0.0.1:1".into()], &files).expect_err("no such file");
    assert_eq!(error.to_string(), "--etcd-cafile: open /no/ca.crt: no such file or directory");
}
