//! `drydock cp SRC DST`: copies files and directories between this machine and a node, with their modes and the files' times. One side
//! is `SESSION:NODE:/path`. Names that come from a node are checked before they become names here; no symbolic link is made here, since
//! what comes next could be led anywhere by it, and what comes from a node gives nobody here more rights than theirs (setuid).

use super::{
    Output, harmless, printed,
    session::plain,
    target::{Looks, STANDARD, Target},
};
use crate::{
    api::files::SymbolicLink,
    client::{Client, check, collect, failure},
};
use anyhow::{Context, bail, ensure};
use axum::body::Body;
use bytes::Bytes;
use clap::Args;
use drydock_protocol::{NodeName, SessionId, api::Listing, pipe::EntryKind};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Incoming};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::{
    fmt::Display,
    fs::Permissions,
    io::Write,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tokio::{
    fs,
    io::{AsyncRead, AsyncReadExt},
};

/// Bits of a mode that `chmod` sets.
const ALL_BITS: u32 = 0o7777;
/// Those of them that say who may read, write and run.
const RIGHTS: u32 = 0o777;

/// Options of `drydock cp`.
#[derive(Debug, Args)]
pub struct Options {
    /// A file or directory here, or SESSION:NODE:/path; - is standard input.
    source: String,
    /// Where to: a path here, or SESSION:NODE:/path. Into it, if it is a directory; - is standard output.
    destination: String,
}

/// A place in a node.
#[derive(Debug, Clone)]
struct Remote {
    id: SessionId,
    node: NodeName,
    path: String,
}

/// What was done.
#[derive(Debug, Default, serde::Serialize)]
struct Copied {
    files: u64,
    bytes: u64,
    /// Symbolic links made in a node.
    #[serde(skip_serializing_if = "is_zero")]
    links: u64,
    /// Links, pipes, devices, and files whose names can't be told here.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
}

impl Copied {
    fn leave_out(&mut self, path: &dyn Display, why: &str) {
        eprintln!("left out: {path} ({why})");
        self.left_out += 1;
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Runs the command.
pub async fn run(state_dir: &Path, options: Options, output: Output) -> anyhow::Result<()> {
    let client = Client::new(state_dir);
    let mut copied = Copied::default();
    match (remote(&options.source)?, remote(&options.destination)?) {
        (None, Some(to)) if options.source == STANDARD => {
            ensure!(!to.path.ends_with('/'), "standard input has no name: say the destination's");
            copied.bytes = upload_stream(&client, tokio::io::stdin(), &to, None, "mode=644").await?;
            copied.files = 1;
        }
        (None, Some(to)) => {
            let from = PathBuf::from(&options.source);
            let to = into_directory(&client, to, &from).await?;
            upload(&client, &from, &to, &mut copied).await?;
        }
        (Some(from), None) if options.destination == STANDARD => {
            let response = read(&client, &from).await?;
            let response = response
                .context("only a file can be sent there; a directory: pack it with tar, in the node")?;
            // Nothing else may come between.
            return save(response, Path::new(STANDARD)).await.map(drop);
        }
        (Some(from), None) => {
            let mut to = PathBuf::from(&options.destination);
            if to.is_dir() {
                to.push(last_name(&from.path)?);
            }
            let mode = mode_of_directory(&client, &from).await;
            download(&client, &from, &to, mode, &mut copied).await?;
        }
        _ => bail!("one of source and destination must be SESSION:NODE:/path, the other a path here"),
    }
    output.print(&copied, |c| match c.links {
        0 => format!("{} files, {} bytes", c.files, c.bytes),
        links => format!("{} files, {} bytes, {links} links", c.files, c.bytes),
    })?;
    match copied.left_out {
        0 => Ok(()),
        1 => bail!("1 file was left out"),
        n => bail!("{n} files were left out"),
    }
}

/// `SESSION:NODE:/path`, or `None` for a path here.
fn remote(text: &str) -> anyhow::Result<Option<Remote>> {
    let mut parts = text.splitn(3, ':');
    let (Some(id), Some(node), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    let (Ok(id), Ok(node)) = (plain(id), node.parse()) else { return Ok(None) };
    ensure!(path.starts_with('/'), "the path in a node must be absolute: {id}:{node}:/…");
    Ok(Some(Remote { id, node, path: path.to_owned() }))
}

impl Remote {
    fn api(&self, what: &str) -> String {
        format!("/sessions/{}/nodes/{}/{what}", self.id, self.node)
    }
    fn address(&self, what: &str) -> String {
        format!("{}?path={}", self.api(what), utf8_percent_encode(&self.path, NON_ALPHANUMERIC))
    }
    fn join(&self, name: &str) -> Self {
        Self { path: format!("{}/{name}", self.path.trim_end_matches('/')), ..self.clone() }
    }
}

fn last_name(path: &str) -> anyhow::Result<&str> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    ensure!(
        !name.is_empty() && name != "." && name != "..",
        "'{path}' has no name to copy it as: say the destination's"
    );
    Ok(name)
}

async fn into_directory(client: &Client, to: Remote, from: &Path) -> anyhow::Result<Remote> {
    let is_directory = to.path.ends_with('/') || client.get::<Listing>(&to.address("files")).await.is_ok();
    if !is_directory {
        return Ok(to);
    }
    let from = from.canonicalize().with_context(|| format!("cannot read {}", from.display()))?;
    let name = from
        .file_name()
        .and_then(|n| n.to_str())
        .context("the source's name is not UTF-8: say the destination's")?;
    Ok(to.join(name))
}

async fn upload(client: &Client, from: &Path, to: &Remote, copied: &mut Copied) -> anyhow::Result<()> {
    let told = fs::metadata(from).await.with_context(|| format!("cannot read {}", from.display()))?;
    if !told.is_dir() {
        let kind = told.file_type();
        ensure!(!kind.is_socket() && !kind.is_block_device(), "{} is no file to read", from.display());
        copied.bytes += upload_file(client, from, to).await?;
        copied.files += 1;
        return Ok(());
    }
    let make = format!("{}&mode={:o}", to.address("files/mkdir"), told.permissions().mode() & ALL_BITS);
    client.done::<()>(Method::POST, &make, None).await?;
    let mut entries = fs::read_dir(from).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        let kind = entry.file_type().await?;
        let target = if kind.is_symlink() { fs::read_link(entry.path()).await.ok() } else { None };
        match name.to_str() {
            Some(name) if kind.is_file() || kind.is_dir() => {
                Box::pin(upload(client, &entry.path(), &to.join(name), copied)).await?;
            }
            Some(name) if let Some(target) = target.as_deref().and_then(Path::to_str) => {
                let link = SymbolicLink { path: to.join(name).path, target: target.to_owned() };
                client.done(Method::POST, &to.api("files/link"), Some(&link)).await?;
                copied.links += 1;
            }
            Some(_) => copied.leave_out(&entry.path().display(), "no plain file or directory"),
            None => copied.leave_out(&entry.path().display(), "its name is not UTF-8"),
        }
    }
    Ok(())
}

async fn upload_file(client: &Client, from: &Path, to: &Remote) -> anyhow::Result<u64> {
    let file = fs::File::open(from).await.with_context(|| format!("cannot read {}", from.display()))?;
    let told = file.metadata().await?;
    if !told.is_file() {
        return upload_stream(client, file, to, None, "mode=644").await;
    }
    let modified = told.mtime().saturating_mul(1_000_000).saturating_add(told.mtime_nsec() / 1000);
    let looks = format!("mode={:o}&modified={modified}", told.permissions().mode() & ALL_BITS);
    // The size is announced, so no more than it is sent if the file grows meanwhile.
    upload_stream(client, file.take(told.len()), to, Some(told.len()), &looks).await
}

/// Writes a file in a node; how many bytes it has.
async fn upload_stream(
    client: &Client,
    from: impl AsyncRead + Unpin + Send + 'static,
    to: &Remote,
    size: Option<u64>,
    looks: &str,
) -> anyhow::Result<u64> {
    let sent = Arc::new(AtomicU64::new(0));
    let pieces = futures_util::stream::try_unfold((from, sent.clone()), async |(mut from, sent)| {
        let mut piece = vec![0; 128 * 1024];
        let n = from.read(&mut piece).await?;
        piece.truncate(n);
        sent.fetch_add(n as u64, Ordering::Relaxed);
        std::io::Result::Ok((n > 0).then(|| (Bytes::from(piece), (from, sent))))
    });
    let mut request =
        Request::put(format!("/api/v1{}&{looks}", to.address("file"))).header("host", "localhost");
    if let Some(size) = size {
        request = request.header("content-length", size);
    }
    let request = request.body(Body::from_stream(pieces.boxed()))?;
    check(client.send(request).await?).await.with_context(|| format!("{}:{}", to.node, to.path))?;
    Ok(sent.load(Ordering::Relaxed))
}

/// A file of a node; or why it can't be read as one: it is a directory, a device, or the node is off.
async fn read(client: &Client, from: &Remote) -> anyhow::Result<Result<Response<Incoming>, anyhow::Error>> {
    let response = client.send(Client::request::<()>(Method::GET, &from.address("file"), None)?).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(Ok(response));
    }
    let body = collect(response).await?;
    let why = failure(status, &body);
    if status == StatusCode::CONFLICT {
        return Ok(Err(why));
    }
    Err(why.context(format!("{}:{}", from.node, from.path)))
}

/// A file's mode and time, as the answer tells them.
fn looks(headers: &HeaderMap) -> Option<Looks> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let mode = u32::from_str_radix(text("x-mode")?, 8).ok()? & RIGHTS;
    let micros = text("x-modified-micros").and_then(|text| text.parse::<i64>().ok());
    let since = |micros: i64| UNIX_EPOCH.checked_add(Duration::from_micros(u64::try_from(micros).ok()?));
    Some(Looks { mode, modified: micros.and_then(since) })
}

/// Only the list of what is around a directory tells its mode.
async fn mode_of_directory(client: &Client, from: &Remote) -> Option<u32> {
    let (above, name) = from.path.trim_end_matches('/').rsplit_once('/')?;
    let above = Remote { path: format!("{above}/"), ..from.clone() };
    let listing: Listing = client.get(&above.address("files")).await.ok()?;
    let found = listing.entries.iter().find(|e| e.name == name && e.kind == EntryKind::Directory);
    found.map(|entry| entry.mode)
}

/// Puts a file where it shall be; its size.
async fn save(response: Response<Incoming>, to: &Path) -> anyhow::Result<u64> {
    let mut target = Target::open_as(to, looks(response.headers()))?;
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.context("the file broke off")?.into_data() {
            printed(target.write_all(&data))?;
            bytes += data.len() as u64;
        }
    }
    target.finish()?;
    Ok(bytes)
}

/// Copies a file, or a directory, which gets the mode if it is made.
async fn download(
    client: &Client,
    from: &Remote,
    to: &Path,
    mode: Option<u32>,
    copied: &mut Copied,
) -> anyhow::Result<()> {
    let no_file = match read(client, from).await? {
        Ok(response) => {
            copied.bytes +=
                save(response, to).await.with_context(|| format!("cannot write {}", to.display()))?;
            copied.files += 1;
            return Ok(());
        }
        Err(why) => why,
    };
    // Only a directory has a listing.
    let Ok(listing) = client.get::<Listing>(&from.address("files")).await else { return Err(no_file) };
    ensure!(!listing.cut, "{}:{} has more than 10,000 entries: pack it first with tar", from.node, from.path);
    // Whoever may not look into it there does not meanwhile look into it here; the mode comes last, as it may forbid to write.
    let new = !to.is_dir();
    if new {
        let cannot = || format!("cannot make {}", to.display());
        fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).await.with_context(cannot)?;
        let first = if mode.is_some() { 0o700 } else { 0o777 };
        fs::DirBuilder::new().mode(first).create(to).await.with_context(cannot)?;
    }
    for entry in listing.entries {
        let plain_name = !entry.name.is_empty()
            && entry.name != "."
            && entry.name != ".."
            && !entry.name.contains(['/', '\0']);
        ensure!(plain_name, "the node names a file '{}', which is no name", harmless(&entry.name));
        let path = format!("{}/{}", from.path.trim_end_matches('/'), harmless(&entry.name));
        match entry.kind {
            // Stands for what is no UTF-8, and then no file has this name.
            _ if entry.name.contains(char::REPLACEMENT_CHARACTER) => {
                copied.leave_out(&path, "its name is not UTF-8: pack the directory with tar");
            }
            EntryKind::File | EntryKind::Directory => {
                let (from, to) = (from.join(&entry.name), to.join(&entry.name));
                Box::pin(download(client, &from, &to, Some(entry.mode), copied)).await?;
            }
            EntryKind::Link | EntryKind::Other => copied.leave_out(&path, "no plain file or directory"),
        }
    }
    if let Some(mode) = mode.filter(|_| new) {
        fs::set_permissions(to, Permissions::from_mode(mode & RIGHTS)).await?;
    }
    Ok(())
}
