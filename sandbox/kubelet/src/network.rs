//! The pod network of a node, as the bridge plugin of CNI makes it: bridge `cni0` with the node's part of the pods' addresses, a pair of
//! interfaces for each pod, and routes to the other nodes' parts (host-gw), so that pods of all nodes reach each other without
//! translation. Addresses that are taken lie in `/var/lib/cni/networks/cbr0`, as host-local keeps them.

use drydock_runtime::netlink::{self, Batch, Pair, Peer};
use nix::sched::{CloneFlags, setns};
use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// The bridge.
pub const BRIDGE: &str = "cni0";
/// Its number, out of the way of those that the kernel gives.
const BRIDGE_INDEX: u32 = 1000;
/// Where taken addresses are.
const TAKEN: &str = "/var/lib/cni/networks/cbr0";
/// Length of the prefix of a node's part.
const PREFIX: u8 = 24;
/// Stack of a thread that looks into another network namespace.
const STACK: usize = 128 << 10;
/// Longest time for one rule of the firewall.
const PATIENCE: Duration = Duration::from_secs(10);

/// The network can't be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused.
    #[error("{0}")]
    Kernel(#[from] drydock_runtime::Error),
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    File {
        /// Which, or what for.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// All addresses are taken.
    #[error("failed to allocate for range 0: no IP addresses available in range set: {0}")]
    Full(String),
    /// The thread died.
    #[error("work in a pod's network namespace failed")]
    Thread,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Network {
    number: u8,
    taken: PathBuf,
    last: Mutex<u8>,
}

/// The part of a node's pods: `10.244.N.0`.
fn part(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, number, 0)
}

impl Network {
    /// That of the node with this number. Nothing is made yet.
    pub fn new(number: u8) -> Self {
        Self { number, taken: TAKEN.into(), last: Mutex::new(1) }
    }

    /// The node's part as text: `10.244.1.0/24`.
    pub fn cidr(&self) -> String {
        format!("{}/{PREFIX}", part(self.number))
    }

    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, 1)
    }

    /// Makes the bridge, if it is not there, and lets packets through.
    pub fn prepare(&self) -> Result<(), NetworkError> {
        // Before the engine looks: where forwarding is on already it leaves the policy of forwarding alone.
        write("/proc/sys/net/ipv4/ip_forward", "1")?;
        if !Path::new("/sys/class/net").join(BRIDGE).exists() {
            let mac = [0x0a, 0x58, 10, 244, self.number, 1];
            let mut links = Batch::new();
            links.bridge(BRIDGE, BRIDGE_INDEX, mac).address(BRIDGE_INDEX, self.gateway(), PREFIX);
            links.send()?;
        }
        fs::create_dir_all(&self.taken)
            .map_err(|source| NetworkError::File { what: self.taken.display().to_string(), source })
    }

    /// Rules of the node's firewall that let pods' packets through whoever else has rules there, and hide pods from what is not of the
    /// cluster. By the node's own `iptables`, so that they can be read there.
    pub async fn allow(&self) {
        let own = self.cidr();
        let rules = [
            ("filter", "FORWARD", format!("-s {POD_CIDR} -m comment --comment pods -j ACCEPT")),
            ("filter", "FORWARD", format!("-d {POD_CIDR} -m comment --comment pods -j ACCEPT")),
            (
                "nat",
                "POSTROUTING",
                format!("-s {own} ! -d {POD_CIDR} -m comment --comment pods -j MASQUERADE"),
            ),
        ];
        for (table, chain, rule) in rules {
            let run = async |verb: &str| {
                let mut command = tokio::process::Command::new("iptables");
                command.args(["-w", "-t", table, verb, chain]).args(rule.split_whitespace());
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
                // The node's root may have replaced it, or hold its lock.
                let status = tokio::time::timeout(PATIENCE, command.status()).await;
                status.is_ok_and(|status| status.is_ok_and(|status| status.success()))
            };
            let added = run("-C").await || run(if table == "filter" { "-I" } else { "-A" }).await;
            if !added {
                tracing::warn!(table, rule, "a rule for the pods' packets could not be added");
            }
        }
    }

    /// Leads packets for another node's pods to it.
    pub fn route(&self, pods: (Ipv4Addr, u8), node: Ipv4Addr) -> Result<(), NetworkError> {
        Ok(Batch::new().route(pods.0, pods.1, node).send()?)
    }

    /// Takes such a route away.
    pub fn unroute(&self, pods: (Ipv4Addr, u8)) -> Result<(), NetworkError> {
        Ok(Batch::new().delete_route(pods.0, pods.1).send()?)
    }

    /// Gives a pod, whose first container runs as process `pid`, an interface with an address.
    pub fn attach(&self, container: &str, pid: i32) -> Result<Ipv4Addr, NetworkError> {
        let address = self.take(container)?;
        let made = self.connect(container, pid, address);
        if made.is_err() {
            self.release(container);
        }
        made.map(|()| address)
    }

    fn connect(&self, container: &str, pid: i32, address: Ipv4Addr) -> Result<(), NetworkError> {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).map_err(|source| NetworkError::File { what: path, source })?;
        let [_, _, c, d] = address.octets();
        let name = format!("veth{}", container.get(..8).unwrap_or(container));
        let pair = Pair {
            name: &name,
            index: 0,
            bridge: BRIDGE_INDEX,
            mtu: None,
            peer: Peer { name: "eth0", index: 0, mac: [0x0a, 0x58, 10, 244, c, d] },
        };
        // One that a kubelet which died has begun.
        let _none_there = Batch::new().delete_named(&name).send();
        Batch::new().pair(&pair, namespace.as_fd()).send()?;
        let gateway = self.gateway();
        inside(&namespace, move || {
            let links = netlink::links()?;
            let index = links.iter().find(|l| l.name == "eth0").map_or(0, |l| l.index);
            let mut batch = Batch::new();
            batch.up(netlink::LOOPBACK).address(index, address, PREFIX).up(index).default_route(gateway);
            Ok(batch.send()?)
        })
    }

    /// The address that a pod's first container has.
    pub fn address_of(&self, container: &str) -> Option<Ipv4Addr> {
        self.all().into_iter().find(|(_, owner)| owner == container).map(|(address, _)| address)
    }

    /// A pod's first container is gone. The interfaces went with its namespace.
    pub fn release(&self, container: &str) {
        for (address, owner) in self.all() {
            if owner == container {
                let _gone = fs::remove_file(self.taken.join(address.to_string()));
            }
        }
    }

    /// Frees the addresses of all but these.
    pub fn keep_only(&self, containers: &[String]) {
        for (_, owner) in self.all() {
            if !containers.contains(&owner) {
                self.release(&owner);
            }
        }
    }

    fn all(&self) -> Vec<(Ipv4Addr, String)> {
        let entries = fs::read_dir(&self.taken).into_iter().flatten().flatten();
        let read = entries.filter_map(|entry| {
            let address = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path()).ok()?;
            Some((address, text.lines().next().unwrap_or_default().to_owned()))
        });
        read.collect()
    }

    /// Takes the next free address after the one that was taken last.
    fn take(&self, container: &str) -> Result<Ipv4Addr, NetworkError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let candidates = (*last..254).chain(1..*last).map(|n| n + 1);
        for host in candidates {
            let address = Ipv4Addr::new(10, 244, self.number, host);
            let path = self.taken.join(address.to_string());
            match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    let written = io::Write::write_all(&mut file, format!("{container}\neth0").as_bytes());
                    written
                        .map_err(|source| NetworkError::File { what: path.display().to_string(), source })?;
                    *last = host;
                    return Ok(address);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(NetworkError::File { what: path.display().to_string(), source }),
            }
        }
        Err(NetworkError::Full(format!("10.244.{0}.1-10.244.{0}.254", self.number)))
    }
}

use drydock_cluster::POD_CIDR;

fn write(path: &str, text: &str) -> Result<(), NetworkError> {
    fs::write(path, text).map_err(|source| NetworkError::File { what: path.into(), source })
}

/// Does something in a network namespace: on a thread of its own, so that the kubelet never leaves the node's.
pub fn inside<T: Send>(
    namespace: &File,
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("inside".into()).stack_size(STACK);
        let thread = builder.spawn_scoped(scope, || {
            setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|e| NetworkError::File {
                what: "enter a network namespace".into(),
                source: e.into(),
            })?;
            work()
        });
        thread.map_err(|_| NetworkError::Thread)?.join().unwrap_or(Err(NetworkError::Thread))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let network = Network { number: 2, taken: dir.path().into(), last: Mutex::new(1) };
        let a = network.take("a").unwrap();
        let b = network.take("b").unwrap();
        assert_eq!((a, b), (Ipv4Addr::new(10, 244, 2, 2), Ipv4Addr::new(10, 244, 2, 3)));
        network.release("a");
        assert_eq!(network.take("c").unwrap(), Ipv4Addr::new(10, 244, 2, 4));
        assert_eq!(network.address_of("b"), Some(b));
        network.keep_only(&["c".into()]);
        assert_eq!(network.address_of("b"), None);
        while network.take("x").is_ok() {}
        assert_eq!(network.all().len(), 253);
        network.release("c");
        assert_eq!(network.take("d").unwrap(), Ipv4Addr::new(10, 244, 2, 4));
    }
}
