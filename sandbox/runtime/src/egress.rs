//! What of the world outside a session may reach: the operator's rules, and what stays closed whatever they say.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// Networks that are never reachable from a session: private, shared, link-local, loopback, reserved, multicast
/// (RFC 6890). The host's own addresses and the networks it is connected to are closed as well ([`crate::uplink`]).
pub const CLOSED: [(Ipv4Addr, u8); 12] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The way out of a session. Without rules there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// What is allowed; everything else is refused.
    pub allow: Vec<Rule>,
    /// Name servers outside, which are allowed on port 53 without a rule.
    pub resolvers: Vec<Ipv4Addr>,
}

/// One thing that is allowed. As text: `NETWORK [PROTOCOL [PORT[-PORT]]]`, the network being `any`, an address or
/// `ADDRESS/LENGTH`, the protocol `tcp`, `udp` or `icmp`: `any tcp 443`, `198.51.100.0/24`, `any icmp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Address and length of the network.
    pub network: (Ipv4Addr, u8),
    /// Which protocol; absent: all.
    pub protocol: Option<Protocol>,
    /// First and last port; absent: all.
    pub ports: Option<(u16, u16)>,
}

/// An IP protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
}

impl Egress {
    /// Whether a session may connect there by TCP: a rule allows it, and nothing closes it. `connected` are the networks that the
    /// host is connected to ([`crate::uplink::connected`]). For what is fetched on behalf of sessions from the host's side.
    pub fn permits(&self, address: SocketAddr, connected: &[(Ipv4Addr, u8)]) -> bool {
        let IpAddr::V4(ip) = address.ip() else { return false };
        let inside = |(network, length): (Ipv4Addr, u8)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        };
        let closed = CLOSED.iter().chain(connected).any(|network| inside(*network));
        let allowed = self.allow.iter().any(|rule| {
            let port = rule.ports.is_none_or(|(first, last)| (first..=last).contains(&address.port()));
            port && matches!(rule.protocol, None | Some(Protocol::Tcp)) && inside(rule.network)
        });
        allowed && !closed
    }
}

/// A text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no egress rule: {why}. Examples: 'any tcp 443', '198.51.100.0/24', 'any udp 53', 'any icmp'"
)]
pub struct InvalidRule {
    text: String,
    why: &'static str,
}

impl FromStr for Rule {
    type Err = InvalidRule;
    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let bad = |why| InvalidRule { text: text.chars().take(80).collect(), why };
        let mut words = text.split_whitespace();
        let network = match words.next().ok_or_else(|| bad("it is empty"))? {
            "any" => (Ipv4Addr::UNSPECIFIED, 0),
            word => {
                let (address, length) = word.split_once('/').unwrap_or((word, "32"));
                let address = address.parse().map_err(|_| bad("its address is not an IPv4 address"))?;
                let length = length
                    .parse()
                    .ok()
                    .filter(|l| *l <= 32)
                    .ok_or_else(|| bad("its length is not 0 to 32"))?;
                (address, length)
            }
        };
        let protocol = match words.next() {
            None => None,
            Some("tcp") => Some(Protocol::Tcp),
            Some("udp") => Some(Protocol::Udp),
            Some("icmp") => Some(Protocol::Icmp),
            Some(_) => return Err(bad("its protocol is not tcp, udp or icmp")),
        };
        let ports = words.next().map(|word| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let ports = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
            (ports.0 > 0 && ports.0 <= ports.1).then_some(ports)
        });
        let ports = match ports {
            Some(None) => return Err(bad("its ports are not like 80 or 8000-8100")),
            Some(Some(_)) if protocol == Some(Protocol::Icmp) => return Err(bad("icmp has no ports")),
            other => other.flatten(),
        };
        if words.next().is_some() {
            return Err(bad("it has more than a network, a protocol and ports"));
        }
        Ok(Self { network, protocol, ports })
    }
}

impl fmt::Display for Rule {
    /// As nft(8) has it, without the verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ip daddr {}/{}", self.network.0, self.network.1)?;
        let protocol = match self.protocol {
            None => return Ok(()),
            Some(Protocol::Tcp) => "tcp",
            Some(Protocol::Udp) => "udp",
            Some(Protocol::Icmp) => "icmp",
        };
        match self.ports {
            None => write!(f, " meta l4proto {protocol}"),
            Some((first, last)) => write!(f, " {protocol} dport {first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written_for_nft() {
        let nft = |text: &str| text.parse::<Rule>().map(|r| r.to_string());
        assert_eq!(nft("any tcp 443").unwrap(), "ip daddr 0.0.0.0/0 tcp dport 443-443");
        assert_eq!(nft("198.51.100.0/24").unwrap(), "ip daddr 198.51.100.0/24");
        assert_eq!(nft("198.51.100.7 udp 53-54").unwrap(), "ip daddr 198.51.100.7/32 udp dport 53-54");
        assert_eq!(nft("any icmp").unwrap(), "ip daddr 0.0.0.0/0 meta l4proto icmp");
        for bad in [
            "",
            "x",
            "any sctp",
            "any tcp 0",
            "any tcp 9-8",
            "any icmp 3",
            "1.2.3.4/33",
            "any tcp 1 2",
            "any; flush ruleset",
        ] {
            assert!(nft(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_host_goes_nowhere_for_a_session_that_the_session_may_not_go_itself() {
        let egress = |rules: &[&str]| Egress {
            allow: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
            resolvers: vec![],
        };
        let connected = [(Ipv4Addr::new(203, 0, 113, 0), 24)];
        let may = |rules: &[&str], to: &str| egress(rules).permits(to.parse().unwrap(), &connected);
        assert!(may(&["any tcp 443"], "198.51.100.7:443"));
        assert!(may(&["198.51.100.0/24"], "198.51.100.7:5000"));
        for (rules, to) in [
            (&[][..], "198.51.100.7:443"),
            (&["any tcp 443"], "198.51.100.7:80"),
            (&["any udp 443"], "198.51.100.7:443"),
            (&["198.51.100.0/24"], "198.51.101.7:443"),
            (&["any"], "127.0.0.1:443"),
            (&["any"], "10.1.2.3:443"),
            (&["any"], "169.254.169.254:80"),
            (&["any"], "203.0.113.9:443"),
            (&["any"], "[2001:db8::1]:443"),
            (&["any"], "[::ffff:10.0.0.1]:443"),
        ] {
            assert!(!may(rules, to), "{rules:?} {to}");
        }
    }
}
