//! Networks with IPv6.

use crate::world::{World, echo_server6, node, request, sh, tcp};
use drydock_network::{EndpointRequest, IpamConfig, NewNetwork, Resolver, inspect::NetworkContainer};
use std::{
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpStream},
};

async fn network(world: &World, name: &str, subnet: &str) -> String {
    let ipam = match subnet {
        "" => vec![],
        subnet => vec![IpamConfig { subnet: subnet.into(), ..IpamConfig::default() }],
    };
    let new = NewNetwork { name: name.into(), ipv6: true, ipam, ..NewNetwork::default() };
    world.networks.create(new).await.unwrap()
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// What answers there. Asked more than once: whose address it is may first be told when the kernel asks again, after a second.
fn reached(to: SocketAddr) -> Option<String> {
    (0..4).find_map(|_| reached_at_once(to))
}

fn reached_at_once(to: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&to, crate::world::SHORT).ok()?;
    stream.set_read_timeout(Some(crate::world::PATIENCE)).ok()?;
    stream.write_all(b"hi").ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn containers_have_addresses_of_both_families_and_reach_each_other() {
    node(async |world| {
        let id = network(&world, "six", "2001:db8:1::/64").await;
        let shown = world.networks.find("six").unwrap();
        let subnets: Vec<String> = shown.ipam.config.unwrap().into_iter().map(|c| c.subnet).collect();
        assert_eq!(
            (subnets, shown.enable_ipv6),
            (vec!["2001:db8:1::/64".into(), "172.18.0.0/16".into()], true)
        );
        let (a, b) = (world.start("a", &["six"]), world.start("b", &["six", "bridge"]));
        let inside = a.process.sh("ip addr show eth0; ip -6 route");
        assert!(
            inside.contains("inet 172.18.0.2/16") && inside.contains("inet6 2001:db8:1::2/64"),
            "{inside}"
        );
        assert!(inside.contains("default via 2001:db8:1::1 dev eth0"), "{inside}");
        b.process.run(|| echo_server6(80));
        let to = SocketAddr::from((address("2001:db8:1::3"), 80));
        assert_eq!(a.process.run(move || reached(to)).as_deref(), Some("2001:db8:1::2 HI"));
        assert_eq!(reached(to).as_deref(), Some("2001:db8:1::1 HI"), "from the node");
        assert!(!b.process.sh("ip addr show eth1").contains("inet6"), "a network without IPv6");
        let shown = &world.networks.find("six").unwrap().containers[&a.id];
        let NetworkContainer { ipv6_address, .. } = shown;
        assert_eq!(ipv6_address, "2001:db8:1::2/64");

        world.networks.release_container(&a.id).await.unwrap();
        let wish = EndpointRequest { ipv6_address: Some("2001:db8:1::99".into()), ..request("c", "six") };
        let c = world.start_as("c", vec![wish]);
        assert_eq!(c.endpoints[0].ipv6.as_ref().unwrap().address, address("2001:db8:1::99"));
        let wish = EndpointRequest { ipv6_address: Some("2001:db8:2::99".into()), ..request("d", "six") };
        assert_eq!(
            world.networks.reserve(&wish).unwrap_err().to_string(),
            "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 2001:db8:2::99"
        );
        let again = drydock_network::Networks::open(world.config.clone()).unwrap();
        assert_eq!(again.find(&id).unwrap().ipam, world.networks.find(&id).unwrap().ipam);
    });
}

#[test]
fn subnets_that_nobody_names_are_local_and_apart() {
    node(async |world| {
        network(&world, "one", "").await;
        network(&world, "two", "").await;
        let config = |name: &str| world.networks.find(name).unwrap().ipam.config.unwrap();
        let (one, two) = (config("one"), config("two"));
        assert!(one[0].subnet == "172.18.0.0/16" && one[1].subnet.starts_with("fd"), "{one:?}");
        assert!(one[1].subnet.ends_with("::/64") && one[1].gateway.ends_with("::1"), "{one:?}");
        assert_ne!(one[1].subnet, two[1].subnet);
        let (a, b) = (world.start("a", &["one"]), world.start("b", &["two"]));
        b.process.run(|| echo_server6(80));
        let to = SocketAddr::from((b.endpoints[0].ipv6.as_ref().unwrap().address, 80));
        assert_eq!(a.process.run(move || reached(to)), None, "another network");
        let overlapping = NewNetwork {
            name: "three".into(),
            ipv6: true,
            ipam: vec![IpamConfig { subnet: one[1].subnet.clone(), ..IpamConfig::default() }],
            ..NewNetwork::default()
        };
        assert_eq!(
            world.networks.create(overlapping).await.unwrap_err().to_string(),
            "invalid pool request: Pool overlaps with other one on this address space"
        );
    });
}

#[test]
fn a_running_container_comes_into_and_goes_out_of_a_network_with_ipv6() {
    node(async |world| {
        network(&world, "six", "2001:db8:1::/64").await;
        let a = world.start("a", &["bridge"]);
        world.networks.reserve(&request("a", "six")).unwrap();
        world.networks.plug_running(&a.id, a.process.pid()).unwrap();
        let inside = a.process.sh("ip addr; ip -6 route");
        assert!(inside.contains("inet6 2001:db8:1::2/64"), "{inside}");
        assert!(inside.contains("default via 2001:db8:1::1"), "{inside}");
        world.networks.release("six", &a.id).unwrap();
        assert!(!a.process.sh("ip -6 route").contains("default"));
    });
}

#[test]
fn ports_lead_to_the_address_of_the_same_family() {
    node(async |world| {
        network(&world, "six", "2001:db8:1::/64").await;
        let a = world.start("a", &["six"]);
        a.process.run(|| echo_server6(80));
        world.networks.publish(&a.id, &[tcp(8080)]).await.unwrap();
        let asked = |text: &str| {
            let to: SocketAddr = text.parse().unwrap();
            tokio::task::spawn_blocking(move || reached(to))
        };
        assert_eq!(asked("[::1]:8080").await.unwrap().as_deref(), Some("2001:db8:1::1 HI"));
        assert_eq!(asked("127.0.0.1:8080").await.unwrap().as_deref(), Some("::ffff:172.18.0.1 HI"));
    });
}

#[test]
fn names_have_addresses_of_both_families() {
    node(async |world| {
        network(&world, "six", "2001:db8:1::/64").await;
        world.network("four").await;
        let (a, _b) = (world.start("a", &["six"]), world.start("b", &["six"]));
        world.networks.serve_names(&a.id, a.process.pid(), Resolver::default()).await.unwrap();
        use hickory_proto::rr::RecordType::{A, AAAA, PTR};
        let ask = async |name, kind| crate::names::ask(&a.process, name, kind).await.1;
        assert_eq!(ask("b.", A).await, ["172.18.0.3"]);
        assert_eq!(ask("b.", AAAA).await, ["2001:db8:1::3"]);
        assert_eq!(ask("b.six.", AAAA).await, ["2001:db8:1::3"]);
        let reverse = "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
        assert_eq!(ask(reverse, PTR).await, ["b.six."]);
        sh("ip -6 addr show dev lo");
    });
}

/// Not a single IPv4 address (`--ipv4=false`).
#[test]
fn networks_without_ipv4() {
    node(async |world| {
        let ipam = vec![IpamConfig { subnet: "2001:db8:2::/64".into(), ..IpamConfig::default() }];
        let new =
            NewNetwork { name: "six".into(), ipv4: Some(false), ipv6: true, ipam, ..NewNetwork::default() };
        let id = world.networks.create(new).await.unwrap();
        let shown = world.networks.find("six").unwrap();
        assert!(!shown.enable_ipv4 && shown.enable_ipv6);
        assert_eq!(shown.ipam.config.unwrap().len(), 1);
        assert!(!sh(&format!("ip addr show br-{}", &id[..12])).contains("inet "));
        let (a, b) = (world.start("a", &["six"]), world.start("b", &["six"]));
        assert_eq!(a.endpoints[0].address, None);
        let inside = a.process.sh("ip addr show eth0; ip -6 route");
        assert!(!inside.contains("inet ") && inside.contains("inet6 2001:db8:2::2/64"), "{inside}");
        assert!(inside.contains("default via 2001:db8:2::1 dev eth0"), "{inside}");
        b.process.run(|| echo_server6(80));
        let to = SocketAddr::from((address("2001:db8:2::3"), 80));
        assert_eq!(a.process.run(move || reached(to)).as_deref(), Some("2001:db8:2::2 HI"));
        let wanted = tcp(8080);
        let bindings = world.networks.publish(&b.id, &[wanted]).await.unwrap();
        assert_eq!(bindings.iter().map(|b| b.host_ip.to_string()).collect::<Vec<_>>(), ["::"]);
        let published = tokio::task::spawn_blocking(|| {
            let at = |text: &str| reached(SocketAddr::new(text.parse().unwrap(), 8080)).is_some();
            (at("::1"), at("127.0.0.1"))
        });
        assert_eq!(published.await.unwrap(), (true, false));
        world.networks.release_container(&b.id).await.unwrap();
        let c = world.start("c", &["six", "bridge"]);
        let routes = c.process.sh("ip route; ip -6 route");
        assert!(
            routes.contains("default via 172.17.0.1") && routes.contains("default via 2001:db8:2::1"),
            "{routes}"
        );
    });
}

/// As with IPv4: networks are apart, and what is published of a routed one is open at the container's own address.
#[test]
fn networks_with_ipv6_are_apart_unless_they_are_routed() {
    node(async |world| {
        let mode = "com.docker.network.bridge.gateway_mode_ipv6".to_owned();
        let new = NewNetwork {
            name: "routed".into(),
            ipv6: true,
            ipam: vec![IpamConfig { subnet: "2001:db8:1::/64".into(), ..IpamConfig::default() }],
            options: [(mode, "routed".to_owned())].into(),
            ..NewNetwork::default()
        };
        world.networks.create(new).await.unwrap();
        network(&world, "apart", "2001:db8:2::/64").await;
        network(&world, "other", "2001:db8:3::/64").await;
        let (a, b) = (world.start("a", &["routed"]), world.start("b", &["apart"]));
        let other = world.start("other", &["other"]);
        for container in [&a, &b] {
            container.process.run(|| echo_server6(80));
        }
        a.process.run(|| echo_server6(81));
        let bindings = world.networks.publish(&a.id, &[tcp(8080)]).await.unwrap();
        let shown = bindings.iter().map(|b| format!("{}:{}", b.host_ip, b.host_port)).collect::<Vec<_>>();
        assert_eq!(shown, [":::0", "0.0.0.0:8080"]);
        world.networks.publish(&b.id, &[tcp(8090)]).await.unwrap();
        let ask = |to: &str, port| {
            let to = SocketAddr::from((address(to), port));
            other.process.run(move || reached(to))
        };
        assert!(ask("2001:db8:1::2", 80).is_some(), "published by a routed network");
        assert_eq!(ask("2001:db8:1::2", 81), None, "not published");
        assert_eq!(ask("2001:db8:2::2", 80), None, "another network");
        // By the node's address the packets themselves are led there: the proxies have no turn meanwhile.
        assert!(reached(SocketAddr::from((address("2001:db8:3::1"), 8090))).is_some());
        let rules = sh("ip6tables-save -t nat");
        assert!(rules.contains("--dport 8090 -j DNAT --to-destination [2001:db8:2::2]:80"), "{rules}");
        world.networks.unpublish(&a.id).await.unwrap();
        assert_eq!(ask("2001:db8:1::2", 80), None, "published no more");
    });
}
