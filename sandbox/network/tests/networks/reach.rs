//! Who reaches whom.

use crate::world::{
    Process, ask, connects, echo_server, echo_server6, id_of, node, outside, ping, request, sh,
};
use drydock_network::{
    EndpointRequest, IpamConfig, Kind, NewNetwork,
    inspect::{EndpointState, NetworkContainer},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

#[test]
fn containers_of_the_default_bridge() {
    node(async |world| {
        let link = sh("ip -br link show docker0");
        assert!(link.starts_with("docker0"), "{link}");
        assert!(sh("ip -br -4 addr show docker0").contains("172.17.0.1/16"));
        let (a, b) = (world.start("a", &["bridge"]), world.start("b", &["bridge"]));
        assert_eq!((a.address(), b.address()), (Ipv4Addr::new(172, 17, 0, 2), Ipv4Addr::new(172, 17, 0, 3)));
        let to = b.address();
        assert!(a.process.run(move || ping(to)), "container to container");
        assert!(a.process.run(|| ping(Ipv4Addr::new(172, 17, 0, 1))), "container to node");
        assert!(ping(to), "node to container");
        let inside = a.process.sh("ip addr show eth0; ip route");
        assert!(inside.starts_with("2: eth0@if"), "{inside}");
        assert!(inside.contains(&format!("link/ether {}", a.endpoints[0].mac.unwrap())), "{inside}");
        assert!(inside.contains("inet 172.17.0.2/16 brd 172.17.255.255"), "{inside}");
        assert!(inside.contains("default via 172.17.0.1 dev eth0"), "{inside}");
        assert!(!inside.contains("inet6"), "{inside}");
        assert!(a.process.sh("ip addr show lo").contains("inet6 ::1"));
        let host = &a.endpoints[0].host_interface;
        assert!(host.len() == 11 && sh(&format!("ip link show {host}")).contains("master docker0"));

        let shown = &world.networks.find("bridge").unwrap().containers[&a.id];
        let expected = NetworkContainer {
            name: "a".into(),
            endpoint_id: a.endpoints[0].id.clone(),
            mac_address: a.endpoints[0].mac.unwrap().to_string(),
            ipv4_address: "172.17.0.2/16".into(),
            ipv6_address: String::new(),
        };
        assert_eq!(shown, &expected);
        world.networks.release_container(&a.id).await.unwrap();
        let c = world.start("c", &["bridge"]);
        assert_eq!(c.address(), a.address(), "the first free address");
        assert!(sh("cat /proc/sys/net/ipv4/ip_forward").starts_with('1'));
    });
}

#[test]
fn networks_are_apart_and_reach_the_outside() {
    node(async |world| {
        let outside = outside();
        outside.run(|| echo_server(80));
        world.network("front").await;
        world.network("back").await;
        let (a, b) = (world.start("a", &["front"]), world.start("b", &["front"]));
        let (c, d) = (world.start("c", &["back"]), world.start("d", &["bridge"]));
        assert_eq!((a.address(), c.address()), (Ipv4Addr::new(172, 18, 0, 2), Ipv4Addr::new(172, 19, 0, 2)));
        for container in [&b, &c, &d] {
            container.process.run(|| echo_server(80));
        }
        let reached = |to: Ipv4Addr| a.process.run(move || (ping(to), connects((to, 80))));
        assert_eq!(reached(b.address()), (true, true));
        assert_eq!(reached(c.address()), (false, false), "another network");
        assert_eq!(reached(d.address()), (false, false), "the default network");
        let answer = a.process.run(|| crate::world::ask("203.0.113.1:80".parse().unwrap(), "out").unwrap());
        assert_eq!(answer, "203.0.113.2 OUT", "the outside sees the node's address");
        // Nobody outside gets in unasked, even with a route.
        outside.sh("ip route add 172.16.0.0/12 via 203.0.113.2");
        let to = b.address();
        assert!(!outside.run(move || connects((to, 80))));
    });
}

#[test]
fn internal_networks_have_no_way_out() {
    node(async |world| {
        let _outside = outside();
        let new = NewNetwork { name: "closed".into(), internal: true, ..NewNetwork::default() };
        world.networks.create(new).await.unwrap();
        let (a, b, c) =
            (world.start("a", &["closed"]), world.start("b", &["closed"]), world.start("c", &["bridge"]));
        assert_eq!(a.endpoints[0].gateway, None);
        assert_eq!(a.process.sh("ip route show default"), "");
        // Even with a route of its own making.
        a.process.sh("ip route add default via 172.18.0.1");
        let reached = |to: Ipv4Addr| a.process.run(move || ping(to));
        assert!(reached(b.address()));
        assert!(!reached(c.address()));
        assert!(!reached(Ipv4Addr::new(203, 0, 113, 1)));
    });
}

#[test]
fn containers_may_be_kept_from_each_other() {
    node(async |world| {
        let _outside = outside();
        let options = [("com.docker.network.bridge.enable_icc".into(), "false".into())].into();
        world
            .networks
            .create(NewNetwork { name: "strict".into(), options, ..NewNetwork::default() })
            .await
            .unwrap();
        let (a, b) = (world.start("a", &["strict"]), world.start("b", &["strict"]));
        let to = b.address();
        assert!(!a.process.run(move || ping(to)));
        assert!(a.process.run(|| ping(Ipv4Addr::new(203, 0, 113, 1))));
    });
}

#[test]
fn networks_as_they_are_asked_for() {
    node(async |world| {
        let ipam = IpamConfig {
            subnet: "10.7.0.0/24".into(),
            ip_range: "10.7.0.128/25".into(),
            gateway: "10.7.0.254".into(),
            auxiliary: [("printer".to_owned(), "10.7.0.128".to_owned())].into(),
        };
        let options = [
            ("com.docker.network.bridge.name".to_owned(), "web0".to_owned()),
            ("com.docker.network.driver.mtu".to_owned(), "1400".to_owned()),
        ];
        let new = NewNetwork {
            name: "web".into(),
            ipam: vec![ipam.clone()],
            options: options.into(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            ..NewNetwork::default()
        };
        let id = world.networks.create(new).await.unwrap();
        let a = world.start("a", &["web"]);
        assert_eq!(a.address(), Ipv4Addr::new(10, 7, 0, 129));
        let wanted = |name: &str, address: &str, mac: &str| EndpointRequest {
            address: Some(address.into()),
            mac: Some(mac.into()),
            ..request(name, &id[..8])
        };
        let b = world.start_as("b", vec![wanted("b", "10.7.0.200", "02:00:00:00:00:07")]);
        let inside = b.process.sh("ip addr show eth0");
        assert!(
            inside.contains("mtu 1400")
                && inside.contains("10.7.0.200/24")
                && inside.contains("02:00:00:00:00:07")
        );
        assert!(
            sh("ip addr show web0").contains("mtu 1400") && sh("ip addr show web0").contains("10.7.0.254/24")
        );
        let to = b.address();
        assert!(a.process.run(move || ping(to)));
        let shown = serde_json::to_value(world.networks.find("web").unwrap()).unwrap();
        assert_eq!(shown["IPAM"]["Config"][0], serde_json::to_value(&ipam).unwrap());
        assert_eq!(shown["IPAM"]["Config"][0]["IPRange"], "10.7.0.128/25");
        assert_eq!((&shown["Labels"]["k"], &shown["EnableIPv6"]), (&"v".into(), &false.into()));

        // The range is for those who ask for nothing.
        let low = world.start_as("low", vec![wanted("low", "10.7.0.10", "")]);
        assert_eq!(low.address(), Ipv4Addr::new(10, 7, 0, 10));

        let refusal = |request| world.networks.reserve(&request).unwrap_err();
        for taken in ["10.7.0.10", "10.7.0.254", "10.7.0.255", "10.7.0.0"] {
            assert_eq!(refusal(wanted("c", taken, "")).to_string(), "Address already in use", "{taken}");
        }
        assert_eq!(refusal(wanted("c", "10.7.0.200", "")).to_string(), "Address already in use");
        assert_eq!(
            refusal(wanted("c", "10.8.0.2", "")).to_string(),
            "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.8.0.2"
        );
        let on_bridge =
            EndpointRequest { network: "bridge".into(), has_aliases: true, ..wanted("c", "172.17.0.9", "") };
        assert_eq!(
            refusal(on_bridge).to_string(),
            "invalid endpoint settings:\n\
             * user specified IP address is supported on user defined networks only\n\
             * network-scoped alias is supported only for containers in user defined networks\n\
             * user specified IP address is supported only when connecting to networks with user configured subnets"
        );
        assert_eq!(refusal(wanted("c", "", "1:2")).to_string(), "invalid MAC address 1:2");
    });
}

#[test]
fn networks_are_shown_as_docker_shows_them() {
    node(async |world| {
        let shown = |name: &str| serde_json::to_string_pretty(&world.networks.find(name).unwrap()).unwrap();
        let bridge = world.networks.find("bridge").unwrap();
        let expected =
            include_str!("bridge.json").replace("ID", &bridge.id).replace("CREATED", &bridge.created);
        assert_eq!(shown("bridge"), expected.trim_end());
        assert!(shown("host").contains("\"Options\": null,\n    \"Config\": null"), "{}", shown("host"));
        assert!(shown("none").contains("\"Driver\": \"null\""));
        // The gateway that was not asked for is not shown.
        let ipam = vec![IpamConfig { subnet: "10.7.0.0/24".into(), ..IpamConfig::default() }];
        world.networks.create(NewNetwork { name: "n".into(), ipam, ..NewNetwork::default() }).await.unwrap();
        let config = serde_json::to_value(world.networks.find("n").unwrap().ipam.config).unwrap();
        assert_eq!(config, serde_json::json!([{"Subnet": "10.7.0.0/24"}]));

        let a = world.start("a", &["n"]);
        let state = EndpointState::from(&a.endpoints[0]);
        assert_eq!((state.gateway.as_str(), state.ip_address.as_str()), ("10.7.0.1", "10.7.0.2"));
        assert_eq!(state.dns_names.unwrap(), ["a", &a.id[..12]]);
    });
}

#[test]
fn refusals_are_in_dockers_words() {
    node(async |world| {
        world.network("n").await;
        let create = async |name: &str, subnet: &str| {
            let ipam = vec![IpamConfig { subnet: subnet.into(), ..IpamConfig::default() }];
            world
                .networks
                .create(NewNetwork { name: name.into(), ipam, ..NewNetwork::default() })
                .await
                .unwrap_err()
        };
        let taken = create("n", "10.0.0.0/24").await;
        assert_eq!(
            (taken.kind(), taken.to_string().as_str()),
            (Kind::Conflict, "network with name n already exists")
        );
        let overlap = create("m", "172.18.4.0/24").await;
        assert_eq!(overlap.kind(), Kind::Forbidden);
        assert_eq!(
            overlap.to_string(),
            "invalid pool request: Pool overlaps with other one on this address space"
        );
        assert_eq!(world.networks.find("m").unwrap_err().to_string(), "network m not found");

        let remove = async |name: &str| world.networks.remove(name).await.unwrap_err().to_string();
        assert_eq!(remove("bridge").await, "bridge is a pre-defined network and cannot be removed");
        assert_eq!(remove("nosuch").await, "network nosuch not found");
        let a = world.start("a", &["n"]);
        let endpoint = &a.endpoints[0].id[..12];
        assert_eq!(
            remove("n").await,
            format!(
                "error while removing network: network n has active endpoints (name:\"a\" id:\"{endpoint}\")"
            )
        );
        let again = world.networks.reserve(&request("a", "n")).unwrap_err();
        assert_eq!(again.to_string(), "endpoint with name a already exists in network n");
        world.networks.release("n", &a.id).unwrap();
        let bridge = format!("br-{}", &world.networks.find("n").unwrap().id[..12]);
        assert!(sh("ip -br link").contains(&bridge));
        world.networks.remove("n").await.unwrap();
        assert!(!sh("ip -br link").contains(&bridge));
        assert!(!sh("iptables-save").contains(&bridge), "its rules are gone");
    });
}

#[test]
fn subnets_avoid_what_the_node_reaches_otherwise() {
    node(async |world| {
        sh(
            "ip link add near type veth peer name far && ip addr add 172.18.9.1/24 dev near && ip link set near up \
            && ip link set far up",
        );
        world.network("n").await;
        assert!(sh("ip -br -4 addr").contains("172.19.0.1/16"), "{}", sh("ip -br -4 addr"));
    });
}

#[test]
fn running_containers_change_networks() {
    node(async |world| {
        world.network("zoo").await;
        world.network("alpha").await;
        let a = world.start("a", &["zoo"]);
        let other = world.start("other", &["alpha"]);
        let connect = |network: &str| {
            world.networks.reserve(&request("a", network)).unwrap();
            world.networks.plug_running(&a.id, a.process.pid()).unwrap();
        };
        connect("alpha");
        // The first by name has the default route.
        let routes = a.process.sh("ip route");
        assert!(routes.contains("default via 172.19.0.1 dev eth1"), "{routes}");
        let to = other.address();
        assert!(a.process.run(move || ping(to)));
        world.networks.release("alpha", &a.id).unwrap();
        assert!(!a.process.run(move || ping(to)));
        let routes = a.process.sh("ip route; ip -br link");
        assert!(routes.contains("default via 172.18.0.1 dev eth0") && !routes.contains("eth1"), "{routes}");
        world.networks.release("zoo", &a.id).unwrap();
        assert_eq!(a.process.sh("ip route"), "");
        connect("alpha");
        let routes = a.process.sh("ip route");
        assert!(routes.contains("default via 172.19.0.1 dev eth0"), "{routes}");
        assert_eq!(world.networks.endpoints(&a.id).len(), 1);
        let gone = world.networks.release("zoo", &a.id).unwrap_err();
        assert_eq!(gone.to_string(), format!("container {} is not connected to network zoo", a.id));
    });
}

#[test]
fn host_and_none_give_no_interface() {
    node(async |world| {
        let endpoint = world.networks.reserve(&request("a", "host")).unwrap();
        assert_eq!((endpoint.address, endpoint.mac), (None, None));
        let process = Process::start();
        assert_eq!(world.networks.plug(&id_of("a"), process.pid()).unwrap(), []);
        let shown = &world.networks.find("host").unwrap().containers[&id_of("a")];
        assert_eq!((shown.name.as_str(), shown.ipv4_address.as_str()), ("a", ""));
        world.networks.release_container(&id_of("a")).await.unwrap();
        assert!(world.networks.find("host").unwrap().containers.is_empty());
    });
}

#[test]
fn a_bridge_that_somebody_deleted_is_made_again() {
    node(async |world| {
        sh("ip link del docker0");
        let (a, b) = (world.start("a", &["bridge"]), world.start("b", &["bridge"]));
        b.process.run(|| echo_server(80));
        let to = SocketAddr::from((b.address(), 80));
        assert_eq!(a.process.run(move || crate::world::ask(to, "x").unwrap()), "172.17.0.2 X");
    });
}

#[test]
fn interfaces_are_called_and_set_as_it_is_asked_for() {
    node(async |world| {
        let options = [("com.docker.network.container_iface_prefix".to_owned(), "web".to_owned())].into();
        let new = NewNetwork { name: "prefixed".into(), options, ..NewNetwork::default() };
        world.networks.create(new).await.unwrap();
        world.networks.create(NewNetwork { name: "plain".into(), ..NewNetwork::default() }).await.unwrap();
        let a = world.start("a", &["prefixed", "plain"]);
        let names = a.process.sh("ip -o -4 addr show");
        assert!(names.contains("web0") && names.contains("eth0"), "{names}");
        let asked = EndpointRequest {
            interface: Some("foo0".into()),
            sysctls: vec!["net.ipv4.conf.IFNAME.log_martians=1".into()],
            ..request("b", "prefixed")
        };
        let b = world.start_as("b", vec![asked.clone()]);
        let inside = b.process.sh("ip -o -4 addr show foo0; cat /proc/sys/net/ipv4/conf/foo0/log_martians");
        assert!(inside.trim_end().ends_with("\n1"), "{inside}");
        let refused = EndpointRequest { interface: Some("a/b".into()), ..request("c", "prefixed") };
        assert_eq!(
            world.networks.reserve(&refused).unwrap_err().to_string(),
            "invalid interface name \"a/b\""
        );
        // Addresses are used again, link-layer addresses are not.
        let first = b.endpoints[0].clone();
        world.networks.release("prefixed", &b.id).unwrap();
        let again = world.networks.reserve(&asked).unwrap();
        assert!(again.address == first.address && again.mac != first.mac);
    });
}

#[test]
fn a_network_takes_its_configuration_from_another() {
    node(async |world| {
        let ipam = vec![IpamConfig { subnet: "10.77.0.0/24".into(), ..IpamConfig::default() }];
        let held = NewNetwork { name: "held".into(), ipam, config_only: true, ..NewNetwork::default() };
        world.networks.create(held.clone()).await.unwrap();
        let taken = NewNetwork { name: "taken".into(), config_from: "held".into(), ..NewNetwork::default() };
        world.networks.create(taken.clone()).await.unwrap();
        let shown = world.networks.find("taken").unwrap();
        assert_eq!((shown.driver, shown.config_from.network.as_str()), ("bridge", "held"));
        assert_eq!(shown.ipam.config.unwrap()[0].subnet, "10.77.0.0/24");
        assert_eq!(world.start("a", &["taken"]).address(), Ipv4Addr::new(10, 77, 0, 2));
        let shown = world.networks.find("held").unwrap();
        assert_eq!((shown.driver, shown.config_only), ("null", true));
        let refused = |error: drydock_network::Error| (error.kind(), error.to_string());
        assert_eq!(
            refused(world.networks.remove("held").await.unwrap_err()),
            (Kind::Forbidden, "configuration network \"held\" is in use".into())
        );
        assert_eq!(
            refused(world.networks.reserve(&request("b", "held")).unwrap_err()),
            (Kind::Forbidden, "cannot create endpoint on configuration-only network".into())
        );
        let missing = NewNetwork { name: "x".into(), config_from: "nope".into(), ..NewNetwork::default() };
        assert_eq!(
            refused(world.networks.create(missing).await.unwrap_err()),
            (Kind::NotFound, "configuration network \"nope\" does not exist".into())
        );
        let both = NewNetwork { name: "x".into(), ipam: held.ipam, ..taken };
        assert!(world.networks.create(both).await.unwrap_err().to_string().starts_with("user-specified"));
    });
}

/// Addresses are given out again at once, with another link-layer address: who knew the first learns of the second without a word of its own.
#[test]
fn neighbours_learn_who_has_an_address_now() {
    node(async |world| {
        let wish = NewNetwork { name: "app".into(), ipv6: true, ..NewNetwork::default() };
        world.networks.create(wish).await.unwrap();
        let client = world.start("client", &["app"]);
        for round in 0..3 {
            let server = world.start("server", &["app"]);
            world.networks.settle(&id_of("server")).await;
            let port = format!("/sys/class/net/{}/brport/state", server.endpoints[0].host_interface);
            // BR_STATE_FORWARDING; who asks by netlink brings it about.
            let state = sh(&format!("unshare -m sh -c 'mount -t sysfs sysfs /sys && cat {port}'"));
            assert_eq!(state.trim(), "3", "what it sends passes");
            server.process.run(|| {
                echo_server(80);
                echo_server6(81);
            });
            let (endpoint, six) = (&server.endpoints[0], server.endpoints[0].ipv6.as_ref().unwrap().address);
            let mac = endpoint.mac.unwrap().to_string();
            for to in [SocketAddr::from((server.address(), 80)), SocketAddr::from((six, 81))] {
                let known = format!("ip neigh show to {}", to.ip());
                let learns = async {
                    while !client.process.sh(&known).contains(&mac) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                // The first one is asked for.
                if round > 0 {
                    let learnt = tokio::time::timeout(Duration::from_secs(20), learns).await;
                    assert!(learnt.is_ok(), "{to} in round {round}: {}", client.process.sh("ip neigh"));
                }
                let answer = client.process.run(move || ask(to, "x"));
                assert!(answer.unwrap().ends_with(" X"), "{to}");
            }
            world.networks.release_container(&server.id).await.unwrap();
            drop(server);
            // The kernel puts off what it tells of an interface if it told of another less than a second ago; only then is the port late.
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
    });
}
