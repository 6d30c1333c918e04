//! Signals that ask a command to end, for commands that have something to clear away first.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A command was told to end, and has cleared away: nothing needs to be said of it.
#[derive(Debug, thiserror::Error)]
#[error("told to end by signal {0}")]
pub struct ToldToEnd(i32);

impl ToldToEnd {
    /// The status of a program that the signal has ended, as shells tell it.
    pub fn status(&self) -> u8 {
        u8::try_from(self.0).map_or(u8::MAX, |number| 128 | number)
    }
}

/// Ctrl+C, SIGTERM and hang-up, from the moment when this is made on.
#[derive(Debug)]
pub struct Endings([(Signal, SignalKind); 3]);

impl Endings {
    /// Needs a runtime, in which it then waits.
    pub fn new() -> io::Result<Self> {
        let kind = |kind| signal(kind).map(|arrivals| (arrivals, kind));
        Ok(Self([
            kind(SignalKind::interrupt())?,
            kind(SignalKind::terminate())?,
            kind(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the first.
    pub async fn first(&mut self) -> ToldToEnd {
        let arrivals = self.0.iter_mut().map(|(arrivals, kind)| {
            let number = kind.as_raw_value();
            Box::pin(async move {
                arrivals.recv().await;
                number
            })
        });
        ToldToEnd(futures_util::future::select_all(arrivals).await.0)
    }
}
