//! Random operations, compared with a model that keeps a whole copy of the state of each revision.

use crate::{Fixture, Kind};
use bytes::Bytes;
use drydock_etcd::{Compare, Error, EventKind, KeyRange, Op, Query, Store, Txn, Watcher};
use std::collections::BTreeMap;

const STEPS: usize = 600;

/// Value, creation, version of each key.
type Snapshot = BTreeMap<String, (String, i64, i64)>;

/// A revision, and what it did to which key.
type Change = (i64, EventKind, String);

/// A watch and what it must see: keys with a prefix, from a revision on.
struct Watch {
    prefix: String,
    from: i64,
    watcher: Watcher,
    seen: Vec<Change>,
}

#[derive(Default)]
struct Model {
    /// Of revision 1, 2, …
    snapshots: Vec<Snapshot>,
    events: Vec<Change>,
    compacted: i64,
}

impl Model {
    fn revision(&self) -> i64 {
        i64::try_from(self.snapshots.len()).expect("few revisions")
    }

    fn at(&self, revision: i64) -> &Snapshot {
        &self.snapshots[usize::try_from(revision - 1).expect("from 1 on")]
    }

    /// Does it if the key is of the version.
    fn write(&mut self, condition: Option<(&str, i64)>, ops: &[Step]) {
        let mut next = self.at(self.revision()).clone();
        let revision = self.revision() + 1;
        let version = |key: &str| next.get(key).map_or(0, |(_, _, version)| *version);
        if condition.is_some_and(|(key, wanted)| version(key) != wanted) {
            return;
        }
        let before = self.events.len();
        for op in ops {
            match op {
                Step::Put(key, value) => {
                    let (created, version) = next.get(key).map_or((revision, 0), |(_, c, v)| (*c, *v));
                    next.insert(key.clone(), (value.clone(), created, version + 1));
                    self.events.push((revision, EventKind::Put, key.clone()));
                }
                Step::Delete(prefix) => {
                    let gone: Vec<_> = next.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
                    for key in gone {
                        next.remove(&key);
                        self.events.push((revision, EventKind::Delete, key));
                    }
                }
            }
        }
        if self.events.len() > before {
            self.snapshots.push(next);
        }
    }
}

enum Step {
    Put(String, String),
    Delete(String),
}

#[tokio::test]
async fn a_store_is_its_model() {
    for kind in [Kind::Memory, Kind::Journal, Kind::Replica] {
        for seed in 1..=4 {
            println!("{kind:?}, seed {seed}");
            let fixture = Fixture::new(kind).await;
            run(&fixture.store, fastrand::Rng::with_seed(seed)).await;
        }
    }
}

async fn run(store: &Store, mut random: fastrand::Rng) {
    let mut model = Model { snapshots: vec![Snapshot::new()], ..Model::default() };
    let mut watches: Vec<Watch> = Vec::new();
    for step in 0..STEPS {
        let key = format!("{}/{}", random.u8(0..3), random.u8(0..6));
        match random.u8(0..20) {
            0..8 => write(store, &mut model, None, vec![Step::Put(key, step.to_string())]).await,
            8..11 => write(store, &mut model, None, vec![Step::Delete(key)]).await,
            11 => write(store, &mut model, None, vec![Step::Delete(key[..2].into())]).await,
            12..15 => {
                let version = random.i64(0..3);
                let other = format!("other/{}", random.u8(0..3));
                let steps = vec![Step::Put(other, step.to_string()), Step::Delete(key.clone())];
                write(store, &mut model, Some((&key, version)), steps).await;
            }
            15 if model.revision() > model.compacted + 10 => {
                model.compacted = random.i64(model.compacted + 1..model.revision());
                store.compact(model.compacted).await.expect("compaction");
            }
            16..18 => {
                let from = random.i64(model.compacted + 1..=model.revision() + 2);
                let prefix = key[..random.usize(0..=key.len())].to_string();
                let range = KeyRange::prefix(prefix.clone());
                let watcher = store.watch(&range, Some(from)).expect("a watch");
                watches.push(Watch { prefix, from, watcher, seen: Vec::new() });
            }
            _ => watches.iter_mut().for_each(Watch::drain),
        }
        compare(store, &model, &mut random);
        // A compaction must not overtake them.
        watches.iter_mut().for_each(Watch::drain);
    }
    for Watch { prefix, from, seen, .. } in &watches {
        let expected: Vec<_> = model
            .events
            .iter()
            .filter(|(revision, _, key)| revision >= from && key.starts_with(prefix.as_str()))
            .cloned()
            .collect();
        assert_eq!(*seen, expected, "a watch of {prefix:?} from {from}");
    }
    assert!(watches.len() > 10 && model.compacted > 0, "the walk met everything");
}

async fn write(store: &Store, model: &mut Model, condition: Option<(&str, i64)>, steps: Vec<Step>) {
    let op = |step: &Step| match step {
        Step::Put(key, value) => Op::put(key.clone(), value.clone()),
        Step::Delete(prefix) => Op::Delete(KeyRange::prefix(prefix.clone())),
    };
    let compares = condition.map(|(key, version)| Compare {
        keys: KeyRange::key(key.to_string()),
        op: drydock_etcd::CompareOp::Equal,
        target: drydock_etcd::Target::Version(version),
    });
    let then = steps.iter().map(op).collect();
    store.txn(Txn::when(compares.into_iter().collect(), then)).await.expect("a write");
    model.write(condition, &steps);
}

fn compare(store: &Store, model: &Model, random: &mut fastrand::Rng) {
    assert_eq!(store.revision(), model.revision());
    let at = random.i64(1..=model.revision());
    let query = Query { at: Some(at), ..Query::default() };
    let read = store.range(&KeyRange::prefix(""), &query);
    if at < model.compacted {
        assert_eq!(read, Err(Error::Compacted { oldest: model.compacted }));
        return;
    }
    let read: Snapshot = read
        .expect("readable")
        .records
        .iter()
        .map(|record| {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
            (text(&record.key), (text(&record.value), record.create_revision, record.version))
        })
        .collect();
    assert_eq!(read, *model.at(at), "at {at}");
}

impl Watch {
    fn drain(&mut self) {
        loop {
            let batch = self.watcher.try_next().expect("events");
            if batch.events.is_empty() {
                return;
            }
            self.seen.extend(batch.events.iter().map(|event| {
                let key = String::from_utf8(event.record.key.to_vec()).expect("text");
                (event.revision(), event.kind, key)
            }));
        }
    }
}
