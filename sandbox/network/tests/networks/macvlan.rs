//! Containers with interfaces on one of the node's.

use crate::world::{Process, node, outside, ping, sh};
use drydock_network::{IpamConfig, NewNetwork, inspect::NetworkContainer};
use std::net::Ipv4Addr;

/// A network on `parent`, if one is named.
fn macvlan(name: &str, parent: &str, subnet: &str) -> NewNetwork {
    let ipam = IpamConfig { subnet: subnet.into(), ..IpamConfig::default() };
    let parent = Some(("parent".to_owned(), parent.to_owned())).filter(|(_, parent)| !parent.is_empty());
    NewNetwork {
        name: name.into(),
        driver: "macvlan".into(),
        ipam: vec![ipam],
        options: parent.into_iter().collect(),
        ..NewNetwork::default()
    }
}

#[test]
fn containers_are_machines_in_the_nodes_own_network() {
    node(async |world| {
        let _outside: Process = outside();
        let parent = "out";
        let mut lan = macvlan("lan", parent, "203.0.113.0/24");
        (lan.ipam[0].ip_range, lan.ipam[0].gateway) = ("203.0.113.64/26".into(), "203.0.113.1".into());
        world.networks.create(lan).await.unwrap();
        let (a, b) = (world.start("a", &["lan"]), world.start("b", &["lan"]));
        let shown = world.networks.find("lan").unwrap();
        assert_eq!((shown.driver, shown.options["parent"].as_str()), ("macvlan", parent));
        let expected = NetworkContainer {
            name: "a".into(),
            endpoint_id: a.endpoints[0].id.clone(),
            mac_address: a.endpoints[0].mac.unwrap().to_string(),
            ipv4_address: "203.0.113.64/24".into(),
            ipv6_address: String::new(),
        };
        assert_eq!(shown.containers[&a.id], expected);
        let to = b.address();
        assert!(a.process.run(move || ping(to)), "container to container");
        assert!(a.process.run(|| ping(Ipv4Addr::new(203, 0, 113, 1))), "container to the node's neighbour");
        let inside = a.process.sh("ip -d link show eth0; ip route");
        assert!(inside.contains("macvlan mode bridge"), "{inside}");
        assert!(inside.contains("default via 203.0.113.1 dev eth0"), "{inside}");
        assert!(!sh("iptables-save").contains("203.0.113."), "no rules are for it");
        world.networks.release("lan", &a.id).unwrap();
        assert_eq!(a.process.sh("ip link show eth0 2>&1 | grep -c 'does not exist'").trim(), "1");
        world.networks.release_container(&b.id).await.unwrap();
        world.networks.remove("lan").await.unwrap();
        assert!(sh(&format!("ip link show {parent}")).contains(parent), "the parent stays");
    });
}

#[test]
fn without_a_parent_they_reach_each_other_only() {
    node(async |world| {
        let id = world.networks.create(macvlan("alone", "", "198.51.100.0/24")).await.unwrap();
        let link = format!("dm-{}", &id[..12]);
        assert!(sh(&format!("ip link show {link}")).contains(&link));
        let (a, b) = (world.start("a", &["alone"]), world.start("b", &["alone"]));
        let to = b.address();
        assert_eq!(to, Ipv4Addr::new(198, 51, 100, 3));
        assert!(a.process.run(move || ping(to)));
        assert!(!a.process.sh("ip route").contains("default"));
        for container in [&a, &b] {
            world.networks.release_container(&container.id).await.unwrap();
        }
        world.networks.remove("alone").await.unwrap();
        assert!(!sh("ip link").contains(&link));
    });
}

#[test]
fn parents_that_can_not_be_are_refused_in_mobys_words() {
    node(async |world| {
        let refused = async |parent: &str, subnet: &str| {
            world.networks.create(macvlan("x", parent, subnet)).await.unwrap_err().to_string()
        };
        assert_eq!(
            refused("nowhere", "198.51.100.0/24").await,
            "invalid subinterface vlan name nowhere, example formatting is eth0.10"
        );
        assert!(refused("lo", "198.51.100.0/24").await.contains("not a valid macvlan parent"));
        world.networks.create(macvlan("one", "", "198.51.100.0/24")).await.unwrap();
        assert!(refused("", "198.51.100.0/25").await.contains("Pool overlaps"));
    });
}
