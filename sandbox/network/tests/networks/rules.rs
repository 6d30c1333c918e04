//! The firewall as a learner reads it.

use crate::world::{ask_here, echo_server, node, sh, tcp};
use drydock_network::PortRequest;
use std::net::Ipv4Addr;

const FILTER: &str = "\
-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-BRIDGE
-N DOCKER-CT
-N DOCKER-FORWARD
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-ISOLATION-STAGE-2
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER -d 172.18.0.2/32 ! -i bridge1 -o bridge1 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER ! -i bridge1 -o bridge1 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-BRIDGE -o bridge1 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-CT -o bridge1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-FORWARD -i bridge1 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -i bridge1 ! -o bridge1 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o bridge1 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
";

const NAT: &str = "\
-P PREROUTING ACCEPT
-P INPUT ACCEPT
-P OUTPUT ACCEPT
-P POSTROUTING ACCEPT
-N DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.18.0.0/16 ! -o bridge1 -j MASQUERADE
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i bridge1 -j RETURN
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i bridge1 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:80
";

const RAW: &str = "-P PREROUTING ACCEPT
-P OUTPUT ACCEPT
-A PREROUTING -d 172.18.0.2/32 ! -i bridge1 -j DROP
";

fn all() -> [String; 3] {
    [sh("iptables -S"), sh("iptables -t nat -S"), sh("iptables -t raw -S")]
}

#[test]
fn the_textbooks_rules() {
    node(async |world| {
        // As moby's own documentation of its rules has it (integration/network/bridge/iptablesdoc).
        let options = [("com.docker.network.bridge.name".to_owned(), "bridge1".to_owned())].into();
        let new = drydock_network::NewNetwork { name: "bridge1".into(), options, ..Default::default() };
        world.networks.create(new).await.unwrap();
        let c1 = world.start("c1", &["bridge1"]);
        let request = tcp(8080);
        world.networks.publish(&c1.id, &[request]).await.unwrap();
        assert_eq!(all(), [FILTER, NAT, RAW]);

        // Somebody flushes everything, and adds a rule of his own: the next change lays all anew, beside it.
        sh("iptables -F; iptables -t nat -F; iptables -A DOCKER-USER -s 198.51.100.1/32 -j DROP; \
            iptables -t nat -A POSTROUTING -s 10.99.0.0/16 -j MASQUERADE");
        let second = PortRequest { host_port: 8081, ..request };
        world.networks.publish(&c1.id, &[second]).await.unwrap();
        let [filter, nat, raw] = all();
        let own = "-A DOCKER-USER -s 198.51.100.1/32 -j DROP\n";
        assert_eq!(filter, format!("{FILTER}{own}"));
        let (own, dnat) = (
            "-A POSTROUTING -s 10.99.0.0/16 -j MASQUERADE\n",
            "-A DOCKER ! -i bridge1 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.18.0.2:80\n",
        );
        assert_eq!(nat, NAT.replace("-A DOCKER -i bridge1", &format!("{own}-A DOCKER -i bridge1")) + dnat);
        assert_eq!(raw, RAW);

        world.networks.release_container(&c1.id).await.unwrap();
        world.networks.remove("bridge1").await.unwrap();
        let [filter, nat, raw] = all();
        assert!(!(filter.clone() + &nat + &raw).contains("bridge1"), "{filter}{nat}{raw}");
        assert!(filter.contains("-A DOCKER-FORWARD -i docker0 -j ACCEPT"));
    });
}

#[test]
fn ports_on_one_address_of_the_node() {
    node(async |world| {
        let a = world.start("a", &["bridge"]);
        a.process.run(|| echo_server(80));
        let request = PortRequest { host_ip: Some(Ipv4Addr::LOCALHOST.into()), ..tcp(8080) };
        world.networks.publish(&a.id, &[request]).await.unwrap();
        let raw = sh("iptables -t raw -S");
        assert!(
            raw.contains("-A PREROUTING -d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 8080 -j DROP"),
            "{raw}"
        );
        assert_eq!(ask_here(([127, 0, 0, 1], 8080), "x").await.unwrap(), "172.17.0.1 X");
        sh("ip addr add 198.51.100.7/32 dev lo");
        assert!(ask_here(([198, 51, 100, 7], 8080), "x").await.is_err());
    });
}
