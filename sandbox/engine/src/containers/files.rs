//! The three files that the engine gives to a container: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`. They lie in the
//! container's directory and are bind-mounted, so that they can change while it runs (`docker network connect`).

use super::record::{Record, read_bounded};
use crate::{
    engine::Engine,
    error::{Context, Result},
};
use drydock_network::{
    Endpoint,
    files::{self, DnsOptions, Resolution},
};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Names of the files.
pub const NAMES: [&str; 3] = ["resolv.conf", "hostname", "hosts"];

/// Whether a container gets files of its own: not one that uses another's network.
pub fn own(record: &Record) -> bool {
    !record.host.network_mode.starts_with("container:")
}

/// Makes the files that must be there when the container's mounts are made; what depends on addresses follows in [`hosts`].
pub fn prepare(engine: &Engine, record: &Record) -> Result<()> {
    let dir = engine.containers.dir(&record.id);
    write(&dir.join("hostname"), &files::hostname(&record.config.hostname))?;
    write(&dir.join("resolv.conf"), &resolv_conf(engine, record, resolution(record)))?;
    hosts(engine, record)
}

/// Has a container that runs ask the embedded name server from now on, if it is in a network that has one. A file that somebody changed stays
/// (libnetwork `sandbox_dns_unix.go`, `rebuildDNS`).
pub fn resolve(engine: &Engine, record: &Record) -> Result<()> {
    let path = engine.containers.dir(&record.id).join("resolv.conf");
    let is = read_bounded(&path).unwrap_or_default();
    match resolution(record) {
        Resolution::Embedded if is == resolv_conf(engine, record, Resolution::Legacy).as_bytes() => {
            write(&path, &resolv_conf(engine, record, Resolution::Embedded))
        }
        _ => Ok(()),
    }
}

fn resolv_conf(engine: &Engine, record: &Record, resolution: Resolution) -> String {
    let node = read_bounded(Path::new("/etc/resolv.conf")).unwrap_or_default();
    files::resolv_conf(&String::from_utf8_lossy(&node), &dns(engine, record), resolution)
}

/// Writes `/etc/hosts` with the addresses that the container has now.
pub fn hosts(engine: &Engine, record: &Record) -> Result<()> {
    let path = engine.containers.dir(&record.id).join("hosts");
    if record.host.network_mode == "host" {
        let node = read_bounded(Path::new("/etc/hosts")).unwrap_or_default();
        let extra: String =
            extra(engine, record).iter().map(|(name, address)| format!("{address}\t{name}\n")).collect();
        return write(&path, &(String::from_utf8_lossy(&node).into_owned() + &extra));
    }
    let of = |endpoint: &Endpoint| {
        let ipv6 = endpoint.ipv6.as_ref().map(|ipv6| IpAddr::V6(ipv6.address));
        endpoint.address.map(IpAddr::V4).into_iter().chain(ipv6)
    };
    let addresses: Vec<IpAddr> = record.endpoints.iter().flat_map(of).collect();
    let text =
        files::hosts(&record.config.hostname, &record.config.domainname, &extra(engine, record), &addresses);
    write(&path, &text)
}

/// `--add-host`, and links to containers on the default bridge.
fn extra(engine: &Engine, record: &Record) -> Vec<(String, String)> {
    let mut extra: Vec<(String, String)> = record
        .host
        .extra_hosts
        .iter()
        .flatten()
        .filter_map(|entry| entry.split_once(':'))
        .map(|(name, address)| {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            let address =
                if address == "host-gateway" { gateway(engine).to_string() } else { address.to_string() };
            (name.to_string(), address)
        })
        .collect();
    if record.host.network_mode == "bridge" {
        for (other, alias) in super::links::of(engine, record) {
            let other = other.record();
            if let Some(address) = other.endpoints.iter().find_map(|e| e.address) {
                let mut names = vec![alias.clone(), other.config.hostname.clone(), other.name.clone()];
                names.dedup();
                extra.push((names.join(" "), address.to_string()));
            }
        }
    }
    extra
}

/// The node as its containers see it.
fn gateway(engine: &Engine) -> Ipv4Addr {
    let bridge = engine.networks.find("bridge").ok().and_then(|network| serde_json::to_value(network).ok());
    let gateway = bridge.and_then(|b| b["IPAM"]["Config"][0]["Gateway"].as_str()?.parse().ok());
    gateway.unwrap_or(Ipv4Addr::new(172, 17, 0, 1))
}

/// `--dns` and so on, or what the engine's configuration says.
pub fn dns(engine: &Engine, record: &Record) -> DnsOptions {
    let (host, config) = (&record.host, engine.config.get());
    let or = |asked: &Option<Vec<String>>, default: &[String]| match asked {
        Some(asked) if !asked.is_empty() => asked.clone(),
        _ => default.to_vec(),
    };
    let servers: Vec<_> = host.dns.iter().flatten().filter_map(|address| address.parse().ok()).collect();
    DnsOptions {
        servers: if servers.is_empty() { config.dns.clone() } else { servers },
        search: or(&host.dns_search, &config.dns_search),
        options: or(&host.dns_options, &config.dns_opts),
    }
}

fn resolution(record: &Record) -> Resolution {
    if record.host.network_mode == "host" {
        Resolution::Host
    } else if record.networks.keys().any(|name| !drydock_network::is_predefined(name)) {
        Resolution::Embedded
    } else {
        Resolution::Legacy
    }
}

/// In place: the file is mounted in the container, so it must stay the same file.
fn write(path: &Path, text: &str) -> Result<()> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(flags)
        .open(path)
        .doing(|| format!("open {}", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).doing(|| format!("write {}", path.display()))
}
