//! A container's network namespace: what every one has, and its interfaces. [`prepare`] is called by the engine, on a thread that has just
//! made the namespace, for one that will be taken by a container later; the rest by the container's child.

use super::spec::Interface;
use crate::{Result, error::Context, netlink};
use std::fs;

/// As Docker sets them for every container: any user may listen below 1024 and send echo requests.
const SYSCTLS: [(&str, &str); 2] = [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 65535")];

/// Does in the calling thread's network namespace what needs no container: its settings and the loopback interface.
pub fn prepare() -> Result<()> {
    set_sysctls()?;
    netlink::Batch::new().up(netlink::LOOPBACK).send()
}

/// Sets the container's interfaces up. `prepared`: [`prepare`] has been here.
pub fn set_up(interfaces: &[Interface], prepared: bool) -> Result<()> {
    let mut links = netlink::Batch::new();
    if !prepared {
        set_sysctls()?;
        links.up(netlink::LOOPBACK);
    }
    for interface in interfaces {
        switch_ipv6(&interface.name, interface.ipv6.is_some());
        if let Some(address) = interface.address {
            links.address(interface.index, address, interface.prefix);
        }
        if let Some((address, prefix)) = interface.ipv6 {
            links.address(interface.index, address, prefix);
        }
        for (address, prefix) in &interface.more {
            links.address(interface.index, *address, *prefix);
        }
        links.up(interface.index);
    }
    for gateway in interfaces.iter().filter_map(|i| i.gateway) {
        links.default_route(gateway);
    }
    for gateway in interfaces.iter().filter_map(|i| i.ipv6_gateway) {
        links.default_route(gateway);
    }
    if prepared && interfaces.is_empty() { Ok(()) } else { links.send() }
}

fn set_sysctls() -> Result<()> {
    for (name, value) in SYSCTLS {
        let path = format!("/proc/sys/net/ipv4/{name}");
        fs::write(&path, value).step(|| format!("write {path}"))?;
    }
    Ok(())
}

/// Inside the container: an interface of a network without IPv6 has no IPv6 address either, and hears no router.
pub fn switch_ipv6(interface: &str, on: bool) {
    let disabled = if on { "0" } else { "1" };
    // Where the kernel has no IPv6 there is nothing to disable.
    let _no_ipv6 = fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), disabled);
}
