//! What to do when the host runs out of memory although every session is below its limit. Some memory of the kernel is charged to
//! no control group: datagrams that wait in raw, packet and netlink sockets, and fragments of packets. A learner can fill all of
//! the host with it in seconds, and then the kernel ends whatever is largest. So the warden looks once a second how much is left,
//! and if it is too little, ends the session that holds most of such memory.

use drydock_protocol::SessionId;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often to look.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Of the host's memory, so much must be available, as one part of this many …
const PART: u64 = 25;
/// … but more than this need not be, in bytes.
const ENOUGH: u64 = 1 << 30;

/// Whether the host is short of memory.
pub fn is_short() -> bool {
    fs::read_to_string("/proc/meminfo").is_ok_and(|text| too_little(&text))
}

/// The same from the text of `/proc/meminfo` (proc_meminfo(5)).
fn too_little(meminfo: &str) -> bool {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    match (bytes("MemTotal"), bytes("MemAvailable")) {
        (Some(total), Some(available)) => available < (total / PART).min(ENOUGH),
        _ => false,
    }
}

/// The session that can hold most memory that is charged to nobody, and how many bytes that may be. `users`: the host's user ids of
/// each session.
pub fn heaviest(users: &BTreeMap<SessionId, Range<u32>>) -> Option<(SessionId, u64)> {
    let mut weights: BTreeMap<&SessionId, Weight> = BTreeMap::new();
    for (id, process) in processes(users) {
        weights.entry(id).or_default().add(&process);
    }
    // A socket takes twice what its owner may ask for (socket(7), SO_RCVBUF).
    let most = fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    let most = most.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(212_992) * 2;
    let bytes = |weight: &Weight| weight.sockets.saturating_mul(most).saturating_add(weight.fragments);
    let heaviest = weights.into_iter().max_by_key(|(_, weight)| bytes(weight))?;
    Some((heaviest.0.clone(), bytes(&heaviest.1)))
}

/// The processes of sessions, as directories of `/proc`. `users`: the host's user ids of each session.
pub fn processes(users: &BTreeMap<SessionId, Range<u32>>) -> impl Iterator<Item = (&SessionId, PathBuf)> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let process = entry.path();
        let user = owner(&process)?;
        let (id, _) = users.iter().find(|(_, range)| range.contains(&user))?;
        Some((id, process))
    })
}

/// What a session's processes have.
#[derive(Debug, Default)]
struct Weight {
    sockets: u64,
    /// Bytes of fragments that wait for the rest of their packets.
    fragments: u64,
    networks: BTreeSet<std::path::PathBuf>,
}

impl Weight {
    /// Adds a process; one that is gone meanwhile weighs nothing.
    fn add(&mut self, process: &Path) {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        self.sockets +=
            links.filter(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:")).count() as u64;
        let Ok(network) = fs::read_link(process.join("ns/net")) else { return };
        if self.networks.insert(network) {
            for file in ["net/sockstat", "net/sockstat6"] {
                let text = fs::read_to_string(process.join(file)).unwrap_or_default();
                self.fragments += fragments(&text);
            }
        }
    }
}

/// The bytes of fragments in the text of `/proc/PID/net/sockstat`.
fn fragments(sockstat: &str) -> u64 {
    let line = sockstat.lines().find(|line| line.starts_with("FRAG"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// The host's user id of a process.
fn owner(process: &Path) -> Option<u32> {
    process.file_name()?.to_str()?.parse::<u32>().ok()?;
    let status = fs::read_to_string(process.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_a_part_of_small_hosts_and_a_gibibyte_of_large_ones() {
        let text = |total: u64, available: u64| {
            format!("MemTotal:       {total} kB\nMemFree: 1 kB\nMemAvailable:   {available} kB\n")
        };
        assert!(too_little(&text(4 << 20, 160 << 10)));
        assert!(!too_little(&text(4 << 20, 170 << 10)));
        assert!(too_little(&text(256 << 20, 1023 << 10)));
        assert!(!too_little(&text(256 << 20, 1025 << 10)));
        assert!(!too_little("nonsense"));
    }

    #[test]
    fn fragments_are_counted_by_the_kernel() {
        assert_eq!(fragments("sockets: used 12\nRAW: inuse 0\nFRAG: inuse 3 memory 4096\n"), 4096);
        assert_eq!(fragments("FRAG6: inuse 1 memory 7\n"), 7);
        assert_eq!(fragments(""), 0);
    }
}
