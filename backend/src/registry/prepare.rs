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
use std::{sync::Arc, time::Duration};
use tokio::sync::{broadcast, mpsc};

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

fn make(sessions: Arc<Sessions>, name: String) -> Response {
    let (sender, receiver) = mpsc::channel::<String>(16);
    tokio::spawn(async move {
        let mut told = sessions.preparing.subscribe();
        let work = sessions.prepare_image(&name, WITHIN);
        tokio::pin!(work);
        let last = loop {
            tokio::select! {
                done = &mut work => break done.map_or_else(|e| format!("failed: {e}"), |()| "ok".into()),
                line = told.recv() => match line {
                    // The asker may be gone; the image is made all the same.
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
