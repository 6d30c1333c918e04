//! `list`: from a snapshot of the store, in pieces that are made while the client takes them.

use super::call::Call;
use super::get;
use super::options::{ListOptions, Match};
use super::select::Selection;
use super::table;
use crate::custom::conversion;
use crate::http::body;
use crate::http::negotiate::{Encoding, Shape};
use crate::http::respond::{self, Answer, Style};
use crate::resource::Resource;
use crate::storage::{self, Naming, keys};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use drydock_apimachinery::{Status, ordered};
use drydock_etcd::{Error, KeyRange, Record};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;

/// A list is sent in pieces of about this size.
const PIECE: usize = 128 * 1024;

/// How many records are looked at in one go before others get their turn.
const TURN: usize = 512;

/// What a list tells of itself.
#[derive(Debug, Default)]
struct Head {
    revision: i64,
    continue_: String,
    remaining: Option<usize>,
}

/// Answers with the objects that the selectors want.
pub async fn list(call: &Call) -> Result<Answer, Status> {
    let options = ListOptions::new(&call.query, false)?;
    let selection = Selection::new(&call.query, &call.resource)?;
    let (head, records) = find(call, &options, &selection).await?;
    answer(call, head, records)
}

/// The list, and namespace and name of each object of it, for `deletecollection`.
pub async fn for_deletion(call: &Call) -> Result<(Answer, Vec<(String, String)>), Status> {
    let options = ListOptions::new(&call.query, false)?;
    let selection = Selection::new(&call.query, &call.resource)?;
    let (head, records) = find(call, &options, &selection).await?;
    let names = records.iter().filter_map(|record| {
        let mut parts = std::str::from_utf8(&record.key).ok()?.rsplit('/');
        let name = parts.next()?.to_string();
        Some((parts.next()?.to_string(), name))
    });
    let names = names.collect();
    Ok((answer(call, head, records)?, names))
}

fn answer(call: &Call, head: Head, records: Vec<Arc<Record>>) -> Result<Answer, Status> {
    let writer = Writer::new(call, head, records)?;
    if call.style.output.encoding != Encoding::Json || call.style.pretty {
        let whole: Vec<u8> = writer.flat_map(|piece| piece.to_vec()).collect();
        return Ok(respond::json(StatusCode::OK, whole, call.style));
    }
    Ok(send(writer, call.style))
}

/// Sends it at once if it is short, else piece by piece.
fn send(mut writer: Writer, style: Style) -> Answer {
    let first = writer.next().unwrap_or_default();
    if writer.is_done() && (first.len() < respond::GZIP_FROM || !style.gzip) {
        return respond::bytes(StatusCode::OK, "application/json", first);
    }
    if !style.gzip {
        let pieces = futures_util::stream::iter(std::iter::once(first).chain(writer));
        return respond::streamed("application/json", body::stream(pieces));
    }
    let pieces = futures_util::stream::iter(Gzip::new(std::iter::once(first).chain(writer)));
    let mut answer = respond::streamed("application/json", body::stream(pieces));
    respond::gzipped(answer.headers_mut());
    answer
}

/// Compresses pieces one by one.
struct Gzip<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Gzip<I> {
    fn new(pieces: I) -> Self {
        Self { pieces, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Gzip<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let encoder = self.encoder.as_mut()?;
            let Some(piece) = self.pieces.next() else {
                return self.encoder.take()?.finish().ok().map(Bytes::from);
            };
            // Writing to memory does not fail.
            encoder.write_all(&piece).ok()?;
            if !encoder.get_ref().is_empty() {
                return Some(std::mem::take(encoder.get_mut()).into());
            }
        }
    }
}

/// The records of a list, as the options want them.
async fn find(
    call: &Call,
    options: &ListOptions,
    selection: &Selection,
) -> Result<(Head, Vec<Arc<Record>>), Status> {
    let resource = &call.resource;
    let namespace = match call.namespace() {
        "" => selection.namespace().filter(|_| resource.namespaced).unwrap_or_default(),
        namespace => namespace,
    };
    let prefix = keys::prefix(resource, namespace);
    let (at, start) = place(call, options, &prefix).await?;
    let keys = match (&start, selection.name()) {
        (Some(start), _) => KeyRange::rest(prefix.as_bytes(), start.clone()),
        (None, Some(name)) if !resource.namespaced || !namespace.is_empty() => {
            KeyRange::key(keys::of(resource, namespace, name))
        }
        _ => KeyRange::prefix(prefix.clone()),
    };
    let revision = at.unwrap_or_else(|| call.server.store.revision());
    let query = drydock_etcd::Query { at: Some(revision), ..drydock_etcd::Query::default() };
    let found = call.server.store.range(&keys, &query).map_err(|error| gone(error, options, &prefix))?;
    let mut records = found.records;
    if !selection.is_everything() {
        records = conversion::records(&call.server, resource, records).await?;
    }
    let (records, more, remaining) = choose(records, resource, options, selection).await;
    // Of all there are, no more are converted than are told.
    let records = conversion::records(&call.server, resource, records).await?;
    let mut head = Head { revision, ..Head::default() };
    if let (true, Some(last)) = (more, records.last()) {
        head.continue_ = continue_token(&last.key, &prefix, revision);
        head.remaining = remaining;
    }
    Ok((head, records))
}

/// At which revision, and from which key on (none: from the first).
async fn place(
    call: &Call,
    options: &ListOptions,
    prefix: &str,
) -> Result<(Option<i64>, Option<String>), Status> {
    if !options.continue_.is_empty() {
        if options.resource_version.is_some_and(|revision| revision != 0) {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(why));
        }
        let (start, revision) = read_token(&options.continue_, prefix)?;
        // -1: the token of an answer that said "expired, but go on with this".
        return Ok(((revision > 0).then_some(revision), Some(start)));
    }
    let exact = options.version_match == Some(Match::Exact)
        // As tradition has it: a limit with a version means that version.
        || (options.version_match.is_none() && options.limit > 0);
    match options.resource_version {
        None => {
            get::newest(call)?;
            Ok((None, None))
        }
        Some(0) => Ok((None, None)),
        Some(revision) => {
            get::not_older_than(call, revision).await?;
            Ok((exact.then_some(revision), None))
        }
    }
}

/// Those that are wanted, up to the limit; whether there are more; how many, if that is known.
async fn choose(
    all: Vec<Arc<Record>>,
    resource: &Resource,
    options: &ListOptions,
    selection: &Selection,
) -> (Vec<Arc<Record>>, bool, Option<usize>) {
    let everything = selection.is_everything();
    if everything {
        let mut all = all;
        if options.limit == 0 || all.len() <= options.limit {
            return (all, false, None);
        }
        let remaining = all.len() - options.limit;
        all.truncate(options.limit);
        return (all, true, Some(remaining));
    }
    let mut chosen = Vec::new();
    for (index, record) in all.into_iter().enumerate() {
        if index % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        if !selection.matches(&record, resource) {
            continue;
        }
        if options.limit > 0 && chosen.len() == options.limit {
            return (chosen, true, None);
        }
        chosen.push(record);
    }
    (chosen, false, None)
}

/// A continue token (`pkg/storage/continue.go`).
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

fn continue_token(last: &[u8], prefix: &str, revision: i64) -> String {
    let last = String::from_utf8_lossy(last);
    let start = format!("/{}\0", last.strip_prefix(prefix).unwrap_or(&last));
    token(start, revision)
}

fn token(start: String, rv: i64) -> String {
    let token = Token { v: "meta.k8s.io/v1".into(), rv, start };
    // Strings and a number: it can't fail.
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn read_token(text: &str, prefix: &str) -> Result<(String, i64), Status> {
    let wrong = |why: String| Status::bad_request(format!("invalid continue token: {why}"));
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|error| {
        use base64::DecodeError::{InvalidByte, InvalidLastSymbol};
        let at = match error {
            InvalidByte(at, _) | InvalidLastSymbol(at, _) => at,
            _ => text.len(),
        };
        wrong(format!("continue key is not valid: illegal base64 data at input byte {at}"))
    })?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|_| {
        // As Go's decoder words it, for what is no JSON at all.
        let first = String::from_utf8_lossy(&bytes).chars().next().unwrap_or('\u{fffd}');
        wrong(format!(
            "continue key is not valid: invalid character '{first}' looking for beginning of value"
        ))
    })?;
    match token {
        Token { v, .. } if v != "meta.k8s.io/v1" => Err(wrong(format!(
            "continue key is not valid: server does not recognize this encoded version {v}"
        ))),
        Token { rv: 0, .. } => Err(wrong(
            "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
                .into(),
        )),
        Token { start, .. } if start.is_empty() => {
            Err(wrong("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)".into()))
        }
        // Nobody may leave the collection by a crafted key.
        Token { start, .. } if start.contains("/../") || start.contains("//") || start.contains("/./") => {
            Err(wrong(format!("continue key is not valid: {start}")))
        }
        Token { start, rv, .. } => Ok((format!("{prefix}{}", start.trim_start_matches('/')), rv)),
    }
}

/// The revision is no longer kept (`pkg/storage/etcd3/errors.go`).
fn gone(error: Error, options: &ListOptions, prefix: &str) -> Status {
    if !matches!(error, Error::Compacted { .. }) {
        return Status::internal(error);
    }
    if options.continue_.is_empty() {
        return Status::expired("The resourceVersion for the provided list is too old.");
    }
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    );
    if let Ok((start, _)) = read_token(&options.continue_, prefix) {
        let start = format!("/{}", start.strip_prefix(prefix).unwrap_or(&start));
        status.metadata.continue_ = token(start, -1);
    }
    status
}

/// Writes a list, piece by piece.
struct Writer {
    resource: Arc<Resource>,
    records: std::vec::IntoIter<Arc<Record>>,
    shape: Shape,
    table: Option<table::Options>,
    now: Timestamp,
    /// What comes before the items; taken with the first piece.
    head: Option<Vec<u8>>,
    is_first: bool,
    done: bool,
}

impl Writer {
    fn new(call: &Call, head: Head, records: Vec<Arc<Record>>) -> Result<Self, Status> {
        let shape = call.style.output.shape;
        let table = match shape {
            Shape::Table(version) => Some(table::Options::new(&call.query, version)?),
            _ => None,
        };
        let order = call.resource.builtin_kind().and_then(|kind| kind.row_order).filter(|_| table.is_some());
        let mut records = records;
        if let Some(order) = order {
            // What is no object is left out later.
            records.sort_by_cached_key(|record| storage::decode(record).map_or(0, |tree| order(&tree)));
        }
        Ok(Self {
            head: Some(opening(&call.resource, &head, shape, table.as_ref())),
            resource: call.resource.clone(),
            records: records.into_iter(),
            shape,
            table,
            now: Timestamp::now(),
            is_first: true,
            done: false,
        })
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn item(&self, out: &mut Vec<u8>, record: &Record) -> Result<(), Status> {
        let revision = record.mod_revision;
        let naming = if self.resource.custom().is_some() { Naming::Full } else { Naming::Item };
        if self.shape == Shape::Object {
            return storage::object::write(out, record, &self.resource, revision, naming);
        }
        let mut tree = storage::decode(record)?;
        tree = self.resource.load(tree);
        let shaped = match (self.shape, &self.table) {
            (Shape::Metadata(version), _) => table::metadata_of(tree, version),
            (_, Some(options)) => table::row(&self.resource, tree, options, self.now),
            _ => tree,
        };
        ordered::write(out, &shaped);
        Ok(())
    }
}

/// Everything before the first item.
fn opening(resource: &Resource, head: &Head, shape: Shape, table: Option<&table::Options>) -> Vec<u8> {
    let (kind, api_version) = match shape {
        Shape::Object => (&*resource.list_kind, resource.api_version.clone()),
        Shape::Table(version) => ("Table", format!("meta.k8s.io/{version}")),
        Shape::Metadata(version) => ("PartialObjectMetadataList", format!("meta.k8s.io/{version}")),
    };
    let mut out = Vec::with_capacity(4096);
    let _infallible = write!(
        out,
        "{{\"kind\":{kind:?},\"apiVersion\":{api_version:?},\"metadata\":{{\"resourceVersion\":\"{}\"",
        head.revision
    );
    if !head.continue_.is_empty() {
        let _infallible = write!(out, ",\"continue\":{:?}", head.continue_);
    } else if resource.custom().is_some() && shape == Shape::Object {
        // Lists of custom resources say that there is no more.
        out.extend_from_slice(b",\"continue\":\"\"");
    }
    if let Some(remaining) = head.remaining {
        let _infallible = write!(out, ",\"remainingItemCount\":{remaining}");
    }
    out.push(b'}');
    match table {
        Some(options) => {
            let definitions = if options.no_headers { Value::Null } else { table::columns(resource) };
            let _infallible = write!(out, ",\"columnDefinitions\":{definitions},\"rows\":[");
        }
        None => out.extend_from_slice(b",\"items\":["),
    }
    out
}

impl Iterator for Writer {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = self.head.take().unwrap_or_else(|| Vec::with_capacity(PIECE + 16 * 1024));
        while out.len() < PIECE {
            let Some(record) = self.records.next() else {
                self.done = true;
                out.extend_from_slice(b"]}\n");
                break;
            };
            let before = out.len();
            if !self.is_first {
                out.push(b',');
            }
            match self.item(&mut out, &record) {
                Ok(()) => self.is_first = false,
                // Somebody wrote nonsense to the store past us: the others must stay visible.
                Err(error) => {
                    tracing::error!(%error, "left out of a list");
                    out.truncate(before);
                }
            }
        }
        Some(out.into())
    }
}
