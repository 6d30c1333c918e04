//! `drydock registry show|set`: who may log in at `registry:5000` from a session.

use super::{Output, harmless, session::plain};
use crate::{client::Client, config::parse_logins};
use anyhow::Context;
use clap::{Args, Subcommand};
use drydock_protocol::api::{Logins, RegistryAccount, RegistryRules, SetRegistryRules};
use hyper::Method;
use std::path::{Path, PathBuf};

/// Options of `drydock registry`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show who may log in from a session.
    Show {
        /// The session's id.
        id: String,
    },
    /// Set who may log in from a session. Replaces what was set before, with its accounts.
    Set {
        /// The session's id.
        id: String,
        /// `open`: the first login of a name makes the account. `list`: only the accounts given here and those of all sessions.
        /// `closed`: nobody. Without it as `drydock serve` has it for all sessions.
        #[arg(long, value_parser = parse_logins)]
        logins: Option<Logins>,
        /// A file of accounts, a line NAME:PASSWORD each; - is standard input.
        #[arg(long, value_name = "FILE")]
        accounts: Option<PathBuf>,
    },
}

/// Runs the command.
pub async fn run(state_dir: &Path, options: Options, output: Output) -> anyhow::Result<()> {
    let client = Client::new(state_dir);
    let rules: RegistryRules = match options.command {
        Command::Show { id } => client.get(&format!("/sessions/{}/registry", plain(&id)?)).await?,
        Command::Set { id, logins, accounts } => {
            let text = match accounts {
                None => String::new(),
                Some(file) if file == Path::new("-") => {
                    std::io::read_to_string(std::io::stdin()).context("standard input")?
                }
                Some(file) => std::fs::read_to_string(&file).with_context(|| file.display().to_string())?,
            };
            let wish = SetRegistryRules { logins, accounts: parse(&text)? };
            client.json(Method::PUT, &format!("/sessions/{}/registry", plain(&id)?), Some(&wish)).await?.1
        }
    };
    output.print(&rules, text)
}

fn parse(text: &str) -> anyhow::Result<Vec<RegistryAccount>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, password) =
                line.split_once(':').context("a line of the accounts is not NAME:PASSWORD")?;
            Ok(RegistryAccount { name: name.into(), password: password.into() })
        })
        .collect()
}

fn text(rules: &RegistryRules) -> String {
    let who = match rules.logins {
        Logins::Open => "Anybody may log in; the first login of a name makes the account.",
        Logins::List => "The accounts that are listed may log in.",
        Logins::Closed => "Nobody may log in.",
    };
    let accounts = rules.accounts.iter().map(|name| format!("\n  {}", harmless(name)));
    who.to_owned() + &accounts.collect::<String>()
}
