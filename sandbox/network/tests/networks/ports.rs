//! Published ports: through the proxy and through the firewall.

use crate::world::{PATIENCE, SHORT, ask, ask_here, echo_server, node, outside, port, request, sh, tcp};
use drydock_network::{Binding, PortRequest, Protocol, inspect};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    thread,
    time::Duration,
};

#[test]
fn connections_find_their_way() {
    node(async |world| {
        let outside = outside();
        let a = world.start("a", &["bridge"]);
        a.process.run(|| echo_server(80));
        let bound = world.networks.publish(&a.id, &[tcp(8080)]).await.unwrap();
        let binding =
            |host_ip| Binding { protocol: Protocol::Tcp, host_ip, host_port: 8080, container_port: 80 };
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        assert_eq!(bound, [binding(v4), binding(v6)]);
        assert_eq!(world.networks.published(&a.id), bound);
        let map = serde_json::to_value(inspect::port_map(["80/tcp", "443/tcp"], &bound)).unwrap();
        let expected = serde_json::json!({
            "443/tcp": null,
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        });
        assert_eq!(map, expected);

        // By the proxy the container sees the bridge, by the firewall the client itself.
        assert_eq!(ask_here(([127, 0, 0, 1], 8080), "proxied").await.unwrap(), "172.17.0.1 PROXIED");
        assert_eq!(ask_here((Ipv6Addr::LOCALHOST, 8080), "six").await.unwrap(), "172.17.0.1 SIX");
        assert_eq!(ask_here(([203, 0, 113, 2], 8080), "own").await.unwrap(), "203.0.113.2 OWN");
        let answer = outside.run(|| ask("203.0.113.2:8080".parse().unwrap(), "out").unwrap());
        assert_eq!(answer, "203.0.113.1 OUT");
        // A container of another network asks the node.
        world.network("other").await;
        let b = world.start("b", &["other"]);
        let asking = b.process.begin(|| ask("203.0.113.2:8080".parse().unwrap(), "b").unwrap());
        let answer = tokio::task::spawn_blocking(|| asking.join().unwrap()).await.unwrap();
        assert_eq!(answer, "172.17.0.1 B");

        world.networks.unpublish(&a.id).await.unwrap();
        assert!(ask_here(([127, 0, 0, 1], 8080), "x").await.is_err());
        assert!(!sh("iptables-save").contains("8080"));
        drop(TcpListener::bind("0.0.0.0:8080").unwrap());
        world.networks.publish(&a.id, &[tcp(8080)]).await.unwrap();
        assert_eq!(ask_here(([127, 0, 0, 1], 8080), "again").await.unwrap(), "172.17.0.1 AGAIN");
    });
}

#[test]
fn packets_find_their_way() {
    node(async |world| {
        let outside = outside();
        let a = world.start("a", &["bridge"]);
        a.process.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:53").unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 65_536];
                while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let text = format!("{} {len}", from.ip());
                    socket.send_to(&[text.as_bytes(), &buffer[..len]].concat(), from).unwrap();
                }
            });
        });
        world.networks.publish(&a.id, &[port(Protocol::Udp, 5353, 53)]).await.unwrap();
        let asked = async |from: &'static str, to: &'static str, len: usize| {
            tokio::task::spawn_blocking(move || udp(from, to, len)).await.unwrap()
        };
        assert_eq!(asked("127.0.0.1:0", "127.0.0.1:5353", 3).await, "172.17.0.1 3xxx");
        assert_eq!(asked("[::1]:0", "[::1]:5353", 1).await, "172.17.0.1 1x");
        let large = asked("127.0.0.1:0", "127.0.0.1:5353", 9000).await;
        assert_eq!(large.len(), "172.17.0.1 9000".len() + 9000);
        let answer = outside.run(|| udp("0.0.0.0:0", "203.0.113.2:5353", 2));
        assert_eq!(answer, "203.0.113.1 2xx");
        // From a container to another address of the node: the answer comes from that address.
        world.network("other").await;
        let b = world.start("b", &["other"]);
        let asking = b.process.begin(|| udp("0.0.0.0:0", "203.0.113.2:5353", 1));
        let answer = tokio::task::spawn_blocking(|| asking.join().unwrap()).await.unwrap();
        assert_eq!(answer, "172.17.0.1 1x");
    });
}

/// Sends a packet and waits for the answer, from that address only.
fn udp(from: &str, to: &str, len: usize) -> String {
    let socket = UdpSocket::bind(from).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(to).unwrap();
    socket.send(&vec![b'x'; len]).unwrap();
    let mut buffer = vec![0; 65_536];
    let len = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[test]
fn conflicts_are_told_in_dockers_words() {
    node(async |world| {
        let (a, b) = (world.start("a", &["bridge"]), world.start("b", &["bridge"]));
        world.networks.publish(&a.id, &[tcp(8080)]).await.unwrap();
        let refusal = async |requests: &[PortRequest]| {
            world.networks.publish(&b.id, requests).await.unwrap_err().to_string()
        };
        assert_eq!(refusal(&[tcp(8080)]).await, "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let foreign = TcpListener::bind("0.0.0.0:8081").unwrap();
        assert_eq!(
            refusal(&[tcp(8082), tcp(8081)]).await,
            "failed to bind host port for 0.0.0.0:8081:172.17.0.3:80/tcp: address already in use"
        );
        // All or none: the first of the two is free again.
        world.networks.publish(&b.id, &[tcp(8082)]).await.unwrap();
        drop(foreign);
        world.networks.release_container(&a.id).await.unwrap();
        world.networks.publish(&b.id, &[tcp(8080)]).await.unwrap();
    });
}

#[test]
fn any_port_and_ranges() {
    node(async |world| {
        let a = world.start("a", &["bridge"]);
        let taken = TcpListener::bind("0.0.0.0:32768").unwrap();
        let any = world.networks.publish(&a.id, &[tcp(0)]).await.unwrap();
        assert_eq!(
            (any[0].host_port, any[1].host_port),
            (32_769, 32_769),
            "the one before belongs to somebody else"
        );
        let range = PortRequest { host_port_end: 9001, ..tcp(9000) };
        let first = world.networks.publish(&a.id, &[range]).await.unwrap();
        let second =
            world.networks.publish(&a.id, &[PortRequest { container_port: 81, ..range }]).await.unwrap();
        assert_eq!((first[0].host_port, second[0].host_port), (9000, 9001));
        drop(taken);
    });
}

#[test]
fn ports_follow_the_default_route() {
    node(async |world| {
        let outside = outside();
        world.network("zoo").await;
        world.network("alpha").await;
        let a = world.start("a", &["zoo"]);
        a.process.run(|| echo_server(80));
        world.networks.publish(&a.id, &[tcp(8080)]).await.unwrap();
        world.networks.reserve(&request("a", "alpha")).unwrap();
        world.networks.plug_running(&a.id, a.process.pid()).unwrap();
        world.networks.release("zoo", &a.id).unwrap();
        assert_eq!(ask_here(([127, 0, 0, 1], 8080), "x").await.unwrap(), "172.19.0.1 X");
        let answer = outside.run(|| ask("203.0.113.2:8080".parse().unwrap(), "out").unwrap());
        assert_eq!(answer, "203.0.113.1 OUT");
    });
}

#[test]
fn a_container_that_does_not_listen_closes_the_connection() {
    node(async |world| {
        let a = world.start("a", &["bridge"]);
        world.networks.publish(&a.id, &[tcp(8080)]).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, ask_here(([127, 0, 0, 1], 8080), "x")).await.unwrap();
        assert!(answer.is_err() || answer.is_ok_and(|text| text.is_empty()));
        // And the proxy goes on.
        a.process.run(|| echo_server(80));
        assert_eq!(ask_here(([127, 0, 0, 1], 8080), "x").await.unwrap(), "172.17.0.1 X");
        let to = SocketAddr::from(([127, 0, 0, 1], 8080));
        let many = (0..50).map(|_| tokio::task::spawn_blocking(move || ask(to, "many").unwrap()));
        for one in many.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), "172.17.0.1 MANY");
        }
        tokio::time::sleep(Duration::ZERO.max(SHORT / 100)).await;
    });
}
