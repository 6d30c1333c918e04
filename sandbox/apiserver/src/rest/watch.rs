//! `watch`: what happens to a collection, told line by line. A watch is polled by its connection: nothing runs and nothing is kept
//! for a client that does not read. One that falls too far behind is told so (`Expired`) and lists again.

use super::call::Call;
use super::get;
use super::options::ListOptions;
use super::select::Selection;
use super::table;
use crate::custom::conversion;
use crate::http::body;
use crate::http::negotiate::Shape;
use crate::http::respond::{self, Answer};
use crate::resource::Resource;
use crate::server::Server;
use crate::storage::{self, Naming, keys};
use bytes::Bytes;
use drydock_apimachinery::{Status, object, ordered};
use drydock_etcd::{Error, Event, EventKind, KeyRange, Record, Watcher};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between bookmarks (`defaultBookmarkFrequency`).
const BOOKMARKS: Duration = Duration::from_secs(60);

/// A watch that does not say how long it wants to last gets this, or up to twice as long (`--min-request-timeout`).
const SHORTEST: u64 = 1800;

/// Lines are sent in pieces of at most about this size.
const PIECE: usize = 64 * 1024;

/// Answers with a stream of events.
pub async fn watch(call: &Call) -> Result<Answer, Status> {
    let options = ListOptions::new(&call.query, true)?;
    let mut selection = Selection::new(&call.query, &call.resource)?;
    if call.info.watch_by_path && !call.info.name.is_empty() {
        selection.require_name(&call.info.name);
    }
    let table = match call.style.output.shape {
        Shape::Table(version) => Some(table::Options::new(&call.query, version)?),
        _ => None,
    };
    let encoder = Encoder {
        resource: call.resource.clone(),
        shape: call.style.output.shape,
        table,
        headers_told: false,
    };
    let deadline = Instant::now() + lifetime(&options);
    let stream = match begin(call, &options, &selection).await {
        Ok((initial, watcher)) => Stream {
            server: call.server.clone(),
            encoder,
            selection,
            initial: initial.into_iter(),
            is_initial: true,
            watcher,
            deadline,
            next_bookmark: options.bookmarks.then(|| Instant::now() + BOOKMARKS),
            tells_end: options.bookmarks && options.send_initial_events == Some(true),
            revision: call.server.store.revision(),
            is_over: false,
        },
        // From here on, refusals are events.
        Err(status) => return Ok(respond::streamed("application/json", body::full(error_line(&status)))),
    };
    let lines = futures_util::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((piece, stream))
    });
    Ok(respond::streamed("application/json", body::stream(lines)))
}

fn lifetime(options: &ListOptions) -> Duration {
    match options
        .timeout_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
    {
        // A day more than anybody waits.
        Some(seconds) => Duration::from_secs(seconds.min(86_400)),
        None => {
            let mut byte = [0u8];
            // Without random bytes all watches last equally long, which does no harm.
            let _spread = getrandom::fill(&mut byte);
            Duration::from_secs(SHORTEST + SHORTEST * u64::from(byte[0]) / 256)
        }
    }
}

/// What there is, if the client wants to begin with it, and the watch from there on.
async fn begin(
    call: &Call,
    options: &ListOptions,
    selection: &Selection,
) -> Result<(Vec<Arc<Record>>, Watcher), Status> {
    let resource = &call.resource;
    let namespace = match call.namespace() {
        "" => selection.namespace().filter(|_| resource.namespaced).unwrap_or_default(),
        namespace => namespace,
    };
    let keys = match selection.name() {
        Some(name) if !resource.namespaced || !namespace.is_empty() => {
            KeyRange::key(keys::of(resource, namespace, name))
        }
        _ => KeyRange::prefix(keys::prefix(resource, namespace)),
    };
    let store = &call.server.store;
    let wanted = options.resource_version.unwrap_or(0);
    let from_state = options.send_initial_events.unwrap_or(wanted == 0);
    let gone = |error: Error| match error {
        Error::Compacted { oldest } => {
            Status::expired(format!("too old resource version: {wanted} ({oldest})"))
        }
        other => Status::internal(other),
    };
    if !from_state {
        return Ok((Vec::new(), store.watch(&keys, Some(wanted.saturating_add(1))).map_err(gone)?));
    }
    if wanted > 0 {
        get::not_older_than(call, wanted).await?;
    }
    let revision = store.revision();
    let query = drydock_etcd::Query { at: Some(revision), ..drydock_etcd::Query::default() };
    let found = store.range(&keys, &query).map_err(gone)?;
    let watcher = store.watch(&keys, Some(revision + 1)).map_err(gone)?;
    Ok((conversion::records(&call.server, resource, found.records).await?, watcher))
}

/// A line that ends a watch.
fn error_line(status: &Status) -> Vec<u8> {
    line("ERROR", &status.to_value())
}

/// A line, the type first as upstream writes it.
fn line(what: &str, object: &Value) -> Vec<u8> {
    let mut line = format!("{{\"type\":\"{what}\",\"object\":").into_bytes();
    ordered::write(&mut line, object);
    line.extend_from_slice(b"}\n");
    line
}

struct Stream {
    server: Arc<Server>,
    encoder: Encoder,
    selection: Selection,
    initial: std::vec::IntoIter<Arc<Record>>,
    is_initial: bool,
    watcher: Watcher,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    /// The end of what there was is marked.
    tells_end: bool,
    /// Of the state that the watch began with.
    revision: i64,
    is_over: bool,
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let mut out = Vec::new();
        if self.is_initial {
            self.initial_events(&mut out);
            if !out.is_empty() {
                return Some(out.into());
            }
        }
        loop {
            let never = self.deadline + Duration::from_secs(1);
            let bookmark = self.next_bookmark.unwrap_or(never);
            let batch = tokio::select! {
                biased;
                batch = self.watcher.next() => batch,
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = tokio::time::sleep_until(bookmark) => {
                    self.bookmark(&mut out);
                    if out.is_empty() { continue } else { return Some(out.into()) }
                }
            };
            match batch {
                Ok(batch) => {
                    for event in batch.events {
                        let event = conversion::event(&self.server, &self.encoder.resource, event).await;
                        match event {
                            Ok(event) => self.event(&mut out, &event),
                            Err(status) => {
                                self.is_over = true;
                                out.extend_from_slice(&error_line(&status));
                                return Some(out.into());
                            }
                        }
                    }
                }
                Err(error) => {
                    self.is_over = true;
                    tracing::debug!(%error, "a watch fell behind");
                    let status = Status::expired("too old resource version");
                    return Some(error_line(&status).into());
                }
            }
            if !out.is_empty() {
                return Some(out.into());
            }
        }
    }

    /// Some of what there was; at its end the mark.
    fn initial_events(&mut self, out: &mut Vec<u8>) {
        while out.len() < PIECE {
            let Some(record) = self.initial.next() else {
                self.is_initial = false;
                if self.tells_end {
                    let annotations = json!({"k8s.io/initial-events-end": "true"});
                    self.encoder.bookmark(out, self.revision, Some(annotations));
                }
                return;
            };
            if self.selection.matches(&record, &self.encoder.resource) {
                self.encoder.line(out, "ADDED", &record, record.mod_revision);
            }
        }
    }

    fn bookmark(&mut self, out: &mut Vec<u8>) {
        self.next_bookmark = Some(Instant::now() + BOOKMARKS);
        if let Some(revision) = self.watcher.progress() {
            self.encoder.bookmark(out, revision, None);
        }
    }

    /// An event as the selection sees it: what begins to be wanted was added, what ceases to be was deleted.
    fn event(&mut self, out: &mut Vec<u8>, event: &Event) {
        let resource = self.encoder.resource.clone();
        let revision = event.revision();
        let was = event.prev.as_ref().filter(|prev| self.selection.matches(prev, &resource));
        let is = event.kind == EventKind::Put && self.selection.matches(&event.record, &resource);
        match (was, is) {
            (None, true) => self.encoder.line(out, "ADDED", &event.record, revision),
            (Some(_), true) => self.encoder.line(out, "MODIFIED", &event.record, revision),
            (Some(was), false) => self.encoder.line(out, "DELETED", was, revision),
            (None, false) => {}
        }
    }
}

/// Writes lines.
struct Encoder {
    resource: Arc<Resource>,
    shape: Shape,
    table: Option<table::Options>,
    /// Definitions of columns are told once.
    headers_told: bool,
}

impl Encoder {
    fn line(&mut self, out: &mut Vec<u8>, type_: &str, record: &Record, revision: i64) {
        let start = out.len();
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(type_.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        match self.object(out, record, revision) {
            Ok(()) => out.extend_from_slice(b"}\n"),
            // Somebody wrote nonsense to the store past us: the watch must go on.
            Err(error) => {
                tracing::error!(%error, "left out of a watch");
                out.truncate(start);
            }
        }
    }

    fn object(&mut self, out: &mut Vec<u8>, record: &Record, revision: i64) -> Result<(), Status> {
        if self.shape == Shape::Object {
            return storage::object::write(out, record, &self.resource, revision, Naming::Full);
        }
        let mut tree = storage::object::decode_at(record, revision)?;
        tree = self.resource.load(tree);
        let shaped = self.shaped(tree);
        ordered::write(out, &shaped);
        Ok(())
    }

    fn shaped(&mut self, tree: Value) -> Value {
        match (self.shape, self.table) {
            (Shape::Metadata(version), _) => table::metadata_of(tree, version),
            (_, Some(options)) => {
                let definitions = if self.headers_told || options.no_headers {
                    Value::Null
                } else {
                    table::columns(&self.resource)
                };
                self.headers_told = true;
                let revision = tree["metadata"]["resourceVersion"].clone();
                table::one_row(&self.resource, tree, &options, &revision, definitions)
            }
            _ => tree,
        }
    }

    fn bookmark(&mut self, out: &mut Vec<u8>, revision: i64, annotations: Option<Value>) {
        let mut tree = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version,
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if let Some(annotations) = annotations {
            object::map_mut(&mut tree, &["metadata"]).insert("annotations".into(), annotations);
        }
        let shaped = self.shaped(tree);
        out.extend_from_slice(&line("BOOKMARK", &shaped));
    }
}
