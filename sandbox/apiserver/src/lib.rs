//! The Kubernetes API server.
//!
//! A request comes in by [`http::listener`], goes through the chain in [`server`] (who asks, what it is about, is it allowed), is given by
//! [`router`] to the function for its verb in [`rest`], and becomes reads and transactions of the store. There is one engine for all
//! kinds: what they differ in is data, asked of a [`resource::Resource`]. The server keeps nothing that is not in the store but what can
//! be made of it again.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod codec;
mod compaction;
mod components;
pub mod custom;
pub mod discovery;
pub mod flows;
pub mod health;
pub mod http;
pub mod managed;
pub mod metrics;
pub mod openapi;
pub mod options;
pub mod proxy;
pub mod resource;
pub mod rest;
pub mod review;
pub mod router;
pub mod server;
pub mod services;
pub mod storage;
pub mod testing;
mod tls;
pub mod usage;
mod webhook_client;

pub use options::Options;
pub use server::Server;

use drydock_etcd::Store;
use futures_util::future::BoxFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or the port.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// What must be in the store cannot be put there.
    #[error("cannot prepare the store: {0}")]
    Bootstrap(drydock_apimachinery::Status),
}

/// Serves until `stop` is done. Boxed, so that it is compiled here and not once more in whatever runs it.
pub fn run(
    store: Store,
    options: Options,
    stop: BoxFuture<'static, ()>,
) -> BoxFuture<'static, Result<(), Error>> {
    Box::pin(listen(store, options, stop))
}

async fn listen(store: Store, options: Options, stop: BoxFuture<'static, ()>) -> Result<(), Error> {
    let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
    let listener = bind(&options)?;
    let server = Server::new(store, options)?;
    serve(server, listener, tls, stop).await
}

fn bind(options: &Options) -> io::Result<TcpListener> {
    let address = SocketAddr::new(options.bind_address, options.secure_port);
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(options.permit_port_sharing)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    stop: BoxFuture<'static, ()>,
) -> Result<(), Error> {
    bootstrap::run(&server).await.map_err(Error::Bootstrap)?;
    custom::load(&server).map_err(Error::Bootstrap)?;
    let definitions = tokio::spawn(custom::run(server.clone()));
    let compaction = tokio::spawn(compaction::run(server.store.clone()));
    let bootstrap = tokio::spawn(bootstrap::keep(server.clone()));
    tracing::info!(address = %listener.local_addr()?, "Serving securely");
    let handler = move |request, peer| server.clone().serve(request, peer);
    http::listener::serve(listener, tls, stop, handler).await;
    bootstrap.abort();
    compaction.abort();
    definitions.abort();
    Ok(())
}
