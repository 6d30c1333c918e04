//! Networks that are connected with the outside in other ways than by ports of the node.

use crate::world::{ask, echo_server, node, outside, ping, request, sh, tcp};
use drydock_network::{NewNetwork, inspect::port_map};

fn network(name: &str, mode: &str, internal: bool) -> NewNetwork {
    let option = "com.docker.network.bridge.gateway_mode_ipv4".to_owned();
    NewNetwork {
        name: name.into(),
        internal,
        options: [(option, mode.to_owned())].into(),
        ..NewNetwork::default()
    }
}

#[test]
fn published_ports_of_a_routed_network_are_open_at_the_containers_own_address() {
    node(async |world| {
        let outside = outside();
        world.networks.create(network("routed", "routed", false)).await.unwrap();
        world.network("other").await;
        let (a, other) = (world.start("a", &["routed"]), world.start("other", &["other"]));
        a.process.run(|| echo_server(80));
        a.process.run(|| echo_server(81));
        let wanted = tcp(8080);
        let bindings = world.networks.publish(&a.id, &[wanted]).await.unwrap();
        let shown = serde_json::to_string(&port_map([], &bindings)).unwrap();
        assert_eq!(shown, r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":""}]}"#);
        let to = a.address();
        outside.sh("ip route add 172.16.0.0/12 via 203.0.113.2");
        assert_eq!(outside.run(move || ask((to, 80).into(), "hi").unwrap()), "203.0.113.1 HI");
        assert!(outside.run(move || ping(to)));
        assert!(outside.run(move || ask((to, 81).into(), "hi").is_err()));
        assert!(ask(([127, 0, 0, 1], 8080).into(), "hi").is_err(), "no port of the node");
        assert!(other.process.run(move || ask((to, 80).into(), "hi").unwrap()).ends_with(" HI"));
        world.networks.unpublish(&a.id).await.unwrap();
        assert!(outside.run(move || ask((to, 80).into(), "hi").is_err()));
    });
}

#[test]
fn in_an_isolated_network_there_is_no_node() {
    node(async |world| {
        let refused = world.networks.create(network("x", "isolated", false)).await.unwrap_err().to_string();
        assert_eq!(refused, "gateway mode 'isolated' can only be used for an internal network");
        let id = world.networks.create(network("alone", "isolated", true)).await.unwrap();
        assert!(!sh(&format!("ip -4 addr show br-{}", &id[..12])).contains("inet "));
        let shown = world.networks.find("alone").unwrap().ipam.config.unwrap();
        assert!(shown[0].gateway.is_empty() && !shown[0].subnet.is_empty());
        let a = world.start_as("a", vec![request("a", "alone")]);
        let b = world.start("b", &["alone"]);
        assert_eq!(a.address().octets()[3], 1, "nobody else has the first address");
        let to = b.address();
        assert!(a.process.run(move || ping(to)));
        assert!(!ping(to));
    });
}
