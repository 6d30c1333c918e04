//! What takes how much of the disk, and who pays for it: the sum of what is in a repository for the same payer, names and their
//! folders included. `None` pays where a link or a tag names nobody: the repository's owner does then.

use super::{
    names::Name,
    store::{ENTRY, MANIFEST_ENTRIES, Store, digests},
};
use drydock_images::Digest;
use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::PoisonError,
};

/// Bytes of a repository by who pays for them.
pub(super) type Sizes = HashMap<(Name, Option<String>), u64>;

/// What the folders of a repository take: those of its name, and the four in it.
fn folders(name: &Name) -> u64 {
    (name.as_str().split('/').count() as u64 + 4) * ENTRY
}

impl Store {
    /// Whether the disk has so many bytes left for people like us.
    pub(super) fn has_free(&self, bytes: u64) -> io::Result<bool> {
        let disk = rustix::fs::statvfs(&self.root)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize) >= bytes)
    }

    fn with_sizes<T>(&self, look: impl FnOnce(&Sizes) -> T) -> io::Result<T> {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = match &mut *sizes {
            Some(sizes) => sizes,
            none => none.insert(self.count_all()?),
        };
        Ok(look(sizes))
    }

    /// The bytes for which `counts` is true, by repository and payer.
    pub(super) fn used(&self, counts: impl Fn(&Name, Option<&str>) -> bool) -> io::Result<u64> {
        self.with_sizes(|sizes| {
            let counted = sizes.iter().filter(|((name, by), _)| counts(name, by.as_deref()));
            counted.map(|((name, _), bytes)| bytes + folders(name)).sum()
        })
    }

    /// The repositories in which there is something for which `counts` is true.
    pub(super) fn where_used(
        &self,
        counts: impl Fn(&Name, Option<&str>) -> bool,
    ) -> io::Result<HashSet<Name>> {
        self.with_sizes(|sizes| {
            let counted = sizes.keys().filter(|(name, by)| counts(name, by.as_deref()));
            counted.map(|(name, _)| name.clone()).collect()
        })
    }

    /// Everybody who pays, with the repositories of which it is true.
    pub(super) fn payments(&self) -> io::Result<Vec<(Name, Option<String>)>> {
        self.with_sizes(|sizes| sizes.keys().cloned().collect())
    }

    fn count_all(&self) -> io::Result<Sizes> {
        let mut sizes = Sizes::new();
        for name in self.repositories()? {
            self.count_repository(&name, &mut sizes)?;
        }
        Ok(sizes)
    }

    fn count_repository(&self, name: &Name, sizes: &mut Sizes) -> io::Result<()> {
        let mut own: HashMap<Option<String>, u64> = HashMap::new();
        for tag in self.tags(name)?.unwrap_or_default() {
            let set = self.tag(name, &tag)?;
            *own.entry(set.as_ref().and_then(|set| set.payer()).map(str::to_owned)).or_default() += ENTRY;
        }
        for (folder, entries) in [("_layers", 1), ("_manifests", MANIFEST_ENTRIES)] {
            let folder = self.repository(name).join(folder);
            for digest in digests(&folder)? {
                let bytes = self.blob_size(&digest)? + entries * ENTRY;
                let payers = self.payers(&folder.join(digest.hex()))?.unwrap_or_default();
                let nobody = payers.is_empty().then_some(None);
                for payer in payers.into_iter().map(Some).chain(nobody) {
                    *own.entry(payer).or_default() += bytes;
                }
            }
        }
        if own.is_empty() {
            own.insert(None, 0);
        }
        sizes.extend(own.into_iter().map(|(payer, bytes)| ((name.clone(), payer), bytes)));
        Ok(())
    }

    pub(super) fn count(&self, name: &Name, by: Option<&str>, bytes: i64) {
        if let Some(sizes) = &mut *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) {
            let size = sizes.entry((name.clone(), by.map(str::to_owned))).or_default();
            *size = size.saturating_add_signed(bytes);
        }
    }

    /// Counts everything again the next time.
    pub(super) fn count_again(&self) {
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Bytes that somebody would pay for a blob of which they pay nothing yet.
    pub(super) fn price(&self, link: &Path, digest: &Digest, by: Option<&str>) -> io::Result<u64> {
        let (Some(by), Some(payers)) = (by, self.payers(link)?) else { return Ok(0) };
        if payers.iter().any(|payer| payer == by) { Ok(0) } else { Ok(self.blob_size(digest)? + ENTRY) }
    }
}
