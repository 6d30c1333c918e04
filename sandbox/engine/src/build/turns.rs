//! Which steps are being made: two builds that come to the same step at the same time make it once, as BuildKit does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;

/// The steps that somebody makes, by their names in the cache.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// The right to make a step, until the guard is dropped. True: somebody else had it, and was waited for.
    pub async fn take(&self, step: String) -> (OwnedMutexGuard<()>, bool) {
        let lock = self.lock_of(step);
        match lock.clone().try_lock_owned() {
            Ok(guard) => (guard, false),
            Err(_) => (lock.lock_owned().await, true),
        }
    }

    fn lock_of(&self, step: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = all.get(&step).and_then(Weak::upgrade) {
            return lock;
        }
        all.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        all.insert(step, Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_makes_a_step_and_nothing_is_kept() {
        let turns = Arc::new(Turns::default());
        let (first, waited) = turns.take("a".into()).await;
        assert!(!waited);
        let (other, waited) = turns.take("b".into()).await;
        assert!(!waited);
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take("a".into()).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop((first, other));
        let (second, waited) = second.await.unwrap();
        assert!(waited);
        drop(second);
        assert!(!turns.take("a".into()).await.1);
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
