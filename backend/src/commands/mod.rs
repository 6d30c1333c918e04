//! The command line: one file per command. Commands talk to a running server (`client`) and print for people, or with
//! `--json` for programs.

pub mod cp;
pub mod doctor;
pub mod exec;
pub mod image;
pub mod registry;
pub mod session;
pub mod signals;
pub mod stop;
pub mod target;
pub mod warden;

use clap::Args;
use std::io::{self, ErrorKind, Write};

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Output {
    /// Prints a value as JSON, or what `text` makes of it.
    pub fn print<T: serde::Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        if self.json { say(&serde_json::to_string(value)?) } else { say(&text(value)) }
    }
}

/// Nobody reads what is printed any more (`drydock session list | head -1`): no failure of ours, and nothing to be said.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output")]
pub struct ReaderGone;

/// Prints lines, or nothing if there is nothing to say.
pub fn say(text: &str) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    printed(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// What became of something that was printed.
pub fn printed<T>(done: io::Result<T>) -> anyhow::Result<T> {
    done.map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => ReaderGone.into(),
        _ => anyhow::Error::from(e).context("cannot print"),
    })
}

/// Control characters could drive the operator's terminal; what comes from a session is printed without them.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Runs a command that talks to a server. One thread is enough.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A read of the terminal under way would keep the process from ending.
    runtime.shutdown_background();
    result
}
