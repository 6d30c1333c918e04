//! The Dockerfile frontend (`dockerfile.v0`): from the attributes of a build request to a [`BuildRequest`].
//!
//! [`prepare`] fetches the Dockerfile and reads it, so that its errors are the frontend's, as in BuildKit; [`Prepared::request`]
//! fetches the files that it needs. Both show steps of their own (`[internal] load …`).

mod attributes;
mod bases;
mod contexts;
mod imports;
mod paths;
mod syntax;

pub use attributes::Attributes;
pub use paths::needed;

use crate::client::BuildClient;
use crate::engine::{BuildEngine, BuildRequest, NetworkMode};
use crate::error::{Source, failed, of_build};
use crate::lint::{self, Known, Warning};
use crate::progress::{Progress, Times};
use crate::proto::control::VertexWarning;
use crate::proto::pb;
use crate::scratch::Scratch;
use crate::session::{Download, Limits, Session, Sessions};
use crate::subrequests;
use contexts::Named;
use drydock_dockerfile::build::{self, BuildError, Context, Files, NamedContext, Options};
use drydock_dockerfile::files::Tree;
use drydock_dockerfile::ignore::Patterns;
use drydock_dockerfile::language::{self, Device, Dockerfile, Kind, Network};
use drydock_dockerfile::{files, ignore};
use drydock_go::io_text;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Bytes of a Dockerfile.
const MAX_DOCKERFILE: u64 = 4 << 20;
/// Bytes of a `.dockerignore`.
const MAX_IGNORE: u64 = 1 << 20;

/// Lets commands use the node's network.
pub const NETWORK_HOST: &str = "network.host";

/// Where a build happens.
#[derive(Clone)]
pub struct Site {
    /// The engine.
    pub engine: Arc<dyn BuildEngine>,
    /// All sessions.
    pub sessions: Arc<Sessions>,
    /// The session of the request.
    pub session: String,
    /// What it may do beyond the usual.
    pub entitlements: Vec<String>,
    /// Its progress.
    pub progress: Progress,
    /// Its end.
    pub cancel: CancellationToken,
}

/// A Dockerfile that was read, and what is needed to build it.
pub struct Prepared {
    site: Site,
    attributes: Attributes,
    scratch: Scratch,
    main: Main,
    /// Patterns of the Dockerfile's own `.dockerignore`, if it has one, or those that a check has needed.
    ignored: Option<Vec<String>>,
    /// The Dockerfile, parsed.
    pub dockerfile: Dockerfile,
    /// Its text, for excerpts.
    pub source: Source,
    /// What is not right with it.
    pub warnings: Vec<Warning>,
    /// Why it can't be built, if only that was asked for; the Dockerfile is an empty one then.
    pub problem: Option<BuildError>,
    /// Options of the build, without named contexts.
    pub options: Options,
    named: Vec<Named>,
    /// Named contexts from the network.
    held: Mutex<Vec<Box<dyn Files>>>,
}

/// The main context.
enum Main {
    /// A directory of the client.
    Local,
    /// Uploaded as an archive; unpacked here.
    Uploaded(PathBuf),
    /// From the network; kept as long as the handle is.
    Remote(PathBuf, #[allow(dead_code, reason = "held, not read")] Mutex<Box<dyn Files>>),
}

impl Main {
    fn root(&self) -> Option<&Path> {
        match self {
            Self::Local => None,
            Self::Uploaded(path) | Self::Remote(path, _) => Some(path),
        }
    }
}

/// Fetches and reads the Dockerfile.
///
/// # Errors
/// BuildKit's, with the lines in question.
pub async fn prepare(site: Site, mut attributes: Attributes) -> Result<Prepared, Status> {
    let scratch = Scratch::make(Arc::clone(&site.engine)).await?;
    let main = contexts::main(&site, &attributes, &scratch).await?;
    if let Main::Remote(root, _) = &main
        && contexts::is_one_file(root)
    {
        attributes.filename = contexts::ONE_FILE.into();
    }
    let (directory, definition) = definition(&site, &attributes, &main, &scratch).await?;
    let name = attributes.filename.clone();
    let (data, own_ignore) = blocking(move || read_definition(&directory, &name)).await?.map_err(failed)?;
    if data.is_empty() {
        return Err(failed("the Dockerfile cannot be empty"));
    }
    let source = Source { name: attributes.filename.clone(), data: data.into() };
    let text = String::from_utf8_lossy(&source.data);
    syntax::check(&site, &attributes, &text, &scratch).await?;
    let mut problem = None;
    let dockerfile = match language::parse(&text).map_err(BuildError::from) {
        Ok(dockerfile) => dockerfile,
        // That is what the client wants to know.
        Err(error) if attributes.request.as_deref() == Some(subrequests::LINT) => {
            problem = Some(error);
            Dockerfile::default()
        }
        Err(error) => return Err(of_build(&error, &source)),
    };
    let mut ignored = own_ignore.map(|text| ignore::read(&text));
    if lint::needs_ignored(&dockerfile, attributes.check.as_deref())? && ignored.is_none() {
        ignored = Some(self::ignored(&site, &attributes, &main, &scratch).await?);
    }
    let mut known = known(&site, &attributes, &dockerfile).await?;
    known.ignored = ignored.as_ref().and_then(|list| Patterns::new(list).ok());
    match build::check_references(&dockerfile, &known.options) {
        Err(error) if attributes.request.as_deref() == Some(subrequests::LINT) => {
            problem.get_or_insert(error);
        }
        result => result.map_err(|e| of_build(&e, &source))?,
    }
    let (warnings, verdict) = lint::check(&dockerfile, attributes.check.as_deref(), &known)?;
    if attributes.request.is_none() {
        warnings.iter().for_each(|warning| site.progress.warning(shown(warning, &definition, &source)));
        verdict?;
    }
    let named = contexts::named(&attributes, &dockerfile)?;
    let options = known.options;
    Ok(Prepared {
        site,
        attributes,
        scratch,
        main,
        ignored,
        dockerfile,
        source,
        warnings,
        problem,
        options,
        named,
        held: Mutex::default(),
    })
}

/// What is known for checks of a file before anything is pulled.
async fn known(site: &Site, attributes: &Attributes, file: &Dockerfile) -> Result<Known, Status> {
    let engine = Arc::clone(&site.engine);
    let worker = blocking(move || engine.worker()).await?;
    let mut options = attributes.options(&worker)?;
    // Only that they are there counts.
    let named = attributes.contexts.keys().map(|name| (name.clone(), NamedContext::Image(String::new())));
    options.contexts.extend(named);
    let (engine, names) = (Arc::clone(&site.engine), lint::base_names(file, &options));
    let environments = blocking(move || {
        names.into_iter().filter_map(|name| engine.environment(&name).map(|found| (name, found))).collect()
    });
    Ok(Known { options, environments: environments.await?, ignored: None })
}

fn shown(warning: &Warning, step: &str, source: &Source) -> VertexWarning {
    let position = |line: usize| pb::Position { line: i32::try_from(line).unwrap_or(0), character: 0 };
    let (start, end) = warning.lines;
    VertexWarning {
        vertex: step.to_owned(),
        level: 1,
        short: warning.short().into_bytes(),
        detail: vec![warning.description.as_bytes().to_vec()],
        url: warning.url.clone(),
        info: Some(pb::SourceInfo {
            filename: source.name.clone(),
            data: source.data.to_vec(),
            language: "Dockerfile".into(),
            definition: None,
        }),
        ranges: vec![pb::Range { start: Some(position(start)), end: Some(position(end)) }],
    }
}

/// Where the Dockerfile is, and the digest of the step that fetched it.
async fn definition(
    site: &Site,
    attributes: &Attributes,
    main: &Main,
    scratch: &Scratch,
) -> Result<(PathBuf, String), Status> {
    let name = &attributes.filename;
    if let Some(root) = main.root().filter(|_| attributes.dockerfile_local.is_none()) {
        return Ok((root.to_owned(), String::new()));
    }
    let local = attributes.dockerfile_local.as_deref().unwrap_or("dockerfile");
    let mut follow = vec![name.clone(), format!("{name}.dockerignore")];
    if let Some(lower) = lower_case(name) {
        follow.push(lower);
    }
    let what = Download { name: local.into(), follow: Some(follow), ..Download::default() };
    let title = format!("[internal] load build definition from {name}");
    let to = scratch.path().join("definition");
    let digest = fetch(site, attributes, &title, &what, scratch, &to).await?;
    Ok((to, digest))
}

/// The Dockerfile, and its own list of ignored files.
fn read_definition(directory: &Path, name: &str) -> Result<(Vec<u8>, Option<String>), String> {
    let tree = Tree::open(directory).map_err(|e| io_text(&e))?;
    let read = |name: &str| tree.read(name, MAX_DOCKERFILE);
    let data = read(name).or_else(|error| match lower_case(name) {
        Some(lower) => read(&lower).map_err(|_| error),
        None => Err(error),
    });
    let data = data.map_err(|e| format!("failed to read dockerfile: open {name}: {}", io_text(&e)))?;
    let own = tree.read(&format!("{name}.dockerignore"), MAX_IGNORE).ok();
    Ok((data, own.map(|text| String::from_utf8_lossy(&text).into_owned())))
}

/// `dockerfile` is looked for where there is no `Dockerfile`.
fn lower_case(name: &str) -> Option<String> {
    let start = name.strip_suffix("Dockerfile")?;
    (start.is_empty() || start.ends_with('/')).then(|| format!("{start}dockerfile"))
}

async fn ignored(
    site: &Site,
    attributes: &Attributes,
    main: &Main,
    scratch: &Scratch,
) -> Result<Vec<String>, Status> {
    if main.root().is_some() {
        return Ok(Vec::new());
    }
    let what = Download {
        name: "context".into(),
        follow: Some(vec![".dockerignore".into()]),
        ..Download::default()
    };
    let to = scratch.path().join("ignore");
    fetch(site, attributes, "[internal] load .dockerignore", &what, scratch, &to).await?;
    read_ignore(to).await
}

async fn read_ignore(directory: PathBuf) -> Result<Vec<String>, Status> {
    let text = blocking(move || Tree::open(&directory)?.read(".dockerignore", MAX_IGNORE)).await?;
    Ok(text.map(|text| ignore::read(&String::from_utf8_lossy(&text))).unwrap_or_default())
}

/// Copies files of the client into a new directory, as a step; its digest.
async fn fetch(
    site: &Site,
    attributes: &Attributes,
    title: &str,
    what: &Download,
    scratch: &Scratch,
    to: &Path,
) -> Result<String, Status> {
    let step = site.progress.step(title);
    let digest = step.digest().to_owned();
    let id = format!("transferring {}:", what.name);
    let times = Times::begin("transferring");
    let mut total = 0;
    let mut shown = std::time::Instant::now();
    let result = async {
        std::fs::create_dir(to).map_err(|e| failed(io_text(&e)))?;
        let session = session_of(site, attributes, &what.name).await?;
        step.status(&id, 0, 0, times);
        let progress = |bytes| {
            total = bytes;
            if shown.elapsed().as_millis() >= 100 {
                shown = std::time::Instant::now();
                step.status(&id, bytes, 0, times);
            }
        };
        let download = session.download(what, scratch.clone(), to, Limits::default(), progress);
        tokio::select! {
            result = download => result,
            () = site.cancel.cancelled() => Err(crate::error::cancelled()),
        }
    }
    .await;
    step.status(&id, total, 0, times.end());
    match result {
        Ok(()) => {
            step.done();
            Ok(digest)
        }
        Err(status) => {
            step.fail(status.message());
            Err(status)
        }
    }
}

/// The session that has a directory: several builds of one `bake` may share one.
async fn session_of(site: &Site, attributes: &Attributes, local: &str) -> Result<Arc<Session>, Status> {
    let id = attributes.local_sessions.get(local).unwrap_or(&site.session);
    site.sessions.get(id).await
}

/// Runs file work where it may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Status::internal("the engine panicked"))
}

impl Prepared {
    /// Who builds it.
    pub fn engine(&self) -> Arc<dyn BuildEngine> {
        Arc::clone(&self.site.engine)
    }

    /// References of other builds whose images this one needs as named contexts.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.named.iter().filter_map(Named::input)
    }

    /// Finds base images and fetches the files that the Dockerfile needs; also which images' layers were shown. `image_of` gives the
    /// image of an input. The directory is kept as long as the request is used: hold on to `self`.
    ///
    /// # Errors
    /// If the client does not give them.
    pub async fn request(
        &self,
        image_of: &(dyn Fn(&str) -> Option<String> + Sync),
    ) -> Result<(BuildRequest, HashSet<String>), Status> {
        let engine = Arc::clone(&self.site.engine);
        let worker = blocking(move || engine.worker()).await?;
        let mut options: Options = self.attributes.options(&worker)?;
        for named in &self.named {
            let context =
                contexts::fetch(&self.site, &self.attributes, named, &self.scratch, image_of, &self.held)
                    .await?;
            for name in &named.names {
                options.contexts.insert(name.clone(), context.clone());
            }
        }
        let session = self.site.sessions.get(&self.site.session).await?;
        self.check_entitlements(&options)?;
        let client = Arc::new(BuildClient::new(session, self.scratch.clone()));
        let found = self.resolve(&options, &client).await?;
        let ignored = match &self.ignored {
            Some(own) => own.clone(),
            None => ignored(&self.site, &self.attributes, &self.main, &self.scratch).await?,
        };
        let imports = self.imports(&client).await?;
        build::check(&self.dockerfile, &options, &found.configs).map_err(|e| of_build(&e, &self.source))?;
        let request = BuildRequest {
            dockerfile: self.dockerfile.clone(),
            context: Context { root: Some(self.context(&options, ignored, found.files).await?) },
            options,
            imports,
            settings: self.attributes.settings.clone(),
            client,
            cancelled: self.site.cancel.clone(),
        };
        Ok((request, found.shown))
    }

    /// Whether commands want what nobody granted.
    fn check_entitlements(&self, options: &Options) -> Result<(), Status> {
        let refused = |name| Err(failed(format!("failed to load LLB: {name} is not allowed")));
        let granted = self.site.entitlements.iter().any(|name| name == NETWORK_HOST);
        let mut host = self.attributes.settings.network == NetworkMode::Host;
        for index in paths::needed(&self.dockerfile, options) {
            for instruction in &self.dockerfile.stages[index].instructions {
                if let Kind::Run(run) = &instruction.kind {
                    host |= run.network == Network::Host;
                    if run.insecure {
                        return refused("security.insecure");
                    }
                    // A node has none; what is not required is left out.
                    if let Some(why) = run.devices.iter().find_map(Device::missing) {
                        return Err(failed(format!("failed to load LLB: {why}")));
                    }
                }
            }
        }
        if host && !granted { refused(NETWORK_HOST) } else { Ok(()) }
    }

    /// The directory of the main context; an empty one if nothing of it is used.
    async fn context(&self, options: &Options, exclude: Vec<String>, all: bool) -> Result<PathBuf, Status> {
        if let Some(root) = self.main.root() {
            return Ok(root.to_owned());
        }
        let to = self.scratch.path().join("context");
        let used = if all { paths::Used::All } else { paths::used(&self.dockerfile, options) };
        if used.is_nothing() {
            std::fs::create_dir(&to).map_err(|e| failed(io_text(&e)))?;
            return Ok(to);
        }
        let what = Download { name: "context".into(), exclude, follow: used.follow() };
        fetch(&self.site, &self.attributes, "[internal] load build context", &what, &self.scratch, &to)
            .await?;
        Ok(to)
    }
}

/// Unpacks an uploaded context; whether it was an archive was the client's to see.
fn unpack(archive: &mut dyn std::io::Read, to: &Path, dockerfile: &str) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    files::unpack_context(archive, &Tree::open(to)?, dockerfile)
}
