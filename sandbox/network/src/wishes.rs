//! What a request for an endpoint asks for, checked and chosen: addresses, and the name of the interface.

use crate::{
    Endpoint, EndpointRequest, Error, Mac, Result,
    bridge_options::is_interface,
    definition::{Bridge, Definition, join},
    error::Kind,
    ipam::{Net, Pool},
    networks::{Network, State},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of a network that has addresses of this family: that one, or the first free.
pub(crate) fn take<N: Net>(
    pool: &mut Option<Pool<N>>,
    wish: Option<N::Address>,
    none_left: impl FnOnce() -> Error,
) -> Result<Option<N::Address>> {
    match (pool, wish) {
        (None, _) => Ok(None),
        (Some(pool), Some(address)) => pool.take(address).map(|()| Some(address)),
        (Some(pool), None) => pool.take_first().ok_or_else(none_left).map(Some),
    }
}

/// The wishes of a request, checked.
pub(crate) struct Checked {
    pub address: Option<Ipv4Addr>,
    pub ipv6_address: Option<Ipv6Addr>,
    pub mac: Option<Mac>,
}

/// The wishes for addresses, checked as `validateEndpointSettings` of moby's
/// `daemon/container_operations.go` does it.
pub(crate) fn check(request: &EndpointRequest, definition: &Definition) -> Result<Checked> {
    let mut errors = Vec::new();
    let wish = request.address.as_deref().filter(|address| !address.is_empty());
    let ipv6_wish = request.ipv6_address.as_deref().filter(|address| !address.is_empty());
    if definition.predefined() && (wish.is_some() || ipv6_wish.is_some()) {
        errors.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    if definition.predefined() && request.has_aliases {
        errors.push(
            "network-scoped alias is supported only for containers in user defined networks".to_owned(),
        );
    }
    let address = wish.and_then(|text| {
        let address = text.parse().ok().filter(|address: &Ipv4Addr| !address.is_unspecified());
        if address.is_none() {
            errors.push(format!("invalid IPv4 address: {text}"));
        }
        address
    });
    let ipv6_address = ipv6_wish.and_then(|text| {
        let address = text.parse().ok().filter(|address: &Ipv6Addr| !address.is_unspecified());
        if address.is_none() {
            errors.push(format!("invalid IPv6 address: {text}"));
        }
        address
    });
    let bridge = definition.bridge.as_ref();
    let ipv6 = bridge.and_then(|bridge| bridge.ipv6.as_ref());
    // The range bounds what is handed out, not what is asked for (libnetwork's `IpamConf.Contains`).
    let inside = |address: IpAddr| match address {
        IpAddr::V4(address) => {
            bridge.and_then(Bridge::ipv4_subnet).is_some_and(|subnet| subnet.contains(&address))
        }
        IpAddr::V6(address) => ipv6.is_some_and(|ipv6| ipv6.subnet.contains(&address)),
    };
    for address in address.map(IpAddr::V4).into_iter().chain(ipv6_address.map(IpAddr::V6)) {
        if !definition.static_subnet(address.is_ipv6()) {
            errors.push(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
                    .to_owned(),
            );
        } else if !inside(address) {
            errors.push(format!("no configured subnet or ip-range contain the IP address {address}"));
        }
    }
    if !errors.is_empty() {
        return Err(Kind::Invalid.error(format!("invalid endpoint settings:\n{}", join(&errors))));
    }
    let mac = request.mac.as_deref().filter(|mac| !mac.is_empty());
    let mac = mac.map(str::parse).transpose().map_err(|e: String| Kind::Invalid.error(e))?;
    Ok(Checked { address, ipv6_address, mac })
}

/// The first number of interface that the container does not use.
pub(crate) fn free_number(state: &State, container: &str) -> u32 {
    let used: Vec<u32> =
        state.endpoints_of(container).filter(|e| e.driver.has_interfaces()).map(|e| e.number).collect();
    (0..).find(|number| !used.contains(number)).unwrap_or_default()
}

/// What names of interfaces in a network's containers begin with.
pub(crate) fn network_prefix(network: &Network) -> String {
    let prefix = network.definition.bridge.as_ref().and_then(|bridge| bridge.prefix.as_deref());
    prefix.unwrap_or("eth").to_owned()
}

/// The name that is asked for, or the first that the container does not use.
pub(crate) fn interface_name(state: &State, request: &EndpointRequest, prefix: &str) -> Result<String> {
    let used: Vec<String> = state
        .endpoints_of(&request.container)
        .filter(|endpoint| endpoint.driver.has_interfaces())
        .map(Endpoint::interface)
        .collect();
    match &request.interface {
        None => {
            let names = (0..).map(|number: u32| format!("{prefix}{number}"));
            Ok(names.into_iter().find(|name| !used.contains(name)).unwrap_or_default())
        }
        Some(name) if !is_interface(name) => {
            Err(Kind::Invalid.error(format!("invalid interface name {name:?}")))
        }
        Some(name) if used.contains(name) => Err(Kind::Forbidden.error(format!(
            "failed to add interface {name} to sandbox: error renaming interface to {name}: file exists"
        ))),
        Some(name) => Ok(name.clone()),
    }
}

pub(crate) fn host_interface() -> String {
    let mut name = format!("veth{}", crate::random::hex::<4>());
    // Seven digits, as Docker's.
    name.pop();
    name
}
