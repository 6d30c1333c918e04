//! The build cache as its users see it: `docker buildx du`, `docker system df`, `docker builder prune`. A record is a step of a
//! BuildKit build that has a layer of its own, or the directory of a cache mount. (Behaviour: moby/buildkit `cache/manager.go`.)

use super::cache::Cache;
use crate::engine::Engine;
use crate::error::{Error, Result};
use drydock_buildkit::{CacheRecord, Prune};
use drydock_dockerfile::build::Commit;
use drydock_images::Digest;
use drydock_images::local::{ChainId, Image};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Where cache mounts are.
pub fn mounts(root: &Path) -> PathBuf {
    root.join("buildcache")
}

/// The file in a cache mount's directory that tells what it was made for.
pub const MOUNT_WHAT: &str = "what";

/// Something in the cache.
struct Entry {
    what: What,
    record: CacheRecord,
    /// A step without a layer is told by the record of the one below it that has one.
    own_record: bool,
}

enum What {
    Step { id: Digest, parent: Option<Digest> },
    Mount(PathBuf),
}

/// All records. Blocks: it reads the directories of cache mounts.
pub fn records(engine: &Engine) -> Vec<CacheRecord> {
    entries(engine).into_iter().filter(|entry| entry.own_record).map(|entry| entry.record).collect()
}

/// The records that pass the filters of BuildKit's API.
///
/// # Errors
/// If a filter is wrong.
pub fn filtered(engine: &Engine, filters: &[String]) -> Result<Vec<CacheRecord>> {
    let filters = Filter::parse_all(filters)?;
    Ok(records(engine).into_iter().filter(|record| passes(&filters, record)).collect())
}

/// Removes what nothing needs, least recently used first, and tells the records that went. Without `all`, what images have too stays.
///
/// # Errors
/// If a filter is wrong, or something can't be removed.
pub fn prune(engine: &Engine, prune: &Prune) -> Result<Vec<CacheRecord>> {
    let filters = Filter::parse_all(&prune.filters)?;
    let mut left = entries(engine);
    left.sort_by_key(|entry| entry.record.last_used);
    let mut total: u64 = left.iter().map(Entry::size).sum();
    let keep = bytes_to_keep(prune, total, || free(&engine.root));
    let mut removed = vec![];
    // A step goes before the one that it was made from; so once more, as long as something goes.
    loop {
        let before = left.len();
        let parents: BTreeSet<Digest> = left.iter().filter_map(|entry| entry.parent().cloned()).collect();
        let mut stay = Vec::with_capacity(before);
        for entry in left {
            let record = &entry.record;
            let age = record.last_used.and_then(|used| used.elapsed().ok()).unwrap_or_default();
            let goes = keep.is_none_or(|keep| total > keep)
                && !record.in_use
                && (prune.all || !record.shared)
                && age >= prune.keep_duration
                && !entry.id().is_some_and(|id| parents.contains(id))
                && passes(&filters, record);
            if !goes {
                stay.push(entry);
                continue;
            }
            match &entry.what {
                What::Step { id, .. } => engine.build_cache.forget(id)?,
                What::Mount(path) => {
                    let failed = |e| Error::internal(format!("remove {}: {e}", path.display()));
                    drydock_runtime::clear::tree(path).map_err(failed)?;
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    engine.build_cache.forget_mount(&name);
                }
            }
            total -= entry.size();
            removed.extend(entry.own_record.then_some(entry.record));
        }
        left = stay;
        if left.len() == before {
            break;
        }
    }
    engine.build_cache.save();
    Ok(removed)
}

impl Entry {
    fn size(&self) -> u64 {
        if self.own_record { self.record.size } else { 0 }
    }

    fn id(&self) -> Option<&Digest> {
        if let What::Step { id, .. } = &self.what { Some(id) } else { None }
    }

    fn parent(&self) -> Option<&Digest> {
        if let What::Step { parent, .. } = &self.what { parent.as_ref() } else { None }
    }
}

/// How many bytes may stay; `None`: none need to. (buildkit `calculateKeepBytes`)
fn bytes_to_keep(prune: &Prune, total: u64, free: impl FnOnce() -> u64) -> Option<u64> {
    if prune.max_used_space == 0 && prune.reserved_space == 0 && prune.min_free_space == 0 {
        return None;
    }
    let mut keep = prune.max_used_space;
    let excess = prune.min_free_space.saturating_sub(if prune.min_free_space > 0 { free() } else { 0 });
    if excess > 0 {
        let lower = total.saturating_sub(excess);
        keep = if keep == 0 { lower } else { keep.min(lower) };
    }
    Some(keep.max(prune.reserved_space))
}

fn free(root: &Path) -> u64 {
    nix::sys::statvfs::statvfs(root).map_or(0, |stat| stat.blocks_available() * stat.fragment_size())
}

fn entries(engine: &Engine) -> Vec<Entry> {
    let mut all = steps(engine);
    let directory = std::fs::read_dir(mounts(&engine.root)).into_iter().flatten().flatten();
    all.extend(directory.map(|entry| mount(&engine.build_cache, &entry)));
    all
}

fn steps(engine: &Engine) -> Vec<Entry> {
    let store = &engine.images;
    let sizes: HashMap<ChainId, u64> =
        store.layers().into_iter().map(|layer| (layer.chain, layer.size)).collect();
    let of_images: BTreeSet<ChainId> = store
        .images()
        .iter()
        .flat_map(|image| crate::images::chains(&image.config.rootfs.diff_ids))
        .collect();
    let steps = store.steps();
    let by_id: BTreeMap<&Digest, &Image> = steps.iter().map(|step| (&step.id, step)).collect();
    let entry = |step: &Image| {
        let parent = with_layer(step, &by_id);
        let record = CacheRecord {
            // The nearest step with a layer, and the one below it.
            id: record_id(&if has_layer(step) { Some(step) } else { parent }.unwrap_or(step).id),
            parents: parent
                .filter(|_| has_layer(step))
                .map(|parent| record_id(&parent.id))
                .into_iter()
                .collect(),
            ..record(engine, step, &sizes, &of_images)
        };
        let what = What::Step { id: step.id.clone(), parent: step.parent.clone() };
        Entry { what, record, own_record: has_layer(step) }
    };
    steps.iter().map(entry).collect()
}

/// What a step says of itself.
fn record(
    engine: &Engine,
    step: &Image,
    sizes: &HashMap<ChainId, u64>,
    of_images: &BTreeSet<ChainId>,
) -> CacheRecord {
    let uses = engine.build_cache.uses(&step.id.to_string());
    let created = step.config.created.as_deref().and_then(|text| text.parse().ok());
    let created = created.map(|time: crate::clock::Timestamp| time.system_time());
    CacheRecord {
        in_use: engine.build_cache.is_held(&step.id.to_string()),
        size: step.top.as_ref().and_then(|top| sizes.get(top)).copied().unwrap_or(0),
        created,
        last_used: uses.time().or(created),
        usage_count: uses.count.max(1),
        description: engine.build_cache.description(&step.id).unwrap_or_else(|| created_by(step)),
        kind: "regular".to_owned(),
        shared: step.top.as_ref().is_some_and(|top| of_images.contains(top)),
        ..CacheRecord::default()
    }
}

/// Whether the step itself has changed files.
fn has_layer(step: &Image) -> bool {
    step.config.history.last().is_some_and(|last| !last.empty_layer)
}

/// The nearest step below with a layer.
fn with_layer<'a>(step: &Image, steps: &BTreeMap<&Digest, &'a Image>) -> Option<&'a Image> {
    let mut below = steps.get(step.parent.as_ref()?).copied()?;
    while !has_layer(below) {
        below = steps.get(below.parent.as_ref()?).copied()?;
    }
    Some(below)
}

/// What BuildKit says of the result of a step: of a command that it was mounted for it (`ops/exec.go`), of files the step's name
/// (`ops/file.go`).
pub fn description(step: &Commit<'_>) -> String {
    if !step.created_by.starts_with("RUN ") {
        return step.title.to_owned();
    }
    let words = step.key.config.cmd.as_deref().unwrap_or_default();
    // `|2 A=1 B=2` before the command are its arguments.
    let number = words.first().and_then(|first| first.strip_prefix('|')?.parse::<usize>().ok());
    let command = words.get(number.map_or(0, |number| number + 1)..).unwrap_or_default();
    format!("mount / from exec {}", command.join(" "))
}

/// The same of a step that nobody has described: what its history says.
fn created_by(step: &Image) -> String {
    let line = step.config.history.last().and_then(|last| last.created_by.as_deref()).unwrap_or_default();
    line.strip_suffix(" # buildkit").unwrap_or(line).to_owned()
}

/// 25 letters and digits, as BuildKit's ids have, made of the image's.
fn record_id(image: &Digest) -> String {
    let mut number = u128::from_str_radix(image.hex().get(..32).unwrap_or("0"), 16).unwrap_or(0);
    let mut digits = vec![b'0'; 25];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::try_from(number % 36).unwrap_or(0)];
        number /= 36;
    }
    String::from_utf8(digits).unwrap_or_default()
}

/// The directory of a cache mount.
fn mount(cache: &Cache, entry: &std::fs::DirEntry) -> Entry {
    let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
    let meta = std::fs::metadata(path.join("data")).or_else(|_| entry.metadata()).ok();
    let created = entry.metadata().and_then(|meta| meta.created()).ok();
    let uses = cache.uses(&name);
    let last_used = uses.time().or_else(|| meta.as_ref().and_then(|meta| meta.modified().ok()));
    let size = u64::try_from(crate::volumes::size(&path.join("data"))).unwrap_or(0);
    let in_use = cache.is_held(&name);
    let what = crate::volumes::read_small(&path.join(MOUNT_WHAT)).unwrap_or_default();
    let record = CacheRecord {
        id: record_id(&Digest::of(name.as_bytes())),
        mutable: true,
        in_use,
        size,
        created,
        last_used,
        usage_count: uses.count.max(1),
        description: String::from_utf8_lossy(&what).into_owned(),
        kind: "exec.cachemount".to_owned(),
        ..CacheRecord::default()
    };
    Entry { what: What::Mount(path), record, own_record: true }
}

/// Conditions that must all be true: `type==regular,shared`. (containerd `pkg/filters`)
struct Filter(Vec<Condition>);

struct Condition {
    field: String,
    is: Is,
}

enum Is {
    There,
    Equal(String),
    Other(String),
    Like(regex_lite::Regex),
}

impl Filter {
    fn parse_all(texts: &[String]) -> Result<Vec<Self>> {
        texts.iter().filter(|text| !text.is_empty()).map(|text| Self::parse(text)).collect()
    }

    fn parse(text: &str) -> Result<Self> {
        text.split(',').map(Condition::parse).collect::<Result<_>>().map(Self)
    }
}

impl Condition {
    fn parse(text: &str) -> Result<Self> {
        let unquoted = |value: &str| value.trim_matches('"').to_owned();
        let found = ["==", "!=", "~="].iter().find_map(|op| Some((*op, text.split_once(op)?)));
        let Some((op, (field, value))) = found else {
            return Ok(Self { field: text.to_owned(), is: Is::There });
        };
        let is = match op {
            "==" => Is::Equal(unquoted(value)),
            "!=" => Is::Other(unquoted(value)),
            _ => Is::Like(regex_lite::Regex::new(&unquoted(value)).map_err(|error| {
                Error::invalid(format!("failed to parse prune filters [{text}]: {error}"))
            })?),
        };
        Ok(Self { field: field.to_owned(), is })
    }

    fn is_true(&self, record: &CacheRecord) -> bool {
        let text = |text: &str| (text.to_owned(), !text.is_empty());
        let flag = |flag: bool| (String::new(), flag);
        let (value, there) = match self.field.as_str() {
            "id" => text(&record.id),
            "parents" => text(&record.parents.join(";")),
            "description" => text(&record.description),
            "type" => text(&record.kind),
            "inuse" => flag(record.in_use),
            "mutable" => flag(record.mutable),
            "immutable" => flag(!record.mutable),
            "shared" => flag(record.shared),
            "private" => flag(!record.shared),
            _ => flag(false),
        };
        match &self.is {
            Is::There => there,
            Is::Equal(wanted) => there && value == *wanted,
            Is::Other(unwanted) => value != *unwanted,
            Is::Like(pattern) => there && pattern.is_match(&value),
        }
    }
}

/// One filter is enough.
fn passes(filters: &[Filter], record: &CacheRecord) -> bool {
    filters.is_empty()
        || filters.iter().any(|filter| filter.0.iter().all(|condition| condition.is_true(record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_dockerfile::build::{CacheKey, Config};

    fn keeps(max: u64, reserved: u64, min_free: u64) -> Option<u64> {
        let prune = Prune {
            max_used_space: max,
            reserved_space: reserved,
            min_free_space: min_free,
            ..Prune::default()
        };
        bytes_to_keep(&prune, 1000, || 300)
    }

    #[test]
    fn bytes_stay_as_buildkit_says() {
        assert_eq!(keeps(0, 0, 0), None);
        assert_eq!(keeps(600, 100, 0), Some(600));
        assert_eq!(keeps(0, 100, 500), Some(800), "200 are missing");
        assert_eq!(keeps(600, 100, 500), Some(600));
        assert_eq!(keeps(0, 900, 500), Some(900));
        assert_eq!(keeps(0, 100, 200), Some(100), "nothing is missing");
    }

    #[test]
    fn steps_are_described_as_in_buildkit() {
        let key = |cmd: &[&str]| CacheKey {
            config: Config {
                cmd: Some(cmd.iter().map(|word| (*word).to_owned()).collect()),
                ..Config::default()
            },
            extra: Vec::new(),
        };
        let config = Config::default();
        let describe = |key: &CacheKey, created_by: &str, title: &str| {
            description(&Commit {
                parent: "",
                config: &config,
                key,
                container: "",
                author: "",
                created_by,
                title,
                comment: "",
                keep_empty: true,
                platform: None,
            })
        };
        let run = key(&["|2", "A=a b", "B=2", "/bin/sh", "-c", "make $A"]);
        let text = describe(&run, "RUN |2 A=a b B=2 /bin/sh -c make $A # buildkit", "[2/2] RUN make a b");
        assert_eq!(text, "mount / from exec /bin/sh -c make $A");
        let copy = key(&["/bin/sh", "-c", "#(nop) COPY file:00 in / "]);
        assert_eq!(describe(&copy, "COPY f / # buildkit", "[2/2] COPY f /"), "[2/2] COPY f /");
    }

    #[test]
    fn filters_are_containerds() {
        let record = CacheRecord {
            id: "abc".into(),
            kind: "regular".into(),
            description: "mount / from exec /bin/sh -c true".into(),
            shared: true,
            ..CacheRecord::default()
        };
        let fits = |text: &str| Filter::parse_all(&[text.to_owned()]).map(|all| passes(&all, &record)).ok();
        assert_eq!(fits("type==regular"), Some(true));
        assert_eq!(fits("type==exec.cachemount"), Some(false));
        assert_eq!(fits("id~=^a,shared"), Some(true));
        assert_eq!(fits("private"), Some(false));
        assert_eq!(fits("immutable,description~=true"), Some(true));
        assert_eq!(fits("id~=("), None);
        assert!(record_id(&Digest::of(b"x")).bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    }
}
