//! What every store does.

use crate::{Fixture, Kind};
use bytes::Bytes;
use drydock_etcd::{
    Compare, CompareOp, Error, EventKind, KeyRange, Op, OpResult, Outcome, Query, Store, Target, Txn,
};

macro_rules! on_every_store {
    ($($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            for kind in [Kind::Memory, Kind::Journal, Kind::Replica] {
                println!("{kind:?}");
                let fixture = Fixture::new(kind).await;
                super::$name(&fixture.store).await;
            }
        }
    )*};
}

mod tests {
    use super::*;
    on_every_store! {
        revisions_count_writes
        reads_at_old_revisions
        conditions
        comparisons
        a_transaction_is_one_revision
        a_transaction_that_fails_changes_nothing
        limits_and_counts
        watch_from_now_and_from_before
        watch_sees_only_its_range
        watch_after_compaction
        a_slow_watcher_holds_nothing
        progress
        leases
    }
}

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

async fn put(store: &Store, name: &str, value: &str) -> i64 {
    let txn = Txn { then: vec![Op::put(key(name), key(value))], ..Txn::default() };
    store.txn(txn).await.expect("a write").revision
}

async fn delete(store: &Store, keys: KeyRange) -> i64 {
    let txn = Txn { then: vec![Op::Delete(keys)], ..Txn::default() };
    store.txn(txn).await.expect("a write").revision
}

fn value(store: &Store, name: &str, at: Option<i64>) -> Option<String> {
    let record = store.get(name.as_bytes(), at).expect("a readable revision")?;
    Some(String::from_utf8(record.value.to_vec()).expect("text"))
}

async fn revisions_count_writes(store: &Store) {
    assert_eq!(store.revision(), 1);
    assert_eq!(put(store, "a", "1").await, 2);
    assert_eq!(put(store, "a", "2").await, 3);
    let a = store.get(b"a", None).expect("readable").expect("a");
    assert_eq!((a.create_revision, a.mod_revision, a.version), (2, 3, 2));
    assert_eq!(delete(store, KeyRange::key("a")).await, 4);
    assert_eq!(store.get(b"a", None).expect("readable"), None);
    // Nothing to delete is no revision.
    assert_eq!(delete(store, KeyRange::key("a")).await, 4);
    assert_eq!(put(store, "a", "3").await, 5);
    let a = store.get(b"a", None).expect("readable").expect("a");
    assert_eq!((a.create_revision, a.mod_revision, a.version), (5, 5, 1));
}

async fn reads_at_old_revisions(store: &Store) {
    put(store, "a", "1").await;
    put(store, "a", "2").await;
    delete(store, KeyRange::key("a")).await;
    put(store, "a", "3").await;
    let at = |revision| value(store, "a", Some(revision));
    assert_eq!(at(1), None);
    assert_eq!(at(2).as_deref(), Some("1"));
    assert_eq!(at(3).as_deref(), Some("2"));
    assert_eq!(at(4), None);
    assert_eq!(at(5).as_deref(), Some("3"));
    assert_eq!(store.get(b"a", Some(6)), Err(Error::FutureRevision { current: 5 }));

    store.compact(3).await.expect("compaction");
    assert_eq!(store.compacted(), 3);
    assert_eq!(store.get(b"a", Some(2)), Err(Error::Compacted { oldest: 3 }));
    assert_eq!(value(store, "a", Some(3)).as_deref(), Some("2"));
    assert_eq!(store.compact(3).await, Err(Error::Compacted { oldest: 3 }));
    assert_eq!(store.compact(9).await, Err(Error::FutureRevision { current: 5 }));
    store.compact(4).await.expect("compaction of a tombstone");
    assert_eq!(value(store, "a", Some(4)), None);
    assert_eq!(value(store, "a", None).as_deref(), Some("3"));
}

async fn conditions(store: &Store) {
    let Outcome::Done { record, prev } = store.create(key("a"), key("1"), 0).await.expect("a write") else {
        panic!("nobody has it")
    };
    assert_eq!((record.mod_revision, &record.value[..], prev), (2, &b"1"[..], None));
    let again = store.create(key("a"), key("2"), 0).await.expect("a write");
    assert_eq!(again, Outcome::Conflict(Some(record.clone())));
    let stale = store.update_if(key("a"), 1, key("2"), 0).await.expect("a write");
    assert_eq!(stale, Outcome::Conflict(Some(record.clone())));
    let Outcome::Done { record: second, prev } =
        store.update_if(key("a"), 2, key("2"), 0).await.expect("a write")
    else {
        panic!("it is of this revision")
    };
    assert_eq!((second.version, prev), (2, Some(record)));
    let stale = store.delete_if(key("a"), 2).await.expect("a write");
    assert_eq!(stale, Outcome::Conflict(Some(second.clone())));
    let Outcome::Done { record, prev } = store.delete_if(key("a"), 3).await.expect("a write") else {
        panic!("it is of this revision")
    };
    assert!(record.is_tombstone());
    assert_eq!((record.mod_revision, prev), (4, Some(second)));
    assert_eq!(store.delete_if(key("a"), 3).await, Ok(Outcome::Conflict(None)));
}

async fn comparisons(store: &Store) {
    put(store, "a", "1").await;
    put(store, "b", "2").await;
    let all = || KeyRange::prefix("");
    let a = || KeyRange::key("a");
    let none = || KeyRange::key("none");
    let cases = [
        (a(), CompareOp::Equal, Target::Version(1), true),
        (a(), CompareOp::Greater, Target::Create(1), true),
        (a(), CompareOp::Less, Target::Mod(2), false),
        (a(), CompareOp::NotEqual, Target::Value(key("2")), true),
        (a(), CompareOp::Less, Target::Value(key("10")), true),
        (a(), CompareOp::Equal, Target::Lease(0), true),
        (all(), CompareOp::Equal, Target::Version(1), true),
        (all(), CompareOp::Equal, Target::Value(key("1")), false),
        (none(), CompareOp::Equal, Target::Version(0), true),
        (none(), CompareOp::Greater, Target::Mod(0), false),
        (none(), CompareOp::NotEqual, Target::Value(key("1")), false),
    ];
    for (keys, op, target, holds) in cases {
        let compare = Compare { keys, op, target };
        let txn = Txn { compares: vec![compare.clone()], then: vec![], otherwise: vec![] };
        let result = store.txn(txn).await.expect("a comparison");
        assert_eq!(result.succeeded, holds, "{compare:?}");
        assert_eq!(result.revision, 3);
    }
}

async fn a_transaction_is_one_revision(store: &Store) {
    put(store, "a", "1").await;
    put(store, "z", "9").await;
    let mut watch = store.watch(&KeyRange::prefix(""), None).expect("a watch");
    let then = vec![
        Op::get("b"),
        Op::put("b", "2"),
        Op::get("b"),
        Op::Delete(KeyRange::key("a")),
        Op::Put { key: key("z"), value: None, lease: Some(0) },
        Op::Range(KeyRange::prefix(""), Query::default()),
    ];
    let done = store.txn(Txn { then, ..Txn::default() }).await.expect("a write");
    assert!(done.succeeded);
    assert_eq!(done.revision, 4);
    let records = |result: &OpResult| match result {
        OpResult::Range(found) => found.records.clone(),
        OpResult::Delete(gone) => gone.clone(),
        OpResult::Put { record, .. } => vec![record.clone()],
    };
    let keys = |result: &OpResult| -> Vec<Bytes> {
        records(result).iter().map(|record| record.key.clone()).collect()
    };
    let read: Vec<_> = done.results.iter().map(keys).collect();
    assert_eq!(read, [vec![], vec!["b"], vec!["b"], vec!["a"], vec!["z"], vec!["b", "z"]]);
    assert_eq!(&records(&done.results[4])[0].value[..], b"9");
    let batch = watch.next().await.expect("events");
    let seen: Vec<_> = batch.events.iter().map(|event| (event.kind, &event.record.key[..])).collect();
    assert_eq!(seen, [(EventKind::Put, &b"b"[..]), (EventKind::Delete, b"a"), (EventKind::Put, b"z")]);
    assert!(batch.events.iter().all(|event| event.revision() == 4));
}

async fn a_transaction_that_fails_changes_nothing(store: &Store) {
    put(store, "a", "1").await;
    let both = |first: Op, second: Op| Txn { then: vec![first, second], ..Txn::default() };
    let lost = Op::Put { key: key("b"), value: Some(key("2")), lease: Some(77) };
    let big = Bytes::from(vec![b'x'; Store::MAX_REQUEST]);
    let unknown = Op::Put { key: key("none"), value: None, lease: None };
    let cases = [
        (both(Op::put("a", "2"), lost), Error::LeaseNotFound),
        (both(Op::put("b", "2"), Op::put("b", "3")), Error::DuplicateKey),
        (both(Op::put("b", "2"), Op::Delete(KeyRange::prefix("b"))), Error::DuplicateKey),
        (both(Op::put("b", "2"), Op::put("", "3")), Error::EmptyKey),
        (both(Op::put("b", "2"), unknown), Error::KeyNotFound),
        (both(Op::put("b", "2"), Op::put("c", big)), Error::TooLarge),
        (Txn { then: vec![Op::get("a"); 129], ..Txn::default() }, Error::TooManyOps),
        (
            both(
                Op::Delete(KeyRange::prefix("")),
                Op::Range(KeyRange::prefix(""), Query { at: Some(9), ..Query::default() }),
            ),
            Error::FutureRevision { current: 2 },
        ),
    ];
    for (txn, error) in cases {
        assert_eq!(store.txn(txn).await, Err(error));
        assert_eq!(store.revision(), 2);
        assert_eq!(value(store, "a", None).as_deref(), Some("1"));
        assert_eq!(value(store, "b", None), None);
    }
}

async fn limits_and_counts(store: &Store) {
    for name in ["p/a", "p/b", "p/c", "q"] {
        put(store, name, "v").await;
    }
    let prefix = KeyRange::prefix("p/");
    let two = store.range(&prefix, &Query { limit: 2, count: true, ..Query::default() }).expect("readable");
    assert_eq!((two.records.len(), two.more, two.count, two.revision), (2, true, 3, 5));
    let rest = KeyRange::rest(b"p/", "p/b\0");
    let rest = store.range(&rest, &Query { limit: 2, count: true, ..Query::default() }).expect("readable");
    assert_eq!((rest.records.len(), rest.more, rest.count), (1, false, 1));
    let count = store.range(&prefix, &Query { count_only: true, ..Query::default() }).expect("readable");
    assert_eq!((count.records.len(), count.count), (0, 3));
    let old = store.range(&prefix, &Query { at: Some(3), ..Query::default() }).expect("readable");
    assert_eq!((old.records.len(), old.count, old.revision), (2, 2, 5));
    let backwards = KeyRange::Span(key("z"), Some(key("a")));
    assert_eq!(store.range(&backwards, &Query::default()).expect("readable").count, 0);
    delete(store, KeyRange::key("p/b")).await;
    let below = |prefix: &[u8]| -> Vec<_> { store.below(prefix).iter().map(|one| one.key.clone()).collect() };
    assert_eq!((below(b"p/"), below(b"p/c")), (vec![key("p/a"), key("p/c")], vec![key("p/c")]));
    assert_eq!((below(b"").len(), below(b"o").len(), below(b"r").len()), (3, 0, 0));
}

async fn watch_from_now_and_from_before(store: &Store) {
    put(store, "a", "1").await;
    let mut now = store.watch(&KeyRange::key("a"), None).expect("a watch");
    let mut before = store.watch(&KeyRange::key("a"), Some(2)).expect("a watch");
    let mut later = store.watch(&KeyRange::key("a"), Some(4)).expect("a watch of what is to come");
    put(store, "a", "2").await;
    delete(store, KeyRange::key("a")).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(before.next().await.expect("events").events);
    }
    let revisions: Vec<_> = seen.iter().map(|event| event.revision()).collect();
    assert_eq!(revisions, [2, 3, 4]);
    assert!(seen[0].is_create() && !seen[1].is_create());
    assert_eq!(seen[2].kind, EventKind::Delete);
    assert_eq!(&seen[2].prev.as_ref().expect("what it was").value[..], b"2");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(now.next().await.expect("events").events);
    }
    assert_eq!((seen[0].revision(), seen[1].revision()), (3, 4));
    let batch = later.next().await.expect("events");
    assert_eq!((batch.events.len(), batch.events[0].revision(), batch.revision), (1, 4, 4));
}

async fn watch_sees_only_its_range(store: &Store) {
    let ranges = [
        KeyRange::prefix("p/"),
        KeyRange::prefix("p/a/"),
        KeyRange::key("p/a/x"),
        KeyRange::Span(key("p/b"), Some(key("q"))),
        KeyRange::prefix(""),
    ];
    let mut watches: Vec<_> = ranges.iter().map(|range| store.watch(range, None).expect("a watch")).collect();
    for name in ["p/a/x", "p/a/y", "p/b/z", "q/a"] {
        put(store, name, "v").await;
    }
    let mut seen = Vec::new();
    for watch in &mut watches {
        let mut revisions = Vec::new();
        loop {
            let batch = watch.try_next().expect("events");
            if batch.events.is_empty() {
                assert_eq!(batch.revision, 5);
                break;
            }
            revisions.extend(batch.events.iter().map(|event| event.revision()));
        }
        seen.push(revisions);
    }
    assert_eq!(seen, [vec![2, 3, 4], vec![2, 3], vec![2], vec![4], vec![2, 3, 4, 5]]);
}

async fn watch_after_compaction(store: &Store) {
    for n in 0..5 {
        put(store, "a", &n.to_string()).await;
    }
    let quiet = store.watch(&KeyRange::key("b"), Some(2)).expect("a watch");
    store.compact(4).await.expect("compaction");
    let too_old = store.watch(&KeyRange::key("a"), Some(4)).err();
    assert_eq!(too_old, Some(Error::Compacted { oldest: 4 }));
    let mut watch = store.watch(&KeyRange::key("a"), Some(5)).expect("a watch");
    assert_eq!(watch.next().await.expect("events").events.len(), 2);
    // Nothing that it wanted was forgotten.
    let mut quiet = quiet;
    put(store, "b", "1").await;
    assert_eq!(quiet.next().await.expect("events").events.len(), 1);
}

async fn a_slow_watcher_holds_nothing(store: &Store) {
    let mut watch = store.watch(&KeyRange::prefix("a"), None).expect("a watch");
    for n in 0..1200 {
        put(store, "a", &n.to_string()).await;
    }
    let first = watch.next().await.expect("events");
    assert!(first.events.len() < 1200, "a batch is bounded");
    store.compact(1100).await.expect("compaction");
    assert_eq!(watch.next().await, Err(Error::Compacted { oldest: 1100 }));
}

async fn progress(store: &Store) {
    let mut watch = store.watch(&KeyRange::prefix("a"), None).expect("a watch");
    assert_eq!(watch.progress(), Some(1));
    put(store, "b", "1").await;
    assert_eq!(watch.progress(), Some(2));
    put(store, "a", "1").await;
    assert_eq!(watch.progress(), None);
    watch.next().await.expect("events");
    assert_eq!(watch.progress(), Some(3));
}

async fn leases(store: &Store) {
    let lease = store.grant(0, 3600).await.expect("a lease");
    assert_eq!(store.grant(lease, 60).await, Err(Error::LeaseExists));
    assert_eq!(store.keep_alive(lease).await, Ok(3600));
    for name in ["a", "b", "c"] {
        store.create(key(name), key("v"), lease).await.expect("a write");
    }
    assert_eq!(store.get(b"a", None).expect("readable").expect("a").lease, lease);
    // It does not hang on it any more.
    put(store, "c", "v").await;
    store.revoke(lease).await.expect("the end of a lease");
    store.sync().await.expect("the owner");
    let left = store.range(&KeyRange::prefix(""), &Query::default()).expect("readable");
    assert_eq!(left.records.iter().map(|record| &record.key[..]).collect::<Vec<_>>(), [b"c"]);
    assert_eq!(store.revoke(lease).await, Err(Error::LeaseNotFound));
    assert_eq!(store.keep_alive(lease).await, Err(Error::LeaseNotFound));

    let shared = store.lease_for(3600).await.expect("a lease");
    assert_eq!(store.lease_for(3600).await, Ok(shared));
    assert_ne!(store.lease_for(60).await, Ok(shared));

    let short = store.grant(0, 1).await.expect("a lease");
    store.create(key("short"), key("v"), short).await.expect("a write");
    let mut watch = store.watch(&KeyRange::key("short"), None).expect("a watch");
    // Nothing but its end makes an event.
    let event = watch.next().await.expect("its end");
    assert_eq!(event.events[0].kind, EventKind::Delete);
}
