//! What an endpoint is in the kernel: addresses, settings and routes inside the container's network namespace, and its end on the node.

use crate::{Error, Result, bridge::accept, endpoints::Endpoint, error::Kind, ways::WaysOut};
use drydock_runtime::{
    container::net::switch_ipv6,
    netlink::{Batch, LOOPBACK},
};
use nix::{errno::Errno, net::if_::if_nametoindex};
use std::net::IpAddr;

/// Inside the container: settings of one interface (libnetwork's `setSysctls`).
pub(crate) fn set_sysctls(endpoint: &Endpoint) -> Result<()> {
    let refused = |why: String| Kind::Invalid.error(why);
    for sysctl in &endpoint.sysctls {
        let (key, value) = sysctl
            .split_once('=')
            .ok_or_else(|| refused(format!("expected sysctl '{sysctl}' to have format name=value")))?;
        let parts: Vec<&str> = key.split('.').collect();
        let fine =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let [net, family, what, _, name] = parts[..] else {
            return Err(refused(format!("expected sysctl '{sysctl}' to have format net.X.Y.IFNAME.Z")));
        };
        if net != "net" || ![family, what, name].iter().all(fine) {
            return Err(refused(format!("expected sysctl '{sysctl}' to have format net.X.Y.IFNAME.Z")));
        }
        let path = format!("/proc/sys/net/{family}/{what}/{}/{name}", endpoint.interface());
        if !std::fs::metadata(&path).is_ok_and(|found| found.is_file()) {
            return Err(refused(format!("{path} is not a sysctl file")));
        }
        std::fs::write(&path, value).map_err(|e| Error::io(&format!("unable to write to '{path}'"), &e))?;
    }
    Ok(())
}

/// Inside the container: address of one interface.
pub(crate) fn set_up(endpoint: &Endpoint) -> Result<()> {
    let name = endpoint.interface();
    switch_ipv6(&name, endpoint.ipv6.is_some());
    let index = if_nametoindex(name.as_str()).map_err(|e| Error::io(&format!("find {name}"), &e.into()))?;
    let mut batch = Batch::new();
    batch.up(LOOPBACK);
    if let Some(address) = endpoint.address {
        batch.address(index, address, endpoint.prefix);
    }
    if let Some(ipv6) = &endpoint.ipv6 {
        batch.address(index, ipv6.address, ipv6.prefix);
    }
    for (address, prefix) in endpoint.link_local() {
        batch.address(index, address, prefix);
    }
    Ok(batch.up(index).send()?)
}

/// Inside the container: the default routes.
pub(crate) fn set_ways_out(before: &WaysOut, after: &WaysOut) -> Result<()> {
    let gateway = |endpoint: &Endpoint| endpoint.gateway.map(IpAddr::V4);
    set_way_out(before.ipv4.as_ref(), after.ipv4.as_ref(), gateway)?;
    let gateway = |endpoint: &Endpoint| endpoint.ipv6.as_ref()?.gateway.map(IpAddr::V6);
    set_way_out(before.ipv6.as_ref(), after.ipv6.as_ref(), gateway)
}

fn set_way_out(
    before: Option<&Endpoint>,
    after: Option<&Endpoint>,
    gateway: impl Fn(&Endpoint) -> Option<IpAddr>,
) -> Result<()> {
    let (old, new) = (before.and_then(&gateway), after.and_then(&gateway));
    match (old, new) {
        _ if before.map(|e| &e.id) == after.map(|e| &e.id) => Ok(()),
        (_, Some(gateway)) => Ok(Batch::new().replace_default_route(gateway).send()?),
        // It went with the interface, or the container's own root has removed it.
        (Some(gateway), None) => accept(Batch::new().delete_default_route(gateway).send(), Errno::ESRCH),
        (None, None) => Ok(()),
    }
}

pub(crate) fn unplug(endpoint: &Endpoint) -> Result<()> {
    if !endpoint.plugged || endpoint.host_interface.is_empty() {
        return Ok(());
    }
    delete(&endpoint.host_interface)
}

/// Deletes an interface of the node, if it has not gone with the container's network namespace.
pub(crate) fn delete(interface: &str) -> Result<()> {
    accept(Batch::new().delete_named(interface).send(), Errno::ENODEV)
}
