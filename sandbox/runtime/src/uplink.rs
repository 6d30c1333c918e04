//! A session's way out, where the operator allows one: a pair of interfaces from the host to the session's network
//! namespace, with address translation on both ends and the rules on the host's. Without it a session has no route anywhere.
//!
//! ```text
//! node eth0 ── br0 ── [session: masquerade] ── up0 ═══ ddS-N ── [host: rules, masquerade] ── the world
//!                                            100.64.x.y+1   100.64.x.y
//! ```

use crate::{
    Error, Result,
    egress::{CLOSED, Egress},
    error::Context,
    netlink, process,
};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
};
use std::{
    fs::{self, File},
    io::{self, Write},
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};

/// Number of the session's end in the session's network namespace.
const SESSION_END: u32 = 3;
/// Number of the first one on the host: above those that the kernel gives out.
const HOST_END: u32 = 1 << 29;
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// One session's uplink: known by the server's and the session's numbers, so that it can be taken away by a warden
/// that did not make it.
#[derive(Debug, Clone, Copy)]
pub struct Uplink {
    /// Number of the server, below 32.
    pub server: u32,
    /// Number of the session's id range, below 1,024.
    pub slot: u32,
}

impl Uplink {
    fn interface(self) -> String {
        format!("dd{}-{}", self.server, self.slot)
    }

    fn table(self) -> String {
        format!("drydock_{}_{}", self.server, self.slot)
    }

    /// Addresses of the host's and of the session's end, out of 100.64.0.0/10, which no host in the world has (RFC 6598).
    fn addresses(self) -> (Ipv4Addr, Ipv4Addr) {
        let first = Ipv4Addr::new(100, 64, 0, 0).to_bits() + (self.server * 1024 + self.slot) * 2;
        (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first + 1))
    }

    /// Makes the uplink of the session whose spawner is process `pid`. Needs root and a single thread.
    pub fn create(self, pid: i32, egress: &Egress) -> Result<()> {
        let name = self.interface();
        let (host_end, session_end) = self.addresses();
        // The rules come first: there is no moment at which the way is open without them.
        nft(&self.host_rules(egress, &connected()?))?;
        if speaks_ipv6() {
            nft(&self.no_ipv6())?;
        }
        let server = u8::try_from(self.server).unwrap_or(0);
        let [high, low] = u16::try_from(self.slot).unwrap_or(0).to_be_bytes();
        let peer = netlink::Peer { name: "up0", index: SESSION_END, mac: [2, 0, 1, server, high, low] };
        let index = HOST_END + self.server * 1024 + self.slot;
        netlink::Batch::new()
            .veth(&name, index, None, &peer, netlink::In::Process(pid))
            .address(index, host_end, 31)
            .send()?;
        let namespace = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&namespace).step(|| format!("open {namespace}"))?;
        let child = process::fork(|| {
            let done = setns(&namespace, CloneFlags::CLONE_NEWNET).step(|| "enter the session's network").and_then(|()| {
                netlink::Batch::new()
                    .up(SESSION_END)
                    .address(SESSION_END, session_end, 31)
                    .default_route(host_end)
                    .send()?;
                forward()?;
                nft("table ip uplink { chain out { type nat hook postrouting priority srcnat; oifname \"up0\" masquerade; }; }\n")
            });
            done.map_or_else(
                |e| {
                    tracing::error!("uplink: {e}");
                    1
                },
                |()| 0,
            )
        })?;
        if process::wait(child)? != 0 {
            return Err(Error::new(
                "set up the session's end of its uplink",
                io::Error::other("see the log"),
            ));
        }
        forward()
    }

    /// Takes away what [`Self::create`] has made on the host. The interfaces go with the session's namespace.
    pub fn delete(self) -> Result<()> {
        // "Add" first: deleting a table that is not there would be an error.
        nft(&format!("add table ip {0}\ndelete table ip {0}\n", self.table()))?;
        if speaks_ipv6() {
            nft(&format!("add table ip6 {0}\ndelete table ip6 {0}\n", self.table()))?;
        }
        match if_nametoindex(self.interface().as_str()) {
            Ok(index) => {
                let _just_gone = netlink::Batch::new().delete(index).send();
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// No rule is about IPv6, so none of it passes; the kernel gives every interface an address of that kind.
    fn no_ipv6(self) -> String {
        let (table, interface) = (self.table(), self.interface());
        format!(
            "table ip6 {table} {{
  chain input {{ type filter hook input priority filter - 10; iifname \"{interface}\" drop; }}
  chain forward {{
    type filter hook forward priority filter - 10;
    iifname \"{interface}\" drop
    oifname \"{interface}\" drop
  }}
}}
"
        )
    }

    /// A table of its own for each session, which is made and deleted as a whole.
    fn host_rules(self, egress: &Egress, connected: &[(Ipv4Addr, u8)]) -> String {
        let interface = self.interface();
        let closed: Vec<String> =
            CLOSED.iter().chain(connected).map(|(address, length)| format!("{address}/{length}")).collect();
        let allowed: Vec<String> = egress.allow.iter().map(|rule| format!("{rule} accept")).collect();
        // The operator has named these themselves, and in most places they are at private addresses.
        let resolvers: Vec<String> = (egress.resolvers.iter())
            .flat_map(|resolver| {
                ["udp", "tcp"].map(|protocol| format!("ip daddr {resolver}/32 {protocol} dport 53 accept"))
            })
            .collect();
        let session_end = self.addresses().1;
        format!(
            "table ip {table} {{
  set closed {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {closed} }}; }}
  chain input {{
    type filter hook input priority filter - 10;
    iifname \"{interface}\" reject with icmp admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority filter - 10;
    oifname \"{interface}\" ct state established,related accept
    oifname \"{interface}\" drop
    iifname != \"{interface}\" accept
    ip saddr != {session_end} drop
    ct state established,related accept
    {resolvers}
    ip daddr @closed reject with icmp admin-prohibited
    {allowed}
    reject with icmp admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {session_end} oifname != \"{interface}\" masquerade
  }}
}}
",
            table = self.table(),
            closed = closed.join(", "),
            allowed = allowed.join("\n    "),
            resolvers = resolvers.join("\n    "),
        )
    }
}

/// Whether this kernel has IPv6 (if_inet6 in proc(5)).
fn speaks_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// The networks that the host is connected to itself (proc_net_route: lines without a gateway).
pub fn connected() -> Result<Vec<(Ipv4Addr, u8)>> {
    let path = "/proc/net/route";
    let text = fs::read_to_string(path).step(|| format!("read {path}"))?;
    let hex = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::swap_bytes);
    let lines = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (network, gateway, mask) = (hex(fields.get(1)?)?, hex(fields.get(2)?)?, hex(fields.get(7)?)?);
        (gateway == 0 && mask != 0).then(|| (Ipv4Addr::from_bits(network), mask.count_ones() as u8))
    });
    Ok(lines.collect())
}

/// Switches on that packets are passed on between the interfaces of this network namespace.
fn forward() -> Result<()> {
    if fs::read_to_string(FORWARDING).step(|| format!("read {FORWARDING}"))?.trim() == "1" {
        return Ok(());
    }
    fs::write(FORWARDING, "1").step(|| format!("write {FORWARDING}"))
}

/// Gives nft(8) a script, which it carries out whole or not at all.
fn nft(script: &str) -> Result<()> {
    let failed = |e: io::Error| Error::new("nft (package nftables)", e);
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_of_every_server_has_addresses_of_its_own() {
        let last = Uplink { server: 31, slot: 1023 }.addresses().1;
        assert!(last < Ipv4Addr::new(100, 128, 0, 0), "{last}");
        assert_ne!(Uplink { server: 0, slot: 1 }.addresses(), Uplink { server: 1, slot: 0 }.addresses());
        assert!(Uplink { server: 31, slot: 1023 }.interface().len() < 16);
    }

    #[test]
    fn closed_networks_are_refused_before_any_rule_allows_them() {
        let resolvers = vec![Ipv4Addr::new(10, 0, 0, 53)];
        let egress = Egress { allow: vec!["any".parse().unwrap()], resolvers };
        let rules = Uplink { server: 0, slot: 1 }.host_rules(&egress, &[(Ipv4Addr::new(203, 0, 113, 0), 24)]);
        let at = |what: &str| rules.find(what).unwrap_or_else(|| panic!("{what}: {rules}"));
        assert!(at("@closed reject") < at("0.0.0.0/0 accept"));
        // Resolvers are named one by one.
        assert!(at("10.0.0.53/32 udp dport 53 accept") < at("@closed reject"));
        assert!(rules.contains("203.0.113.0/24") && rules.contains("169.254.0.0/16"));
    }
}
