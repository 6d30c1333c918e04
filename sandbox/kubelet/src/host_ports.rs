//! `hostPort`: ports of the node that lead to a pod's, as the portmap plugin of CNI makes them (`plugins/meta/portmap`): by rules of
//! the node's own `iptables`, in a chain for each pod, so that they can be read there. What comes from the node itself, or from
//! pods behind the same bridge, is masqueraded, since its answers would not find back.

use crate::network::BRIDGE;
use drydock_runtime::{Error, program};
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use std::{
    collections::BTreeSet,
    fmt::Write,
    fs, io,
    net::Ipv4Addr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Leads to the pods' chains.
const DNAT: &str = "CNI-HOSTPORT-DNAT";
/// Marks what must be masqueraded.
const SETMARK: &str = "CNI-HOSTPORT-SETMARK";
/// Masquerades what is marked.
const MASQUERADE: &str = "CNI-HOSTPORT-MASQ";

/// What all pods share, as `iptables-save` writes it.
const SHARED: [&str; 4] = [
    "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
    "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
    "-A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000",
    "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
];
/// This stands before the rules of the pods' network, which masquerade only what leaves it.
const FIRST: &str = "-A POSTROUTING -j CNI-HOSTPORT-MASQ";

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

/// What leads the ports to a pod, for `iptables-restore --noflush`. `present`: what `iptables-save` says. What all pods share is made
/// if it is not there: a learner may have flushed it.
fn opening(present: &str, container: &str, address: Ipv4Addr, pods: &str, mappings: &[Mapping]) -> String {
    let is_there = |line: &&str| present.lines().any(|one| one == *line);
    let chain = chain(container);
    let mut out = format!("*nat\n:{chain} - [0:0]\n");
    for shared in [DNAT, SETMARK, MASQUERADE] {
        // One that is there would be emptied.
        if !present.contains(&format!("\n:{shared} ")) {
            out += &format!(":{shared} - [0:0]\n");
        }
    }
    for rule in SHARED.iter().filter(|rule| !is_there(rule)) {
        out += &format!("{rule}\n");
    }
    if !is_there(&FIRST) {
        out += &format!("{}\n", FIRST.replacen("-A", "-I", 1));
    }
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

/// What takes it away again; nothing if there is nothing left of it.
fn closing(present: &str, container: &str) -> Option<String> {
    let chain = chain(container);
    let leads = present.lines().filter(|line| line.ends_with(&format!(" -j {chain}")));
    let delete: String = leads.map(|line| line.replacen("-A ", "-D ", 1) + "\n").collect();
    let is_there = present.contains(&format!("\n:{chain} "));
    is_there.then(|| format!("*nat\n{delete}-F {chain}\n-X {chain}\nCOMMIT\n"))
}

/// First containers to which ports lead.
fn owners(present: &str) -> BTreeSet<String> {
    let ids = present.lines().filter_map(|line| line.split_once("dnat id: ")?.1.split('"').next());
    ids.map(String::from).collect()
}

fn save() -> Result<String, Error> {
    program::feed(Path::new("/usr/sbin/iptables-save"), &["-t", "nat"], "")
}

fn restore(script: &str) -> Result<(), Error> {
    program::feed(Path::new("/usr/sbin/iptables-restore"), &["--noflush"], script).map(drop)
}

/// Does what waits for a program on a thread of its own.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::new("ports of the node", io::Error::other(e))))
}

/// Ports of the node that lead to pods.
#[derive(Debug, Default)]
pub struct HostPorts {
    /// First containers of pods that have some.
    open: Mutex<BTreeSet<String>>,
    /// Held while rules change.
    changing: tokio::sync::Mutex<()>,
}

impl HostPorts {
    fn owners(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leads the ports that a pod wants to it; nothing happens if it wants none. `pods`: the addresses of this node's pods.
    pub async fn open(
        &self,
        pod: &Pod,
        container: &str,
        address: Ipv4Addr,
        pods: String,
    ) -> Result<(), Error> {
        let mappings = mappings(pod);
        if mappings.is_empty() {
            return Ok(());
        }
        let _changing = self.changing.lock().await;
        let container = container.to_owned();
        let opened = container.clone();
        beside(move || {
            // Answers to the node's own loopback address come from a pod.
            let path = format!("/proc/sys/net/ipv4/conf/{BRIDGE}/route_localnet");
            fs::write(&path, "1").map_err(|e| Error::new(path, e))?;
            restore(&opening(&save()?, &container, address, &pods, &mappings))
        })
        .await?;
        self.owners().insert(opened);
        Ok(())
    }

    /// Takes away what was made for a pod's first container, if something was. It is gone then, whoever else was at it.
    pub async fn close(&self, container: &str) {
        // Most pods have no such ports, and need not wait for those that have.
        if !self.owners().contains(container) {
            return;
        }
        let _changing = self.changing.lock().await;
        if !self.owners().remove(container) {
            return;
        }
        let id = container.to_owned();
        let closed = beside(move || closing(&save()?, &id).map_or(Ok(()), |script| restore(&script))).await;
        if let Err(error) = closed {
            tracing::warn!(container, %error, "ports of the node may still lead to a pod that is gone");
        }
    }

    /// Takes away what an earlier kubelet has made for all but these.
    pub async fn keep_only(&self, containers: &[String]) {
        let found = match beside(save).await {
            Ok(present) => owners(&present),
            Err(error) => {
                tracing::warn!(%error, "ports of the node may lead to pods that are gone");
                return;
            }
        };
        self.owners().extend(found.iter().cloned());
        for gone in found.iter().filter(|owner| !containers.contains(owner)) {
            self.close(gone).await;
        }
    }
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
            opening("", "0123456789abcdef0123", address, "10.244.2.0/24", &mappings(&pod)),
            "*nat
:CNI-DN-0123456789abcdef - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-I POSTROUTING -j CNI-HOSTPORT-MASQ
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

    #[test]
    fn what_is_there_is_not_made_again_and_goes_whole() {
        let chain = "CNI-DN-0123456789abcdef";
        let lead = |container: &str, chain: &str| {
            format!(
                "-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 80 -m comment --comment \"dnat id: {container}\" -j {chain}"
            )
        };
        let (own, other) = (lead("0123456789abcdef0123", chain), lead("other", "CNI-DN-other"));
        let shared = SHARED.join("\n");
        let present = format!(
            "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-HOSTPORT-SETMARK - [0:0]\n:CNI-HOSTPORT-MASQ - [0:0]\n:{chain} - [0:0]\n\
             {shared}\n{FIRST}\n{own}\n{other}\nCOMMIT\n"
        );
        let opening = opening(&present, "second", Ipv4Addr::LOCALHOST, "10.244.2.0/24", &[]);
        assert_eq!(opening, "*nat\n:CNI-DN-second - [0:0]\nCOMMIT\n");
        let delete = own.replacen("-A", "-D", 1);
        assert_eq!(
            closing(&present, "0123456789abcdef0123"),
            Some(format!("*nat\n{delete}\n-F {chain}\n-X {chain}\nCOMMIT\n"))
        );
        assert_eq!(closing("*nat\nCOMMIT\n", "0123456789abcdef0123"), None);
        assert_eq!(owners(&present), ["0123456789abcdef0123", "other"].map(String::from).into());
    }
}
