//! An HTTP client that does just what a test says: one connection for each request, no redirects, no cookies, any Host.

use crate::Server;
use bytes::Bytes;
use drydock_protocol::{
    api::{ApiError, Created, Link},
    state::Role,
};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{HeaderMap, Method, Request, body::Frame, client::conn::http1, http::request::Builder};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// A request's body.
pub type Body = BoxBody<Bytes, std::convert::Infallible>;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// Asserts a status.
    #[track_caller]
    pub fn has(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
    /// Asserts a refusal: status, code, and a text that says something.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> ApiError {
        assert_eq!(self.status, status, "{}", self.text());
        let error: ApiError = self.json();
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.message.len() > 20, "{error:?}");
        error
    }
}

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A body of zeros in pieces, without a length announced.
pub fn zeros(bytes: u64) -> Body {
    const PIECE: u64 = 64 * 1024;
    let pieces = (0..bytes.div_ceil(PIECE)).map(move |i| {
        let n = PIECE.min(bytes - i * PIECE);
        Ok(Frame::data(Bytes::from(vec![0; usize::try_from(n).unwrap_or(0)])))
    });
    StreamBody::new(futures_util::stream::iter(pieces)).boxed()
}

impl Server {
    /// Sends a request as it is.
    pub async fn send(&self, request: Builder, body: Body) -> Answer {
        let stream = TcpStream::connect(self.address()).await.expect("the server takes connections");
        self.send_over(stream, request, body).await
    }

    async fn send_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Builder,
        body: Body,
    ) -> Answer {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let has_host = request.headers_ref().is_some_and(|h| h.contains_key("host"));
        let request = if has_host { request } else { request.header("host", self.address().to_string()) };
        let request = request.body(body).expect("a request");
        let shown = format!("{} {}", request.method(), request.uri());
        let answer =
            sender.send_request(request).await.unwrap_or_else(|e| panic!("{shown}: {e}\n{}", self.log()));
        let (parts, body) = answer.into_parts();
        let body =
            body.collect().await.unwrap_or_else(|e| panic!("{shown}: the answer broke off: {e}")).to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// A request below `/api/v1` with a token (or none) and a JSON body (or none).
    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        match body {
            Some(body) => {
                self.send(request.header("content-type", "application/json"), full(body.to_string())).await
            }
            None => self.send(request, full("")).await,
        }
    }

    /// The same as the operator, who comes by the socket in the state directory.
    pub async fn operate(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let stream = UnixStream::connect(self.state_dir().join("web/api.sock")).await;
        let stream = stream.expect("the server takes the operator's connections");
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.send_over(stream, request, full(body.to_string())).await
            }
            None => self.send_over(stream, request, full("")).await,
        }
    }

    /// `GET` below `/api/v1`.
    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, Some(token), None).await
    }

    /// A session of one node.
    pub async fn session(&self) -> Created {
        self.create(json!({ "playground": "linux" })).await
    }

    /// A session as wished.
    pub async fn create(&self, wish: Value) -> Created {
        self.call(Method::POST, "/sessions", None, Some(wish)).await.has(201).json()
    }

    /// Ends a session.
    pub async fn end(&self, session: &Created) {
        self.call(Method::DELETE, &format!("/sessions/{}", session.id), Some(&session.token), None)
            .await
            .has(204);
    }

    /// Another link to a session, and its token.
    pub async fn link(&self, session: &Created, role: Role, ttl_seconds: Option<u64>) -> (Link, String) {
        let body = json!({ "role": role, "ttl_seconds": ttl_seconds });
        let path = format!("/sessions/{}/links", session.id);
        let link: Link =
            self.call(Method::POST, &path, Some(&session.token), Some(body)).await.has(201).json();
        let token =
            link.url.as_deref().and_then(|u| u.split_once("#t=")).expect("a link has a token").1.to_owned();
        (link, token)
    }

    /// Writes a file into a node.
    pub async fn upload(&self, session: &Created, path: &str, body: Body) -> Answer {
        let uri = format!("/api/v1/sessions/{}/nodes/node1/file?path={path}", session.id);
        let request = Request::put(uri).header("authorization", format!("Bearer {}", session.token));
        self.send(request, body).await
    }
}
