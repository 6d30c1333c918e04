//! Expectations: what a controller has asked for and its cache has not shown yet. Without them a controller that looks into its cache right
//! after creating pods would create them again (k8s.io/kubernetes/pkg/controller/controller_utils.go).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After this time something went wrong (a lost event): the controller looks again (`ExpectationsTimeout`).
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Expectations of a controller, by key of its object.
#[derive(Debug, Default)]
pub struct Expectations(Mutex<HashMap<String, Expected>>);

#[derive(Debug)]
struct Expected {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all that was expected has been seen (or has taken too long).
    pub fn satisfied(&self, key: &str) -> bool {
        self.all().get(key).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty()) || expected.since.elapsed() > TIMEOUT
        })
    }

    /// So many objects will appear, and those of these uids will go.
    pub fn expect(&self, key: &str, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let deletions = deletions.into_iter().collect();
        self.all().insert(key.to_owned(), Expected { creations, deletions, since: Instant::now() });
    }

    /// One has appeared (or will not: its creation failed).
    pub fn created(&self, key: &str) {
        if let Some(expected) = self.all().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// So many will not appear.
    pub fn not_created(&self, key: &str, count: usize) {
        if let Some(expected) = self.all().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(count);
        }
    }

    /// That one has gone (or will not: its deletion failed).
    pub fn deleted(&self, key: &str, uid: &str) {
        if let Some(expected) = self.all().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// The object itself is gone.
    pub fn forget(&self, key: &str) {
        self.all().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn satisfied_when_all_was_seen() {
        let expectations = Expectations::default();
        assert!(expectations.satisfied("a/b"));
        expectations.expect("a/b", 2, []);
        expectations.created("a/b");
        assert!(!expectations.satisfied("a/b"));
        expectations.not_created("a/b", 1);
        assert!(expectations.satisfied("a/b"));
        expectations.expect("a/b", 0, ["1".to_owned(), "2".to_owned()]);
        expectations.deleted("a/b", "1");
        expectations.deleted("a/b", "1");
        assert!(!expectations.satisfied("a/b"), "the same deletion counts once");
        expectations.deleted("a/b", "2");
        assert!(expectations.satisfied("a/b"));
        expectations.expect("a/b", 1, []);
        expectations.forget("a/b");
        assert!(expectations.satisfied("a/b"));
    }
}
