//! Whose name is it: containers by the names that they have in the networks of the one who asks, as libnetwork's
//! `Sandbox.ResolveName` looks them up.

use crate::{Endpoint, networks::State};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of a container in one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// The addresses that `name` has for a container; `None` if it is no container's name.
pub(crate) fn resolve(state: &State, asker: &str, name: &str) -> Option<Vec<Addresses>> {
    let name = name.trim_end_matches('.');
    let whole = std::iter::once((name, None));
    // `a.b.c` may be `a.b` in network `c`, or `a` in network `b.c`.
    let parts = name.rmatch_indices('.').map(|(dot, _)| (&name[..dot], Some(&name[dot + 1..])));
    whole.chain(parts).find_map(|(name, network)| resolve_in(state, asker, name, network))
}

fn resolve_in(state: &State, asker: &str, name: &str, network: Option<&str>) -> Option<Vec<Addresses>> {
    let own = || {
        let own = state.endpoints_of(asker).filter(|endpoint| endpoint.user_defined());
        own.filter(move |endpoint| network.is_none_or(|network| endpoint.network_name == network))
    };
    let link = |endpoint: &Endpoint| {
        let link = endpoint.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        link.and_then(|(_, target)| addresses(state, endpoint, target))
    };
    own().find_map(link).or_else(|| own().find_map(|endpoint| addresses(state, endpoint, name)))
}

/// Addresses of all that have a name in the network of `endpoint`.
fn addresses(state: &State, endpoint: &Endpoint, name: &str) -> Option<Vec<Addresses>> {
    let network = state.network(&endpoint.network_id)?;
    let named = network.endpoints.values().filter(|other| {
        other.plugged && other.dns_names.iter().any(|known| known.eq_ignore_ascii_case(name))
    });
    let addresses = named
        .map(|other| Addresses { ipv4: other.address, ipv6: other.ipv6.as_ref().map(|ipv6| ipv6.address) });
    let addresses: Vec<Addresses> = addresses.filter(|a| a.ipv4.is_some() || a.ipv6.is_some()).collect();
    (!addresses.is_empty()).then_some(addresses)
}

/// The name of an address, as a container sees it: `name.network`.
pub(crate) fn reverse(state: &State, asker: &str, address: IpAddr) -> Option<String> {
    state.endpoints_of(asker).filter(|endpoint| endpoint.user_defined()).find_map(|endpoint| {
        let network = state.network(&endpoint.network_id)?;
        let has = |other: &&Endpoint| match address {
            IpAddr::V4(address) => other.address == Some(address),
            IpAddr::V6(address) => other.ipv6.as_ref().is_some_and(|ipv6| ipv6.address == address),
        };
        let other = network.endpoints.values().filter(|other| other.plugged).find(has)?;
        Some(format!("{}.{}", other.dns_names.first()?, network.definition.name))
    })
}
