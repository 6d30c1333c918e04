//! List and watch, for as long as an informer lives (client-go's Reflector). It must never give up, never spin, and never let what it
//! tells the informer go back in time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{AsyncBufReadExt as _, TryStreamExt as _};
use kube::api::{ListParams, VersionMatch, WatchEvent, WatchParams};
use kube::core::{Request, Status};
use kube::{Client, Error};
use serde_json::value::RawValue;
use tokio::task::AbortHandle;

use crate::errors;
use crate::informer::Source;
use crate::rate::Backoff;

/// Who is told of objects. It reads them itself, so that all else here is the same for every kind and is compiled once.
pub(crate) trait Sink: Send + Sync {
    /// Takes what was listed as all that there is; returns the list's version.
    fn listed(&self, list: &str) -> serde_json::Result<Option<String>>;
    /// Takes an object that is new or changed; returns its version.
    fn changed(&self, object: &str) -> serde_json::Result<Option<String>>;
    /// Takes the last state of one that is gone; returns its version.
    fn deleted(&self, object: &str) -> serde_json::Result<Option<String>>;
}

/// The API server of a session is a local process and back at once when it restarts: so retries begin earlier than client-go's
/// 800 ms, and do not wait as long.
const RETRY_FROM: Duration = Duration::from_millis(20);
const RETRY_TO: Duration = Duration::from_secs(5);
/// How long the server keeps a watch open; spread, so that not all of a component's watches are renewed together.
const WATCH_SECONDS: u32 = 200;
const WATCH_SPREAD: u32 = 90;

/// Lists and watches in a task of its own. No informer's code has any of this in it.
pub(crate) fn spawn(client: Client, source: Arc<Source>, sink: Arc<dyn Sink>) -> AbortHandle {
    tokio::spawn(run(client, source, sink)).abort_handle()
}

async fn run(client: Client, source: Arc<Source>, sink: Arc<dyn Sink>) {
    let mut backoff = Backoff::new(RETRY_FROM, RETRY_TO);
    // Any version will do at first; after an expiry only the newest, else the same expired one might be listed again.
    let mut newest = false;
    loop {
        let listed = list(&client, &source, newest, &*sink).await;
        let ended = match listed {
            Ok(version) => watch(&client, &source, version, &*sink, &mut backoff).await,
            Err(error) => error,
        };
        newest = errors::is_expired(&ended);
        if !newest {
            tracing::debug!(path = source.path, error = %ended, "list and watch begin anew");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn list(client: &Client, source: &Source, newest: bool, sink: &dyn Sink) -> Result<String, Error> {
    let params = ListParams {
        label_selector: selector(&source.labels),
        field_selector: selector(&source.fields),
        version_match: (!newest).then_some(VersionMatch::NotOlderThan),
        resource_version: (!newest).then(|| "0".to_owned()),
        ..ListParams::default()
    };
    let request = Request::new(&source.path);
    let request = if source.metadata_only { request.list_metadata(&params) } else { request.list(&params) };
    // In a box, as below: what is needed for a moment must not take room in every reflector for good.
    let list = Box::pin(client.request_text(request.map_err(Error::BuildRequest)?)).await?;
    Ok(sink.listed(&list).map_err(Error::SerdeError)?.unwrap_or_default())
}

/// Watches, again and again, from `version` on; the error is why a new list is needed.
async fn watch(
    client: &Client,
    source: &Source,
    mut version: String,
    sink: &dyn Sink,
    backoff: &mut Backoff,
) -> Error {
    loop {
        match watch_once(client, source, &mut version, sink, backoff).await {
            Ok(()) => {}
            // The connection broke: the server may well still have our version.
            Err(error) if !errors::is_answer(&error) => {
                tracing::debug!(path = source.path, %error, "watch broke");
                tokio::time::sleep(backoff.next()).await;
            }
            Err(error) => return error,
        }
    }
}

async fn watch_once(
    client: &Client,
    source: &Source,
    version: &mut String,
    sink: &dyn Sink,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let params = WatchParams {
        label_selector: selector(&source.labels),
        field_selector: selector(&source.fields),
        timeout: Some(WATCH_SECONDS + backoff.random(WATCH_SPREAD)),
        bookmarks: true,
        send_initial_events: false,
    };
    let request = Request::new(&source.path);
    let request = if source.metadata_only {
        request.watch_metadata(&params, version)
    } else {
        request.watch(&params, version)
    };
    // Not by `Client::request_events`, whose buffer of 8 KB each watch would have, and a component has eighty.
    let events = Box::pin(client.request_stream(request.map_err(Error::BuildRequest)?)).await?;
    let mut events = pin!(events.lines());
    let mut any = false;
    while let Some(line) = events.try_next().await.map_err(Error::ReadEvents)? {
        let reached = hear(&line, sink)?;
        if let Some(reached) = reached.filter(|reached| !reached.is_empty()) {
            *version = reached;
        }
        // Only now: what nobody can read is asked for more and more seldom.
        any = true;
        backoff.reset();
    }
    // A server that ends every watch at once must not make us spin.
    if !any {
        tokio::time::sleep(backoff.next()).await;
    }
    Ok(())
}

/// Passes on an event; returns the version that it brought.
fn hear(line: &str, sink: &dyn Sink) -> Result<Option<String>, Error> {
    match serde_json::from_str::<WatchEvent<&RawValue>>(line).map_err(|error| unreadable(line, error))? {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => sink.changed(object.get()),
        WatchEvent::Deleted(object) => sink.deleted(object.get()),
        WatchEvent::Bookmark(bookmark) => Ok(Some(bookmark.metadata.resource_version)),
        WatchEvent::Error(status) => return Err(Error::Api(status)),
    }
    .map_err(Error::SerdeError)
}

/// What a line says that is no event: an answer of the server, or nothing.
fn unreadable(line: &str, error: serde_json::Error) -> Error {
    match serde_json::from_str::<Status>(line) {
        Ok(status) => Error::Api(status.boxed()),
        Err(_no_status) => Error::SerdeError(error),
    }
}

fn selector(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::*;
    use crate::connection::client;
    use crate::informer::{Event, Informer};
    use crate::meta::ObjectKey;
    use crate::testing::{Server, json as answer, lines};

    type Watches = mpsc::UnboundedReceiver<(String, mpsc::UnboundedSender<String>)>;

    fn pod(name: &str, version: u32, node: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": node, "containers": []},
            "metadata": {"namespace": "ns", "name": name, "resourceVersion": version.to_string(), "managedFields": [{"manager": "x"}]}})
    }

    /// A line of a watch, the type first as every API server writes it.
    fn event(kind: &str, object: Value) -> String {
        format!(r#"{{"type":"{kind}","object":{object}}}"#)
    }

    /// A server of pods: lists come from the test's vector, watches go to the test.
    async fn server(lists: Vec<Value>) -> (Server, Watches) {
        let (sender, watches) = mpsc::unbounded_channel();
        let lists = Mutex::new(lists.into_iter());
        let server = Server::start(move |_, path, _| {
            if path.contains("watch=true") {
                let (lines, response) = lines();
                sender.send((path, lines)).unwrap();
                return Box::pin(async move { response });
            }
            let items = lists.lock().unwrap().next().expect("no more lists were expected");
            let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "10"}, "items": items});
            Box::pin(async move { answer(200, &list) })
        })
        .await;
        (server, watches)
    }

    /// What the informer's handlers hear, as text.
    fn heard(informer: &Informer<Pod>) -> mpsc::UnboundedReceiver<String> {
        let (sender, receiver) = mpsc::unbounded_channel();
        informer.subscribe(move |event| {
            let version = |pod: &Pod| pod.metadata.resource_version.clone().unwrap_or_default();
            let name = event.object().metadata.name.clone().unwrap_or_default();
            let _ = sender.send(match event {
                Event::Added(pod) => format!("+{name}@{}", version(pod)),
                Event::Updated { old, new } => format!("~{name}@{}>{}", version(old), version(new)),
                Event::Deleted(pod) => format!("-{name}@{}", version(pod)),
            });
        });
        receiver
    }

    #[tokio::test]
    async fn the_store_follows_list_and_watch_and_tells_its_handlers() {
        let (server, mut watches) = server(vec![json!([pod("a", 1, "n1"), pod("b", 2, "")])]).await;
        let informer = Informer::<Pod>::new(client(server.config.clone()), Source::all::<Pod>());
        let by_node = informer.index_by_node();
        let mut told = heard(&informer);
        informer.start();
        informer.synced().await;
        assert_eq!((told.recv().await.unwrap(), told.recv().await.unwrap()), ("+a@1".into(), "+b@2".into()));
        assert_eq!(by_node.get("n1").len(), 1);
        let a = informer.get(&ObjectKey::new("ns", "a")).unwrap();
        assert!(a.metadata.managed_fields.is_none(), "managedFields cost memory and nobody reads them");
        let (path, lines) = watches.recv().await.unwrap();
        assert!(path.contains("resourceVersion=10") && path.contains("allowWatchBookmarks=true"), "{path}");
        lines.send(event("MODIFIED", pod("b", 11, "n1"))).unwrap();
        assert_eq!(told.recv().await.unwrap(), "~b@2>11");
        assert_eq!(by_node.get("n1").len(), 2);
        lines.send(event("DELETED", pod("a", 12, "n1"))).unwrap();
        assert_eq!(told.recv().await.unwrap(), "-a@12");
        assert_eq!(by_node.get("n1").len(), 1);
        assert_eq!(informer.in_namespace("ns").len(), 1);
        assert!(informer.in_namespace("n").is_empty());
        let mut late = heard(&informer);
        assert_eq!(late.recv().await.unwrap(), "+b@11", "who comes late hears what there is");
    }

    #[tokio::test]
    async fn a_broken_watch_goes_on_where_it_was_and_an_expired_one_lists_again() {
        let second = json!([pod("a", 1, ""), pod("c", 21, "")]);
        let (server, mut watches) = server(vec![json!([pod("a", 1, ""), pod("b", 2, "")]), second]).await;
        let informer = Informer::<Pod>::new(client(server.config.clone()), Source::all::<Pod>());
        let mut told = heard(&informer);
        informer.start();
        let (_, lines) = watches.recv().await.unwrap();
        lines
            .send(event(
                "BOOKMARK",
                json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "15"}}),
            ))
            .unwrap();
        lines.send(event("MODIFIED", pod("b", 14, ""))).unwrap();
        while told.recv().await.unwrap() != "~b@2>14" {}
        lines
            .send(event(
                "BOOKMARK",
                json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "17"}}),
            ))
            .unwrap();
        drop(lines);
        let (path, lines) = watches.recv().await.unwrap();
        assert!(path.contains("resourceVersion=17"), "{path}");
        server.cut();
        drop(lines);
        let (path, lines) = watches.recv().await.unwrap();
        assert!(path.contains("resourceVersion=17"), "{path}");
        let expired = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
            "message": "too old resource version: 17 (20)"});
        lines.send(event("ERROR", expired)).unwrap();
        assert_eq!(told.recv().await.unwrap(), "+c@21");
        assert_eq!(
            told.recv().await.unwrap(),
            "-b@14",
            "what the list no longer has is gone; a, unchanged, is not told"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_asked_for_again_from_where_it_was() {
        let (server, mut watches) = server(vec![json!([pod("a", 1, "")])]).await;
        let informer = Informer::<Pod>::new(client(server.config.clone()), Source::all::<Pod>());
        let mut told = heard(&informer);
        informer.start();
        let (_, lines) = watches.recv().await.unwrap();
        lines.send(event("MODIFIED", pod("a", 11, ""))).unwrap();
        lines.send(event("MODIFIED", json!({"metadata": "none", "spec": []}))).unwrap();
        let (path, lines) = watches.recv().await.unwrap();
        assert!(path.contains("resourceVersion=11"), "{path}");
        // Cut off in the middle of a line.
        lines.send(event("MODIFIED", pod("a", 12, ""))).unwrap();
        lines.send(event("MODIFIED", pod("a", 13, ""))[..60].to_owned()).unwrap();
        drop(lines);
        let (path, lines) = watches.recv().await.unwrap();
        assert!(path.contains("resourceVersion=12"), "{path}");
        lines.send(event("DELETED", pod("a", 14, ""))).unwrap();
        for expected in ["+a@1", "~a@1>11", "~a@11>12", "-a@14"] {
            assert_eq!(told.recv().await.unwrap(), expected);
        }
    }
}
