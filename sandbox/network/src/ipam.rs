//! Addresses: one pool a network, and the choice of a subnet for a network that names none. Pure bookkeeping, as
//! libnetwork's default IPAM driver does it (`libnetwork/ipams/defaultipam`).

use crate::{Result, default_bridge::AddressPool, error::Kind};
use ipnet::Ipv4Net;
use std::{collections::BTreeSet, net::Ipv4Addr};

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
    let asked = pools.iter().map(|pool| (pool.base, pool.size));
    let default = DEFAULT_POOLS.into_iter().filter(|_| pools.is_empty());
    asked
        .chain(default)
        .filter_map(|(pool, size)| pool.subnets(size).ok())
        .flatten()
        .find(|subnet| !taken.iter().any(|other| overlap(subnet, other)))
        .ok_or_else(|| Kind::Invalid.error("all predefined address pools have been fully subnetted"))
}

/// Whether two networks have an address in common.
pub fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The addresses of one network.
#[derive(Debug, Clone)]
pub struct Pool {
    subnet: Ipv4Net,
    range: Ipv4Net,
    used: BTreeSet<u32>,
}

impl Pool {
    /// A pool of `subnet` that hands out addresses of `range` only. Network and broadcast address are taken, save where
    /// a network has no more than two addresses (RFC 3021).
    pub fn new(subnet: Ipv4Net, range: Option<Ipv4Net>) -> Self {
        let mut used = BTreeSet::new();
        if subnet.prefix_len() < 31 {
            used.extend([subnet.network().to_bits(), subnet.broadcast().to_bits()]);
        }
        Self { subnet, range: range.unwrap_or(subnet), used }
    }

    /// Length of the subnet's prefix.
    pub fn prefix(&self) -> u8 {
        self.subnet.prefix_len()
    }

    /// Takes exactly this address.
    pub fn take(&mut self, address: Ipv4Addr) -> Result<()> {
        if !self.subnet.contains(&address) {
            return Err(Kind::Invalid.error("requested address is out of range"));
        }
        if !self.used.insert(address.to_bits()) {
            return Err(Kind::Forbidden.error("Address already in use"));
        }
        Ok(())
    }

    /// Takes the first free address: what was released is used again at once, as on Docker's own bridges (only swarm
    /// networks hand out all others before).
    pub fn take_first(&mut self) -> Option<Ipv4Addr> {
        let address = self.first_free()?;
        self.used.insert(address);
        Some(Ipv4Addr::from_bits(address))
    }

    /// Gives an address back.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.used.remove(&address.to_bits());
    }

    fn first_free(&self) -> Option<u32> {
        let (start, end) = (self.range.network().to_bits(), self.range.broadcast().to_bits());
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
