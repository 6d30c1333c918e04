//! Connections from serve: reads what each is for and does it. One task per connection; the session trusts serve, so
//! lengths are bounded by the protocol only.

use crate::{
    error::Error,
    exec, nodes, services,
    session::{First, Session},
    viewer, wire,
};
use drydock_protocol::{
    NodeName,
    pipe::{Control, FileOp, Open, Reply},
};
use std::{io, rc::Rc, time::Duration};
use tokio::net::{TcpStream, UnixListener, UnixStream};

/// A node's port must answer within this time.
const CONNECT: Duration = Duration::from_secs(5);
/// Buffer of each direction of a forwarded TCP connection.
pub(crate) const TCP_BUFFER: usize = 16 * 1024;
/// Pause after an accept that failed because descriptors or memory are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for ever.
pub async fn accept(session: Rc<Session>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let session = session.clone();
                tokio::task::spawn_local(async move {
                    if let Err(e) = serve(session, stream).await {
                        tracing::debug!(error = %e, "connection from serve ended");
                    }
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "a connection from serve can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(session: Rc<Session>, mut stream: UnixStream) -> io::Result<()> {
    let Some(open) = wire::read_text::<Open>(&mut stream).await? else { return Ok(()) };
    match open {
        Open::Viewer { role, client } => viewer::serve(session, stream, role, client).await,
        Open::Control { request } => {
            let answer = control(&session, request).await.unwrap_or_else(|e| e.reply());
            wire::reply(&mut stream, &answer).await
        }
        Open::Exec { node, argv, env, cwd, tty } => {
            exec::serve(&session, stream, node, nodes::Command { argv, env, cwd, tty }).await
        }
        Open::Tcp { node, port } => tcp(&session, stream, node, port).await,
        Open::Services => services::tell(&session, stream).await,
        Open::Take { call } => services::take(&session, stream, call).await,
        Open::File { node, op } => file(&session, stream, node, op).await,
    }
}

async fn control(session: &Rc<Session>, request: Control) -> Result<Reply, Error> {
    match request {
        Control::State => return Ok(session.report()),
        Control::Ready => return ready(session).await,
        Control::OpenTerminal { node } => {
            session.touch();
            return Ok(Reply::Terminal { terminal: session.open_terminal(node).await? });
        }
        Control::CloseTerminal { terminal } => session.close_terminal(terminal)?,
        Control::Power { node, on } => session.power(node, on).await?,
        Control::RemoveNode { node } => session.remove_node(node).await?,
        Control::AwaitNode { node } => session.await_node(node).await?,
    }
    Ok(Reply::Done)
}

/// Waits until every node is on and the first terminal has printed its prompt.
async fn ready(session: &Session) -> Result<Reply, Error> {
    let mut changes = session.changes.subscribe();
    loop {
        if let Some(e) = session.failed_node() {
            return Err(e);
        }
        let prompt = match &*session.first.borrow() {
            First::Failed(message) => return Err(Error::Spawn { errno: 0, message: message.clone() }),
            First::Printed => true,
            First::Awaited | First::Starting => false,
        };
        if prompt && session.all_on() {
            return Ok(Reply::Ready { trace: session.trace() });
        }
        // The sender lives as long as the session.
        let _never_fails = changes.changed().await;
    }
}

async fn tcp(session: &Session, mut stream: UnixStream, node: NodeName, port: u16) -> io::Result<()> {
    let mut server = match connect(session, node, port).await {
        Ok(server) => server,
        Err(e) => return wire::reply(&mut stream, &e.reply()).await,
    };
    wire::reply(&mut stream, &Reply::Done).await?;
    // Copies both ways, passes each side's end of data on, and ends when both have ended.
    tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut server, TCP_BUFFER, TCP_BUFFER).await?;
    Ok(())
}

async fn connect(session: &Session, node: NodeName, port: u16) -> Result<TcpStream, Error> {
    session.init(node)?;
    let connecting = TcpStream::connect((drydock_runtime::spawner::address(node), port));
    let server = match tokio::time::timeout(CONNECT, connecting).await {
        Ok(Ok(server)) => server,
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(Error::PortClosed { node, port });
        }
        Ok(Err(source)) => return Err(Error::Io { what: "connect to the node", source }),
        Err(_) => {
            return Err(Error::Io { what: "connect to the node", source: io::ErrorKind::TimedOut.into() });
        }
    };
    // Whoever sends a small packet through us decides when.
    server.set_nodelay(true).map_err(|source| Error::Io { what: "set up the connection", source })?;
    Ok(server)
}

async fn file(session: &Session, mut stream: UnixStream, node: NodeName, op: FileOp) -> io::Result<()> {
    if !matches!(op, FileOp::List { .. } | FileOp::Read { .. }) {
        session.touch();
    }
    let init = match check(&op).and_then(|()| session.init(node)) {
        Ok(init) => init,
        Err(e) => return wire::reply(&mut stream, &e.reply()).await,
    };
    // The node's process reads and writes without a runtime.
    let connection = stream.into_std()?;
    connection.set_nonblocking(false)?;
    let copy = connection.try_clone()?;
    if let Err(e) = init.file(op, connection.into()) {
        copy.set_nonblocking(true)?;
        return wire::reply(&mut UnixStream::from_std(copy)?, &e.reply()).await;
    }
    Ok(())
}

fn check(op: &FileOp) -> Result<(), Error> {
    let paths = match op {
        FileOp::List { path }
        | FileOp::Read { path, .. }
        | FileOp::Write { path, .. }
        | FileOp::MakeDir { path, .. }
        | FileOp::Remove { path } => [path, path],
        FileOp::Link { path, target } => [path, target],
        FileOp::Rename { from, to } => [from, to],
    };
    if paths.into_iter().any(|path| path.len() >= 4096) {
        return Err(Error::Invalid("a path has at most 4095 bytes".into()));
    }
    Ok(())
}
