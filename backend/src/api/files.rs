//! Files of a node: list, read, write, delete, rename. Contents stream through; nothing is kept here. The work is done
//! inside the node, with the rights of the node's root.

use super::{App, Body, Query, node_name};
use crate::{
    auth::Caller,
    error::Error,
    pipe::{ANSWER_WITHIN, Frame, FrameReader, FrameWriter, PipeError},
    sessions::live::Active,
};
use axum::{
    Json,
    body::Body as HttpBody,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Buf, Bytes};
use drydock_protocol::{
    NodeName, SessionId,
    api::{ApiError, Listing},
    pipe::{BINARY, Entry, FileOp, Open, Reply, TEXT},
    state::{Power, Role},
};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Which file.
#[derive(Debug, Deserialize)]
pub struct FileQuery {
    path: String,
    /// 1: as an attachment.
    #[serde(default)]
    download: Option<u8>,
    /// Refuse a larger one.
    #[serde(default)]
    limit: Option<u64>,
    /// Permission bits of a new file or directory, in octal.
    #[serde(default)]
    mode: Option<String>,
    /// When a file was modified, in microseconds since 1970.
    #[serde(default)]
    modified: Option<i64>,
}

impl FileQuery {
    fn mode(&self) -> Result<Option<u32>, Error> {
        let Some(text) = &self.mode else { return Ok(None) };
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        let wrong = || Error::invalid("bad_mode", "'mode' is octal permission bits, such as 644.");
        mode.map(Some).ok_or_else(wrong)
    }
}

/// Which two.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// Old path.
    pub from: String,
    /// New path; must not exist.
    pub to: String,
}

/// A symbolic link.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SymbolicLink {
    /// Its absolute path.
    pub path: String,
    /// What it leads to, whether that is there or not.
    pub target: String,
}

/// The content of a file.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Binary(#[expect(dead_code, reason = "stands in the document only")] Vec<u8>);

/// Longest path, as on Linux.
const MAX_PATH: usize = 4096;
/// Bytes of an upload in one frame.
const PIECE: usize = 128 * 1024;
/// An upload whose sender is silent for so long has failed.
const SILENCE: Duration = Duration::from_secs(60);
/// Connections into a node that is switched off end before the session has heard of it.
const OFF_WITHIN: Duration = Duration::from_millis(500);
/// How much of a refused upload is read so that its sender sees why, and for how long.
const DRAIN_BYTES: usize = 256 << 20;
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

fn check_path(path: &str) -> Result<&str, Error> {
    if path.starts_with('/') && path.len() <= MAX_PATH && !path.contains('\0') {
        return Ok(path);
    }
    Err(Error::invalid("bad_path", "A path begins with / and has at most 4096 bytes."))
}

/// The right to a session's files, and the session awake.
async fn open(
    app: &App,
    caller: &Caller,
    id: &str,
    node: &str,
) -> Result<(SessionId, NodeName, Active), Error> {
    let right = caller.right(&app.sessions, id, Role::Type)?;
    let node = node_name(node)?;
    let active = app.sessions.enter(&right.live, right.counts_for()).await?;
    Ok((right.live.id.clone(), node, active))
}

async fn ask(app: &App, id: &SessionId, node: NodeName, op: FileOp) -> Result<Reply, Error> {
    let work = async {
        let (mut reader, _writer) = app.sessions.sockets.open(id, &Open::File { node, op }).await?;
        reader.reply().await
    };
    match timeout(ANSWER_WITHIN, work).await.unwrap_or(Err(PipeError::Timeout(ANSWER_WITHIN))) {
        Ok(reply) => Ok(reply),
        Err(e) => Err(unless_off(app, id, node, e.into()).await),
    }
}

/// What works on files is a process of the node: if it went with its node, that is why.
async fn unless_off(app: &App, id: &SessionId, node: NodeName, error: Error) -> Error {
    let end = Instant::now() + OFF_WITHIN;
    while error.code == "session_unreachable" && Instant::now() < end {
        let Ok((state, _)) = app.sessions.state(id).await else { return error };
        if !state.nodes.iter().any(|n| n.name == node && n.power == Power::On) {
            return Error::conflict("conflict", format!("The node {node} was switched off meanwhile."));
        }
        sleep(Duration::from_millis(50)).await;
    }
    error
}

/// The header that tells when a file was modified, in microseconds since 1970.
const MODIFIED: &str = "x-modified-micros";
/// The header that tells a file's permission bits, in octal.
const MODE: &str = "x-mode";

fn done(reply: Reply) -> Result<StatusCode, Error> {
    match reply {
        Reply::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(PipeError::Malformed("an answer to another question").into()),
    }
}

/// List a directory.
#[utoipa::path(get, path = "/sessions/{id}/nodes/{node}/files", operation_id = "list_files",
    params(("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$"), ("path" = String, Query, description = "Absolute path", pattern = "^/", max_length = 4096)), responses(
    (status = 200, body = Listing), (status = 400, body = ApiError), (status = 403, body = ApiError),
    (status = 404, body = ApiError), (status = 409, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    Query(q): Query<FileQuery>,
) -> Result<Json<Listing>, Error> {
    let (id, node, _active) = open(&app, &caller, &id, &node).await?;
    let path = check_path(&q.path)?.to_owned();
    match ask(&app, &id, node, FileOp::List { path: path.clone() }).await? {
        Reply::Entries { entries, cut } => Ok(Json(Listing { path, entries, cut })),
        _ => Err(PipeError::Malformed("an answer to another question").into()),
    }
}

/// Read a file.
#[utoipa::path(get, path = "/sessions/{id}/nodes/{node}/file", operation_id = "read_file", params(
    ("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$"), ("path" = String, Query, description = "Absolute path", pattern = "^/", max_length = 4096),
    ("download" = Option<u8>, Query, description = "1: as an attachment"),
    ("limit" = Option<u64>, Query, description = "Refuse a file of more bytes"),
), responses(
    (status = 200, description = "Its content; X-Modified-Micros is its modification time, X-Mode its permission bits in octal", body = Binary, content_type = "application/octet-stream"),
    (status = 400, body = ApiError), (status = 403, body = ApiError), (status = 404, body = ApiError),
    (status = 409, body = ApiError), (status = 410, body = crate::error::Ended), (status = 413, body = ApiError),
))]
pub async fn read(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    Query(q): Query<FileQuery>,
) -> Result<Response, Error> {
    let (id, node, active) = open(&app, &caller, &id, &node).await?;
    let op = FileOp::Read { path: check_path(&q.path)?.to_owned(), limit: q.limit };
    let (mut reader, writer) = app.sessions.sockets.open(&id, &Open::File { node, op }).await?;
    let reply =
        timeout(ANSWER_WITHIN, reader.reply()).await.map_err(|_| PipeError::Timeout(ANSWER_WITHIN))??;
    let Reply::File { entry } = reply else {
        return Err(PipeError::Malformed("an answer to another question").into());
    };
    let headers = file_headers(&entry, &q.path, q.download == Some(1));
    let content = Content { left: entry.size, reader, _writer: writer, _active: active };
    let pieces = futures_util::stream::try_unfold(content, Content::next);
    Ok((headers, HttpBody::from_stream(pieces)).into_response())
}

/// A file's content on its way out. Never longer than was said, whatever the other side sends.
struct Content {
    left: u64,
    reader: FrameReader,
    _writer: FrameWriter,
    _active: Active,
}

impl Content {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, PipeError> {
        match self.reader.next().await? {
            Some(Frame::Binary(mut piece)) => {
                piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= piece.len() as u64;
                Ok(Some((piece, self)))
            }
            Some(Frame::Text(text)) => match serde_json::from_slice(&text) {
                Ok(Reply::Done) => Ok(None),
                Ok(Reply::Error { kind, message }) => Err(PipeError::Refused { kind, message }),
                _ => Err(PipeError::Malformed("an answer that makes no sense")),
            },
            None => Err(PipeError::Closed),
        }
    }
}

fn file_headers(entry: &Entry, path: &str, download: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(entry.size));
    headers.insert(MODIFIED, HeaderValue::from(entry.modified_micros));
    if let Ok(mode) = HeaderValue::from_str(&format!("{:o}", entry.mode)) {
        headers.insert(MODE, mode);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    if download {
        // The name is the learner's: RFC 5987 form, everything but letters and digits escaped.
        let name = path.rsplit('/').next().unwrap_or_default();
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let text = format!("attachment; filename*=UTF-8''{name}");
        let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("attachment"));
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    headers
}

/// Write a file. It appears under its name only when it is complete.
#[utoipa::path(put, path = "/sessions/{id}/nodes/{node}/file", operation_id = "write_file", params(
    ("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$"), ("path" = String, Query, description = "Absolute path", pattern = "^/", max_length = 4096),
    ("mode" = Option<String>, Query, description = "Permission bits of a new file, in octal", pattern = "^[0-7]{1,4}$"),
    ("modified" = Option<i64>, Query, description = "Its modification time in microseconds since 1970; without it: now"),
    ("If-Unmodified-Since-Micros" = Option<i64>, Header, description = "Refuse with 409 if the file was modified at another time"),
    ("If-None-Match" = Option<String>, Header, description = "`*`: refuse with 409 if there is something of that name", pattern = "^[*]$"),
), request_body(content = Binary, content_type = "application/octet-stream"), responses(
    (status = 204, description = "It is there", headers(
        ("X-Modified-Micros" = i64, description = "When it was written: for If-Unmodified-Since-Micros of the next time"),
    )),
    (status = 400, body = ApiError), (status = 403, body = ApiError), (status = 404, body = ApiError),
    (status = 409, body = ApiError), (status = 410, body = crate::error::Ended), (status = 413, body = ApiError),
))]
pub async fn write(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    Query(q): Query<FileQuery>,
    request: Request,
) -> Result<(StatusCode, [(&'static str, HeaderValue); 1]), Error> {
    let mut body = request.into_body();
    let result = try_write(&app, &caller, (&id, &node), &q, &mut body).await;
    if result.is_err() {
        // A browser shows our answer only if it could send all that it had to send.
        drain(&mut body).await;
    }
    Ok((StatusCode::NO_CONTENT, [(MODIFIED, HeaderValue::from(result?.modified_micros))]))
}

async fn try_write(
    app: &App,
    caller: &Caller,
    (id, node): (&str, &str),
    q: &FileQuery,
    body: &mut HttpBody,
) -> Result<Entry, Error> {
    let (id, node, _active) = open(app, caller, id, node).await?;
    let most = app.sessions.config.max_upload.0;
    if header_number(caller.headers(), "content-length")?.is_some_and(|n| n.max(0) as u64 > most) {
        return Err(upload_too_large(most));
    }
    let unless_changed_since_micros = header_number(caller.headers(), "if-unmodified-since-micros")?;
    let only_new = match caller.headers().get(header::IF_NONE_MATCH).map(HeaderValue::as_bytes) {
        None => false,
        Some(b"*") => true,
        Some(_) => return Err(Error::invalid("bad_header", "The header If-None-Match is *.")),
    };
    let mode = q.mode()?.unwrap_or(0o644);
    let path = check_path(&q.path)?.to_owned();
    let op = FileOp::Write { path, mode, unless_changed_since_micros, only_new, modified_micros: q.modified };
    let (mut reader, mut writer) = app.sessions.sockets.open(&id, &Open::File { node, op }).await?;
    // Whatever fails from here on drops the connection, and the other side then deletes what it has.
    let result = tokio::select! {
        biased;
        // An answer before the end can only be a refusal (no space, changed meanwhile).
        reply = reader.reply() => reply.map_err(Error::from),
        sent = send(body, &mut writer, most) => match sent {
            Ok(()) => match timeout(ANSWER_WITHIN, reader.reply()).await {
                Ok(reply) => reply.map_err(Error::from),
                Err(_) => Err(PipeError::Timeout(ANSWER_WITHIN).into()),
            },
            // The other side's reason says more than our broken pipe.
            Err(e) if e.code == "session_unreachable" => match timeout(Duration::from_secs(1), reader.reply()).await {
                Ok(Err(said)) => Err(said.into()),
                _ => Err(e),
            },
            Err(e) => Err(e),
        },
    };
    match result {
        Ok(Reply::File { entry }) => Ok(entry),
        Err(e) => Err(unless_off(app, &id, node, e).await),
        Ok(_) => Err(PipeError::Malformed("an answer to another question").into()),
    }
}

/// Reads on and throws away, within bounds.
async fn drain(body: &mut HttpBody) {
    let all = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    if timeout(DRAIN_WITHIN, all).await.is_err() {
        tracing::debug!("a refused upload was cut off");
    }
}

fn header_number(headers: &HeaderMap, name: &str) -> Result<Option<i64>, Error> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|v| v.trim().parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Error::invalid("bad_header", format!("The header {name} is a whole number.")))
}

async fn send(body: &mut HttpBody, writer: &mut FrameWriter, most: u64) -> Result<(), Error> {
    let broken = || Error::invalid("upload_broken", "The upload broke off; nothing of it was kept.");
    let mut total = 0u64;
    loop {
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| broken())?;
        let Some(frame) = frame else { break };
        let Ok(mut data) = frame.map_err(|_| broken())?.into_data() else { continue };
        total += data.len() as u64;
        if total > most {
            return Err(upload_too_large(most));
        }
        while data.has_remaining() {
            let piece = data.split_to(data.len().min(PIECE));
            writer.frame(BINARY, &piece).await?;
        }
    }
    Ok(writer.frame(TEXT, b"").await?)
}

fn upload_too_large(most: u64) -> Error {
    Error::too_large(format!(
        "The file is larger than {} MiB, the most that may be uploaded here. Nothing of it was kept.",
        most >> 20
    ))
}

/// Delete a file, or a directory with all in it.
#[utoipa::path(delete, path = "/sessions/{id}/nodes/{node}/file", operation_id = "remove_file",
    params(("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$"), ("path" = String, Query, description = "Absolute path", pattern = "^/", max_length = 4096)), responses(
    (status = 204, description = "It is gone"), (status = 400, body = ApiError), (status = 403, body = ApiError),
    (status = 404, body = ApiError), (status = 409, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    Query(q): Query<FileQuery>,
) -> Result<StatusCode, Error> {
    let (id, node, _active) = open(&app, &caller, &id, &node).await?;
    done(ask(&app, &id, node, FileOp::Remove { path: check_path(&q.path)?.to_owned() }).await?)
}

/// Make a directory and its parents.
#[utoipa::path(post, path = "/sessions/{id}/nodes/{node}/files/mkdir", operation_id = "make_directory",
    params(("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$"), ("path" = String, Query, description = "Absolute path", pattern = "^/", max_length = 4096),
    ("mode" = Option<String>, Query, description = "Permission bits of a new directory, in octal", pattern = "^[0-7]{1,4}$")), responses(
    (status = 204, description = "It is there"), (status = 400, body = ApiError), (status = 403, body = ApiError),
    (status = 404, body = ApiError), (status = 409, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn mkdir(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    Query(q): Query<FileQuery>,
) -> Result<StatusCode, Error> {
    let (id, node, _active) = open(&app, &caller, &id, &node).await?;
    let op = FileOp::MakeDir { path: check_path(&q.path)?.to_owned(), mode: q.mode()? };
    done(ask(&app, &id, node, op).await?)
}

/// Make a symbolic link, in the place of another if there is one.
#[utoipa::path(post, path = "/sessions/{id}/nodes/{node}/files/link", operation_id = "make_link",
    params(("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$")), request_body = SymbolicLink, responses(
    (status = 204, description = "It is there"), (status = 400, body = ApiError), (status = 403, body = ApiError),
    (status = 404, body = ApiError), (status = 409, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn link(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    Body(SymbolicLink { path, target }): Body<SymbolicLink>,
) -> Result<StatusCode, Error> {
    let (id, node, _active) = open(&app, &caller, &id, &node).await?;
    check_path(&path)?;
    if target.is_empty() || target.len() >= MAX_PATH || target.contains('\0') {
        return Err(Error::invalid("bad_target", "A link leads to a path of 1 to 4095 bytes."));
    }
    done(ask(&app, &id, node, FileOp::Link { path, target }).await?)
}

/// Rename a file or directory.
#[utoipa::path(post, path = "/sessions/{id}/nodes/{node}/files/rename", operation_id = "rename_file",
    params(("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$")), request_body = Rename, responses(
    (status = 204, description = "It is"), (status = 400, body = ApiError), (status = 403, body = ApiError),
    (status = 404, body = ApiError), (status = 409, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn rename(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    Body(Rename { from, to }): Body<Rename>,
) -> Result<StatusCode, Error> {
    let (id, node, _active) = open(&app, &caller, &id, &node).await?;
    check_path(&from)?;
    check_path(&to)?;
    done(ask(&app, &id, node, FileOp::Rename { from, to }).await?)
}
