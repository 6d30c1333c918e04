//! Images of the catalogue that are not there yet: a node's engine asks for one at the registry's address, below `/drydock/`, and is
//! told how far its making is. The warden has it made (`Request::PrepareImage`); whoever else asks meanwhile waits for the same.
//!
//! A session has few of them made at a time: the making is the server's, outside of the session's limits.
//!
//! `GET /drydock/catalogue` lists the names; `POST /drydock/catalogue/NAME` makes one and answers with lines of text, of which the
//! last is `ok` or `failed: WHY`.

use crate::sessions::Sessions;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use drydock_protocol::SessionId;
use hyper::{Method, StatusCode};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{broadcast, mpsc, watch};

/// Where it is.
pub const PATH: &str = "/drydock/catalogue";
/// Longest time for one image: a build from packages over a slow line.
const WITHIN: Duration = Duration::from_secs(30 * 60);

/// Images that a session may have asked for and that are not there yet.
const MOST: usize = 2;

/// Answers a request of a session below [`PATH`].
pub fn answer(sessions: &Arc<Sessions>, session: &SessionId, method: &Method, path: &str) -> Response {
    let name = path.strip_prefix(PATH).unwrap_or_default().trim_start_matches('/');
    match (method, name) {
        (&Method::GET, "") => {
            let names: Vec<&str> = drydock_catalogue::all().iter().map(|recipe| recipe.name).collect();
            axum::Json(names).into_response()
        }
        (&Method::POST, name) if drydock_catalogue::find(name).is_ok() => {
            make(sessions.clone(), session, name.to_owned())
        }
        _ => (StatusCode::NOT_FOUND, "the catalogue has no recipe of this name\n").into_response(),
    }
}

/// How an image that is being made ends: nothing yet, or done, or why not.
type End = watch::Receiver<Option<Result<(), String>>>;

/// An image that is being made.
#[derive(Debug)]
struct One {
    end: End,
    /// Who has asked for it; all but the first would have got it anyway.
    askers: HashSet<SessionId>,
}

/// The images that are being made. Many may ask for one.
#[derive(Debug, Default)]
pub struct Making(Mutex<HashMap<String, One>>);

impl Making {
    /// The end of an image's making, which `begin` begins unless somebody else has it made already; `None` for a session that has
    /// asked for too many others.
    fn join(&self, session: &SessionId, name: &str, begin: impl FnOnce() -> End) -> Option<End> {
        let mut making = self.making();
        let asked = making.iter().filter(|(other, one)| *other != name && one.askers.contains(session));
        if asked.count() >= MOST {
            return None;
        }
        let new = || One { end: begin(), askers: HashSet::new() };
        let one = making.entry(name.to_owned()).or_insert_with(new);
        one.askers.insert(session.clone());
        Some(one.end.clone())
    }

    fn making(&self) -> MutexGuard<'_, HashMap<String, One>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the warden make one. Whoever asked may be gone meanwhile; the image is made all the same.
fn begin(sessions: &Arc<Sessions>, name: &str) -> End {
    let (tell, end) = watch::channel(None);
    let (sessions, name) = (sessions.clone(), name.to_owned());
    tokio::spawn(async move {
        let done = sessions.prepare_image(&name, WITHIN).await.map_err(|e| e.to_string());
        sessions.making.making().remove(&name);
        tell.send_replace(Some(done));
    });
    end
}

fn make(sessions: Arc<Sessions>, session: &SessionId, name: String) -> Response {
    let (sender, receiver) = mpsc::channel::<String>(16);
    let mut told = sessions.preparing.subscribe();
    let Some(mut end) = sessions.making.join(session, &name, || begin(&sessions, &name)) else {
        let why = format!("failed: this session waits for {MOST} other images of the catalogue already\n");
        return why.into_response();
    };
    tokio::spawn(async move {
        let last = loop {
            tokio::select! {
                () = sender.closed() => return,
                done = end.wait_for(Option::is_some) => break match done.as_deref() {
                    Ok(Some(Ok(()))) => "ok".into(),
                    Ok(Some(Err(why))) => format!("failed: {why}"),
                    Ok(None) | Err(_) => "failed: the server ends".into(),
                },
                line = told.recv() => match line {
                    Ok((of, line)) if of == name => drop(sender.try_send(line)),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => break "failed: the server ends".into(),
                },
            }
        };
        let _asker_gone = sender.send(last).await;
    });
    let lines = futures_util::stream::unfold(receiver, async |mut receiver| {
        let line = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(format!("{line}\n")), receiver))
    });
    Body::from_stream(lines).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_two_images_made_at_a_time_and_joins_others() {
        let making = Making::default();
        let (ann, bob) = (SessionId::from_random([1; 10]), SessionId::from_random([2; 10]));
        let begun = std::cell::Cell::new(0);
        let join = |session, name| {
            let begin = || {
                begun.set(begun.get() + 1);
                watch::channel(None).1
            };
            making.join(session, name, begin).is_some()
        };
        assert!(join(&ann, "one") && join(&ann, "two"));
        assert!(join(&ann, "one"), "the same again");
        assert!(!join(&ann, "three"), "a third");
        assert!(join(&bob, "two") && join(&bob, "three"));
        assert!(!join(&ann, "three"), "whoever has begun it");
        assert!(!join(&bob, "four"));
        assert_eq!(begun.get(), 3);
        making.making().remove("one");
        assert!(join(&ann, "three"), "one is made");
        assert_eq!(begun.get(), 3, "it was being made already");
    }
}
