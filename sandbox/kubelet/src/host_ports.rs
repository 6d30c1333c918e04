//! `hostPort`: ports of the node that lead to a pod's, as the portmap plugin of CNI makes them (`plugins/meta/portmap`): by rules of
//! the node's own `iptables`, in a chain for each pod, so that they can be read there. What comes from the node itself, or from
//! pods behind the same bridge, is masqueraded, since its answers would not find back.

use crate::network::BRIDGE;
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use std::{collections::BTreeSet, fmt::Write, net::Ipv4Addr, process::Stdio};
use tokio::{io::AsyncWriteExt, process::Command, sync::Mutex};

/// Leads to the pods' chains.
const DNAT: &str = "CNI-HOSTPORT-DNAT";
/// Marks what must be masqueraded.
const SETMARK: &str = "CNI-HOSTPORT-SETMARK";
/// Masquerades what is marked.
const MASQUERADE: &str = "CNI-HOSTPORT-MASQ";
/// The mark.
const MARK: &str = "0x2000/0x2000";

/// A port of the node can't be led to a pod.
#[derive(Debug, thiserror::Error)]
pub enum HostPortError {
    /// The program is not there.
    #[error("{program}: {source}")]
    Program {
        /// Which.
        program: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It refused.
    #[error("{program}: {said}")]
    Refused {
        /// Which.
        program: &'static str,
        /// In its words.
        said: String,
    },
}

/// A port of the node and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    protocol: &'static str,
    /// Empty: all of the node's.
    host_ip: String,
    host_port: u16,
    container_port: u16,
}

/// Ports of the node that a pod wants. One that several containers name counts once.
fn mappings(pod: &Pod) -> Vec<Mapping> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let restartable = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(restartable));
    let mut all: Vec<Mapping> = Vec::new();
    for port in containers.flat_map(|c| c.ports.iter().flatten()) {
        let mapping = mapping(port);
        all.extend(mapping.filter(|one| !all.contains(one)));
    }
    all
}

fn mapping(port: &ContainerPort) -> Option<Mapping> {
    let number = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
    Some(Mapping {
        protocol: match port.protocol.as_deref() {
            None | Some("TCP") => "tcp",
            Some("UDP") => "udp",
            Some("SCTP") => "sctp",
            Some(_) => return None,
        },
        // Checked by the API server; what is no address would be read as something else by iptables.
        host_ip: match port.host_ip.as_deref() {
            None | Some("" | "0.0.0.0") => String::new(),
            Some(ip) => ip.parse::<Ipv4Addr>().ok()?.to_string(),
        },
        host_port: number(port.host_port?)?,
        container_port: number(port.container_port)?,
    })
}

/// The chain of a pod's first container.
fn chain(container: &str) -> String {
    format!("CNI-DN-{}", container.get(..16).unwrap_or(container))
}

/// Rules that lead the ports to a pod, for `iptables-restore --noflush`.
fn rules(container: &str, address: Ipv4Addr, pods: &str, mappings: &[Mapping]) -> String {
    let chain = chain(container);
    let mut out = format!("*nat\n:{chain} - [0:0]\n");
    for Mapping { protocol, host_ip, host_port, container_port } in mappings {
        let to = if host_ip.is_empty() { String::new() } else { format!("-d {host_ip} ") };
        let port = format!("{to}-p {protocol} -m {protocol} --dport {host_port}");
        // Writing to memory can't fail.
        let _infallible = write!(
            out,
            "-A {DNAT} {port} -m comment --comment \"dnat id: {container}\" -j {chain}\n\
             -A {chain} -s {pods} {port} -j {SETMARK}\n\
             -A {chain} -s 127.0.0.1/32 {port} -j {SETMARK}\n\
             -A {chain} {port} -j DNAT --to-destination {address}:{container_port}\n"
        );
    }
    out + "COMMIT\n"
}

/// Ports of the node that lead to pods.
#[derive(Debug, Default)]
pub struct HostPorts {
    /// First containers of pods that have some. Held while rules change.
    open: Mutex<BTreeSet<String>>,
}

impl HostPorts {
    /// Leads the ports that a pod wants to it; nothing happens if it wants none. `pods`: the addresses of this node's pods.
    pub async fn open(
        &self,
        pod: &Pod,
        container: &str,
        address: Ipv4Addr,
        pods: &str,
    ) -> Result<(), HostPortError> {
        let mappings = mappings(pod);
        if mappings.is_empty() {
            return Ok(());
        }
        let mut open = self.open.lock().await;
        prepare().await?;
        let rules = rules(container, address, pods, &mappings);
        run("iptables-restore", &["-w", "--noflush"], &rules).await?;
        open.insert(container.to_owned());
        Ok(())
    }

    /// Takes away what was made for a pod's first container, if something was.
    pub async fn close(&self, container: &str) {
        let mut open = self.open.lock().await;
        if open.remove(container) {
            delete(container).await;
        }
    }

    /// Takes away what an earlier kubelet has made for all but these.
    pub async fn keep_only(&self, containers: &[String]) {
        let mut open = self.open.lock().await;
        let Ok(listed) = list().await else { return };
        let owners = listed.lines().filter_map(|line| line.split_once("dnat id: ")?.1.split('"').next());
        for owner in owners.map(String::from).collect::<BTreeSet<_>>() {
            if containers.contains(&owner) {
                open.insert(owner);
            } else {
                delete(&owner).await;
            }
        }
    }
}

/// What leads to the pods' chains.
async fn list() -> Result<String, HostPortError> {
    run("iptables", &["-w", "-t", "nat", "-S", DNAT], "").await
}

async fn delete(container: &str) {
    let chain = chain(container);
    // Flushed by the learner, if it can't be listed.
    let Ok(listed) = list().await else { return };
    let leads = listed.lines().filter(|line| line.ends_with(&format!(" -j {chain}")));
    let delete: String = leads.map(|line| line.replacen("-A ", "-D ", 1) + "\n").collect();
    let text = format!("*nat\n{delete}-F {chain}\n-X {chain}\nCOMMIT\n");
    if let Err(error) = run("iptables-restore", &["-w", "--noflush"], &text).await {
        tracing::warn!(container, %error, "ports of the node may still lead to a pod that is gone");
    }
}

/// Makes the chains that all pods share, if they are not there: a learner may have flushed them.
async fn prepare() -> Result<(), HostPortError> {
    // Answers to the node's own loopback address come from a pod.
    let path = format!("/proc/sys/net/ipv4/conf/{BRIDGE}/route_localnet");
    std::fs::write(path, "1").map_err(|source| HostPortError::Program { program: "sysctl", source })?;
    for chain in [DNAT, SETMARK, MASQUERADE] {
        // It refuses if the chain is there.
        let _there = run("iptables", &["-w", "-t", "nat", "-N", chain], "").await;
    }
    let local = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", DNAT];
    let all: [(&str, &[&str]); 5] = [
        ("PREROUTING", &local),
        ("OUTPUT", &local),
        (SETMARK, &["-j", "MARK", "--set-xmark", MARK]),
        (MASQUERADE, &["-m", "mark", "--mark", MARK, "-j", "MASQUERADE"]),
        ("POSTROUTING", &["-j", MASQUERADE]),
    ];
    for (chain, rule) in all {
        let with = |verb: &'static str| [&["-w", "-t", "nat", verb, chain], rule].concat();
        if run("iptables", &with("-C"), "").await.is_err() {
            // Before the rules of the pods' network, which masquerade only what leaves it.
            run("iptables", &with(if chain == "POSTROUTING" { "-I" } else { "-A" }), "").await?;
        }
    }
    Ok(())
}

/// Runs a program of the node; what it says.
async fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, HostPortError> {
    let failed = |source| HostPortError::Program { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(HostPortError::Refused { program, said })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_chain_for_each_pod() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]},
            {"name": "b", "ports": [
                {"containerPort": 80, "hostPort": 8080},
                {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.168.0.12"},
                {"containerPort": 1, "hostPort": 2, "hostIP": "1.2.3.4 -j ACCEPT"},
            ]},
        ]}}))
        .unwrap();
        let address = Ipv4Addr::new(10, 244, 2, 5);
        assert_eq!(
            rules("0123456789abcdef0123", address, "10.244.2.0/24", &mappings(&pod)),
            "*nat
:CNI-DN-0123456789abcdef - [0:0]
-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 8080 -m comment --comment \"dnat id: 0123456789abcdef0123\" -j CNI-DN-0123456789abcdef
-A CNI-DN-0123456789abcdef -s 10.244.2.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.2.5:80
-A CNI-HOSTPORT-DNAT -d 192.168.0.12 -p udp -m udp --dport 53 -m comment --comment \"dnat id: 0123456789abcdef0123\" -j CNI-DN-0123456789abcdef
-A CNI-DN-0123456789abcdef -s 10.244.2.0/24 -d 192.168.0.12 -p udp -m udp --dport 53 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef -s 127.0.0.1/32 -d 192.168.0.12 -p udp -m udp --dport 53 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef -d 192.168.0.12 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.2.5:53
COMMIT
"
        );
    }
}
