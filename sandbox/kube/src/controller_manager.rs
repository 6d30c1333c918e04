//! kube-controller-manager's command line, as kubeadm's manifest writes it. Called by `main`; the work is done by `drydock_controllers`.

use anyhow::Context as _;
use clap::{ArgAction, Parser};
use drydock_controllers::manager::{self, Settings};
use futures_util::future::BoxFuture;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::healthz;

/// Runs the controllers of a cluster.
#[derive(Debug, Parser)]
#[command(name = "kube-controller-manager", version)]
pub struct Command {
    /// How to reach the API server, and as whom.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Where it tells that it lives.
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// At which port; 0: not at all.
    #[arg(long, default_value_t = 10257)]
    secure_port: u16,
    /// Controllers that run: names, `*` for all that are on by default, `-NAME` for off.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    controllers: Vec<String>,
    /// Give controllers service accounts.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    use_service_account_credentials: bool,
    /// Wait for a lease before work begins.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value_t = true, default_missing_value = "true")]
    leader_elect: bool,
    /// Addresses of pods of the whole cluster.
    #[arg(long)]
    cluster_cidr: Option<String>,
    /// Give each node a part of them.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    allocate_node_cidrs: bool,
    /// How large a part, as the length of its prefix.
    #[arg(long, alias = "node-cidr-mask-size-ipv4", default_value_t = 24)]
    node_cidr_mask_size: u32,
    /// The certificate authority of the API server, for pods.
    #[arg(long)]
    root_ca_file: Option<PathBuf>,
    /// The key that signs tokens in secrets.
    #[arg(long)]
    service_account_private_key_file: Option<PathBuf>,
    /// The certificate authority that signs requests for certificates.
    #[arg(long)]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_key_file: Option<PathBuf>,
    /// For how long certificates hold at most.
    #[arg(long, value_parser = duration, default_value = "8760h")]
    cluster_signing_duration: Duration,
    /// How often nodes are looked at.
    #[arg(long, value_parser = duration, default_value = "5s")]
    node_monitor_period: Duration,
    /// How long a node may be silent before it counts as not ready.
    #[arg(long, value_parser = duration, default_value = "50s")]
    node_monitor_grace_period: Duration,
    /// How long a node may be silent before its first word.
    #[arg(long, value_parser = duration, default_value = "1m")]
    node_startup_grace_period: Duration,
    /// So many ended pods are kept; 0: all.
    #[arg(long, default_value_t = 12500)]
    terminated_pod_gc_threshold: usize,
    /// How often autoscalers are looked at.
    #[arg(long, value_parser = duration, default_value = "15s")]
    horizontal_pod_autoscaler_sync_period: Duration,
    /// How far use may be from the target before anything is scaled.
    #[arg(long, default_value_t = 0.1)]
    horizontal_pod_autoscaler_tolerance: f64,
    /// How long the highest wish of an autoscaler counts.
    #[arg(long, value_parser = duration, default_value = "5m")]
    horizontal_pod_autoscaler_downscale_stabilization: Duration,
    /// How long a pod counts as starting.
    #[arg(long, value_parser = duration, default_value = "30s")]
    horizontal_pod_autoscaler_initial_readiness_delay: Duration,
    /// How long a pod's use of CPU says nothing.
    #[arg(long, value_parser = duration, default_value = "5m")]
    horizontal_pod_autoscaler_cpu_initialization_period: Duration,
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
    #[arg(long, hide = true)]
    client_ca_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    cluster_name: Option<String>,
    #[arg(long, hide = true)]
    requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    service_cluster_ip_range: Option<String>,
}

/// `1h30m`, `1.5s`, `100ms` (`time.ParseDuration`; none of ours may be negative).
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ns" => 1e-9,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(sum) }
}

fn read(path: Option<&Path>) -> anyhow::Result<Option<String>> {
    path.map(|path| std::fs::read_to_string(path).with_context(|| path.display().to_string())).transpose()
}

impl Command {
    fn settings(&self) -> anyhow::Result<Settings> {
        let identity = || {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
            format!("{}_{}", host.trim(), unique.trim())
        };
        Ok(Settings {
            controllers: self.controllers.clone(),
            service_accounts: self.use_service_account_credentials,
            leader_identity: self.leader_elect.then(identity),
            cluster_cidr: self.cluster_cidr.clone(),
            allocate_node_cidrs: self.allocate_node_cidrs,
            node_cidr_mask_size: self.node_cidr_mask_size,
            root_ca: read(self.root_ca_file.as_deref())?,
            service_account_key: read(self.service_account_private_key_file.as_deref())?,
            signing_certificate: read(self.cluster_signing_cert_file.as_deref())?,
            signing_key: read(self.cluster_signing_key_file.as_deref())?,
            signing_duration: self.cluster_signing_duration,
            node_monitor_period: self.node_monitor_period,
            node_monitor_grace_period: self.node_monitor_grace_period,
            node_startup_grace_period: self.node_startup_grace_period,
            terminated_pod_gc_threshold: self.terminated_pod_gc_threshold,
            autoscaler_period: self.horizontal_pod_autoscaler_sync_period,
            autoscaler_tolerance: self.horizontal_pod_autoscaler_tolerance,
            autoscaler_stabilization: self.horizontal_pod_autoscaler_downscale_stabilization,
            autoscaler_readiness_delay: self.horizontal_pod_autoscaler_initial_readiness_delay,
            autoscaler_cpu_initialization: self.horizontal_pod_autoscaler_cpu_initialization_period,
        })
    }
}

/// Runs the controllers until the process is asked to end, or leadership is lost.
pub async fn run(command: Command, terminated: BoxFuture<'static, ()>) -> anyhow::Result<()> {
    let settings = command.settings()?;
    let client = drydock_kubeclient::connect(&command.kubeconfig, "kube-controller-manager")?;
    let health = async {
        if command.secure_port == 0 {
            std::future::pending().await
        } else {
            healthz::serve(command.bind_address, command.secure_port).await
        }
    };
    tokio::select! {
        () = terminated => Ok(()),
        result = health => result,
        result = manager::run(client, settings) => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_kubeadm_is_understood() {
        let command = Command::try_parse_from([
            "kube-controller-manager",
            "--allocate-node-cidrs=true",
            "--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--bind-address=127.0.0.1",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-cidr=10.244.0.0/16",
            "--cluster-name=kubernetes",
            "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-signing-key-file=/etc/kubernetes/pki/ca.key",
            "--controllers=*,bootstrapsigner,tokencleaner,-podgc",
            "--kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--leader-elect=false",
            "--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
            "--root-ca-file=/etc/kubernetes/pki/ca.crt",
            "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--use-service-account-credentials=true",
        ])
        .unwrap();
        assert!(!command.leader_elect && command.allocate_node_cidrs);
        assert_eq!(command.controllers, ["*", "bootstrapsigner", "tokencleaner", "-podgc"]);
        assert_eq!(command.cluster_signing_duration, Duration::from_secs(8760 * 3600));
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("50s", Some(50_000)),
            ("1h30m", Some(5_400_000)),
            ("100ms", Some(100)),
            ("1.5s", Some(1500)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("-5s", None),
            ("5", None),
            ("", None),
            ("s", None),
        ] {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        }
    }
    #[test]
    fn what_is_no_value_is_refused_in_pflags_words() {
        for (arg, words) in [
            (
                "--node-monitor-period=soon",
                r#"invalid argument "soon" for "--node-monitor-period" flag: time: invalid duration "soon""#,
            ),
            (
                "--node-monitor-period=5",
                r#"invalid argument "5" for "--node-monitor-period" flag: time: missing unit in duration "5""#,
            ),
            (
                "--secure-port=x",
                r#"invalid argument "x" for "--secure-port" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
            ),
            (
                "--leader-elect=maybe",
                r#"invalid argument "maybe" for "--leader-elect" flag: strconv.ParseBool: parsing "maybe": invalid syntax"#,
            ),
            (
                "--horizontal-pod-autoscaler-tolerance=x",
                r#"invalid argument "x" for "--horizontal-pod-autoscaler-tolerance" flag: strconv.ParseFloat: parsing "x": invalid syntax"#,
            ),
        ] {
            let error =
                Command::try_parse_from(["kube-controller-manager", "--kubeconfig=/c", arg]).unwrap_err();
            assert_eq!(crate::flags::words_of(&error), words);
        }
    }
}
