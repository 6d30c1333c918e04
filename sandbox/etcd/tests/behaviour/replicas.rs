//! Copies whose owner comes and goes.

use crate::serve;
use drydock_etcd::{Error, KeyRange, Op, Outcome, Store, Txn};
use std::path::Path;
use tokio::task::JoinHandle;

/// An owner that can be ended as a kill would end it: its connections close and its journal is free.
struct Owner {
    store: Store,
    serving: JoinHandle<()>,
}

impl Owner {
    fn start(dir: &Path, socket: &Path) -> Self {
        let _not_there_at_first = std::fs::remove_file(socket);
        let store = Store::open(dir, false).expect("a journal");
        let serving = serve(&store, socket);
        Self { store, serving }
    }
}

/// Runs an owner in a runtime of its own, so that all of its tasks end with it.
fn owner_thread(
    dir: &Path,
    socket: &Path,
) -> (std::thread::JoinHandle<()>, tokio::sync::oneshot::Sender<()>) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (dir, socket) = (dir.to_path_buf(), socket.to_path_buf());
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let owner = Owner::start(&dir, &socket);
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
    let socket = dir.path().join("socket");
    let data = dir.path().join("data");
    let (thread, stop) = owner_thread(&data, &socket);
    let store = Store::replica(&socket).await.expect("a copy");
    let mut watch = store.watch(&KeyRange::prefix(""), None).expect("a watch");
    create(&store, "before").await.expect("a write");
    drop(stop);
    thread.join().expect("its end");

    // It may have been accepted by a dying socket, but nobody says that it was done.
    assert!(matches!(create(&store, "between").await, Err(Error::Unavailable(_))));
    assert!(store.get(b"before", None).expect("readable").is_some());

    let (thread, stop) = owner_thread(&data, &socket);
    create_in_the_end(&store, "after").await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|key| key != "after") {
        let batch = watch.next().await.expect("no event is lost");
        seen.extend(batch.events.iter().map(|event| event.record.key.clone()));
    }
    assert_eq!(seen, ["before", "after"]);
    drop(stop);
    thread.join().expect("its end");
}

#[tokio::test]
async fn a_copy_follows_another_history() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("socket");
    let (thread, stop) = owner_thread(&dir.path().join("first"), &socket);
    let store = Store::replica(&socket).await.expect("a copy");
    for n in 0..5 {
        create(&store, &format!("first {n}")).await.expect("a write");
    }
    let mut watch = store.watch(&KeyRange::prefix("first"), None).expect("a watch");
    let before = store.id();
    drop(stop);
    thread.join().expect("its end");

    let (thread, stop) = owner_thread(&dir.path().join("second"), &socket);
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
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("socket");
    let owner = Store::memory();
    for n in 0..300 {
        create(&owner, &n.to_string()).await.expect("a write");
    }
    owner.compact(100).await.expect("compaction");
    let serving = serve(&owner, &socket);
    let (one, two) = (Store::replica(&socket).await, Store::replica(&socket).await);
    let (one, two) = (one.expect("a copy"), two.expect("a copy"));
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
