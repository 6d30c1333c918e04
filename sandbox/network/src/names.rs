//! Whose name is it: containers by the names that they have in the networks of the one who asks, as libnetwork's
//! `Sandbox.ResolveName` looks them up.

use crate::{Endpoint, networks::State};
use std::net::Ipv4Addr;

/// The addresses that `name` has for a container; `None` if it is no container's name.
pub(crate) fn resolve(state: &State, asker: &str, name: &str) -> Option<Vec<Ipv4Addr>> {
    let name = name.trim_end_matches('.');
    let whole = std::iter::once((name, None));
    // `a.b.c` may be `a.b` in network `c`, or `a` in network `b.c`.
    let parts = name.rmatch_indices('.').map(|(dot, _)| (&name[..dot], Some(&name[dot + 1..])));
    whole.chain(parts).find_map(|(name, network)| resolve_in(state, asker, name, network))
}

fn resolve_in(state: &State, asker: &str, name: &str, network: Option<&str>) -> Option<Vec<Ipv4Addr>> {
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
fn addresses(state: &State, endpoint: &Endpoint, name: &str) -> Option<Vec<Ipv4Addr>> {
    let network = state.network(&endpoint.network_id)?;
    let named = network.endpoints.values().filter(|other| {
        other.plugged && other.dns_names.iter().any(|known| known.eq_ignore_ascii_case(name))
    });
    let addresses: Vec<Ipv4Addr> = named.filter_map(|other| other.address).collect();
    (!addresses.is_empty()).then_some(addresses)
}

/// The name of an address, as a container sees it: `name.network`.
pub(crate) fn reverse(state: &State, asker: &str, address: Ipv4Addr) -> Option<String> {
    state.endpoints_of(asker).filter(|endpoint| endpoint.user_defined()).find_map(|endpoint| {
        let network = state.network(&endpoint.network_id)?;
        let other =
            network.endpoints.values().find(|other| other.plugged && other.address == Some(address))?;
        Some(format!("{}.{}", other.dns_names.first()?, network.definition.name))
    })
}
