//! `drydock cp SRC DST`: copies files and directories between this machine and a node. One side is
//! `SESSION:NODE:/path`. Names that come from a node are checked before they become names here.

use super::{Output, harmless, session::plain};
use crate::client::{Client, check, collect, failure};
use anyhow::{Context, bail, ensure};
use axum::body::Body;
use bytes::Bytes;
use clap::Args;
use drydock_protocol::{NodeName, SessionId, api::Listing, pipe::EntryKind};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::{Method, Request, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tokio::{fs, io::AsyncReadExt, io::AsyncWriteExt};

/// Options of `drydock cp`.
#[derive(Debug, Args)]
pub struct Options {
    /// A file or directory here, or SESSION:NODE:/path.
    source: String,
    /// Where to: a path here, or SESSION:NODE:/path. Into it, if it is a directory.
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
}

/// Runs the command.
pub async fn run(state_dir: &Path, options: Options, output: Output) -> anyhow::Result<()> {
    let client = Client::new(state_dir);
    let mut copied = Copied::default();
    match (remote(&options.source)?, remote(&options.destination)?) {
        (None, Some(to)) => {
            let from = PathBuf::from(&options.source);
            let to = into_directory(&client, to, &from).await?;
            upload(&client, &from, &to, &mut copied).await?;
        }
        (Some(from), None) => {
            let mut to = PathBuf::from(&options.destination);
            if to.is_dir() {
                to.push(last_name(&from.path)?);
            }
            download(&client, &from, &to, &mut copied).await?;
        }
        _ => bail!("one of source and destination must be SESSION:NODE:/path, the other a path here"),
    }
    output.print(&copied, |c| format!("{} files, {} bytes", c.files, c.bytes))
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
    fn address(&self, what: &str) -> String {
        let path = utf8_percent_encode(&self.path, NON_ALPHANUMERIC);
        format!("/sessions/{}/nodes/{}/{what}?path={path}", self.id, self.node)
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
        ensure!(told.is_file(), "{} is neither file nor directory", from.display());
        copied.bytes += upload_file(client, from, to, told.permissions().mode() & 0o7777).await?;
        copied.files += 1;
        return Ok(());
    }
    client.done::<()>(Method::POST, &to.address("files/mkdir"), None).await?;
    let mut entries = fs::read_dir(from).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        let kind = entry.file_type().await?;
        match name.to_str() {
            Some(name) if kind.is_file() || kind.is_dir() => {
                Box::pin(upload(client, &entry.path(), &to.join(name), copied)).await?;
            }
            _ => eprintln!("left out: {} (no plain file or directory)", entry.path().display()),
        }
    }
    Ok(())
}

async fn upload_file(client: &Client, from: &Path, to: &Remote, mode: u32) -> anyhow::Result<u64> {
    let file = fs::File::open(from).await.with_context(|| format!("cannot read {}", from.display()))?;
    let size = file.metadata().await?.len();
    // The size is announced, so no more than it is sent if the file grows meanwhile.
    let pieces = futures_util::stream::try_unfold(file.take(size), async |mut file| {
        let mut piece = vec![0; 128 * 1024];
        let n = file.read(&mut piece).await?;
        piece.truncate(n);
        std::io::Result::Ok((n > 0).then(|| (Bytes::from(piece), file)))
    });
    let request = Request::put(format!("/api/v1{}&mode={mode:o}", to.address("file")))
        .header("host", "localhost")
        .header("content-length", size)
        .body(Body::from_stream(pieces.boxed()))?;
    check(client.send(request).await?).await.with_context(|| format!("{}:{}", to.node, to.path))?;
    Ok(size)
}

async fn download(client: &Client, from: &Remote, to: &Path, copied: &mut Copied) -> anyhow::Result<()> {
    let response = client.send(Client::request::<()>(Method::GET, &from.address("file"), None)?).await?;
    let status = response.status();
    if status.is_success() {
        let temporary = to.with_file_name(format!(
            ".{}.part",
            to.file_name().and_then(|n| n.to_str()).unwrap_or("drydock")
        ));
        let written = write_file(response, &temporary).await;
        let moved = match written {
            Ok(bytes) => fs::rename(&temporary, to).await.map(|()| bytes).map_err(Into::into),
            Err(e) => Err(e),
        };
        if moved.is_err() {
            // Nothing half written stays; if even that fails the first error says more.
            let _ = fs::remove_file(&temporary).await;
        }
        copied.bytes += moved.with_context(|| format!("cannot write {}", to.display()))?;
        copied.files += 1;
        return Ok(());
    }
    let body = collect(response).await?;
    if status != StatusCode::CONFLICT {
        return Err(failure(status, &body).context(format!("{}:{}", from.node, from.path)));
    }
    // "Directory instead of file", or a node that is off: the listing tells which.
    let listing: Listing = client.get(&from.address("files")).await?;
    ensure!(!listing.cut, "{}:{} has more than 10,000 entries: pack it first with tar", from.node, from.path);
    fs::create_dir_all(to).await.with_context(|| format!("cannot make {}", to.display()))?;
    for entry in listing.entries {
        let plain_name = !entry.name.is_empty()
            && entry.name != "."
            && entry.name != ".."
            && !entry.name.contains(['/', '\0']);
        ensure!(plain_name, "the node names a file '{}', which is no name", harmless(&entry.name));
        match entry.kind {
            EntryKind::File | EntryKind::Directory => {
                Box::pin(download(client, &from.join(&entry.name), &to.join(&entry.name), copied)).await?;
            }
            EntryKind::Link | EntryKind::Other => {
                eprintln!("left out: {}/{} (no plain file or directory)", from.path, harmless(&entry.name));
            }
        }
    }
    Ok(())
}

async fn write_file(response: hyper::Response<hyper::body::Incoming>, to: &Path) -> anyhow::Result<u64> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(to).await?;
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.context("the file broke off")?.into_data() {
            file.write_all(&data).await?;
            bytes += data.len() as u64;
        }
    }
    file.flush().await?;
    Ok(bytes)
}
