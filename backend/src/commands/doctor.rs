//! `drydock doctor`: says what this host can and cannot do for Drydock. Exit status 1 if sessions cannot run.

use super::{image::images_dir, say};
use crate::doctor::{Check, State, Subject, examine};
use anyhow::bail;
use clap::Args;
use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Options of `drydock doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Directory of the images; without it `images` in the state directory.
    #[arg(long, env = "DRYDOCK_IMAGES", value_name = "DIR")]
    pub images: Option<PathBuf>,

    /// Where the server would listen.
    #[arg(long, env = "DRYDOCK_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT", value_parser = crate::config::parse_listen)]
    pub listen: SocketAddr,
}

/// Runs the checks and prints them. It makes threads and forks: call it before any other thread is started.
pub fn run(args: DoctorArgs, state_dir: &Path, json: bool) -> anyhow::Result<()> {
    let subject = Subject {
        images: images_dir(args.images.as_deref(), state_dir),
        state_dir: state_dir.to_owned(),
        listen: args.listen,
    };
    let checks = examine(&subject);
    if json {
        say(&serde_json::to_string_pretty(&checks)?)?;
    } else {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        say(report(&checks, colour).trim_end())?;
    }
    match checks.iter().filter(|c| c.state == State::Fail).count() {
        0 => Ok(()),
        1 => bail!("one check failed: sessions cannot run until it is mended"),
        n => bail!("{n} checks failed: sessions cannot run until they are mended"),
    }
}

/// The checks for people; a gap takes three lines.
fn report(checks: &[Check], colour: bool) -> String {
    let mut text = String::new();
    for check in checks {
        let (word, code) = match check.state {
            State::Ok => ("ok  ", "32"),
            State::Warn => ("warn", "33"),
            State::Fail => ("FAIL", "31"),
        };
        let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
        text += &format!("{word}  {:<24} {}\n", check.name, check.found);
        if check.state != State::Ok {
            text += &format!("      then: {}\n      mend: {}\n", check.effect, check.mend);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_shows_its_effect_and_its_cure() {
        let check = |state, effect, mend: &str| Check {
            name: "disk",
            state,
            found: "full".into(),
            effect,
            mend: mend.into(),
        };
        let text = report(&[check(State::Ok, "", ""), check(State::Fail, "nothing works", "buy one")], false);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "ok    disk                     full",
                "FAIL  disk                     full",
                "      then: nothing works",
                "      mend: buy one"
            ]
        );
    }
}
