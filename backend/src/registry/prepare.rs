//! Images of the catalogue that are not there yet: a node's engine asks for one at the registry's address, below `/drydock/`, and is
//! told how far its making is. The warden has it made (`Request::PrepareImage`); whoever else asks meanwhile waits for the same.
//!
//! `GET /drydock/catalogue` lists the names; `POST /drydock/catalogue/NAME` makes one and answers with lines of text, of which the
//! last is `ok` or `failed: WHY`.

use crate::sessions::Sessions;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use hyper::{Method, StatusCode};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{broadcast, mpsc, watch};

/// Where it is.
pub const PATH: &str = "/drydock/catalogue";
/// Longest time for one image: a build from packages over a slow line.
const WITHIN: Duration = Duration::from_secs(30 * 60);

/// Answers a request below [`PATH`].
pub fn answer(sessions: &Arc<Sessions>, method: &Method, path: &str) -> Response {
    let name = path.strip_prefix(PATH).unwrap_or_default().trim_start_matches('/');
    match (method, name) {
        (&Method::GET, "") => {
            let names: Vec<&str> = drydock_catalogue::all().iter().map(|recipe| recipe.name).collect();
            axum::Json(names).into_response()
        }
        (&Method::POST, name) if drydock_catalogue::find(name).is_ok() => {
            make(sessions.clone(), name.to_owned())
        }
        _ => (StatusCode::NOT_FOUND, "the catalogue has no recipe of this name\n").into_response(),
    }
}

/// How an image that is being made ends: nothing yet, or done, or why not.
type End = watch::Receiver<Option<Result<(), String>>>;

/// The images that are being made. Many may ask for one.
#[derive(Debug, Default)]
pub struct Making(Mutex<HashMap<String, End>>);

impl Making {
    /// The end of an image's making, which begins unless somebody else has it made already.
    fn join(&self, sessions: &Arc<Sessions>, name: &str) -> End {
        let mut making = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = making.get(name) {
            return end.clone();
        }
        let (tell, end) = watch::channel(None);
        making.insert(name.to_owned(), end.clone());
        let (sessions, name) = (sessions.clone(), name.to_owned());
        tokio::spawn(async move {
            // Whoever asked may be gone; the image is made all the same.
            let done = sessions.prepare_image(&name, WITHIN).await.map_err(|e| e.to_string());
            sessions.making.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            tell.send_replace(Some(done));
        });
        end
    }
}

fn make(sessions: Arc<Sessions>, name: String) -> Response {
    let (sender, receiver) = mpsc::channel::<String>(16);
    let mut told = sessions.preparing.subscribe();
    let mut end = sessions.making.join(&sessions, &name);
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
