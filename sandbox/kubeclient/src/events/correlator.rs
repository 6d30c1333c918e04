//! Which events are worth a write, and which write (client-go `tools/record/events_cache.go`): an object that floods is limited, many
//! similar events become one that says so, and an event that was there before only counts up. Pure; called by the recorder's task.

use std::collections::HashSet;
use std::time::Duration;

use hashlink::LruCache;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rate::Bucket;

/// client-go's `maxLruCacheEntries` is 4096, for components of clusters of thousands of nodes; these are small ones.
const ENTRIES: usize = 1024;
const AGGREGATE_FROM: usize = 10;
const AGGREGATE_WITHIN: Duration = Duration::from_secs(600);
const SPAM_BURST: f64 = 25.0;
const SPAM_PER_SECOND: f64 = 1.0 / 300.0;

type Key = Vec<Option<String>>;

/// An event as it is to be written.
pub(super) struct Correlated {
    pub(super) event: Event,
    /// If it was written before: what to change in it.
    pub(super) patch: Option<Value>,
    key: Key,
}

struct Similar {
    messages: HashSet<String>,
    last: Instant,
}

#[derive(Clone)]
struct Written {
    count: i32,
    first: Option<Time>,
    name: Option<String>,
    version: Option<String>,
}

pub(super) struct Correlator {
    spam: LruCache<Key, Bucket>,
    similar: LruCache<Key, Similar>,
    written: LruCache<Key, Written>,
}

impl Default for Correlator {
    fn default() -> Self {
        Self {
            spam: LruCache::new(ENTRIES),
            similar: LruCache::new(ENTRIES),
            written: LruCache::new(ENTRIES),
        }
    }
}

impl Correlator {
    /// What to write for an event; none if its object has too many.
    pub(super) fn correlate(&mut self, event: Event, now: Instant) -> Option<Correlated> {
        let about = about(&event);
        if self.is_spam(&about, now) {
            return None;
        }
        let (event, key) = self.aggregate(event, about, now);
        Some(self.observe(event, key))
    }

    /// The server took it and answered with `event`.
    pub(super) fn written(&mut self, correlated: &Correlated, event: &Event) {
        let written = Written {
            count: event.count.unwrap_or(1),
            first: event.first_timestamp.clone(),
            name: event.metadata.name.clone(),
            version: event.metadata.resource_version.clone(),
        };
        self.written.insert(correlated.key.clone(), written);
    }

    fn is_spam(&mut self, about: &Key, now: Instant) -> bool {
        if !self.spam.contains_key(about) {
            self.spam.insert(about.clone(), Bucket::new(SPAM_PER_SECOND, SPAM_BURST, now));
        }
        self.spam.get_mut(about).is_some_and(|bucket| !bucket.try_take(now))
    }

    /// `EventAggregate`.
    fn aggregate(&mut self, mut event: Event, about: Key, now: Instant) -> (Event, Key) {
        let mut single = about.clone();
        single.extend([
            event.involved_object.field_path.clone(),
            event.type_.clone(),
            event.reason.clone(),
            event.message.clone(),
        ]);
        let mut group = about;
        group.extend([event.type_.clone(), event.reason.clone()]);
        group.extend([event.reporting_component.clone(), event.reporting_instance.clone()]);
        let message = event.message.clone().unwrap_or_default();
        let mut similar =
            self.similar.remove(&group).unwrap_or_else(|| Similar { messages: HashSet::new(), last: now });
        if now.saturating_duration_since(similar.last) > AGGREGATE_WITHIN {
            similar.messages.clear();
        }
        similar.messages.insert(message.clone());
        similar.last = now;
        let many = similar.messages.len() >= AGGREGATE_FROM;
        if many {
            // Keep the set below its limit, as upstream: it would grow with every new message.
            let any = similar.messages.iter().next().cloned().unwrap_or_default();
            similar.messages.remove(&any);
        }
        self.similar.insert(group.clone(), similar);
        if !many {
            return (event, single);
        }
        event.message = Some(format!("(combined from similar events): {message}"));
        (event, group)
    }

    /// `eventObserve`.
    fn observe(&mut self, mut event: Event, key: Key) -> Correlated {
        let Some(before) = self.written.get(&key).cloned() else {
            return Correlated { event, patch: None, key };
        };
        event.metadata.name = before.name;
        event.metadata.resource_version = before.version;
        event.first_timestamp = before.first;
        event.count = Some(before.count.saturating_add(1));
        let patch =
            json!({"count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message});
        Correlated { event, patch: Some(patch), key }
    }
}

/// Who tells of whom.
fn about(event: &Event) -> Key {
    let source = event.source.clone().unwrap_or_default();
    let object = &event.involved_object;
    vec![
        source.component,
        source.host,
        object.kind.clone(),
        object.namespace.clone(),
        object.name.clone(),
        object.uid.clone(),
        object.api_version.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{EventSource, ObjectReference};
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::events::{EventType, make};

    fn event(pod: &str, message: &str) -> Event {
        let source = EventSource { component: Some("test".into()), host: None };
        let about = ObjectReference {
            kind: Some("Pod".into()),
            name: Some(pod.into()),
            namespace: Some("ns".into()),
            ..Default::default()
        };
        make(&source, about, EventType::Warning, "Failed", message.into(), Timestamp::UNIX_EPOCH)
    }

    fn write(correlator: &mut Correlator, event: Event, now: Instant) -> Option<Correlated> {
        let correlated = correlator.correlate(event, now)?;
        correlator.written(&correlated, &correlated.event.clone());
        Some(correlated)
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_counts_up() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let first = write(&mut correlator, event("a", "x"), now).unwrap();
        assert_eq!((first.event.count, first.patch.is_none()), (Some(1), true));
        for count in 2..5 {
            let again = write(&mut correlator, event("a", "x"), now).unwrap();
            assert_eq!(again.patch.unwrap()["count"], count);
            assert_eq!(again.event.metadata.name, first.event.metadata.name);
        }
        let other = write(&mut correlator, event("b", "x"), now).unwrap();
        assert!(other.patch.is_none(), "another object's event is another event");
    }

    #[tokio::test(start_paused = true)]
    async fn the_tenth_similar_event_combines() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        for number in 1..10 {
            let single = write(&mut correlator, event("a", &format!("message {number}")), now).unwrap();
            assert_eq!(single.event.message, Some(format!("message {number}")));
        }
        let combined = write(&mut correlator, event("a", "message 10"), now).unwrap();
        assert_eq!(combined.event.message.as_deref(), Some("(combined from similar events): message 10"));
        assert!(combined.patch.is_none());
        let again = write(&mut correlator, event("a", "message 11"), now).unwrap();
        assert_eq!(again.patch.unwrap()["count"], 2);
        let later = write(&mut correlator, event("a", "message 12"), now + AGGREGATE_WITHIN * 2).unwrap();
        assert_eq!(
            later.event.message.as_deref(),
            Some("message 12"),
            "after a quiet time they are told singly again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_floods_is_limited() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let told = (0..100).filter(|_| write(&mut correlator, event("a", "x"), now).is_some()).count();
        assert_eq!(told, 25);
        assert!(write(&mut correlator, event("b", "x"), now).is_some(), "others are not");
        assert!(
            write(&mut correlator, event("a", "x"), now + Duration::from_secs(301)).is_some(),
            "one more in five minutes"
        );
    }
}
