//! What the cache keeps: blobs and manifests by digest, and what tags meant when they were last asked for. Everything under a
//! digest has that digest: it is checked before it comes here. What was not used for the longest time makes room for the new.
//!
//! ```text
//! blobs/HEX   content; its time of change is when it was last used
//! tags/HEX    of the tag's full name: `NAME\nDIGEST\n`; its time of change is when the registry last confirmed it
//! tmp/        what arrives; emptied at the start
//! ```

use crate::MANIFEST_MAX;
use bytes::Bytes;
use drydock_images::Digest;
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use tempfile::NamedTempFile;

/// Most tags that are remembered.
const TAGS_MAX: usize = 10_000;

/// See the top of the file.
pub(super) struct Shelf {
    root: PathBuf,
    limit: u64,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    blobs: HashMap<Digest, Blob>,
    tags: HashMap<String, (Digest, SystemTime)>,
    total: u64,
}

struct Blob {
    size: u64,
    used: SystemTime,
}

impl Shelf {
    /// Opens a folder and looks at what is there.
    pub(super) fn open(root: &Path, limit: u64) -> io::Result<Self> {
        for dir in ["blobs", "tags", "tmp"] {
            fs::create_dir_all(root.join(dir))?;
        }
        for left in fs::read_dir(root.join("tmp"))? {
            fs::remove_file(left?.path())?;
        }
        let mut books = Books::default();
        for entry in fs::read_dir(root.join("blobs"))? {
            let entry = entry?;
            let (name, meta) = (entry.file_name(), entry.metadata()?);
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>() else { continue };
            books.total += meta.len();
            books.blobs.insert(digest, Blob { size: meta.len(), used: meta.modified()? });
        }
        for entry in fs::read_dir(root.join("tags"))? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            let known =
                text.split_once('\n').and_then(|(key, digest)| Some((key, digest.trim().parse().ok()?)));
            match known {
                Some((key, digest)) if books.blobs.contains_key(&digest) => {
                    books.tags.insert(key.into(), (digest, entry.metadata()?.modified()?));
                }
                _ => fs::remove_file(entry.path())?,
            }
        }
        let shelf = Self { root: root.to_owned(), limit, books: Mutex::new(books) };
        // The operator may have made it smaller.
        shelf.make_room(&mut shelf.books(), 0);
        Ok(shelf)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    /// Bytes that are kept.
    pub(super) fn used(&self) -> u64 {
        self.books().total
    }

    /// Content by its digest, and its size.
    pub(super) fn find(&self, digest: &Digest) -> Option<(File, u64)> {
        let mut books = self.books();
        let blob = books.blobs.get_mut(digest)?;
        let now = SystemTime::now();
        blob.used = now;
        let size = blob.size;
        match File::open(self.blob(digest)) {
            Ok(file) if file.metadata().is_ok_and(|meta| meta.len() == size) => {
                // Only for a server that starts anew; until then memory knows.
                let _as_before = file.set_modified(now);
                Some((file, size))
            }
            _ => {
                tracing::warn!(%digest, "a blob of the cache of registries has gone");
                books.forget(digest);
                None
            }
        }
    }

    /// Small content, whole.
    pub(super) fn small(&self, digest: &Digest) -> Option<Bytes> {
        let (file, size) = self.find(digest)?;
        let mut bytes = Vec::new();
        file.take(MANIFEST_MAX as u64).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 == size).then(|| bytes.into())
    }

    /// A file for something that arrives.
    pub(super) fn new_file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.root.join("tmp"))
    }

    /// Takes a file that has this digest and size.
    pub(super) fn keep(&self, digest: &Digest, file: NamedTempFile, size: u64) -> io::Result<()> {
        let mut books = self.books();
        if books.blobs.contains_key(digest) {
            return Ok(());
        }
        self.make_room(&mut books, size);
        file.persist(self.blob(digest))?;
        books.total += size;
        books.blobs.insert(digest.clone(), Blob { size, used: SystemTime::now() });
        Ok(())
    }

    /// Takes small content that has this digest.
    pub(super) fn keep_small(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.new_file()?;
        file.write_all(bytes)?;
        self.keep(digest, file, bytes.len() as u64)
    }

    /// What a tag meant, and when the registry last said so.
    pub(super) fn tag(&self, key: &str) -> Option<(Digest, SystemTime)> {
        self.books().tags.get(key).cloned()
    }

    /// Notes what a tag means now.
    pub(super) fn set_tag(&self, key: &str, digest: &Digest) {
        let mut books = self.books();
        if !books.tags.contains_key(key) && books.tags.len() >= TAGS_MAX {
            let oldest = books.tags.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                books.tags.remove(&oldest);
                let _gone = fs::remove_file(self.tag_file(&oldest));
            }
        }
        books.tags.insert(key.into(), (digest.clone(), SystemTime::now()));
        if let Err(error) = fs::write(self.tag_file(key), format!("{key}\n{digest}\n")) {
            tracing::warn!(%error, key, "a tag is known only until the server ends");
        }
    }

    fn tag_file(&self, key: &str) -> PathBuf {
        self.root.join("tags").join(Digest::of(key.as_bytes()).hex())
    }

    /// Removes what was not used for the longest until `size` more bytes fit. Who reads it goes on reading.
    fn make_room(&self, books: &mut Books, size: u64) {
        while books.total + size > self.limit {
            let oldest =
                books.blobs.iter().min_by_key(|(_, blob)| blob.used).map(|(digest, _)| digest.clone());
            let Some(oldest) = oldest else { return };
            books.forget(&oldest);
            if let Err(error) = fs::remove_file(self.blob(&oldest)) {
                tracing::warn!(%error, digest = %oldest, "a blob of the cache of registries can't be removed");
            }
        }
    }
}

impl Books {
    fn forget(&mut self, digest: &Digest) {
        if let Some(blob) = self.blobs.remove(digest) {
            self.total -= blob.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(shelf: &Shelf, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        shelf.keep_small(&digest, content).unwrap();
        digest
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path(), 10).unwrap();
        let (a, b) = (put(&shelf, b"aaaa"), put(&shelf, b"bbbb"));
        assert!(shelf.find(&a).is_some());
        let c = put(&shelf, b"cccc");
        assert!(shelf.find(&b).is_none(), "the oldest has gone");
        assert_eq!(shelf.small(&a).unwrap(), &b"aaaa"[..]);
        assert_eq!((shelf.small(&c).unwrap(), shelf.used()), (Bytes::from_static(b"cccc"), 8));
    }

    #[test]
    fn all_is_there_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path(), 100).unwrap();
        let (a, b) = (put(&shelf, b"one"), put(&shelf, b"three"));
        shelf.set_tag("docker.io/library/x:1", &a);
        shelf.set_tag("docker.io/library/x:2", &Digest::of(b"never seen"));
        fs::write(dir.path().join("tmp/half"), "x").unwrap();
        fs::write(dir.path().join("blobs").join(b.hex()), "thr").unwrap();
        let again = Shelf::open(dir.path(), 100).unwrap();
        assert_eq!(again.tag("docker.io/library/x:1").unwrap().0, a);
        assert!(again.tag("docker.io/library/x:2").is_none(), "a tag without its manifest is forgotten");
        assert!(!dir.path().join("tmp/half").exists());
        // Smaller than before: what does not fit goes.
        let small = Shelf::open(dir.path(), 3).unwrap();
        assert!(small.used() <= 3);
    }

    #[test]
    fn a_file_that_somebody_has_cut_is_not_given() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path(), 100).unwrap();
        let a = put(&shelf, b"whole");
        fs::write(dir.path().join("blobs").join(a.hex()), "wh").unwrap();
        assert!(shelf.find(&a).is_none());
        assert_eq!(shelf.used(), 0);
    }
}
