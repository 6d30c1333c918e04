//! `drydock registry show|set`: who may log in at `registry:5000` from a session. `drydock registry shared|delete`: the images that
//! sessions share there.

use super::{Output, harmless, session::plain};
use crate::{client::Client, config::parse_logins, registry::SharedImage};
use anyhow::Context;
use clap::{Args, Subcommand};
use drydock_protocol::api::{Logins, RegistryAccount, RegistryRules, SetRegistryRules};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
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
    /// List the images that sessions share, and which session has set each.
    Shared,
    /// Delete an image that a session has shared.
    Delete {
        /// As it is listed: shared/NAME:TAG.
        image: String,
    },
}

/// Runs the command.
pub async fn run(state_dir: &Path, options: Options, output: Output) -> anyhow::Result<()> {
    let client = Client::new(state_dir);
    let rules: RegistryRules = match options.command {
        Command::Shared => {
            let images: Vec<SharedImage> = client.get("/registry/shared").await?;
            return output.print(&images, |images| {
                let lines =
                    images.iter().map(|i| format!("{}  {}", i.image, i.session.as_deref().unwrap_or("-")));
                lines.collect::<Vec<_>>().join("\n")
            });
        }
        Command::Delete { image } => {
            let image = utf8_percent_encode(&image, NON_ALPHANUMERIC);
            let path = format!("/registry/shared?image={image}");
            return client.done::<()>(Method::DELETE, &path, None).await;
        }
        Command::Show { id } => client.get(&format!("/sessions/{}/registry", plain(&id)?)).await?,
        Command::Set { id, logins, accounts } => {
            let accounts = match accounts {
                None => Vec::new(),
                Some(file) if file == Path::new("-") => {
                    let text = std::io::read_to_string(std::io::stdin());
                    text.map_err(Into::into).and_then(|text| parse(&text)).context("standard input")?
                }
                Some(file) => {
                    let text = std::fs::read_to_string(&file);
                    let accounts = text.map_err(Into::into).and_then(|text| parse(&text));
                    accounts.with_context(|| file.display().to_string())?
                }
            };
            let wish = SetRegistryRules { logins, accounts };
            client.json(Method::PUT, &format!("/sessions/{}/registry", plain(&id)?), Some(&wish)).await?.1
        }
    };
    output.print(&rules, text)
}

fn parse(text: &str) -> anyhow::Result<Vec<RegistryAccount>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            let (name, password) = line.split_once(':').unwrap_or_default();
            let n = n + 1;
            anyhow::ensure!(!name.is_empty() && !password.is_empty(), "line {n} is not NAME:PASSWORD");
            anyhow::ensure!(
                !is_bcrypt(password),
                "line {n} has a hash in place of a password; a file of hashes is for `drydock serve --registry-accounts`"
            );
            anyhow::ensure!(
                !is_passwd(password),
                "line {n} is one of a file like /etc/passwd; accounts are NAME:PASSWORD"
            );
            Ok(RegistryAccount { name: name.into(), password: password.into() })
        })
        .collect()
}

/// What follows the name in /etc/passwd.
fn is_passwd(rest: &str) -> bool {
    let fields: Vec<&str> = rest.split(':').collect();
    let is_number = |at: usize| fields[at].parse::<u32>().is_ok();
    fields.len() == 6 && is_number(1) && is_number(2)
}

/// What `htpasswd -B` makes of a password.
fn is_bcrypt(password: &str) -> bool {
    password.len() == 60 && ["$2a$", "$2b$", "$2y$"].iter().any(|kind| password.starts_with(kind))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_accounts_is_one() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(parse("ann:secret\n\nbob:a:b\n").unwrap()[1].password, "a:b");
        assert!(said("ann:secret\nbob\n").starts_with("line 2 is not NAME:PASSWORD"));
        assert!(said("ann:\n").starts_with("line 1 is not"));
        assert!(said("root:x:0:0:root:/root:/bin/bash\n").contains("/etc/passwd"));
        let hash = format!("ann:$2y$05${}\n", "a".repeat(53));
        assert!(said(&hash).contains("line 1 has a hash"), "a hash is not the password");
    }
}
