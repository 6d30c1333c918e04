//! The site's services, as nodes reach them at the session's gateway: connections are taken here and handed to serve, which opens the
//! way from its side (a session has no way to the host). Today that is one service, the image registry at `registry:5000`.

use crate::{connection::TCP_BUFFER, error::Error, listen, session::Session, wire};
use drydock_protocol::pipe::{NodeCall, Reply};
use drydock_runtime::spawner::GATEWAY;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    net::{SocketAddr, SocketAddrV4},
    rc::Rc,
    time::Duration,
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::mpsc,
};

/// Where nodes find the image registry.
pub const REGISTRY: SocketAddrV4 = SocketAddrV4::new(GATEWAY, 5000);
/// The name that nodes have for it.
pub const REGISTRY_NAME: &str = "registry";
/// Most connections that wait for serve.
const MAX_WAITING: usize = 64;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed because descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections of nodes that wait for serve to take them.
#[derive(Default)]
pub struct Calls {
    last: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, TcpStream>>,
    /// To the one connection on which serve is told; a newer one takes its place.
    teller: RefCell<Option<mpsc::Sender<NodeCall>>>,
}

/// Takes connections of nodes for ever.
pub async fn listen(session: Rc<Session>, address: SocketAddr) {
    let listener = match listen::tcp(address) {
        Ok(listener) => listener,
        Err(e) => {
            tracing::error!(%address, error = %e, "the site's registry can't be reached from nodes");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                tokio::task::spawn_local(wait(session.clone(), stream, from));
            }
            Err(e) => {
                tracing::debug!(error = %e, "a node's connection can't be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Tells serve of a connection and keeps it for some time; without serve it is closed at once.
async fn wait(session: Rc<Session>, stream: TcpStream, from: SocketAddr) {
    let calls = &session.calls;
    let call = calls.last.get() + 1;
    calls.last.set(call);
    if calls.waiting.borrow().len() >= MAX_WAITING {
        return;
    }
    calls.waiting.borrow_mut().insert(call, stream);
    let told = calls
        .teller
        .borrow()
        .as_ref()
        .is_some_and(|teller| teller.try_send(NodeCall { call, from: from.ip() }).is_ok());
    if told {
        tokio::time::sleep(PATIENCE).await;
    }
    calls.waiting.borrow_mut().remove(&call);
}

/// Tells serve of connections for as long as it listens.
pub async fn tell(session: &Session, mut stream: UnixStream) -> io::Result<()> {
    let (sender, mut calls) = mpsc::channel(MAX_WAITING);
    session.calls.teller.replace(Some(sender));
    loop {
        tokio::select! {
            call = calls.recv() => match call {
                Some(call) => wire::text(&mut stream, &call).await?,
                // Another connection of serve's has taken over.
                None => return Ok(()),
            },
            // serve says nothing here but that it hangs up.
            heard = stream.readable() => {
                heard?;
                match stream.try_read(&mut [0]) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return Ok(()),
                }
            }
        }
    }
}

/// Hands a waiting connection to serve.
pub async fn take(session: &Session, mut stream: UnixStream, call: u64) -> io::Result<()> {
    let waiting = session.calls.waiting.borrow_mut().remove(&call);
    let Some(mut node) = waiting else {
        let gone = Error::Invalid(format!("the connection {call} of a node waits no longer"));
        return wire::reply(&mut stream, &gone.reply()).await;
    };
    wire::reply(&mut stream, &Reply::Done).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut node, TCP_BUFFER, TCP_BUFFER).await?;
    Ok(())
}
