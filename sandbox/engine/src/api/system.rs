//! Endpoints of the engine itself: what it is, what it has, what happens in it.

mod df;
pub(crate) mod info;

pub use info::memory;

use crate::clock::Timestamp;
use crate::config::DaemonConfig;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::filters::Filters;
use crate::http::{Answer, ApiVersion, MAX_API, MIN_API, Peer, Query, VERSION, answer, body_of, ordered};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/_ping", get(ping))
        .route("/version", get(version))
        .route("/info", get(info::info))
        .route("/system/df", get(df::df))
        .route("/events", get(events))
}

/// The first thing that every client asks.
async fn ping(State(engine): State<Arc<Engine>>, method: Method) -> Response {
    let mut response = Response::new(Body::from(if method == Method::HEAD { "" } else { "OK" }));
    let headers = response.headers_mut();
    let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
    set(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    set(header::CACHE_CONTROL, "no-cache, no-store, must-revalidate");
    set(header::PRAGMA, "no-cache");
    set(HeaderName::from_static("swarm"), "inactive");
    for (name, value) in abilities(&engine.config.get()) {
        set(HeaderName::from_static(name), value);
    }
    response
}

/// What a client makes its choices by. `Builder-Version: 2`: it builds with BuildKit if it can.
fn abilities(config: &DaemonConfig) -> [(&'static str, &'static str); 2] {
    [
        ("builder-version", if config.buildkit() { "2" } else { "1" }),
        ("docker-experimental", if config.experimental { "true" } else { "false" }),
    ]
}

async fn version(State(engine): State<Arc<Engine>>) -> Answer {
    let (kernel, arch) = (info::kernel(), info::go_arch());
    // Clients print what is here; nothing of it is another's program.
    Ok(answer(
        StatusCode::OK,
        &ordered! {
            "Platform": ordered! { "Name": "Drydock", },
            "Components": [ordered! {
                "Name": "Engine",
                "Version": VERSION,
                "Details": ordered! {
                    "ApiVersion": MAX_API.to_string(),
                    "Arch": arch,
                    "BuildTime": "",
                    "Experimental": engine.config.get().experimental.to_string(),
                    "GitCommit": "",
                    "GoVersion": "",
                    "KernelVersion": kernel,
                    "MinAPIVersion": MIN_API.to_string(),
                    "Os": "linux",
                },
            }],
            "Version": VERSION,
            "ApiVersion": MAX_API.to_string(),
            "MinAPIVersion": MIN_API.to_string(),
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": arch,
            "KernelVersion": kernel,
            "BuildTime": "",
        },
    ))
}

/// A stream of events. Its head goes out at once, also when nothing happens.
async fn events(State(engine): State<Arc<Engine>>, version: ApiVersion, query: Query, peer: Peer) -> Answer {
    let since = time(query.get("since"))?;
    let until = time(query.get("until"))?;
    let now = Timestamp::now();
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        let (since, until) = (query.get("since"), query.get("until"));
        let text = format!("`since` time ({since}) cannot be after `until` time ({until})");
        return Err(Error::invalid(text));
    }
    let filters = Filters::of(&query)?;
    let mut subscription = engine.events.subscribe(since, until, filters);
    // Events of images that are made came with 1.46; older clients don't know them.
    let shown =
        move |event: &Event| version.at_least(46) || event.kind != "image" || event.action != "create";
    let mut past = vec![];
    while let Some(event) = subscription.next_past() {
        if shown(&event) {
            past.push(line(&event));
        }
    }
    let end = until.map(|until| {
        let left = u64::try_from(until.nanos().saturating_sub(now.nanos())).unwrap_or(0);
        Instant::now() + Duration::from_nanos(left)
    });
    let listening = engine.containers.departed.listen(peer.0);
    let live = stream::unfold((subscription, listening), move |(mut subscription, listening)| async move {
        loop {
            let event = match end {
                Some(end) => tokio::time::timeout_at(end, subscription.next()).await.ok()??,
                None => subscription.next().await?,
            };
            if shown(&event) {
                return Some((line(&event), (subscription, listening)));
            }
        }
    });
    use futures_util::StreamExt;
    let only_past = end.is_some_and(|end| end <= Instant::now());
    Ok(if only_past { body_of(stream::iter(past)) } else { body_of(stream::iter(past).chain(live)) })
}

fn line(event: &Event) -> Bytes {
    let mut text = serde_json::to_vec(event).unwrap_or_default();
    text.push(b'\n');
    Bytes::from(text)
}

fn time(text: &str) -> Result<Option<Timestamp>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::invalid(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    Timestamp::from_query(text).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_what_daemon_json_says() {
        let told = |text: &str| abilities(&serde_json::from_str(text).unwrap()).map(|(_, value)| value);
        assert_eq!(told("{}"), ["2", "false"]);
        assert_eq!(told(r#"{"features": {"buildkit": false}, "experimental": true}"#), ["1", "true"]);
        assert_eq!(told(r#"{"features": {"buildkit": true}}"#), ["2", "false"]);
    }
}
