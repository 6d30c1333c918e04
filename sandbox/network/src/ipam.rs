//! Addresses: one pool a network, and the choice of a subnet for a network that names none. Pure bookkeeping, as
//! libnetwork's default IPAM driver does it (`libnetwork/ipams/defaultipam`).

use crate::{Result, default_bridge::AddressPool, error::Kind};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fmt::Display,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Docker's default pools: each is cut into subnets of the given prefix length.
const DEFAULT_POOLS: [(Ipv4Net, u8); 7] = [
    (net([172, 17, 0, 0], 16), 16),
    (net([172, 18, 0, 0], 16), 16),
    (net([172, 19, 0, 0], 16), 16),
    (net([172, 20, 0, 0], 14), 16),
    (net([172, 24, 0, 0], 14), 16),
    (net([172, 28, 0, 0], 14), 16),
    (net([192, 168, 0, 0], 16), 20),
];

/// The network between the nodes of a session: never a container network's, even while the node has no route to it.
const SESSION: Ipv4Net = net([192, 168, 0, 0], 24);

const fn net([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// The first subnet of these pools, or else of Docker's own, that overlaps none of `taken`.
pub fn choose_subnet<'a>(
    taken: impl IntoIterator<Item = &'a Ipv4Net>,
    pools: &[AddressPool],
) -> Result<Ipv4Net> {
    let taken: Vec<Ipv4Net> = taken.into_iter().copied().chain([SESSION]).collect();
    let asked = pools.iter().filter_map(|pool| match pool.base {
        IpNet::V4(base) => Some((base, pool.size)),
        IpNet::V6(_) => None,
    });
    let default = DEFAULT_POOLS.into_iter().filter(|_| pools.is_empty());
    asked
        .chain(default)
        .filter_map(|(pool, size)| pool.subnets(size).ok())
        .flatten()
        .find(|subnet| !taken.iter().any(|other| overlap(subnet, other)))
        .ok_or_else(|| Kind::Invalid.error("all predefined address pools have been fully subnetted"))
}

/// The first IPv6 subnet of these pools that nobody has, or else of the unique local addresses of this node (RFC 4193): as dockerd, which
/// derives their prefix from its own id.
pub fn choose_ipv6_subnet<'a>(
    taken: impl IntoIterator<Item = &'a Ipv6Net>,
    pools: &[AddressPool],
    engine_id: &str,
) -> Result<Ipv6Net> {
    let taken: Vec<Ipv6Net> = taken.into_iter().copied().collect();
    let digest = Sha256::digest(engine_id.as_bytes());
    let global_id = digest[..8].iter().fold(0_u64, |id, byte| id << 8 | u64::from(*byte)) & ((1 << 40) - 1);
    let base = Ipv6Addr::from_bits((0xfd << 120) | (u128::from(global_id) << 80));
    let mut asked: Vec<(Ipv6Net, u8)> = pools
        .iter()
        .filter_map(|pool| match pool.base {
            IpNet::V6(base) => Some((base, pool.size)),
            IpNet::V4(_) => None,
        })
        .collect();
    if asked.is_empty() {
        asked.push((Ipv6Net::new_assert(base, 48), 64));
    }
    asked
        .into_iter()
        .filter_map(|(base, size)| base.subnets(size).ok())
        .flatten()
        .find(|subnet| !taken.iter().any(|other| overlap(subnet, other)))
        .ok_or_else(|| Kind::Invalid.error("all predefined address pools have been fully subnetted"))
}

/// A subnet of IPv4 or IPv6.
pub trait Net: Copy + Display {
    /// Its addresses.
    type Address: Copy + Display;
    /// The first and the last of them, and the length of the prefix.
    fn bounds(self) -> (u128, u128, u8);
    /// An address as a number.
    fn to_bits(address: Self::Address) -> u128;
    /// A number as an address.
    fn from_bits(bits: u128) -> Self::Address;
    /// Addresses that nobody gets.
    fn reserved(self) -> Vec<u128>;
}

impl Net for Ipv4Net {
    type Address = Ipv4Addr;

    fn bounds(self) -> (u128, u128, u8) {
        (self.network().to_bits().into(), self.broadcast().to_bits().into(), self.prefix_len())
    }

    fn to_bits(address: Ipv4Addr) -> u128 {
        address.to_bits().into()
    }

    fn from_bits(bits: u128) -> Ipv4Addr {
        Ipv4Addr::from_bits(bits as u32)
    }

    /// Network and broadcast address, save where a network has no more than two addresses (RFC 3021).
    fn reserved(self) -> Vec<u128> {
        let (first, last, prefix) = self.bounds();
        if prefix < 31 { vec![first, last] } else { vec![] }
    }
}

impl Net for Ipv6Net {
    type Address = Ipv6Addr;

    fn bounds(self) -> (u128, u128, u8) {
        (self.network().to_bits(), self.broadcast().to_bits(), self.prefix_len())
    }

    fn to_bits(address: Ipv6Addr) -> u128 {
        address.to_bits()
    }

    fn from_bits(bits: u128) -> Ipv6Addr {
        Ipv6Addr::from_bits(bits)
    }

    /// The address of all routers (RFC 4291, 2.6.1), save where a network has no more than two addresses (RFC 6164).
    fn reserved(self) -> Vec<u128> {
        let (first, _, prefix) = self.bounds();
        if prefix < 127 { vec![first] } else { vec![] }
    }
}

/// Whether two networks have an address in common.
pub fn overlap<N: Net>(a: &N, b: &N) -> bool {
    let ((first, last, _), (other_first, other_last, _)) = (a.bounds(), b.bounds());
    first <= other_last && other_first <= last
}

/// The addresses of one network.
#[derive(Debug, Clone)]
pub struct Pool<N> {
    subnet: N,
    range: N,
    used: BTreeSet<u128>,
}

impl<N: Net> Pool<N> {
    /// A pool of `subnet` that hands out addresses of `range` only.
    pub fn new(subnet: N, range: Option<N>) -> Self {
        Self { subnet, range: range.unwrap_or(subnet), used: subnet.reserved().into_iter().collect() }
    }

    /// Length of the subnet's prefix.
    pub fn prefix(&self) -> u8 {
        self.subnet.bounds().2
    }

    /// Takes exactly this address.
    pub fn take(&mut self, address: N::Address) -> Result<()> {
        let (first, last, _) = self.subnet.bounds();
        let bits = N::to_bits(address);
        if !(first..=last).contains(&bits) {
            return Err(Kind::Invalid.error("requested address is out of range"));
        }
        if !self.used.insert(bits) {
            return Err(Kind::Forbidden.error("Address already in use"));
        }
        Ok(())
    }

    /// Takes the first free address: what was released is used again at once, as on Docker's own bridges (only swarm
    /// networks hand out all others before).
    pub fn take_first(&mut self) -> Option<N::Address> {
        let address = self.first_free()?;
        self.used.insert(address);
        Some(N::from_bits(address))
    }

    /// Gives an address back.
    pub fn release(&mut self, address: N::Address) {
        self.used.remove(&N::to_bits(address));
    }

    fn first_free(&self) -> Option<u128> {
        let (start, end, _) = self.range.bounds();
        let mut candidate = start;
        for used in self.used.range(start..=end) {
            if *used != candidate {
                break;
            }
            candidate = candidate.checked_add(1)?;
        }
        (candidate <= end).then_some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> Option<Ipv4Addr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn subnets_come_in_dockers_order() {
        let mut taken = Vec::new();
        for _ in 0..30 {
            taken.push(choose_subnet(&taken, &[]).unwrap());
        }
        let names: Vec<String> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(names[0], "172.17.0.0/16");
        assert_eq!(names[1], "172.18.0.0/16");
        assert_eq!(names[14], "172.31.0.0/16");
        // The session's own network lies in 192.168.0.0/20.
        assert_eq!(names[15], "192.168.16.0/20");
        assert_eq!(names[29], "192.168.240.0/20");
        assert_eq!(
            choose_subnet(&taken, &[]).unwrap_err().to_string(),
            "all predefined address pools have been fully subnetted"
        );
    }

    #[test]
    fn subnets_avoid_routes() {
        let taken = [net("172.17.0.0/16"), net("172.16.0.0/13"), net("172.24.5.0/24"), net("172.25.0.0/16")];
        assert_eq!(choose_subnet(&taken, &[]).unwrap(), net("172.26.0.0/16"));
    }

    #[test]
    fn subnets_come_from_the_pools_that_are_asked_for() {
        let pools = [AddressPool::new("10.10.0.0/23", 24).unwrap()];
        let mut taken = Vec::new();
        for expected in ["10.10.0.0/24", "10.10.1.0/24"] {
            taken.push(choose_subnet(&taken, &pools).unwrap());
            assert_eq!(taken.last(), Some(&net(expected)));
        }
        assert!(choose_subnet(&taken, &pools).is_err());
    }

    #[test]
    fn addresses_grow_and_are_used_again() {
        let mut pool = Pool::new(net("10.0.0.0/29"), None);
        let all: Vec<_> = (0..6).map(|_| pool.take_first()).collect();
        let expected =
            [ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3"), ip("10.0.0.4"), ip("10.0.0.5"), ip("10.0.0.6")];
        assert_eq!(all, expected);
        assert_eq!(pool.take_first(), None);
        pool.release("10.0.0.5".parse().unwrap());
        pool.release("10.0.0.3".parse().unwrap());
        assert_eq!(
            [pool.take_first(), pool.take_first(), pool.take_first()],
            [ip("10.0.0.3"), ip("10.0.0.5"), None]
        );
    }

    #[test]
    fn ranges_bound_what_is_handed_out_but_not_what_is_asked_for() {
        let mut pool = Pool::new(net("10.0.0.0/24"), Some(net("10.0.0.64/30")));
        assert_eq!(pool.take_first(), ip("10.0.0.64"));
        assert_eq!(pool.take_first(), ip("10.0.0.65"));
        pool.take("10.0.0.9".parse().unwrap()).unwrap();
        assert_eq!(pool.take_first(), ip("10.0.0.66"));
        assert_eq!(pool.take_first(), ip("10.0.0.67"));
        assert_eq!(pool.take_first(), None);
        let again = pool.take("10.0.0.9".parse().unwrap()).unwrap_err();
        assert_eq!((again.kind(), again.to_string().as_str()), (Kind::Forbidden, "Address already in use"));
        let outside = pool.take("10.0.1.9".parse().unwrap()).unwrap_err();
        assert_eq!(outside.to_string(), "requested address is out of range");
    }

    #[test]
    fn ipv6_subnets_are_local_to_a_node_and_their_first_address_is_the_second() {
        let first = choose_ipv6_subnet(&[], &[], "an engine").unwrap();
        assert_eq!((first.prefix_len(), first.addr().octets()[0]), (64, 0xfd));
        assert_ne!(first, choose_ipv6_subnet(&[], &[], "another engine").unwrap());
        let next = choose_ipv6_subnet(&[first], &[], "an engine").unwrap();
        let pools = [AddressPool::new("2001:db8:9::/56", 64).unwrap()];
        assert_eq!(choose_ipv6_subnet(&[first], &pools, "").unwrap().to_string(), "2001:db8:9::/64");
        assert_eq!((next.addr().segments()[3], next.supernet().map(|n| n.trunc())), (1, first.supernet()));
        let mut pool = Pool::new("2001:db8:1::/64".parse::<Ipv6Net>().unwrap(), None);
        let all: Vec<_> = (0..2).filter_map(|_| pool.take_first()).map(|a| a.to_string()).collect();
        assert_eq!(all, ["2001:db8:1::1", "2001:db8:1::2"]);
        assert!(pool.take("2001:db8:2::1".parse().unwrap()).is_err());
        let mut pair = Pool::new("2001:db8::/127".parse::<Ipv6Net>().unwrap(), None);
        assert_eq!(pair.take_first().map(|a| a.to_string()).as_deref(), Some("2001:db8::"));
    }

    #[test]
    fn the_smallest_and_the_largest_networks() {
        let mut pair = Pool::new(net("10.0.0.0/31"), None);
        assert_eq!(pair.take_first(), ip("10.0.0.0"));
        assert_eq!(pair.take_first(), ip("10.0.0.1"));
        assert_eq!(pair.take_first(), None);
        let mut last = Pool::new(net("255.255.255.252/30"), None);
        assert_eq!(last.take_first(), ip("255.255.255.253"));
        assert_eq!(last.take_first(), ip("255.255.255.254"));
        assert_eq!(last.take_first(), None);
    }
}
