//! A whole API server over a store in memory, for tests of its clients: real HTTP on a loopback port, without TLS.

use crate::{Options, Server};
use drydock_etcd::Store;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The bearer token of a cluster administrator.
pub const TOKEN: &str = "admin";

/// An API server that runs until it is dropped.
#[derive(Debug)]
pub struct TestServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The server itself.
    pub server: Arc<Server>,
    tasks: Vec<JoinHandle<()>>,
}

impl TestServer {
    /// Starts one with a store of its own.
    ///
    /// # Panics
    /// If no loopback port can be had.
    pub async fn start() -> Self {
        Self::over(Store::memory()).await
    }

    /// Starts one over a store.
    ///
    /// # Panics
    /// If no loopback port can be had.
    pub async fn over(store: Store) -> Self {
        Self::with(store, |_| {}).await
    }

    /// Starts one over a store, with other options than usual.
    ///
    /// # Panics
    /// If no loopback port can be had, or a file that the options name can't be read.
    pub async fn with(store: Store, change: impl FnOnce(&mut Options)) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let address = listener.local_addr().expect("its own address");
        let mut options = Options {
            bind_address: address.ip(),
            advertise_address: address.ip(),
            secure_port: address.port(),
            // As upstream's integration tests: there are no controllers that make accounts and take taints away.
            disable_admission: ["ServiceAccount", "TaintNodesByCondition"].map(String::from).into(),
            ..Options::default()
        };
        change(&mut options);
        let mut server = Server::new(store.clone(), options).expect("files that can be read");
        if let Some(server) = Arc::get_mut(&mut server) {
            let line = format!("{TOKEN},admin,1,\"system:masters\"");
            server.authenticator.tokens = crate::authn::StaticTokens::parse(&line);
            // Without TLS, kubectl sends no credentials.
            server.authenticator.nobody = crate::authn::User {
                name: "admin".into(),
                groups: vec!["system:masters".into(), crate::authn::AUTHENTICATED.into()],
                ..crate::authn::User::default()
            };
        }
        let leases = tokio::spawn(async move { store.run_leases().await });
        let running = server.clone();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(async move {
            crate::bootstrap::run(&running).await.expect("a store in memory takes all");
            let _nobody_waits = ready.send(());
            let handler = move |request, peer| running.clone().serve(request, peer);
            crate::http::listener::serve(listener, None, std::future::pending(), handler).await;
        });
        is_ready.await.expect("the server prepares its store");
        let definitions = tokio::spawn(crate::custom::run(server.clone()));
        Self { address, server, tasks: vec![leases, serving, definitions] }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
