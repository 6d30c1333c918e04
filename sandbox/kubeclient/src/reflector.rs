//! List and watch, for as long as an informer lives (client-go's Reflector). It must never give up, never spin, and never let what it
//! tells the informer go back in time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use kube::api::{ListParams, ObjectList, VersionMatch, WatchEvent, WatchParams};
use kube::core::Request;
use kube::{Client, Error};

use crate::errors;
use crate::informer::{Object, Shared, Source};
use crate::rate::Backoff;

/// The API server of a session is a local process and back at once when it restarts: so retries begin earlier than client-go's
/// 800 ms, and do not wait as long.
const RETRY_FROM: Duration = Duration::from_millis(20);
const RETRY_TO: Duration = Duration::from_secs(5);
/// How long the server keeps a watch open; spread, so that not all of a component's watches are renewed together.
const WATCH_SECONDS: u32 = 200;
const WATCH_SPREAD: u32 = 90;

pub(crate) async fn run<K: Object>(client: Client, source: Arc<Source>, shared: Arc<Shared<K>>) {
    let mut backoff = Backoff::new(RETRY_FROM, RETRY_TO);
    // Any version will do at first; after an expiry only the newest, else the same expired one might be listed again.
    let mut newest = false;
    loop {
        let listed = list(&client, &source, newest, &shared).await;
        let ended = match listed {
            Ok(version) => watch(&client, &source, version, &shared, &mut backoff).await,
            Err(error) => error,
        };
        newest = errors::is_expired(&ended);
        if !newest {
            tracing::debug!(path = source.path, error = %ended, "list and watch begin anew");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn list<K: Object>(
    client: &Client,
    source: &Source,
    newest: bool,
    shared: &Shared<K>,
) -> Result<String, Error> {
    let params = ListParams {
        label_selector: selector(&source.labels),
        field_selector: selector(&source.fields),
        version_match: (!newest).then_some(VersionMatch::NotOlderThan),
        resource_version: (!newest).then(|| "0".to_owned()),
        ..ListParams::default()
    };
    let request = Request::new(&source.path);
    let request = if source.metadata_only { request.list_metadata(&params) } else { request.list(&params) };
    let list: ObjectList<K> = client.request(request.map_err(Error::BuildRequest)?).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    shared.replace(list.items);
    Ok(version)
}

/// Watches, again and again, from `version` on; the error is why a new list is needed.
async fn watch<K: Object>(
    client: &Client,
    source: &Source,
    mut version: String,
    shared: &Shared<K>,
    backoff: &mut Backoff,
) -> Error {
    loop {
        match watch_once(client, source, &mut version, shared, backoff).await {
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

async fn watch_once<K: Object>(
    client: &Client,
    source: &Source,
    version: &mut String,
    shared: &Shared<K>,
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
    let events = client.request_events::<K>(request.map_err(Error::BuildRequest)?).await?;
    let mut events = pin!(events);
    let mut any = false;
    while let Some(event) = events.try_next().await? {
        any = true;
        backoff.reset();
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                advance(version, object.metadata().resource_version.as_deref());
                shared.changed(object);
            }
            WatchEvent::Deleted(object) => {
                advance(version, object.metadata().resource_version.as_deref());
                shared.deleted(object);
            }
            WatchEvent::Bookmark(bookmark) => advance(version, Some(&bookmark.metadata.resource_version)),
            WatchEvent::Error(status) => return Err(Error::Api(status)),
        }
    }
    // A server that ends every watch at once must not make us spin.
    if !any {
        tokio::time::sleep(backoff.next()).await;
    }
    Ok(())
}

fn advance(version: &mut String, to: Option<&str>) {
    if let Some(to) = to.filter(|to| !to.is_empty()) {
        to.clone_into(version);
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

    type Watches = mpsc::UnboundedReceiver<(String, mpsc::UnboundedSender<Value>)>;

    fn pod(name: &str, version: u32, node: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": node, "containers": []},
            "metadata": {"namespace": "ns", "name": name, "resourceVersion": version.to_string(), "managedFields": [{"manager": "x"}]}})
    }

    fn event(kind: &str, object: Value) -> Value {
        json!({"type": kind, "object": object})
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
}
