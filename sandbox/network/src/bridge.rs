//! Bridges in the kernel: made when they are needed, adopted when they are there, so that an engine that starts anew
//! finds its containers connected.

use crate::{Networks, Result, bridge_options::GatewayMode, definition::Bridge, mac::Mac};
use drydock_runtime::netlink::Batch;
use ipnet::Ipv4Net;
use nix::{errno::Errno, net::if_::if_nametoindex};
use std::{fs, net::Ipv4Addr, sync::PoisonError};

/// Routes that are read from the kernel.
const ROUTES: &str = "/proc/thread-self/net/route";
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// What became of forwarding between interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// Somebody else had switched it on.
    WasOn,
    /// We did: then other traffic is not to be forwarded (Docker sets the policy DROP).
    SwitchedOn,
    /// It can't be.
    Failed,
}

/// Switches forwarding on.
pub(crate) fn enable_forwarding() -> Forwarding {
    if fs::read(FORWARD).is_ok_and(|value| value.starts_with(b"1")) {
        return Forwarding::WasOn;
    }
    match fs::write(FORWARD, "1") {
        Ok(()) => Forwarding::SwitchedOn,
        Err(error) => {
            tracing::warn!(%error, "ip_forward can't be set: containers reach nothing outside of their network");
            Forwarding::Failed
        }
    }
}

/// The same of IPv6, where the kernel has it: for what is there now and for what comes.
pub(crate) fn enable_ipv6_forwarding() -> Forwarding {
    const FORWARD: [&str; 2] =
        ["/proc/sys/net/ipv6/conf/default/forwarding", "/proc/sys/net/ipv6/conf/all/forwarding"];
    if fs::read(FORWARD[1]).is_ok_and(|value| value.starts_with(b"1")) {
        return Forwarding::WasOn;
    }
    match FORWARD.iter().try_for_each(|path| fs::write(path, "1")) {
        Ok(()) => Forwarding::SwitchedOn,
        Err(error) => {
            tracing::warn!(%error, "forwarding can't be set: containers reach nothing outside by IPv6");
            Forwarding::Failed
        }
    }
}

/// Networks that the node has a route to, except by default.
pub(crate) fn routes() -> Vec<Ipv4Net> {
    routes_but("")
}

/// The same, without those by interface `interface`.
pub(crate) fn routes_but(interface: &str) -> Vec<Ipv4Net> {
    parse_routes(&fs::read_to_string(ROUTES).unwrap_or_default(), interface)
}

fn parse_routes(table: &str, but: &str) -> Vec<Ipv4Net> {
    let read = |line: &str| {
        let mut fields = line.split('\t').map(str::trim);
        if fields.next()? == but {
            return None;
        }
        // Numbers as they lie in memory: network byte order in the machine's words.
        let word =
            |text: &str| u32::from_str_radix(text, 16).ok().map(|word| Ipv4Addr::from(word.to_ne_bytes()));
        let (address, mask) = (word(fields.next()?)?, word(fields.nth(5)?)?);
        Ipv4Net::with_netmask(address, mask).ok().filter(|net| net.prefix_len() > 0)
    };
    table.lines().skip(1).filter_map(read).collect()
}

impl Networks {
    /// The number of a network's bridge or parent, which is made if it is not there (a learner may have deleted it).
    pub(crate) fn ensure_bridge(&self, bridge: &Bridge) -> Result<()> {
        self.bridge_index(bridge).map(|_| ())
    }

    pub(crate) fn bridge_index(&self, bridge: &Bridge) -> Result<u32> {
        if let Some(macvlan) = &bridge.macvlan {
            return self.parent_index(macvlan);
        }
        let name = bridge.interface.as_str();
        if let Ok(index) = if_nametoindex(name) {
            return Ok(index);
        }
        let _once = self.shared.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        let made = Batch::new().bridge(name, 0, Mac::random().0).send();
        accept(made, Errno::EEXIST)?;
        let index =
            if_nametoindex(name).map_err(|e| crate::Error::io(&format!("find bridge {name}"), &e.into()))?;
        if bridge.mode != GatewayMode::Isolated && !bridge.no_ipv4 {
            let addressed = Batch::new().address(index, bridge.gateway, bridge.subnet.prefix_len()).send();
            accept(addressed, Errno::EEXIST)?;
        }
        // Nobody there is a router of the node's.
        set_ipv6(name, "accept_ra", "0");
        if let Some(ipv6) = bridge.ipv6.as_ref().filter(|ipv6| ipv6.mode != GatewayMode::Isolated) {
            set_ipv6(name, "disable_ipv6", "0");
            let addressed = Batch::new().address(index, ipv6.gateway, ipv6.subnet.prefix_len()).send();
            accept(addressed, Errno::EEXIST)?;
        }
        if let Some(mtu) = bridge.mtu {
            Batch::new().mtu(index, mtu).send()?;
        }
        Ok(index)
    }

    /// Removes a network's bridge.
    pub(crate) fn remove_bridge(&self, bridge: &Bridge) {
        if bridge.macvlan.as_ref().is_some_and(|macvlan| !macvlan.alone) {
            return;
        }
        let name = &bridge.interface;
        if let Err(error) = accept(Batch::new().delete_named(name).send(), Errno::ENODEV) {
            tracing::warn!(bridge = name, %error, "remove a bridge");
        }
    }
}

fn set_ipv6(interface: &str, name: &str, value: &str) {
    // Where the kernel has no IPv6 the address is what fails.
    let _no_ipv6 = fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/{name}"), value);
}

/// One refusal is as good as success.
pub(crate) fn accept(result: drydock_runtime::Result<()>, errno: Errno) -> Result<()> {
    match result {
        Err(error) if error.errno() == Some(errno as i32) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            garbage\n";
        let names = |but| parse_routes(table, but).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(""), ["192.168.0.0/24", "172.17.0.0/16"]);
        assert_eq!(names("docker0"), ["192.168.0.0/24"]);
    }
}
