//! The objects that an informer knows, with their indexes. Owned by [`crate::informer`]; changed only by its reflector.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::meta::ObjectKey;

/// The values under which an object stands in an index.
pub(crate) type KeysOf<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// One change of a store.
#[derive(Debug)]
pub(crate) enum Change<K> {
    Added(Arc<K>),
    Updated(Arc<K>, Arc<K>),
    Deleted(Arc<K>),
}

struct IndexData<K> {
    keys_of: KeysOf<K>,
    objects: HashMap<String, Vec<Arc<K>>>,
}

impl<K> IndexData<K> {
    fn insert(&mut self, object: &Arc<K>) {
        for key in (self.keys_of)(object) {
            self.objects.entry(key).or_default().push(object.clone());
        }
    }

    fn remove(&mut self, object: &Arc<K>) {
        for key in (self.keys_of)(object) {
            let Some(list) = self.objects.get_mut(&key) else { continue };
            list.retain(|other| !Arc::ptr_eq(other, object));
            if list.is_empty() {
                self.objects.remove(&key);
            }
        }
    }
}

pub(crate) struct Store<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: Vec<IndexData<K>>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), indexes: Vec::new() }
    }
}

impl<K> Store<K> {
    /// Adds an index over what is there and what will come; the number that it is found by.
    pub(crate) fn add_index(&mut self, keys_of: KeysOf<K>) -> usize {
        let mut index = IndexData { keys_of, objects: HashMap::new() };
        for object in self.objects.values() {
            index.insert(object);
        }
        self.indexes.push(index);
        self.indexes.len() - 1
    }

    pub(crate) fn put(&mut self, key: ObjectKey, object: Arc<K>) -> Change<K> {
        let old = self.objects.insert(key, object.clone());
        for index in &mut self.indexes {
            if let Some(old) = &old {
                index.remove(old);
            }
            index.insert(&object);
        }
        match old {
            Some(old) => Change::Updated(old, object),
            None => Change::Added(object),
        }
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        for index in &mut self.indexes {
            index.remove(&old);
        }
        Some(old)
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.objects.values().cloned().collect()
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = ObjectKey::new(namespace, "");
        let range = self.objects.range((Bound::Included(first), Bound::Unbounded));
        range.take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn by(&self, index: usize, key: &str) -> Vec<Arc<K>> {
        self.indexes.get(index).and_then(|index| index.objects.get(key)).cloned().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }
}
