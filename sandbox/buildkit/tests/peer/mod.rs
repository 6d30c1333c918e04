//! The client's side: requests on one connection, and a session on which it serves files and secrets.

use crate::engine::TestEngine;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest};
use bollard_buildkit_proto::moby::filesync::packet::file_send_server::{FileSend, FileSendServer};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::{FileSync, FileSyncServer};
use drydock_buildkit::BuildKit;
use futures_util::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status, Streaming};

/// A file of the client.
pub type File = (Stat, Vec<u8>);

/// A regular file.
pub fn file(path: &str, content: &str) -> File {
    (Stat { path: path.into(), mode: 0o644, ..Stat::default() }, content.as_bytes().to_vec())
}

fn packet(kind: PacketType, stat: Option<Stat>, id: u32, data: &[u8]) -> Packet {
    Packet { r#type: kind as i32, stat, id, data: data.to_vec() }
}

/// Packets that no client sends, and a part of the error.
pub fn hostile() -> Vec<(Vec<Packet>, &'static str)> {
    use PacketType::{PacketData, PacketErr, PacketFin, PacketReq, PacketStat};
    let stat = |path: &str, mode, link: &str| {
        let stat = Stat { path: path.into(), mode, linkname: link.into(), ..Stat::default() };
        packet(PacketStat, Some(stat), 0, b"")
    };
    let link = 1 << 27 | 0o777;
    vec![
        (vec![stat("../x", 0o644, "")], "bad path"),
        (vec![stat("/etc/x", 0o644, "")], "bad path"),
        (vec![stat("a/../../x", 0o644, "")], "bad path"),
        (vec![stat("l", link, "/tmp"), stat("l/x", 0o644, "")], "not a directory"),
        (vec![stat("h", 0o644, "../../../etc/passwd")], "bad path"),
        (vec![stat("f", 0o644, ""), stat("f", 0o644, "")], "exists"),
        (vec![stat(&"d/".repeat(3000), 0o644, "")], "bad path"),
        (vec![packet(PacketData, None, 5, b"x")], "invalid file request"),
        (vec![packet(PacketReq, None, 5, b"")], "unexpected packet"),
        (vec![packet(PacketStat, None, 0, b""), stat("late", 0o644, "")], "after the end"),
        (vec![packet(PacketErr, None, 0, b"no access")], "error from sender: no access"),
        (vec![packet(PacketFin, None, 0, b"")], "ended the transfer early"),
        (vec![Packet { r#type: 99, ..Packet::default() }], "unexpected packet"),
    ]
}

#[derive(Clone)]
enum Directory {
    Files(Vec<File>),
    Packets(Vec<Packet>),
}

#[derive(Default)]
struct State {
    directories: HashMap<String, Directory>,
    secrets: HashMap<String, Vec<u8>>,
    excludes: HashMap<String, Vec<String>>,
    received: BTreeMap<String, String>,
    entitlements: Vec<String>,
}

/// What the client serves.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

type Packets = Pin<Box<dyn futures_util::Stream<Item = Result<Packet, Status>> + Send>>;

#[tonic::async_trait]
impl FileSync for Server {
    type DiffCopyStream = Packets;
    type TarStreamStream = Packets;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        let values = |name: &str| -> Vec<String> {
            request.metadata().get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
        };
        let (name, excludes, follow) =
            (values("dir-name").remove(0), values("exclude-patterns"), values("followpaths"));
        let mut state = self.0.lock().unwrap();
        let found = state.directories.get(&name).cloned();
        let found = found.ok_or_else(|| Status::not_found(format!("no access allowed to dir \"{name}\"")))?;
        if follow != [".dockerignore"] {
            state.excludes.insert(name, excludes);
        }
        drop(state);
        let (out, packets) = mpsc::channel(1000);
        tokio::spawn(async move {
            match found {
                Directory::Packets(packets) => {
                    for packet in packets {
                        _ = out.send(Ok(packet)).await;
                    }
                }
                Directory::Files(mut files) => {
                    files.retain(|(stat, _)| follow.is_empty() || follow.contains(&stat.path));
                    send(files, request.into_inner(), out).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(packets).boxed()))
    }

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn send(files: Vec<File>, mut requests: Streaming<Packet>, out: mpsc::Sender<Result<Packet, Status>>) {
    for (stat, _) in &files {
        _ = out.send(Ok(packet(PacketType::PacketStat, Some(stat.clone()), 0, b""))).await;
    }
    _ = out.send(Ok(packet(PacketType::PacketStat, None, 0, b""))).await;
    while let Ok(Some(request)) = requests.message().await {
        if request.r#type == PacketType::PacketFin as i32 {
            _ = out.send(Ok(packet(PacketType::PacketFin, None, 0, b""))).await;
            return;
        }
        let content = &files[request.id as usize].1;
        for data in [content.as_slice(), b""] {
            _ = out.send(Ok(packet(PacketType::PacketData, None, request.id, data))).await;
        }
    }
}

#[tonic::async_trait]
impl FileSend for Server {
    type DiffCopyStream = Packets;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        assert_eq!(request.metadata().get("buildkit-attachable-exporter-id").unwrap(), "0");
        let (out, packets) = mpsc::channel(1000);
        let (mut stream, state) = (request.into_inner(), Arc::clone(&self.0));
        // As Go does it: headers are sent with the first packet.
        let mut names = Vec::new();
        while let Some(Packet { stat: Some(stat), .. }) = stream.message().await? {
            state.lock().unwrap().received.insert(stat.path.clone(), String::new());
            names.push((stat.path, stat.mode & 0xfff8_0000 == 0));
        }
        tokio::spawn(async move {
            for (id, (name, _)) in names.iter().enumerate().filter(|(_, (_, regular))| *regular) {
                let id = u32::try_from(id).unwrap();
                _ = out.send(Ok(packet(PacketType::PacketReq, None, id, b""))).await;
                while let Ok(Some(packet)) = stream.message().await {
                    if packet.data.is_empty() {
                        break;
                    }
                    let text = String::from_utf8(packet.data).unwrap();
                    state.lock().unwrap().received.insert(name.clone(), text);
                }
            }
            _ = out.send(Ok(packet(PacketType::PacketFin, None, 0, b""))).await;
            _ = stream.message().await;
        });
        Ok(Response::new(ReceiverStream::new(packets).boxed()))
    }
}

#[tonic::async_trait]
impl Secrets for Server {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let found = self.0.lock().unwrap().secrets.get(&request.into_inner().id).cloned();
        let data = found.ok_or_else(|| Status::not_found("no such secret"))?;
        Ok(Response::new(GetSecretResponse { data }))
    }
}

/// A client with one session, `session`.
pub struct Client {
    /// Its engine.
    pub engine: Arc<TestEngine>,
    channel: Channel,
    server: Server,
}

impl Client {
    /// Connects.
    pub fn new() -> Self {
        let engine = TestEngine::new();
        let buildkit = BuildKit::new(engine.clone());
        let server = Server::default();
        let (near, far) = tokio::io::duplex(1 << 16);
        let routes = tonic::service::Routes::new(FileSyncServer::new(server.clone()))
            .add_service(SecretsServer::new(server.clone()));
        let routes = routes.add_service(FileSendServer::new(server.clone()));
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(serving.serve_connection(TokioIo::new(near), TowerToHyperService::new(routes)));
        let mut headers = http::HeaderMap::new();
        headers.insert("x-docker-expose-session-uuid", "session".parse().unwrap());
        for method in ["/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.FileSend/DiffCopy"] {
            headers.append("x-docker-expose-session-grpc-method", method.parse().unwrap());
        }
        let session = buildkit.clone();
        tokio::spawn(async move { session.serve_session(far, &headers).await });
        let connect = tower::service_fn(move |_: Uri| {
            let (near, far) = tokio::io::duplex(1 << 16);
            let buildkit = buildkit.clone();
            tokio::spawn(async move { buildkit.serve_grpc(far).await });
            std::future::ready(Ok::<_, std::io::Error>(TokioIo::new(near)))
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect);
        Self { engine, channel, server }
    }

    /// Control.
    pub fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
    }

    /// The gateway.
    pub fn bridge(&self) -> LlbBridgeClient<Channel> {
        LlbBridgeClient::new(self.channel.clone())
    }

    /// A request to the gateway about a build.
    pub fn gateway<T>(&self, build: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("buildkit-controlapi-buildid", build.parse().unwrap());
        request
    }

    /// Files of a directory.
    pub fn files(&self, directory: &str, files: &[File]) {
        let mut state = self.server.0.lock().unwrap();
        state.directories.insert(directory.into(), Directory::Files(files.to_vec()));
        state.directories.entry("context".into()).or_insert_with(|| Directory::Files(Vec::new()));
    }

    /// What is sent for a directory, whatever is asked; but `.dockerignore` is asked for first, so the Dockerfile has its own.
    pub fn packets(&self, directory: &str, packets: Vec<Packet>) {
        let mut state = self.server.0.lock().unwrap();
        state.directories.insert(directory.into(), Directory::Packets(packets));
    }

    /// A secret.
    pub fn secret(&self, id: &str, data: &[u8]) {
        self.server.0.lock().unwrap().secrets.insert(id.into(), data.to_vec());
    }

    /// What builds from now on ask for (`--allow`).
    pub fn grant(&self, entitlements: &[&str]) {
        let all = entitlements.iter().map(|name| (*name).to_owned()).collect();
        self.server.0.lock().unwrap().entitlements = all;
    }

    /// Patterns with which a directory was asked for.
    pub fn excludes(&self, directory: &str) -> Vec<String> {
        self.server.0.lock().unwrap().excludes[directory].clone()
    }

    /// Files that came from the engine.
    pub fn received(&self) -> Vec<(String, String)> {
        self.server.0.lock().unwrap().received.clone().into_iter().collect()
    }

    /// Begins a build that waits for the gateway.
    pub fn begin(
        &self,
        build: &str,
        attributes: &[(&str, &str)],
        exporters: &[(&str, &str)],
    ) -> JoinHandle<Result<HashMap<String, String>, Status>> {
        self.begin_with(build, attributes, exporters, "")
    }

    /// Begins a build.
    pub fn begin_with(
        &self,
        build: &str,
        attributes: &[(&str, &str)],
        exporters: &[(&str, &str)],
        frontend: &str,
    ) -> JoinHandle<Result<HashMap<String, String>, Status>> {
        let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let exporter = |(kind, name): &(&str, &str)| Exporter {
            r#type: (*kind).to_owned(),
            attrs: [("name".to_owned(), (*name).to_owned())].into(),
        };
        let request = SolveRequest {
            r#ref: build.into(),
            session: "session".into(),
            frontend: frontend.into(),
            frontend_attrs: attributes.iter().map(pair).collect(),
            exporters: exporters.iter().map(exporter).collect(),
            entitlements: self.server.0.lock().unwrap().entitlements.clone(),
            ..SolveRequest::default()
        };
        let mut control = self.control();
        tokio::spawn(async move { Ok(control.solve(request).await?.into_inner().exporter_response) })
    }

    /// Builds a Dockerfile.
    pub async fn solve(
        &self,
        build: &str,
        attributes: &[(&str, &str)],
        exporters: &[(&str, &str)],
    ) -> Result<HashMap<String, String>, Status> {
        self.begin_with(build, attributes, exporters, "dockerfile.v0").await.unwrap()
    }

    /// Builds in another session.
    pub async fn solve_as(&self, session: &str, build: &str) -> Result<(), Status> {
        let request = SolveRequest {
            r#ref: build.into(),
            session: session.into(),
            frontend: "dockerfile.v0".into(),
            ..SolveRequest::default()
        };
        self.control().solve(request).await.map(|_| ())
    }

    /// Waits until nothing of any build is left.
    pub async fn settled(&self) {
        for _ in 0..200 {
            if self.engine.scratch_files() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("files of builds are left");
    }
}
