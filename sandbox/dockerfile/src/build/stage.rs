//! One stage: its base image, then its instructions, each of which makes an image or finds one in the cache.

use super::args::Args;
use super::backend::{Backend, Commit, Files, Image, Platform, Turn, Workspace};
use super::config::{CacheKey, Config, DEFAULT_PATH};
use super::error::{BuildError, ErrorKind};
use super::options::{Context, Mode, NamedContext, Options};
use super::output::{Event, StepId};
use super::plan::Plan;
use super::told::makes_layer;
use crate::files::Tree;
use crate::language::go::quote;
use crate::language::shell::{Lexer, Variables, variables};
use crate::language::{self, Kind, Stage};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes of all ENV, LABEL, ARG … of an image.
pub(super) const MAX_VALUES: usize = 4 << 20;

/// What all stages of a build have in common.
pub(super) struct Shared<'a> {
    pub backend: &'a dyn Backend,
    pub options: &'a Options,
    pub context: &'a Context,
    pub plan: &'a Plan,
    pub escape: char,
    pub emit: &'a (dyn Fn(Event<'_>) + Sync),
    /// Nothing is run or written: only what can be said before is said.
    pub dry: bool,
}

/// The images of the stages that are done, and the ARGs that they declared.
pub(super) struct Results(Mutex<Vec<Option<(Image, Args)>>>);

impl Results {
    pub fn new(stages: usize) -> Self {
        Self(Mutex::new(vec![None; stages]))
    }

    pub fn get(&self, index: usize) -> Option<Image> {
        self.done(index).map(|(image, _)| image)
    }

    fn done(&self, index: usize) -> Option<(Image, Args)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned().flatten()
    }

    fn set(&self, index: usize, image: Image, args: Args) {
        if let Some(slot) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            *slot = Some((image, args));
        }
    }
}

/// A stage while it is built.
pub(super) struct Builder<'a> {
    pub shared: &'a Shared<'a>,
    results: &'a Results,
    pub index: usize,
    pub id: StepId,
    /// What the image will have.
    pub config: Config,
    pub author: String,
    /// CMD was given in this stage, so ENTRYPOINT leaves it.
    pub cmd_set: bool,
    /// The image so far, the parent of the next; empty for scratch.
    pub image: String,
    pub args: Args,
    platform: Option<Platform>,
    /// A step was not in the cache, so none after it is.
    cache_missed: bool,
    /// Nothing is looked up.
    no_cache: bool,
    /// The right to make the step that is being made.
    turn: Option<Turn>,
    /// What BuildKit calls the step; empty if it does not show it.
    pub title: String,
    /// Steps that BuildKit has numbered so far, the FROM of an image among them, and of how many it speaks.
    pub shown: usize,
    pub counted: usize,
}

/// Builds a stage; the ARGs that it declared.
pub(super) fn build(shared: &Shared<'_>, results: &Results, index: usize) -> Result<Args, BuildError> {
    let name = shared.plan.stages[index].name.as_deref();
    let filtered = |stage: &String| name.is_some_and(|name| name.eq_ignore_ascii_case(stage));
    let no_cache = shared.options.no_cache || shared.options.no_cache_stages.iter().any(filtered);
    let mut builder = Builder {
        shared,
        results,
        index,
        id: StepId { stage: Some(index), ..StepId::default() },
        config: Config::default(),
        author: String::new(),
        cmd_set: false,
        image: String::new(),
        args: shared.plan.args.of_stage(),
        platform: None,
        cache_missed: no_cache,
        no_cache,
        turn: None,
        title: String::new(),
        shown: 1,
        counted: 1,
    };
    builder.stage().inspect_err(|error| {
        (shared.emit)(Event::Failed { id: builder.id, message: &error.message });
    })?;
    Ok(builder.args)
}

impl<'a> Builder<'a> {
    pub fn mode(&self) -> Mode {
        self.shared.options.mode
    }

    pub fn emit(&self, event: Event<'_>) {
        (self.shared.emit)(event);
    }

    fn stage(&mut self) -> Result<(), BuildError> {
        let plan = self.shared.plan;
        let stage = &plan.stages[self.index];
        if let Some(name) = &stage.name
            && plan.find(name, false).is_some_and(|first| first < self.index)
            && self.mode() == Mode::Classic
        {
            return Err(
                BuildError::failed(format!("{name} stage name already used")).at(stage.line..=stage.line)
            );
        }
        self.counted += stage.instructions.iter().filter(|i| makes_layer(i)).count();
        self.started(&stage.source);
        self.from().map_err(|e| e.at(stage.line..=stage.line))?;
        for (at, instruction) in stage.instructions.iter().enumerate() {
            if self.shared.backend.cancelled() {
                self.emit(Event::Note("Build cancelled"));
                return Err(BuildError {
                    kind: ErrorKind::Cancelled,
                    ..BuildError::failed("Build cancelled")
                });
            }
            self.id = StepId { step: at + 1, trigger: 0, ..self.id };
            self.begin(instruction);
            self.dispatch(instruction).map_err(|e| e.at(instruction.line..=instruction.last_line))?;
            if self.config.size() + self.args.size() > MAX_VALUES {
                return Err(BuildError::invalid("image configuration is too large")
                    .at(instruction.line..=instruction.last_line));
            }
            self.done();
        }
        self.emit(Event::StageDone { stage: self.index, image: &self.image });
        let image =
            Image { id: self.image.clone(), config: self.config.clone(), author: self.author.clone() };
        self.results.set(self.index, image, self.args.clone());
        Ok(())
    }

    fn done(&mut self) {
        self.turn = None;
        self.emit(Event::Done { id: self.id, image: &self.image });
    }

    // === FROM

    fn from(&mut self) -> Result<(), BuildError> {
        let stage = &self.shared.plan.stages[self.index];
        let globals = self.args.globals();
        let own = platform(stage, &globals, self.shared.escape)?;
        self.platform = own.or_else(|| self.shared.options.platform.clone());
        let name = base_name(stage, &globals, self.shared.escape)?;
        let image = self.base(&name)?;
        self.config = image.config;
        (self.image, self.author) = (image.id, image.author);
        if !self.config.env.iter().any(|e| e.starts_with("PATH=")) {
            self.config.env.push(DEFAULT_PATH.into());
        }
        for stdin in ["OpenStdin", "StdinOnce"] {
            self.config.other.remove(stdin);
        }
        let triggers = self.config.on_build.take().unwrap_or_default();
        match self.mode() {
            // Here they are parts of the FROM.
            Mode::Classic => {
                self.triggers(&triggers)?;
                self.done();
            }
            Mode::BuildKit => {
                self.done();
                self.triggers(&triggers)?;
            }
        }
        Ok(())
    }

    fn base(&mut self, name: &str) -> Result<Image, BuildError> {
        let earlier = self.shared.plan.find(name, false).filter(|stage| *stage < self.index);
        if let Some((image, args)) = earlier.and_then(|stage| self.results.done(stage)) {
            if self.mode() == Mode::BuildKit {
                self.args.inherit(&args);
            }
            self.is_no_image();
            return Ok(image);
        }
        if name == "scratch" {
            self.is_no_image();
            return Ok(Image::default());
        }
        if let Some(NamedContext::Image(image)) = self.shared.options.contexts.get(name) {
            // BuildKit counts it among the steps and does not number it.
            self.shown -= 1;
            return self.pulled(&image.clone());
        }
        self.pulled(name)
    }

    /// The stage begins with no image of its own: its FROM is no step.
    fn is_no_image(&mut self) {
        self.shown -= 1;
        self.counted -= 1;
    }

    fn pulled(&self, name: &str) -> Result<Image, BuildError> {
        let mut log = |line: &str| self.emit(Event::Pull { id: self.id, line });
        let image =
            self.shared.backend.image(name, self.platform.as_ref(), self.shared.options.pull, &mut log);
        image.map_err(|e| match self.mode() {
            Mode::Classic => e.into(),
            Mode::BuildKit => BuildError::failed(format!("{name}: {e}")),
        })
    }

    /// What the base image wants to be run here.
    fn triggers(&mut self, triggers: &[String]) -> Result<(), BuildError> {
        if triggers.is_empty() {
            return Ok(());
        }
        self.emit(Event::Triggers(triggers.len()));
        // BuildKit counts them all, those too that make no layers.
        self.counted += triggers.len();
        for (at, trigger) in triggers.iter().enumerate() {
            // The lines of the error are those of the FROM.
            let unread = |error| BuildError { lines: None, ..BuildError::from(error) };
            let instructions = language::parse_instructions(trigger).map_err(unread)?;
            let [instruction] = instructions.as_slice() else {
                return Err(BuildError::failed("onbuild trigger should be a single expression"));
            };
            if matches!(instruction.kind, Kind::Onbuild(_) | Kind::Maintainer(_)) {
                return Err(BuildError::failed("onbuild trigger should be a single expression"));
            }
            if self.mode() == Mode::Classic {
                self.dispatch(instruction)?;
                continue;
            }
            self.id.trigger = at + 1;
            self.begin(instruction);
            self.dispatch(instruction)?;
            self.done();
        }
        Ok(())
    }

    // === Variables

    /// What `$name` is here.
    pub fn variables(&self) -> Variables {
        let mut env = variables(&self.config.env);
        let mut args = self.args.visible(&env);
        if self.mode() == Mode::BuildKit {
            // To commands it gives the others too; instructions know what was declared.
            self.args.retain_declared(&mut args);
        }
        env.extend(args);
        env
    }

    pub fn lexer(&self) -> Lexer {
        Lexer::new(self.shared.escape)
    }

    pub fn expand(&self, text: &str) -> Result<String, BuildError> {
        self.lexer().word(text, &self.variables()).map_err(BuildError::invalid)
    }

    // === Images

    /// Looks a step up; true: it was found and is the image now. One that another build is making is waited for, as BuildKit does
    /// (its `docs/dev/solver.md`).
    pub fn cached(&mut self, key: &CacheKey) -> Result<bool, BuildError> {
        if self.shared.dry {
            return Ok(true);
        }
        let step = self.step(key, "", "", false);
        let mut waited = false;
        let turn = if self.mode() == Mode::BuildKit && !self.no_cache {
            let (turn, other) = self.shared.backend.turn(&step)?;
            waited = other;
            Some(turn)
        } else {
            None
        };
        if self.cache_missed && !waited {
            self.turn = turn;
            return Ok(false);
        }
        let found = self.shared.backend.cached(&step, &self.shared.options.cache_from)?;
        self.cache_missed = found.is_none();
        self.turn = turn.filter(|_| found.is_none());
        if let Some(image) = found {
            self.image = image.id;
            self.emit(Event::Cached(self.id));
            return Ok(true);
        }
        Ok(false)
    }

    /// A step that changes the configuration only.
    pub fn commit(&mut self, comment: &str, created_by: &str) -> Result<(), BuildError> {
        let key = CacheKey { config: self.nop(vec!["#(nop) ".into(), comment.into()]), extra: Vec::new() };
        if self.cached(&key)? {
            return Ok(());
        }
        let container = self.running()?;
        let created_by = self.created_by(&key, created_by);
        let step = self.step(&key, &container, &created_by, false);
        self.image = self.shared.backend.commit(&step)?;
        self.removed(&container, true);
        Ok(())
    }

    /// The configuration with what a step does in the place of its command.
    pub fn nop(&self, words: Vec<String>) -> Config {
        let mut config = self.config.clone();
        let mut cmd = config.shell();
        cmd.extend(words);
        config.cmd = Some(cmd);
        config
    }

    pub fn created_by(&self, key: &CacheKey, buildkit: &str) -> String {
        match self.mode() {
            Mode::Classic => key.config.cmd.as_deref().unwrap_or_default().join(" "),
            Mode::BuildKit => buildkit.to_owned(),
        }
    }

    pub fn step<'s>(
        &'s self,
        key: &'s CacheKey,
        container: &'s str,
        created_by: &'s str,
        keep_empty: bool,
    ) -> Commit<'s> {
        Commit {
            parent: &self.image,
            config: &self.config,
            key,
            container,
            author: &self.author,
            created_by,
            title: &self.title,
            comment: if self.mode() == Mode::BuildKit { "buildkit.dockerfile.v0" } else { "" },
            keep_empty: keep_empty && self.mode() == Mode::BuildKit,
            platform: self.platform.as_ref(),
        }
    }

    /// A new container's id, told to the client.
    pub fn running(&self) -> Result<String, BuildError> {
        let id = random_id()?;
        self.emit(Event::Running { id: self.id, container: &id });
        Ok(id)
    }

    /// It is gone; not told of a failed one (which Docker leaves there) unless that is wished.
    pub fn removed(&self, container: &str, succeeded: bool) -> bool {
        let options = self.shared.options;
        let removed = match options.mode {
            Mode::Classic => options.force_remove || (succeeded && !options.keep_containers),
            // It has no containers of anybody's.
            Mode::BuildKit => true,
        };
        if removed {
            self.emit(Event::Removed { id: self.id, container });
        }
        removed
    }

    pub fn workspace(&self, id: &str) -> Result<(Box<dyn Workspace>, Tree), BuildError> {
        let workspace = self.shared.backend.workspace(&self.image, id)?;
        let tree = Tree::open(workspace.path())
            .map_err(|e| BuildError::failed(format!("failed to open root: {e}")))?;
        Ok((workspace, tree))
    }

    // === Files of others

    /// The files that `--from` names, or those of the context.
    pub fn source(&self, from: Option<&str>) -> Result<Source, BuildError> {
        let Some(from) = from else {
            let root = self.shared.context.root.clone();
            return Source::directory(root.ok_or_else(|| BuildError::failed("missing build context"))?);
        };
        match self.shared.options.contexts.get(from) {
            Some(NamedContext::Directory(path)) => return Source::directory(path.clone()),
            Some(NamedContext::Image(image)) => return self.image_source(&self.pulled(image)?.id),
            None => {}
        }
        if let Some(index) = self.stage_index(from)? {
            let image = match self.results.get(index) {
                Some(image) => image,
                // Only a trigger of the base image can name a stage that nothing else needs.
                None => {
                    build(self.shared, self.results, index)?;
                    self.results.get(index).unwrap_or_default()
                }
            };
            return self.image_source(&image.id);
        }
        let image = match from {
            "scratch" => Image::default(),
            name => self.pulled(name)?,
        };
        self.image_source(&image.id)
    }

    /// The earlier stage that a `--from` names, if it names one.
    ///
    /// # Errors
    /// If it names one that is not earlier.
    pub fn stage_index(&self, from: &str) -> Result<Option<usize>, BuildError> {
        let classic = self.mode() == Mode::Classic;
        let found = self.shared.plan.find(from, false).or_else(|| from.parse().ok());
        let count = self.shared.plan.stages.len();
        match found {
            Some(index) if index < self.index => Ok(Some(index)),
            Some(index) if classic && from.parse::<usize>().is_ok() => {
                Err(BuildError::failed(if index == self.index {
                    "refers to current build stage"
                } else {
                    "index out of bounds"
                }))
            }
            Some(_) if classic => Ok(None),
            Some(index) if index >= count => Err(BuildError::invalid(format!("invalid stage index {index}"))),
            Some(_) => {
                let stage = &self.shared.plan.stages[self.index];
                let name = stage.name.clone().unwrap_or_else(|| format!("stage-{}", self.index));
                let (from, name) = (quote(from), quote(&name));
                Err(BuildError::invalid(format!(
                    "cannot copy from stage {from}, it needs to be defined before current stage {name}"
                )))
            }
            None => Ok(None),
        }
    }

    fn image_source(&self, image: &str) -> Result<Source, BuildError> {
        Source::files(self.shared.backend.files(image)?)
    }
}

/// The image or stage that a stage begins with.
pub(super) fn base_name(stage: &Stage, globals: &Variables, escape: char) -> Result<String, BuildError> {
    let name = Lexer::new(escape).word(&stage.base, globals).map_err(BuildError::invalid)?;
    if name.is_empty() {
        return Err(BuildError::invalid(format!("base name ({}) should not be blank", stage.base)));
    }
    Ok(name)
}

/// `--platform` of a stage.
pub(super) fn platform(
    stage: &Stage,
    globals: &Variables,
    escape: char,
) -> Result<Option<Platform>, BuildError> {
    let Some(text) = &stage.platform else { return Ok(None) };
    let failed = |what: &str, why| BuildError::invalid(format!("failed to {what}: {why}"));
    let arguments = |why| failed(&format!("process arguments for platform {text}"), why);
    let name = Lexer::new(escape).word(text, globals).map_err(arguments)?;
    if name.is_empty() {
        return Err(BuildError::invalid(format!("empty platform value from expression {text}")));
    }
    parse_platform(&name).map(Some).map_err(|why| failed(&format!("parse platform {text}"), why))
}

/// Files to copy from or to mount.
pub(super) struct Source {
    pub tree: Tree,
    pub path: PathBuf,
    /// Keeps an image mounted.
    _held: Option<Box<dyn Files>>,
}

impl Source {
    fn directory(path: PathBuf) -> Result<Self, BuildError> {
        let tree = open(&path)?;
        Ok(Self { tree, path, _held: None })
    }

    pub fn files(files: Box<dyn Files>) -> Result<Self, BuildError> {
        let path = files.path().to_owned();
        Ok(Self { tree: open(&path)?, path, _held: Some(files) })
    }
}

fn open(path: &Path) -> Result<Tree, BuildError> {
    Tree::open(path).map_err(|e: io::Error| BuildError::failed(format!("failed to open files: {e}")))
}

/// 64 hexadecimal digits.
pub(super) fn random_id() -> Result<String, BuildError> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty())
        .map_err(|e| BuildError::failed(format!("no random numbers: {e}")))?;
    Ok(crate::files::hex(&bytes))
}

/// `linux/arm64/v8`, `arm64`, `linux` (containerd's platforms.Parse).
pub(super) fn parse_platform(text: &str) -> Result<Platform, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let valid = |part: &&str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.()".contains(c))
    };
    if !parts.iter().all(valid) || parts.len() > 3 {
        let text = quote(text);
        return Err(format!(
            "{text} is an invalid OS component of {text}: OSAndVersion specifier component must match"
        ));
    }
    let architecture = |name: &str| {
        match name.to_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" => "386",
            other => return other.to_owned(),
        }
        .to_owned()
    };
    let host = architecture(std::env::consts::ARCH);
    let known_os = ["linux", "darwin", "windows", "freebsd", "wasi", "wasip1"];
    let (os, architecture, variant) = match parts.as_slice() {
        [os] if known_os.contains(&os.to_lowercase().as_str()) => (os.to_lowercase(), host, ""),
        [arch] => ("linux".to_owned(), architecture(arch), ""),
        [os, arch] => (os.to_lowercase(), architecture(arch), ""),
        [os, arch, variant, ..] => (os.to_lowercase(), architecture(arch), *variant),
        [] => return Err(format!("{} is invalid", quote(text))),
    };
    Ok(Platform { os, architecture, variant: variant.to_owned() })
}
