//! A work queue (client-go's `workqueue`): an item is in it at most once and with at most one worker at a time; added while it is
//! being worked on, it comes again afterwards. Failures come back later and later. Called by controllers, between informers' handlers
//! and workers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::rate::Bucket;

/// `DefaultTypedControllerRateLimiter`: per item 5 ms, doubling to 1000 s; over all 10 a second with bursts of 100.
const ITEM_FROM: Duration = Duration::from_millis(5);
const ITEM_TO: Duration = Duration::from_secs(1000);
const OVERALL_PER_SECOND: f64 = 10.0;
const OVERALL_BURST: f64 = 100.0;
/// As long as anything waits: objects may ask for times that no clock can tell.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

struct State<T> {
    /// Waiting for a worker, in order.
    ready: VecDeque<T>,
    /// Needs work: ready, or to be made ready when its worker is done.
    dirty: HashSet<T>,
    /// With a worker.
    processing: HashSet<T>,
    /// Becomes ready at a time. The number keeps items of one time in order.
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    /// What the numbers of `delayed` stand for.
    items: HashMap<u64, T>,
    /// When an item that waits is due; an earlier time replaces a later one.
    due: HashMap<T, (Instant, u64)>,
    next: u64,
    failures: HashMap<T, u32>,
    overall: Bucket,
    closed: bool,
}

struct Inner<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

/// A work queue; clones share it.
pub struct WorkQueue<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T: Eq + Hash + Clone> Default for WorkQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Eq + Hash + Clone> WorkQueue<T> {
    /// An empty queue. Must be called within a runtime's context if its time is paused.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BinaryHeap::new(),
            items: HashMap::new(),
            due: HashMap::new(),
            next: 0,
            failures: HashMap::new(),
            overall: Bucket::new(OVERALL_PER_SECOND, OVERALL_BURST, Instant::now()),
            closed: false,
        };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for work on an item.
    pub fn add(&self, item: T) {
        if self.lock().add(item) {
            self.inner.changed.notify_one();
        }
    }

    /// Asks for work on an item after a while; the longest is ten years.
    pub fn add_after(&self, item: T, wait: Duration) {
        if wait.is_zero() {
            return self.add(item);
        }
        self.lock().delay(item, Instant::now() + wait.min(LONGEST));
        self.inner.changed.notify_one();
    }

    /// Asks for work on an item that failed: later each time, until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, item: T) {
        let wait = {
            let mut state = self.lock();
            let failures = state.failures.entry(item.clone()).or_default();
            let wait = ITEM_FROM.saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(ITEM_TO);
            *failures = failures.saturating_add(1).min(31);
            wait.max(state.overall.reserve(Instant::now()))
        };
        self.add_after(item, wait);
    }

    /// The item succeeded, or is given up: its failures count no more.
    pub fn forget(&self, item: &T) {
        self.lock().failures.remove(item);
    }

    /// How often the item failed since it was last forgotten.
    pub fn failures(&self, item: &T) -> u32 {
        self.lock().failures.get(item).copied().unwrap_or(0)
    }

    /// Items that wait for a worker now.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// True if no item waits for a worker now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next item; [`WorkQueue::done`] must follow. None: the queue was shut down and is empty.
    pub async fn get(&self) -> Option<T> {
        loop {
            let changed = self.inner.changed.notified();
            let next = {
                let mut state = self.lock();
                let due = state.move_due(Instant::now());
                if let Some(item) = state.take() {
                    if !state.ready.is_empty() || state.closed {
                        self.inner.changed.notify_one();
                    }
                    return Some(item);
                }
                if state.closed {
                    self.inner.changed.notify_one();
                    return None;
                }
                due
            };
            match next {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// The worker is done with the item.
    pub fn done(&self, item: &T) {
        if self.lock().done(item) {
            self.inner.changed.notify_one();
        }
    }

    /// Takes no more items and lets workers end when the queue is empty.
    pub fn shut_down(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.delayed.clear();
        state.items.clear();
        state.due.clear();
        drop(state);
        self.inner.changed.notify_waiters();
        self.inner.changed.notify_one();
    }

    /// Calls `reconcile` for each item until the queue is shut down, for so many at once. `Ok(Some(wait))`: once more after that time; an
    /// error is logged and the item comes back, later each time. Only items that are worked on take memory: a worker that waits has none.
    pub async fn work<F, E>(&self, workers: usize, mut reconcile: impl FnMut(T) -> F)
    where
        T: Display,
        E: Display,
        F: Future<Output = Result<Option<Duration>, E>>,
    {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(()) = running.next() => {}
                item = self.get(), if running.len() < workers => {
                    let Some(item) = item else { break };
                    // In a box, or the set itself would have room for one.
                    running.push(Box::pin(self.attend(item.clone(), reconcile(item))));
                }
            }
        }
        while running.next().await.is_some() {}
    }

    /// Has one item worked on, and says what becomes of it.
    async fn attend<E: Display>(&self, item: T, reconciled: impl Future<Output = Result<Option<Duration>, E>>)
    where
        T: Display,
    {
        match reconciled.await {
            Ok(again) => {
                self.forget(&item);
                if let Some(wait) = again {
                    self.add_after(item.clone(), wait);
                }
            }
            Err(error) => {
                tracing::warn!(%item, %error, "work failed and is tried again");
                self.add_rate_limited(item.clone());
            }
        }
        self.done(&item);
        // An item that asks for itself again at once must not keep the others on this thread from running.
        tokio::task::yield_now().await;
    }
}

impl<T: Eq + Hash + Clone> State<T> {
    fn add(&mut self, item: T) -> bool {
        if self.closed || !self.dirty.insert(item.clone()) || self.processing.contains(&item) {
            return false;
        }
        self.ready.push_back(item);
        true
    }

    fn delay(&mut self, item: T, at: Instant) {
        if self.closed || self.due.get(&item).is_some_and(|(known, _)| *known <= at) {
            return;
        }
        self.next += 1;
        if let Some((_, number)) = self.due.insert(item.clone(), (at, self.next)) {
            self.items.remove(&number);
        }
        self.items.insert(self.next, item);
        self.delayed.push(Reverse((at, self.next)));
    }

    /// Makes ready what is due; when the next is.
    fn move_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((at, number))) = self.delayed.peek().copied() {
            if at > now && self.items.contains_key(&number) {
                return Some(at);
            }
            self.delayed.pop();
            if let Some(item) = self.items.remove(&number) {
                self.due.remove(&item);
                self.add(item);
            }
        }
        None
    }

    fn take(&mut self) -> Option<T> {
        let item = self.ready.pop_front()?;
        self.dirty.remove(&item);
        self.processing.insert(item.clone());
        Some(item)
    }

    fn done(&mut self, item: &T) -> bool {
        self.processing.remove(item);
        let again = self.dirty.contains(item);
        if again {
            self.ready.push_back(item.clone());
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_item_is_in_the_queue_once_and_with_one_worker() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.get().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.get().await, Some("b"), "a is with a worker");
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.get().await, Some("a"), "a was added while it was worked on");
        queue.done(&"a");
        queue.done(&"b");
        queue.shut_down();
        assert_eq!(queue.get().await, None);
        queue.add("c");
        assert_eq!(queue.get().await, None, "a queue that was shut down takes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_items_come_in_the_order_of_their_times_and_the_earlier_time_wins() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("late", Duration::from_secs(20));
        queue.add_after("twice", Duration::from_secs(30));
        queue.add_after("twice", Duration::from_secs(10));
        queue.add_after("twice", Duration::from_secs(40));
        assert_eq!(queue.get().await, Some("twice"));
        assert_eq!(start.elapsed().as_secs(), 10);
        queue.done(&"twice");
        assert_eq!(queue.get().await, Some("late"));
        assert_eq!(start.elapsed().as_secs(), 20);
        queue.done(&"late");
        let nothing = tokio::time::timeout(Duration::from_secs(100), queue.get()).await;
        assert!(nothing.is_err(), "the later times of an item must not bring it again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_whose_time_no_clock_can_tell_waits_and_holds_up_no_other() {
        let queue = WorkQueue::new();
        queue.add_after("never", Duration::MAX);
        queue.add_after("late", Duration::from_secs(i64::MAX.unsigned_abs()));
        queue.add_after("soon", Duration::from_secs(1));
        assert_eq!(queue.get().await, Some("soon"));
        queue.done(&"soon");
        assert!(tokio::time::timeout(Duration::from_secs(1000), queue.get()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_wait_until_forgotten() {
        let queue = WorkQueue::new();
        for expected in [5, 10, 20, 40] {
            let start = Instant::now();
            queue.add_rate_limited("x");
            assert_eq!(queue.get().await, Some("x"));
            queue.done(&"x");
            assert_eq!(start.elapsed().as_millis(), expected);
        }
        assert_eq!(queue.failures(&"x"), 4);
        queue.forget(&"x");
        let start = Instant::now();
        queue.add_rate_limited("x");
        queue.get().await;
        assert_eq!(start.elapsed().as_millis(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_item_comes_back_and_does_not_hold_up_others() {
        let queue = WorkQueue::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        queue.add("bad".to_owned());
        queue.add("good".to_owned());
        let worker = {
            let (queue, seen, end) = (queue.clone(), seen.clone(), queue.clone());
            tokio::spawn(async move {
                queue
                    .work(1, |item: String| {
                        let mut seen = seen.lock().unwrap();
                        seen.push(item.clone());
                        let bad = item == "bad" && seen.iter().filter(|other| **other == "bad").count() < 3;
                        if seen.len() == 4 {
                            end.shut_down();
                        }
                        async move { if bad { Err("no") } else { Ok(None) } }
                    })
                    .await;
            })
        };
        worker.await.unwrap();
        assert_eq!(*seen.lock().unwrap(), ["bad", "good", "bad", "bad"]);
    }

    #[tokio::test]
    async fn an_item_that_always_comes_back_at_once_leaves_others_their_turn() {
        let queue = WorkQueue::new();
        queue.add("greedy".to_owned());
        let turns = Arc::new(Mutex::new(0_u32));
        let other = {
            let (queue, turns) = (queue.clone(), turns.clone());
            tokio::spawn(async move {
                let so_far = *turns.lock().unwrap();
                queue.shut_down();
                so_far
            })
        };
        queue
            .work(1, |_: String| {
                let mut turns = turns.lock().unwrap();
                *turns += 1;
                // Ends the test where the other never has its turn.
                let again = (*turns < 10_000).then_some(Duration::ZERO);
                if again.is_none() {
                    queue.shut_down();
                }
                async move { Ok::<_, String>(again) }
            })
            .await;
        assert!(other.await.unwrap() < 10);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_worked_on_at_once_and_those_that_began_are_finished() {
        let queue = WorkQueue::new();
        for item in 0..5 {
            queue.add(item);
        }
        let (now, most, done) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let start = Instant::now();
        queue
            .work(2, |_: i32| async {
                now.set(now.get() + 1);
                most.set(now.get().max(most.get()));
                tokio::time::sleep(Duration::from_secs(1)).await;
                now.set(now.get() - 1);
                done.set(done.get() + 1);
                // The last ones are with their workers still.
                if done.get() == 3 {
                    queue.shut_down();
                }
                Ok::<_, String>(None)
            })
            .await;
        assert_eq!((most.get(), done.get(), start.elapsed().as_secs()), (2, 5, 3));
    }
}
