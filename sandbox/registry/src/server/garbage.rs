//! What goes: content that nothing leads to, what somebody had who is gone, and, when that has grown too much, images that nobody
//! pays for any more. Nothing else may run meanwhile.

use super::{
    names::{Name, Tag, UploadId},
    store::{ENTRY, Links, Store, digests, file_names, found, lines},
};
use crate::manifest::RawManifest;
use drydock_images::Digest;
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

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

/// An image for which nobody pays.
struct Leftover {
    name: Name,
    digest: Digest,
    by: String,
    since: SystemTime,
    bytes: u64,
}

impl Store {
    /// Removes what nothing leads to.
    pub(super) fn collect(&self, grace: Duration, untagged: bool) -> io::Result<Collected> {
        let mut report = Collected::default();
        let mut named = HashSet::new();
        for name in self.repositories()? {
            let kept = self.prune(&name, grace, untagged, &mut report)?;
            named.extend(kept);
        }
        self.drop_content(&named, &mut report)?;
        self.count_again();
        Ok(report)
    }

    /// Removes content that no repository names.
    pub(super) fn drop_all_unnamed(&self) -> io::Result<()> {
        let mut named = HashSet::new();
        for name in self.repositories()? {
            for folder in ["_layers", "_manifests"] {
                named.extend(digests(&self.repository(&name).join(folder))?);
            }
        }
        self.drop_content(&named, &mut Collected::default())
    }

    fn drop_content(&self, named: &HashSet<Digest>, report: &mut Collected) -> io::Result<()> {
        // Content gets its name in the same turn in which it comes: what has none now gets none.
        for folder in file_names(&self.root.join("blobs/sha256"))? {
            let folder = self.root.join("blobs/sha256").join(folder);
            for digest in digests(&folder)? {
                if !named.contains(&digest) {
                    let path = folder.join(digest.hex());
                    report.blobs += 1;
                    report.bytes += fs::metadata(&path)?.len();
                    fs::remove_file(path)?;
                }
            }
        }
        Ok(())
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
            tagged.extend(self.tag(name, &tag)?.map(|set| set.digest));
        }
        let links = self.links_of(name, &all)?;
        let mut todo: Vec<&Digest> = Vec::new();
        for digest in &all {
            if !untagged || tagged.contains(digest) || !is_old(&self.manifest_link(name, digest), grace)? {
                todo.push(digest);
            }
        }
        let mut live: HashSet<Digest> = HashSet::new();
        let about = referrers(&links);
        while let Some(digest) = todo.pop() {
            if live.insert(digest.clone()) {
                todo.extend(links.get(digest).into_iter().flat_map(|links| &links.manifests));
                // Signatures and the like live as long as what they are about.
                todo.extend(about.get(digest).into_iter().flatten());
            }
        }
        for digest in all.iter().filter(|d| !live.contains(d)) {
            report.manifests += u64::from(self.delete_untagged(name, digest)?);
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

    fn links_of(&self, name: &Name, manifests: &[Digest]) -> io::Result<HashMap<Digest, Links>> {
        let mut links = HashMap::new();
        for digest in manifests {
            let raw = self.manifest(name, digest)?.and_then(|m| RawManifest::parse(&m.bytes).ok());
            links.insert(digest.clone(), raw.as_ref().map(Links::of).unwrap_or_default());
        }
        Ok(links)
    }

    /// Uploads that nobody has written to for so long.
    pub(super) fn stale_uploads(&self, age: Duration) -> io::Result<Vec<UploadId>> {
        let mut stale = Vec::new();
        for id in self.all_uploads()? {
            let data = self.upload(&id);
            let path = if data.is_file() { data } else { self.upload_name(&id) };
            if is_old(&path, age)? {
                stale.push(id);
            }
        }
        Ok(stale)
    }

    fn all_uploads(&self) -> io::Result<HashSet<UploadId>> {
        let files = file_names(&self.root.join("uploads"))?;
        Ok(files.iter().filter_map(|f| UploadId::parse(f.strip_suffix(".name").unwrap_or(f)).ok()).collect())
    }

    // === Who is gone ===

    /// Everybody who has an upload, by repository, and who has begun it.
    pub(super) fn uploaders(&self) -> io::Result<Vec<(UploadId, String, Option<String>)>> {
        let mut all = Vec::new();
        for id in self.all_uploads()? {
            if let Some((name, by)) = self.upload_of(&id)? {
                all.push((id, name, by));
            }
        }
        Ok(all)
    }

    /// Deletes the repositories for which `gone` is true.
    pub(super) fn delete_repositories(&self, gone: impl Fn(&str) -> bool) -> io::Result<()> {
        for name in self.repositories()?.iter().filter(|name| gone(name.as_str())) {
            // A repository may lie below another one: only its own folders go.
            for folder in ["_layers", "_manifests", "_tags", "_referrers"] {
                found(fs::remove_dir_all(self.repository(name).join(folder)))?;
            }
            self.remove_empty_folders(name);
        }
        self.count_again();
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

    /// These pay for nothing any more. What they put into others' repositories stays if a manifest needs it.
    pub(super) fn release(&self, gone: &BTreeSet<String>) -> io::Result<()> {
        for name in self.where_used(|_, by| by.is_some_and(|by| gone.contains(by)))? {
            self.release_in(&name, gone)?;
        }
        self.count_again();
        Ok(())
    }

    fn release_in(&self, name: &Name, gone: &BTreeSet<String>) -> io::Result<()> {
        let (mut files, mut orphans) = (Vec::new(), Vec::new());
        for (kind, is_blob) in [("_layers", true), ("_manifests", false)] {
            let folder = self.repository(name).join(kind);
            for digest in digests(&folder)? {
                let link = folder.join(digest.hex());
                let before = self.payers(&link)?.unwrap_or_default();
                let after: Vec<&String> = before.iter().filter(|payer| !gone.contains(*payer)).collect();
                if after.len() == before.len() {
                    continue;
                }
                if is_blob && after.is_empty() {
                    orphans.push(digest.clone());
                }
                let head = if is_blob { String::new() } else { first_line(&link)? };
                files.push((link, lines(head.as_bytes(), after)));
            }
        }
        for tag in self.tags(name)?.unwrap_or_default() {
            if let Some(mut set) =
                self.tag(name, &tag)?.filter(|set| set.payer().is_some_and(|p| gone.contains(p)))
            {
                set.ended = true;
                files.push((self.tag_file(name, &tag), set.text()));
            }
        }
        self.rewrite(files)?;
        self.drop_unneeded(name, &orphans, &self.all_links(name)?)
    }

    /// Takes blobs from a repository that none of these manifests, which are all it has, needs.
    fn drop_unneeded(&self, name: &Name, blobs: &[Digest], links: &HashMap<Digest, Links>) -> io::Result<()> {
        let needed: HashSet<&Digest> = links.values().flat_map(|links| &links.blobs).collect();
        for digest in blobs.iter().filter(|digest| !needed.contains(digest)) {
            self.unlink_blob(name, digest)?;
        }
        Ok(())
    }

    fn all_links(&self, name: &Name) -> io::Result<HashMap<Digest, Links>> {
        self.links_of(name, &digests(&self.repository(name).join("_manifests"))?)
    }

    // === Images that nobody pays for ===

    /// Deletes a tag, and its image if nothing else leads to it; false if there is no such tag.
    pub(super) fn delete_tagged(&self, name: &Name, tag: &Tag) -> io::Result<bool> {
        let Some(set) = self.tag(name, tag)? else { return Ok(false) };
        self.delete_tag(name, tag)?;
        for other in self.tags(name)?.unwrap_or_default() {
            if self.tag(name, &other)?.is_some_and(|other| other.digest == set.digest) {
                return Ok(true);
            }
        }
        if !self.all_links(name)?.values().any(|links| links.manifests.contains(&set.digest)) {
            self.delete_images(name, vec![set.digest])?;
        }
        Ok(true)
    }

    /// Deletes images with all their tags, and what they name unless others need it.
    pub(super) fn delete_images(&self, name: &Name, mut images: Vec<Digest>) -> io::Result<()> {
        let mut kept = self.all_links(name)?;
        let mut users: HashMap<Digest, usize> = HashMap::new();
        for child in kept.values().flat_map(|links| &links.manifests) {
            *users.entry(child.clone()).or_default() += 1;
        }
        let going: HashSet<Digest> = images.iter().cloned().collect();
        for tag in self.tags(name)?.unwrap_or_default() {
            match self.tag(name, &tag)? {
                Some(set) if going.contains(&set.digest) => drop(self.delete_tag(name, &tag)?),
                Some(set) => *users.entry(set.digest).or_default() += 1,
                None => {}
            }
        }
        let mut blobs = Vec::new();
        while let Some(digest) = images.pop() {
            let Some(links) = kept.remove(&digest) else { continue };
            self.delete_untagged(name, &digest)?;
            blobs.extend(links.blobs);
            for child in links.manifests {
                let users = users.entry(child.clone()).or_default();
                *users = users.saturating_sub(1);
                if *users == 0 {
                    images.push(child);
                }
            }
        }
        self.drop_unneeded(name, &blobs, &kept)
    }

    /// Deletes images whose setters are gone, until what nobody pays for in these repositories takes no more than `most`: each time
    /// the oldest of whoever left the most, so that a large one does not drive out the small ones of others.
    pub(super) fn make_room(&self, is_theirs: impl Fn(&str) -> bool, most: u64) -> io::Result<()> {
        let nobodys = |name: &Name, by: Option<&str>| by.is_none() && is_theirs(name.as_str());
        let mut left = self.used(nobodys)?;
        if left <= most {
            return Ok(());
        }
        let mut images = Vec::new();
        for name in self.where_used(nobodys)? {
            images.extend(self.leftovers(&name)?);
        }
        images.sort_by_key(|image| image.since);
        let mut setters: HashMap<String, (u64, VecDeque<Leftover>)> = HashMap::new();
        for image in images {
            let (bytes, queue) = setters.entry(image.by.clone()).or_default();
            *bytes += image.bytes;
            queue.push_back(image);
        }
        let mut gone: HashMap<Name, Vec<Digest>> = HashMap::new();
        while left > most
            && let Some((bytes, queue)) = setters.values_mut().max_by_key(|(bytes, _)| *bytes)
            && let Some(image) = queue.pop_front()
        {
            *bytes -= image.bytes;
            left = left.saturating_sub(image.bytes);
            tracing::info!(name = image.name.as_str(), digest = %image.digest, "an image of somebody who is gone makes room");
            gone.entry(image.name).or_default().push(image.digest);
        }
        gone.into_iter().try_for_each(|(name, images)| self.delete_images(&name, images))
    }

    fn leftovers(&self, name: &Name) -> io::Result<Vec<Leftover>> {
        let (mut images, mut seen) = (Vec::new(), HashSet::new());
        for tag in self.tags(name)?.unwrap_or_default() {
            let Some(set) = self.tag(name, &tag)?.filter(|set| set.ended) else { continue };
            let link = self.manifest_link(name, &set.digest);
            if self.payers(&link)?.is_none_or(|payers| !payers.is_empty()) || !seen.insert(set.digest.clone())
            {
                continue;
            }
            let mut bytes = ENTRY;
            for links in self.links_of(name, std::slice::from_ref(&set.digest))?.values() {
                for blob in &links.blobs {
                    bytes += self.blob_size(blob)? + ENTRY;
                }
            }
            let since = fs::metadata(&link)?.modified()?;
            images.push(Leftover {
                name: name.clone(),
                digest: set.digest,
                by: set.by.unwrap_or_default(),
                since,
                bytes,
            });
        }
        Ok(images)
    }
}

/// The manifests that have another one as their subject, by that one.
fn referrers(links: &HashMap<Digest, Links>) -> HashMap<&Digest, Vec<&Digest>> {
    let mut about: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    for (digest, links) in links {
        if let Some(subject) = &links.subject {
            about.entry(subject).or_default().push(digest);
        }
    }
    about
}

fn first_line(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.lines().next().unwrap_or_default().to_owned())
}

fn is_old(path: &Path, age: Duration) -> io::Result<bool> {
    let Some(meta) = found(fs::metadata(path))? else { return Ok(true) };
    Ok(SystemTime::now().duration_since(meta.modified()?).unwrap_or_default() >= age)
}
