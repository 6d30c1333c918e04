//! Which rules there are to be: the layout of moby 28's `libnetwork/drivers/bridge/internal/iptabler`, with the userland
//! proxy on. Rules are written as `iptables-save` writes them, so that they are recognised.
//!
//! One thing is less: Docker drops packets that are addressed directly to any container (table raw) for each endpoint; here
//! only containers with published ports have that rule. For the others, chain DOCKER drops the same packets.

use crate::{
    Endpoint, Protocol,
    bridge_options::GatewayMode,
    definition::{Bridge, Definition},
    networks::State,
    publish::Published,
};
use ipnet::IpNet;
use std::{collections::HashSet, net::IpAddr};

/// Tables in the order in which they are written.
pub(super) const TABLES: [Table; 3] = [Table::Filter, Table::Nat, Table::Raw];

/// For rules of the machine's owner: we make it and never touch what is in it.
pub(super) const USER_CHAIN: &str = "DOCKER-USER";

/// Chains that hold nothing but our rules.
pub(super) const OWN_CHAINS: [(Table, &str); 7] = [
    (Table::Filter, "DOCKER"),
    (Table::Filter, "DOCKER-BRIDGE"),
    (Table::Filter, "DOCKER-CT"),
    (Table::Filter, "DOCKER-FORWARD"),
    (Table::Filter, "DOCKER-ISOLATION-STAGE-1"),
    (Table::Filter, "DOCKER-ISOLATION-STAGE-2"),
    (Table::Nat, "DOCKER"),
];

/// A table of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Filter,
    Nat,
    Raw,
}

impl Table {
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Raw => "raw",
        }
    }
}

/// Where in its chain a new rule is put: before all that are there, or behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Head,
    Tail,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    pub table: Table,
    pub chain: &'static str,
    pub place: Place,
    pub spec: String,
}

/// Gathers rules, each once.
#[derive(Default)]
struct Rules {
    rules: Vec<Rule>,
    known: HashSet<Rule>,
}

impl Rules {
    fn add(&mut self, table: Table, chain: &'static str, place: Place, spec: impl Into<String>) {
        let rule = Rule { table, chain, place, spec: spec.into() };
        if self.known.insert(rule.clone()) {
            self.rules.push(rule);
        }
    }

    fn filter(&mut self, chain: &'static str, place: Place, spec: impl Into<String>) {
        self.add(Table::Filter, chain, place, spec);
    }
}

/// Which packets a firewall sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1/128",
        }
    }

    fn icmp(self) -> &'static str {
        match self {
            Self::V4 => "icmp",
            Self::V6 => "ipv6-icmp",
        }
    }

    /// What of a bridge network these packets are of; nothing if it has no such addresses.
    fn side(self, bridge: &Bridge) -> Option<Side<'_>> {
        if bridge.macvlan.is_some() {
            return None;
        }
        let interface = bridge.interface.as_str();
        Some(match self {
            Self::V4 => {
                let become_host = bridge.host_address.map(|address| format!("SNAT --to-source {address}"));
                Side {
                    family: self,
                    interface,
                    subnet: bridge.ipv4_subnet()?.into(),
                    mode: bridge.mode,
                    become_host,
                }
            }
            Self::V6 => {
                let ipv6 = bridge.ipv6.as_ref()?;
                Side {
                    family: self,
                    interface,
                    subnet: ipv6.subnet.into(),
                    mode: ipv6.mode,
                    become_host: None,
                }
            }
        })
    }
}

/// A bridge network as the firewall of one family sees it.
struct Side<'a> {
    family: Family,
    interface: &'a str,
    subnet: IpNet,
    mode: GatewayMode,
    /// Another way to hide addresses than `MASQUERADE`.
    become_host: Option<String>,
}

/// All rules, for the networks and published ports that there are. None of IPv6 as long as no network has it.
pub(super) fn wanted(state: &State, family: Family) -> Vec<Rule> {
    use Place::{Head, Tail};
    let side = |definition: &Definition| definition.bridge.as_ref().is_some_and(|b| family.side(b).is_some());
    if family == Family::V6 && !state.networks.iter().any(|network| side(&network.definition)) {
        return vec![];
    }
    let mut rules = Rules::default();
    rules.filter("FORWARD", Head, "-j DOCKER-FORWARD");
    rules.filter("FORWARD", Head, "-j DOCKER-USER");
    for chain in ["DOCKER-CT", "DOCKER-ISOLATION-STAGE-1", "DOCKER-BRIDGE"] {
        rules.filter("DOCKER-FORWARD", Tail, format!("-j {chain}"));
    }
    rules.add(Table::Nat, "PREROUTING", Tail, "-m addrtype --dst-type LOCAL -j DOCKER");
    let outside = format!("! -d {} -m addrtype --dst-type LOCAL -j DOCKER", family.loopback());
    rules.add(Table::Nat, "OUTPUT", Tail, outside);
    for network in &state.networks {
        if let Some(bridge) = &network.definition.bridge
            && let Some(side) = family.side(bridge)
        {
            add_network(&mut rules, &network.definition, bridge, &side);
        }
    }
    let mut containers: Vec<_> =
        state.containers.iter().filter(|(_, known)| !known.published.is_empty()).collect();
    containers.sort_by_key(|(id, _)| *id);
    for (id, known) in containers {
        for published in &known.published {
            let Some(target) = published.target() else { continue };
            let has = |endpoint: &&Endpoint| match target {
                IpAddr::V4(target) => endpoint.address == Some(target),
                IpAddr::V6(target) => endpoint.ipv6.as_ref().is_some_and(|ipv6| ipv6.address == target),
            };
            let endpoint = state.endpoints_of(id).find(has);
            let network = endpoint.and_then(|endpoint| state.network(&endpoint.network_id));
            let bridge = network.and_then(|network| network.definition.bridge.as_ref());
            let Some(side) = bridge.and_then(|bridge| family.side(bridge)) else { continue };
            if side.subnet.contains(&target) {
                add_port(&mut rules, published, target, &side);
            }
        }
    }
    rules.rules
}

fn add_network(rules: &mut Rules, definition: &Definition, bridge: &Bridge, side: &Side<'_>) {
    use Place::{Head, Tail};
    let (br, subnet) = (side.interface, side.subnet);
    if definition.internal {
        let verdict = if bridge.icc { "ACCEPT" } else { "DROP" };
        rules.filter("DOCKER-FORWARD", Tail, format!("-i {br} -o {br} -j {verdict}"));
        rules.filter("DOCKER-ISOLATION-STAGE-1", Head, format!("! -d {subnet} -i {br} -j DROP"));
        rules.filter("DOCKER-ISOLATION-STAGE-1", Head, format!("! -s {subnet} -o {br} -j DROP"));
        return;
    }
    let routed = side.mode == GatewayMode::Routed;
    if bridge.masquerade {
        let become_host = side.become_host.as_deref().unwrap_or("MASQUERADE");
        if !routed {
            rules.add(Table::Nat, "POSTROUTING", Head, format!("-s {subnet} ! -o {br} -j {become_host}"));
        }
        rules.add(Table::Nat, "DOCKER", Head, format!("-i {br} -j RETURN"));
    }
    if bridge.icc {
        rules.filter("DOCKER-FORWARD", Tail, format!("-i {br} -j ACCEPT"));
    } else {
        rules.filter("DOCKER-FORWARD", Tail, format!("-i {br} -o {br} -j DROP"));
        rules.filter("DOCKER-FORWARD", Tail, format!("-i {br} ! -o {br} -j ACCEPT"));
    }
    if routed {
        rules.filter("DOCKER", Head, format!("-o {br} -p {} -j ACCEPT", side.family.icmp()));
        // What is for one of its ports may come from other networks, too; chain DOCKER drops the rest.
        rules.filter("DOCKER-ISOLATION-STAGE-1", Head, format!("-o {br} -j RETURN"));
        let answers = format!("-i {br} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        rules.filter("DOCKER-ISOLATION-STAGE-1", Head, answers);
    }
    let unprotected = side.mode == GatewayMode::Unprotected;
    let unasked = if unprotected { "ACCEPT" } else { "DROP" };
    rules.filter("DOCKER", Tail, format!("! -i {br} -o {br} -j {unasked}"));
    rules.filter("DOCKER-CT", Tail, format!("-o {br} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
    rules.filter("DOCKER-BRIDGE", Tail, format!("-o {br} -j DOCKER"));
    rules.filter("DOCKER-ISOLATION-STAGE-1", Tail, format!("-i {br} ! -o {br} -j DOCKER-ISOLATION-STAGE-2"));
    rules.filter("DOCKER-ISOLATION-STAGE-2", Head, format!("-o {br} -j DROP"));
}

fn add_port(rules: &mut Rules, published: &Published, target: IpAddr, side: &Side<'_>) {
    let (br, binding) = (side.interface, published.binding());
    let host = binding.host_ip;
    // Neighbours that have no other address reach the proxy: nothing is forwarded for them.
    let (bits, to_target, from) = match target {
        IpAddr::V4(_) => (32, target.to_string(), ""),
        IpAddr::V6(_) => (128, format!("[{target}]"), "! -s fe80::/10 "),
    };
    let protocol = match binding.protocol {
        Protocol::Tcp => "-p tcp -m tcp",
        Protocol::Udp => "-p udp -m udp",
    };
    let (port, inner) = (binding.host_port, binding.container_port);
    let unprotected = side.mode == GatewayMode::Unprotected;
    if !unprotected {
        let spec = format!("-d {target}/{bits} ! -i {br} -o {br} {protocol} --dport {inner} -j ACCEPT");
        rules.filter("DOCKER", Place::Head, spec);
    }
    // Not of the node: at the container's own address only.
    if port == 0 {
        return;
    }
    if !unprotected {
        rules.add(Table::Raw, "PREROUTING", Place::Tail, format!("-d {target}/{bits} ! -i {br} -j DROP"));
    }
    // Of IPv6 nothing comes from outside to that address anyway.
    if host.is_loopback() && host.is_ipv4() {
        let spec = format!("-d {host}/{bits} ! -i lo {protocol} --dport {port} -j DROP");
        rules.add(Table::Raw, "PREROUTING", Place::Tail, spec);
    }
    let to = if host.is_unspecified() { String::new() } else { format!("-d {host}/{bits} ") };
    let spec =
        format!("{from}{to}! -i {br} {protocol} --dport {port} -j DNAT --to-destination {to_target}:{inner}");
    rules.add(Table::Nat, "DOCKER", Place::Tail, spec);
}

/// Whether a rule in a chain that is not ours (`CHAIN rule`, as `iptables-save` prints it) was laid by us, perhaps by an
/// earlier process for a network that is no more.
pub(super) fn is_ours(table: Table, text: &str, wanted: &[Rule]) -> bool {
    let Some((chain, spec)) = text.split_once(' ') else { return false };
    if wanted.iter().any(|rule| rule.table == table && rule.chain == chain && rule.spec == spec) {
        return !OWN_CHAINS.contains(&(table, chain)) && chain != USER_CHAIN;
    }
    match (table, chain) {
        (Table::Filter, "FORWARD") => matches!(spec, "-j DOCKER-USER" | "-j DOCKER-FORWARD"),
        (Table::Nat, "PREROUTING" | "OUTPUT") => spec.ends_with(" -j DOCKER"),
        (Table::Nat, "POSTROUTING") => {
            let becomes_host = spec.ends_with(" -j MASQUERADE") || spec.contains(" -j SNAT --to-source ");
            becomes_host && excludes_bridge(spec, "! -o ")
        }
        (Table::Raw, "PREROUTING") => {
            spec.ends_with(" -j DROP") && (excludes_bridge(spec, "! -i ") || spec.starts_with("-d 127."))
        }
        _ => false,
    }
}

/// Whether the rule is for all interfaces but one of our bridges.
fn excludes_bridge(spec: &str, exclusion: &str) -> bool {
    let name = spec.split_once(exclusion).and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
    let generated = |id: &str| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit());
    name == "docker0" || name.strip_prefix("br-").is_some_and(generated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::Network;

    fn network(name: &str, interface: &str, subnet: &str, internal: bool, icc: bool) -> Network {
        let bridge = serde_json::json!({
            "interface": interface, "subnet": subnet, "range": null, "reserved": [], "mtu": null, "icc": icc,
            "gateway": "192.0.2.1", "masquerade": true, "host_binding": null,
        });
        let definition = serde_json::json!({
            "id": name, "name": name, "created": "", "driver": "bridge", "internal": internal, "attachable": false,
            "ipam_options": null, "ipam": [], "options": {}, "labels": {}, "bridge": bridge,
        });
        Network::new(serde_json::from_value(definition).unwrap())
    }

    /// The chain as it stands after all rules have been laid one by one.
    fn chain(rules: &[Rule], table: Table, chain: &str) -> Vec<String> {
        let of =
            |place| rules.iter().filter(move |r| r.table == table && r.chain == chain && r.place == place);
        let heads: Vec<&Rule> = of(Place::Head).collect();
        heads.into_iter().rev().chain(of(Place::Tail)).map(|rule| rule.spec.clone()).collect()
    }

    #[test]
    fn the_layout_is_dockers() {
        let mut state = State::default();
        state.networks.push(network("bridge", "docker0", "172.17.0.0/16", false, true));
        state.networks.push(network("noicc", "br-0123456789ab", "172.18.0.0/16", false, false));
        state.networks.push(network("closed", "br-closed", "192.0.2.0/24", true, true));
        let rules = wanted(&state, Family::V4);
        assert_eq!(chain(&rules, Table::Filter, "FORWARD"), ["-j DOCKER-USER", "-j DOCKER-FORWARD"]);
        let expected = [
            "-j DOCKER-CT",
            "-j DOCKER-ISOLATION-STAGE-1",
            "-j DOCKER-BRIDGE",
            "-i docker0 -j ACCEPT",
            "-i br-0123456789ab -o br-0123456789ab -j DROP",
            "-i br-0123456789ab ! -o br-0123456789ab -j ACCEPT",
            "-i br-closed -o br-closed -j ACCEPT",
        ];
        assert_eq!(chain(&rules, Table::Filter, "DOCKER-FORWARD"), expected);
        let expected = [
            "! -s 192.0.2.0/24 -o br-closed -j DROP",
            "! -d 192.0.2.0/24 -i br-closed -j DROP",
            "-i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2",
            "-i br-0123456789ab ! -o br-0123456789ab -j DOCKER-ISOLATION-STAGE-2",
        ];
        assert_eq!(chain(&rules, Table::Filter, "DOCKER-ISOLATION-STAGE-1"), expected);
        assert_eq!(
            chain(&rules, Table::Nat, "POSTROUTING"),
            [
                "-s 172.18.0.0/16 ! -o br-0123456789ab -j MASQUERADE",
                "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"
            ]
        );
    }

    #[test]
    fn a_network_may_be_seen_under_an_address_of_its_own() {
        let mut state = State::default();
        let mut seen = network("seen", "br-0123456789ab", "172.18.0.0/16", false, true);
        let bridge = seen.definition.bridge.as_mut();
        bridge.unwrap().host_address = Some("192.0.2.9".parse().unwrap());
        state.networks.push(seen);
        assert_eq!(
            chain(&wanted(&state, Family::V4), Table::Nat, "POSTROUTING"),
            ["-s 172.18.0.0/16 ! -o br-0123456789ab -j SNAT --to-source 192.0.2.9"]
        );
    }

    #[test]
    fn an_unprotected_network_is_open() {
        let mut state = State::default();
        let mut open = network("open", "br-0123456789ab", "172.18.0.0/16", false, true);
        open.definition.bridge.as_mut().unwrap().mode = GatewayMode::Unprotected;
        state.networks.push(open);
        let expected = ["! -i br-0123456789ab -o br-0123456789ab -j ACCEPT"];
        assert_eq!(chain(&wanted(&state, Family::V4), Table::Filter, "DOCKER"), expected);
    }

    #[test]
    fn ipv6_has_the_same_rules_once_a_network_has_it() {
        let mut state = State::default();
        state.networks.push(network("bridge", "docker0", "172.17.0.0/16", false, true));
        assert_eq!(wanted(&state, Family::V6), []);
        let mut six = network("six", "br-0123456789ab", "172.18.0.0/16", false, true);
        six.definition.bridge.as_mut().unwrap().ipv6 = serde_json::from_value(serde_json::json!({
            "subnet": "2001:db8::/64", "range": null, "gateway": "2001:db8::1", "reserved": [], "mode": "routed",
        }))
        .unwrap();
        state.networks.push(six);
        let rules = wanted(&state, Family::V6);
        let outside = ["! -d ::1/128 -m addrtype --dst-type LOCAL -j DOCKER"];
        assert_eq!(chain(&rules, Table::Nat, "OUTPUT"), outside);
        assert_eq!(chain(&rules, Table::Nat, "POSTROUTING"), Vec::<String>::new());
        let docker =
            ["-o br-0123456789ab -p ipv6-icmp -j ACCEPT", "! -i br-0123456789ab -o br-0123456789ab -j DROP"];
        assert_eq!(chain(&rules, Table::Filter, "DOCKER"), docker);
        let bridge = state.networks[1].definition.bridge.as_mut().unwrap();
        bridge.ipv6.as_mut().unwrap().mode = GatewayMode::Nat;
        let hidden = ["-s 2001:db8::/64 ! -o br-0123456789ab -j MASQUERADE"];
        assert_eq!(chain(&wanted(&state, Family::V6), Table::Nat, "POSTROUTING"), hidden);
    }

    #[test]
    fn a_routed_network_is_reached_by_its_own_addresses() {
        let mut state = State::default();
        let mut routed = network("routed", "br-0123456789ab", "172.18.0.0/16", false, true);
        routed.definition.bridge.as_mut().unwrap().mode = GatewayMode::Routed;
        state.networks.push(routed);
        let rules = wanted(&state, Family::V4);
        assert!(chain(&rules, Table::Nat, "POSTROUTING").is_empty());
        let expected =
            ["-o br-0123456789ab -p icmp -j ACCEPT", "! -i br-0123456789ab -o br-0123456789ab -j DROP"];
        assert_eq!(chain(&rules, Table::Filter, "DOCKER"), expected);
        let expected = [
            "-i br-0123456789ab -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-o br-0123456789ab -j RETURN",
            "-i br-0123456789ab ! -o br-0123456789ab -j DOCKER-ISOLATION-STAGE-2",
        ];
        assert_eq!(chain(&rules, Table::Filter, "DOCKER-ISOLATION-STAGE-1"), expected);
    }

    #[test]
    fn our_rules_are_recognised() {
        let ours = |table, text| is_ours(table, text, &[]);
        assert!(ours(Table::Nat, "POSTROUTING -s 172.19.0.0/16 ! -o br-0123456789ab -j MASQUERADE"));
        assert!(ours(
            Table::Nat,
            "POSTROUTING -s 172.19.0.0/16 ! -o br-0123456789ab -j SNAT --to-source 192.0.2.9"
        ));
        assert!(!ours(Table::Nat, "POSTROUTING -s 172.19.0.0/16 ! -o br-lan -j MASQUERADE"));
        assert!(ours(Table::Raw, "PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP"));
        assert!(!ours(Table::Raw, "PREROUTING -i docker0 -j DROP"));
        assert!(!ours(Table::Filter, "DOCKER -j DROP"));
    }
}
