//! What a network is: as it is asked for, checked, and kept on disk. The checks and their words are those of
//! moby's `api/types/network/ipam.go`, `daemon/network.go` and `libnetwork/drivers/bridge`.

use crate::{Error, Result, bridge_options::GatewayMode, error::Kind, ipam::Net, macvlan::Macvlan};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A network that somebody asks for (`POST /networks/create`).
#[derive(Debug, Clone, Default)]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// `bridge` if empty.
    pub driver: String,
    /// No way out.
    pub internal: bool,
    /// `--attachable`: kept and shown.
    pub attachable: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--ipv4`; on if it is not said.
    pub ipv4: Option<bool>,
    /// `--scope`.
    pub scope: String,
    /// IPAM driver: `default` if empty.
    pub ipam_driver: String,
    /// IPAM driver's options, kept and shown. `None` is shown as null.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Subnets.
    pub ipam: Vec<IpamConfig>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `--config-only`: it only holds what others take from it.
    pub config_only: bool,
    /// `--config-from`: the network that holds its configuration, or empty.
    pub config_from: String,
}

/// A subnet as it is asked for and shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// The subnet (`172.18.0.0/16`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// Containers get addresses of this part of it.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// The bridge's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that are used by others.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, String>,
}

impl IpamConfig {
    pub(crate) fn is_ipv6(&self) -> bool {
        matches!(self.subnet.parse(), Ok(IpNet::V6(_)))
    }
}

/// Which kind of network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of the node.
    Bridge,
    /// Interfaces on one of the node's.
    Macvlan,
    /// The node's own network namespace.
    Host,
    /// A network namespace with nothing but the loopback interface.
    Null,
}

impl Driver {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Host => "host",
            Self::Null => "null",
        }
    }

    /// Whether containers get an interface in it.
    pub fn has_interfaces(self) -> bool {
        matches!(self, Self::Bridge | Self::Macvlan)
    }
}

/// A network as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub id: String,
    pub name: String,
    pub created: String,
    pub driver: Driver,
    pub internal: bool,
    pub attachable: bool,
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// As asked for; empty: chosen by us.
    pub ipam: Vec<IpamConfig>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Only networks with interfaces have one.
    pub bridge: Option<Bridge>,
    /// It only holds a configuration.
    #[serde(default)]
    pub config_only: Option<ConfigOnly>,
    /// The network that holds its configuration, or empty.
    #[serde(default)]
    pub config_from: String,
}

/// What such a network holds beside subnets, options and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfigOnly {
    #[serde(default)]
    pub no_ipv4: bool,
    pub ipv6: bool,
}

/// What a network with interfaces is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bridge {
    /// Name of the interface; the parent's of a macvlan.
    pub interface: String,
    /// There are no IPv4 addresses: what is said of them means nothing.
    #[serde(default)]
    pub no_ipv4: bool,
    pub subnet: Ipv4Net,
    pub range: Option<Ipv4Net>,
    pub gateway: Ipv4Addr,
    /// Used by others.
    pub reserved: Vec<Ipv4Addr>,
    pub mtu: Option<u32>,
    /// Containers on it may talk to each other.
    pub icc: bool,
    pub masquerade: bool,
    /// Published ports are bound to this address if none is named.
    pub host_binding: Option<IpAddr>,
    /// Names of interfaces in containers begin so instead of with `eth`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Containers are seen outside under this address, not that of the interface which they leave by.
    #[serde(default)]
    pub host_address: Option<Ipv4Addr>,
    /// How it is connected with the outside.
    #[serde(default)]
    pub mode: GatewayMode,
    /// It is no bridge, but this.
    #[serde(default)]
    pub macvlan: Option<Macvlan>,
    /// Its IPv6 addresses, if it has any.
    #[serde(default)]
    pub ipv6: Option<Ipv6>,
}

/// The IPv6 side of a bridge network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ipv6 {
    pub subnet: Ipv6Net,
    pub range: Option<Ipv6Net>,
    pub gateway: Ipv6Addr,
    /// Used by others.
    pub reserved: Vec<Ipv6Addr>,
    /// How it is connected with the outside.
    #[serde(default)]
    pub mode: GatewayMode,
}

impl Bridge {
    /// Its subnet, if it has IPv4 addresses.
    pub fn ipv4_subnet(&self) -> Option<Ipv4Net> {
        (!self.no_ipv4).then_some(self.subnet)
    }
}

impl Definition {
    /// Whether the subnet of this family was the user's choice (only then may a container ask for an address).
    pub fn static_subnet(&self, ipv6: bool) -> bool {
        self.ipam.iter().any(|config| config.is_ipv6() == ipv6)
    }

    pub fn predefined(&self) -> bool {
        is_predefined(&self.name)
    }
}

/// Whether the name is that of a network which always exists.
pub fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

impl NewNetwork {
    /// What can be said without a look at other networks.
    pub(crate) fn check(&self) -> Result<()> {
        if is_predefined(&self.name) {
            return Err(Kind::Forbidden
                .error(format!("operation is not permitted on predefined {} network ", self.name)));
        }
        if self.name.trim().is_empty() {
            return Err(Kind::Invalid.error("invalid name: name is empty"));
        }
        if self.name.contains('/') || self.name.chars().any(char::is_control) {
            return Err(Kind::Invalid.error(format!("invalid network name: {:?}", self.name)));
        }
        self.check_configuration()?;
        if !self.config_only {
            check_driver(&self.driver)?;
        }
        if !matches!(self.scope.as_str(), "" | "local") {
            return Err(
                Kind::Forbidden.error("cannot create a swarm scoped network when swarm is not active")
            );
        }
        if !matches!(self.ipam_driver.as_str(), "" | "default") {
            return Err(Kind::Invalid.error(format!("invalid ipam driver: {:?}", self.ipam_driver)));
        }
        if self.ipv4 == Some(false) && !self.ipv6 {
            return Err(Kind::Invalid.error("IPv4 or IPv6 must be enabled"));
        }
        check_ipam(&self.configs(), self.ipv6)
    }

    /// What is for a network that holds a configuration, or takes one (libnetwork's `validateConfiguration`).
    fn check_configuration(&self) -> Result<()> {
        let refused = |why: &str| Err(Kind::Forbidden.error(why));
        if self.config_only && (self.internal || self.attachable || !self.scope.is_empty()) {
            return refused(
                "configuration network can only contain network specific fields. Network operator fields like \
                 [ ingress | internal | attachable | scope ] are not supported.",
            );
        }
        if self.config_from.is_empty() {
            return Ok(());
        }
        if self.config_only {
            return refused("a configuration network cannot depend on another configuration network");
        }
        let own = !matches!(self.ipam_driver.as_str(), "" | "default")
            || self.ipv4 == Some(false)
            || self.ipv6
            || !self.labels.is_empty()
            || self.ipam_options.as_ref().is_some_and(|options| !options.is_empty())
            || !self.ipam.is_empty();
        if own {
            return refused(
                "user-specified configurations are not supported if the network depends on a configuration network",
            );
        }
        if !self.options.is_empty() {
            return refused(
                "network driver options are not supported if the network depends on a configuration network",
            );
        }
        Ok(())
    }

    /// The same with what another network holds for it.
    pub(crate) fn configured(&self, from: &Definition, held: ConfigOnly) -> Self {
        Self {
            ipv4: Some(!held.no_ipv4),
            ipv6: held.ipv6,
            labels: from.labels.clone(),
            ipam_options: from.ipam_options.clone().or_else(|| self.ipam_options.clone()),
            ipam: from.ipam.clone(),
            options: from.options.clone(),
            ..self.clone()
        }
    }

    /// Whether it has IPv4 addresses.
    pub(crate) fn has_ipv4(&self) -> bool {
        self.ipv4 != Some(false)
    }

    /// The subnets that count: those of a family only if it is wanted.
    pub(crate) fn configs(&self) -> Vec<IpamConfig> {
        let counts = |config: &&IpamConfig| if config.is_ipv6() { self.ipv6 } else { self.has_ipv4() };
        self.ipam.iter().filter(counts).cloned().collect()
    }

    /// The user's subnet, range and gateway, which [`check`](Self::check) has found good.
    pub(crate) fn subnet(&self) -> Result<Option<Subnet<Ipv4Net>>> {
        Subnet::of(self.ipam.iter().filter(|config| self.has_ipv4() && !config.is_ipv6()), "ipv4")
    }

    /// The same of IPv6.
    pub(crate) fn ipv6_subnet(&self) -> Result<Option<Subnet<Ipv6Net>>> {
        let subnet = Subnet::of(self.ipam.iter().filter(|config| config.is_ipv6()), "ipv6")?;
        let link_local = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);
        match &subnet {
            Some(Subnet { net, .. }) if *net != link_local && crate::ipam::overlap(net, &link_local) => {
                Err(Kind::Invalid.error(format!("'{net}' clashes with the Link-Local prefix '{link_local}'")))
            }
            _ => Ok(subnet),
        }
    }
}

/// A checked wish.
#[derive(Debug)]
pub(crate) struct Subnet<N: Net> {
    pub net: N,
    pub range: Option<N>,
    pub gateway: Option<N::Address>,
    pub reserved: Vec<N::Address>,
}

impl<N: Net + FromStr<Err: Display>> Subnet<N>
where
    N::Address: FromStr,
{
    /// The only one of these, if there is one.
    fn of<'a>(mut configs: impl Iterator<Item = &'a IpamConfig>, family: &str) -> Result<Option<Self>> {
        let Some(config) = configs.next() else { return Ok(None) };
        if configs.next().is_some() {
            return Err(Kind::Forbidden.error("bridge driver doesn't support multiple subnets"));
        }
        let invalid = |e| Kind::Invalid.error(format!("Invalid subnet {} : {e}", config.subnet));
        let net: N = config.subnet.parse().map_err(invalid)?;
        if net.bounds().2 == 0 {
            return Err(Kind::Invalid.error(format!("{family} pool is empty")));
        }
        Ok(Some(Self {
            net,
            range: config.ip_range.parse().ok(),
            gateway: config.gateway.parse().ok(),
            reserved: config.auxiliary.values().filter_map(|address| address.parse().ok()).collect(),
        }))
    }
}

fn check_driver(driver: &str) -> Result<()> {
    match driver {
        "" | "bridge" | "macvlan" => Ok(()),
        "host" | "null" => Err(Kind::Forbidden.error(format!("only one instance of {driver:?} network is allowed"))),
        "overlay" => Err(Kind::Forbidden.error(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node \
             to swarm and try again.",
        )),
        "ipvlan" => Err(Kind::NotImplemented
            .error("ipvlan networks are not available on this engine: use the bridge or the macvlan driver")),
        _ => Err(Kind::NotFound.error(format!("could not find plugin {driver} in v1 plugin registry: plugin not found"))),
    }
}

/// All that is wrong, in one message, as Docker joins it.
fn check_ipam(configs: &[IpamConfig], ipv6: bool) -> Result<()> {
    let mut errors = Vec::new();
    for config in configs {
        match config.subnet.parse::<IpNet>() {
            Err(_) => errors.push(format!("invalid subnet {}: invalid CIDR block notation", config.subnet)),
            // Docker looks at an IPv6 subnet only where IPv6 is enabled.
            Ok(IpNet::V6(_)) if !ipv6 => {}
            Ok(subnet) => check_config(config, subnet, &mut errors),
        }
    }
    match &errors[..] {
        [] => Ok(()),
        errors => Err(Kind::Invalid.error(format!("invalid network config:\n{}", join(errors)))),
    }
}

/// How Docker joins several errors in one.
pub(crate) fn join(errors: &[String]) -> String {
    match errors {
        [only] => only.trim().to_owned(),
        _ => format!("* {}", errors.join("\n* ")),
    }
}

fn check_config(config: &IpamConfig, subnet: IpNet, errors: &mut Vec<String>) {
    if subnet != subnet.trunc() {
        errors.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    check_range(&config.ip_range, subnet, errors);
    if let Err(why) = check_address(&config.gateway, subnet) {
        errors.push(format!("invalid gateway {}: {why}", config.gateway));
    }
    for (name, address) in &config.auxiliary {
        if let Err(why) = check_address(address, subnet) {
            errors.push(format!("invalid auxiliary address {name}: {why}"));
        }
    }
}

/// `4` or `6`.
fn family(is_ipv4: bool) -> u8 {
    if is_ipv4 { 4 } else { 6 }
}

fn check_range(text: &str, subnet: IpNet, errors: &mut Vec<String>) {
    if text.is_empty() {
        return;
    }
    let range = match text.parse::<IpNet>() {
        Err(_) => return errors.push(format!("invalid ip-range {text}: invalid CIDR block notation")),
        Ok(range) => range,
    };
    let own = family(subnet.addr().is_ipv4());
    if family(range.addr().is_ipv4()) != own {
        return errors.push(format!("invalid ip-range {text}: parent subnet is an IPv{own} block"));
    }
    if range.prefix_len() < subnet.prefix_len() {
        errors
            .push(format!("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range != range.trunc() {
        errors.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !subnet.contains(&range.network()) && !range.contains(&subnet.network()) {
        errors.push(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
    }
}

fn check_address(text: &str, subnet: IpNet) -> std::result::Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let own = family(subnet.addr().is_ipv4());
    match text.parse::<IpAddr>() {
        Err(_) => Err("invalid address".into()),
        Ok(address) if family(address.is_ipv4()) != own => Err(format!("parent subnet is an IPv{own} block")),
        Ok(address) if !subnet.contains(&address) => {
            Err(format!("parent subnet {subnet} doesn't contain this address"))
        }
        Ok(_) => Ok(()),
    }
}

/// Docker's words for a network that does not exist.
pub(crate) fn not_found(name: &str) -> Error {
    Kind::NotFound.error(format!("network {name} not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(subnet: &str, range: &str, gateway: &str, auxiliary: &str) -> String {
        let mut config = IpamConfig {
            subnet: subnet.into(),
            ip_range: range.into(),
            gateway: gateway.into(),
            ..IpamConfig::default()
        };
        if !auxiliary.is_empty() {
            config.auxiliary.insert("other".into(), auxiliary.into());
        }
        let new = NewNetwork { name: "n".into(), ipam: vec![config], ..NewNetwork::default() };
        new.check().map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn subnets_are_checked_in_dockers_words() {
        assert_eq!(refusal("10.0.0.0/24", "10.0.0.0/25", "10.0.0.9", "10.0.0.10"), "");
        assert_eq!(
            refusal("10.0.0.0", "", "", ""),
            "invalid network config:\ninvalid subnet 10.0.0.0: invalid CIDR block notation"
        );
        assert_eq!(
            refusal("10.0.0.1/24", "", "", ""),
            "invalid network config:\ninvalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"
        );
        assert_eq!(
            refusal("10.0.0.0/24", "10.0.1.0/25", "10.0.1.1", "x"),
            "invalid network config:\n\
             * invalid ip-range 10.0.1.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range\n\
             * invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address\n\
             * invalid auxiliary address other: invalid address"
        );
    }

    #[test]
    fn drivers_are_refused_in_dockers_words() {
        let refusal = |driver: &str| {
            let new = NewNetwork { name: "n".into(), driver: driver.into(), ..NewNetwork::default() };
            new.check().unwrap_err()
        };
        let unknown = refusal("weave");
        assert_eq!(unknown.kind(), Kind::NotFound);
        assert_eq!(
            unknown.to_string(),
            "could not find plugin weave in v1 plugin registry: plugin not found"
        );
        assert!(refusal("ipvlan").to_string().contains("ipvlan networks are not available"));
        assert!(refusal("overlay").to_string().starts_with("This node is not a swarm manager."));
        let predefined = NewNetwork { name: "host".into(), ..NewNetwork::default() }.check().unwrap_err();
        assert_eq!(predefined.to_string(), "operation is not permitted on predefined host network ");
    }
}
