//! `COPY` and `ADD`.

use super::config::CacheKey;
use super::error::BuildError;
use super::options::Mode;
use super::stage::{Builder, Source};
use crate::files::{self, Copier, CopyOptions, Existing, Kind, ModeChange, Tree};
use crate::glob::{Glob, has_wildcards};
use crate::ignore::Patterns;
use crate::language::go::{clean, quote};
use crate::language::{Copy, InlineFile};
use drydock_go::io_text;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, Write};

type Result<T> = std::result::Result<T, BuildError>;

/// Files that wildcards of one instruction may find.
const MAX_MATCHES: usize = 100_000;
/// Bytes of a here-document with its variables expanded.
const MAX_INLINE: usize = 8 << 20;
/// Bytes of a download.
const MAX_DOWNLOAD: u64 = 8 << 30;

/// BuildKit's words for `--from=$x`.
pub(super) const FROM_VARIABLE: &str = "variable expansion is not supported for --from, define a new stage with FROM using ARG from \
                                        global scope as a workaround";

/// BuildKit's words for a source that is not there. It names what it has looked in by a worker and a random id.
pub(super) fn no_such_source(path: &str) -> String {
    let random = super::stage::random_id().unwrap_or_default();
    let (worker, id) = (random.get(..25).unwrap_or_default(), random.get(25..50).unwrap_or_default());
    let path = quote(path);
    format!(
        "failed to compute cache key: failed to calculate checksum of ref {worker}::{id}: {path}: not found"
    )
}

/// Something to copy.
struct Item {
    what: What,
    /// For the cache.
    hash: String,
    /// `--parents`: directory below the destination.
    below: String,
}

enum What {
    /// A path of the source.
    Path { path: String, directory: bool },
    /// A here-document.
    Inline(InlineFile),
    /// From an address.
    Download { file: File, name: String, modified: i64 },
    /// A repository.
    Git(Source),
}

/// The instruction, expanded.
struct Request<'a> {
    copy: Copy,
    name: &'a str,
    mode: Option<ModeChange>,
    exclude: Patterns,
}

impl Builder<'_> {
    pub fn copy(&mut self, copy: &Copy, name: &str) -> Result<()> {
        let request = self.copy_request(copy, name)?;
        if self.shared.dry {
            return self.check_copy(&request);
        }
        let classic = self.mode() == Mode::Classic;
        let source = match &request.copy.from {
            from @ Some(name) => Some(self.source(from.as_deref()).map_err(|e| match classic {
                true => BuildError { message: format!("invalid from flag value {name}: {e}"), ..e },
                false => e,
            })?),
            None => None,
        };
        let mut items = self.items(&request, source.as_ref()).map_err(|e| match classic {
            true => BuildError { message: format!("{name} failed: {e}"), ..e },
            false => e,
        })?;
        let destination = &request.copy.destination;
        let is_directory =
            destination.ends_with('/') || (!classic && matches!(destination.as_str(), "." | ""));
        if items.len() > 1 && !is_directory && !request.copy.parents {
            return Err(BuildError::invalid(format!(
                "When using {name} with more than one source file, the destination must be a directory and end with a /"
            )));
        }
        let key = self.copy_key(&request, &items);
        if self.cached(&key)? {
            return Ok(());
        }
        let id = super::stage::random_id()?;
        let (mut workspace, tree) = self.workspace(&id)?;
        let owner = match (request.copy.chown.as_str(), &request.copy.from) {
            ("", Some(_)) => None,
            ("", None) => Some((0, 0)),
            (chown, _) => Some(files::resolve_owner(&tree, chown).map_err(|e| {
                BuildError::failed(format!("unable to convert uid/gid chown string to host mapping: {e}"))
            })?),
        };
        let existing = if classic { Existing::Replace } else { Existing::Refuse };
        let options =
            CopyOptions { owner, mode: request.mode.clone(), exclude: request.exclude.clone(), existing };
        let context = match (source, items.iter().any(|i| matches!(i.what, What::Path { .. }))) {
            (None, true) => Some(self.source(None)?),
            (source, _) => source,
        };
        let mut target =
            Target { tree: &tree, copier: Copier::new(&options), request: &request, classic, owner };
        for item in &mut items {
            let directory = self.destination(destination, &item.below);
            let result = target.place(item, context.as_ref().map(|c| &c.tree), &directory);
            result.map_err(|e| {
                let about = if classic { "failed to copy files: " } else { "" };
                BuildError::failed(format!("{about}{}", io_text(&e)))
            })?;
        }
        let created_by = self.created_by(&key, &described(&request));
        let image = workspace.commit(&self.step(&key, "", &created_by, true))?;
        self.image = image;
        Ok(())
    }

    /// What can be said of it before anything runs.
    fn check_copy(&self, request: &Request<'_>) -> Result<()> {
        if let Some(from) = &request.copy.from {
            self.stage_index(from)?;
        }
        request.copy.sources.iter().try_for_each(|source| check_source(request.name, source))
    }

    fn copy_request<'a>(&self, copy: &Copy, name: &'a str) -> Result<Request<'a>> {
        let mut copy = copy.clone();
        for text in [&mut copy.destination, &mut copy.chown, &mut copy.chmod, &mut copy.checksum] {
            *text = self.expand(text)?;
        }
        for text in copy.sources.iter_mut().chain(&mut copy.exclude) {
            *text = self.expand(text)?;
        }
        let mut raw = crate::language::shell::Lexer::new('\\');
        raw.skip_quotes = true;
        raw.max = MAX_INLINE;
        let known = self.variables();
        for file in copy.files.iter_mut().filter(|file| file.expand) {
            file.data = raw.word(&file.data, &known).map_err(BuildError::invalid)?;
        }
        if copy.from.as_ref().is_some_and(|from| raw.word(from, &known).as_ref() != Ok(from)) {
            return Err(BuildError::invalid(FROM_VARIABLE));
        }
        if !copy.checksum.is_empty() {
            let [only] = copy.sources.as_slice() else {
                return Err(BuildError::invalid("checksum can't be specified for multiple sources"));
            };
            if !is_http(only) && !is_git(only) {
                return Err(BuildError::invalid("checksum requires HTTP(S) or Git sources"));
            }
        }
        let mode = match copy.chmod.as_str() {
            "" => None,
            text => Some(ModeChange::parse(text).map_err(BuildError::invalid)?),
        };
        let exclude = Patterns::new(&copy.exclude).map_err(|e| BuildError::invalid(e.to_string()))?;
        Ok(Request { copy, name, mode, exclude })
    }

    fn items(&self, request: &Request<'_>, source: Option<&Source>) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for name in &request.copy.sources {
            if is_git(name) || is_http(name) {
                items.push(self.remote(request, name)?);
                continue;
            }
            match source {
                Some(source) => self.paths(request, &source.tree, name, &mut items)?,
                None => self.paths(request, &self.source(None)?.tree, name, &mut items)?,
            }
        }
        for file in &request.copy.files {
            let hash = format!("file:{}", digest(&[&file.name, &file.data]));
            items.push(Item { what: What::Inline(file.clone()), hash, below: String::new() });
        }
        if items.is_empty() && self.mode() == Mode::Classic {
            return Err(BuildError::failed("no source files were specified"));
        }
        Ok(items)
    }

    fn paths(&self, request: &Request<'_>, tree: &Tree, source: &str, items: &mut Vec<Item>) -> Result<()> {
        let read = |e: io::Error| BuildError::failed(io_text(&e));
        let (pivot, pattern) = match source.split_once("/./") {
            Some((pivot, pattern)) if request.copy.parents => (clean(&format!("/{pivot}")), pattern),
            _ => ("/".to_owned(), source),
        };
        let plain = clean(pattern.trim_start_matches('/'));
        if self.mode() == Mode::Classic && (plain == ".." || plain.starts_with("../")) {
            return Err(BuildError::failed(format!("forbidden path outside the build context: {source} ()")));
        }
        let pattern = clean(&format!("/{pattern}"));
        let found = if has_wildcards(&pattern) {
            expand(tree, &pivot, &pattern, request.copy.parents).map_err(read)?
        } else {
            vec![pattern]
        };
        for relative in found {
            let path = clean(&format!("{pivot}/{relative}"));
            let name = path.rsplit('/').next().unwrap_or_default();
            let Some(kind) = tree.kind(&path).map_err(read)? else {
                return Err(self.missing(request, source));
            };
            let directory = kind == Kind::Directory;
            if !directory && request.exclude.matches(name) {
                continue;
            }
            let hash = files::hash(tree, &path, &request.exclude).map_err(read)?;
            let parent =
                if directory { relative.as_str() } else { relative.rsplit_once('/').map_or("", |(p, _)| p) };
            let below = if request.copy.parents { parent.to_owned() } else { String::new() };
            items.push(Item { what: What::Path { path, directory }, hash, below });
        }
        Ok(())
    }

    fn missing(&self, request: &Request<'_>, source: &str) -> BuildError {
        let plain = source.trim_start_matches('/');
        let plain = plain.strip_prefix("./").unwrap_or(plain);
        BuildError::failed(match (self.mode(), &request.copy.from) {
            (Mode::Classic, None) => {
                format!(
                    "file not found in build context or excluded by .dockerignore: stat {plain}: file does not exist"
                )
            }
            (Mode::Classic, Some(_)) => format!("stat {plain}: file does not exist"),
            (Mode::BuildKit, _) => no_such_source(&clean(&format!("/{source}"))),
        })
    }

    fn remote(&self, request: &Request<'_>, url: &str) -> Result<Item> {
        let (copy, below) = (&request.copy, String::new());
        check_source(request.name, url)?;
        if is_git(url) {
            let keep = copy.keep_git_dir.unwrap_or_default();
            let source = Source::files(self.shared.backend.git(url, keep, &copy.checksum)?)?;
            let hash = files::hash(&source.tree, "/", &Patterns::default())
                .map_err(|e| BuildError::failed(io_text(&e)))?;
            return Ok(Item { what: What::Git(source), hash, below });
        }
        let download = self.shared.backend.fetch(url)?;
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let path =
            path.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        let usable = |name: &&str| !name.is_empty() && !matches!(*name, "." | "..") && !name.contains('/');
        let by_url = path.rsplit('/').next().filter(usable).map(str::to_owned);
        let by_server =
            download.name.as_deref().and_then(|n| n.rsplit('/').next()).filter(usable).map(str::to_owned);
        let name = match by_url.or(by_server) {
            Some(name) => name,
            None if copy.destination.ends_with('/') => {
                return Err(BuildError::failed(format!("cannot determine filename for source {url}")));
            }
            None => "__unnamed__".into(),
        };
        let (file, sum) = keep(download.content)
            .map_err(|e| BuildError::failed(format!("failed to download {url}: {e}")))?;
        let sum = format!("sha256:{sum}");
        if !copy.checksum.is_empty() && copy.checksum != sum {
            return Err(BuildError::failed(format!("digest mismatch {sum}: {}", copy.checksum)));
        }
        let modified = download.modified.unwrap_or(0);
        let hash = format!("file:{}", digest(&[&name, &sum]));
        Ok(Item { what: What::Download { file, name, modified }, hash, below })
    }

    fn copy_key(&self, request: &Request<'_>, items: &[Item]) -> CacheKey {
        let copy = &request.copy;
        let hash = match items {
            [one] => one.hash.clone(),
            items => {
                let all: Vec<&str> = items.iter().map(|item| item.hash.as_str()).collect();
                format!("multi:{}", digest(&[&all.join(",")]))
            }
        };
        let chown = if copy.chown.is_empty() { String::new() } else { format!("--chown={} ", copy.chown) };
        let comment = format!("#(nop) {} {chown}{hash} in {} ", request.name, copy.destination);
        let mut extra = Vec::new();
        if !copy.chmod.is_empty() {
            extra.push(format!("chmod {}", copy.chmod));
        }
        if copy.parents {
            extra.extend(items.iter().map(|item| format!("parents {}", item.below)));
        }
        if let Some(unpack) = copy.unpack {
            extra.push(format!("unpack {unpack}"));
        }
        CacheKey { config: self.nop(vec![comment]), extra }
    }

    /// The destination as a path of the image, with its slash at the end if it has one.
    fn destination(&self, text: &str, below: &str) -> String {
        let joined = if text.starts_with('/') {
            text.to_owned()
        } else {
            format!("/{}/{text}", self.config.working_dir)
        };
        let slash =
            text.ends_with('/') || matches!(text, "" | ".") || text.ends_with("/.") || !below.is_empty();
        let path = clean(&format!("{joined}/{below}"));
        if slash && path != "/" { format!("{path}/") } else { path }
    }
}

/// Where files go.
struct Target<'a> {
    tree: &'a Tree,
    copier: Copier<'a>,
    request: &'a Request<'a>,
    classic: bool,
    owner: Option<(u32, u32)>,
}

impl Target<'_> {
    fn place(&mut self, item: &mut Item, from: Option<&Tree>, destination: &str) -> io::Result<()> {
        match &mut item.what {
            What::Git(source) => self.copier.directory_content(&source.tree, "/", self.tree, destination),
            What::Inline(file) => {
                let (directory, name) = self.split(destination, &file.name)?;
                let modified = now();
                self.copier.write(self.tree, &directory, &name, &mut file.data.as_bytes(), 0o644, modified)
            }
            What::Download { file, name, modified } => {
                file.rewind()?;
                if self.request.copy.unpack == Some(true) && files::is_archive(&mut *file) {
                    file.rewind()?;
                    return self.unpack(file, destination);
                }
                file.rewind()?;
                let (directory, name) = self.split(destination, name)?;
                self.copier.write(self.tree, &directory, &name, file, 0o600, *modified)
            }
            What::Path { path, directory } => {
                let from = from.ok_or_else(|| io::Error::other("missing build context"))?;
                if *directory {
                    return self.copier.directory_content(from, path, self.tree, destination);
                }
                if self.request.copy.unpack.unwrap_or(self.request.name == "ADD")
                    && from.kind(path)? == Some(Kind::File)
                    && files::is_archive(from.open_file(path)?)
                {
                    return self.unpack(&mut from.open_file(path)?, destination);
                }
                let name = path.rsplit('/').next().unwrap_or_default();
                let (directory, name) = self.split(destination, name)?;
                self.copier.file(from, path, self.tree, &directory, &name)
            }
        }
    }

    /// The classic builder leaves the owners of an archive as they are.
    fn unpack(&self, archive: &mut File, destination: &str) -> io::Result<()> {
        let owner = self.owner.filter(|_| !self.classic && !self.request.copy.chown.is_empty());
        files::unpack(archive, self.tree, destination, owner)
    }

    /// Directory and name of a file: below the destination, if that is a directory, else it is the destination.
    fn split(&self, destination: &str, name: &str) -> io::Result<(String, String)> {
        let name = name.rsplit('/').next().unwrap_or(name);
        if destination.ends_with('/') || self.tree.kind(destination)? == Some(Kind::Directory) {
            return Ok((destination.to_owned(), name.to_owned()));
        }
        let (directory, name) = destination.rsplit_once('/').unwrap_or(("", destination));
        Ok((directory.to_owned(), name.to_owned()))
    }
}

/// COPY takes files only.
fn check_source(name: &str, source: &str) -> Result<()> {
    match name {
        "COPY" if is_git(source) => Err(BuildError::invalid("source can't be a git ref for COPY")),
        "COPY" if is_http(source) => Err(BuildError::invalid("source can't be a URL for COPY")),
        _ => Ok(()),
    }
}

/// What a pattern finds below `pivot`, as paths from there.
fn expand(tree: &Tree, pivot: &str, pattern: &str, deep: bool) -> io::Result<Vec<String>> {
    if deep && pattern.contains("**") {
        let glob = Glob::ignore(pattern.trim_start_matches('/')).map_err(io::Error::other)?;
        let mut found = Vec::new();
        walk(
            tree,
            pivot,
            "",
            &mut |path| {
                if glob.matches(path) {
                    found.push(format!("/{path}"))
                }
            },
            0,
        )?;
        return Ok(found);
    }
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for directory in &found {
            if !part.contains(['*', '?', '[', '\\']) {
                let path = format!("{directory}/{part}");
                if tree.kind(&format!("{pivot}/{path}"))?.is_some() {
                    next.push(path);
                }
                continue;
            }
            let glob = Glob::path(part).map_err(io::Error::other)?;
            let here = format!("{pivot}/{directory}");
            if tree.kind(&here)? != Some(Kind::Directory) {
                continue;
            }
            next.extend(
                tree.list(&here)?.iter().filter(|n| glob.matches(n)).map(|n| format!("{directory}/{n}")),
            );
        }
        if next.len() > MAX_MATCHES {
            return Err(io::Error::other("too many files match"));
        }
        found = next;
    }
    Ok(found)
}

/// All files below a directory.
fn walk(tree: &Tree, root: &str, below: &str, each: &mut dyn FnMut(&str), depth: usize) -> io::Result<()> {
    if depth > files::MAX_DEPTH {
        return Err(io::Error::other("directories are nested too deeply"));
    }
    for name in tree.list(&format!("{root}/{below}"))? {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        match tree.link_kind(&format!("{root}/{path}"))? {
            Some(Kind::Directory) => walk(tree, root, &path, each, depth + 1)?,
            _ => each(&path),
        }
    }
    Ok(())
}

/// What BuildKit's history calls it.
fn described(request: &Request<'_>) -> String {
    let copy = &request.copy;
    let mut words = vec![request.name.to_owned()];
    if copy.parents {
        words.push("--parents".into());
    }
    if !copy.chown.is_empty() {
        words.push(format!("--chown={}", copy.chown));
    }
    if !copy.chmod.is_empty() {
        words.push(format!("--chmod={}", copy.chmod));
    }
    words.extend(copy.sources.iter().cloned());
    words.extend(copy.files.iter().map(|file| format!("<<{}", file.name)));
    words.extend([copy.destination.clone(), "# buildkit".into()]);
    words.join(" ")
}

fn is_http(source: &str) -> bool {
    (source.starts_with("http://") || source.starts_with("https://")) && !is_git(source)
}

/// `git@host:…`, `git://…`, `ssh://…`, `https://….git#…`.
fn is_git(source: &str) -> bool {
    let plain = source.split(['#', '?']).next().unwrap_or(source);
    source.starts_with("git://")
        || source.starts_with("ssh://")
        || (source.starts_with("git@") && source.contains(':'))
        || ((plain.starts_with("http://") || plain.starts_with("https://")) && plain.ends_with(".git"))
}

fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    files::hex(&hasher.finalize())
}

/// Writes a download to a file without a name.
fn keep(content: Box<dyn Read + Send>) -> io::Result<(File, String)> {
    let mut file = unnamed_file()?;
    let (mut content, mut hasher, mut total) = (content.take(MAX_DOWNLOAD + 1), Sha256::new(), 0);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let length = content.read(&mut buffer)?;
        if length == 0 {
            return Ok((file, files::hex(&hasher.finalize())));
        }
        total += length as u64;
        if total > MAX_DOWNLOAD {
            return Err(io::Error::other("file too large"));
        }
        hasher.update(&buffer[..length]);
        file.write_all(&buffer[..length])?;
    }
}

fn unnamed_file() -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(std::env::temp_dir(), flags, Mode::from_raw_mode(0o600)) {
        return Ok(File::from(file));
    }
    // Not every file system has such files.
    let path = std::env::temp_dir().join(super::stage::random_id().map_err(io::Error::other)?);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(0)
}
