//! Adding, removing and switching nodes: the warden makes and deletes disks, the session process starts and stops.
//! Called by the API. A node that could not be started is removed again.

use super::{Sessions, create::addresses, live::Live};
use crate::{error::Error, pipe::PipeError, warden::WardenError};
use drydock_protocol::{
    NodeName,
    api::NodeAddress,
    pipe::{Control, ErrorKind, Reply},
};
use drydock_warden::messages::{FailureKind, Request};
use std::sync::{Arc, atomic::Ordering};

impl Sessions {
    /// Adds a node with the lowest free number and waits until it runs. Goes on if the caller goes away.
    pub async fn add_node(self: &Arc<Self>, live: &Arc<Live>) -> Result<NodeAddress, Error> {
        let (sessions, live) = (self.clone(), live.clone());
        let task = tokio::spawn(async move {
            let _one_at_a_time = live.changes.lock().await;
            let taken: Vec<NodeName> =
                sessions.state(&live.id).await?.0.nodes.iter().map(|n| n.name).collect();
            let most = sessions.config.session_nodes;
            if taken.len() >= usize::from(most) {
                return Err(Error::conflict(
                    "node_limit",
                    format!("A session has at most {most} nodes. Remove one first."),
                ));
            }
            let free = (1..=99).filter_map(NodeName::new).find(|n| !taken.contains(n));
            let node = free.ok_or_else(|| Error::conflict("node_limit", "All node names are taken."))?;
            sessions.add_disk(&live, node).await?;
            match sessions.await_node(&live, node).await {
                Ok(address) => {
                    sessions.count_nodes(&live, taken.len() + 1);
                    Ok(address)
                }
                Err(e) => {
                    sessions
                        .drop_node(&live, node)
                        .await
                        .unwrap_or_else(|e| tracing::warn!(%node, error = %e, "half-made node"));
                    Err(e)
                }
            }
        });
        task.await.map_err(Error::internal)?
    }

    /// Has the warden add a node that the session process does not have. If the warden has it still, its removal did not come to an end.
    async fn add_disk(&self, live: &Live, node: NodeName) -> Result<(), WardenError> {
        let add = Request::AddNode { id: live.id.clone(), node };
        match self.warden.done(add.clone()).await {
            Err(WardenError::Failed { kind: FailureKind::InUse, .. }) => {
                self.warden.done(Request::ForgetNode { id: live.id.clone(), node }).await?;
                self.warden.done(add).await
            }
            other => other,
        }
    }

    async fn await_node(&self, live: &Live, node: NodeName) -> Result<NodeAddress, Error> {
        expect_done(self.sockets.control(&live.id, Control::AwaitNode { node }).await?)?;
        let state = self.state(&live.id).await?.0;
        addresses(&state)
            .into_iter()
            .find(|a| a.name == node)
            .ok_or_else(|| PipeError::Malformed("no address for a new node").into())
    }

    /// Removes a node and its disk. Goes on if the caller goes away.
    pub async fn remove_node(self: &Arc<Self>, live: &Arc<Live>, node: NodeName) -> Result<(), Error> {
        let (sessions, live) = (self.clone(), live.clone());
        let task = tokio::spawn(async move {
            let _one_at_a_time = live.changes.lock().await;
            sessions.drop_node(&live, node).await?;
            let left = sessions.state(&live.id).await?.0.nodes.len();
            sessions.count_nodes(&live, left);
            Ok(())
        });
        task.await.map_err(Error::internal)?
    }

    /// Either of the two may have lost the node already, by a removal that was cut off between them.
    async fn drop_node(&self, live: &Live, node: NodeName) -> Result<(), Error> {
        let absent = match self.sockets.control(&live.id, Control::RemoveNode { node }).await {
            Ok(reply) => {
                expect_done(reply)?;
                None
            }
            Err(e @ PipeError::Refused { kind: ErrorKind::NotFound, .. }) => Some(e),
            Err(e) => return Err(e.into()),
        };
        match (self.warden.done(Request::ForgetNode { id: live.id.clone(), node }).await, absent) {
            (Err(WardenError::Failed { kind: FailureKind::NotFound, .. }), Some(nowhere)) => {
                Err(nowhere.into())
            }
            (Ok(()) | Err(WardenError::Failed { kind: FailureKind::NotFound, .. }), _) => Ok(()),
            (Err(e), _) => Err(e.into()),
        }
    }

    /// Switches a node on or off.
    pub async fn power(&self, live: &Live, node: NodeName, on: bool) -> Result<(), Error> {
        expect_done(self.sockets.control(&live.id, Control::Power { node, on }).await?)
    }

    fn count_nodes(&self, live: &Live, nodes: usize) {
        let nodes = nodes.min(99) as u8;
        live.nodes.store(nodes.into(), Ordering::Relaxed);
        if let Err(e) = self.store.set_nodes(&live.id, nodes) {
            tracing::warn!(id = %live.id, error = %e, "cannot note the number of nodes");
        }
    }
}

fn expect_done(reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Done => Ok(()),
        _ => Err(PipeError::Malformed("an answer to another question").into()),
    }
}
