//! `etcd`: the store of a cluster, with etcd's flags as kubeadm's manifest gives them.

use anyhow::Context;
use clap::{ArgAction, Args, Parser, Subcommand};
use drydock_etcd::{Options, Store};
use futures_util::future::BoxFuture;
use std::path::PathBuf;

/// A store for the most critical data of a cluster, spoken to as etcd v3.
#[derive(Debug, Parser)]
#[command(name = "etcd", version = "3.6.6 (Drydock's own store)", args_conflicts_with_subcommands = true)]
pub struct Command {
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Puts a snapshot that `etcdctl snapshot save` fetched into a new data directory.
    Restore {
        /// The snapshot.
        snapshot: PathBuf,
        /// The directory; there must be no journal in it.
        #[arg(long)]
        data_dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Human-readable name for this member.
    #[arg(long, default_value = "default")]
    name: String,
    /// Path to the data directory.
    #[arg(long, default_value = "default.etcd")]
    data_dir: PathBuf,
    /// URLs to listen on for client traffic.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    listen_client_urls: Vec<String>,
    /// URLs that are told to clients.
    #[arg(long, value_delimiter = ',')]
    advertise_client_urls: Vec<String>,
    /// URLs to listen on for the metrics and health endpoints.
    #[arg(long, value_delimiter = ',')]
    listen_metrics_urls: Vec<String>,
    /// Path to the server's TLS certificate.
    #[arg(long)]
    cert_file: Option<PathBuf>,
    /// Path to the server's TLS key.
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// Path to the certificates of those who sign clients' certificates.
    #[arg(long)]
    trusted_ca_file: Option<PathBuf>,
    /// Clients must show a certificate.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    client_cert_auth: bool,
    /// Don't wait until writes are on the disk: they survive this process, not the machine.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    unsafe_no_fsync: bool,
    /// URLs that are told to other members. There are none: nothing listens at them.
    #[arg(long, value_delimiter = ',')]
    initial_advertise_peer_urls: Vec<String>,
    /// Flags of kubeadm's manifest that mean nothing to a store of one member.
    #[command(flatten)]
    _without_meaning: WithoutMeaning,
}

#[derive(Debug, Args)]
struct WithoutMeaning {
    #[arg(long, hide = true)]
    feature_gates: Option<String>,
    #[arg(long, hide = true)]
    initial_cluster: Option<String>,
    #[arg(long, hide = true)]
    listen_peer_urls: Option<String>,
    #[arg(long, hide = true)]
    peer_cert_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    peer_client_cert_auth: Option<String>,
    #[arg(long, hide = true)]
    peer_key_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    peer_trusted_ca_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    snapshot_count: Option<String>,
    #[arg(long, hide = true)]
    watch_progress_notify_interval: Option<String>,
}

/// Serves until `shutdown` is done, or does what the subcommand says.
pub async fn run(command: Command, shutdown: BoxFuture<'static, ()>) -> anyhow::Result<()> {
    if let Some(Other::Restore { snapshot, data_dir }) = command.other {
        Store::restore(&snapshot, &data_dir)?;
        tracing::info!(snapshot = %snapshot.display(), data_dir = %data_dir.display(), "restored snapshot");
        return Ok(());
    }
    let Serve {
        name,
        data_dir,
        listen_client_urls,
        advertise_client_urls,
        listen_metrics_urls,
        cert_file,
        key_file,
        trusted_ca_file,
        client_cert_auth,
        unsafe_no_fsync,
        initial_advertise_peer_urls,
        _without_meaning: _,
    } = command.serve;
    let options = Options {
        name,
        data_dir,
        advertise_client_urls: match advertise_client_urls.is_empty() {
            true => listen_client_urls.clone(),
            false => advertise_client_urls,
        },
        listen_client_urls,
        initial_advertise_peer_urls,
        listen_metrics_urls,
        cert_file,
        key_file,
        trusted_ca_file,
        client_cert_auth,
        fsync: !unsafe_no_fsync,
    };
    drydock_etcd::serve(options, shutdown).await.context("the store can't be served")
}
