//! What the engine tells a learner of itself: `/var/log/docker.log`, which `journalctl -u docker` shows. Lines as dockerd writes them.

use crate::clock::Timestamp;
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

const FILE: &str = "/var/log/docker.log";
/// A larger one begins anew.
const MAX: u64 = 1 << 20;

/// Something happened.
pub fn info(message: &str) {
    write(&line("info", message));
}

/// Something has no effect.
pub fn warning(message: &str) {
    write(&line("warning", message));
}

/// Something failed, and the engine goes on.
pub fn error(message: &str) {
    write(&line("error", message));
}

/// The last words of an engine that can't start: dockerd's standard error.
pub fn last_words(message: &str) {
    write(message);
}

fn line(level: &str, message: &str) -> String {
    format!("time=\"{}\" level={level} msg={message:?}", Timestamp::now())
}

fn write(line: &str) {
    if let Err(error) = append(line) {
        tracing::warn!(%error, line, "the engine's log can't be written");
    }
}

fn append(line: &str) -> io::Result<()> {
    let large = fs::symlink_metadata(FILE).is_ok_and(|found| found.len() > MAX);
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
        .open(FILE)?;
    if large && file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(format!("{line}\n").as_bytes())
}
