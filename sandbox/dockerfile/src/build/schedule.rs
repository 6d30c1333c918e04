//! In which order stages are built: one after the other, or several at once as far as they don't need each other.

use super::args::Args;
use super::backend::Image;
use super::error::BuildError;
use super::options::Mode;
use super::stage::{self, Results, Shared};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Stages that are built at once.
const WORKERS: usize = 4;

struct State {
    left: Vec<usize>,
    error: Option<BuildError>,
    used: Vec<Args>,
}

struct Schedule<'a> {
    state: Mutex<State>,
    changed: Condvar,
    results: &'a Results,
}

/// Builds all wanted stages; the image of the last, and what ARGs they declared.
pub(super) fn all(shared: &Shared<'_>) -> Result<(Image, Vec<Args>), BuildError> {
    let results = Results::new(shared.plan.stages.len());
    let left: Vec<usize> = (0..shared.plan.stages.len()).filter(|index| shared.plan.wanted[*index]).collect();
    let workers = match shared.options.mode {
        Mode::Classic => 1,
        Mode::BuildKit => WORKERS.min(left.len()),
    };
    let schedule = Schedule {
        state: Mutex::new(State { left, error: None, used: Vec::new() }),
        changed: Condvar::new(),
        results: &results,
    };
    if workers == 1 {
        schedule.work(shared);
    } else {
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| schedule.work(shared));
            }
        });
    }
    let state = schedule.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.error {
        Some(error) => Err(error),
        None => Ok((results.get(shared.plan.stages.len() - 1).unwrap_or_default(), state.used)),
    }
}

impl Schedule<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, shared: &Shared<'_>) {
        let mut state = self.lock();
        loop {
            if state.error.is_some() || state.left.is_empty() {
                return;
            }
            // The first in the file that has all it needs; in the classic mode that is always the first.
            let ready =
                |index: &usize| shared.plan.needs[*index].iter().all(|n| self.results.get(*n).is_some());
            let Some(at) = state.left.iter().position(ready) else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let index = state.left.remove(at);
            drop(state);
            // A worker that vanished would leave the others waiting.
            let result = catch_unwind(AssertUnwindSafe(|| stage::build(shared, self.results, index)))
                .unwrap_or_else(|_| Err(BuildError::failed("internal error: the builder panicked")));
            state = self.lock();
            match result {
                Ok(args) => state.used.push(args),
                Err(error) => _ = state.error.get_or_insert(error),
            }
            self.changed.notify_all();
        }
    }
}
