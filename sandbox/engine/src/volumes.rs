//! Volumes: directories of the node that outlive containers.

use crate::error::Result;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// All volumes.
#[derive(Debug, Default)]
pub struct Volumes {}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// `local`.
    pub driver: String,
    /// Where its content is.
    pub mountpoint: PathBuf,
    /// This call has made it.
    pub new: bool,
}

impl Volumes {
    /// Reads what is on the disk.
    pub fn open(_root: &Path) -> Self {
        Self::default()
    }

    /// The volume of this name, made if it is missing. `anonymous`: made for one container, named by the engine.
    pub fn ensure(
        &self,
        _name: &str,
        _driver: &str,
        _options: &BTreeMap<String, String>,
        _labels: &BTreeMap<String, String>,
        _anonymous: bool,
    ) -> Result<Volume> {
        todo!()
    }

    /// Removes a volume that nobody uses; silently nothing if it is not there.
    pub fn remove_unused(&self, _name: &str) {}
}
