//! Looks at the nodes while somebody views the session: once a second which TCP ports something listens on, every
//! other second what each node uses. Nobody there: it sleeps.

use crate::{nodes, session::Session};
use drydock_protocol::{
    NodeName,
    state::{Port, Usage},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    rc::Rc,
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_secs(1);
/// Most ports of a node that are told.
const MAX_PORTS: usize = 256;
/// Of a table with very many sockets only the beginning is read.
const MAX_TABLE: u64 = 256 * 1024;
/// TCP_LISTEN (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// Watches for ever.
pub async fn watch(session: Rc<Session>) {
    let mut changes = session.changes.subscribe();
    let mut round = 0u32;
    loop {
        while session.viewers.borrow().is_empty() {
            // The sender lives as long as the session.
            let _never_fails = changes.changed().await;
            round = 0;
        }
        look(&session, round.is_multiple_of(2));
        round = round.wrapping_add(1);
        tokio::time::sleep(EVERY).await;
    }
}

fn look(session: &Session, with_usage: bool) {
    let mut changed = false;
    for (name, node) in session.nodes.borrow_mut().iter_mut() {
        let Some(pid) = node.init().map(|init| init.pid) else { continue };
        let ports = ports(pid);
        changed |= ports != node.ports;
        node.ports = ports;
        if with_usage && let Some(usage) = usage(session, *name, node) {
            changed |= node.usage != Some(usage);
            node.usage = Some(usage);
        }
    }
    if changed {
        session.mark_dirty();
    }
}

fn usage(session: &Session, name: NodeName, node: &mut nodes::Node) -> Option<Usage> {
    let sample = session
        .cgroup
        .usage(name)
        .inspect_err(|e| tracing::debug!(node = %name, error = %e, "figures can't be read"))
        .ok()?;
    let now = Instant::now();
    let cpu_millis = node.last_sample.map_or(0, |(at, nanos)| {
        let used = u128::from(sample.cpu_nanos.saturating_sub(nanos));
        u32::try_from(used * 1000 / now.duration_since(at).as_nanos().max(1)).unwrap_or(u32::MAX)
    });
    node.last_sample = Some((now, sample.cpu_nanos));
    Some(Usage { cpu_millis, memory: sample.memory, processes: sample.processes })
}

/// What listens in the network namespace of a process.
fn ports(pid: i32) -> Vec<Port> {
    let mut found = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        // A node that has just gone has no table.
        if let Ok(file) = File::open(format!("/proc/{pid}/net/{table}")) {
            listening(BufReader::new(file.take(MAX_TABLE)), &mut found);
        }
    }
    found.into_iter().take(MAX_PORTS).map(|(port, loopback_only)| Port { port, loopback_only }).collect()
}

/// Adds the listening sockets of a table (proc_net_tcp(5)): port, and whether all of its sockets are on loopback.
fn listening(table: impl BufRead, found: &mut BTreeMap<u16, bool>) {
    for line in table.lines().skip(1).map_while(Result::ok) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(local), _, Some(state)) = (fields.next(), fields.next(), fields.next()) else { return };
        // The kernel lists listening sockets first.
        if state != LISTEN {
            return;
        }
        let Some((address, port)) = local.split_once(':') else { return };
        let Ok(port) = u16::from_str_radix(port, 16) else { return };
        let loopback = is_loopback(address);
        found.entry(port).and_modify(|all| *all &= loopback).or_insert(loopback);
    }
}

/// An address as the kernel prints it: words in hexadecimal, each in the byte order of this machine.
fn is_loopback(address: &str) -> bool {
    let word = |text: &str| u32::from_str_radix(text, 16).map(u32::to_ne_bytes).unwrap_or_default();
    match (address.len(), address.is_ascii()) {
        (8, true) => word(address)[0] == 127,
        (32, true) => {
            let words = [0, 8, 16, 24].map(|at| word(&address[at..at + 8]));
            let v6 = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).unwrap_or_default());
            v6.to_canonical().is_loopback()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn listeners_are_read_from_the_tables() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0\n\
            1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0\n\
            2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0\n\
            3: 0100007F:0051 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0\n";
        let mut found = BTreeMap::new();
        listening(table.as_bytes(), &mut found);
        assert_eq!(found, [(80, false), (8080, true)].into());
    }

    #[test]
    fn loopback_has_several_spellings() {
        assert!(is_loopback("0100007F") && is_loopback("0200007F"));
        assert!(is_loopback("00000000000000000000000001000000"));
        assert!(is_loopback("0000000000000000FFFF00000100007F"));
        assert!(
            !is_loopback("00000000000000000000000000000000") && !is_loopback("0B00A8C0") && !is_loopback("é")
        );
    }

    #[test]
    fn a_real_listener_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = ports(i32::try_from(std::process::id()).unwrap());
        assert!(found.contains(&Port { port, loopback_only: true }), "{found:?}");
    }
}
