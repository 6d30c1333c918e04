//! Answers that are told while the work goes on: pull, push, build, load. A JSON object per line; what fails after the
//! first line is told in the last one, what fails before it is a refusal with a status. When the client goes away, the
//! work is cancelled.

use super::json::Answer;
use super::progress::Progress;
use crate::error::{Error, Result};
use crate::picture::Doing;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Lines that may wait for a slow client before the work waits too.
const QUEUE: usize = 64;

/// Where the work tells what it does. A clone writes to the same client.
#[derive(Debug, Clone)]
pub struct Lines {
    sender: mpsc::Sender<Bytes>,
    told: Arc<AtomicBool>,
    /// Shows on the page how far the work is.
    doing: Option<Doing>,
}

impl Lines {
    /// The same, shown on the page from now on, for as long as somebody holds this or a clone of it.
    pub fn shown(&self, doing: Doing) -> Self {
        Self { doing: Some(doing), ..self.clone() }
    }

    /// One object. Waits while the client is slow; fails when it is gone.
    pub async fn send(&self, object: &Value) -> Result<()> {
        self.note(object);
        self.sender.send(line(object)).await.map_err(|_| gone())
    }

    /// The same from a thread that may block.
    pub fn send_blocking(&self, object: &Value) -> Result<()> {
        self.note(object);
        self.sender.blocking_send(line(object)).map_err(|_| gone())
    }

    fn note(&self, object: &Value) {
        self.told.store(true, Ordering::Relaxed);
        if let Some(doing) = &self.doing {
            doing.hear(object);
        }
    }
}

/// `{"status":"…","id":"…"}`.
pub fn status(id: &str, status: &str) -> Value {
    let mut object = Map::new();
    object.insert("status".to_owned(), json!(status));
    if !id.is_empty() {
        object.insert("id".to_owned(), json!(id));
    }
    Value::Object(object)
}

/// `{"status":"Downloading","progressDetail":{…},"progress":"[==> ] …","id":"…"}`.
pub fn transfer(id: &str, action: &str, progress: Progress) -> Value {
    let mut object = Map::new();
    object.insert("status".to_owned(), json!(action));
    object.insert("progressDetail".to_owned(), progress.detail());
    let bar = progress.bar();
    if !bar.is_empty() {
        object.insert("progress".to_owned(), json!(bar));
    }
    if !id.is_empty() {
        object.insert("id".to_owned(), json!(id));
    }
    Value::Object(object)
}

/// The last line of work that failed.
pub fn failure(message: &str) -> Value {
    json!({ "errorDetail": { "message": message }, "error": message })
}

fn line(object: &Value) -> Bytes {
    Bytes::from(format!("{object}\r\n"))
}

fn gone() -> Error {
    Error::internal("context canceled")
}

/// Lines for somebody here instead of a client: a build that pulls.
pub fn channel() -> (Lines, mpsc::Receiver<Bytes>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Lines { sender, told: Arc::default(), doing: None }, receiver)
}

/// Ends its task when it is dropped.
struct Cancel(JoinHandle<Result<()>>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Does work that tells lines. Answers with the first line or the end, whichever comes first.
pub async fn stream<W, F>(work: W) -> Answer
where
    W: FnOnce(Lines) -> F,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    let lines = Lines { sender, told: Arc::default(), doing: None };
    let working = work(lines.clone());
    let mut task = Cancel(tokio::spawn(async move {
        match working.await {
            Err(error) if lines.told.load(Ordering::Relaxed) => {
                let _gone = lines.send(&failure(&error.message)).await;
                Ok(())
            }
            other => other,
        }
    }));
    let Some(first) = receiver.recv().await else {
        (&mut task.0).await.map_err(|error| Error::internal(error.to_string()))??;
        return Ok(body_of(stream::empty()));
    };
    let rest = stream::unfold((receiver, Some(first), task), |(mut receiver, first, task)| async move {
        let next = match first {
            Some(first) => Some(first),
            None => receiver.recv().await,
        };
        next.map(|line| (line, (receiver, None, task)))
    });
    Ok(body_of(rest))
}

/// A JSON answer whose parts come later.
pub fn body_of(parts: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    use futures_util::StreamExt;
    let mut response = Response::new(Body::from_stream(parts.map(Ok::<_, Infallible>)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::time::Duration;
    use tokio::sync::oneshot;

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn lines_come_in_order_and_a_late_failure_is_the_last() {
        let answer = stream(|lines| async move {
            lines.send(&status("1", "Pulling from bb")).await?;
            lines.send(&transfer("abc", "Downloading", Progress { current: 5, total: 10 })).await?;
            Err(Error::not_found("no more"))
        });
        let text = text(answer.await.unwrap()).await;
        let bar = format!("[{}>{}]       5B/10B", "=".repeat(25), " ".repeat(25));
        assert_eq!(
            text.split("\r\n").collect::<Vec<_>>(),
            [
                r#"{"id":"1","status":"Pulling from bb"}"#,
                &format!(
                    r#"{{"id":"abc","progress":"{bar}","progressDetail":{{"current":5,"total":10}},"status":"Downloading"}}"#
                ),
                r#"{"error":"no more","errorDetail":{"message":"no more"}}"#,
                "",
            ]
        );
    }

    #[tokio::test]
    async fn an_early_failure_is_a_refusal() {
        let refused = stream(|_| async { Err(Error::not_found("No such image: x")) }).await.unwrap_err();
        assert_eq!(refused, Error::not_found("No such image: x"));
        assert_eq!(text(stream(|_| async { Ok(()) }).await.unwrap()).await, "");
    }

    #[tokio::test]
    async fn work_ends_when_the_client_goes() {
        let (alive, ended) = oneshot::channel::<()>();
        let answer = stream(move |lines| async move {
            let _alive = alive;
            lines.send(&status("", "begun")).await?;
            std::future::pending().await
        });
        drop(answer.await.unwrap());
        let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
        assert!(ended.expect("it was cancelled").is_err());
    }
}
