//! Which step has made which image: an index beside the images, so that a cached step costs one look; how often and when each was
//! used last; and what running builds need. Images of `--cache-from` and those that lost their entry are found by their configuration,
//! as the classic builder finds all of them.
//!
//! The two builders know nothing of each other's steps, as in dockerd: the classic one's are images with parents, BuildKit's are the
//! build cache ([`super::records`]).

use super::{inline, turns::Turns};
use crate::error::Result;
use drydock_dockerfile::build::{CacheKey, Config};
use drydock_images::Digest;
use drydock_images::local::{Image, LocalStore};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::OwnedMutexGuard;

/// Entries that are kept. One more empties the index: the images are still found, only more slowly.
const MAX_ENTRIES: usize = 20_000;

/// Who builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `POST /build`.
    Classic,
    /// A session and gRPC.
    BuildKit,
}

/// The index of one engine. Builds run beside each other.
#[derive(Debug)]
pub struct Cache {
    store: LocalStore,
    index: Mutex<Option<Index>>,
    /// What running builds have made, found or mounted, and how many of them.
    held: Mutex<BTreeMap<String, usize>>,
    /// Steps that are being made.
    turns: Turns,
    /// When it was tidied last.
    tidied: Mutex<Option<Instant>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Index {
    made: BTreeMap<String, String>,
    uses: BTreeMap<String, Use>,
    /// What `docker buildx du` says of steps.
    descriptions: BTreeMap<String, String>,
    #[serde(skip)]
    changed: bool,
}

/// How a step was used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Use {
    /// By how many builds, the one that made it among them.
    pub count: u64,
    /// Last, in seconds since 1970.
    pub last: u64,
}

impl Use {
    /// When last, if ever.
    pub fn time(self) -> Option<SystemTime> {
        (self.last > 0).then(|| UNIX_EPOCH + Duration::from_secs(self.last))
    }
}

/// What one build holds, until it is dropped.
#[derive(Debug)]
pub struct Held {
    cache: Arc<Cache>,
    names: Mutex<Vec<String>>,
}

impl Held {
    /// A prune leaves this image (by its id) or cache mount (by its directory's name) alone.
    pub fn add(&self, name: &str) {
        let mut names = lock(&self.names);
        if !names.iter().any(|held| held == name) {
            names.push(name.to_owned());
            *lock(&self.cache.held).entry(name.to_owned()).or_default() += 1;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = lock(&self.cache.held);
        for name in lock(&self.names).drain(..) {
            if let Some(count) = held.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    held.remove(&name);
                }
            }
        }
        drop(held);
        self.cache.save();
    }
}

impl Cache {
    /// The index beside a store.
    pub fn new(store: LocalStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            index: Mutex::default(),
            held: Mutex::default(),
            turns: Turns::default(),
            tidied: Mutex::default(),
        })
    }

    /// The images.
    pub(super) fn store(&self) -> &LocalStore {
        &self.store
    }

    /// A build begins.
    pub fn hold(self: &Arc<Self>) -> Held {
        Held { cache: self.clone(), names: Mutex::default() }
    }

    /// Whether it is time to tidy it; then others need not for a while.
    pub fn is_to_tidy(&self, every: Duration) -> bool {
        let mut tidied = lock(&self.tidied);
        let due = tidied.is_none_or(|at| at.elapsed() >= every);
        if due {
            *tidied = Some(Instant::now());
        }
        due
    }

    /// Whether a running build needs it.
    pub fn is_held(&self, name: &str) -> bool {
        lock(&self.held).contains_key(name)
    }

    /// The right to make a step ([`Turns::take`]).
    pub async fn turn(&self, way: Way, parent: &str, key: &CacheKey) -> (OwnedMutexGuard<()>, bool) {
        self.turns.take(name(way, parent, key)).await
    }

    /// The image that a step has made of a parent before.
    pub fn find(&self, way: Way, parent: &str, key: &CacheKey, from: &[String]) -> Option<Image> {
        let store = &self.store;
        let wanted: Vec<_> = from.iter().filter_map(|name| store.find(name).ok()).collect();
        let among = |image: &Image| wanted.iter().any(|wanted| is_ancestor(store, image, wanted));
        let fits = |image: &Image| {
            let of_parent = image.parent.as_ref().map(ToString::to_string).unwrap_or_default() == parent;
            of_parent
                && match way {
                    // One with an inline cache is a copy of the step.
                    Way::BuildKit => {
                        image.cached || among(image) && !image.config.other.contains_key(inline::FIELD)
                    }
                    // With `--cache-from` only those images and their parents count.
                    Way::Classic => !image.is_buildkits() && (from.is_empty() || among(image)),
                }
        };
        let known = self.index(|index| index.made.get(&name(way, parent, key)).cloned());
        let known = known.and_then(|id| store.get(&id.parse::<Digest>().ok()?).ok());
        let made_by = |image: &Image| {
            let config = image.config.other.get("container_config").cloned();
            config
                .and_then(|config| serde_json::from_value::<Config>(config).ok())
                .is_some_and(|config| key.is_of(&config))
        };
        let elsewhere = || store.steps().into_iter().chain(store.images());
        let found = known
            .filter(|image| fits(image))
            .or_else(|| elsewhere().find(|image| fits(image) && made_by(image)))
            .or_else(|| (way == Way::Classic).then(|| self.restore(parent, key, &wanted)).flatten())?;
        self.index(|index| index.used(&found.id.to_string()));
        Some(found)
    }

    /// Notes what a step has made.
    pub fn note(&self, way: Way, parent: &str, key: &CacheKey, image: &str, description: String) {
        self.index(|index| {
            if index.made.len() >= MAX_ENTRIES {
                *index = Index::default();
            }
            index.made.insert(name(way, parent, key), image.to_owned());
            index.descriptions.insert(image.to_owned(), description);
            index.used(image);
        });
    }

    /// The digest of the key of the step that has made an image ([`CacheKey::digest`]).
    pub fn made_by(&self, image: &Digest) -> Option<String> {
        let id = image.to_string();
        self.index(|index| {
            let (name, _) = index.made.iter().find(|(_, made)| **made == id)?;
            name.rsplit_once('/').map(|(_, digest)| digest.to_owned())
        })
    }

    /// A cache mount is used.
    pub fn used(&self, mount: &str) {
        self.index(|index| index.used(mount));
    }

    /// What a step was said to be.
    pub fn description(&self, image: &Digest) -> Option<String> {
        self.index(|index| index.descriptions.get(&image.to_string()).cloned())
    }

    /// How a step (by its image's id) or a cache mount (by its directory's name) was used.
    pub fn uses(&self, name: &str) -> Use {
        self.index(|index| index.uses.get(name).copied().unwrap_or_default())
    }

    /// A cache mount is gone.
    pub fn forget_mount(&self, name: &str) {
        self.index(|index| {
            index.uses.remove(name);
            index.changed = true;
        });
    }

    /// Takes a step out of the cache, and out of the store if it is no image.
    pub fn forget(&self, image: &Digest) -> Result<()> {
        self.store.forget_step(image)?;
        let id = image.to_string();
        self.index(|index| {
            index.uses.remove(&id);
            index.descriptions.remove(&id);
            index.made.retain(|_, made| *made != id);
            index.changed = true;
        });
        Ok(())
    }

    /// Writes the index, if something has changed.
    pub fn save(&self) {
        let text = self.index(|index| std::mem::take(&mut index.changed).then(|| serde_json::to_vec(index)));
        let Some(text) = text else { return };
        let (path, draft) = (self.path(), self.path().with_extension("new"));
        let write = text.map_err(std::io::Error::from).and_then(|text| fs::write(&draft, text));
        // Without the index a later build is slower, not wrong.
        if let Err(error) = write.and_then(|()| fs::rename(&draft, &path)) {
            tracing::warn!(%error, "steps of a build are not noted");
        }
    }

    fn path(&self) -> PathBuf {
        self.store.root().join("image/overlay2/steps.json")
    }

    fn index<T>(&self, work: impl FnOnce(&mut Index) -> T) -> T {
        let mut index = lock(&self.index);
        work(index.get_or_insert_with(|| {
            let text = crate::volumes::read_small(&self.path());
            text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
        }))
    }
}

impl Index {
    fn used(&mut self, image: &str) {
        let used = self.uses.entry(image.to_owned()).or_default();
        used.count += 1;
        used.last = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.changed = true;
    }
}

fn name(way: Way, parent: &str, key: &CacheKey) -> String {
    let way = if way == Way::Classic { "classic " } else { "" };
    format!("{way}{parent}/{}", key.digest())
}

/// Nothing in here is left half changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_ancestor(store: &LocalStore, image: &Image, of: &Image) -> bool {
    let mut at = Some(of.clone());
    while let Some(current) = at {
        if current.id == image.id {
            return true;
        }
        at = current.parent.as_ref().and_then(|parent| store.get(parent).ok());
    }
    false
}
