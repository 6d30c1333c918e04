//! The directory of one build. It is removed when nobody uses it any more, on a thread that may block: a large context takes long.

use crate::engine::BuildEngine;
use crate::error::failed;
use crate::frontend::blocking;
use drydock_go::io_text;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tonic::Status;

/// The directory of one build; clones are the same.
#[derive(Debug, Clone)]
pub struct Scratch(Arc<Removed>);

#[derive(Debug)]
struct Removed {
    path: PathBuf,
    directory: Option<TempDir>,
}

impl Scratch {
    /// Makes one below the engine's.
    ///
    /// # Errors
    /// If it can't be made.
    pub async fn make(engine: Arc<dyn BuildEngine>) -> Result<Self, Status> {
        let made = blocking(move || {
            let within = engine.scratch().map_err(|e| e.to_string())?;
            tempfile::Builder::new().prefix("buildkit").tempdir_in(within).map_err(|e| io_text(&e))
        });
        let directory = made.await?.map_err(failed)?;
        Ok(Self(Arc::new(Removed { path: directory.path().to_owned(), directory: Some(directory) })))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        let directory = self.directory.take();
        // Without a runtime the program ends.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(directory));
        }
    }
}
