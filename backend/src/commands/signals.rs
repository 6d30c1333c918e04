//! Signals that ask a command to end, for commands that have something to clear away first.

use std::{fs, io};
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

/// Ctrl+C, SIGTERM and hang-up, from the moment when this is made on, without those that are ignored (`nohup`, a shell's `&`).
#[derive(Debug)]
pub struct Endings(Vec<(Signal, SignalKind)>);

impl Endings {
    /// Needs a runtime, in which it then waits.
    pub fn new() -> io::Result<Self> {
        let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].into_iter();
        let heard = kinds.filter(|kind| ignored >> (kind.as_raw_value() - 1) & 1 == 0);
        let heard = heard.map(|kind| signal(kind).map(|arrivals| (arrivals, kind)));
        heard.collect::<io::Result<_>>().map(Self)
    }

    /// Waits for the first.
    pub async fn first(&mut self) -> ToldToEnd {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
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

/// The signals that a process ignores, from its `/proc/PID/status`.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_stays_so() {
        assert_eq!(ignored("Name:\tx\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000001003\n"), 0x1003);
        assert_eq!(ignored(""), 0);
    }
}
