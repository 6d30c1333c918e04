//! An engine for tests: images are directories, commands are played by a closure that gets the root and the request.

use drydock_dockerfile::build::{
    Answer, Backend, BackendError, BuildError, ClassicLines, Commit, Config, Context, Download, Event, Files,
    Image, Line, Mode, Options, Output, Platform, RunRequest, Stream, Workspace, build,
};
use drydock_dockerfile::language::{Sharing, parse};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Plays a command: root of the container, what to run, where its output goes; its exit code.
pub type Play = dyn Fn(&Path, &RunRequest, &mut dyn FnMut(Stream, &[u8])) -> i32 + Send + Sync;

/// An image and how it came to be.
#[derive(Debug, Clone)]
pub struct Made {
    pub image: Image,
    pub parent: String,
    pub key: String,
    pub created_by: String,
    pub empty: bool,
}

pub struct World {
    pub dir: TempDir,
    pub context: PathBuf,
    pub state: Arc<Mutex<State>>,
    pub play: Arc<Play>,
    pub options: Options,
    pub secrets: BTreeMap<String, Vec<u8>>,
    pub downloads: BTreeMap<String, Vec<u8>>,
}

#[derive(Default)]
pub struct State {
    pub images: Vec<Made>,
    pub names: BTreeMap<String, String>,
    pub runs: Vec<RunRequest>,
    pub dropped: usize,
    pub caches: Vec<String>,
    pub cancelled: bool,
}

impl World {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let context = dir.path().join("context");
        std::fs::create_dir(&context).unwrap();
        let play = Arc::new(|_: &Path, _: &RunRequest, _: &mut dyn FnMut(Stream, &[u8])| 0);
        let (secrets, downloads) = (BTreeMap::new(), BTreeMap::new());
        let world = Self {
            dir,
            context,
            state: Arc::default(),
            play,
            options: Options::default(),
            secrets,
            downloads,
        };
        world.image("busybox", Config { cmd: Some(vec!["sh".into()]), ..Config::default() }, |root| {
            std::fs::create_dir(root.join("etc")).unwrap();
            std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n")
                .unwrap();
            std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:44:\nstaff:x:50:\n").unwrap();
        });
        world
    }

    pub fn buildkit() -> Self {
        let mut world = Self::new();
        world.options.mode = Mode::BuildKit;
        world
    }

    /// Registers an image with these files.
    pub fn image(&self, name: &str, config: Config, fill: impl Fn(&Path)) {
        let mut state = self.state.lock().unwrap();
        let id = format!("sha256:{:012x}{:052x}", state.images.len() + 1, 0);
        let root = root_of(self.dir.path(), &id);
        std::fs::create_dir_all(&root).unwrap();
        fill(&root);
        let image = Image { id: id.clone(), config, author: String::new() };
        let (parent, key, created_by) = (String::new(), String::new(), String::new());
        state.images.push(Made { image, parent, key, created_by, empty: false });
        state.names.insert(name.into(), id);
    }

    /// A file of the context.
    pub fn file(&self, path: &str, content: &str) -> PathBuf {
        let path = self.context.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Builds; the lines of the classic builder with ids as letters, and the image.
    pub fn try_build(&self, text: &str) -> (String, Result<Image, BuildError>) {
        let lines = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&lines);
        let mut out = ClassicLines::new(move |line: Line<'_>| match line {
            Line::Stream(text) => sink.lock().unwrap().push_str(&text),
            Line::Log(_, data) => sink.lock().unwrap().push_str(&String::from_utf8_lossy(data)),
            _ => {}
        });
        let result = self.build_to(text, &mut out);
        let lines = lines.lock().unwrap().clone();
        (lines, result)
    }

    pub fn build_to(&self, text: &str, out: &mut dyn Output) -> Result<Image, BuildError> {
        let context = Context { root: Some(self.context.clone()) };
        build(self, &parse(text)?, &self.options, &context, out)
    }

    pub fn build(&self, text: &str) -> Built {
        let (lines, result) = self.try_build(text);
        let image = result.unwrap_or_else(|e| panic!("{e}\n{lines}"));
        Built { root: root_of(self.dir.path(), &image.id), lines, image }
    }

    /// The error of a build that fails.
    pub fn refused(&self, text: &str) -> BuildError {
        self.try_build(text).1.expect_err(text)
    }

    /// How an image came to be, oldest first: what `docker history` shows.
    pub fn history(&self, image: &Image) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let mut history = Vec::new();
        let mut id = image.id.clone();
        while let Some(made) = state.images.iter().find(|made| made.image.id == id && !made.key.is_empty()) {
            history.push(format!("{}{}", made.created_by, if made.empty { " (empty)" } else { "" }));
            id = made.parent.clone();
        }
        history.reverse();
        history
    }

    pub fn runs(&self) -> Vec<RunRequest> {
        self.state.lock().unwrap().runs.clone()
    }

    fn commit_step(&self, step: &Commit<'_>, root: Option<&Path>) -> String {
        let mut state = self.state.lock().unwrap();
        let id = format!("sha256:{:012x}{:052x}", state.images.len() + 1, 0);
        let parent = root_of(self.dir.path(), step.parent);
        let to = root_of(self.dir.path(), &id);
        copy_tree(root.unwrap_or(&parent), &to);
        let empty = root.is_none();
        let image = Image { id: id.clone(), config: step.config.clone(), author: step.author.into() };
        let (parent, key) = (step.parent.to_owned(), step.key.digest());
        state.images.push(Made { image, parent, key, created_by: step.created_by.into(), empty });
        id
    }
}

pub struct Built {
    pub root: PathBuf,
    pub lines: String,
    pub image: Image,
}

impl Built {
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// (mode, uid, gid)
    pub fn stat(&self, path: &str) -> (u32, u32, u32) {
        use std::os::unix::fs::MetadataExt;
        let stat = std::fs::symlink_metadata(self.root.join(path)).unwrap();
        (stat.mode() & 0o7777, stat.uid(), stat.gid())
    }

    /// All paths, sorted.
    pub fn files(&self) -> Vec<String> {
        let out = Command::new("find").arg(".").current_dir(&self.root).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let mut files: Vec<String> =
            text.lines().filter_map(|l| l.strip_prefix("./")).map(str::to_owned).collect();
        files.retain(|f| !f.starts_with("etc"));
        files.sort();
        files
    }
}

fn root_of(dir: &Path, id: &str) -> PathBuf {
    dir.join("images").join(if id.is_empty() { "scratch" } else { &id[7..] })
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    if from.exists() {
        let ok = Command::new("cp").args(["-a", "-T"]).arg(from).arg(to).status().unwrap().success();
        assert!(ok, "cp {from:?} {to:?}");
    }
}

struct Held(PathBuf);

impl Files for Held {
    fn path(&self) -> &Path {
        &self.0
    }
}

/// The world is borrowed by a build only, but workspaces must be `'static`.
struct Space {
    root: PathBuf,
    dir: PathBuf,
    state: Arc<Mutex<State>>,
    play: Arc<Play>,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.state.lock().unwrap().dropped += 1;
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}

impl Workspace for Space {
    fn path(&self) -> &Path {
        &self.root
    }

    fn run(&mut self, command: &RunRequest, log: &mut dyn FnMut(Stream, &[u8])) -> Answer<i32> {
        self.state.lock().unwrap().runs.push(command.clone());
        Ok((self.play)(&self.root, command, log))
    }

    fn commit(&mut self, step: &Commit<'_>) -> Answer<String> {
        let mut state = self.state.lock().unwrap();
        let id = format!("sha256:{:012x}{:052x}", state.images.len() + 1, 0);
        copy_tree(&self.root, &root_of(&self.dir, &id));
        let image = Image { id: id.clone(), config: step.config.clone(), author: step.author.into() };
        let (parent, key) = (step.parent.to_owned(), step.key.digest());
        state.images.push(Made { image, parent, key, created_by: step.created_by.into(), empty: false });
        Ok(id)
    }
}

impl Backend for World {
    fn image(&self, name: &str, _: Option<&Platform>, _: bool, _: &mut dyn FnMut(&str)) -> Answer<Image> {
        let state = self.state.lock().unwrap();
        let id = state.names.get(name).ok_or_else(|| {
            let text = "repository does not exist or may require 'docker login': denied: requested access to the resource is denied";
            BackendError(format!("pull access denied for {name}, {text}"))
        })?;
        Ok(state.images.iter().find(|made| made.image.id == *id).unwrap().image.clone())
    }

    fn cached(&self, step: &Commit<'_>, _: &[String]) -> Answer<Option<Image>> {
        let state = self.state.lock().unwrap();
        let (digest, mut images) = (step.key.digest(), state.images.iter());
        let found = images.find(|made| made.parent == step.parent && made.key == digest);
        Ok(found.map(|made| made.image.clone()))
    }

    fn workspace(&self, parent: &str, id: &str) -> Answer<Box<dyn Workspace>> {
        assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        let root = self.dir.path().join("work").join(id);
        copy_tree(&root_of(self.dir.path(), parent), &root);
        let (dir, state, play) =
            (self.dir.path().to_owned(), Arc::clone(&self.state), Arc::clone(&self.play));
        Ok(Box::new(Space { root, dir, state, play }))
    }

    fn files(&self, image: &str) -> Answer<Box<dyn Files>> {
        let root = root_of(self.dir.path(), image);
        std::fs::create_dir_all(&root)?;
        Ok(Box::new(Held(root)))
    }

    fn commit(&self, step: &Commit<'_>) -> Answer<String> {
        Ok(self.commit_step(step, None))
    }

    fn fetch(&self, url: &str) -> Answer<Download> {
        let content = self
            .downloads
            .get(url)
            .ok_or_else(|| BackendError(format!("failed to GET {url} with status 404")))?;
        Ok(Download {
            name: None,
            modified: Some(1_000_000_000),
            content: Box::new(std::io::Cursor::new(content.clone())),
        })
    }

    fn git(&self, _: &str, _: bool, _: &str) -> Answer<Box<dyn Files>> {
        let root = self.dir.path().join("git");
        std::fs::create_dir_all(&root)?;
        std::fs::write(root.join("README"), "cloned")?;
        Ok(Box::new(Held(root)))
    }

    fn cache(&self, id: &str, _: Sharing, _: &str) -> Answer<Box<dyn Files>> {
        self.state.lock().unwrap().caches.push(id.to_owned());
        let root = self.dir.path().join("caches").join(id.replace('/', "_"));
        std::fs::create_dir_all(&root)?;
        Ok(Box::new(Held(root)))
    }

    fn secret(&self, id: &str) -> Answer<Option<Vec<u8>>> {
        Ok(self.secrets.get(id).cloned())
    }

    fn cancelled(&self) -> bool {
        self.state.lock().unwrap().cancelled
    }

    fn ssh(&self, _: &str) -> Answer<Option<PathBuf>> {
        Ok(Some(self.dir.path().join("agent")))
    }
}

/// Ids and hashes in a text become letters in order of their appearance, so that runs can be compared.
pub fn letters(text: &str) -> String {
    let mut seen: Vec<String> = Vec::new();
    let word = |word: &str| {
        let trimmed = word.trim_end_matches('\n');
        if trimmed.len() != 12 || !trimmed.bytes().all(|b| b.is_ascii_hexdigit()) {
            return word.to_owned();
        }
        let at = seen.iter().position(|s| s == trimmed).unwrap_or_else(|| {
            seen.push(trimmed.to_owned());
            seen.len() - 1
        });
        let letter = char::from(b'A' + u8::try_from(at).unwrap());
        word.replace(trimmed, &letter.to_string())
    };
    let mut word = word;
    text.split_inclusive('\n')
        .map(|line| line.split(' ').map(&mut word).collect::<Vec<_>>().join(" "))
        .collect()
}

/// Events as short texts.
pub fn events(world: &World, text: &str) -> Vec<String> {
    let seen = Mutex::new(Vec::new());
    let mut out = |event: Event<'_>| {
        seen.lock().unwrap().push(match event {
            Event::Started { title, .. } if !title.is_empty() => title.to_owned(),
            Event::Internal(name) => name.to_owned(),
            Event::Image(name) => format!("FROM {name}"),
            Event::Cached(id) => format!("cached {:?}.{}", id.stage.unwrap(), id.step),
            Event::StageDone { stage, .. } => format!("done {stage}"),
            Event::Failed { message, .. } => format!("failed {message}"),
            _ => return,
        });
    };
    _ = world.build_to(text, &mut out);
    seen.into_inner().unwrap()
}
