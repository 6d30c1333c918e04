//! The progress of one build: vertices (steps), their statuses, logs and warnings, kept in order so that any number of `Status`
//! streams, also late ones, get all of them. What is kept is bounded: a command's output is clipped as BuildKit clips it.

use crate::proto::control::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};
use crate::proto::{Timestamp, now};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Output of one step that is kept and shown.
const MAX_STEP_LOG: usize = 2 << 20;
/// Output of one build that is kept and shown.
const MAX_LOG: usize = 16 << 20;
/// Changes of one build that are kept; statuses beyond are dropped.
const MAX_CHANGES: usize = 50_000;
/// Changes in one message, which gRPC limits to 4 MiB.
const BATCH_BYTES: usize = 1 << 20;

/// One change.
#[derive(Debug, Clone)]
enum Change {
    Vertex(Vertex),
    Status(VertexStatus),
    Log(VertexLog),
    Warning(VertexWarning),
}

#[derive(Debug, Default)]
struct Changes {
    list: Vec<Arc<Change>>,
    log_bytes: usize,
    step_log_bytes: HashMap<String, usize>,
    vertices: u64,
    /// Steps that have begun and not ended.
    open: usize,
    ended: bool,
    counts: Counts,
}

/// Numbers for the history of builds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps that were begun.
    pub total: i32,
    /// Those that are done.
    pub completed: i32,
    /// Those that were in the cache.
    pub cached: i32,
    /// Warnings.
    pub warnings: i32,
}

/// The progress of one build. Clones are the same.
#[derive(Debug, Clone)]
pub struct Progress {
    name: Arc<str>,
    changes: Arc<Mutex<Changes>>,
    /// Counts changes; its receivers wake when there are new ones.
    version: watch::Sender<u64>,
}

impl Progress {
    /// Of the build with this reference.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), changes: Arc::default(), version: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, change: Change) {
        let mut changes = self.lock();
        if changes.list.len() >= MAX_CHANGES && !matches!(change, Change::Vertex(_)) {
            return;
        }
        changes.list.push(Arc::new(change));
        drop(changes);
        self.version.send_modify(|version| *version += 1);
    }

    /// Begins a step.
    pub fn step(&self, name: &str) -> Step {
        let mut changes = self.lock();
        changes.vertices += 1;
        changes.open += 1;
        changes.counts.total += 1;
        let id = format!("{}/{}", self.name, changes.vertices);
        drop(changes);
        let hex: String = Sha256::digest(id).iter().map(|b| format!("{b:02x}")).collect();
        let vertex = Vertex {
            digest: format!("sha256:{hex}"),
            name: name.to_owned(),
            started: Some(now()),
            ..Vertex::default()
        };
        self.push(Change::Vertex(vertex.clone()));
        Step { progress: self.clone(), vertex, open: true }
    }

    /// A warning about a step.
    pub fn warning(&self, warning: VertexWarning) {
        self.lock().counts.warnings += 1;
        self.push(Change::Warning(warning));
    }

    /// The build is over: streams end when they have told all, also how the last steps of one that was given up end.
    pub fn end(&self) {
        self.lock().ended = true;
        self.version.send_modify(|version| *version += 1);
    }

    /// Whether it is of the same build.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.changes, &other.changes)
    }

    /// Bytes that are kept, roughly.
    pub fn size(&self) -> usize {
        let changes = self.lock();
        changes.log_bytes + changes.list.len() * size_of::<Change>()
    }

    /// Numbers so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Wakes when something changed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The changes from number `at` on, as many as fit in one message, and the number after them; `None`: there are none and will
    /// be none.
    pub fn since(&self, at: usize) -> Option<(StatusResponse, usize)> {
        let changes = self.lock();
        let new = changes.list.get(at..).unwrap_or_default();
        if new.is_empty() && changes.ended && changes.open == 0 {
            return None;
        }
        let (mut response, mut bytes, mut next) = (StatusResponse::default(), 0, at);
        for change in new {
            if bytes > BATCH_BYTES {
                break;
            }
            next += 1;
            match change.as_ref().clone() {
                Change::Vertex(vertex) => {
                    bytes += vertex.name.len() + vertex.error.len() + 128;
                    response.vertexes.push(vertex);
                }
                Change::Status(status) => {
                    bytes += status.id.len() + 128;
                    response.statuses.push(status);
                }
                Change::Log(log) => {
                    bytes += log.msg.len() + 128;
                    response.logs.push(log);
                }
                Change::Warning(warning) => {
                    bytes += 4096;
                    response.warnings.push(warning);
                }
            }
        }
        Some((response, next))
    }

    /// How much of a log of a step may still be kept; what is cut off is said once.
    fn log(&self, step: &str, stream: i64, data: &[u8]) {
        let mut changes = self.lock();
        let total = changes.log_bytes;
        let used = changes.step_log_bytes.entry(step.to_owned()).or_default();
        let left = MAX_STEP_LOG.saturating_sub(*used).min(MAX_LOG.saturating_sub(total));
        let clipped = *used == usize::MAX;
        let kept = data.get(..left).unwrap_or(data).to_vec();
        let cut = kept.len() < data.len();
        *used = if cut { usize::MAX } else { used.saturating_add(kept.len()) };
        changes.log_bytes += kept.len();
        drop(changes);
        if clipped {
            return;
        }
        for chunk in kept.chunks(32 << 10) {
            self.push_log(step, stream, chunk.to_vec());
        }
        if cut {
            let text = format!("\n[output clipped, log limit {}MiB reached]\n", MAX_STEP_LOG >> 20);
            self.push_log(step, 2, text.into_bytes());
        }
    }

    fn push_log(&self, step: &str, stream: i64, msg: Vec<u8>) {
        self.push(Change::Log(VertexLog { vertex: step.to_owned(), timestamp: Some(now()), stream, msg }));
    }
}

/// A step that runs. Dropped without an end, it was given up.
#[derive(Debug)]
pub struct Step {
    progress: Progress,
    vertex: Vertex,
    open: bool,
}

impl Step {
    /// Names the step in warnings.
    pub fn digest(&self) -> &str {
        &self.vertex.digest
    }

    /// Something within it goes on: `transferring context:`, a layer of a pull.
    pub fn status(&self, id: &str, current: u64, total: u64, times: Times) {
        let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.progress.push(Change::Status(VertexStatus {
            id: id.to_owned(),
            vertex: self.vertex.digest.clone(),
            name: times.action.to_owned(),
            current: number(current),
            total: number(total),
            timestamp: Some(now()),
            started: times.started,
            completed: times.completed,
        }));
    }

    /// Does a thing within it, shown by its own line.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn part<T, E>(&self, id: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let times = Times::begin("");
        self.status(id, 0, 0, times);
        let result = work();
        self.status(id, 0, 0, times.end());
        result
    }

    /// What a command writes: 1 is standard output, 2 standard error.
    pub fn log(&self, stream: i64, data: &[u8]) {
        self.progress.log(&self.vertex.digest, stream, data);
    }

    /// It was in the cache.
    pub fn cached(&mut self) {
        self.vertex.cached = true;
    }

    /// It is done.
    pub fn done(mut self) {
        self.end("");
    }

    /// It failed.
    pub fn fail(mut self, error: &str) {
        self.end(error);
    }

    /// It is done, or failed.
    pub fn finish<T, E: std::fmt::Display>(self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) => self.done(),
            Err(error) => self.fail(&error.to_string()),
        }
        result
    }

    fn end(&mut self, error: &str) {
        self.open = false;
        self.vertex.completed = Some(now());
        error.clone_into(&mut self.vertex.error);
        self.progress.push(Change::Vertex(self.vertex.clone()));
        let mut changes = self.progress.lock();
        changes.counts.completed += 1;
        changes.counts.cached += i32::from(self.vertex.cached);
        changes.open -= 1;
        drop(changes);
        self.progress.version.send_modify(|version| *version += 1);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.open {
            self.end("context canceled");
        }
    }
}

/// When a part of a step began and ended.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// `transferring`, `downloading`, …
    pub action: &'static str,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub completed: Option<Timestamp>,
}

impl Times {
    /// It begins now.
    pub fn begin(action: &'static str) -> Self {
        Self { action, started: Some(now()), completed: None }
    }

    /// It ends now.
    pub fn end(self) -> Self {
        Self { completed: Some(now()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_streams_get_everything_in_order() {
        let progress = Progress::new("x");
        let step = progress.step("[1/1] RUN true");
        step.log(1, b"hello\n");
        step.done();
        let (all, next) = progress.since(0).unwrap();
        assert_eq!(all.vertexes.len(), 2);
        assert!(all.vertexes[1].completed.is_some());
        assert_eq!(all.logs[0].msg, b"hello\n");
        assert!(progress.since(next).is_some_and(|(new, _)| new == StatusResponse::default()));
        progress.end();
        assert!(progress.since(next).is_none());
        assert_eq!(progress.counts(), Counts { total: 1, completed: 1, ..Counts::default() });
    }

    #[test]
    fn output_is_clipped_once() {
        let progress = Progress::new("x");
        let step = progress.step("y");
        for _ in 0..4 {
            step.log(1, &vec![b'a'; 1 << 20]);
        }
        let (mut at, mut bytes, mut notes) = (0, 0, 0);
        drop(step);
        progress.end();
        while let Some((new, next)) = progress.since(at) {
            bytes += new.logs.iter().filter(|l| l.stream == 1).map(|l| l.msg.len()).sum::<usize>();
            notes += new.logs.iter().filter(|l| l.stream == 2).count();
            at = next;
        }
        assert_eq!((bytes, notes), (MAX_STEP_LOG, 1));
    }

    #[test]
    fn a_build_that_was_given_up_tells_how_its_last_step_ends() {
        let progress = Progress::new("x");
        let step = progress.step("y");
        progress.end();
        let (begun, next) = progress.since(0).unwrap();
        assert!(begun.vertexes[0].completed.is_none());
        assert!(progress.since(next).is_some(), "it is still running");
        step.fail("context canceled");
        let (ended, next) = progress.since(next).unwrap();
        assert_eq!(ended.vertexes[0].error, "context canceled");
        assert!(progress.since(next).is_none());
    }

    #[test]
    fn a_dropped_step_was_given_up() {
        let progress = Progress::new("x");
        drop(progress.step("y"));
        assert_eq!(progress.since(0).unwrap().0.vertexes[1].error, "context canceled");
    }
}
