//! `docker buildx history`: the last builds of this engine, as long as it runs.

use crate::job::{Job, Jobs};
use crate::proto::control::{BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRequest};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tonic::Status;

/// What a stream has told.
struct Told {
    jobs: Arc<Jobs>,
    request: BuildHistoryRequest,
    changed: tokio::sync::watch::Receiver<u64>,
    seen: HashSet<(String, bool)>,
    next: VecDeque<BuildHistoryEvent>,
    first: bool,
}

/// Tells builds, and unless the client wants an early exit, what becomes of them.
pub fn listen(
    jobs: Arc<Jobs>,
    request: BuildHistoryRequest,
) -> impl futures_util::Stream<Item = Result<BuildHistoryEvent, Status>> {
    let changed = jobs.subscribe();
    let told = Told { jobs, request, changed, seen: HashSet::new(), next: VecDeque::new(), first: true };
    futures_util::stream::unfold(told, |mut told| async move {
        loop {
            if let Some(event) = told.next.pop_front() {
                return Some((Ok(event), told));
            }
            if !told.first && told.request.early_exit {
                return None;
            }
            if !told.first {
                told.changed.changed().await.ok()?;
            }
            told.changed.mark_unchanged();
            told.look();
            told.first = false;
        }
    })
}

impl Told {
    fn look(&mut self) {
        let mut list: Vec<(Arc<Job>, bool)> = self.jobs.list();
        list.retain(|(job, _)| self.request.r#ref.is_empty() || job.name == self.request.r#ref);
        if self.first && self.request.active_only {
            let finished = list.iter().filter(|(_, running)| !running);
            self.seen.extend(finished.map(|(job, running)| (job.name.clone(), *running)));
        }
        let limit = usize::try_from(self.request.limit).ok().filter(|limit| *limit > 0);
        if let Some(limit) = limit.filter(|_| self.first) {
            let skip = list.len().saturating_sub(limit);
            list.drain(..skip);
        }
        let current: HashSet<_> = list.iter().map(|(job, running)| (job.name.clone(), *running)).collect();
        for (job, running) in list {
            if !self.seen.contains(&(job.name.clone(), running)) {
                let kind =
                    if running { BuildHistoryEventType::Started } else { BuildHistoryEventType::Complete };
                self.next.push_back(BuildHistoryEvent { r#type: kind as i32, record: Some(job.history()) });
            }
        }
        // What is forgotten by the engine is forgotten here, so that this does not grow.
        self.seen.retain(|known| current.contains(known));
        self.seen.extend(current);
    }
}
