//! The client's SSH agent: a socket here, each connection to which is one `SSH/ForwardAgent` stream of the session.

use super::Session;
use super::transfer::encode;
use crate::error::failed;
use crate::proto::ssh;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Status};

/// Connections at once to one agent.
const MAX_CONNECTIONS: usize = 32;
/// Bytes of one message.
const CHUNK: usize = 32 << 10;

/// A socket that leads to the client's agent, until this is dropped.
#[derive(Debug)]
pub struct Agent {
    path: PathBuf,
    _directory: TempDir,
    _accept: AbortOnDropHandle<()>,
}

impl Agent {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the client for its agent of this id, and makes the socket below `scratch`. `None`: it has none.
    ///
    /// # Errors
    /// If the socket can't be made.
    pub async fn open(session: Arc<Session>, id: &str, scratch: &Path) -> Result<Option<Self>, Status> {
        let id = if id.is_empty() { "default" } else { id }.to_owned();
        let mut client = ssh::ssh_client::SshClient::new(session.channel.clone());
        if super::timeout(client.check_agent(ssh::CheckAgentRequest { id: id.clone() })).await.is_err() {
            return Ok(None);
        }
        let text = |e: std::io::Error| failed(format!("ssh agent socket: {e}"));
        let directory = tempfile::Builder::new().prefix("ssh").tempdir_in(scratch).map_err(text)?;
        let path = directory.path().join("agent");
        let listener = UnixListener::bind(&path).map_err(text)?;
        let accept = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                while connections.len() >= MAX_CONNECTIONS {
                    connections.join_next().await;
                }
                let (session, id) = (Arc::clone(&session), id.clone());
                connections.spawn(async move {
                    if let Err(error) = forward(&session, &id, socket).await {
                        tracing::debug!(%error, "ssh agent");
                    }
                });
            }
        });
        Ok(Some(Self { path, _directory: directory, _accept: AbortOnDropHandle::new(accept) }))
    }
}

async fn forward(session: &Session, id: &str, socket: UnixStream) -> Result<(), Status> {
    let (out, outbound) = mpsc::channel(4);
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(outbound));
    encode(request.metadata_mut(), "buildkit.ssh.id", &[id.to_owned()])?;
    let mut client = ssh::ssh_client::SshClient::new(session.channel.clone());
    let (mut read, mut write) = socket.into_split();
    let to_client = async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            let message = ssh::BytesMessage { data: buffer[..count].to_vec() };
            if out.send(message).await.is_err() {
                return;
            }
        }
    };
    // Go sends the headers of its answer with the first bytes of the agent, which answer what is sent meanwhile.
    let from_client = async move {
        let mut stream = client.forward_agent(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            if write.write_all(&message.data).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    tokio::pin!(from_client);
    tokio::select! {
        result = &mut from_client => result,
        () = to_client => from_client.await,
    }
}
