//! Containers.

use crate::{engine::Engine, init::Survivor};
use std::{path::PathBuf, sync::Arc};

/// All containers of the node.
#[derive(Debug)]
pub struct Containers {}

impl Containers {
    /// None yet.
    pub fn new(_root: PathBuf) -> Self {
        Self {}
    }
}

/// Takes over what an earlier engine has left.
pub async fn adopt(_engine: &Arc<Engine>, _survivors: Vec<Survivor>) {}

/// Writes what has changed to the disk.
pub fn save_all(_engine: &Engine) {}
