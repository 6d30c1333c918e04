//! The networks' definitions on disk: one small JSON file, replaced as a whole. The node's root may have put anything
//! in its place, so what is read is bounded and no special file is waited for.

use crate::{Error, Result, definition::Definition};
use nix::fcntl::OFlag;
use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Largest file that is read: thousands of networks.
const MAX: u64 = 4 << 20;

/// Where definitions are kept.
#[derive(Debug)]
pub(crate) struct Store {
    file: PathBuf,
}

impl Store {
    /// Keeps them below `directory`.
    pub fn new(directory: &Path) -> Self {
        Self { file: directory.join("files/networks.json") }
    }

    /// What was kept; nothing if there is no readable file.
    pub fn load(&self) -> Vec<Definition> {
        match self.read() {
            Ok(definitions) => definitions,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(file = %self.file.display(), %error, "network definitions can't be read");
                // Kept for who wants to look; the next save makes a new file.
                let _best_effort = fs::rename(&self.file, self.file.with_extension("json.bad"));
                Vec::new()
            }
        }
    }

    fn read(&self) -> io::Result<Vec<Definition>> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&self.file)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX).read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }

    /// Keeps these instead.
    pub fn save<'a>(&self, definitions: impl Iterator<Item = &'a Definition>) -> Result<()> {
        let all: Vec<&Definition> = definitions.collect();
        self.write(&all).map_err(|e| Error::io("save network definitions", &e))
    }

    fn write(&self, definitions: &[&Definition]) -> io::Result<()> {
        let directory = self.file.parent().ok_or_else(|| io::Error::other("no directory"))?;
        fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
        let new = self.file.with_extension("json.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(definitions)?)?;
        fs::rename(new, &self.file)
    }
}
