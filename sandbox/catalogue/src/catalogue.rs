//! The catalogue itself: a store of the host, what is in it, and making what is missing.

use crate::{
    Error, Result,
    host::Host,
    recipes::{self, Input, Recipe},
    version::{DESCRIPTION, Description, VERSION},
    work::{Work, own_mounts},
};
use drydock_dockerfile::build::{self, Backend, Context, ErrorKind, Event, Mode};
use drydock_images::{
    Digest, NewImage, NewLayer, Progress, Reference, Store,
    local::{ChainId, LocalStore},
    mmdebstrap::{self, DOCUMENTATION, DebianRoot},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, Permissions},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Lines of a failed step that an error shows.
const TAIL: usize = 20;

/// A recipe's script for the root file system that mmdebstrap makes.
const CUSTOMIZE: &str = "customize.sh";

/// How to add images.
#[derive(Debug, Clone, Default)]
pub struct AddOptions {
    /// URL of a Debian mirror (`http://` or `https://`); absent: deb.debian.org.
    pub mirror: Option<String>,
    /// Images whose recipe has not changed since they were made stay as they are.
    pub if_missing: bool,
    /// Becomes true when somebody wants an end.
    pub stop: Option<Arc<AtomicBool>>,
}

/// An image that was asked for, or that one of those needed.
#[derive(Debug, Clone, Serialize)]
pub struct Added {
    /// Its familiar name.
    pub name: &'static str,
    /// Its normalised names with tags; if it was there, those that are new.
    pub names: Vec<String>,
    /// Digest of its manifest; absent if it was there.
    pub digest: Option<Digest>,
    /// It was made now.
    pub built: bool,
    /// How long that took.
    pub seconds: u64,
    /// Why a stale image could not be made anew and is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// Whether an image is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It can be added.
    Missing,
    /// It is there, made from another recipe than this program's.
    Stale,
    /// It is there.
    Present,
}

/// A line of the catalogue.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Familiar name of the image.
    pub name: String,
    /// Its tags that are there.
    pub tags: Vec<String>,
    /// Whether it is there.
    pub state: State,
    /// Bytes of its compressed layers; 0 if it is not there.
    pub size: u64,
    /// When it was made, RFC 3339; empty if it is not there.
    pub created: String,
}

/// A catalogue.
#[derive(Debug)]
pub struct Catalogue {
    store: Store,
}

impl Catalogue {
    /// Opens the catalogue in a directory and makes it if it is not there. Needs root.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { store: Store::open(dir)? })
    }

    /// Its store, for export and import.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Writes images as one file, for a machine without Internet: those of some recipes, or all that are there.
    pub fn export(&self, names: &[String], to: &mut dyn Write) -> Result<()> {
        let wanted: Vec<_> = names.iter().map(|name| recipes::find(name)).collect::<Result<_>>()?;
        let there = self.store.list()?;
        let mut exported = Vec::new();
        for recipe in &wanted {
            let before = exported.len();
            let repositories = [Some(recipe.repository()), recipe.also.map(str::to_owned)];
            let prefixes: Vec<_> = repositories.into_iter().flatten().map(|r| format!("{r}:")).collect();
            let mine = there.iter().filter(|l| prefixes.iter().any(|p| l.name.starts_with(p)));
            exported.extend(mine.map(|l| l.name.as_str()));
            if exported.len() == before {
                return Err(Error::Absent(recipe.name.into()));
            }
        }
        if wanted.is_empty() {
            exported.extend(there.iter().map(|l| l.name.as_str()));
        }
        if exported.is_empty() {
            return Err(Error::Absent("any image".into()));
        }
        Ok(self.store.export_all(&exported, to)?)
    }

    /// Reads a file that [`Catalogue::export`] wrote and tells the names that it brought.
    pub fn import(&self, from: &mut dyn Read, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Vec<String>> {
        let check = |name: &str| match Reference::parse(name) {
            // Such as `node`, the node image: it would be taken for Node.js.
            Ok(reference) if reference.to_string() == name && reference.tag().is_some() => Ok(()),
            _ => Err(drydock_images::Error::Refused(format!(
                "`{}` is no image of the catalogue; for a node image use `drydock image import`",
                name.escape_debug()
            ))),
        };
        Ok(self.store.import_checked(from, &check, progress)?)
    }

    /// What can be added, then what is there beside that (imported from elsewhere).
    pub fn list(&self) -> Result<Vec<Entry>> {
        let there = self.store.list()?;
        let mut entries = Vec::new();
        let mut known = Vec::new();
        for recipe in recipes::all() {
            let prefix = format!("{}:", recipe.repository());
            let mine: Vec<_> =
                there.iter().filter_map(|l| Some((l.name.strip_prefix(&prefix)?, l))).collect();
            let latest = there.iter().find(|l| l.name == recipe.reference());
            known.push(prefix);
            known.extend(recipe.also.map(|also| format!("{also}:")));
            entries.push(Entry {
                name: recipe.name.into(),
                tags: mine.iter().map(|(tag, _)| (*tag).to_owned()).collect(),
                state: self.state(recipe)?,
                size: latest.map_or(0, |l| l.size),
                created: latest.map_or_else(String::new, |l| l.created.clone()),
            });
        }
        for other in there.iter().filter(|l| !known.iter().any(|prefix| l.name.starts_with(prefix))) {
            let (name, tag) = other.name.rsplit_once(':').unwrap_or((&other.name, ""));
            entries.push(Entry {
                name: name.to_owned(),
                tags: vec![tag.to_owned()],
                state: State::Present,
                size: other.size,
                created: other.created.clone(),
            });
        }
        Ok(entries)
    }

    /// Whether the image of a recipe is there.
    pub fn state(&self, recipe: &Recipe) -> Result<State> {
        let name = recipe.reference();
        if !self.store.contains(&name) {
            return Ok(State::Missing);
        }
        match recipe.digest() {
            // This program can't make it, so what is there is as good as can be.
            Err(Error::NoProgram(_)) => Ok(State::Present),
            digest => Ok(match self.store.recipe(&name) {
                Some(made_from) if made_from == digest?.to_string() => State::Present,
                _ => State::Stale,
            }),
        }
    }

    /// Makes images and what they need, in that order. `progress` is told what happens.
    pub fn add(
        &self,
        names: &[&str],
        options: &AddOptions,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<Added>> {
        let mut order: Vec<(&Recipe, bool)> = Vec::new();
        for name in names {
            with_needs(recipes::find(name)?, !options.if_missing, &mut order)?;
        }
        let mut added = Vec::new();
        let mut prepared = false;
        for (recipe, always) in order {
            let name = recipe.name;
            let there = Added { name, names: Vec::new(), digest: None, built: false, seconds: 0, kept: None };
            let state = self.state(recipe)?;
            if !always && state == State::Present {
                added.push(Added { names: self.name(recipe, progress)?, ..there });
                continue;
            }
            if !std::mem::replace(&mut prepared, true) {
                own_mounts()?;
            }
            let began = Instant::now();
            match self.make(recipe, options, progress) {
                Ok((digest, names)) => {
                    let seconds = began.elapsed().as_secs();
                    added.push(Added { names, digest: Some(digest), built: true, seconds, ..there });
                }
                Err(Error::Stopped) => return Err(Error::Stopped),
                // A machine without Internet goes on with what it has.
                Err(e) if !always && state == State::Stale => {
                    added.push(Added { kept: Some(e.to_string()), ..there });
                }
                Err(e) => return Err(e),
            }
        }
        Ok(added)
    }

    /// Gives an image that is there the names that its recipe has come to give since, and tells them.
    fn name(&self, recipe: &Recipe, progress: &mut (dyn FnMut(Progress<'_>) + Send)) -> Result<Vec<String>> {
        let facts = self.store.facts(&recipe.reference())?;
        let version = facts.get(VERSION).map_or("", String::as_str);
        let mut names = recipe.names(&recipe.tags(version));
        let there: Vec<String> = self.store.list()?.into_iter().map(|listing| listing.name).collect();
        names.retain(|name| !there.contains(name));
        if !names.is_empty() {
            self.store.name_also(&recipe.reference(), &names, progress)?;
        }
        Ok(names)
    }

    fn make(
        &self,
        recipe: &Recipe,
        options: &AddOptions,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<(Digest, Vec<String>)> {
        let recipe_digest = recipe.digest()?.to_string();
        let work = Work::new()?;
        let context = context(recipe, &work, options, progress)?;
        let mirror = options.mirror.as_deref();
        let host = Host::new(&work, self.store.dir(), mirror, options.stop.clone())?;
        let image = build(recipe, &host, context, options, progress)?;
        let failed = |e: build::BackendError| Error::Build {
            name: recipe.name.into(),
            what: e.to_string(),
            tail: String::new(),
        };
        let description = {
            let files = host.files(&image.id).map_err(failed)?;
            Description::of(recipe, files.path())?
        };
        let id: Digest = image.id.parse().map_err(|_| failed(build::BackendError(image.id.clone())))?;
        let names = recipe.names(&description.tags);
        let image = local_image(host.local(), &id, &names, &recipe_digest, description.facts)?;
        let digest = self.store.add(image, progress)?;
        Ok((digest, names))
    }
}

/// A recipe after those that it needs; those are made only if they are missing.
fn with_needs(recipe: &'static Recipe, always: bool, order: &mut Vec<(&'static Recipe, bool)>) -> Result<()> {
    for base in recipe.needs()? {
        with_needs(base, false, order)?;
    }
    match order.iter_mut().find(|(there, _)| there.name == recipe.name) {
        Some((_, there)) => *there |= always,
        None => order.push((recipe, always)),
    }
    Ok(())
}

/// Puts the files for the build into a directory.
fn context(
    recipe: &Recipe,
    work: &Work,
    options: &AddOptions,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<PathBuf> {
    let dir = work.sub("context", 0o700)?;
    let write = |name: &str, content: &[u8], mode: u32| {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::path("make", parent))?;
        }
        fs::write(&path, content).map_err(Error::path("write", &path))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(Error::path("set the mode of", &path))
    };
    for (name, content) in recipe.files() {
        write(&name, &content, 0o644)?;
    }
    match recipe.input {
        Input::None => {}
        Input::Program(name) => {
            write(name, &recipe.program()?.unwrap_or_default(), 0o755)?;
        }
        Input::Multicall { program, names } => {
            write(&format!("bin/{program}"), &recipe.program()?.unwrap_or_default(), 0o755)?;
            for name in names {
                let link = dir.join("bin").join(name);
                std::os::unix::fs::symlink(program, &link).map_err(Error::path("make", link))?;
            }
        }
        Input::Root { file, variant, packages } => {
            let mut arguments: Vec<_> =
                DOCUMENTATION.iter().map(|path| format!("--dpkgopt=path-exclude={path}")).collect();
            arguments.push("--dpkgopt=path-include=/usr/share/doc/*/copyright".into());
            // mmdebstrap would delete the one that customize.sh puts there.
            arguments.push("--skip=chroot/policy-rc.d".into());
            if dir.join(CUSTOMIZE).exists() {
                arguments.push(format!("--customize-hook=sh \"$DRYDOCK_CONTEXT/{CUSTOMIZE}\" \"$1\""));
            }
            let root = DebianRoot {
                variant,
                packages: packages.into(),
                mirror: options.mirror.clone(),
                arguments,
                env: vec![("DRYDOCK_CONTEXT", dir.clone().into())],
                stop: options.stop.clone(),
            };
            let mut named =
                |p: Progress<'_>| progress(Progress { stage: &format!("{}: {}", recipe.name, p.stage), ..p });
            let made = root.write(&work.sub("mmdebstrap", 0o755)?, &dir.join(file), &mut named);
            made.map_err(|e| {
                if matches!(e, drydock_images::Error::Stopped) { Error::Stopped } else { e.into() }
            })?;
        }
    }
    Ok(dir)
}

fn build(
    recipe: &Recipe,
    host: &Host,
    context: PathBuf,
    options: &AddOptions,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<build::Image> {
    let mut teller =
        Teller { name: recipe.name, stage: recipe.name.into(), lines: Lines::default(), progress };
    let settings = build::Options { mode: Mode::BuildKit, ..build::Options::default() };
    let context = Context { root: Some(context) };
    let mut tell = |event: Event<'_>| teller.event(&event);
    let built = build::build(host, &recipe.dockerfile()?, &settings, &context, &mut tell);
    if options.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
        return Err(Error::Stopped);
    }
    built.map_err(|e| match e.kind {
        ErrorKind::Cancelled => Error::Stopped,
        _ => Error::Build { name: recipe.name.into(), what: e.to_string(), tail: teller.lines.tail() },
    })
}

/// An image of the build's store for the catalogue; layers that are there are not read.
fn local_image<'a>(
    from: &'a LocalStore,
    id: &Digest,
    names: &'a [String],
    recipe: &'a str,
    facts: BTreeMap<String, String>,
) -> Result<NewImage<'a>> {
    let mut config = (*from.get(id)?.config).clone();
    // What `docker image inspect` shows of an image and neither its containers nor what is built from it have.
    config.comment = facts.get(DESCRIPTION).cloned();
    let there: Vec<_> = from.layers().into_iter().filter(|l| l.in_catalogue).map(|l| l.chain).collect();
    let mut layers = Vec::new();
    let mut below: Option<ChainId> = None;
    for diff_id in &config.rootfs.diff_ids {
        let chain = ChainId::of(below.as_ref(), diff_id);
        layers.push(if there.contains(&chain) {
            NewLayer::Known(diff_id.clone())
        } else {
            NewLayer::Tar(Box::new(from.layer_tar(&chain)?))
        });
        below = Some(chain);
    }
    Ok(NewImage { names, config, layers, recipe: Some(recipe), facts })
}

/// Turns the builder's events into progress.
struct Teller<'a> {
    name: &'a str,
    stage: String,
    lines: Lines,
    progress: &'a mut (dyn FnMut(Progress<'_>) + Send),
}

impl Teller<'_> {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { source, number, total, .. } => {
                let step: String = source.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
                self.stage = format!("{}: step {number} of {total}: {step}", self.name);
                self.lines = Lines::default();
                (self.progress)(Progress { stage: &self.stage, detail: "" });
            }
            Event::Log { data, .. } => {
                for line in self.lines.take(data) {
                    // Of apt's and dpkg's lines only the names of packages.
                    let detail = match mmdebstrap::understand(&line) {
                        Some((_, detail)) => detail,
                        None => line,
                    };
                    (self.progress)(Progress { stage: &self.stage, detail: &detail });
                }
            }
            _ => {}
        }
    }
}

/// The lines of a command's output, cut to a sane length.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    /// The lines that are whole now.
    fn take(&mut self, data: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for part in data.split_inclusive(|b| *b == b'\n') {
            let room = 1000_usize.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).trim_end().to_owned();
                self.last.push_back(line.clone());
                whole.push(line);
            }
        }
        while self.last.len() > TAIL {
            self.last.pop_front();
        }
        whole
    }

    fn tail(mut self) -> String {
        self.take(b"\n");
        self.last.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let mut order = Vec::new();
        for (name, always) in [("nginx", true), ("redis", false), ("debian", true)] {
            with_needs(recipes::find(name).unwrap(), always, &mut order).unwrap();
        }
        let order: Vec<_> = order.iter().map(|(recipe, always)| (recipe.name, *always)).collect();
        assert_eq!(order, [("debian", true), ("nginx", true), ("redis", false)]);
    }

    #[test]
    fn lines_of_a_command() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"on"), [""; 0]);
        assert_eq!(lines.take(b"e\ntwo\nthr"), ["one", "two"]);
        assert_eq!(lines.tail(), "one\ntwo\nthr");
        let mut many = Lines::default();
        (0..100).for_each(|n| drop(many.take(format!("{n}\n").as_bytes())));
        let tail = many.tail();
        assert!(tail.ends_with("98\n99") && tail.lines().count() <= TAIL, "{tail}");
    }
}
