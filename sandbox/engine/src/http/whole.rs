//! Work that is done to its end although who has asked for it goes away: what is half done (a container with a process that is in no
//! record, an address of nobody) would stay so. (moby `daemon/stop.go`: "Cancelling the request should not cancel the stop".)

use crate::error::Error;
use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// A connection's place among those that may be there at once. Work that outlives its connection keeps it.
pub type ConnectionPlace = Arc<OwnedSemaphorePermit>;

/// Answers on a task of its own. For requests whose bodies are short; others end with their client.
pub async fn to_its_end(request: Request, next: Next) -> Response {
    let place = request.extensions().get::<ConnectionPlace>().cloned();
    let work = tokio::spawn(async move {
        let response = next.run(request).await;
        drop(place);
        response
    });
    work.await.unwrap_or_else(|error| Error::internal(error.to_string()).into_response())
}

#[cfg(test)]
mod tests {
    use crate::http::accept;
    use axum::{Router, middleware, routing::post};
    use std::{sync::Arc, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{UnixListener, UnixStream},
        sync::Notify,
    };

    #[tokio::test]
    async fn work_is_done_although_its_client_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("s");
        let (begun, go_on, done) =
            (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let ours = (begun.clone(), go_on.clone(), done.clone());
        let work = move || async move {
            ours.0.notify_one();
            ours.1.notified().await;
            ours.2.notify_one();
        };
        let routes =
            Router::new().route("/work", post(work)).route_layer(middleware::from_fn(super::to_its_end));
        tokio::spawn(accept(UnixListener::bind(&socket).unwrap(), routes));
        let mut client = UnixStream::connect(&socket).await.unwrap();
        client.write_all(b"POST /work HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        begun.notified().await;
        drop(client);
        // When another is answered the server has seen that the first is gone.
        let mut other = UnixStream::connect(&socket).await.unwrap();
        other.write_all(b"GET / HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").await.unwrap();
        other.read_to_end(&mut vec![]).await.unwrap();
        go_on.notify_one();
        tokio::time::timeout(Duration::from_secs(20), done.notified()).await.expect("it is done");
    }
}
