//! Addresses that a client wants in a network, checked when a container is made or connected, as dockerd does
//! (`validateEndpointSettings` in `daemon/container_operations.go`), and not first when it starts.

use super::model::{EndpointSettings, IpamConfig};
use crate::{
    engine::Engine,
    error::{Error, Result},
};
use drydock_network::{inspect::Network, is_predefined};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An option of an endpoint: what its interface is called in the container.
pub const IFNAME: &str = "com.docker.network.endpoint.ifname";
/// An option of an endpoint: settings of its interface.
pub const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Checks what a request for a container says of networks. One that is not there yet may come until the start.
pub fn check(engine: &Engine, wanted: &BTreeMap<String, Option<EndpointSettings>>) -> Result<()> {
    let mut errors = vec![];
    for (name, settings) in wanted {
        let Some(settings) = settings else { continue };
        let network = engine.networks.find(name).ok();
        if let Err(why) = check_one(network.as_ref(), name, settings) {
            errors.push(format!("invalid config for network {name}: {why}"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::invalid(joined(&errors))) }
}

/// Checks what is wanted of one network.
pub fn check_one(network: Option<&Network>, name: &str, settings: &EndpointSettings) -> Result<(), String> {
    let none = IpamConfig::default();
    let wanted = settings.ipam_config.as_ref().unwrap_or(&none);
    let mut errors = vec![];
    if is_predefined(name) || name == "default" {
        if !wanted.ipv4_address.is_empty() || !wanted.ipv6_address.is_empty() {
            errors.push("user specified IP address is supported on user defined networks only".to_owned());
        }
        if settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
            let text = "network-scoped alias is supported only for containers in user defined networks";
            errors.push(text.to_owned());
        }
    }
    check_addresses(wanted, &mut errors);
    if let Some(network) = network {
        check_ranges(network, wanted, &mut errors);
    }
    if !settings.mac_address.is_empty() && !is_mac(&settings.mac_address) {
        return Err(format!("invalid MAC address {}", settings.mac_address));
    }
    let sysctls = settings.driver_opts.as_ref().and_then(|options| options.get(SYSCTLS));
    for sysctl in sysctls.into_iter().flat_map(|all| all.split(',')) {
        let parts: Vec<&str> = sysctl.splitn(5, '.').collect();
        // The command line makes small letters of all.
        if !matches!(parts[..], [_, "ipv4" | "ipv6" | "mpls", _, "IFNAME" | "ifname", _]) {
            errors.push(format!(
                "unrecognised network interface sysctl '{sysctl}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            ));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(format!("invalid endpoint settings:\n{}", joined(&errors))) }
}

fn check_addresses(wanted: &IpamConfig, errors: &mut Vec<String>) {
    let IpamConfig { ipv4_address: v4, ipv6_address: v6, link_local_ips } = wanted;
    if !v4.is_empty() && v4.parse::<Ipv4Addr>().ok().is_none_or(|ip| ip.is_unspecified()) {
        errors.push(format!("invalid IPv4 address: {v4}"));
    }
    if !v6.is_empty() && v6.parse::<Ipv6Addr>().ok().is_none_or(|ip| ip.is_unspecified()) {
        errors.push(format!("invalid IPv6 address: {v6}"));
    }
    for address in link_local_ips.iter().flatten() {
        if address.parse::<IpAddr>().ok().is_none_or(|ip| ip.is_unspecified()) {
            errors.push(format!("invalid link-local IP address: {address}"));
        }
    }
}

/// Whether a subnet was the user's own choice, the network itself checks.
fn check_ranges(network: &Network, wanted: &IpamConfig, errors: &mut Vec<String>) {
    let subnets = network.ipam.config.iter().flatten().map(|config| config.subnet.as_str());
    let subnets: Vec<&str> = subnets.filter(|subnet| !subnet.is_empty()).collect();
    for (text, is_ipv6) in [(&wanted.ipv4_address, false), (&wanted.ipv6_address, true)] {
        if text.is_empty() {
            continue;
        }
        let mut of_family = subnets.iter().filter(|subnet| subnet.contains(':') == is_ipv6).peekable();
        if of_family.peek().is_none() {
            errors.push(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
                    .to_owned(),
            );
        } else if !text.parse().is_ok_and(|address| of_family.any(|subnet| contains(subnet, address))) {
            errors.push(format!("no configured subnet or ip-range contain the IP address {text}"));
        }
    }
}

/// Whether `10.0.0.0/24` has an address.
fn contains(subnet: &str, address: IpAddr) -> bool {
    let Some((base, length)) = subnet.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let (base, address, bits) = match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => (base.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(base), IpAddr::V6(address)) => (base.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let differ: u128 = base ^ address;
    length <= bits && differ.checked_shr(bits - length).unwrap_or(0) == 0
}

/// Go's `net.ParseMAC`: 6, 8 or 20 bytes as `00:11`, `00-11` or `0011.2233`.
fn is_mac(text: &str) -> bool {
    let (separator, digits, counts): (_, _, &[usize]) = match text {
        text if text.contains(':') => (':', 2, &[6, 8, 20]),
        text if text.contains('-') => ('-', 2, &[6, 8, 20]),
        _ => ('.', 4, &[3, 4, 10]),
    };
    let parts: Vec<&str> = text.split(separator).collect();
    let is_hex = |part: &&str| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    counts.contains(&parts.len()) && parts.iter().all(is_hex)
}

/// Several refusals in one, as moby's `multierror.Join` writes them.
fn joined(errors: &[String]) -> String {
    if let [one] = errors {
        return one.trim().to_owned();
    }
    let lines: Vec<String> =
        errors.iter().map(|error| format!("* {}", error.replace('\n', "\n\t"))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, address: &str, mac: &str) -> Result<(), String> {
        let ipam = IpamConfig { ipv4_address: address.into(), ..IpamConfig::default() };
        let settings = EndpointSettings {
            ipam_config: Some(ipam),
            mac_address: mac.into(),
            ..EndpointSettings::default()
        };
        check_one(None, name, &settings)
    }

    #[test]
    fn wrong_addresses_are_refused_in_dockerds_words() {
        assert_eq!(
            refused("n2", "foo", "").unwrap_err(),
            "invalid endpoint settings:\ninvalid IPv4 address: foo"
        );
        assert_eq!(
            refused("bridge", "foo", "").unwrap_err(),
            "invalid endpoint settings:\n* user specified IP address is supported on user defined networks only\n* invalid IPv4 address: foo"
        );
        assert_eq!(refused("n2", "", "nope").unwrap_err(), "invalid MAC address nope");
        assert_eq!(refused("n2", "10.0.0.1", "02:42:ac:11:00:02"), Ok(()));
        assert!(is_mac("0242.ac11.0002") && is_mac("02-42-ac-11-00-02") && !is_mac("02:42:ac:11:00"));
    }

    #[test]
    fn an_address_is_in_its_subnet() {
        let inside = |subnet: &str, address: &str| contains(subnet, address.parse().unwrap());
        assert!(inside("10.9.0.0/16", "10.9.255.1") && !inside("10.9.0.0/16", "10.10.0.9"));
        assert!(inside("0.0.0.0/0", "1.2.3.4") && !inside("10.9.0.0/33", "10.9.0.1"));
        assert!(inside("2001:db8:1::/64", "2001:db8:1::ff") && !inside("2001:db8:1::/64", "2001:db8:2::1"));
        assert!(inside("::/0", "2001:db8:2::1") && !inside("::/0", "1.2.3.4"));
    }
}
