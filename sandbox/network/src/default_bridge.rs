//! What `daemon.json` says of addresses: the pools that subnets are chosen from, and the network `bridge` (moby's
//! `daemon/daemon_unix.go`, `initBridgeDriver`).

use crate::{
    Result, bridge,
    definition::{Bridge, Definition, IpamConfig},
    ipam,
    networks::{Network, Networks, State, choose_gateway},
};
use drydock_runtime::netlink;
use ipnet::Ipv4Net;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// A network that is cut into subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    pub(crate) base: Ipv4Net,
    pub(crate) size: u8,
}

impl AddressPool {
    /// Of `default-address-pools`: a network, and the length of the prefixes of its parts.
    pub fn new(base: &str, size: u8) -> std::result::Result<Self, String> {
        let net: Ipv4Net = base
            .parse()
            .map_err(|_| format!("failed to parse default-address-pools: invalid CIDR address: {base}"))?;
        if size < net.prefix_len() || size > 30 {
            return Err(format!(
                "invalid subnet size {size} in default-address-pools: {net} can't be cut so"
            ));
        }
        Ok(Self { base: net.trunc(), size })
    }
}

/// What is asked for the network `bridge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultBridge {
    address: Option<Ipv4Net>,
    range: Option<Ipv4Net>,
    /// The gateway of containers.
    pub gateway: Option<Ipv4Addr>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Published ports are bound to this address if none is named.
    pub host_binding: Option<IpAddr>,
    /// Containers on it may talk to each other.
    pub icc: bool,
    /// Containers have the node's address outside.
    pub masquerade: bool,
}

impl Default for DefaultBridge {
    fn default() -> Self {
        let (address, range, gateway, mtu, host_binding) = (None, None, None, None, None);
        Self { address, range, gateway, mtu, host_binding, icc: true, masquerade: true }
    }
}

impl DefaultBridge {
    /// With `bip` and `fixed-cidr`, either of which may be empty.
    pub fn new(bip: &str, fixed_cidr: &str) -> std::result::Result<Self, String> {
        let net = |key: &str, text: &str| {
            let parsed = (!text.is_empty()).then(|| text.parse::<Ipv4Net>()).transpose();
            parsed.map_err(|_| format!("failed to parse {key}: invalid CIDR address: {text}"))
        };
        let address = net("bip", bip)?;
        if let Some(address) = address
            && (address.addr() == address.network() || address.addr() == address.broadcast())
        {
            return Err(format!("failed to parse bip: {address} is not the address of a host"));
        }
        let range = net("fixed-cidr", fixed_cidr)?.map(|range| range.trunc());
        if let (Some(address), Some(range)) = (address, range)
            && !address.trunc().contains(&range)
        {
            return Err(format!("fixed-cidr={range} is not in the network of bip={address}"));
        }
        Ok(Self { address, range, ..Self::default() })
    }

    /// Whether the addresses are the operator's choice.
    fn is_chosen(&self) -> bool {
        self.address.is_some() || self.range.is_some() || self.gateway.is_some()
    }

    fn ipam(&self, subnet: Ipv4Net, gateway: Ipv4Addr) -> Vec<IpamConfig> {
        if !self.is_chosen() {
            return Vec::new();
        }
        vec![IpamConfig {
            subnet: subnet.to_string(),
            ip_range: self.range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: gateway.to_string(),
            ..IpamConfig::default()
        }]
    }

    fn options(&self) -> BTreeMap<String, String> {
        let binding = self.host_binding.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let options = [
            ("bridge.default_bridge", "true".to_owned()),
            ("bridge.enable_icc", self.icc.to_string()),
            ("bridge.enable_ip_masquerade", self.masquerade.to_string()),
            ("bridge.host_binding_ipv4", binding.to_string()),
            ("bridge.name", "docker0".to_owned()),
            ("driver.mtu", self.mtu.unwrap_or(1500).to_string()),
        ];
        options.into_iter().map(|(label, value)| (format!("com.docker.network.{label}"), value)).collect()
    }

    /// The bridge, and what inspection shows of it. `kept`: addresses that were chosen before.
    fn make(
        &self,
        kept: Option<&Bridge>,
        state: &State,
        pools: &[AddressPool],
    ) -> Result<(Bridge, Vec<IpamConfig>)> {
        let kept = kept.filter(|_| !self.is_chosen());
        let chosen = self.address.or(self.range).map(|net| net.trunc()).or(kept.map(|kept| kept.subnet));
        let subnet = match chosen {
            Some(subnet) => subnet,
            None => {
                let others = state.bridges().filter(|(of, _)| of.name != "bridge");
                let taken: Vec<Ipv4Net> = others.map(|(_, bridge)| bridge.subnet).collect();
                ipam::choose_subnet(taken.iter().chain(&bridge::routes_but("docker0")), pools)?
            }
        };
        let own = self.address.map(|address| address.addr()).or(self.gateway);
        let gateway = choose_gateway(subnet, self.range, own.or(kept.map(|kept| kept.gateway)), &[])?;
        let bridge = Bridge {
            interface: "docker0".into(),
            subnet,
            range: self.range.filter(|range| *range != subnet),
            gateway,
            reserved: Vec::new(),
            mtu: self.mtu,
            icc: self.icc,
            masquerade: self.masquerade,
            host_binding: self.host_binding,
            prefix: None,
            host_address: None,
            unprotected: false,
            ipv6: None,
        };
        Ok((bridge, self.ipam(subnet, gateway)))
    }

    /// Makes the definition what is asked for now; says whether that changed it.
    pub(crate) fn renew(
        &self,
        definition: &mut Definition,
        state: &State,
        pools: &[AddressPool],
    ) -> Result<bool> {
        // What an operator has chosen before is not kept when that is gone from the file.
        let kept = definition.bridge.as_ref().filter(|_| definition.ipam.is_empty());
        let (bridge, ipam) = self.make(kept, state, pools)?;
        let options = self.options();
        let same = (definition.bridge.as_ref(), &definition.ipam, &definition.options)
            == (Some(&bridge), &ipam, &options);
        (definition.bridge, definition.ipam, definition.options) = (Some(bridge), ipam, options);
        Ok(!same)
    }
}

impl Networks {
    /// Gives the network `bridge` what its configuration asks for, unless containers run on it: then it stays, as dockerd leaves it.
    /// Says whether it changed.
    pub(crate) fn renew_default_bridge(&self) -> Result<bool> {
        let config = &self.shared.config;
        let (before, after) = {
            let state = self.state();
            let Some(network) = state.networks.iter().find(|n| n.definition.name == "bridge") else {
                return Ok(false);
            };
            let mut after = network.definition.clone();
            if !config.default_bridge.renew(&mut after, &state, &config.pools)? {
                return Ok(false);
            }
            (network.definition.clone(), after)
        };
        if in_use("docker0")? {
            tracing::warn!("containers run on docker0: its configuration is used when none does");
            return Ok(false);
        }
        if let Some(bridge) = &before.bridge {
            self.remove_bridge(bridge);
        }
        let mut state = self.state();
        if let Some(network) = state.networks.iter_mut().find(|n| n.definition.id == after.id) {
            *network = Network::new(after);
        }
        Ok(true)
    }
}

/// Whether a bridge has ports.
fn in_use(bridge: &str) -> Result<bool> {
    let links = netlink::links()?;
    let index = links.iter().find(|link| link.name == bridge).map(|link| link.index);
    Ok(index.is_some_and(|index| links.iter().any(|link| link.bridge == Some(index))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_and_addresses_are_checked() {
        assert!(AddressPool::new("10.10.0.0/16", 24).is_ok());
        assert!(AddressPool::new("10.10.0.0/16", 8).unwrap_err().contains("can't be cut so"));
        assert!(AddressPool::new("10.10.0.0", 24).unwrap_err().ends_with("invalid CIDR address: 10.10.0.0"));
        assert!(DefaultBridge::new("10.9.0.1/24", "10.9.0.128/25").is_ok());
        for (bip, range) in [("x", ""), ("10.9.0.0/24", ""), ("10.9.0.1/24", "10.8.0.0/25")] {
            assert!(DefaultBridge::new(bip, range).is_err(), "{bip} {range}");
        }
    }
}
