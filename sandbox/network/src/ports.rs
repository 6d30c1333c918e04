//! Ports of the node that containers publish: which are taken, and which is next. As libnetwork's port allocator.

use crate::{Result, error::Kind};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Where ports are chosen from if none is named.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Err(Kind::NotImplemented.error("SCTP is not available on this engine")),
            _ => Err(Kind::Invalid.error(format!("invalid proto: {text}"))),
        }
    }
}

/// A port that is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRequest {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address of the node; none: all, of both families.
    pub host_ip: Option<IpAddr>,
    /// Port of the node, or the first of a range; 0: any.
    pub host_port: u16,
    /// Last of the range (0: there is none).
    pub host_port_end: u16,
    /// Port of the container.
    pub container_port: u16,
}

impl PortRequest {
    /// First and last port; `None`: any.
    pub(crate) fn range(&self) -> Option<(u16, u16)> {
        let end = if self.host_port_end == 0 { self.host_port } else { self.host_port_end };
        (self.host_port != 0).then_some((self.host_port, end))
    }
}

/// A port that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address of the node.
    pub host_ip: IpAddr,
    /// Port of the node.
    pub host_port: u16,
    /// Port of the container.
    pub container_port: u16,
}

/// Which ports are taken by our own containers.
#[derive(Debug, Default)]
pub(crate) struct Allocator {
    taken: HashSet<(Protocol, IpAddr, u16)>,
    last: HashMap<(Protocol, (u16, u16)), u16>,
}

impl Allocator {
    /// Takes one port on all of `addresses`.
    pub fn take(
        &mut self,
        protocol: Protocol,
        addresses: &[IpAddr],
        range: Option<(u16, u16)>,
    ) -> Result<u16> {
        if let Some((begin, end)) = range
            && end < begin
        {
            return Err(Kind::Invalid.error(format!("invalid port range: {begin}-{end}")));
        }
        let (begin, end) = range.unwrap_or(EPHEMERAL);
        let key = (protocol, (begin, end));
        let last = self.last.get(&key).copied().unwrap_or(end);
        let after = (last.min(end)..=end).skip(1);
        let found =
            after.chain(begin..=last.min(end)).find(|port| self.clash(protocol, addresses, *port).is_none());
        let Some(port) = found else {
            let clash = self.clash(protocol, addresses, begin).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            return Err(Kind::Internal.error(if begin == end {
                format!("Bind for {clash}:{begin} failed: port is already allocated")
            } else {
                "all ports are allocated".to_owned()
            }));
        };
        if begin != end {
            self.last.insert(key, port);
        }
        self.taken.extend(addresses.iter().map(|address| (protocol, *address, port)));
        Ok(port)
    }

    /// The address on which the port is taken already: the same one, or all of a family on either side.
    fn clash(&self, protocol: Protocol, addresses: &[IpAddr], port: u16) -> Option<IpAddr> {
        let taken = |address: IpAddr| self.taken.contains(&(protocol, address, port));
        addresses.iter().copied().find_map(|address| {
            let all = unspecified(address);
            if taken(address) || taken(all) {
                return Some(if taken(address) { address } else { all });
            }
            let same_family = |other: &IpAddr| address == all && other.is_ipv4() == address.is_ipv4();
            self.taken
                .iter()
                .find(|(p, other, n)| (*p, *n) == (protocol, port) && same_family(other))
                .map(|t| t.1)
        })
    }

    /// Gives one port back.
    pub fn give_back(&mut self, protocol: Protocol, address: IpAddr, port: u16) {
        self.taken.remove(&(protocol, address, port));
    }
}

fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    const LOCAL: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

    #[test]
    fn a_port_is_given_once() {
        let mut ports = Allocator::default();
        assert_eq!(ports.take(Protocol::Tcp, &ALL, Some((80, 80))).unwrap(), 80);
        assert_eq!(ports.take(Protocol::Udp, &ALL, Some((80, 80))).unwrap(), 80);
        let text = "Bind for 0.0.0.0:80 failed: port is already allocated";
        assert_eq!(ports.take(Protocol::Tcp, &ALL, Some((80, 80))).unwrap_err().to_string(), text);
        assert_eq!(ports.take(Protocol::Tcp, &LOCAL, Some((80, 80))).unwrap_err().to_string(), text);
        for address in ALL {
            ports.give_back(Protocol::Tcp, address, 80);
        }
        assert_eq!(ports.take(Protocol::Tcp, &LOCAL, Some((80, 80))).unwrap(), 80);
        assert_eq!(
            ports.take(Protocol::Tcp, &ALL, Some((80, 80))).unwrap_err().to_string(),
            "Bind for 127.0.0.1:80 failed: port is already allocated"
        );
    }

    #[test]
    fn ranges_go_round() {
        let mut ports = Allocator::default();
        let mut take = || ports.take(Protocol::Tcp, &ALL, Some((8000, 8002)));
        assert_eq!([take().unwrap(), take().unwrap(), take().unwrap()], [8000, 8001, 8002]);
        assert_eq!(take().unwrap_err().to_string(), "all ports are allocated");
        assert_eq!(ports.take(Protocol::Tcp, &LOCAL, None).unwrap(), 32_768);
        assert_eq!(ports.take(Protocol::Tcp, &LOCAL, None).unwrap(), 32_769);
        ports.give_back(Protocol::Tcp, LOCAL[0], 32_768);
        assert_eq!(ports.take(Protocol::Tcp, &LOCAL, None).unwrap(), 32_770);
        assert!(ports.take(Protocol::Tcp, &LOCAL, Some((9, 8))).is_err());
    }
}
