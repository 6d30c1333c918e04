//! TCP connections to a published port. Each end may close its direction by itself (half-close).

use super::{PAUSE, PLACES};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A container must answer within this time.
const CONNECT: Duration = Duration::from_secs(10);

/// Serves for ever; its connections end with it.
pub(super) async fn serve(listener: TcpListener, to: impl Fn() -> Option<SocketAddr>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                while connections.try_join_next().is_some() {}
                // The semaphore is never closed.
                let Ok(place) = PLACES.clone().acquire_owned().await else { return };
                // Nowhere to go: the client sees that its connection is closed.
                let Some(target) = to() else { continue };
                connections.spawn(async move {
                    if let Err(error) = carry(client, target).await {
                        tracing::debug!(%target, %error, "proxied connection");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accept for a container");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut server = tokio::time::timeout(CONNECT, TcpStream::connect(target)).await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}
