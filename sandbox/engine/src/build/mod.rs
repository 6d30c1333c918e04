//! `docker build`, the classic way (`POST /build`): a tar with the context comes, lines of output go, and the builder (the
//! dockerfile crate) makes an image step by step with what this module gives it: [`backend`] is the engine as the builder sees
//! it, [`step`] the container of a step, [`cache`] what steps have made before, [`inline`] what images
//! say of the steps that made them, [`records`] what users see of that, [`gc`] what goes by itself, [`download`] what comes from
//! addresses.
//!
//! A build runs in a thread that may block. A client that goes away cancels it; nothing is left of it but the steps that were done.

mod backend;
mod buildkit;
mod cache;
mod download;
mod gc;
mod git_ref;
mod inline;
mod records;
mod request;
mod restore;
mod step;
mod turns;

pub use buildkit::Builder;
pub use cache::Cache;
pub use records::{prune, records};
pub use request::Request;

use crate::engine::Engine;
use crate::error::{Context as _, Error, Result};
use crate::http::{Lines, drain};
use crate::images;
use backend::Node;
use drydock_dockerfile::build::{self, BuildError, ClassicLines, ErrorKind, Line, Stream};
use drydock_dockerfile::files::{Tree, read_dockerfile, unpack_context};
use drydock_dockerfile::language;
use drydock_images::{Digest, Reference};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Ends a build from outside.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    flag: AtomicBool,
    /// Wakes the step that runs a command.
    wake: Notify,
}

impl Cancel {
    fn set(&self) {
        self.flag.store(true, Ordering::Release);
        self.wake.notify_waiters();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Ends when the build is cancelled.
    pub(crate) async fn wait(&self) {
        let woken = self.wake.notified();
        if !self.is_set() {
            woken.await;
        }
    }
}

/// Cancels when it is dropped: with the request of the client.
struct Guard(Arc<Cancel>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// A directory that goes with the build, and the part of it that counts.
pub(crate) struct Scratch {
    whole: PathBuf,
    path: PathBuf,
}

impl Scratch {
    /// Below `/var/lib/docker/tmp`, where the session's quota counts.
    pub(crate) fn new(engine: &Engine, kind: &str) -> Result<Self> {
        let name = format!("{kind}-{}", &crate::containers::names::new_id()[..16]);
        let path = engine.root.join("tmp").join(name);
        fs::create_dir_all(&path).doing(|| format!("mkdir {}", path.display()))?;
        Ok(Self { whole: path.clone(), path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The same with a directory in it as its path.
    fn below(mut self, name: &str) -> Self {
        self.path.push(name);
        self
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = drydock_runtime::clear::tree(&self.whole) {
            tracing::warn!(path = %self.whole.display(), %error, "files of a build stay");
        }
    }
}

/// Builds, and tells lines on the way.
pub async fn build(
    engine: Arc<Engine>,
    request: Request,
    context: impl Read + Send + 'static,
    lines: Lines,
) -> Result<()> {
    let name = request.tags.first().map_or_else(String::new, Reference::familiar);
    let lines = lines.shown(engine.activities.begin(format!("build {name}").trim_end()));
    let cancel = Arc::new(Cancel::default());
    let _cancelled_with_us = Guard(cancel.clone());
    let (held, out) = (engine.clone(), lines.clone());
    let tags = request.tags.clone();
    let quiet = request.quiet;
    let built = tokio::task::spawn_blocking(move || run(&held, request, context, &out, cancel));
    let image = match built.await.map_err(|error| Error::internal(error.to_string()))? {
        Ok(image) => image,
        Err(failure) => return tell_failure(failure, &lines).await,
    };
    if quiet {
        lines.send(&json!({ "stream": format!("{image}\n") })).await?;
    }
    let id = image.parse::<Digest>().map_err(|_| Error::internal(format!("{image} is no image")))?;
    for tag in tags {
        images::tag(&engine, &id, &tag).await?;
        if !quiet {
            lines.send(&json!({ "stream": format!("Successfully tagged {}\n", tag.familiar()) })).await?;
        }
    }
    Ok(())
}

/// Why a build ended without an image, and what was not told because of `q`.
struct Failure {
    error: BuildError,
    untold: Vec<Value>,
    told: bool,
}

async fn tell_failure(failure: Failure, lines: &Lines) -> Result<()> {
    let Failure { error, untold, told } = failure;
    for line in &untold {
        lines.send(line).await?;
    }
    if !told && untold.is_empty() {
        return Err(match error.kind {
            ErrorKind::Invalid => Error::invalid(error.message),
            ErrorKind::Failed | ErrorKind::Cancelled => Error::internal(error.message),
        });
    }
    let mut detail = json!({ "message": error.message });
    if let Some(code) = error.code {
        detail["code"] = json!(code);
    }
    lines.send(&json!({ "errorDetail": detail, "error": error.message })).await
}

/// The whole build, in a thread that may block.
fn run(
    engine: &Arc<Engine>,
    request: Request,
    context: impl Read,
    lines: &Lines,
    cancel: Arc<Cancel>,
) -> std::result::Result<String, Failure> {
    let (mut untold, mut told) = (vec![], false);
    let quiet = request.quiet;
    let done = prepare(engine, &request, context, &cancel).and_then(|(files, file)| {
        let context = build::Context { root: Some(files.path().to_owned()) };
        let node = Node::new(engine.clone(), &request, cancel);
        let mut out = ClassicLines::new(|line: Line<'_>| {
            let line = to_json(line);
            if quiet {
                untold.push(line);
            } else {
                told = true;
                // A client that is gone cancels the build.
                let _gone = lines.send_blocking(&line);
            }
        });
        build::build(&node, &file, &request.options, &context, &mut out)
    });
    done.map(|image| image.id).map_err(|error| Failure { error, untold, told })
}

/// Gets a file that somebody wants to import.
pub async fn fetch(engine: &Arc<Engine>, url: String) -> Result<Box<dyn Read + Send>> {
    let cancel = Arc::new(Cancel::default());
    let _cancelled_with_us = Guard(cancel.clone());
    let engine = engine.clone();
    let got = tokio::task::spawn_blocking(move || download::file(&engine, &url, &cancel));
    Ok(got.await.map_err(|error| Error::internal(error.to_string()))??.content)
}

/// A context from an address: a repository, an archive, or a Dockerfile alone (`builder/remotecontext/detect.go`).
fn remote(engine: &Engine, request: &Request, url: &str, cancel: &Cancel) -> Result<Source> {
    if git_ref::is_git(url) {
        return Ok(Source::Git(download::git(engine, url, false, "", cancel)?));
    }
    let mut file = download::file(engine, url, cancel)?;
    let scratch = Scratch::new(engine, "build")?;
    let (context, whole) = (scratch.path().join("context"), scratch.path().join("file"));
    fs::create_dir(&context).doing(|| "make the context".to_owned())?;
    let mut kept = fs::File::create(&whole).doing(|| "write the context".to_owned())?;
    std::io::copy(&mut file.content, &mut kept).doing(|| format!("read {url}"))?;
    let read = || fs::File::open(&whole).doing(|| format!("read {url}"));
    let tree = Tree::open(&context).doing(|| "open the context".to_owned())?;
    if unpack_context(&mut read()?, &tree, &request.dockerfile).is_err() {
        fs::copy(&whole, context.join("Dockerfile")).doing(|| "write the Dockerfile".to_owned())?;
    }
    Ok(Source::Unpacked(scratch.below("context")))
}

/// Where a build's files are, as long as this is kept.
enum Source {
    /// What was sent or got is unpacked here.
    Unpacked(Scratch),
    /// A repository.
    Git(download::Tree),
}

impl Source {
    fn path(&self) -> &Path {
        match self {
            Self::Unpacked(scratch) => scratch.path(),
            Self::Git(tree) => build::Files::path(tree),
        }
    }
}

/// Brings the context and reads the Dockerfile.
fn prepare(
    engine: &Engine,
    request: &Request,
    mut context: impl Read,
    cancel: &Cancel,
) -> std::result::Result<(Source, language::Dockerfile), BuildError> {
    let failed =
        |error: String| BuildError { message: error, code: None, lines: None, kind: ErrorKind::Failed };
    let source = match &request.remote {
        Some(url) => {
            drain(&mut context);
            remote(engine, request, url, cancel).map_err(|error| failed(error.message))?
        }
        None => {
            let scratch = Scratch::new(engine, "build").map_err(|error| failed(error.message))?;
            let tree = Tree::open(scratch.path()).map_err(|error| failed(error.to_string()))?;
            let unpacked = unpack_context(&mut context, &tree, &request.dockerfile);
            drain(&mut context);
            unpacked.map_err(|error| failed(format!("Error processing tar file: {error}")))?;
            Source::Unpacked(scratch)
        }
    };
    let tree = Tree::open(source.path()).map_err(|error| failed(error.to_string()))?;
    let text = read_dockerfile(&tree, &request.dockerfile).map_err(|error| failed(error.to_string()))?;
    if text.is_empty() {
        let text = format!("the Dockerfile ({}) cannot be empty", request.dockerfile);
        return Err(BuildError { kind: ErrorKind::Invalid, ..failed(text) });
    }
    let file = language::parse(&text)?;
    Ok((source, file))
}

fn to_json(line: Line<'_>) -> Value {
    match line {
        Line::Stream(text) => json!({ "stream": text }),
        Line::Log(Stream::Stdout, data) => json!({ "stream": String::from_utf8_lossy(data) }),
        // Red, as the classic builder shows it.
        Line::Log(Stream::Stderr, data) => {
            json!({ "stream": format!("\u{1b}[91m{}\u{1b}[0m", String::from_utf8_lossy(data)) })
        }
        Line::Aux(id) => json!({ "aux": { "ID": id } }),
        Line::Pull(line) => serde_json::from_str(line).unwrap_or_else(|_| json!({ "status": line })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_classic_builder() {
        assert_eq!(to_json(Line::Aux("sha256:1")), json!({"aux": {"ID": "sha256:1"}}));
        assert_eq!(to_json(Line::Log(Stream::Stdout, b"a\n")), json!({"stream": "a\n"}));
        assert_eq!(to_json(Line::Log(Stream::Stderr, b"b\n")), json!({"stream": "\u{1b}[91mb\n\u{1b}[0m"}));
        assert_eq!(to_json(Line::Pull(r#"{"status":"x","id":"1"}"#)), json!({"status": "x", "id": "1"}));
        assert_eq!(to_json(Line::Pull("text")), json!({"status": "text"}));
    }

    #[tokio::test]
    async fn a_client_that_goes_cancels() {
        let cancel = Arc::new(Cancel::default());
        let guard = Guard(cancel.clone());
        let mut waits = Box::pin(cancel.wait());
        assert!(futures_util::FutureExt::now_or_never(&mut waits).is_none());
        drop(guard);
        waits.await;
        assert!(cancel.is_set());
        cancel.wait().await;
    }
}
