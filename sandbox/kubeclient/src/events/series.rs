//! Events of the new form, which the scheduler reports (client-go `tools/events`): the same once more makes a series of the first. That
//! is written when it begins and when it ends, and counted here meanwhile.

use std::time::Duration;

use hashlink::LruCache;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::{EventType, RETRY, TRIES, WAITING, event_name};
use crate::errors;
use crate::meta::object_reference;

/// As many events are remembered.
const ENTRIES: usize = 1024;
/// client-go's `finishTime`: what does not come again for so long has ended.
const FINISHED_AFTER: Duration = Duration::from_secs(6 * 60);
/// client-go's `refreshTime`: a series is written so often while it goes on.
const REFRESHED_AFTER: Duration = Duration::from_secs(30 * 60);

/// What is reported.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Whether it is good.
    pub kind: EventType,
    /// Why, in one word.
    pub reason: &'a str,
    /// What was done or tried, in one word.
    pub action: &'a str,
    /// What there is to say.
    pub note: &'a str,
}

/// Reports events of one component; clones share it.
#[derive(Clone)]
pub struct Reporter {
    controller: String,
    instance: String,
    events: mpsc::Sender<Event>,
}

impl Reporter {
    /// A reporter for a component (`default-scheduler`). Its task ends when the last clone is gone.
    pub fn new(client: Client, controller: &str) -> Self {
        let (events, received) = mpsc::channel(WAITING);
        tokio::spawn(write(client, received));
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { controller: controller.to_owned(), instance: format!("{controller}-{}", host.trim()), events }
    }

    /// An event about an object, which another one has to do with.
    pub fn event<K: Resource<DynamicType = ()>>(&self, about: &K, related: Option<&K>, report: Report<'_>) {
        let (about, related) = (object_reference(about), related.map(object_reference));
        let event = self.made(about, related, report, Timestamp::now());
        if self.events.try_send(event).is_err() {
            tracing::debug!(report.reason, "an event was dropped: too many wait to be written");
        }
    }

    fn made(
        &self,
        about: ObjectReference,
        related: Option<ObjectReference>,
        report: Report<'_>,
        now: Timestamp,
    ) -> Event {
        let namespace = about.namespace.clone().filter(|one| !one.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(event_name(about.name.as_deref().unwrap_or_default(), now)),
                namespace: Some(namespace.unwrap_or_else(|| "default".into())),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            action: Some(report.action.to_owned()),
            reason: Some(report.reason.to_owned()),
            regarding: Some(about),
            related,
            note: Some(report.note.to_owned()),
            type_: Some(report.kind.as_str().to_owned()),
            ..Event::default()
        }
    }
}

/// What events of one series have in common; their notes may differ.
type Key = [Option<String>; 6];

fn key(event: &Event) -> Key {
    let reference = |one: &Option<ObjectReference>| one.as_ref().map(|one| json!(one).to_string());
    [
        event.type_.clone(),
        event.action.clone(),
        event.reason.clone(),
        event.reporting_controller.clone(),
        reference(&event.regarding),
        reference(&event.related),
    ]
}

/// The events that may come again.
struct Kept(LruCache<Key, Event>);

impl Default for Kept {
    fn default() -> Self {
        Self(LruCache::new(ENTRIES))
    }
}

impl Kept {
    /// What to write for an event that came; none if it is only counted.
    fn add(&mut self, event: Event, now: Timestamp) -> Option<Event> {
        let key = key(&event);
        let Some(first) = self.0.get_mut(&key) else {
            self.0.insert(key, event.clone());
            return Some(event);
        };
        if let Some(series) = &mut first.series {
            series.count = series.count.saturating_add(1);
            series.last_observed_time = MicroTime(now);
            return None;
        }
        first.series = Some(EventSeries { count: 2, last_observed_time: MicroTime(now) });
        Some(first.clone())
    }

    /// Forgets what has ended; what of that is still to be written.
    fn finish(&mut self, now: Timestamp) -> Vec<Event> {
        let limit = SignedDuration::try_from(FINISHED_AFTER).unwrap_or(SignedDuration::MAX);
        let mut ended = Vec::new();
        for (key, event) in self.0.iter() {
            let last = event.series.as_ref().map(|series| &series.last_observed_time);
            let last = last.or(event.event_time.as_ref()).map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            if now.duration_since(last) > limit {
                ended.push(key.clone());
            }
        }
        let events = ended.into_iter().filter_map(|key| self.0.remove(&key));
        events.filter(|event| event.series.is_some()).collect()
    }

    /// Series that go on.
    fn series(&self) -> Vec<Event> {
        self.0.iter().map(|(_, event)| event).filter(|event| event.series.is_some()).cloned().collect()
    }
}

async fn write(client: Client, mut events: mpsc::Receiver<Event>) {
    let mut kept = Kept::default();
    let (mut finish, mut refresh) = (interval(FINISHED_AFTER), interval(REFRESHED_AFTER));
    finish.set_missed_tick_behavior(MissedTickBehavior::Delay);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let to_write = tokio::select! {
            event = events.recv() => match event {
                Some(event) => kept.add(event, Timestamp::now()).into_iter().collect(),
                None => return,
            },
            _ = finish.tick() => kept.finish(Timestamp::now()),
            _ = refresh.tick() => kept.series(),
        };
        for event in to_write {
            record(&client, &event).await;
        }
    }
}

/// `attemptRecording`: an answer of the server is final, whatever it is; only a broken connection is tried again.
async fn record(client: &Client, event: &Event) {
    for _ in 0..TRIES {
        match send(client, event).await {
            Ok(()) => return,
            Err(error) if errors::is_answer(&error) => {
                tracing::debug!(%error, event = ?event.metadata.name, "the server rejected an event");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "an event could not be written and is tried again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn send(client: &Client, event: &Event) -> Result<(), kube::Error> {
    let api: Api<Event> =
        Api::namespaced(client.clone(), event.metadata.namespace.as_deref().unwrap_or("default"));
    if let Some(series) = &event.series {
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Strategic(json!({ "series": series }));
        match api.patch(name, &PatchParams::default(), &patch).await {
            // It was an hour without news and was removed.
            Err(error) if errors::is_not_found(&error) => {}
            result => return result.map(|_| ()),
        }
    }
    api.create(&PostParams::default(), event).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: &str, version: &str, now: Timestamp) -> Event {
        let (events, _) = mpsc::channel(1);
        let reporter = Reporter { controller: "s".into(), instance: "s-host".into(), events };
        let about = ObjectReference {
            name: Some("p".into()),
            namespace: Some("ns".into()),
            resource_version: Some(version.into()),
            ..ObjectReference::default()
        };
        let report = Report { kind: EventType::Warning, reason, action: "Scheduling", note: "no" };
        reporter.made(about, None, report, now)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn the_second_begins_a_series_and_others_are_only_counted() {
        let mut kept = Kept::default();
        let first = kept.add(event("A", "1", at(0)), at(0)).unwrap();
        assert_eq!((first.series, first.event_time), (None, Some(MicroTime(at(0)))));
        let second = kept.add(event("A", "1", at(5)), at(5)).unwrap();
        assert_eq!(second.metadata.name, first.metadata.name, "the first is changed");
        assert_eq!(second.series, Some(EventSeries { count: 2, last_observed_time: MicroTime(at(5)) }));
        assert_eq!(kept.add(event("A", "1", at(9)), at(9)), None);
        assert!(kept.add(event("B", "1", at(9)), at(9)).unwrap().series.is_none());
        assert!(kept.add(event("A", "2", at(9)), at(9)).unwrap().series.is_none(), "the object has changed");
        assert_eq!(kept.series().len(), 1);
    }

    #[test]
    fn a_series_that_has_ended_is_told_whole() {
        let mut kept = Kept::default();
        for seconds in [0, 1, 2] {
            kept.add(event("A", "1", at(seconds)), at(seconds));
        }
        kept.add(event("B", "1", at(2)), at(2));
        assert!(kept.finish(at(300)).is_empty());
        let ended = kept.finish(at(400));
        assert_eq!(ended.len(), 1, "a single one is as it was");
        assert_eq!(ended[0].series, Some(EventSeries { count: 3, last_observed_time: MicroTime(at(2)) }));
        assert!(kept.add(event("A", "1", at(401)), at(401)).unwrap().series.is_none(), "it begins anew");
    }
}
