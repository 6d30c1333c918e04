//! `docker wait`: driven by what happens, never by polling, so that not even the shortest run is missed.

use super::{Container, record::Record};
use crate::error::{Error, Result};
use serde::Serialize;

/// What waiters look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// Runs that have ended since the engine started.
    pub count: u64,
    /// It runs, or will again.
    pub running: bool,
    /// It is gone.
    pub removed: bool,
    /// How the last run ended.
    pub code: i32,
    /// Why it could not be started or removed.
    pub error: String,
}

impl Ends {
    /// As a record has it.
    pub fn of(record: &Record) -> Self {
        Self { running: record.state.phase.running(), code: record.state.exit_code, ..Self::default() }
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It does not run.
    NotRunning,
    /// A run ends.
    NextExit,
    /// It is gone.
    Removed,
}

impl Condition {
    /// From the query.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(Error::invalid(format!("invalid condition: \"{other}\""))),
        }
    }
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What went wrong.
    #[serde(rename = "Error", skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
    /// Exit status.
    #[serde(rename = "StatusCode")]
    pub status_code: i64,
}

/// What went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WaitError {
    /// In words.
    #[serde(rename = "Message")]
    pub message: String,
}

/// Waits. What has happened before this is called counts for nothing with [`Condition::NextExit`], so call it before answering
/// anything, and await what it returns.
pub fn wait(container: &Container, condition: Condition) -> impl Future<Output = Answer> + Send + use<> {
    let mut ends = container.ends.subscribe();
    let before = ends.borrow_and_update().count;
    async move {
        let done = |e: &Ends| match condition {
            // Docker wakes who waits also when the container is about to start again.
            Condition::NotRunning => !e.running || e.count > before || e.removed,
            Condition::NextExit => e.count > before || e.removed,
            Condition::Removed => e.removed,
        };
        match ends.wait_for(done).await {
            Ok(end) => Answer {
                error: (!end.error.is_empty()).then(|| WaitError { message: end.error.clone() }),
                status_code: i64::from(end.code),
            },
            Err(_) => Answer::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn each_condition_has_its_moment() {
        let container =
            Container::new(Record { id: "a".repeat(64), ..Record::default() }, "/nonexistent".as_ref());
        let next = wait(&container, Condition::NextExit);
        let removed = wait(&container, Condition::Removed);
        assert_eq!(wait(&container, Condition::NotRunning).now_or_never().unwrap().status_code, 0);
        container.ends.send_modify(|e| (e.count, e.code) = (1, 3));
        assert_eq!(next.now_or_never().unwrap().status_code, 3);
        container.ends.send_modify(|e| e.running = true);
        let again = wait(&container, Condition::NotRunning);
        container.ends.send_modify(|e| (e.count, e.code) = (2, 4));
        assert_eq!(again.now_or_never().unwrap().status_code, 4, "it runs again at once");
        assert!(wait(&container, Condition::NextExit).now_or_never().is_none());
        container.ends.send_modify(|e| e.removed = true);
        assert_eq!(removed.now_or_never().unwrap().status_code, 4);
    }
}
