//! Options of the bridge driver (`docker network create -o`), read and checked as moby's `libnetwork/drivers/bridge` does it.

use crate::{Error, Result, error::Kind};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// Longest name of an interface (`IFNAMSIZ` less its zero byte).
const MAX_INTERFACE: usize = 15;

/// Options of the bridge driver, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeOptions {
    pub interface: Option<String>,
    pub mtu: Option<u32>,
    pub icc: bool,
    pub masquerade: bool,
    pub host_binding: Option<IpAddr>,
    pub prefix: Option<String>,
    pub host_address: Option<Ipv4Addr>,
    pub mode: GatewayMode,
    pub ipv6_mode: GatewayMode,
}

/// How a network is connected with the outside (`gateway_mode_ipv4`, `gateway_mode_ipv6`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GatewayMode {
    /// By ports of the node.
    #[default]
    Nat,
    /// So, too, and whoever has a route reaches all ports of the containers.
    Unprotected,
    /// Whoever has a route reaches the published ports of the containers, at their own addresses.
    Routed,
    /// Not even the node is in it.
    Isolated,
}

impl BridgeOptions {
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut read = Self {
            interface: None,
            mtu: None,
            icc: true,
            masquerade: true,
            host_binding: None,
            prefix: None,
            host_address: None,
            mode: GatewayMode::Nat,
            ipv6_mode: GatewayMode::Nat,
        };
        for (label, value) in options {
            let refuse =
                |why: &str| Kind::Invalid.error(format!("failed to parse {label} value: {value} ({why})"));
            let boolean = || parse_bool(value).ok_or_else(|| refuse(&bool_error(value)));
            match label.as_str() {
                "com.docker.network.bridge.name" if !value.is_empty() => {
                    check_interface(value)?;
                    read.interface = Some(value.clone());
                }
                "com.docker.network.driver.mtu" => {
                    let mtu = value
                        .parse()
                        .map_err(|_| refuse(&format!("strconv.Atoi: parsing {value:?}: invalid syntax")))?;
                    if !(68..=65_535).contains(&mtu) {
                        return Err(Kind::Invalid.error(format!("invalid MTU number: {mtu}")));
                    }
                    read.mtu = Some(mtu);
                }
                "com.docker.network.bridge.enable_icc" => read.icc = boolean()?,
                "com.docker.network.bridge.enable_ip_masquerade" => read.masquerade = boolean()?,
                "com.docker.network.bridge.host_binding_ipv4" => {
                    read.host_binding = Some(value.parse().map_err(|_| refuse("nil ip"))?);
                }
                "com.docker.network.host_ipv4" => {
                    read.host_address = Some(value.parse().map_err(|_| refuse("nil ip"))?);
                }
                "com.docker.network.container_iface_prefix" if !value.is_empty() => {
                    // A number follows.
                    if !is_interface(value) || value.len() >= MAX_INTERFACE {
                        return Err(Kind::Invalid.error(format!("invalid interface name prefix {value:?}")));
                    }
                    read.prefix = Some(value.clone());
                }
                "com.docker.network.bridge.gateway_mode_ipv4" => read.mode = gateway_mode(value, refuse)?,
                "com.docker.network.bridge.gateway_mode_ipv6" => {
                    read.ipv6_mode = gateway_mode(value, refuse)?;
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// What they ask of a network that is `internal`, or not.
    pub fn check(&self, internal: bool) -> Result<()> {
        if !internal && [self.mode, self.ipv6_mode].contains(&GatewayMode::Isolated) {
            return Err(
                Kind::Internal.error("gateway mode 'isolated' can only be used for an internal network")
            );
        }
        Ok(())
    }
}

fn gateway_mode(value: &str, refuse: impl Fn(&str) -> Error) -> Result<GatewayMode> {
    match value {
        "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::Unprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(refuse(&format!("unknown gateway mode {value}"))),
    }
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn bool_error(text: &str) -> String {
    format!("strconv.ParseBool: parsing {text:?}: invalid syntax")
}

/// Whether an interface may be called so.
pub(crate) fn is_interface(name: &str) -> bool {
    (1..=MAX_INTERFACE).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !matches!(name, "." | ".." | "lo")
}

fn check_interface(name: &str) -> Result<()> {
    let good = is_interface(name) && name != "eth0";
    if good { Ok(()) } else { Err(Kind::Invalid.error(format!("invalid bridge name {name:?}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let read = |pairs: &[(&str, &str)]| {
            let options = pairs
                .iter()
                .map(|(label, value)| (format!("com.docker.network.{label}"), (*value).to_owned()))
                .collect();
            BridgeOptions::read(&options)
        };
        let good = read(&[
            ("bridge.name", "web0"),
            ("driver.mtu", "1400"),
            ("bridge.enable_icc", "false"),
            ("bridge.enable_ip_masquerade", "0"),
            ("bridge.host_binding_ipv4", "127.0.0.1"),
            ("container_iface_prefix", "web"),
            ("host_ipv4", "192.0.2.9"),
            ("bridge.gateway_mode_ipv4", "nat-unprotected"),
            ("bridge.gateway_mode_ipv6", "routed"),
        ]);
        let expected = BridgeOptions {
            interface: Some("web0".into()),
            mtu: Some(1400),
            icc: false,
            masquerade: false,
            host_binding: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            prefix: Some("web".into()),
            host_address: Some(Ipv4Addr::new(192, 0, 2, 9)),
            mode: GatewayMode::Unprotected,
            ipv6_mode: GatewayMode::Routed,
        };
        assert_eq!(good.unwrap(), expected);
        assert_eq!(
            read(&[("bridge.enable_icc", "maybe")]).unwrap_err().to_string(),
            "failed to parse com.docker.network.bridge.enable_icc value: maybe \
             (strconv.ParseBool: parsing \"maybe\": invalid syntax)"
        );
        for bad in ["lo", "..", "a/b", "a b", "sixteen-letters-"] {
            assert!(read(&[("bridge.name", bad)]).is_err(), "{bad}");
        }
        assert!(read(&[("driver.mtu", "1")]).is_err());
        assert_eq!(
            read(&[("bridge.gateway_mode_ipv4", "open")]).unwrap_err().to_string(),
            "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: open (unknown gateway mode open)"
        );
        let isolated = read(&[("bridge.gateway_mode_ipv6", "isolated")]).unwrap();
        assert!(isolated.check(true).is_ok());
        assert_eq!(
            isolated.check(false).unwrap_err().to_string(),
            "gateway mode 'isolated' can only be used for an internal network"
        );
    }
}
