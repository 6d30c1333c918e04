//! The registry's files. All calls block.
//!
//! ```text
//! blobs/sha256/ab/<hex>                        content, each once
//! repositories/<name>/_layers/<hex>            the repository has this blob (an empty file)
//! repositories/<name>/_manifests/<hex>         … this manifest; the file holds its media type
//! repositories/<name>/_tags/<tag>              the file holds a digest
//! repositories/<name>/_referrers/<hex>/<hex>   the second manifest has the first as its subject
//! uploads/<id>, uploads/<id>.name              what has arrived of a blob, and for which repository
//! ```
//!
//! Names of components never begin with `_`, so they do not meet. A file comes under its final name only when it is whole and
//! synced; so after a crash there is at worst content that nobody names, which the garbage collection takes.

use super::names::{Name, Tag, UploadId};
use crate::manifest::{Descriptor, RawManifest};
use drydock_images::Digest;
use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// A repository's folders nest no deeper than a name may ([`super::names`]).
const DEPTH_MAX: usize = super::names::COMPONENTS_MAX;
/// What a file or a folder takes of the disk beside its content: a link, a tag, a name's component.
pub(super) const ENTRY: u64 = 4096;

/// A manifest as it was pushed.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
}

/// A manifest's link, and that of its being a referrer.
pub(super) const MANIFEST_ENTRIES: u64 = 2;

/// What a manifest points to in its own repository, and how it is listed as a referrer.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    pub(super) blobs: Vec<Digest>,
    pub(super) manifests: Vec<Digest>,
    pub(super) subject: Option<Digest>,
}

impl Links {
    pub(super) fn of(raw: &RawManifest) -> Self {
        let digests = |list: Option<&Vec<Descriptor>>| {
            list.into_iter().flatten().map(|d| d.digest.clone()).collect::<Vec<_>>()
        };
        let mut blobs = digests(raw.layers.as_ref());
        blobs.extend(raw.config.as_ref().map(|c| c.digest.clone()));
        Self {
            blobs,
            manifests: digests(raw.manifests.as_ref()),
            subject: raw.subject.as_ref().map(|s| s.digest.clone()),
        }
    }
}

/// How much a collection freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests that no tag led to.
    pub manifests: u64,
    /// Blobs that no repository named any more.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that nobody continued.
    pub uploads: u64,
}

pub(super) struct Store {
    root: PathBuf,
    /// Bytes by repository, counted when first asked for.
    sizes: Mutex<Option<HashMap<Name, u64>>>,
}

impl Store {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        for dir in ["blobs/sha256", "repositories", "uploads", "tmp"] {
            fs::create_dir_all(root.join(dir))?;
        }
        // Half-written files of a run that ended.
        for entry in fs::read_dir(root.join("tmp"))? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self { root: root.to_owned(), sizes: Mutex::new(None) })
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
    }

    fn repository(&self, name: &Name) -> PathBuf {
        self.root.join("repositories").join(name.as_str())
    }

    fn layer_link(&self, name: &Name, digest: &Digest) -> PathBuf {
        self.repository(name).join("_layers").join(digest.hex())
    }

    fn manifest_link(&self, name: &Name, digest: &Digest) -> PathBuf {
        self.repository(name).join("_manifests").join(digest.hex())
    }

    pub(super) fn upload(&self, id: &UploadId) -> PathBuf {
        self.root.join("uploads").join(id.as_str())
    }

    fn upload_name(&self, id: &UploadId) -> PathBuf {
        self.root.join("uploads").join(format!("{}.name", id.as_str()))
    }

    // === Blobs ===

    /// Opens a blob that a repository has.
    pub(super) fn open_blob(&self, name: &Name, digest: &Digest) -> io::Result<Option<(File, u64)>> {
        if !self.layer_link(name, digest).is_file() {
            return Ok(None);
        }
        let Some(file) = found(File::open(self.blob(digest)))? else { return Ok(None) };
        let size = file.metadata()?.len();
        Ok(Some((file, size)))
    }

    pub(super) fn has_blob(&self, name: &Name, digest: &Digest) -> bool {
        self.layer_link(name, digest).is_file() && self.blob(digest).is_file()
    }

    /// The size of a blob that some repository has.
    pub(super) fn blob_size(&self, digest: &Digest) -> io::Result<u64> {
        Ok(found(fs::metadata(self.blob(digest)))?.map_or(0, |m| m.len()))
    }

    /// Gives a repository a blob that is on the disk.
    pub(super) fn link_blob(&self, name: &Name, digest: &Digest) -> io::Result<()> {
        let link = self.layer_link(name, digest);
        let (fresh, new) = (!self.has_repository(name), !link.is_file());
        self.write(&link, b"")?;
        if new {
            self.count(name, (self.blob_size(digest)? + ENTRY) as i64);
        }
        if fresh {
            self.count(name, folders(name) as i64);
        }
        Ok(())
    }

    /// Removes content that no repository has any more. Nothing that gives names to content may run meanwhile.
    pub(super) fn drop_unnamed(&self, digest: &Digest) -> io::Result<()> {
        for name in self.repositories()? {
            if self.layer_link(&name, digest).is_file() || self.manifest_link(&name, digest).is_file() {
                return Ok(());
            }
        }
        found(fs::remove_file(self.blob(digest))).map(drop)
    }

    /// Takes a blob from a repository; false if it did not have it.
    pub(super) fn unlink_blob(&self, name: &Name, digest: &Digest) -> io::Result<bool> {
        let gone = found(fs::remove_file(self.layer_link(name, digest)))?.is_some();
        if gone {
            self.count(name, -((self.blob_size(digest)? + ENTRY) as i64));
        }
        Ok(gone)
    }

    /// Makes a whole upload, whose digest was checked, a blob.
    pub(super) fn keep_upload(&self, name: &Name, id: &UploadId, digest: &Digest) -> io::Result<()> {
        let (from, to) = (self.upload(id), self.blob(digest));
        if to.is_file() {
            fs::remove_file(&from)?;
        } else {
            File::open(&from)?.sync_all()?;
            self.rename(&from, &to)?;
        }
        self.link_blob(name, digest)?;
        found(fs::remove_file(self.upload_name(id)))?;
        Ok(())
    }

    pub(super) fn begin_upload(&self, name: &Name, id: &UploadId) -> io::Result<File> {
        fs::write(self.upload_name(id), name.as_str())?;
        File::options().write(true).create_new(true).open(self.upload(id))
    }

    /// Whether an upload belongs to a repository.
    pub(super) fn is_upload_of(&self, name: &Name, id: &UploadId) -> io::Result<bool> {
        Ok(found(fs::read(self.upload_name(id)))?.is_some_and(|owner| owner == name.as_str().as_bytes()))
    }

    pub(super) fn drop_upload(&self, id: &UploadId) -> io::Result<bool> {
        let there = found(fs::remove_file(self.upload(id)))?.is_some();
        found(fs::remove_file(self.upload_name(id)))?;
        Ok(there)
    }

    // === Manifests ===

    pub(super) fn manifest(&self, name: &Name, digest: &Digest) -> io::Result<Option<Stored>> {
        let Some(media_type) = found(fs::read_to_string(self.manifest_link(name, digest)))? else {
            return Ok(None);
        };
        let Some(file) = found(File::open(self.blob(digest)))? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(crate::MANIFEST_MAX as u64).read_to_end(&mut bytes)?;
        Ok(Some(Stored { digest: digest.clone(), media_type, bytes }))
    }

    pub(super) fn has_manifest(&self, name: &Name, digest: &Digest) -> bool {
        self.manifest_link(name, digest).is_file()
    }

    pub(super) fn put_manifest(&self, name: &Name, stored: &Stored, links: &Links) -> io::Result<()> {
        let blob = self.blob(&stored.digest);
        if !blob.is_file() {
            self.write(&blob, &stored.bytes)?;
        }
        if let Some(subject) = &links.subject {
            let folder = self.repository(name).join("_referrers").join(subject.hex());
            self.write(&folder.join(stored.digest.hex()), b"")?;
        }
        let link = self.manifest_link(name, &stored.digest);
        let (fresh, new) = (!self.has_repository(name), !link.is_file());
        self.write(&link, stored.media_type.as_bytes())?;
        if new {
            self.count(name, (stored.bytes.len() as u64 + MANIFEST_ENTRIES * ENTRY) as i64);
        }
        if fresh {
            self.count(name, folders(name) as i64);
        }
        Ok(())
    }

    /// Removes a manifest and the tags that mean it; false if it was not there.
    pub(super) fn delete_manifest(&self, name: &Name, digest: &Digest) -> io::Result<bool> {
        let Some(stored) = self.manifest(name, digest)? else { return Ok(false) };
        for tag in self.tags(name)?.unwrap_or_default() {
            if self.tag(name, &tag)?.as_ref() == Some(digest) {
                self.delete_tag(name, &tag)?;
            }
        }
        if let Some(subject) = RawManifest::parse(&stored.bytes).ok().and_then(|raw| raw.subject) {
            let folder = self.repository(name).join("_referrers").join(subject.digest.hex());
            found(fs::remove_file(folder.join(digest.hex())))?;
        }
        fs::remove_file(self.manifest_link(name, digest))?;
        self.count(name, -((stored.bytes.len() as u64 + MANIFEST_ENTRIES * ENTRY) as i64));
        Ok(true)
    }

    pub(super) fn tag(&self, name: &Name, tag: &Tag) -> io::Result<Option<Digest>> {
        let text = found(fs::read_to_string(self.repository(name).join("_tags").join(tag.as_str())))?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    pub(super) fn set_tag(&self, name: &Name, tag: &Tag, digest: &Digest) -> io::Result<()> {
        let file = self.repository(name).join("_tags").join(tag.as_str());
        let new = !file.is_file();
        self.write(&file, digest.to_string().as_bytes())?;
        if new {
            self.count(name, ENTRY as i64);
        }
        Ok(())
    }

    pub(super) fn delete_tag(&self, name: &Name, tag: &Tag) -> io::Result<bool> {
        let gone = found(fs::remove_file(self.repository(name).join("_tags").join(tag.as_str())))?.is_some();
        if gone {
            self.count(name, -(ENTRY as i64));
        }
        Ok(gone)
    }

    /// All tags in order; `None` if there is no such repository.
    pub(super) fn tags(&self, name: &Name) -> io::Result<Option<Vec<Tag>>> {
        if !self.has_repository(name) {
            return Ok(None);
        }
        let names = file_names(&self.repository(name).join("_tags"))?;
        let mut tags: Vec<Tag> = names.iter().filter_map(|n| Tag::parse(n).ok()).collect();
        tags.sort();
        Ok(Some(tags))
    }

    pub(super) fn has_repository(&self, name: &Name) -> bool {
        let folder = self.repository(name);
        folder.join("_manifests").is_dir() || folder.join("_layers").is_dir()
    }

    /// Digests of the manifests that have a digest as their subject, in order.
    pub(super) fn referrers(&self, name: &Name, subject: &Digest) -> io::Result<Vec<Digest>> {
        let mut all = digests(&self.repository(name).join("_referrers").join(subject.hex()))?;
        all.sort();
        Ok(all)
    }

    /// All repositories in order.
    pub(super) fn repositories(&self) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        let mut todo = vec![(self.root.join("repositories"), String::new(), 0)];
        while let Some((folder, prefix, depth)) = todo.pop() {
            for child in file_names(&folder)? {
                if child.starts_with('_') || depth >= DEPTH_MAX {
                    continue;
                }
                let path = if prefix.is_empty() { child.clone() } else { format!("{prefix}/{child}") };
                if let Ok(name) = Name::parse(&path)
                    && self.has_repository(&name)
                {
                    names.push(name);
                }
                todo.push((folder.join(child), path, depth + 1));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Deletes the repositories for which `gone` is true; nothing else may run meanwhile.
    pub(super) fn delete_repositories(&self, gone: impl Fn(&str) -> bool) -> io::Result<()> {
        for name in self.repositories()?.iter().filter(|name| gone(name.as_str())) {
            // A repository may lie below another one: only its own folders go.
            for folder in ["_layers", "_manifests", "_tags", "_referrers"] {
                found(fs::remove_dir_all(self.repository(name).join(folder)))?;
            }
            self.remove_empty_folders(name);
        }
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Removes the folders of a name that has no repository any more, as far as nothing else is in them.
    fn remove_empty_folders(&self, name: &Name) {
        let top = self.root.join("repositories");
        let folder = self.repository(name);
        for folder in folder.ancestors().take_while(|folder| **folder != *top) {
            if fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }

    // === Space ===

    /// Whether the disk has so many bytes left for people like us.
    pub(super) fn has_free(&self, bytes: u64) -> io::Result<bool> {
        let disk = rustix::fs::statvfs(&self.root)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize) >= bytes)
    }

    /// The bytes of all repositories for which `counts` is true.
    pub(super) fn used(&self, counts: impl Fn(&str) -> bool) -> io::Result<u64> {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = match &mut *sizes {
            Some(sizes) => sizes,
            none => none.insert(self.count_all()?),
        };
        Ok(sizes.iter().filter(|(name, _)| counts(name.as_str())).map(|(_, bytes)| bytes).sum())
    }

    /// How many repositories there are for which `counts` is true.
    pub(super) fn many(&self, counts: impl Fn(&str) -> bool) -> io::Result<usize> {
        self.used(|_| false)?;
        let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sizes.iter().flatten().filter(|(name, _)| counts(name.as_str())).count())
    }

    fn count_all(&self) -> io::Result<HashMap<Name, u64>> {
        let mut sizes = HashMap::new();
        for name in self.repositories()? {
            let mut bytes =
                folders(&name) + ENTRY * file_names(&self.repository(&name).join("_tags"))?.len() as u64;
            for (folder, entries) in [("_layers", 1), ("_manifests", MANIFEST_ENTRIES)] {
                for digest in digests(&self.repository(&name).join(folder))? {
                    bytes += self.blob_size(&digest)? + entries * ENTRY;
                }
            }
            sizes.insert(name, bytes);
        }
        Ok(sizes)
    }

    fn count(&self, name: &Name, bytes: i64) {
        if let Some(sizes) = &mut *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) {
            let size = sizes.entry(name.clone()).or_default();
            *size = size.saturating_add_signed(bytes);
        }
    }

    // === Garbage ===

    /// Removes what nothing leads to. Nothing else may run meanwhile.
    pub(super) fn collect(&self, grace: Duration, untagged: bool) -> io::Result<Collected> {
        let mut report = Collected::default();
        let mut named = HashSet::new();
        for name in self.repositories()? {
            let kept = self.prune(&name, grace, untagged, &mut report)?;
            named.extend(kept);
        }
        for folder in file_names(&self.root.join("blobs/sha256"))? {
            let folder = self.root.join("blobs/sha256").join(folder);
            for digest in digests(&folder)? {
                let path = folder.join(digest.hex());
                if !named.contains(&digest) && is_old(&path, grace)? {
                    report.blobs += 1;
                    report.bytes += fs::metadata(&path)?.len();
                    fs::remove_file(path)?;
                }
            }
        }
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(report)
    }

    /// Removes manifests without a tag (if wanted) and links that no manifest needs; gives what is left.
    fn prune(
        &self,
        name: &Name,
        grace: Duration,
        untagged: bool,
        report: &mut Collected,
    ) -> io::Result<HashSet<Digest>> {
        let folder = self.repository(name);
        let all = digests(&folder.join("_manifests"))?;
        let mut tagged = HashSet::new();
        for tag in self.tags(name)?.unwrap_or_default() {
            tagged.extend(self.tag(name, &tag)?);
        }
        let mut links = HashMap::new();
        for digest in &all {
            let raw = self.manifest(name, digest)?.and_then(|m| RawManifest::parse(&m.bytes).ok());
            links.insert(digest.clone(), raw.as_ref().map(Links::of).unwrap_or_default());
        }
        let mut live: HashSet<Digest> = HashSet::new();
        let mut todo: Vec<Digest> = Vec::new();
        for digest in &all {
            if !untagged || tagged.contains(digest) || !is_old(&self.manifest_link(name, digest), grace)? {
                todo.push(digest.clone());
            }
        }
        while let Some(digest) = todo.pop() {
            if live.insert(digest.clone()) {
                todo.extend(links.get(&digest).map(|l| l.manifests.clone()).unwrap_or_default());
                // Signatures and the like live as long as what they are about.
                let about = links.iter().filter(|(_, l)| l.subject.as_ref() == Some(&digest));
                todo.extend(about.map(|(referrer, _)| referrer.clone()));
            }
        }
        for digest in all.iter().filter(|d| !live.contains(d)) {
            report.manifests += u64::from(self.delete_manifest(name, digest)?);
        }
        let needed: HashSet<&Digest> =
            live.iter().filter_map(|d| links.get(d)).flat_map(|l| &l.blobs).collect();
        let mut kept = live.clone();
        for digest in digests(&folder.join("_layers"))? {
            // A push puts its layers before its manifest.
            if needed.contains(&digest) || !is_old(&folder.join("_layers").join(digest.hex()), grace)? {
                kept.insert(digest);
            } else {
                self.unlink_blob(name, &digest)?;
            }
        }
        Ok(kept)
    }

    /// Uploads that nobody has written to for so long.
    pub(super) fn stale_uploads(&self, age: Duration) -> io::Result<Vec<UploadId>> {
        let mut stale = Vec::new();
        for file in file_names(&self.root.join("uploads"))? {
            let Ok(id) = UploadId::parse(file.strip_suffix(".name").unwrap_or(&file)) else { continue };
            let data = self.upload(&id);
            let path = if data.is_file() { data } else { self.upload_name(&id) };
            if !stale.contains(&id) && is_old(&path, age)? {
                stale.push(id);
            }
        }
        Ok(stale)
    }

    // === Files ===

    /// Writes a file so that it is either there and whole or as before, whatever happens.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let id = UploadId::new().map_err(|_| io::Error::other("no random numbers"))?;
        let new = self.root.join("tmp").join(id.as_str());
        let mut file = File::options().write(true).create_new(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.rename(&new, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let folder = to.parent().ok_or_else(|| io::Error::other("no folder"))?;
        fs::create_dir_all(folder)?;
        fs::rename(from, to)?;
        File::open(folder)?.sync_all()
    }
}

/// What the folders of a repository take: those of its name, and the four in it.
fn folders(name: &Name) -> u64 {
    (name.as_str().split('/').count() as u64 + 4) * ENTRY
}

/// Makes "there is no such file" a value.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

fn file_names(folder: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = found(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

fn digests(folder: &Path) -> io::Result<Vec<Digest>> {
    Ok(file_names(folder)?.iter().filter_map(|hex| format!("sha256:{hex}").parse().ok()).collect())
}

fn is_old(path: &Path, age: Duration) -> io::Result<bool> {
    let Some(meta) = found(fs::metadata(path))? else { return Ok(true) };
    Ok(SystemTime::now().duration_since(meta.modified()?).unwrap_or_default() >= age)
}
