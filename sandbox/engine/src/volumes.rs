//! Volumes: directories of the node that outlive containers, `/var/lib/docker/volumes/<name>/_data`. One driver, `local`.
//! A volume with options (`type`, `device`, `o`) is a mount over that directory, made when the first container that uses it
//! starts and taken away when the last one ends.
//!
//! Who uses a volume is known by the containers; callers pass it in. The disk is read at the start only, and what is found
//! there may be anything: learners are root on the node.

mod mount;

use crate::clock::Timestamp;
use crate::error::{Context, Error, Result, is_full};
use drydock_go::io_text;
use drydock_runtime::clear;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Marks a volume that was made for one container and has no name that anybody chose.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// The only driver.
pub const LOCAL: &str = "local";

/// Labels and options are kept here, beside the volumes.
const METADATA: &str = "metadata.json";
/// What was being done when they could not be written.
const PERSISTING: &str = "error while persisting volume options";
/// More is not read.
const MAX_METADATA: u64 = 16 << 20;

/// All volumes.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<String, Record>,
    /// Who has each volume with options mounted.
    mounted: BTreeMap<String, BTreeSet<String>>,
}

/// What is kept of a volume beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    labels: Option<BTreeMap<String, String>>,
    options: Option<BTreeMap<String, String>>,
    created: Timestamp,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// `local`.
    pub driver: String,
    /// Where its content is.
    pub mountpoint: PathBuf,
    /// What its maker says of it.
    pub labels: Option<BTreeMap<String, String>>,
    /// What is mounted over it.
    pub options: Option<BTreeMap<String, String>>,
    /// When it was made.
    pub created: Timestamp,
    /// This call has made it.
    pub new: bool,
}

impl Volume {
    /// Whether it was made for one container.
    pub fn is_anonymous(&self) -> bool {
        self.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS))
    }

    /// Whether something is mounted over it.
    pub fn has_options(&self) -> bool {
        self.options.as_ref().is_some_and(|options| !options.is_empty())
    }
}

impl Volumes {
    /// Reads what is on the disk.
    pub fn open(root: &Path) -> Self {
        let root = root.join("volumes");
        let mut known: BTreeMap<String, Record> = read_metadata(&root.join(METADATA)).unwrap_or_default();
        known.retain(|name, _| check_name(name).is_ok() && is_dir(&root.join(name).join("_data")));
        // Directories that have no record: made by hand, or the record was lost.
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if check_name(&name).is_ok() && is_dir(&entry.path()) && is_dir(&entry.path().join("_data")) {
                let created = entry.metadata().and_then(|meta| meta.modified()).map(Timestamp::from);
                known.entry(name).or_insert_with(|| Record {
                    created: created.unwrap_or_else(|_| Timestamp::now()),
                    ..Record::default()
                });
            }
        }
        Self { root, state: Mutex::new(State { known, mounted: BTreeMap::new() }) }
    }

    /// The volume of this name, made if it is missing. `anonymous`: made for one container, named by the engine.
    pub fn ensure(
        &self,
        name: &str,
        driver: &str,
        options: &BTreeMap<String, String>,
        labels: &BTreeMap<String, String>,
        anonymous: bool,
    ) -> Result<Volume> {
        let some = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
        let mut labels = some(labels);
        if anonymous {
            labels.get_or_insert_default().insert(ANONYMOUS.to_owned(), String::new());
        }
        self.create(name, driver, some(options), labels)
    }

    /// Makes a volume, or finds the one that has the name already.
    pub fn create(
        &self,
        name: &str,
        driver: &str,
        options: Option<BTreeMap<String, String>>,
        labels: Option<BTreeMap<String, String>>,
    ) -> Result<Volume> {
        let at = |error: Error| Error { message: format!("create {name}: {}", error.message), ..error };
        if !driver.is_empty() && driver != LOCAL {
            let text = format!("error looking up volume plugin {driver}: plugin \"{driver}\" not found");
            return Err(at(Error::not_found(text)));
        }
        check_name(name).map_err(at)?;
        let mut state = self.state();
        if let Some(record) = state.known.get(name) {
            if is_dir(&self.mountpoint(name)) {
                return Ok(self.volume(name, record, false));
            }
            state.known.remove(name);
        }
        mount::check_options(options.as_ref()).map_err(at)?;
        self.make_directories(name).map_err(at)?;
        let record = Record { labels, options, created: Timestamp::now() };
        let volume = self.volume(name, &record, true);
        state.known.insert(name.to_owned(), record);
        if let Err(error) = self.save(&state) {
            state.known.remove(name);
            let _best_effort = clear::tree(&self.root.join(name));
            return Err(at(error));
        }
        Ok(volume)
    }

    /// The volume of this name.
    pub fn get(&self, name: &str) -> Result<Volume> {
        let state = self.state();
        let found = state.known.get(name).map(|record| self.volume(name, record, false));
        found.ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Volume> {
        let state = self.state();
        state.known.iter().map(|(name, record)| self.volume(name, record, false)).collect()
    }

    /// Removes a volume unless somebody uses it: `users` are ids of containers. Blocks while it deletes.
    pub fn remove(&self, name: &str, users: &[String]) -> Result<()> {
        let mut state = self.state();
        if !state.known.contains_key(name) {
            return Err(Error::not_found(format!("get {name}: no such volume")));
        }
        if !users.is_empty() {
            let text = format!("remove {name}: volume is in use - [{}]", users.join(", "));
            return Err(Error::conflict(text));
        }
        if state.mounted.contains_key(name) {
            mount::unmount(&self.mountpoint(name)).doing(|| format!("remove {name}"))?;
            state.mounted.remove(name);
        }
        // Out of the way first, so that the name is free at once and half a deletion is never a volume.
        let doomed = self.root.join(format!(".removed-{name}"));
        let _left_over = clear::tree(&doomed);
        let there = self.root.join(name);
        match fs::rename(&there, &doomed) {
            // No room for a rename on a full disk.
            Err(error) if is_full(&error) => {
                clear::tree(&there).doing(|| format!("remove {name}: unlinkat {}", there.display()))?;
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error)
                    .doing(|| format!("remove {name}: rename {} {}", there.display(), doomed.display()));
            }
            _ => {}
        }
        state.known.remove(name);
        let saved = self.write(&state);
        drop(state);
        let _quota_comes_back = clear::tree(&doomed);
        match saved {
            // A record of a volume whose directory is gone counts for nothing.
            Err(error) if is_full(&error) => Ok(()),
            saved => saved.doing(|| PERSISTING.to_owned()),
        }
    }

    /// Removes a volume that nobody uses; silently nothing if it is not there.
    pub fn remove_unused(&self, name: &str) {
        if let Err(error) = self.remove(name, &[]) {
            tracing::debug!(%error, name, "volume stays");
        }
    }

    /// Mounts what a volume's options name, if it has some and nobody has it mounted yet. Returns where the content is.
    pub fn mount(&self, name: &str, user: &str) -> Result<PathBuf> {
        let mut state = self.state();
        let record = state.known.get(name).cloned();
        let record = record.ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))?;
        let target = self.mountpoint(name);
        if let Some(options) = record.options.filter(|options| !options.is_empty()) {
            if !state.mounted.contains_key(name) {
                mount::mount(&target, &options)?;
            }
            state.mounted.entry(name.to_owned()).or_default().insert(user.to_owned());
        }
        Ok(target)
    }

    /// The other way round: unmounts when the last user has gone.
    pub fn unmount(&self, name: &str, user: &str) {
        let mut state = self.state();
        let Some(users) = state.mounted.get_mut(name) else { return };
        users.remove(user);
        if users.is_empty() {
            state.mounted.remove(name);
            if let Err(error) = mount::unmount(&self.mountpoint(name)) {
                tracing::warn!(%error, name, "volume stays mounted");
            }
        }
    }

    /// Where the content of a volume is.
    fn mountpoint(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    fn volume(&self, name: &str, record: &Record, new: bool) -> Volume {
        Volume {
            name: name.to_owned(),
            driver: LOCAL.to_owned(),
            mountpoint: self.mountpoint(name),
            labels: record.labels.clone(),
            options: record.options.clone(),
            created: record.created,
            new,
        }
    }

    fn make_directories(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        let root = |error: &io::Error| {
            format!(
                "error while creating volume root path '{0}': mkdir {0}: {1}",
                path.display(),
                io_text(error)
            )
        };
        let make = |path: &Path, mode| fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        make(&path, 0o701).map_err(|error| Error::internal(root(&error)))?;
        make(&path.join("_data"), 0o755).map_err(|error| {
            let data = path.join("_data");
            let words = io_text(&error);
            let data = data.display();
            Error::internal(format!("error while creating volume data path '{data}': mkdir {data}: {words}"))
        })
    }

    fn save(&self, state: &State) -> Result<()> {
        self.write(state).doing(|| PERSISTING.to_owned())
    }

    fn write(&self, state: &State) -> io::Result<()> {
        let text = serde_json::to_vec(&state.known)?;
        let draft = self.root.join(".metadata.json.new");
        let _left_over = fs::remove_file(&draft);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&text)?;
        fs::rename(&draft, self.root.join(METADATA))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the files below a directory; what has several names counts once. What can't be read counts nothing.
pub fn size(path: &Path) -> i64 {
    let mut seen = BTreeSet::new();
    let mut total = 0_i64;
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                directories.push(entry.path());
            } else if meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino())) {
                total = total.saturating_add(i64::try_from(meta.len()).unwrap_or(i64::MAX));
            }
        }
    }
    total
}

/// A directory itself, not a link to one.
fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

fn read_metadata(path: &Path) -> Option<BTreeMap<String, Record>> {
    serde_json::from_slice(&read_small(path)?).ok()
}

/// Reads a file of the engine's own, if it is one: a FIFO or a link in its place must not hang or mislead us.
pub(crate) fn read_small(path: &Path) -> Option<Vec<u8>> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = vec![];
    file.take(MAX_METADATA).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Names as Docker allows them: at least two of letters, digits, `_`, `.`, `-`, the first a letter or digit.
fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        let text = "volume name is too short, names should be at least two alphanumeric characters";
        return Err(Error::invalid(text));
    }
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let others = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && others && name.len() <= 255 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    #[test]
    fn volumes_are_made_once_and_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path());
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let made = volumes.ensure("data", "", &none(), &labels, false).unwrap();
        assert!(made.new && made.mountpoint.is_dir() && !made.is_anonymous());
        fs::write(made.mountpoint.join("f"), "x").unwrap();
        fs::create_dir(made.mountpoint.join("d")).unwrap();
        fs::hard_link(made.mountpoint.join("f"), made.mountpoint.join("d/g")).unwrap();
        assert_eq!(size(&made.mountpoint), 1);
        assert!(!volumes.ensure("data", "local", &none(), &none(), false).unwrap().new);
        assert!(volumes.ensure("0".repeat(64).as_str(), "", &none(), &none(), true).unwrap().is_anonymous());

        let again = Volumes::open(dir.path());
        assert_eq!(again.list().len(), 2);
        let found = again.get("data").unwrap();
        assert_eq!(found, Volume { new: false, ..made });
        assert_eq!(fs::read(found.mountpoint.join("f")).unwrap(), b"x");
    }

    #[test]
    fn directories_without_a_record_are_volumes_too_and_garbage_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("volumes");
        fs::create_dir_all(root.join("by-hand/_data")).unwrap();
        fs::create_dir_all(root.join("no-data")).unwrap();
        fs::create_dir_all(root.join("-x/_data")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        nix::unistd::mkfifo(&root.join(METADATA), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let names: Vec<_> = Volumes::open(dir.path()).list().into_iter().map(|volume| volume.name).collect();
        assert_eq!(names, ["by-hand"]);
    }

    #[test]
    fn used_volumes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path());
        let made = volumes.ensure("vol1", "", &none(), &none(), false).unwrap();
        let refused = volumes.remove("vol1", &["abc".to_owned(), "def".to_owned()]).unwrap_err();
        assert_eq!(refused, Error::conflict("remove vol1: volume is in use - [abc, def]"));
        volumes.remove("vol1", &[]).unwrap();
        assert!(!made.mountpoint.exists());
        assert_eq!(fs::read_dir(dir.path().join("volumes")).unwrap().count(), 1, "only the metadata is left");
        let gone = volumes.remove("vol1", &[]).unwrap_err();
        assert_eq!(gone, Error::not_found("get vol1: no such volume"));
        assert!(Volumes::open(dir.path()).list().is_empty());
    }

    #[test]
    fn wrong_names_and_drivers_are_refused_in_dockers_words() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path());
        let refused = |name: &str, driver: &str| {
            volumes.ensure(name, driver, &none(), &none(), false).unwrap_err().message
        };
        assert_eq!(
            refused("a", ""),
            "create a: volume name is too short, names should be at least two alphanumeric characters"
        );
        assert_eq!(
            refused("../x", ""),
            "create ../x: \"../x\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        );
        assert_eq!(
            refused("vol", "nfs"),
            "create vol: error looking up volume plugin nfs: plugin \"nfs\" not found"
        );
        assert!(volumes.list().is_empty());
    }
}
