//! A client over one HTTP/2 connection that speaks JSON.

use bytes::Bytes;
use drydock_apiserver::testing::TestServer;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

/// A connection to a server of its own.
pub struct Client {
    pub server: TestServer,
    sender: SendRequest<Full<Bytes>>,
}

/// An answer's code and object.
pub struct Reply {
    pub code: u16,
    pub tree: Value,
}

impl Reply {
    /// The object, which was to be had.
    pub fn ok(self) -> Value {
        assert!(self.code < 300, "{}: {:#}", self.code, self.tree);
        self.tree
    }

    /// The message of a refusal with this code.
    pub fn refused(self, code: u16) -> String {
        assert_eq!(self.code, code, "{:#}", self.tree);
        self.tree["message"].as_str().unwrap_or_default().to_string()
    }
}

impl Client {
    pub async fn start() -> Self {
        Self::to(TestServer::start().await).await
    }

    pub async fn to(server: TestServer) -> Self {
        let sender = connect(&server).await;
        Self { server, sender }
    }

    /// The same as another user, which the administrator may be.
    pub async fn as_user(&self, user: &str, method: &str, path: &str, tree: &Value) -> Reply {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://server{path}"))
            .header("content-type", "application/json")
            .header("impersonate-user", user)
            .body(Full::new(if tree.is_null() { Bytes::new() } else { tree.to_string().into() }))
            .expect("a request");
        let mut sender = self.sender.clone();
        sender.ready().await.expect("a connection");
        reply(sender.send_request(request).await.expect("an answer")).await
    }

    /// The answer to a request without body.
    pub async fn ask(&self, request: http::request::Builder) -> http::Response<Incoming> {
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        let mut sender = self.sender.clone();
        sender.ready().await.expect("a connection");
        sender.send_request(request).await.expect("an answer")
    }

    /// The answer's head, its body unread.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://server{path}"))
            .header("content-type", media)
            .header("user-agent", "test/1")
            .body(Full::new(body.into()))
            .expect("a request");
        let mut sender = self.sender.clone();
        sender.ready().await.expect("a connection");
        sender.send_request(request).await.expect("an answer")
    }

    pub async fn send(&self, method: &str, path: &str, media: &str, body: impl Into<Bytes>) -> Reply {
        reply(self.raw(method, path, media, body).await).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "", Bytes::new()).await
    }

    /// In another form than the object itself.
    pub async fn get_as(&self, path: &str, accept: &str) -> Reply {
        self.send_as("GET", path, accept, Bytes::new()).await
    }

    pub async fn post_as(&self, path: &str, tree: &Value, accept: &str) -> Reply {
        self.send_as("POST", path, accept, tree.to_string().into()).await
    }

    async fn send_as(&self, method: &str, path: &str, accept: &str, body: Bytes) -> Reply {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://server{path}"))
            .header("accept", accept)
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("a request");
        let mut sender = self.sender.clone();
        sender.ready().await.expect("a connection");
        reply(sender.send_request(request).await.expect("an answer")).await
    }

    pub async fn post(&self, path: &str, tree: &Value) -> Reply {
        self.send("POST", path, "application/json", tree.to_string()).await
    }

    pub async fn put(&self, path: &str, tree: &Value) -> Reply {
        self.send("PUT", path, "application/json", tree.to_string()).await
    }

    pub async fn merge(&self, path: &str, tree: &Value) -> Reply {
        self.send("PATCH", path, "application/merge-patch+json", tree.to_string()).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Reply {
        self.send("DELETE", path, "application/json", options.to_string()).await
    }
}

async fn reply(answer: http::Response<Incoming>) -> Reply {
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    let tree = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Reply { code, tree }
}

/// A connection of its own.
pub async fn connect(server: &TestServer) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(server.address).await.expect("it listens");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// Lines of a watch, one by one.
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    pub fn of(answer: http::Response<Incoming>) -> Self {
        assert_eq!(answer.status(), 200);
        Self { body: answer.into_body(), rest: Vec::new() }
    }

    /// The next event's type and object; none: the watch ended.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let mut tree: Value = serde_json::from_slice(&line).expect("a line of JSON");
                let type_ = tree["type"].as_str().expect("a type").to_string();
                return Some((type_, tree["object"].take()));
            }
            let frame = self.body.frame().await?.expect("a frame");
            self.rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
}
