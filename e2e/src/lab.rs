//! A session in which a test types commands, as a learner does: everything is said to the official clients in a node.

use crate::{Output, Server};
use drydock_protocol::SessionId;
use hyper::Method;
use serde_json::json;
use std::sync::Arc;

/// A session of its own on the shared server.
#[derive(Debug)]
pub struct Lab {
    server: Arc<Server>,
    /// The session.
    pub id: SessionId,
}

impl Lab {
    /// A session of the playground `docker` with this many nodes.
    pub async fn docker(nodes: u8) -> Self {
        Self::on(Server::shared(), nodes).await
    }

    /// The same on a server with options of its own.
    pub async fn on(server: Arc<Server>, nodes: u8) -> Self {
        Self::make(server, "docker", nodes).await
    }

    /// A session of the playground `kubernetes` whose nodes are all ready, and whose control plane is seen as pods.
    pub async fn kubernetes(nodes: u8) -> Self {
        let lab = Self::make(Server::shared(), "kubernetes", nodes).await;
        lab.sh(&format!(
            "for i in $(seq 600); do \
             [ \"$(kubectl get nodes --no-headers 2> /dev/null | grep -c ' Ready ')\" = {nodes} ] && \
             [ \"$(kubectl get pods -n kube-system --no-headers 2> /dev/null | grep -c ' Running ')\" = 4 ] && exit 0; sleep 0.1; done; \
             kubectl get nodes; docker ps -a; tail -n 40 /var/log/kubelet.log; exit 1"
        ))
        .await;
        lab
    }

    /// The same as it is made: nothing is waited for.
    pub async fn kubernetes_at_once(nodes: u8) -> Self {
        Self::make(Server::shared(), "kubernetes", nodes).await
    }

    async fn make(server: Arc<Server>, playground: &str, nodes: u8) -> Self {
        let nodes = nodes.to_string();
        let made = server
            .cli(&["session", "create", "--playground", playground, "--nodes", &nodes, "--json"])
            .await
            .json::<drydock_protocol::api::Created>();
        Self { server, id: made.id }
    }

    /// The server that it runs on.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Runs a script on node1, as it is.
    pub async fn try_sh(&self, script: &str) -> Output {
        self.server.exec(&self.id, "node1", script).await
    }

    /// Runs a script on node1, which must succeed; its standard output without the last line end.
    #[track_caller]
    pub fn sh(&self, script: &str) -> impl Future<Output = String> {
        self.sh_on("node1", script)
    }

    /// The same on another node.
    #[track_caller]
    pub fn sh_on(&self, node: &str, script: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        let (node, script) = (node.to_owned(), script.to_owned());
        async move {
            let output = self.server.exec(&self.id, &node, &script).await;
            assert!(
                output.status.success(),
                "{caller}: {script}\n{}\n{}{}",
                output.status,
                output.text(),
                output.stderr
            );
            output.text().trim_end().to_owned()
        }
    }

    /// Runs a script that must fail with this status and say this (on either output).
    #[track_caller]
    pub fn refused(&self, script: &str, code: i32, words: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let (script, words) = (script.to_owned(), words.to_owned());
        async move {
            let output = self.try_sh(&script).await;
            let said = format!("{}{}", output.text(), output.stderr);
            assert_eq!(output.code(), code, "{caller}: {script}\n{said}");
            assert!(said.contains(&words), "{caller}: {script}\n'{words}' is not in:\n{said}");
        }
    }

    /// Adds a node.
    pub async fn add_node(&self) {
        self.server.operate(Method::POST, &format!("/sessions/{}/nodes", self.id), None).await.has(201);
    }

    /// Switches a node on or off.
    pub async fn power(&self, node: &str, on: bool) {
        let path = format!("/sessions/{}/nodes/{node}/power", self.id);
        self.server.operate(Method::POST, &path, Some(json!({ "on": on }))).await.has(204);
    }

    /// Ends the session.
    pub async fn end(self) {
        self.server.cli(&["session", "delete", self.id.as_str()]).await.ok();
    }
}
