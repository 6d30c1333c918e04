//! What happened: `docker events`, and what the CLI's `stats` and Compose's `up` wait for. Everything that changes something
//! emits an event; a bounded ring keeps the latest for clients that ask for the past. Emitting never waits: a client that
//! reads too slowly misses events, as it does with dockerd.

use crate::clock::Timestamp;
use crate::filters::Filters;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, broadcast};

/// Past events that are kept; as dockerd keeps.
const KEPT: usize = 256;
/// Events that a slow client may be behind.
const BACKLOG: usize = 1024;

/// The log of what happened.
#[derive(Debug)]
pub struct Events {
    past: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
    /// Wakes the one who shows the page what there is; it needs no event, and is no listener that `docker info` counts.
    pub changed: Notify,
}

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The same as `action`, where clients before API 1.22 look for it: for containers and images only.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// The same as the actor's id, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// A container's image, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// `container`, `image`, `volume`, `network`, `builder` …
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened: `start`, `die`, `exec_create: sh` …
    #[serde(rename = "Action")]
    pub action: String,
    /// To what.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    scope: &'static str,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// An id, or the name of what has none.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name, labels, and what else the action has to tell.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// Events from now on, after those of the past that were asked for.
#[derive(Debug)]
pub struct Subscription {
    past: VecDeque<Arc<Event>>,
    live: broadcast::Receiver<Arc<Event>>,
    filters: Filters,
}

impl Default for Events {
    fn default() -> Self {
        Self { past: Mutex::default(), live: broadcast::Sender::new(BACKLOG), changed: Notify::new() }
    }
}

impl Events {
    /// Tells that something happened to an object. `kind`: `container`, `image`, `volume`, `network` …
    pub fn emit(&self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let now = Timestamp::now();
        let old_fields = matches!(kind, "container" | "image");
        let event = Arc::new(Event {
            status: old_fields.then(|| action.to_owned()),
            id: old_fields.then(|| id.to_owned()),
            from: (kind == "container").then(|| attributes.get("image").cloned()).flatten(),
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            scope: "local",
            time: now.seconds(),
            time_nano: now.nanos(),
        });
        let mut past = self.past();
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Under the lock, so that a subscriber gets each event once: from the past or live. Nobody listening is no error.
        let _listeners = self.live.send(event);
        self.changed.notify_one();
    }

    /// Clients that listen.
    pub fn listeners(&self) -> usize {
        self.live.receiver_count()
    }

    /// Events that pass the filters: of the past if one of the times is given, then what happens from now on.
    pub fn subscribe(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        filters: Filters,
    ) -> Subscription {
        let past = self.past();
        let live = self.live.subscribe();
        let wanted = |event: &&Arc<Event>| {
            (since.is_some() || until.is_some())
                && since.is_none_or(|since| event.time_nano >= since.nanos())
                && until.is_none_or(|until| event.time_nano <= until.nanos())
                && event.passes(&filters)
        };
        let past = past.iter().filter(wanted).cloned().collect();
        Subscription { past, live, filters }
    }

    fn past(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The next event of the past that was asked for.
    pub fn next_past(&mut self) -> Option<Arc<Event>> {
        self.past.pop_front()
    }

    /// The next event; `None` when the engine ends.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.next_past() {
            return Some(event);
        }
        loop {
            match self.live.recv().await {
                Ok(event) if event.passes(&self.filters) => return Some(event),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Event {
    /// Whether all filters let it pass.
    fn passes(&self, filters: &Filters) -> bool {
        // These actions carry details after a colon, so their bare names must find them.
        let with_details =
            filters.get("event").any(|name| matches!(name, "health_status" | "exec_create" | "exec_start"));
        let action = if with_details {
            filters.prefix("event", &self.action)
        } else {
            filters.exact("event", &self.action)
        };
        let name = self.attribute("name");
        let named =
            ["daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config"]
                .iter()
                .all(|kind| filters.prefix(kind, &self.actor.id) || filters.prefix(kind, name));
        action
            && filters.exact("type", &self.kind)
            && filters.exact("scope", self.scope)
            && named
            && self.passes_image(filters)
            && filters.labels("label", &self.actor.attributes)
    }

    /// A container's events count as those of its image. With or without the tag.
    fn passes_image(&self, filters: &Filters) -> bool {
        let name = self.attribute(if self.kind == "image" { "name" } else { "image" });
        [self.actor.id.as_str(), name]
            .iter()
            .any(|text| filters.exact("image", text) || filters.exact("image", without_tag(text)))
    }

    fn attribute(&self, name: &str) -> &str {
        self.actor.attributes.get(name).map_or("", String::as_str)
    }
}

/// `a/b:1@sha256:…` → `a/b`; a registry's port is no tag.
fn without_tag(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn passing(filters: &str) -> Vec<String> {
        let events = Events::default();
        let mut subscription = events.subscribe(None, None, Filters::parse(filters).unwrap());
        let container = [("image", "busybox:1.36"), ("name", "ev"), ("k", "v")];
        events.emit("container", "create", "0205d05cdfb2", attributes(&container));
        events.emit("container", "exec_create: true ", "0205d05cdfb2", attributes(&container));
        events.emit(
            "network",
            "connect",
            "d73838b7a447",
            attributes(&[("name", "bridge"), ("type", "bridge")]),
        );
        events.emit("image", "tag", "sha256:5347", attributes(&[("name", "busybox:latest")]));
        drop(events);
        let mut passing = vec![];
        while let Some(Some(event)) = futures_util::FutureExt::now_or_never(subscription.next()) {
            passing.push(format!("{} {}", event.kind, event.action));
        }
        passing
    }

    #[test]
    fn filters_choose_events() {
        assert_eq!(passing("").len(), 4);
        assert_eq!(passing(r#"{"type":{"network":true}}"#), ["network connect"]);
        assert_eq!(passing(r#"{"event":{"exec_create":true}}"#), ["container exec_create: true "]);
        assert_eq!(passing(r#"{"container":["ev"],"event":["create"]}"#), ["container create"]);
        assert_eq!(passing(r#"{"container":["0205"]}"#).len(), 2);
        assert_eq!(passing(r#"{"label":["k=v"]}"#).len(), 2);
        assert_eq!(passing(r#"{"image":["busybox"]}"#).len(), 3);
        assert_eq!(passing(r#"{"image":["busybox:latest"]}"#), ["image tag"]);
        assert_eq!(passing(r#"{"scope":["swarm"]}"#), Vec::<String>::new());
    }

    #[test]
    fn events_have_old_and_new_fields() {
        let events = Events::default();
        let mut subscription = events.subscribe(None, None, Filters::default());
        events.emit("container", "start", "c1", attributes(&[("image", "busybox"), ("name", "ev")]));
        events.emit("volume", "create", "v1", attributes(&[("driver", "local")]));
        let mut next = || {
            let event = futures_util::FutureExt::now_or_never(subscription.next()).unwrap().unwrap();
            let mut value = serde_json::to_value(&*event).unwrap();
            let (time, nano) = (value["time"].take(), value["timeNano"].take());
            assert_eq!(time.as_i64().unwrap(), nano.as_i64().unwrap() / 1_000_000_000);
            value
        };
        assert_eq!(
            next(),
            serde_json::json!({
                "status": "start", "id": "c1", "from": "busybox", "Type": "container", "Action": "start",
                "Actor": {"ID": "c1", "Attributes": {"image": "busybox", "name": "ev"}},
                "scope": "local", "time": null, "timeNano": null,
            })
        );
        assert_eq!(
            next(),
            serde_json::json!({
                "Type": "volume", "Action": "create", "Actor": {"ID": "v1", "Attributes": {"driver": "local"}},
                "scope": "local", "time": null, "timeNano": null,
            })
        );
    }

    #[test]
    fn the_past_is_bounded_and_told_when_asked_for() {
        let events = Events::default();
        for number in 0..KEPT + 10 {
            events.emit("volume", "create", &number.to_string(), BTreeMap::new());
        }
        let mut none = events.subscribe(None, None, Filters::default());
        assert!(none.next_past().is_none());
        let mut all = events.subscribe(Some(Timestamp::from_unix(0, 0)), None, Filters::default());
        assert_eq!(all.next_past().unwrap().actor.id, "10");
        assert_eq!(std::iter::from_fn(|| all.next_past()).count(), KEPT - 1);
        let mut later = events.subscribe(Some(Timestamp::from_unix(1 << 33, 0)), None, Filters::default());
        assert!(later.next_past().is_none());
    }

    #[test]
    fn a_slow_reader_stalls_nobody() {
        let events = Events::default();
        let mut slow = events.subscribe(None, None, Filters::default());
        for number in 0..BACKLOG * 3 {
            events.emit("volume", "create", &number.to_string(), BTreeMap::new());
        }
        let first = futures_util::FutureExt::now_or_never(slow.next()).unwrap().unwrap();
        assert!(first.actor.id.parse::<usize>().unwrap() >= BACKLOG);
    }
}
