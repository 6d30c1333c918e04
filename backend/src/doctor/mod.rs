//! What this host can and cannot do for Drydock. Each check says how things stand, and for a gap what will not work and
//! how to mend it. Called by `drydock doctor`. Real tries are made where a look would only guess; all of them are
//! undone, and nothing is changed on the host.

mod host;
mod kernel;
mod trial;

use serde::Serialize;
use std::{net::SocketAddr, path::PathBuf};

/// What the checks need to know.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The server's state directory; need not exist.
    pub state_dir: PathBuf,
    /// Where its images are.
    pub images: PathBuf,
    /// Where it would listen.
    pub listen: SocketAddr,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All is well.
    Ok,
    /// Drydock runs, but something is missing or small.
    Warn,
    /// Sessions cannot run.
    Fail,
}

/// One check and its result.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was checked, in a few words.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What will not work; empty if all is well.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub effect: &'static str,
    /// How to mend it; empty if all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), effect: "", mend: String::new() }
    }

    fn warn(
        name: &'static str,
        found: impl Into<String>,
        effect: &'static str,
        mend: impl Into<String>,
    ) -> Self {
        Self { name, state: State::Warn, found: found.into(), effect, mend: mend.into() }
    }

    fn fail(
        name: &'static str,
        found: impl Into<String>,
        effect: &'static str,
        mend: impl Into<String>,
    ) -> Self {
        Self { name, state: State::Fail, found: found.into(), effect, mend: mend.into() }
    }
}

/// Runs every check. Takes less than a second or two.
pub fn examine(subject: &Subject) -> Vec<Check> {
    let root = nix::unistd::geteuid().is_root();
    let mut checks = vec![host::root(root), kernel::version(), kernel::user_namespaces()];
    if root {
        checks.extend(trial::sandbox(&subject.state_dir));
        checks.push(trial::network());
    } else {
        checks.push(kernel::file_systems());
    }
    checks.extend([host::control_groups(root), host::nft(root), kernel::seccomp()]);
    checks.extend([host::memory(), host::disk_space(&subject.state_dir)]);
    checks.extend(host::limits());
    checks.extend([host::image(&subject.images, root), host::port(subject)]);
    checks
}

/// A file of `/proc` or `/sys` without its line end.
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|t| t.trim().to_owned())
}

fn read_number(path: &str) -> Option<u64> {
    read(path)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gap_says_what_will_not_work_and_how_to_mend_it() {
        let dir = tempfile::tempdir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let subject = Subject {
            state_dir: dir.path().join("not/there"),
            images: dir.path().join("images"),
            listen: taken.local_addr().unwrap(),
        };
        let checks = examine(&subject);
        for check in &checks {
            assert!(!check.name.is_empty() && !check.found.is_empty(), "{check:?}");
            assert_eq!(
                check.state == State::Ok,
                check.effect.is_empty() && check.mend.is_empty(),
                "{check:?}"
            );
        }
        let state = |name: &str| checks.iter().find(|c| c.name == name).map(|c| c.state);
        assert_eq!(state("port"), Some(State::Fail), "somebody else listens there");
        assert_eq!(
            state("node image"),
            Some(if nix::unistd::geteuid().is_root() { State::Fail } else { State::Warn })
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves nothing behind");
    }
}
