//! Where a process's log goes: standard error, so much of it in an hour. A session's log is a file on the host, and what a learner
//! does may make a process complain without end.

use std::{
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// Most bytes that one process logs in an hour. `drydock serve` and the warden come nowhere near it in years.
const MOST: u64 = 2 << 20;
/// Most bytes that a process of a session, whose log is a file, logs in its life.
const MOST_IN_ALL: u64 = 16 << 20;
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Written {
    since: Option<Instant>,
    this_hour: u64,
    in_all: u64,
}

/// The process that [`start`] was called in; those of sessions are forks of it.
static STARTED: AtomicU32 = AtomicU32::new(0);
static WRITTEN: Mutex<Written> = Mutex::new(Written { since: None, this_hour: 0, in_all: 0 });

impl Written {
    /// Whether so many bytes more may be written now, and a word about those that may not, once.
    fn take(&mut self, bytes: u64, now: Instant, in_all: u64) -> (bool, &'static str) {
        if self.since.is_none_or(|since| now.duration_since(since) >= HOUR) {
            (self.since, self.this_hour) = (Some(now), 0);
        }
        let was_full = self.this_hour >= MOST || self.in_all >= in_all;
        if was_full {
            return (false, "");
        }
        self.this_hour += bytes;
        self.in_all += bytes;
        let word = match (self.in_all >= in_all, self.this_hour >= MOST) {
            (true, _) => "(the log is full; this process logs no more)\n",
            (false, true) => "(too much for one hour; this process logs no more until it is over)\n",
            (false, false) => "",
        };
        (true, word)
    }
}

/// Standard error, within the bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounded;

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The log of serve and the warden goes to who watches over them, with bounds of its own.
        let in_all =
            if std::process::id() == STARTED.load(Ordering::Relaxed) { u64::MAX } else { MOST_IN_ALL };
        let (may, word) = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).take(
            bytes.len() as u64,
            Instant::now(),
            in_all,
        );
        if may {
            io::stderr().write_all(bytes)?;
            io::stderr().write_all(word.as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Sends the process's log to standard error. `DRYDOCK_LOG` chooses what is logged, as in `debug` or `drydock_session=trace`.
pub fn start() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("DRYDOCK_LOG").unwrap_or_else(|_| {
        "warn,drydock=info,drydock_backend=info,drydock_warden=info,drydock_session=info".into()
    });
    STARTED.store(std::process::id(), Ordering::Relaxed);
    let colour = std::io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(|| Bounded).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_goes_on_in_the_next_hour() {
        let mut log = Written { since: None, this_hour: 0, in_all: 0 };
        let start = Instant::now();
        assert_eq!(log.take(MOST - 1, start, u64::MAX), (true, ""));
        let (may, word) = log.take(10, start, u64::MAX);
        assert!(may && word.contains("one hour"), "{word}");
        assert_eq!(log.take(10, start, u64::MAX), (false, ""));
        assert_eq!(log.take(10, start + HOUR, u64::MAX), (true, ""));
        // A session's process says it once and for all.
        let (may, word) = log.take(MOST_IN_ALL, start + HOUR, MOST_IN_ALL);
        assert!(may && word.contains("no more"), "{word}");
        assert_eq!(log.take(10, start + HOUR * 2, MOST_IN_ALL), (false, ""));
    }
}
