//! Contexts of a build: the main one, and those of `--build-context NAME=…`.

use super::{Attributes, Main, Site, blocking, fetch as fetch_files, read_ignore, unpack};
use crate::error::failed;
use crate::scratch::Scratch;
use crate::session::Download;
use crate::vertices::normalise;
use drydock_dockerfile::build::{Answer, Files, NamedContext};
use drydock_dockerfile::language::{Dockerfile, Kind, parse_mount};
use drydock_go::io_text;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Status;

/// Named contexts of one build.
const MAX_CONTEXTS: usize = 100;

/// A named context that the Dockerfile uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name at the client.
    name: String,
    /// What the Dockerfile calls it.
    pub names: BTreeSet<String>,
    address: Address,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    /// A directory of the client.
    Local(String),
    Image(String),
    /// A repository.
    Git(String),
    /// Another build of the same client.
    Input(String),
}

impl Named {
    /// The build whose image it is.
    pub fn input(&self) -> Option<&str> {
        match &self.address {
            Address::Input(id) => Some(id),
            _ => None,
        }
    }
}

/// The main context, except for a directory of the client, of which only some files may be needed.
pub async fn main(site: &Site, attributes: &Attributes, scratch: &Scratch) -> Result<Main, Status> {
    let Some(address) = &attributes.context else { return Ok(Main::Local) };
    if let Some(id) = address.strip_prefix("http://buildkit-session/") {
        let step = site.progress.step("[internal] load remote build context");
        let session = site.sessions.get(&site.session).await?;
        let to = scratch.path().join("context");
        let (target, dockerfile) = (to.clone(), attributes.filename.clone());
        let read = move |archive: &mut dyn std::io::Read| unpack(archive, &target, &dockerfile);
        let uploaded = session.upload(&format!("/{id}"), read).await.map_err(|s| s.message().to_owned());
        step.finish(uploaded).map_err(failed)?;
        return Ok(Main::Uploaded(to));
    }
    let git = is_git(address);
    let files = remote(site, address, attributes.keep_git_dir).await?;
    let reading = if git { "failed to read dockerfile: " } else { "" };
    let files = files.map_err(|e| failed(format!("{reading}failed to load cache key: {e}")))?;
    Ok(Main::Remote(files.path().to_owned(), Mutex::new(files)))
}

/// What a file from a web server is called that is no archive: a Dockerfile without anything beside it (buildkit
/// `frontend/dockerui/context.go`).
pub const ONE_FILE: &str = "context";

/// Whether a context is such a file.
pub fn is_one_file(root: &Path) -> bool {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let names: Vec<_> = entries.take(2).map(|entry| entry.file_name()).collect();
    names.len() == 1 && names[0] == ONE_FILE && root.join(ONE_FILE).is_file()
}

/// Fetched by the engine, and kept as long as the handle is.
async fn remote(site: &Site, address: &str, keep_git_dir: bool) -> Result<Answer<Box<dyn Files>>, Status> {
    let title = match is_git(address) {
        true => format!("[internal] load git source {address}"),
        false => "[internal] load remote build context".into(),
    };
    let step = site.progress.step(&title);
    let (engine, address) = (Arc::clone(&site.engine), address.to_owned());
    let files = blocking(move || engine.remote_context(&address, keep_git_dir)).await?;
    Ok(step.finish(files))
}

fn is_git(address: &str) -> bool {
    address.starts_with("git")
        || address.split(['#', '?']).next().is_some_and(|address| address.ends_with(".git"))
}

/// The named contexts that a Dockerfile uses.
pub fn named(attributes: &Attributes, file: &Dockerfile) -> Result<Vec<Named>, Status> {
    if attributes.contexts.len() > MAX_CONTEXTS {
        return Err(failed("too many named contexts"));
    }
    let used = names(file);
    let mut list = Vec::new();
    for (name, address) in &attributes.contexts {
        let same = |used: &&String| used.as_str() == name || normalise(used) == normalise(name);
        let names: BTreeSet<String> = used.iter().filter(same).cloned().collect();
        if !names.is_empty() {
            list.push(Named { name: name.clone(), names, address: read(name, address, attributes)? });
        }
    }
    Ok(list)
}

fn read(name: &str, text: &str, attributes: &Attributes) -> Result<Address, Status> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(failed(format!("invalid context specifier {text} for {name}")));
    };
    match scheme {
        "docker-image" => Ok(Address::Image(rest.trim_start_matches("//").to_owned())),
        "local" => Ok(Address::Local(rest.to_owned())),
        "git" | "http" | "https" | "ssh" if is_git(text) => Ok(Address::Git(text.to_owned())),
        "input" => {
            let input = attributes.inputs.get(rest);
            let input = input.ok_or_else(|| failed(format!("invalid input {rest} for {name}")))?;
            Ok(Address::Input(input.clone()))
        }
        _ => Err(failed(format!("unsupported context source {scheme} for {name}"))),
    }
}

/// What FROM, COPY --from and RUN --mount=from= name.
fn names(file: &Dockerfile) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for stage in &file.stages {
        names.insert(stage.base.clone());
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Copy(copy) | Kind::Add(copy) => names.extend(copy.from.clone()),
                Kind::Run(run) => {
                    names.extend(run.mounts.iter().filter_map(|mount| parse_mount(mount, None).ok()?.from));
                }
                _ => {}
            }
        }
    }
    names
}

/// Fetches one. `held`: what it is kept by.
pub async fn fetch(
    site: &Site,
    attributes: &Attributes,
    named: &Named,
    scratch: &Scratch,
    image_of: &(dyn Fn(&str) -> Option<String> + Sync),
    held: &Mutex<Vec<Box<dyn Files>>>,
) -> Result<NamedContext, Status> {
    let local = match &named.address {
        Address::Image(image) => return Ok(NamedContext::Image(image.clone())),
        Address::Git(address) => {
            let files = remote(site, address, false).await?;
            let files = files.map_err(|e| failed(format!("failed to load cache key: {e}")))?;
            let path = files.path().to_owned();
            held.lock().unwrap_or_else(PoisonError::into_inner).push(files);
            return Ok(NamedContext::Directory(path));
        }
        Address::Input(id) => {
            let image =
                image_of(id).ok_or_else(|| failed(format!("unknown input of context {}", named.name)))?;
            return Ok(NamedContext::Image(image));
        }
        Address::Local(local) => local,
    };
    let name = &named.name;
    // The directory's name is this side's own, not the client's.
    let directory = tempfile::Builder::new().prefix("named").tempdir_in(scratch.path());
    let directory = directory.map_err(|e| failed(io_text(&e)))?.keep();
    let what =
        Download { name: local.clone(), follow: Some(vec![".dockerignore".into()]), ..Download::default() };
    let title = format!("[context {name}] load .dockerignore");
    let to = directory.join("ignore");
    fetch_files(site, attributes, &title, &what, scratch, &to).await?;
    let what = Download { name: local.clone(), exclude: read_ignore(to).await?, follow: None };
    let to = directory.join("files");
    fetch_files(site, attributes, &format!("[context {name}] load from client"), &what, scratch, &to).await?;
    Ok(NamedContext::Directory(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_dockerfile::language::parse;
    use std::collections::{BTreeMap, HashMap};

    fn attributes(contexts: &[(&str, &str)]) -> Attributes {
        let all: HashMap<_, _> =
            contexts.iter().map(|(k, v)| (format!("context:{k}"), (*v).to_owned())).collect();
        Attributes::read(&all, BTreeMap::from([("in".into(), "ref1".into())])).unwrap()
    }

    #[test]
    fn only_contexts_that_are_used_are_fetched() {
        let file =
            parse("FROM alpine:latest\nCOPY --from=src . /\nRUN --mount=from=tools,target=/t x\nCOPY --from=docs . /d")
                .unwrap();
        let attributes = attributes(&[
            ("alpine", "docker-image://busybox"),
            ("src", "local:src"),
            ("tools", "input:in"),
            ("other", "local:other"),
            ("docs", "https://example.org/docs.git?tag=v1"),
        ]);
        let named = named(&attributes, &file).unwrap();
        let of = |name: &str| named.iter().find(|n| n.name == name);
        assert_eq!(of("alpine").unwrap().address, Address::Image("busybox".into()));
        assert!(of("alpine").unwrap().names.contains("alpine:latest"));
        assert_eq!(of("src").unwrap().address, Address::Local("src".into()));
        assert_eq!(of("tools").unwrap().input(), Some("ref1"));
        let docs = Address::Git("https://example.org/docs.git?tag=v1".into());
        assert_eq!(of("docs").unwrap().address, docs);
        assert!(of("other").is_none());
    }

    #[test]
    fn unknown_addresses_are_refused() {
        let file = parse("FROM a").unwrap();
        for address in ["nothing", "oci-layout://x", "input:missing", "https://example.org/x.tar"] {
            assert!(named(&attributes(&[("a", address)]), &file).is_err(), "{address}");
        }
    }
}
