//! What the warden writes down about each session, so that a warden started anew can go on with it or sweep it up.
//! The record is there before the first thing of a session is made and goes after the last one is deleted.

use crate::error::{Error, at};
use drydock_protocol::{NodeName, SessionId};
use drydock_runtime::limits::Limits;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Ending of a record that is being written.
const DRAFT: &str = "new";
/// File beside the records that names the directory that they are in: its device and number.
const HOME: &str = "home";

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: SessionId,
    /// Its id range.
    pub slot: u32,
    /// Its nodes.
    pub nodes: Vec<NodeName>,
    /// The node image.
    pub image: String,
    /// Its limits.
    pub limits: Limits,
    /// Nobody has asked for it yet ([`crate::messages::Request::KeepReady`]).
    #[serde(default)]
    pub unasked: bool,
    /// It has a way out.
    #[serde(default)]
    pub uplink: bool,
    /// Its spawner, once it runs: process id and start time (proc_pid_stat(5), field 22), which together
    /// name a process for as long as the machine is up.
    pub spawner: Option<(i32, u64)>,
}

impl Record {
    fn path(state: &Path, id: &SessionId) -> PathBuf {
        state.join("run/warden").join(format!("{id}.json"))
    }

    /// Writes the record (whole or not at all).
    pub fn save(&self, state: &Path) -> Result<(), Error> {
        let path = Self::path(state, &self.id);
        let draft = path.with_extension(DRAFT);
        let text = serde_json::to_vec(self).map_err(|e| Error::File(path.clone(), e.into()))?;
        fs::write(&draft, text).map_err(at(&draft))?;
        fs::rename(&draft, &path).map_err(at(&path))
    }

    /// Deletes the record.
    pub fn delete(&self, state: &Path) {
        let _gone = fs::remove_file(Self::path(state, &self.id));
    }

    /// All records; unreadable ones (a write cut short by a crash can't make one) are reported and left out. Drafts
    /// that a killed warden has left are deleted. In a copy of a state directory, records of sessions that run are deleted, too: they
    /// are the original's.
    pub fn all(state: &Path) -> Vec<Self> {
        let dir = state.join("run/warden");
        let Ok(entries) = fs::read_dir(&dir) else { return vec![] };
        let copied = is_copy(&dir);
        let has = |path: &PathBuf, extension| path.extension().is_some_and(|e| e == extension);
        let (records, others): (Vec<_>, Vec<_>) =
            entries.flatten().map(|e| e.path()).partition(|p| has(p, "json"));
        for draft in others.iter().filter(|p| has(p, DRAFT)) {
            if let Err(e) = fs::remove_file(draft) {
                tracing::warn!("{}: {e}", draft.display());
            }
        }
        records
            .into_iter()
            .filter_map(|path| {
                let record = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
                if record.is_none() {
                    tracing::error!("{} is unreadable", path.display());
                }
                record
            })
            .filter(|record: &Self| {
                let others = copied && record.runs();
                if others {
                    tracing::info!(session = %record.id, "runs for the state directory that this is a copy of");
                    record.delete(state);
                }
                !others
            })
            .collect()
    }

    /// True if the spawner of this record runs.
    pub fn runs(&self) -> bool {
        self.spawner.is_some_and(|(pid, start)| start_time(pid) == Some(start))
    }
}

/// Whether the directory of the records was copied from elsewhere, with all that is in it. It is noted whose it is from now on.
fn is_copy(dir: &Path) -> bool {
    let note = dir.join(HOME);
    let told = fs::metadata(dir).map(|meta| format!("{}:{}\n", meta.dev(), meta.ino()));
    let noted = told.and_then(|own| match fs::read_to_string(&note) {
        Ok(text) if text == own => Ok(false),
        Ok(_) => fs::write(&note, own).map(|()| true),
        // Made by an earlier version, or just now.
        Err(e) if e.kind() == ErrorKind::NotFound => fs::write(&note, own).map(|()| false),
        Err(e) => Err(e),
    });
    noted.unwrap_or_else(|e| {
        tracing::error!("{}: {e}", note.display());
        false
    })
}

/// When a process started, in clock ticks since boot; `None` if there is none or it is a zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // The first field after the name is number 3.
    fields.nth(22 - 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_start_time_and_no_process_has_id_zero() {
        assert!(start_time(std::process::id() as i32).is_some());
        assert!(start_time(0).is_none());
    }

    #[test]
    fn a_copy_of_a_state_directory_has_none_of_its_sessions() {
        let (original, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let records = |state: &Path| state.join("run/warden");
        let pid = std::process::id() as i32;
        let record = |bytes, spawner| Record {
            id: SessionId::from_random([bytes; 10]),
            slot: 1,
            nodes: vec![],
            image: "node".into(),
            limits: Limits::default(),
            unasked: false,
            uplink: false,
            spawner,
        };
        let runs = record(1, start_time(pid).map(|start| (pid, start)));
        let dead = record(2, None);
        fs::create_dir_all(records(original.path())).unwrap();
        for record in [&runs, &dead] {
            record.save(original.path()).unwrap();
        }
        assert_eq!(Record::all(original.path()).len(), 2);
        fs::create_dir_all(records(copy.path())).unwrap();
        for file in fs::read_dir(records(original.path())).unwrap().flatten() {
            fs::copy(file.path(), records(copy.path()).join(file.file_name())).unwrap();
        }
        assert_eq!(Record::all(copy.path()), [dead]);
        // From now on it is a state directory like others.
        runs.save(copy.path()).unwrap();
        assert_eq!(Record::all(copy.path()).len(), 2);
        assert_eq!(Record::all(original.path()).len(), 2);
    }

    #[test]
    fn drafts_of_a_killed_warden_go_and_records_stay() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("run/warden");
        fs::create_dir_all(&dir).unwrap();
        for name in ["aaaaaaaaaa.new", "bbbbbbbbbb.json", "bbbbbbbbbb.sock"] {
            fs::write(dir.join(name), "{").unwrap();
        }
        assert_eq!(Record::all(state.path()), []);
        let mut left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["bbbbbbbbbb.json", "bbbbbbbbbb.sock", HOME]);
    }
}
