//! A server on a free port with a state directory of its own, and small clients for it.

use crate::fake::Fake;
use axum::body::Body;
use bytes::Bytes;
use clap::Parser;
use drydock_backend::{config::Config, serve::Server};
use drydock_protocol::api::Created;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::{net::SocketAddr, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest},
};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    config: Config,
}

pub struct TestServer {
    pub fake: Fake,
    pub address: SocketAddr,
    pub server: Option<Server>,
    pub dir: TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {:?}", self.status, self.body))
    }
    pub fn code(&self) -> String {
        self.json::<serde_json::Value>()["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn config(options: &[&str]) -> Config {
    Options::parse_from(["test"].iter().chain(options)).config
}

impl TestServer {
    pub async fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for d in ["run/sessions", "web"] {
            std::fs::create_dir_all(dir.path().join(d)).unwrap();
        }
        let fake = Fake::start(dir.path());
        let (server, address) = serve(dir.path(), options).await;
        Self { fake, address, server: Some(server), dir }
    }

    /// Ends the server and starts another on the same state.
    pub async fn restart(&mut self, options: &[&str]) {
        if let Some(server) = self.server.take() {
            server.finish().await;
        }
        let (server, address) = serve(self.dir.path(), options).await;
        (self.server, self.address) = (Some(server), address);
    }

    /// The server's database, for what can't be had otherwise.
    pub fn sql(&self, sql: &str) {
        let db = rusqlite::Connection::open(self.dir.path().join("web/drydock.db")).unwrap();
        db.execute_batch(sql).unwrap();
    }

    pub async fn send(&self, request: hyper::http::request::Builder, body: impl Into<Body>) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        send_over(stream, request, &self.address.to_string(), body.into()).await
    }

    /// With a token (or none) and a JSON body (or none).
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<serde_json::Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        match body {
            Some(body) => {
                self.send(request.header("content-type", "application/json"), body.to_string()).await
            }
            None => self.send(request, Body::empty()).await,
        }
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, Some(token), None).await
    }

    /// Over the operator's socket.
    pub async fn operator(&self, method: Method, path: &str, body: Option<serde_json::Value>) -> Answer {
        let stream = tokio::net::UnixStream::connect(self.dir.path().join("web/api.sock")).await.unwrap();
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("content-type", "application/json");
        send_over(stream, request, "localhost", body.map_or_else(Body::empty, |b| b.to_string().into())).await
    }

    pub async fn create(&self) -> Created {
        let answer = self
            .call(Method::POST, "/sessions", None, Some(serde_json::json!({ "playground": "linux" })))
            .await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.json()
    }

    /// Another link's token.
    pub async fn link(&self, session: &Created, role: &str) -> (u64, String) {
        let body = serde_json::json!({ "role": role });
        let answer = self
            .call(Method::POST, &format!("/sessions/{}/links", session.id), Some(&session.token), Some(body))
            .await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        let link: drydock_protocol::api::Link = answer.json();
        let url = link.url.unwrap();
        (link.id, url.split_once("#t=").unwrap().1.to_owned())
    }

    pub async fn socket(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
        let mut request = format!("ws://{}/api/v1{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket)
    }

    /// A page's WebSocket, opened by a program with a token.
    pub async fn page(&self, session: &Created, token: &str) -> WebSocketStream<TcpStream> {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", "drydock.v1")];
        self.socket(&format!("/sessions/{}/ws?client=test", session.id), &headers).await.unwrap()
    }
}

async fn serve(dir: &Path, options: &[&str]) -> (Server, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (Server::start(config(options), dir, listener).await.unwrap(), address)
}

pub async fn send_over(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    request: hyper::http::request::Builder,
    host: &str,
    body: Body,
) -> Answer {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let has_host = request.headers_ref().unwrap().contains_key("host");
    let request = if has_host { request } else { request.header("host", host) };
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// The next text message as JSON.
pub async fn text(socket: &mut WebSocketStream<TcpStream>) -> serde_json::Value {
    match next(socket).await {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

pub async fn next(socket: &mut WebSocketStream<TcpStream>) -> Message {
    use futures_util::StreamExt;
    tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap().unwrap().unwrap()
}

/// Reads until the close frame; its code.
pub async fn close_code(socket: &mut WebSocketStream<TcpStream>) -> u16 {
    loop {
        if let Message::Close(frame) = next(socket).await {
            return frame.unwrap().code.into();
        }
    }
}

/// Waits until something that happens in another task has happened.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
