//! Work of which one run serves all who wanted it before it began: one runs, the others wait for the next.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Shared {
    /// How many have asked.
    asked: AtomicU64,
    /// Those up to this one are served.
    served: Mutex<u64>,
}

impl Shared {
    /// Does the work, unless a run that began after this call has done it meanwhile. After a failed run the next who waits tries.
    pub async fn run<E>(&self, work: impl AsyncFnOnce() -> Result<(), E>) -> Result<(), E> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = self.served.lock().await;
        if *served >= mine {
            return Ok(());
        }
        let these = self.asked.load(Ordering::SeqCst);
        work().await?;
        *served = these;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn two_hundred_who_ask_at_once_are_served_by_two_runs() {
        let (shared, runs, go) =
            (Arc::new(Shared::default()), Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (shared, runs, go) = (shared.clone(), runs.clone(), go.clone());
            tokio::spawn(async move {
                let work = async || {
                    runs.fetch_add(1, Ordering::SeqCst);
                    go.acquire().await.map(|permit| permit.forget())
                };
                shared.run(work).await.unwrap();
            })
        };
        let first = ask();
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..199).map(|_| ask()).collect();
        while shared.asked.load(Ordering::SeqCst) < 200 {
            tokio::task::yield_now().await;
        }
        go.add_permits(1);
        first.await.unwrap();
        go.add_permits(1);
        for other in others {
            other.await.unwrap();
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_failed_is_done_by_the_next() {
        let shared = Shared::default();
        assert_eq!(shared.run(async || Err("full")).await, Err("full"));
        let mut done = false;
        shared
            .run(async || {
                done = true;
                Ok::<_, &str>(())
            })
            .await
            .unwrap();
        assert!(done);
    }
}
