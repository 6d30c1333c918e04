//! The client itself: a connection per request, since the engine is a socket away and most requests come seldom.

use super::{
    DockerError, Frames,
    types::{ContainerDetails, Created, Event, ExecDetails, Image, Info, Limits, Summary},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1,
    header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE},
    http::request::Builder,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::UnixStream,
};

/// As long as the engine may take for what takes no time of its own (dockershim's `defaultTimeout`).
const PATIENCE: Duration = Duration::from_secs(2 * 60);
/// Longest answer that is read whole.
const MAX_ANSWER: usize = 16 << 20;
/// Longest output of a command whose output is gathered.
const MAX_OUTPUT: usize = 10 << 10;
/// Longest line of a stream of JSON.
const MAX_LINE: usize = 256 << 10;

type Result<T> = std::result::Result<T, DockerError>;

/// What a command printed, and its exit status.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Both streams, cut at 10 KiB as the kubelet cuts the output of probes.
    pub text: String,
    /// Its exit status.
    pub status: i32,
}

/// See the top of the file.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: PathBuf,
}

/// Percent-encodes what stands in a query.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl Docker {
    /// The engine that listens at a socket.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        upgrade: bool,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path);
        if upgrade {
            request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
        }
        self.ask(request, body).await
    }

    async fn ask(&self, request: Builder, body: Option<&Value>) -> Result<Response<Incoming>> {
        let failed = |e: &dyn std::fmt::Display| DockerError::Connection(e.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| failed(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        // Ends with the response's body; its failures show there.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        let mut request = request.header(HOST, "docker");
        let bytes = match body {
            Some(value) => {
                request = request.header(CONTENT_TYPE, "application/json");
                serde_json::to_vec(value).map_err(|e| DockerError::Answer(e.to_string()))?
            }
            None => Vec::new(),
        };
        let request = request.body(Full::new(Bytes::from(bytes))).map_err(|e| failed(&e))?;
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let status = response.status();
        if status.is_success()
            || status == StatusCode::NOT_MODIFIED
            || status == StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok(response);
        }
        let bytes = whole(response).await.unwrap_or_default();
        let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = said["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        Err(DockerError::Refused { status: status.as_u16(), message })
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&Value>) -> Result<T> {
        let answer = async { whole(self.send(method, path, body, false).await?).await };
        let bytes = in_time(answer).await?;
        serde_json::from_slice(&bytes).map_err(|e| DockerError::Answer(e.to_string()))
    }

    async fn done(&self, method: Method, path: &str) -> Result<()> {
        in_time(self.done_at_last(method, path)).await
    }

    /// The same of what may take any time.
    async fn done_at_last(&self, method: Method, path: &str) -> Result<()> {
        whole(self.send(method, path, None, false).await?).await.map(drop)
    }

    /// Changes what a container may use.
    pub async fn update(&self, id: &str, limits: Limits) -> Result<()> {
        let body = serde_json::to_value(limits).map_err(|e| DockerError::Answer(e.to_string()))?;
        self.json::<Value>(Method::POST, &format!("/containers/{}/update", encode(id)), Some(&body))
            .await
            .map(drop)
    }

    /// What the engine says of the machine and itself.
    pub async fn info(&self) -> Result<Info> {
        self.json(Method::GET, "/info", None).await
    }

    /// Containers of every state that have a label (`name` or `name=value`).
    pub async fn list(&self, label: &str) -> Result<Vec<Summary>> {
        let filters = encode(&json!({ "label": [label] }).to_string());
        self.json(Method::GET, &format!("/containers/json?all=1&filters={filters}"), None).await
    }

    /// One container.
    pub async fn inspect(&self, id: &str) -> Result<ContainerDetails> {
        self.json(Method::GET, &format!("/containers/{id}/json"), None).await
    }

    /// Makes a container.
    pub async fn create(&self, name: &str, body: &Value) -> Result<String> {
        let path = format!("/containers/create?name={}", encode(name));
        Ok(self.json::<Created>(Method::POST, &path, Some(body)).await?.id)
    }

    /// Starts it.
    pub async fn start(&self, id: &str) -> Result<()> {
        self.done(Method::POST, &format!("/containers/{id}/start")).await
    }

    /// Stops it, by force after some seconds. Returns when it has ended.
    pub async fn stop(&self, id: &str, seconds: i64) -> Result<()> {
        self.done_at_last(Method::POST, &format!("/containers/{id}/stop?t={seconds}")).await
    }

    /// Deletes it, running or not.
    pub async fn remove(&self, id: &str) -> Result<()> {
        match self.done(Method::DELETE, &format!("/containers/{id}?force=1&v=1")).await {
            Err(e) if e.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, id: &str, exec: bool, rows: u16, columns: u16) -> Result<()> {
        let what = if exec { "exec" } else { "containers" };
        self.done(Method::POST, &format!("/{what}/{id}/resize?h={rows}&w={columns}")).await
    }

    /// An image by its name.
    pub async fn image(&self, name: &str) -> Result<Image> {
        self.json(Method::GET, &format!("/images/{}/json", encode(name)), None).await
    }

    /// All images.
    pub async fn images(&self) -> Result<Vec<Image>> {
        self.json(Method::GET, "/images/json?digests=1", None).await
    }

    /// Pulls an image; `account` is what `X-Registry-Auth` says.
    pub async fn pull(&self, name: &str, account: Option<String>) -> Result<()> {
        let path = format!("/images/create?fromImage={}", encode(name));
        let request = Request::post(path);
        let request = match account {
            Some(account) => request.header("x-registry-auth", account),
            None => request,
        };
        let response = self.ask(request, None).await?;
        let mut failure = None;
        lines(response, |line| {
            if let Ok(said) = serde_json::from_slice::<Value>(line)
                && let Some(error) = said["error"].as_str()
            {
                failure = Some(error.to_owned());
            }
        })
        .await?;
        match failure {
            Some(message) => Err(DockerError::Refused { status: 500, message }),
            None => Ok(()),
        }
    }

    /// Calls `tell` with what happens to containers that have a label, until the engine ends.
    pub async fn events(&self, label: &str, mut tell: impl FnMut(Event)) -> Result<()> {
        let filters = encode(&json!({ "type": ["container"], "label": [label] }).to_string());
        let response = self.send(Method::GET, &format!("/events?filters={filters}"), None, false).await?;
        lines(response, |line| {
            if let Ok(event) = serde_json::from_slice(line) {
                tell(event);
            }
        })
        .await
    }

    /// A container's output: the body of the answer, in frames unless it has a terminal.
    pub async fn logs(&self, id: &str, query: &str) -> Result<Incoming> {
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&{query}");
        Ok(self.send(Method::GET, &path, None, false).await?.into_body())
    }

    /// Connects to a running container.
    pub async fn attach(
        &self,
        id: &str,
        query: &str,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let response =
            self.send(Method::POST, &format!("/containers/{id}/attach?stream=1&{query}"), None, true).await?;
        upgraded(response).await
    }

    /// Describes a command for a running container.
    pub async fn create_exec(&self, id: &str, body: &Value) -> Result<String> {
        Ok(self.json::<Created>(Method::POST, &format!("/containers/{id}/exec"), Some(body)).await?.id)
    }

    /// Starts a command and connects to it.
    pub async fn start_exec(
        &self,
        exec: &str,
        tty: bool,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let body = json!({ "Detach": false, "Tty": tty });
        let response = self.send(Method::POST, &format!("/exec/{exec}/start"), Some(&body), true).await?;
        upgraded(response).await
    }

    /// How a command is.
    pub async fn inspect_exec(&self, exec: &str) -> Result<ExecDetails> {
        self.json(Method::GET, &format!("/exec/{exec}/json"), None).await
    }

    /// Runs a command in a container to its end.
    pub async fn run(&self, id: &str, command: &[String]) -> Result<Output> {
        let body = json!({ "Cmd": command, "AttachStdout": true, "AttachStderr": true });
        let exec = self.create_exec(id, &body).await?;
        let mut stream = self.start_exec(&exec, false).await?;
        let (mut frames, mut text, mut buffer) = (Frames::new(false), Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            for (_, data) in frames.push(&buffer[..length]) {
                let room = MAX_OUTPUT.saturating_sub(text.len());
                text.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
        let status = self.inspect_exec(&exec).await?.exit_code.unwrap_or(0);
        Ok(Output { text: String::from_utf8_lossy(&text).into_owned(), status })
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(DockerError::Timeout))
}

async fn whole(response: Response<Incoming>) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|e| DockerError::Connection(e.to_string()))
}

/// The connection after an upgrade.
async fn upgraded(response: Response<Incoming>) -> Result<TokioIo<hyper::upgrade::Upgraded>> {
    let upgraded = hyper::upgrade::on(response).await;
    Ok(TokioIo::new(upgraded.map_err(|e| DockerError::Connection(e.to_string()))?))
}

/// Calls `each` for every line of a body, to its end.
async fn lines(response: Response<Incoming>, mut each: impl FnMut(&[u8])) -> Result<()> {
    let mut body = response.into_body();
    let mut begun: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| DockerError::Connection(e.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        for part in data.split_inclusive(|b| *b == b'\n') {
            let room = MAX_LINE.saturating_sub(begun.len());
            begun.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                each(&begun);
                begun.clear();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_says_nothing_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let _listens_and_never_accepts = tokio::net::UnixListener::bind(&socket).unwrap();
        let docker = Docker::at(socket);
        let failed = docker.images().await.unwrap_err();
        assert!(matches!(failed, DockerError::Timeout), "{failed}");
        let failed = docker.start("c").await.unwrap_err();
        assert!(matches!(failed, DockerError::Timeout), "{failed}");
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("{\"label\":[\"a b\"]}"), "%7B%22label%22:%5B%22a%20b%22%5D%7D");
        assert_eq!(encode("registry.k8s.io/etcd:v1"), "registry.k8s.io/etcd:v1");
    }
}
