//! kube-scheduler's command line, as kubeadm's manifest writes it. Called by `main`; the work is done by `drydock_scheduler`.

use futures_util::future::BoxFuture;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};
use drydock_kubeclient::leader::Times;
use drydock_scheduler::run::{Lease, Options};

use crate::healthz;

/// Gives pods their nodes.
#[derive(Debug, Parser)]
#[command(name = "kube-scheduler", version)]
pub struct Command {
    /// How to reach the API server, and as whom.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Where it tells that it lives.
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// At which port; 0: not at all.
    #[arg(long, default_value_t = 10259)]
    secure_port: u16,
    /// Wait for a lease before work begins.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value_t = true, default_missing_value = "true")]
    leader_elect: bool,
    /// Name of the lease, in namespace kube-system.
    #[arg(long, default_value = "kube-scheduler")]
    leader_elect_resource_name: String,
    /// Flags of kubeadm's manifest that change nothing here: this program serves nothing that they would protect.
    #[command(flatten)]
    unused: Unused,
}

/// See [`Command::unused`].
#[derive(Debug, clap::Args)]
struct Unused {
    #[arg(long, hide = true)]
    authentication_kubeconfig: Option<PathBuf>,
    #[arg(long, hide = true)]
    authorization_kubeconfig: Option<PathBuf>,
}

/// `host_uuid`, as upstream calls its candidates.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    format!("{}_{}", host.trim(), unique.trim())
}

/// Schedules until the process is asked to end, or leadership is lost.
pub async fn run(command: Command, terminated: BoxFuture<'static, ()>) -> anyhow::Result<()> {
    let client = drydock_kubeclient::connect(&command.kubeconfig, "kube-scheduler")?;
    let lease = command.leader_elect.then(|| Lease {
        name: command.leader_elect_resource_name.clone(),
        identity: identity(),
        times: Times::default(),
    });
    let options = Options { name: drydock_scheduler::DEFAULT_NAME.to_owned(), lease };
    let health = async {
        match command.secure_port {
            0 => std::future::pending().await,
            port => healthz::serve(command.bind_address, port).await,
        }
    };
    tokio::select! {
        result = health => result,
        result = drydock_scheduler::run(client, options, terminated) => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_kubeadm_is_understood() {
        let command = Command::try_parse_from([
            "kube-scheduler",
            "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--bind-address=127.0.0.1",
            "--kubeconfig=/etc/kubernetes/scheduler.conf",
            "--leader-elect=true",
        ])
        .unwrap();
        assert!(command.leader_elect);
        assert_eq!(command.secure_port, 10259);
        assert_eq!(command.bind_address.to_string(), "127.0.0.1");
    }
}
