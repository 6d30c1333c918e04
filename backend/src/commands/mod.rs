//! The command line: one file per command. Commands talk to a running server (`client`) and print for people, or with
//! `--json` for programs.

pub mod cp;
pub mod doctor;
pub mod exec;
pub mod image;
pub mod registry;
pub mod session;
pub mod stop;
pub mod warden;

use clap::Args;

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
        if self.json {
            println!("{}", serde_json::to_string(value)?);
        } else {
            let text = text(value);
            if !text.is_empty() {
                println!("{text}");
            }
        }
        Ok(())
    }
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
