//! Networks of the driver `macvlan`: containers get interfaces of their own on one of the node's (`-o parent=eth0`), as if they were
//! machines in its network. Without a parent they reach each other only. The checks and their words are those of moby's
//! `libnetwork/drivers/macvlan`.

use crate::{
    Networks, Result,
    bridge::accept,
    error::Kind,
    mac::Mac,
    networks::{State, short},
};
use drydock_runtime::netlink::{Batch, In, MacvlanMode, Peer};
use nix::{errno::Errno, net::if_::if_nametoindex};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs::File, os::fd::AsFd, sync::PoisonError};

/// What such a network is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Macvlan {
    pub parent: String,
    /// As `-o macvlan_mode` names it.
    pub mode: String,
    /// We have made the parent: nothing else is on it.
    pub alone: bool,
}

impl Macvlan {
    /// Reads the options of a network with this id.
    pub fn read(id: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let option = |name: &str| options.get(name).filter(|value| !value.is_empty()).cloned();
        let mode = option("macvlan_mode").unwrap_or_else(|| "bridge".into());
        if mode_of(&mode).is_none() {
            return Err(Kind::Internal.error(format!(
                "requested macvlan mode '{mode}' is not valid, 'bridge' mode is the macvlan driver default"
            )));
        }
        match option("parent") {
            Some(parent) if parent == "lo" => {
                Err(Kind::Internal.error("loopback interface is not a valid macvlan parent link"))
            }
            Some(parent) => Ok(Self { parent, mode, alone: false }),
            None => Ok(Self { parent: format!("dm-{}", short(id)), mode, alone: true }),
        }
    }

    /// As the kernel knows it.
    pub fn mode(&self) -> MacvlanMode {
        mode_of(&self.mode).unwrap_or(MacvlanMode::Bridge)
    }

    /// Whether another network keeps this one from the parent.
    pub fn check(&self, state: &State) -> Result<()> {
        for (other, bridge) in state.bridges() {
            let Some(theirs) = bridge.macvlan.as_ref().filter(|theirs| theirs.parent == self.parent) else {
                continue;
            };
            let (id, parent) = (&other.id, &self.parent);
            if self.mode == "passthru" {
                return Err(Kind::Internal.error(format!(
                    "cannot use mode passthru, macvlan network {id} is already using parent interface {parent}"
                )));
            }
            if theirs.mode == "passthru" {
                return Err(Kind::Internal.error(format!(
                    "macvlan network {id} is already using parent interface {parent} in mode passthru"
                )));
            }
        }
        Ok(())
    }
}

fn mode_of(name: &str) -> Option<MacvlanMode> {
    match name {
        "bridge" => Some(MacvlanMode::Bridge),
        "private" => Some(MacvlanMode::Private),
        "vepa" => Some(MacvlanMode::Vepa),
        "passthru" => Some(MacvlanMode::Passthrough),
        _ => None,
    }
}

impl Networks {
    /// The number of a network's parent. One of our own is a veth interface whose other end leads nowhere, since not every kernel has
    /// dummy interfaces.
    pub(crate) fn parent_index(&self, macvlan: &Macvlan) -> Result<u32> {
        let name = macvlan.parent.as_str();
        if let Ok(index) = if_nametoindex(name) {
            return Ok(index);
        }
        if !macvlan.alone {
            return Err(Kind::Internal.error(missing(name)));
        }
        let _once = self.shared.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        let here = File::open("/proc/thread-self/ns/net")
            .map_err(|e| crate::Error::io("open the node's network namespace", &e))?;
        let end = format!("dn-{}", name.trim_start_matches("dm-"));
        let peer = Peer { name: &end, index: 0, mac: Mac::random().0 };
        accept(Batch::new().veth(name, 0, None, &peer, In::Namespace(here.as_fd())).send(), Errno::EEXIST)?;
        let index = |name: &str| {
            if_nametoindex(name).map_err(|e| crate::Error::io(&format!("find {name}"), &e.into()))
        };
        Batch::new().up(index(&end)?).send()?;
        index(name)
    }
}

/// What is wrong with a parent that is not there: Docker would make it if it were named as a VLAN (`createVlanLink`).
fn missing(name: &str) -> String {
    let Some((parent, vlan)) = name.split_once('.') else {
        return format!("invalid subinterface vlan name {name}, example formatting is eth0.10");
    };
    match vlan.parse::<i64>() {
        _ if vlan.contains('.') => {
            format!(
                "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
            )
        }
        Err(_) => format!("unable to parse a valid vlan id from: {vlan} (ex. eth0.10 for vlan 10)"),
        Ok(_) if if_nametoindex(parent).is_err() => {
            format!("-o parent interface was not found on the host: {parent}")
        }
        Ok(1..=4094) => format!("failed to create {name} vlan link: operation not supported"),
        Ok(number) => format!("vlan id must be between 1-4094, received: {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused_in_mobys_words() {
        let read = |options: &[(&str, &str)]| {
            let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Macvlan::read(&"ab".repeat(32), &options)
        };
        let alone = Macvlan { parent: "dm-abababababab".into(), mode: "bridge".into(), alone: true };
        assert_eq!(read(&[]).unwrap(), alone);
        let passed = read(&[("parent", "eth0"), ("macvlan_mode", "passthru")]).unwrap();
        assert_eq!(
            (passed.parent.as_str(), passed.mode(), passed.alone),
            ("eth0", MacvlanMode::Passthrough, false)
        );
        assert_eq!(
            read(&[("parent", "lo")]).unwrap_err().to_string(),
            "loopback interface is not a valid macvlan parent link"
        );
        assert_eq!(
            read(&[("macvlan_mode", "l2")]).unwrap_err().to_string(),
            "requested macvlan mode 'l2' is not valid, 'bridge' mode is the macvlan driver default"
        );
    }

    #[test]
    fn a_missing_parent_is_told_in_mobys_words() {
        assert_eq!(missing("wan9"), "invalid subinterface vlan name wan9, example formatting is eth0.10");
        assert_eq!(missing("wan9.5"), "-o parent interface was not found on the host: wan9");
        assert_eq!(missing("lo.5000"), "vlan id must be between 1-4094, received: 5000");
    }
}
