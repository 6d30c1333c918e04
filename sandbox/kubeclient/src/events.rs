//! Events about objects (client-go's EventRecorder and EventBroadcaster): handed over without waiting, correlated, written one after
//! the other by one task. Called by every component. An event is a courtesy: one that cannot be written is dropped and never holds
//! its sender up.

mod correlator;
mod series;

pub use series::{Report, Reporter};

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::errors;
use crate::meta::object_reference;
use correlator::{Correlated, Correlator};

/// As many as client-go's broadcaster holds back before it drops.
const WAITING: usize = 1000;
/// client-go's `maxTriesPerEvent` and `defaultSleepDuration`.
const TRIES: u32 = 12;
const RETRY: Duration = Duration::from_secs(10);

/// Whether an event tells of something good or of something to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Nothing to worry about.
    Normal,
    /// Something may need attention.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// Writes events of one component; clones share it.
#[derive(Clone)]
pub struct Recorder {
    source: EventSource,
    writer: Arc<Writer>,
}

/// Whom events are handed over to: a task that begins with the first one, since most controllers never have any to tell.
struct Writer {
    client: Client,
    runtime: Handle,
    events: OnceLock<mpsc::Sender<Box<Event>>>,
}

impl Writer {
    fn events(&self) -> &mpsc::Sender<Box<Event>> {
        self.events.get_or_init(|| {
            let (events, received) = mpsc::channel(WAITING);
            self.runtime.spawn(write(self.client.clone(), received));
            events
        })
    }
}

impl Recorder {
    /// A recorder for a component (`default-scheduler`), on a host if that matters (kubelet). Its task ends when the last clone is gone.
    /// Must be called within a runtime's context.
    pub fn new(client: Client, component: &str, host: Option<&str>) -> Self {
        Self {
            source: EventSource { component: Some(component.to_owned()), host: host.map(ToOwned::to_owned) },
            writer: Arc::new(Writer { client, runtime: Handle::current(), events: OnceLock::new() }),
        }
    }

    /// An event about an object.
    pub fn event<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.event_about(object_reference(about), kind, reason, message);
    }

    /// An event about what a reference names: an object of a kind that is known only by name, or a part of one (`fieldPath`).
    pub fn event_about(
        &self,
        about: ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let event = make(&self.source, about, kind, reason, message.into(), Timestamp::now());
        if self.writer.events().try_send(Box::new(event)).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait to be written");
        }
    }
}

/// client-go's `makeEvent`.
fn make(
    source: &EventSource,
    about: ObjectReference,
    kind: EventType,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Event {
    let namespace =
        about.namespace.clone().filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".into());
    Event {
        metadata: ObjectMeta {
            name: Some(event_name(about.name.as_deref().unwrap_or_default(), now)),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: about,
        reason: Some(reason.to_owned()),
        message: Some(message),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        type_: Some(kind.as_str().to_owned()),
        source: Some(source.clone()),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        ..Event::default()
    }
}

fn event_name(object: &str, now: Timestamp) -> String {
    format!("{object}.{:x}", now.as_nanosecond())
}

async fn write(client: Client, mut events: mpsc::Receiver<Box<Event>>) {
    let mut correlator = Correlator::default();
    while let Some(event) = events.recv().await {
        if let Some(correlated) = correlator.correlate(*event, Instant::now())
            && let Some(written) = record(&client, &correlated).await
        {
            correlator.written(&correlated, &written);
        }
    }
}

/// `recordToSink`: an answer of the server is final, whatever it is; only a broken connection is tried again.
async fn record(client: &Client, correlated: &Correlated) -> Option<Event> {
    for _ in 0..TRIES {
        match send(client, correlated).await {
            Ok(event) => return Some(event),
            Err(error) if errors::is_answer(&error) => {
                tracing::debug!(%error, event = ?correlated.event.metadata.name, "the server rejected an event");
                return None;
            }
            Err(error) => {
                tracing::debug!(%error, "an event could not be written and is tried again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    None
}

async fn send(client: &Client, correlated: &Correlated) -> Result<Event, kube::Error> {
    let event = &correlated.event;
    let api: Api<Event> =
        Api::namespaced(client.clone(), event.metadata.namespace.as_deref().unwrap_or("default"));
    if let Some(patch) = &correlated.patch {
        let name = event.metadata.name.as_deref().unwrap_or_default();
        match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            // It was an hour without news and was removed: begin again, under a name that is free.
            Err(error) if errors::is_not_found(&error) => {}
            result => return result,
        }
        let mut event = event.clone();
        event.metadata.name =
            Some(event_name(event.involved_object.name.as_deref().unwrap_or_default(), Timestamp::now()));
        event.metadata.resource_version = None;
        return api.create(&PostParams::default(), &event).await;
    }
    api.create(&PostParams::default(), event).await
}
