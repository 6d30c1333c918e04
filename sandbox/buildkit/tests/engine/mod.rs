//! An engine for tests: images are directories, commands are run by this machine's shell in the directory of the image.

use drydock_buildkit::{
    BaseImage, BuildEngine, BuildRequest, CacheRecord, ImageOutline, OutlineRequest, Prune, Worker,
};
use drydock_dockerfile::build::{
    Answer, Backend, BackendError, BuildError, Commit, Config, Download, Files, Image, Output, Platform,
    RunRequest, RunSource, Stream, Workspace, build,
};
use drydock_dockerfile::language::Sharing;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

struct Made {
    image: Image,
    parent: String,
    key: String,
}

#[derive(Default)]
struct State {
    made: Vec<Made>,
    names: BTreeMap<String, String>,
    kept: Vec<String>,
}

/// The engine.
pub struct TestEngine(Arc<Inner>);

/// Its state.
pub struct Inner {
    dir: TempDir,
    state: Mutex<State>,
}

impl std::ops::Deref for TestEngine {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl TestEngine {
    /// With an image `busybox`, and `triggers` that has an `ONBUILD COPY`.
    pub fn new() -> Arc<Self> {
        let engine = Inner { dir: TempDir::new().unwrap(), state: Mutex::default() };
        std::fs::create_dir(engine.dir.path().join("scratch")).unwrap();
        let config = Config { cmd: Some(vec!["sh".into()]), ..Config::default() };
        engine.image("busybox", config);
        engine.image(
            "triggers",
            Config { on_build: Some(vec!["COPY f /from-trigger".into()]), ..Config::default() },
        );
        Arc::new(Self(Arc::new(engine)))
    }
}

impl Inner {
    fn image(&self, name: &str, config: Config) {
        let mut state = self.state.lock().unwrap();
        let id = id(state.made.len() + 1);
        let root = self.root(&id);
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/name"), name).unwrap();
        let image = Image { id: id.clone(), config, author: String::new() };
        state.made.push(Made { image, parent: String::new(), key: String::new() });
        state.names.insert(format!("docker.io/library/{name}"), id);
    }

    fn root(&self, image: &str) -> PathBuf {
        self.dir.path().join("images").join(if image.is_empty() { "scratch" } else { &image[7..] })
    }

    /// The files of a named image.
    #[allow(dead_code, reason = "not every user looks")]
    pub fn root_of(&self, name: &str) -> PathBuf {
        let id = self.state.lock().unwrap().names.get(name).cloned();
        self.root(&id.unwrap_or_else(|| panic!("no image {name}")))
    }

    /// Images that were kept.
    #[allow(dead_code, reason = "not every user looks")]
    pub fn kept(&self) -> Vec<String> {
        self.state.lock().unwrap().kept.clone()
    }

    /// What is left of running builds.
    #[allow(dead_code, reason = "not every user looks")]
    pub fn scratch_files(&self) -> usize {
        self.dir.path().join("scratch").read_dir().unwrap().count()
    }

    fn commit(&self, step: &Commit<'_>, root: &Path) -> String {
        let mut state = self.state.lock().unwrap();
        let id = id(state.made.len() + 1);
        copy_tree(root, &self.root(&id));
        let image = Image { id: id.clone(), config: step.config.clone(), author: step.author.into() };
        state.made.push(Made { image, parent: step.parent.into(), key: step.key.digest() });
        id
    }

    fn find(&self, name: &str) -> Option<Image> {
        let state = self.state.lock().unwrap();
        let full = format!("docker.io/library/{}", name.trim_end_matches(":latest"));
        let id = state.names.get(&full).or_else(|| state.names.get(name));
        let found = state.made.iter().find(|made| made.image.id == name || Some(&made.image.id) == id);
        found.map(|made| made.image.clone())
    }
}

fn id(number: usize) -> String {
    format!("sha256:{number:012x}{:052x}", 0)
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    if from.exists() {
        assert!(Command::new("cp").args(["-a", "-T"]).arg(from).arg(to).status().unwrap().success());
    }
}

impl BuildEngine for TestEngine {
    fn worker(&self) -> Worker {
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
        Worker {
            id: "test".into(),
            platforms: vec![platform],
            buildkit_version: "v0.25.1".into(),
            ..Worker::default()
        }
    }

    fn scratch(&self) -> Answer<PathBuf> {
        Ok(self.dir.path().join("scratch"))
    }

    fn resolve(&self, base: &BaseImage, _: &mut dyn FnMut(&str)) -> Answer<Config> {
        let found = self.find(&base.name).ok_or_else(|| BackendError("pull access denied".into()))?;
        Ok(found.config)
    }

    fn outline(&self, import: &OutlineRequest) -> Answer<ImageOutline> {
        let found = self.find(&import.name);
        let found = found.ok_or_else(|| BackendError(format!("{}: not found", import.name)))?;
        Ok(ImageOutline { registry: None, config: serde_json::to_vec(&found.config).unwrap() })
    }

    fn with_inline_cache(&self, image: &str) -> Answer<String> {
        Ok(image.to_owned())
    }

    fn environment(&self, image: &str) -> Option<Vec<String>> {
        self.find(image).map(|found| found.config.env)
    }

    fn build(&self, request: &BuildRequest, out: &mut dyn Output) -> Result<Image, BuildError> {
        build(
            &Run { engine: Arc::clone(&self.0), request },
            &request.dockerfile,
            &request.options,
            &request.context,
            out,
        )
    }

    fn keep(&self, image: &str) -> Answer<()> {
        self.state.lock().unwrap().kept.push(image.to_owned());
        Ok(())
    }

    fn tag(&self, image: &str, name: &str) -> Answer<()> {
        if name.contains("refused") {
            return Err(BackendError("invalid reference format".into()));
        }
        self.state.lock().unwrap().names.insert(name.to_owned(), image.to_owned());
        Ok(())
    }

    fn files(&self, image: &str) -> Answer<Box<dyn Files>> {
        Ok(Box::new(Held(self.root(image))))
    }

    fn remote_context(&self, url: &str, _: bool) -> Answer<Box<dyn Files>> {
        Err(BackendError(format!("no route to {url}")))
    }

    fn disk_usage(&self, _: &[String]) -> Answer<Vec<CacheRecord>> {
        let state = self.state.lock().unwrap();
        let record = |made: &Made| CacheRecord {
            id: made.image.id[7..32].to_owned(),
            size: 1000,
            kind: "regular".into(),
            ..CacheRecord::default()
        };
        Ok(state.made.iter().map(record).collect())
    }

    fn prune(&self, prune: &Prune) -> Answer<Vec<CacheRecord>> {
        if prune.all { self.disk_usage(&[]) } else { Ok(Vec::new()) }
    }
}

/// One build.
struct Run<'a> {
    engine: Arc<Inner>,
    request: &'a BuildRequest,
}

struct Held(PathBuf);

impl Files for Held {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Backend for Run<'_> {
    fn image(&self, name: &str, _: Option<&Platform>, _: bool, _: &mut dyn FnMut(&str)) -> Answer<Image> {
        self.engine.find(name).ok_or_else(|| BackendError("pull access denied".into()))
    }

    fn cached(&self, step: &Commit<'_>, _: &[String]) -> Answer<Option<Image>> {
        let (state, digest) = (self.engine.state.lock().unwrap(), step.key.digest());
        let mut made = state.made.iter();
        Ok(made.find(|m| m.parent == step.parent && m.key == digest).map(|m| m.image.clone()))
    }

    fn workspace(&self, parent: &str, id: &str) -> Answer<Box<dyn Workspace>> {
        let root = self.engine.dir.path().join("work").join(id);
        copy_tree(&self.engine.root(parent), &root);
        let cancelled = self.request.cancelled.clone();
        Ok(Box::new(Space { root, engine: Arc::clone(&self.engine), cancelled }))
    }

    fn files(&self, image: &str) -> Answer<Box<dyn Files>> {
        let root = self.engine.root(image);
        std::fs::create_dir_all(&root)?;
        Ok(Box::new(Held(root)))
    }

    fn commit(&self, step: &Commit<'_>) -> Answer<String> {
        Ok(self.engine.commit(step, &self.engine.root(step.parent)))
    }

    fn fetch(&self, url: &str) -> Answer<Download> {
        Err(BackendError(format!("no route to {url}")))
    }

    fn git(&self, url: &str, _: bool, _: &str) -> Answer<Box<dyn Files>> {
        Err(BackendError(format!("no route to {url}")))
    }

    fn cache(&self, id: &str, _: Sharing, _: &str) -> Answer<Box<dyn Files>> {
        let root = self.engine.dir.path().join("caches").join(id.replace('/', "_"));
        std::fs::create_dir_all(&root)?;
        Ok(Box::new(Held(root)))
    }

    fn secret(&self, id: &str) -> Answer<Option<Vec<u8>>> {
        self.request.client.secret(id)
    }

    fn ssh(&self, id: &str) -> Answer<Option<PathBuf>> {
        self.request.client.ssh(id)
    }

    fn cancelled(&self) -> bool {
        self.request.cancelled.is_cancelled()
    }
}

/// The container of a step.
struct Space {
    root: PathBuf,
    engine: Arc<Inner>,
    cancelled: tokio_util::sync::CancellationToken,
}

impl Drop for Space {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}

impl Space {
    /// Puts contents of mounts where the command expects them.
    fn mount(&self, command: &RunRequest) {
        for mount in &command.mounts {
            let target = self.root.join(mount.target.trim_start_matches('/'));
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            match &mount.source {
                RunSource::Content { data, .. } => std::fs::write(&target, data).unwrap(),
                RunSource::Socket { path, .. } | RunSource::Bind { path, .. } => {
                    std::os::unix::fs::symlink(path, &target).unwrap();
                }
                RunSource::Tmpfs { .. } => std::fs::create_dir(&target).unwrap(),
            }
        }
    }

    fn unmount(&self, command: &RunRequest) {
        for mount in &command.mounts {
            _ = std::fs::remove_file(self.root.join(mount.target.trim_start_matches('/')));
        }
    }
}

impl Workspace for Space {
    fn path(&self) -> &Path {
        &self.root
    }

    fn run(&mut self, command: &RunRequest, log: &mut dyn FnMut(Stream, &[u8])) -> Answer<i32> {
        self.mount(command);
        let env = command.env.iter().filter_map(|e| e.split_once('='));
        let mut child = Command::new(&command.argv[0])
            .args(&command.argv[1..])
            .current_dir(&self.root)
            .envs(env)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let cancelled = self.cancelled.clone();
        let mut lines = stdout.split(b'\n');
        // `sleep` of a test says nothing, so wait for the end of the output on a thread.
        let (send, lines_of) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                _ = send.send(line);
            }
        });
        loop {
            match lines_of.recv_timeout(std::time::Duration::from_millis(20)) {
                Ok(mut line) => {
                    line.push(b'\n');
                    log(Stream::Stdout, &line);
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(_) if cancelled.is_cancelled() => {
                    let group = rustix::process::Pid::from_child(&child);
                    _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                Err(_) => {}
            }
        }
        reader.join().unwrap();
        let status = child.wait()?;
        self.unmount(command);
        Ok(status.code().unwrap_or(137))
    }

    fn commit(&mut self, step: &Commit<'_>) -> Answer<String> {
        Ok(self.engine.commit(step, &self.root))
    }
}
