//! Maps of a handful of entries: nodes, terminals, requests on their way. A list that is looked through is smaller than
//! any table, in memory and in the program.

/// A few entries, each key once, in the order in which they came.
#[derive(Debug, Clone, PartialEq)]
pub struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: PartialEq + Copy, V> Few<K, V> {
    /// What a key stands for.
    pub fn get(&self, key: K) -> Option<&V> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// What a key stands for, to change it.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.0.iter_mut().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// The value that came last, to change it.
    pub fn last_mut(&mut self) -> Option<&mut V> {
        self.0.last_mut().map(|(_, v)| v)
    }

    /// Puts a value in, in the stead of one with the same key.
    pub fn insert(&mut self, key: K, value: V) {
        match self.get_mut(key) {
            Some(old) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let at = self.0.iter().position(|(k, _)| *k == key)?;
        Some(self.0.remove(at).1)
    }

    /// Keeps the keys for which `stays` says so.
    pub fn retain(&mut self, mut stays: impl FnMut(K) -> bool) {
        self.0.retain(|(k, _)| stays(*k));
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().map(|(k, v)| (*k, v))
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_once() {
        let mut few = Few::default();
        few.insert(1, 'a');
        few.insert(2, 'b');
        few.insert(1, 'c');
        assert_eq!(few.iter().collect::<Vec<_>>(), [(1, &'c'), (2, &'b')]);
        assert_eq!(few.last_mut(), Some(&mut 'b'));
        assert_eq!((few.remove(1), few.remove(1)), (Some('c'), None));
        few.retain(|k| k != 2);
        assert!(few.is_empty());
    }
}
