//! The state of containers while the disk is full: in the node's memory, so that the engine to come knows how they ended.

use super::record::{Record, read_bounded, replace};
use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

/// `/run/docker/unsaved`.
#[derive(Debug)]
pub struct Spare {
    dir: PathBuf,
}

impl Spare {
    /// In a directory that is made when it is needed.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn file(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Keeps a state that the disk has no room for.
    pub fn keep(&self, record: &Record) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        replace(&self.file(&record.id), &serde_json::to_vec(record)?)
    }

    /// The disk has a newer state, or there is no such container any more.
    pub fn forget(&self, id: &str) {
        match fs::remove_file(self.file(id)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(container = id, %error, "an old state of it stays");
            }
            _ => {}
        }
    }

    /// Gives a container that was read from the disk the state that it has had since. True if there was one.
    pub fn restore(&self, record: &mut Record) -> bool {
        let kept = read_bounded(&self.file(&record.id)).ok();
        let Some(kept) = kept.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) else {
            return false;
        };
        if kept.id != record.id {
            return false;
        }
        let host = std::mem::take(&mut record.host);
        *record = Record { host, ..kept };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::Phase;

    #[test]
    fn a_state_that_the_disk_had_no_room_for_comes_back_once() {
        let temp = tempfile::tempdir().unwrap();
        let spare = Spare::new(temp.path().join("docker/unsaved"));
        let mut old = Record { id: "a".repeat(64), ..Record::default() };
        old.host.resources.memory = 7;
        old.state.phase = Phase::Running;
        let mut ended = old.clone();
        (ended.state.phase, ended.state.exit_code) = (Phase::Exited, 3);
        spare.keep(&ended).unwrap();
        let mut found = old.clone();
        assert!(spare.restore(&mut found));
        assert_eq!(found, ended);
        spare.forget(&old.id);
        spare.forget(&old.id);
        assert!(!spare.restore(&mut old));
    }
}
