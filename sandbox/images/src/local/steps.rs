//! The build cache: each step of a BuildKit build is kept as an image that users do not see. The result of a build is both, step and
//! image: `docker rmi` takes the image and leaves the step, `docker builder prune` takes the step and leaves the image.

use super::remove::Garbage;
use super::{
    LocalStore, State,
    disk::Disk,
    error::{Result, StoreError},
    images::{Image, Origin, Record},
};
use crate::Digest;

impl Record {
    /// Makes an image of a step.
    pub(super) fn show(&mut self) {
        if !self.is_shown() {
            self.metadata.origin = Origin::Built;
        }
    }

    /// It is there already, and comes once more from somewhere.
    pub(super) fn meet(&mut self, disk: &Disk, id: &Digest, origin: Origin) -> Result<()> {
        let before = self.metadata.clone();
        if origin == Origin::Step {
            self.metadata.cached = true;
        } else if !self.is_shown() {
            self.metadata.origin = origin;
        }
        if self.metadata == before { Ok(()) } else { self.write_metadata(disk, id) }
    }
}

impl LocalStore {
    /// What the build cache holds: steps, those among them that are images too.
    pub fn steps(&self) -> Vec<Image> {
        let state = self.state();
        let steps = state.images.iter().filter(|(_, record)| record.metadata.cached || !record.is_shown());
        steps.map(|(id, record)| state.image(id, record)).collect()
    }

    /// Shows a step among the images: it is the result of a build.
    pub fn keep(&self, id: &Digest) -> Result<()> {
        let mut state = self.state();
        let record = state.images.get_mut(id).ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        if record.is_shown() {
            return Ok(());
        }
        record.show();
        record.write_metadata(self.disk(), id)
    }

    /// Takes a step out of the build cache. It goes with its layer if it is no image and nothing else needs that.
    pub fn forget_step(&self, id: &Digest) -> Result<()> {
        let mut state = self.state();
        let record = state.images.get_mut(id).ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        if record.is_shown() {
            record.metadata.cached = false;
            return record.write_metadata(self.disk(), id);
        }
        let garbage = state.forget(self.disk(), id);
        // Files are removed without the lock.
        drop(state);
        drop(garbage);
        Ok(())
    }
}

impl State {
    /// Takes an image from its users; its names are gone already. It stays as a step if the build cache has it. Tells the garbage.
    pub(super) fn take_image(&mut self, disk: &Disk, id: &Digest) -> Result<Garbage> {
        let Some(record) = self.images.get_mut(id).filter(|record| record.metadata.cached) else {
            return Ok(self.forget(disk, id));
        };
        record.metadata.origin = Origin::Step;
        record.metadata.last_tag_time = None;
        let manifests = std::mem::take(&mut record.metadata.manifests);
        match record.write_metadata(disk, id) {
            // Then the next engine finds an image without a name.
            Err(error) if error.is_full() => {}
            written => written?,
        }
        for manifest in manifests {
            super::disk::remove(&disk.manifest(&manifest))?;
        }
        Ok(Garbage::new())
    }
}
