//! What survives: of a process that is killed, of a file that is torn or damaged, of a snapshot.

use drydock_etcd::{Error, KeyRange, Op, Query, Store, Txn};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const WRITER: &str = "DRYDOCK_ETCD_TEST_WRITER";

async fn put(store: &Store, key: String, value: String) -> i64 {
    let txn = Txn { then: vec![Op::put(key, value)], ..Txn::default() };
    store.txn(txn).await.expect("a write").revision
}

fn everything(store: &Store) -> Vec<(i64, String)> {
    let found = store.range(&KeyRange::prefix(""), &Query::default()).expect("readable");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    found.records.iter().map(|record| (record.mod_revision, text(&record.key))).collect()
}

/// Writes until it is killed, and says after each write that it was acknowledged.
#[tokio::test]
async fn writer() {
    let Some(dir) = std::env::var_os(WRITER) else { return };
    let store = Store::open(Path::new(&dir), false).expect("a journal");
    for n in 0.. {
        let revision = put(&store, format!("{n:08}"), "v".repeat(300)).await;
        let mut out = std::io::stdout().lock();
        let told = writeln!(out, "\nwritten {revision}");
        told.and_then(|()| out.flush()).expect("somebody listens");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = 0;
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["durability::writer", "--exact", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let told = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("written ")?.parse::<i64>().ok())
            .nth(200)
            .expect("writes");
        child.kill().expect("a kill");
        child.wait().expect("its end");
        let store = Store::open(dir.path(), false).expect("the journal");
        assert!(told > written);
        assert!(store.revision() >= told, "{} < {told}", store.revision());
        written = store.revision();
    }
}

#[tokio::test]
async fn a_torn_end_is_cut_off_and_damage_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal");
    let mut lengths = Vec::new();
    {
        let store = Store::open(dir.path(), false).expect("a journal");
        for n in 0..4 {
            put(&store, n.to_string(), "value".into()).await;
            lengths.push(fs::metadata(&journal).expect("it").len());
        }
    }
    let whole = fs::read(&journal).expect("it");
    let (third, fourth) = (usize::try_from(lengths[2]).expect("small"), whole.len());
    for end in third..fourth {
        fs::write(&journal, &whole[..end]).expect("a torn journal");
        let store = Store::open(dir.path(), false).expect("a torn journal");
        assert_eq!(store.revision(), 4, "{end} of {fourth} bytes");
        assert_eq!(fs::metadata(&journal).expect("it").len(), lengths[2]);
        drop(store);
        // The length came before the content.
        let mut zeros = whole[..end].to_vec();
        zeros.resize(fourth, 0);
        fs::write(&journal, &zeros).expect("a torn journal");
        // Its last bytes may be zeros anyway.
        let revision = if zeros == whole { 5 } else { 4 };
        assert_eq!(Store::open(dir.path(), false).expect("a torn journal").revision(), revision, "{end}");
    }
    for at in [third - 1, third - 30, 5, 20] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&journal, &damaged).expect("a damaged journal");
        let refused = Store::open(dir.path(), false);
        assert!(matches!(refused, Err(Error::Corrupt(_))), "{at}: {refused:?}");
    }
    fs::write(&journal, &whole).expect("the journal");
    let store = Store::open(dir.path(), false).expect("the journal");
    assert_eq!(store.revision(), 5);
    let second = Store::open(dir.path(), false);
    assert!(matches!(second, Err(Error::Corrupt(_))), "two would destroy it: {second:?}");
}

#[tokio::test]
async fn a_journal_does_not_grow_without_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let value = "v".repeat(1 << 20);
    let state = {
        let store = Store::open(dir.path(), false).expect("a journal");
        let lease = store.grant(0, 3600).await.expect("a lease");
        store.create("leased".into(), "v".into(), lease).await.expect("a write");
        for n in 0..60 {
            put(&store, format!("key {}", n % 3), value.clone()).await;
            let newest = store.revision();
            if newest > store.compacted() + 4 {
                store.compact(newest - 2).await.expect("compaction");
            }
        }
        assert!(store.size_on_disk() < 40 << 20, "{} bytes", store.size_on_disk());
        (everything(&store), store.revision(), store.compacted(), store.id(), lease)
    };
    let store = Store::open(dir.path(), false).expect("the journal");
    let (records, revision, compacted, id, lease) = state;
    assert_eq!((everything(&store), store.revision(), store.compacted()), (records, revision, compacted));
    assert_eq!(store.id(), id);
    assert!(store.watch(&KeyRange::prefix(""), Some(compacted + 1)).is_ok());
    store.revoke(lease).await.expect("the lease was kept");
    assert_eq!(store.get(b"leased", None), Ok(None));
}

#[tokio::test]
async fn a_snapshot_is_one_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::memory();
    for n in 0..500 {
        put(&store, format!("{n:04}"), "v".repeat(n)).await;
    }
    store.compact(100).await.expect("compaction");
    let snapshot: Vec<u8> = store.snapshot().collect::<Result<Vec<_>, _>>().expect("a snapshot").concat();
    let file = dir.path().join("snapshot");
    fs::write(&file, &snapshot).expect("a file");
    Store::restore(&file, &dir.path().join("data")).expect("a snapshot");
    let restored = Store::open(&dir.path().join("data"), false).expect("a journal");
    assert_eq!(everything(&restored), everything(&store));
    assert_eq!(restored.revision(), store.revision());
    assert_ne!(restored.id(), store.id());
    assert!(Store::restore(&file, &dir.path().join("data")).is_err(), "it is not empty");

    let mut damaged = snapshot.clone();
    damaged[snapshot.len() - 1] ^= 1;
    fs::write(&file, &damaged).expect("a file");
    assert!(Store::restore(&file, &dir.path().join("other")).is_err());
    fs::write(&file, &snapshot[..snapshot.len() / 2]).expect("a file");
    assert!(Store::restore(&file, &dir.path().join("other")).is_err());
}
