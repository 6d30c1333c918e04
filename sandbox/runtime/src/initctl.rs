//! `/run/initctl`: how the node's root (`systemctl`) tells the init what to do with the services of the node. A line is
//! `restart docker /run/REPLY`: verb, service, and the FIFO where the caller waits for a word.

use crate::{Result, error::Context};
use nix::{fcntl::OFlag, sys::stat::Mode, unistd::mkfifo};
use rustix::fs::OFlags;
use std::{
    fs::File,
    io::Write,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Where it lies.
const CONTROL: &str = "/run/initctl";
/// Lines that are taken at once.
const MAX_LINES: usize = 16;

/// What is to be done with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Run it.
    Start,
    /// End it, and leave it ended.
    Stop,
    /// End it and run it again.
    Restart,
}

/// A line.
#[derive(Debug)]
pub struct Order {
    /// What to do; absent: no word that is known.
    pub verb: Option<Verb>,
    /// With which service.
    pub service: String,
    /// Who waits.
    pub reply: Reply,
}

/// The caller's FIFO. One word is said on it.
#[derive(Debug)]
pub struct Reply(Option<String>);

impl Reply {
    /// Says a word. Only below `/run`, and never waiting.
    pub fn say(self, word: &str) {
        let Some(path) = self.0.filter(|p| p.starts_with("/run/")) else { return };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(fifo) = rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
            let _caller_gone = File::from(fifo).write_all(format!("{word}\n").as_bytes());
        }
    }
}

/// The init's end.
#[derive(Debug)]
pub struct Control(OwnedFd);

impl Control {
    /// Makes the FIFO. Called when the node's root is built.
    pub fn make() -> Result<Self> {
        mkfifo(CONTROL, Mode::from_bits_truncate(0o600)).step(|| format!("make {CONTROL}"))?;
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(Self(nix::fcntl::open(CONTROL, flags, Mode::empty()).step(|| format!("open {CONTROL}"))?))
    }

    /// What to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The lines that are there.
    pub fn read(&self) -> Vec<Order> {
        let mut text = [0; 4096];
        let length = nix::unistd::read(&self.0, &mut text).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).lines().take(MAX_LINES).map(parse).collect()
    }
}

fn parse(line: &str) -> Order {
    let mut words = line.split_whitespace();
    let verb = match words.next() {
        Some("start") => Some(Verb::Start),
        Some("stop") => Some(Verb::Stop),
        Some("restart") => Some(Verb::Restart),
        _ => None,
    };
    let service = words.next().unwrap_or_default().into();
    Order { verb, service, reply: Reply(words.next().map(Into::into)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_a_verb_a_service_and_a_place_to_answer() {
        let order = parse("restart kubelet /run/initctl.7");
        assert_eq!((order.verb, order.service.as_str()), (Some(Verb::Restart), "kubelet"));
        assert_eq!(order.reply.0.as_deref(), Some("/run/initctl.7"));
        let order = parse("reboot");
        assert_eq!((order.verb, order.service.as_str(), order.reply.0), (None, "", None));
    }
}
