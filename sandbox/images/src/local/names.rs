//! Which name means which image: `repositories.json`, as Docker has it. A name has a tag or a digest, never both.

use super::{
    LocalStore,
    disk::{self, Disk},
    error::{Result, StoreError, invalid},
    images, now,
};
use crate::{Digest, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The names of a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    of: BTreeMap<Reference, Digest>,
    /// The disk was full when names were taken away: it still has them.
    unsaved: bool,
}

/// `repositories.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct File {
    /// Familiar repository name → familiar reference → image id.
    repositories: BTreeMap<String, BTreeMap<String, Digest>>,
}

impl Names {
    /// Reads the names of images that are there.
    pub(crate) fn read(disk: &Disk, images: &BTreeMap<Digest, images::Record>) -> Result<Self> {
        let file: File = disk::read_if_whole(&disk.repositories())?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let mut names = BTreeMap::new();
        for (name, id) in file.repositories.into_values().flatten() {
            if let Ok(reference) = Reference::parse(&name)
                && !reference.is_name_only()
                && images.contains_key(&id)
            {
                names.insert(key(&reference), id);
            }
        }
        Ok(Self { of: names, unsaved: false })
    }

    fn write(&mut self, disk: &Disk) -> Result<()> {
        let mut file = File::default();
        for (reference, id) in &self.of {
            let repository = file.repositories.entry(reference.familiar_name()).or_default();
            repository.insert(reference.familiar(), id.clone());
        }
        let json = serde_json::to_vec(&file).map_err(StoreError::io("write repositories.json"))?;
        disk.write(&disk.repositories(), &json)?;
        self.unsaved = false;
        Ok(())
    }

    /// The image of a name; without tag and digest, of the tag `latest`.
    pub(crate) fn get(&self, reference: &Reference) -> Option<&Digest> {
        self.of.get(&key(reference))
    }

    /// Names of an image, sorted.
    pub(crate) fn of(&self, id: &Digest) -> Vec<Reference> {
        self.of.iter().filter(|(_, of)| *of == id).map(|(name, _)| name.clone()).collect()
    }

    /// All names, sorted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Reference, &Digest)> {
        self.of.iter()
    }

    /// Adds or moves names in one step; tells what the last one meant before.
    pub(crate) fn set(
        &mut self,
        disk: &Disk,
        references: &[Reference],
        id: &Digest,
    ) -> Result<Option<Digest>> {
        let (mut changed, mut before) = (self.clone(), None);
        for reference in references {
            before = changed.of.insert(key(reference), id.clone());
        }
        changed.write(disk)?;
        *self = changed;
        Ok(before)
    }

    /// Takes names away in one step. On a full disk in memory only, so that what they name can go: see [`Names::save_again`].
    pub(crate) fn remove(&mut self, disk: &Disk, references: &[Reference]) -> Result<()> {
        let mut changed = self.clone();
        for reference in references {
            changed.of.remove(&key(reference));
        }
        match changed.write(disk) {
            Err(error) if error.is_full() => changed.unsaved = true,
            written => written?,
        }
        *self = changed;
        Ok(())
    }

    /// Writes what the disk was too full for. A name on the disk whose image is gone counts for nothing.
    pub(crate) fn save_again(&mut self, disk: &Disk) -> Result<()> {
        if self.unsaved { self.write(disk) } else { Ok(()) }
    }
}

/// What a name is stored under: with a digest the tag does not count, as in Docker.
pub(crate) fn key(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) => reference.name_only().with_digest(digest).unwrap_or_else(|_| reference.clone()),
        None => reference.clone().with_default_tag(),
    }
}

impl LocalStore {
    /// The image that a name means; without tag and digest, the tag `latest`.
    pub fn id_of(&self, reference: &Reference) -> Option<Digest> {
        self.state().names.get(reference).cloned()
    }

    /// All names with their images, sorted. Names have a tag or a digest.
    pub fn names(&self) -> Vec<(Reference, Digest)> {
        self.state().names.iter().map(|(name, id)| (name.clone(), id.clone())).collect()
    }

    /// Gives an image a name, which another one may lose; tells the image that had it, if it was another one.
    pub fn tag(&self, image: &Digest, name: &Reference) -> Result<Option<Digest>> {
        if name.digest().is_some() {
            return invalid("refusing to create a tag with a digest reference");
        }
        let mut state = self.state();
        let state = &mut *state;
        let Some(record) = state.images.get_mut(image) else {
            return Err(StoreError::NotFound(image.to_string()));
        };
        record.metadata.last_tag_time = Some(now());
        record.show();
        record.write_metadata(self.disk(), image)?;
        let before = state.names.set(self.disk(), std::slice::from_ref(name), image)?;
        Ok(before.filter(|id| id != image))
    }
}
