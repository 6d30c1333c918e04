//! Watches over gRPC: one stream carries many of them. One task a stream keeps them all, so that what it says of progress is true of
//! all that it sent before.

use super::kv::key_value;
use super::proto::{self, watch_request::Union};
use super::{Api, Messages};
use crate::{Batch, Error, Event, EventKind, KeyRange, Watcher};
use futures_util::future::select_all;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Watches on one stream.
const MAX_WATCHES: usize = 1000;
/// Responses that may wait for a slow reader: no more is read from the store meanwhile.
const QUEUE: usize = 4;
/// As etcd's `--watch-progress-notify-interval`.
const PROGRESS: Duration = Duration::from_secs(600);
/// In place of a watch's number, a word on all of them (etcd's InvalidWatchID).
const ALL: i64 = -1;

struct Watch {
    id: i64,
    watcher: Watcher,
    is_prev_wanted: bool,
    is_progress_wanted: bool,
    no_put: bool,
    no_delete: bool,
}

struct Stream {
    api: Api,
    watches: Vec<Watch>,
    next_id: i64,
    responses: mpsc::Sender<Result<proto::WatchResponse, Status>>,
}

/// The client is gone.
struct Gone;

impl Api {
    pub(super) fn watch(self, messages: Streaming<proto::WatchRequest>) -> Messages<proto::WatchResponse> {
        let (responses, receiver) = mpsc::channel(QUEUE);
        let stream = Stream { api: self, watches: Vec::new(), next_id: 0, responses };
        tokio::spawn(stream.run(messages));
        ReceiverStream::new(receiver)
    }
}

impl Stream {
    async fn run(mut self, mut messages: Streaming<proto::WatchRequest>) {
        let mut progress = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS, PROGRESS);
        loop {
            let result = tokio::select! {
                message = messages.message() => match message {
                    Ok(Some(message)) => self.take(message).await,
                    Ok(None) | Err(_) => return,
                },
                (index, batch) = next(&mut self.watches) => self.tell(index, batch).await,
                _ = progress.tick() => self.tell_progress().await,
                () = self.responses.closed() => return,
            };
            if result.is_err() {
                return;
            }
        }
    }

    async fn send(&self, response: proto::WatchResponse) -> Result<(), Gone> {
        self.responses.send(Ok(response)).await.map_err(|_| Gone)
    }

    async fn take(&mut self, message: proto::WatchRequest) -> Result<(), Gone> {
        match message.union {
            Some(Union::Create(request)) => self.create(request).await,
            Some(Union::Cancel(request)) => {
                let Some(index) = self.watches.iter().position(|watch| watch.id == request.watch_id) else {
                    return Ok(());
                };
                self.watches.swap_remove(index);
                self.send(self.cancelled(request.watch_id, String::new())).await
            }
            Some(Union::Progress(_)) => {
                for index in 0..self.watches.len() {
                    while let Some(batch) = self.waiting(index) {
                        self.tell(index, Ok(batch)).await?;
                    }
                }
                let header = Some(self.api.header());
                self.send(proto::WatchResponse { header, watch_id: ALL, ..Default::default() }).await
            }
            None => Ok(()),
        }
    }

    fn waiting(&mut self, index: usize) -> Option<Batch> {
        let batch = self.watches[index].watcher.try_next().ok()?;
        (!batch.events.is_empty()).then_some(batch)
    }

    fn cancelled(&self, watch_id: i64, reason: String) -> proto::WatchResponse {
        proto::WatchResponse {
            header: Some(self.api.header()),
            watch_id,
            canceled: true,
            cancel_reason: reason,
            ..Default::default()
        }
    }

    async fn create(&mut self, request: proto::WatchCreateRequest) -> Result<(), Gone> {
        let refuse = |reason: &str| proto::WatchResponse {
            created: true,
            ..self.cancelled(ALL, format!("etcdserver: mvcc: {reason}"))
        };
        if self.watches.iter().any(|watch| watch.id == request.watch_id && request.watch_id != 0) {
            return self.send(refuse("watcher duplicate ID provided on the WatchStream")).await;
        }
        if self.watches.len() >= MAX_WATCHES {
            return self.send(refuse("too many watchers on the WatchStream")).await;
        }
        let id = if request.watch_id == 0 { self.free_id() } else { request.watch_id };
        // An empty key is the first possible one (watch.go).
        let first = if request.key.is_empty() { bytes::Bytes::from_static(&[0]) } else { request.key };
        let range = KeyRange::of_etcd(first, request.range_end);
        let from = (request.start_revision > 0).then_some(request.start_revision);
        let watcher = self.api.store.watch(&range, from);
        let header = Some(self.api.header());
        self.send(proto::WatchResponse { header, watch_id: id, created: true, ..Default::default() }).await?;
        match watcher {
            Ok(watcher) => {
                let has = |filter: proto::FilterType| request.filters.contains(&(filter as i32));
                self.watches.push(Watch {
                    id,
                    watcher,
                    is_prev_wanted: request.prev_kv,
                    is_progress_wanted: request.progress_notify,
                    no_put: has(proto::FilterType::NoPut),
                    no_delete: has(proto::FilterType::NoDelete),
                });
                Ok(())
            }
            Err(error) => self.send(self.ended(id, &error)).await,
        }
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.iter().any(|watch| watch.id == self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn ended(&self, id: i64, error: &Error) -> proto::WatchResponse {
        let oldest = if let Error::Compacted { oldest } = error { *oldest } else { 0 };
        proto::WatchResponse { compact_revision: oldest, ..self.cancelled(id, error.to_string()) }
    }

    async fn tell(&mut self, index: usize, batch: Result<Batch, Error>) -> Result<(), Gone> {
        let watch = &self.watches[index];
        match batch {
            Ok(batch) => {
                let events: Vec<_> = batch.events.iter().filter_map(|event| watch.show(event)).collect();
                if events.is_empty() {
                    return Ok(());
                }
                let header = Some(self.api.header_at(batch.revision));
                self.send(proto::WatchResponse { header, watch_id: watch.id, events, ..Default::default() })
                    .await
            }
            Err(error) => {
                let watch = self.watches.swap_remove(index);
                self.send(self.ended(watch.id, &error)).await
            }
        }
    }

    async fn tell_progress(&self) -> Result<(), Gone> {
        for watch in self.watches.iter().filter(|watch| watch.is_progress_wanted) {
            if let Some(revision) = watch.watcher.progress() {
                let header = Some(self.api.header_at(revision));
                let response = proto::WatchResponse { header, watch_id: watch.id, ..Default::default() };
                self.send(response).await?;
            }
        }
        Ok(())
    }
}

impl Watch {
    fn show(&self, event: &Event) -> Option<proto::Event> {
        let (kind, is_filtered) = match event.kind {
            EventKind::Put => (proto::EventType::Put, self.no_put),
            EventKind::Delete => (proto::EventType::Delete, self.no_delete),
        };
        let prev = event.prev.as_deref().filter(|_| self.is_prev_wanted);
        let shown = proto::Event {
            r#type: kind as i32,
            kv: Some(key_value(&event.record)),
            prev_kv: prev.map(key_value),
        };
        (!is_filtered).then_some(shown)
    }
}

async fn next(watches: &mut [Watch]) -> (usize, Result<Batch, Error>) {
    if watches.is_empty() {
        return std::future::pending().await;
    }
    let (batch, index, _) = select_all(watches.iter_mut().map(|watch| Box::pin(watch.watcher.next()))).await;
    (index, batch)
}
