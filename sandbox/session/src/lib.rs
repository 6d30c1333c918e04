//! The session process: terminals, node states, ports and names of one session.
//!
//! [`run`] is called by the spawner in a freshly forked process inside the session's namespaces. It lives with the
//! learner: whatever breaks in here, breaks for that learner only. It talks to three sides: serve (over the
//! session's Unix socket), the spawner and the nodes' inits (over channels). One thread does all of it.
//!
//! To follow a keystroke: [`viewer`] takes it from serve's connection and gives it to [`pty`], whose driver reads what
//! comes back into the terminal core ([`terminal`]), from where the viewer's connection fetches it.

mod connection;
mod dns;
mod error;
mod exec;
mod fd;
mod figures;
mod jobs;
mod link;
mod listen;
mod nodes;
mod pty;
mod services;
mod session;
pub mod terminal;
mod viewer;
mod wire;

pub use error::Error;

use crate::{link::Link, session::Session};
use drydock_runtime::messages::SessionBoot;
use nix::sys::signal::{SigSet, Signal};
use std::{io, net::SocketAddr, os::unix::net::UnixListener, time::Instant};
use tokio::{net, task::LocalSet};

/// Where the session process listens beside serve's socket.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Address of the session's name server; absent: none.
    pub dns: Option<SocketAddr>,
    /// Address at which nodes reach the site's image registry; absent: none.
    pub registry: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self { dns: Some(dns::ADDRESS), registry: Some(services::REGISTRY.into()) }
    }
}

/// The session process, from its birth to its end. Called in a forked process that has one thread. Returns its exit
/// status; returning ends the session.
pub fn run(boot: SessionBoot) -> i32 {
    // The process may have got the warden's already; both write to the descriptor that became ours.
    let _kept = tracing_subscriber::fmt().with_ansi(false).with_writer(io::stderr).try_init();
    let _span = tracing::info_span!("session", id = %boot.id).entered();
    match serve(boot, Options::default()) {
        Ok(()) => {
            tracing::info!("the spawner is gone: the session ends");
            0
        }
        Err(e) => {
            tracing::error!(error = %e, "the session process failed");
            1
        }
    }
}

/// Serves a session on the calling thread until its spawner is gone.
pub fn serve(boot: SessionBoot, options: Options) -> io::Result<()> {
    let began = Instant::now();
    // A command may close its standard input at any time; the write's error says so.
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    pipe.thread_block()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let listener = UnixListener::from(boot.listener);
        listener.set_nonblocking(true)?;
        let listener = net::UnixListener::from_std(listener)?;
        let spawner = Link::new(boot.spawner)?;
        let session = Session::new(boot.cgroup, spawner, boot.trace, boot.origin);
        tokio::task::spawn_local(session.clone().push_pictures());
        tokio::task::spawn_local(figures::watch(session.clone()));
        tokio::task::spawn_local(connection::accept(session.clone(), listener));
        if let Some(address) = options.dns {
            let session = session.clone();
            tokio::task::spawn_local(async move {
                if let Err(e) = dns::serve(session, address).await {
                    tracing::error!(%address, error = %e, "the name server can't listen; node names will not resolve");
                }
            });
        }
        if let Some(address) = options.registry {
            tokio::task::spawn_local(services::listen(session.clone(), address));
        }
        session.step("session process", began);
        session.hear_spawner().await
    })
}
