//! What an operator sees while images are made, and how to stop that.

use drydock_images::Progress;
use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tokio::signal::unix::{SignalKind, signal};

/// Shows progress on standard error: one line that changes on a terminal, a line per stage elsewhere.
pub(super) struct Printer {
    began: Instant,
    terminal: bool,
    stage: String,
}

impl Printer {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), terminal: io::stderr().is_terminal(), stage: String::new() }
    }

    pub(super) fn show(&mut self, progress: Progress<'_>) {
        let new = self.stage != progress.stage;
        let seconds = self.began.elapsed().as_secs();
        let mut err = io::stderr().lock();
        // A message that cannot be shown must not stop the work.
        let _ = if self.terminal {
            let end = if new && !self.stage.is_empty() { "\n" } else { "" };
            let detail: String = progress.detail.chars().filter(|c| !c.is_control()).take(40).collect();
            write!(err, "{end}\r\x1b[K{seconds:>4} s  {}  {detail}", progress.stage)
                .and_then(|()| err.flush())
        } else if new {
            writeln!(err, "{seconds:>4} s  {}", progress.stage)
        } else {
            Ok(())
        };
        if new {
            self.stage = progress.stage.to_owned();
        }
    }

    pub(super) fn finish(&self) {
        if self.terminal && !self.stage.is_empty() {
            let _ = writeln!(io::stderr());
        }
    }

    pub(super) fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }
}

/// Becomes true at the first Ctrl-C, hang-up or SIGTERM, so that work can be given up in order; the second one ends the process.
pub(super) fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .map(signal)
        .collect::<io::Result<Vec<_>>>()?;
    drop(entered);
    let stopping = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            loop {
                let arrivals = signals.iter_mut().map(|s| Box::pin(s.recv()));
                futures_util::future::select_all(arrivals).await;
                if stopping.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        })
    })?;
    Ok(stop)
}
