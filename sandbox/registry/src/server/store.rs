//! The registry's files. All calls block.
//!
//! ```text
//! blobs/sha256/ab/<hex>                        content, each once
//! repositories/<name>/_layers/<hex>            the repository has this blob; the file holds who pays for it, a line each
//! repositories/<name>/_manifests/<hex>         … this manifest; the file holds its media type and who pays for it
//! repositories/<name>/_tags/<tag>              the file holds a digest and who set it
//! repositories/<name>/_referrers/<hex>/<hex>   the second manifest has the first as its subject
//! uploads/<id>, uploads/<id>.name              what has arrived of a blob, and for which repository and whom
//! ```
//!
//! Where nobody in particular pays ([`super::Policy::setter`]), those lines are missing: the repository's owner does.
//!
//! Names of components never begin with `_`, so they do not meet. A file comes under its final name only when it is whole and
//! synced; so after a crash there is at worst content that nobody names, which the garbage collection takes.

use super::{
    names::{Name, Tag, UploadId},
    space::Sizes,
};
use crate::manifest::{Descriptor, RawManifest};
use drydock_images::Digest;
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
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

impl Stored {
    /// What it takes of the disk.
    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64 + MANIFEST_ENTRIES * ENTRY
    }
}

/// The last line of a tag's file whose setter is gone.
const ENDED: &str = "ended";
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

/// A tag's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) digest: Digest,
    /// Who set it.
    pub(super) by: Option<String>,
    /// They are gone, and pay no more.
    pub(super) ended: bool,
}

impl Set {
    /// Who pays for it.
    pub(super) fn payer(&self) -> Option<&str> {
        self.by.as_deref().filter(|_| !self.ended)
    }

    /// The tag's file.
    pub(super) fn text(&self) -> Vec<u8> {
        lines(
            self.digest.to_string().as_bytes(),
            self.by.iter().map(String::as_str).chain(self.ended.then_some(ENDED)),
        )
    }
}

pub(super) struct Store {
    pub(super) root: PathBuf,
    /// Counted when first asked for.
    pub(super) sizes: Mutex<Option<Sizes>>,
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

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
    }

    pub(super) fn repository(&self, name: &Name) -> PathBuf {
        self.root.join("repositories").join(name.as_str())
    }

    pub(super) fn layer_link(&self, name: &Name, digest: &Digest) -> PathBuf {
        self.repository(name).join("_layers").join(digest.hex())
    }

    pub(super) fn manifest_link(&self, name: &Name, digest: &Digest) -> PathBuf {
        self.repository(name).join("_manifests").join(digest.hex())
    }

    pub(super) fn upload(&self, id: &UploadId) -> PathBuf {
        self.root.join("uploads").join(id.as_str())
    }

    pub(super) fn upload_name(&self, id: &UploadId) -> PathBuf {
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

    /// Gives a repository a blob that is on the disk, and somebody to pay for it.
    pub(super) fn link_blob(&self, name: &Name, digest: &Digest, by: Option<&str>) -> io::Result<()> {
        let bytes = self.blob_size(digest)? + ENTRY;
        self.link(name, &self.layer_link(name, digest), b"", bytes, by)
    }

    /// Who pays for what a link means; `None` if there is no such link.
    pub(super) fn payers(&self, link: &Path) -> io::Result<Option<Vec<String>>> {
        let Some(text) = found(fs::read_to_string(link))? else { return Ok(None) };
        // The first line of a manifest's link is its media type.
        let skipped = usize::from(link.parent().is_some_and(|folder| folder.ends_with("_manifests")));
        Ok(Some(text.lines().skip(skipped).map(str::to_owned).collect()))
    }

    /// Writes a link with one more who pays.
    fn link(&self, name: &Name, link: &Path, head: &[u8], bytes: u64, by: Option<&str>) -> io::Result<()> {
        let Some(mut payers) = self.payers(link)? else {
            self.write(link, &lines(head, by))?;
            self.count(name, by, bytes as i64);
            return Ok(());
        };
        let Some(by) = by.filter(|by| !payers.iter().any(|payer| payer == by)) else {
            // Young again: the manifest that needs it may be long in coming.
            return self.write(link, &lines(head, &payers));
        };
        if payers.is_empty() {
            self.count(name, None, -(bytes as i64));
        }
        payers.push(by.to_owned());
        self.write(link, &lines(head, &payers))?;
        self.count(name, Some(by), bytes as i64);
        Ok(())
    }

    /// Removes a link; false if it was not there.
    fn unlink(&self, name: &Name, link: &Path, bytes: u64) -> io::Result<bool> {
        let Some(payers) = self.payers(link)? else { return Ok(false) };
        fs::remove_file(link)?;
        for payer in payers.iter().map(|payer| Some(payer.as_str())).chain(payers.is_empty().then_some(None))
        {
            self.count(name, payer, -(bytes as i64));
        }
        Ok(true)
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
        self.unlink(name, &self.layer_link(name, digest), self.blob_size(digest)? + ENTRY)
    }

    /// Makes a whole upload, whose digest was checked, a blob; false if the upload is gone.
    pub(super) fn keep_upload(
        &self,
        name: &Name,
        id: &UploadId,
        digest: &Digest,
        by: Option<&str>,
    ) -> io::Result<bool> {
        let (from, to) = (self.upload(id), self.blob(digest));
        let Some(file) = found(File::open(&from))? else { return Ok(false) };
        if to.is_file() {
            fs::remove_file(&from)?;
        } else {
            file.sync_all()?;
            self.rename(&from, &to)?;
        }
        self.link_blob(name, digest, by)?;
        found(fs::remove_file(self.upload_name(id)))?;
        Ok(true)
    }

    pub(super) fn begin_upload(&self, name: &Name, id: &UploadId, by: Option<&str>) -> io::Result<File> {
        fs::write(self.upload_name(id), lines(name.as_str().as_bytes(), by))?;
        File::options().write(true).create_new(true).open(self.upload(id))
    }

    /// Of which repository an upload is, and who began it.
    pub(super) fn upload_of(&self, id: &UploadId) -> io::Result<Option<(String, Option<String>)>> {
        let Some(text) = found(fs::read_to_string(self.upload_name(id)))? else { return Ok(None) };
        let (name, by) = text.split_once('\n').map_or((&*text, None), |(name, by)| (name, Some(by)));
        Ok(Some((name.to_owned(), by.map(str::to_owned))))
    }

    pub(super) fn drop_upload(&self, id: &UploadId) -> io::Result<bool> {
        let there = found(fs::remove_file(self.upload(id)))?.is_some();
        found(fs::remove_file(self.upload_name(id)))?;
        Ok(there)
    }

    // === Manifests ===

    pub(super) fn manifest(&self, name: &Name, digest: &Digest) -> io::Result<Option<Stored>> {
        let Some(link) = found(fs::read_to_string(self.manifest_link(name, digest)))? else {
            return Ok(None);
        };
        let media_type = link.lines().next().unwrap_or_default().to_owned();
        let Some(file) = found(File::open(self.blob(digest)))? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(crate::MANIFEST_MAX as u64).read_to_end(&mut bytes)?;
        Ok(Some(Stored { digest: digest.clone(), media_type, bytes }))
    }

    pub(super) fn has_manifest(&self, name: &Name, digest: &Digest) -> bool {
        self.manifest_link(name, digest).is_file()
    }

    pub(super) fn put_manifest(
        &self,
        name: &Name,
        stored: &Stored,
        links: &Links,
        by: Option<&str>,
    ) -> io::Result<()> {
        let blob = self.blob(&stored.digest);
        if !blob.is_file() {
            self.write(&blob, &stored.bytes)?;
        }
        if let Some(subject) = &links.subject {
            let folder = self.repository(name).join("_referrers").join(subject.hex());
            self.write(&folder.join(stored.digest.hex()), b"")?;
        }
        self.link_manifest(name, stored, by)
    }

    /// Gives a manifest that is on the disk its link, and somebody to pay for it.
    pub(super) fn link_manifest(&self, name: &Name, stored: &Stored, by: Option<&str>) -> io::Result<()> {
        let link = self.manifest_link(name, &stored.digest);
        self.link(name, &link, stored.media_type.as_bytes(), stored.size(), by)
    }

    /// Removes a manifest and the tags that mean it; false if it was not there.
    pub(super) fn delete_manifest(&self, name: &Name, digest: &Digest) -> io::Result<bool> {
        if !self.has_manifest(name, digest) {
            return Ok(false);
        }
        for tag in self.tags(name)?.unwrap_or_default() {
            if self.tag(name, &tag)?.is_some_and(|set| set.digest == *digest) {
                self.delete_tag(name, &tag)?;
            }
        }
        self.delete_untagged(name, digest)
    }

    /// The same where no tag means it.
    pub(super) fn delete_untagged(&self, name: &Name, digest: &Digest) -> io::Result<bool> {
        let Some(stored) = self.manifest(name, digest)? else { return Ok(false) };
        if let Some(subject) = RawManifest::parse(&stored.bytes).ok().and_then(|raw| raw.subject) {
            let folder = self.repository(name).join("_referrers").join(subject.digest.hex());
            found(fs::remove_file(folder.join(digest.hex())))?;
        }
        self.unlink(name, &self.manifest_link(name, digest), stored.size())
    }

    pub(super) fn tag_file(&self, name: &Name, tag: &Tag) -> PathBuf {
        self.repository(name).join("_tags").join(tag.as_str())
    }

    pub(super) fn tag(&self, name: &Name, tag: &Tag) -> io::Result<Option<Set>> {
        let Some(text) = found(fs::read_to_string(self.tag_file(name, tag)))? else { return Ok(None) };
        let mut lines = text.lines();
        let digest = lines.next().and_then(|line| line.parse().ok());
        let (by, ended) = (lines.next().map(str::to_owned), lines.next().is_some());
        Ok(digest.map(|digest| Set { digest, by, ended }))
    }

    /// Lets a tag mean a manifest. Who has it again with the same meaning does not become who set it.
    pub(super) fn set_tag(
        &self,
        name: &Name,
        tag: &Tag,
        digest: &Digest,
        by: Option<&str>,
    ) -> io::Result<()> {
        let before = self.tag(name, tag)?;
        if before.as_ref().is_some_and(|set| set.digest == *digest) {
            return Ok(());
        }
        let set = Set { digest: digest.clone(), by: by.map(str::to_owned), ended: false };
        self.write(&self.tag_file(name, tag), &set.text())?;
        if let Some(before) = before {
            self.count(name, before.payer(), -(ENTRY as i64));
        }
        self.count(name, by, ENTRY as i64);
        Ok(())
    }

    pub(super) fn delete_tag(&self, name: &Name, tag: &Tag) -> io::Result<bool> {
        let set = self.tag(name, tag)?;
        let gone = found(fs::remove_file(self.tag_file(name, tag)))?.is_some();
        if gone {
            self.count(name, set.as_ref().and_then(Set::payer), -(ENTRY as i64));
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

    // === Files ===

    /// Writes a file so that it is either there and whole or as before, whatever happens.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = self.draft()?;
        let mut file = File::options().write(true).create_new(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.rename(&new, path)
    }

    /// Writes many files that are there, each whole or as before, and waits for the disk once.
    pub(super) fn rewrite(&self, files: Vec<(PathBuf, Vec<u8>)>) -> io::Result<()> {
        let mut renames = Vec::new();
        for (path, bytes) in files {
            let new = self.draft()?;
            fs::write(&new, bytes)?;
            renames.push((new, path));
        }
        if !renames.is_empty() {
            rustix::fs::syncfs(File::open(&self.root)?)?;
        }
        renames.iter().try_for_each(|(from, to)| fs::rename(from, to))
    }

    fn draft(&self) -> io::Result<PathBuf> {
        let id = UploadId::new().map_err(|_| io::Error::other("no random numbers"))?;
        Ok(self.root.join("tmp").join(id.as_str()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let folder = to.parent().ok_or_else(|| io::Error::other("no folder"))?;
        fs::create_dir_all(folder)?;
        fs::rename(from, to)?;
        File::open(folder)?.sync_all()
    }
}

/// Lines of a file, of which the first may be missing.
pub(super) fn lines<'a, T: AsRef<str> + 'a>(head: &[u8], rest: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut text = head.to_vec();
    for line in rest {
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.extend_from_slice(line.as_ref().as_bytes());
    }
    text
}

/// Makes "there is no such file" a value.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn file_names(folder: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = found(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

pub(super) fn digests(folder: &Path) -> io::Result<Vec<Digest>> {
    Ok(file_names(folder)?.iter().filter_map(|hex| format!("sha256:{hex}").parse().ok()).collect())
}
