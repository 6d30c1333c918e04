//! A small HTTP/2 server for this crate's tests: answers what a test's function says, and can be cut off.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};

use crate::config::ClientConfig;

pub(crate) type TestBody = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Pin<Box<dyn Future<Output = Response<TestBody>> + Send>>;

/// A server on a port of its own.
pub(crate) struct Server {
    pub(crate) config: ClientConfig,
    cut: broadcast::Sender<()>,
}

impl Server {
    /// Answers each request (method, path with query, body) by `answer`.
    pub(crate) async fn start(
        answer: impl Fn(String, String, Bytes) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, _) = broadcast::channel(1);
        let answer = Arc::new(answer);
        let cutter = cut.clone();
        tokio::spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else { return };
                let (answer, mut cut) = (answer.clone(), cutter.subscribe());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answer = answer.clone();
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                            Ok::<_, Infallible>(
                                answer(
                                    parts.method.to_string(),
                                    parts.uri.path_and_query().unwrap().to_string(),
                                    body,
                                )
                                .await,
                            )
                        }
                    });
                    let connection = http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tcp), service);
                    tokio::select! { _ = connection => {}, _ = cut.recv() => {} }
                });
            }
        });
        Self { config: ClientConfig::plain(format!("http://{address}").parse().unwrap(), "test"), cut }
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        let _ = self.cut.send(());
    }
}

pub(crate) fn json(status: u16, value: &serde_json::Value) -> Response<TestBody> {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

/// A watch: each text that is sent is a line; dropping the sender ends it.
pub(crate) fn lines() -> (mpsc::UnboundedSender<String>, Response<TestBody>) {
    let (sender, receiver) = mpsc::unbounded_channel::<String>();
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((line, receiver))
    });
    let frames = stream.map(|line| Ok(Frame::data(Bytes::from(line + "\n"))));
    (sender, Response::new(StreamBody::new(frames).boxed_unsync()))
}
