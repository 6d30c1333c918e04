//! What `docker network inspect` and `docker inspect` show of networks, with the API's names of the fields.

use crate::{
    Endpoint,
    bridge_options::GatewayMode,
    definition::IpamConfig,
    networks,
    ports::{Binding, PortRequest},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// A network (`GET /networks/{id}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id: 64 digits.
    pub id: String,
    /// When it was made.
    pub created: String,
    /// `local`.
    pub scope: &'static str,
    /// `bridge`, `host`, `null`.
    pub driver: &'static str,
    /// As it was asked for.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// As it was asked for.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Subnets.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way out.
    pub internal: bool,
    /// As it was asked for.
    pub attachable: bool,
    /// Never.
    pub ingress: bool,
    /// As it was asked for.
    pub config_from: ConfigFrom,
    /// As it was asked for.
    pub config_only: bool,
    /// By the id of the container. `GET /networks` (the list) shows it empty.
    pub containers: BTreeMap<String, NetworkContainer>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipam {
    /// `default`.
    pub driver: &'static str,
    /// As they were asked for.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets; null for networks without.
    pub config: Option<Vec<IpamConfig>>,
}

/// Where a network's configuration is from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigFrom {
    /// The network that holds it, or empty.
    pub network: String,
}

/// A container in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkContainer {
    /// The container's name.
    pub name: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Link-layer address, or empty.
    pub mac_address: String,
    /// `172.17.0.2/16`, or empty.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// `2001:db8::2/64`, or empty.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

impl Network {
    pub(crate) fn of(network: &networks::Network) -> Self {
        let definition = &network.definition;
        let config = definition.bridge.as_ref().map(|bridge| {
            // As it was asked for: Docker does not show the gateway that it chose for a subnet of the user's.
            let mut config = definition.ipam.clone();
            config.sort_by_key(IpamConfig::is_ipv6);
            let ours = |subnet: String, gateway: String, mode: GatewayMode| {
                let gateway = if mode == GatewayMode::Isolated { String::new() } else { gateway };
                IpamConfig { subnet, gateway, ..IpamConfig::default() }
            };
            if !definition.static_subnet(false) && !bridge.no_ipv4 {
                config.push(ours(bridge.subnet.to_string(), bridge.gateway.to_string(), bridge.mode));
            }
            if let Some(ipv6) = bridge.ipv6.as_ref().filter(|_| !definition.static_subnet(true)) {
                config.push(ours(ipv6.subnet.to_string(), ipv6.gateway.to_string(), ipv6.mode));
            }
            config
        });
        let config = config.or_else(|| definition.config_only.map(|_| definition.ipam.clone()));
        let containers =
            network.endpoints.iter().map(|(id, e)| (id.clone(), NetworkContainer::of(e))).collect();
        Self {
            name: definition.name.clone(),
            id: definition.id.clone(),
            created: definition.created.clone(),
            scope: "local",
            driver: definition.driver.name(),
            enable_ipv4: !definition.bridge.as_ref().is_some_and(|bridge| bridge.no_ipv4)
                && !definition.config_only.is_some_and(|held| held.no_ipv4),
            enable_ipv6: definition.bridge.as_ref().is_some_and(|bridge| bridge.ipv6.is_some())
                || definition.config_only.is_some_and(|held| held.ipv6),
            ipam: Ipam { driver: "default", options: definition.ipam_options.clone(), config },
            internal: definition.internal,
            attachable: definition.attachable,
            ingress: false,
            config_from: ConfigFrom { network: definition.config_from.clone() },
            config_only: definition.config_only.is_some(),
            containers,
            options: definition.options.clone(),
            labels: definition.labels.clone(),
        }
    }
}

impl NetworkContainer {
    fn of(endpoint: &Endpoint) -> Self {
        Self {
            name: endpoint.container_name.clone(),
            endpoint_id: endpoint.id.clone(),
            mac_address: endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            ipv4_address: endpoint
                .address
                .map(|address| format!("{address}/{}", endpoint.prefix))
                .unwrap_or_default(),
            ipv6_address: endpoint.ipv6_text(),
        }
    }
}

/// What the kernel gave to an endpoint: the operational part of an entry of `NetworkSettings.Networks`. The engine adds
/// `IPAMConfig`, `Links`, `Aliases`, `DriverOpts` and `GwPriority` as they were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointState {
    /// Link-layer address.
    pub mac_address: String,
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The bridge's address; empty on internal networks.
    pub gateway: String,
    /// Its address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Length of the prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// Empty.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Empty.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// 0
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Names in the embedded name server; null on the default bridge.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

impl From<&Endpoint> for EndpointState {
    fn from(endpoint: &Endpoint) -> Self {
        let text = |address: Option<std::net::Ipv4Addr>| address.map(|a| a.to_string()).unwrap_or_default();
        Self {
            mac_address: endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            network_id: endpoint.network_id.clone(),
            endpoint_id: endpoint.id.clone(),
            gateway: text(endpoint.gateway),
            ip_address: text(endpoint.address),
            ip_prefix_len: if endpoint.address.is_some() { endpoint.prefix } else { 0 },
            dns_names: endpoint.user_defined().then(|| endpoint.dns_names.clone()),
            ..Self::default()
        }
    }
}

/// `NetworkSettings.Ports`: `80/tcp` → where it is published, null if it is only exposed.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// Where a port is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortBinding {
    /// Address of the node.
    #[serde(rename = "HostIp")]
    pub host_ip: String,
    /// Port of the node.
    pub host_port: String,
}

/// The map that Docker shows of exposed ports (`80/tcp`) and bindings.
pub fn port_map<'a>(exposed: impl IntoIterator<Item = &'a str>, bindings: &[Binding]) -> PortMap {
    let mut map: PortMap = exposed.into_iter().map(|port| (port.to_owned(), None)).collect();
    for binding in bindings {
        let key = format!("{}/{}", binding.container_port, binding.protocol);
        let host_port = if binding.host_port == 0 { String::new() } else { binding.host_port.to_string() };
        let entry = PortBinding { host_ip: binding.host_ip.to_string(), host_port };
        map.entry(key).or_default().get_or_insert_default().push(entry);
    }
    map
}

impl From<&Binding> for PortRequest {
    /// The request that asks for the same again: for a container that outlived an engine.
    fn from(binding: &Binding) -> Self {
        Self {
            protocol: binding.protocol,
            host_ip: Some(binding.host_ip),
            host_port: binding.host_port,
            host_port_end: binding.host_port,
            container_port: binding.container_port,
        }
    }
}
