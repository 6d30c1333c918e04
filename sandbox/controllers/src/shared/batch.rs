//! Slow start: many calls at once, but first one, then two, four, … so that a quota or an admission that refuses them is asked little
//! (`slowStartBatch` in k8s.io/kubernetes/pkg/controller/replicaset).

use futures_util::future::join_all;

/// Calls `call` `count` times in batches that double while all succeed. The number of calls that succeeded and the first error; after an
/// error no new batch begins.
pub async fn slow_start<F, Fut, E>(count: usize, call: F) -> (usize, Option<E>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let mut done = 0;
    let mut batch = count.min(1);
    let mut successes = 0;
    while batch > 0 {
        let results = join_all((done..done + batch).map(&call)).await;
        let mut first = None;
        for result in results {
            match result {
                Ok(()) => successes += 1,
                Err(error) if first.is_none() => first = Some(error),
                Err(_) => {}
            }
        }
        if first.is_some() {
            return (successes, first);
        }
        done += batch;
        batch = (batch * 2).min(count - done);
    }
    (successes, None)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn batches_double_until_one_fails() {
        for (count, fails_at, successes, calls) in [
            (0, None, 0, 0),
            (1, None, 1, 1),
            (10, None, 10, 10),
            (10, Some(0), 0, 1),
            (10, Some(2), 2, 3),
            (20, Some(5), 6, 7),
        ] {
            let seen = RefCell::new(Vec::new());
            let (ok, error) = slow_start(count, |index| {
                seen.borrow_mut().push(index);
                async move { if Some(index) == fails_at { Err(index) } else { Ok(()) } }
            })
            .await;
            assert_eq!(ok, successes, "{count} {fails_at:?}");
            assert_eq!(error, fails_at);
            assert_eq!(seen.into_inner().len(), calls, "{count} {fails_at:?}");
        }
    }
}
