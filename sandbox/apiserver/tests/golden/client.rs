//! A client that sends one request per connection and reads all of the answer.

use crate::requests::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Where the server is.
pub struct Client(SocketAddr);

/// What it answered.
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    pub async fn send(&self, request: &Request) -> Reply {
        let stream = TcpStream::connect(self.0).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        let mut built =
            http::Request::builder().method(request.method).uri(&request.path).header("host", "x");
        for (name, value) in &request.headers {
            built = built.header(*name, *value);
        }
        let body = Full::new(Bytes::copy_from_slice(request.body.as_bytes()));
        let answer = sender.send_request(built.body(body).expect("a request")).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}
