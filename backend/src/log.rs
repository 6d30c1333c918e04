//! Where a process's log goes: standard error, as far as a bound. A session's log is a file on the host, and what a learner
//! does may make the session process complain without end.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};

/// Most bytes that one process logs in its life. `drydock serve` and the warden come nowhere near it in years.
const MOST: u64 = 16 << 20;

static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Standard error until [`MOST`] bytes are written, then nothing.
#[derive(Debug, Clone, Copy)]
pub struct Bounded;

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = WRITTEN.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if before < MOST {
            io::stderr().write_all(bytes)?;
            if before + bytes.len() as u64 >= MOST {
                io::stderr().write_all(b"(the log is full; this process logs no more)\n")?;
            }
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
    let colour = std::io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(|| Bounded).init();
}
