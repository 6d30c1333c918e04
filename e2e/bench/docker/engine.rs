//! An engine behind a Unix socket, ours or another: by its API over one connection, and by the official client.

use super::execs::{Execs, now};
use crate::table::ms;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};
use tokio::net::UnixStream;

/// What one container cost at the API, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// `POST /containers/create`
    pub create: f64,
    /// `POST /containers/ID/start`, until the program was executed.
    pub exec: f64,
    /// The same, until the client had the answer.
    pub start: f64,
    /// `DELETE /containers/ID`
    pub remove: f64,
}

/// A connection that stays open.
pub struct Api(http1::SendRequest<Full<Bytes>>);

impl Api {
    /// Connects to an engine's socket.
    pub async fn connect(socket: &Path) -> Self {
        let stream =
            UnixStream::connect(socket).await.unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Asks for something; panics unless it succeeds.
    pub async fn call(&mut self, method: Method, path: &str, kind: &str, body: impl Into<Bytes>) -> Bytes {
        self.0.ready().await.expect("the connection stays open");
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1.41{path}"))
            .header("host", "docker")
            .header("content-type", kind)
            .body(Full::new(body.into()))
            .expect("a request");
        let answer = self.0.send_request(request).await.expect("an answer");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
        body
    }

    async fn post(&mut self, path: &str, body: Option<Value>) -> Value {
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        let answer = self.call(Method::POST, path, "application/json", body).await;
        if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).expect("JSON") }
    }

    /// Makes a container of busybox; its id.
    pub async fn create(&mut self, network: &str, program: &[&str]) -> String {
        let wish = json!({ "Image": "busybox", "Cmd": program, "HostConfig": { "NetworkMode": network } });
        let made = self.post("/containers/create", Some(wish)).await;
        made["Id"].as_str().expect("an id").to_owned()
    }

    /// Starts a container.
    pub async fn start(&mut self, id: &str) {
        self.post(&format!("/containers/{id}/start"), None).await;
    }

    /// Removes a container, whatever it does.
    pub async fn remove(&mut self, id: &str) {
        self.call(Method::DELETE, &format!("/containers/{id}?force=1"), "text/plain", "").await;
    }

    /// A whole life of a container.
    pub async fn life(&mut self, network: &str, execs: &Execs) -> Times {
        let began = Instant::now();
        let id = self.create(network, &["true"]).await;
        let create = ms(began.elapsed());
        let began = now();
        self.start(&id).await;
        let start = now() - began;
        let exec = execs.of_true() - began;
        self.post(&format!("/containers/{id}/wait"), None).await;
        let began = Instant::now();
        self.remove(&id).await;
        Times { create, exec, start, remove: ms(began.elapsed()) }
    }

    /// Builds an image from a tar archive; milliseconds, and whether every step came from the cache.
    pub async fn build(&mut self, context: &Bytes) -> (f64, bool) {
        let began = Instant::now();
        let answer = self.call(Method::POST, "/build?t=bench", "application/x-tar", context.clone()).await;
        let took = ms(began.elapsed());
        let said = String::from_utf8_lossy(&answer).into_owned();
        assert!(said.contains("Successfully built"), "{said}");
        (took, said.matches("Using cache").count() >= 9)
    }
}

/// Milliseconds until so many containers, asked for at the same time, all run.
pub async fn at_once(socket: &Path, count: usize) -> f64 {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Api::connect(socket).await);
    }
    let began = Instant::now();
    let starts = connections.into_iter().map(|mut api| {
        tokio::spawn(async move {
            let id = api.create("bridge", &["sleep", "100"]).await;
            api.start(&id).await;
            (began.elapsed(), api, id)
        })
    });
    let mut slowest = began.elapsed();
    let mut running = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        let (at, api, id) = start.await.expect("a start");
        slowest = slowest.max(at);
        running.push((api, id));
    }
    for (mut api, id) in running {
        api.remove(&id).await;
    }
    ms(slowest)
}

/// The official client.
pub struct Client {
    program: PathBuf,
    host: String,
    settings: PathBuf,
}

impl Client {
    /// For an engine's socket. `settings`: an empty directory.
    pub fn new(program: &Path, socket: &Path, settings: &Path) -> Self {
        let host = format!("unix://{}", socket.display());
        Self { program: program.into(), host, settings: settings.into() }
    }

    /// The client with its environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", &self.settings);
        command.env("DOCKER_BUILDKIT", "0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs a command that must succeed; milliseconds.
    pub fn time(&self, args: &[&str]) -> f64 {
        run(&mut self.command(args))
    }
}

/// Runs a command that must succeed; milliseconds.
pub fn run(command: &mut Command) -> f64 {
    let began = Instant::now();
    let output = command.output().expect("the program can be started");
    let took = ms(began.elapsed());
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    took
}
