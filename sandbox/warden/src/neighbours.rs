//! The kernel keeps one table of neighbours (who has which address on a link, arp(7)) for all network namespaces of the host, and what is
//! in it is charged to nobody. Linux' own bound is 1024: one learner who looks for machines in a large network fills it, and then
//! nobody's nodes find each other, nor the host its router. So the warden makes room, and if one session fills even that, it ends.

use crate::shortage;
use drydock_protocol::SessionId;
use drydock_runtime::netlink;
use nix::sched::{CloneFlags, setns};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    ops::Range,
    path::PathBuf,
    thread,
};

/// Where the bounds are, and the table's figures, by the name that the kernel gives them.
const FAMILIES: [(&str, &str); 2] = [("ipv4", "arp_cache"), ("ipv6", "ndisc_cache")];
/// No more than this are kept (`gc_thresh3`): 30 MB.
const MOST: u64 = 65_536;
/// From here on the kernel looks for what it may forget (`gc_thresh2`).
const MANY: u64 = MOST / 2;
/// Network namespaces of one session that are looked at.
const MAX_NETWORKS: usize = 512;

/// Raises the kernel's bounds, where they are lower. What can't be raised is told once: the host works, as before, with what it has.
pub fn make_room() {
    for (family, _) in FAMILIES {
        for (bound, wanted) in [("gc_thresh3", MOST), ("gc_thresh2", MANY)] {
            let path = file(family, bound);
            match number(&path) {
                Some(found) if found < wanted => match fs::write(&path, wanted.to_string()) {
                    Ok(()) => tracing::info!(%path, found, now = wanted, "room for more neighbours"),
                    Err(error) => tracing::warn!(%path, %error, "the host's table of neighbours stays small"),
                },
                // More than enough, or no such protocol.
                _ => {}
            }
        }
    }
}

fn file(family: &str, bound: &str) -> String {
    format!("/proc/sys/net/{family}/neigh/default/{bound}")
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether a table is nearly full; how many neighbours it has.
pub fn crowd() -> Option<u64> {
    FAMILIES.into_iter().find_map(|(family, table)| {
        let text = fs::read_to_string(format!("/proc/net/stat/{table}")).ok()?;
        let (entries, most) = (entries(&text)?, number(&file(family, "gc_thresh3"))?);
        (entries > most / 4 * 3).then_some(entries)
    })
}

/// The neighbours in the text of `/proc/net/stat/arp_cache`: the first column, which is the same for all processors, in hexadecimal.
fn entries(stat: &str) -> Option<u64> {
    u64::from_str_radix(stat.lines().nth(1)?.split_whitespace().next()?, 16).ok()
}

/// The session that has more than half of so many neighbours, if one has, and how many. `users`: the host's user ids of each session.
pub fn heaviest(users: &BTreeMap<SessionId, Range<u32>>, crowd: u64) -> Option<(SessionId, u64)> {
    let mut known: BTreeMap<&SessionId, (BTreeSet<PathBuf>, u64)> = BTreeMap::new();
    let most = usize::try_from(crowd).unwrap_or(usize::MAX);
    for (id, process) in shortage::processes(users) {
        let namespace = process.join("ns/net");
        let (networks, count) = known.entry(id).or_default();
        // A process that is gone meanwhile has none.
        if let Ok(name) = fs::read_link(&namespace)
            && networks.len() < MAX_NETWORKS
            && networks.insert(name)
            && let Ok(network) = File::open(&namespace)
        {
            *count += neighbours_in(&network, most);
        }
    }
    let (id, (_, count)) = known.into_iter().max_by_key(|(_, (_, count))| *count)?;
    (count > crowd / 2).then(|| (id.clone(), count))
}

/// On a thread that stays in the namespace and ends.
fn neighbours_in(network: &File, most: usize) -> u64 {
    let count = || {
        setns(network, CloneFlags::CLONE_NEWNET).ok()?;
        netlink::neighbours(most).ok()
    };
    let counted = thread::scope(|scope| scope.spawn(count).join().ok().flatten());
    counted.and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Read,
        process::{Command, Stdio},
    };

    #[test]
    fn the_kernels_figures_are_read() {
        let text = "entries  allocs   destroys\n00000403  00003277 00002e1a\n00000403  00002cdd 00002999\n";
        assert_eq!(entries(text), Some(0x403));
        assert_eq!(entries("entries\n"), None);
    }

    /// Needs root: a process with a user and a network of its own.
    #[test]
    fn who_has_most_of_them_is_found() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let user = 3_000_000_001;
        let fill = format!(
            "ip link add v0 type veth peer name v1 && ip link set v0 up && ip addr add 10.0.0.1/24 dev v0 && \
             for i in 1 2 3 4 5; do ip neigh add 10.0.0.2$i lladdr 02:00:00:00:00:01 dev v0 || exit 1; done && \\
             exec setpriv --reuid {user} --clear-groups sh -c 'echo; exec sleep 600'"
        );
        let mut child =
            Command::new("unshare").args(["-n", "sh", "-c", &fill]).stdout(Stdio::piped()).spawn().unwrap();
        let said = child.stdout.as_mut().unwrap().read(&mut [0]).unwrap();
        let id = |text: &str| text.parse::<SessionId>().unwrap();
        let users =
            BTreeMap::from([(id("aaaaaaaaaa"), user..user + 1), (id("bbbbbbbbbb"), user + 1..user + 2)]);
        let (few, many) = (heaviest(&users, 8), heaviest(&users, 100));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(said, 1);
        let (who, count) = few.unwrap();
        assert_eq!(who, id("aaaaaaaaaa"));
        assert!((5..=8).contains(&count), "{count}");
        assert_eq!(many, None);
    }
}
