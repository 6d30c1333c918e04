//! What `daemon.json` says of addresses: the pools that subnets are chosen from, and the network `bridge` (moby's
//! `daemon/daemon_unix.go`, `initBridgeDriver`).

use crate::{
    Config, Result, bridge,
    bridge_options::GatewayMode,
    definition::{Bridge, Definition, IpamConfig, Ipv6},
    ipam,
    networks::{Network, Networks, State, choose_gateway},
};
use drydock_runtime::netlink;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// A network that is cut into subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    pub(crate) base: IpNet,
    pub(crate) size: u8,
}

impl AddressPool {
    /// Of `default-address-pools`: a network, and the length of the prefixes of its parts.
    pub fn new(base: &str, size: u8) -> std::result::Result<Self, String> {
        let net: IpNet = base
            .parse()
            .map_err(|_| format!("failed to parse default-address-pools: invalid CIDR address: {base}"))?;
        if size < net.prefix_len() || size > net.max_prefix_len() - 2 {
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
    /// It has IPv6 too.
    pub ipv6: bool,
    /// Its addresses then (`fixed-cidr-v6`); none: the node's own local ones.
    ipv6_range: Option<Ipv6Net>,
}

impl Default for DefaultBridge {
    fn default() -> Self {
        let (address, range, gateway, mtu, host_binding) = (None, None, None, None, None);
        let (icc, masquerade, ipv6, ipv6_range) = (true, true, false, None);
        Self { address, range, gateway, mtu, host_binding, icc, masquerade, ipv6, ipv6_range }
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

    /// With IPv6: `fixed-cidr-v6`, which may be empty.
    pub fn with_ipv6(self, fixed_cidr: &str) -> std::result::Result<Self, String> {
        let range = (!fixed_cidr.is_empty()).then(|| fixed_cidr.parse::<Ipv6Net>()).transpose();
        let ipv6_range =
            range.map_err(|_| format!("parse fixed-cidr-v6 failed: invalid CIDR address: {fixed_cidr}"))?;
        Ok(Self { ipv6: true, ipv6_range: ipv6_range.map(|range| range.trunc()), ..self })
    }

    /// Whether the addresses are the operator's choice.
    fn is_chosen(&self) -> bool {
        self.address.is_some() || self.range.is_some() || self.gateway.is_some()
    }

    fn ipam(&self, subnet: Ipv4Net, gateway: Ipv4Addr) -> Vec<IpamConfig> {
        let ipv4 = self.is_chosen().then(|| IpamConfig {
            subnet: subnet.to_string(),
            ip_range: self.range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: gateway.to_string(),
            ..IpamConfig::default()
        });
        let ipv6 = self.ipv6_range.filter(|_| self.ipv6).map(|range| IpamConfig {
            subnet: range.to_string(),
            ip_range: range.to_string(),
            ..IpamConfig::default()
        });
        ipv4.into_iter().chain(ipv6).collect()
    }

    /// `kept`: addresses that were chosen before.
    fn make_ipv6(&self, kept: Option<&Ipv6>, state: &State, config: &Config) -> Result<Option<Ipv6>> {
        if !self.ipv6 {
            return Ok(None);
        }
        if let (Some(kept), None) = (kept, self.ipv6_range) {
            return Ok(Some(kept.clone()));
        }
        let others = state.bridges().filter(|(of, _)| of.name != "bridge");
        let taken: Vec<Ipv6Net> =
            others.filter_map(|(_, bridge)| Some(bridge.ipv6.as_ref()?.subnet)).collect();
        let chosen = || ipam::choose_ipv6_subnet(&taken, &config.pools, &config.engine_id);
        let subnet = self.ipv6_range.map_or_else(chosen, Ok)?;
        let gateway = choose_gateway(subnet, None, None, &[])?;
        Ok(Some(Ipv6 { subnet, range: None, gateway, reserved: Vec::new(), mode: GatewayMode::Nat }))
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

    /// The bridge, and what inspection shows of it. What was chosen before is kept, but not what an operator chose: that is gone with
    /// what the file says.
    fn make(&self, before: &Definition, state: &State, config: &Config) -> Result<(Bridge, Vec<IpamConfig>)> {
        let kept = |ipv6| before.bridge.as_ref().filter(|_| !before.static_subnet(ipv6));
        let ipv6 = self.make_ipv6(kept(true).and_then(|kept| kept.ipv6.as_ref()), state, config)?;
        let kept = kept(false).filter(|_| !self.is_chosen());
        let chosen = self.address.or(self.range).map(|net| net.trunc()).or(kept.map(|kept| kept.subnet));
        let subnet = match chosen {
            Some(subnet) => subnet,
            None => {
                let others = state.bridges().filter(|(of, _)| of.name != "bridge");
                let taken: Vec<Ipv4Net> = others.filter_map(|(_, bridge)| bridge.ipv4_subnet()).collect();
                ipam::choose_subnet(taken.iter().chain(&bridge::routes_but("docker0")), &config.pools)?
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
            mode: GatewayMode::Nat,
            no_ipv4: false,
            macvlan: None,
            ipv6,
        };
        Ok((bridge, self.ipam(subnet, gateway)))
    }

    /// Makes the definition what is asked for now; says whether that changed it.
    pub(crate) fn renew(&self, definition: &mut Definition, state: &State, config: &Config) -> Result<bool> {
        let (bridge, ipam) = self.make(definition, state, config)?;
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
            if !config.default_bridge.renew(&mut after, &state, config)? {
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
        assert!(AddressPool::new("2001:db8::/48", 64).is_ok());
        assert!(DefaultBridge::default().with_ipv6("2001:db8::/64").is_ok_and(|bridge| bridge.ipv6));
        assert!(DefaultBridge::default().with_ipv6("10.0.0.0/8").is_err());
        assert!(AddressPool::new("10.10.0.0/16", 8).unwrap_err().contains("can't be cut so"));
        assert!(AddressPool::new("10.10.0.0", 24).unwrap_err().ends_with("invalid CIDR address: 10.10.0.0"));
        assert!(DefaultBridge::new("10.9.0.1/24", "10.9.0.128/25").is_ok());
        for (bip, range) in [("x", ""), ("10.9.0.0/24", ""), ("10.9.0.1/24", "10.8.0.0/25")] {
            assert!(DefaultBridge::new(bip, range).is_err(), "{bip} {range}");
        }
    }
}
