//! An engine that starts anew finds what there is.

use crate::world::{
    PATIENCE, World, ask_here, config, echo_server, in_namespace, node, ping, request, runtime, sh, tcp,
};
use drydock_network::{Networks, PortRequest};
use std::{fs, time::Duration};

#[test]
fn containers_survive_the_engine() {
    in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        let request = tcp(8080);
        let (mut kept, mut before) = (None, String::new());
        runtime(async {
            let networks = Networks::open(config.clone()).unwrap();
            let world = World { networks, config: config.clone() };
            world.network("front").await;
            let (a, b, lost) =
                (world.start("a", &["front"]), world.start("b", &["front"]), world.start("lost", &["front"]));
            a.process.run(|| echo_server(80));
            let bound = world.networks.publish(&a.id, &[request]).await.unwrap();
            before = sh("iptables-save | grep '^[-:]'; ip -br addr show docker0");
            let list =
                world.networks.list().into_iter().map(|network| (network.name, network.id, network.created));
            let endpoints = (world.networks.endpoints(&a.id), world.networks.endpoints(&b.id));
            kept = Some((a, b, lost, bound, list.collect::<Vec<_>>(), endpoints));
        });
        // The engine is gone; its sockets with it.
        let (a, b, lost, bound, list, (of_a, of_b)) = kept.unwrap();
        let orphan = lost.endpoints[0].host_interface.clone();
        runtime(async {
            let networks = Networks::open(config).unwrap();
            networks.adopt(&of_a, a.process.pid()).unwrap();
            networks.adopt(&of_b, b.process.pid()).unwrap();
            let again: Vec<PortRequest> = bound.iter().map(PortRequest::from).collect();
            assert_eq!(networks.publish(&a.id, &again).await.unwrap(), bound);
            assert!(sh("ip -br link").contains(&orphan));
            networks.sweep().unwrap();
            assert!(!sh("ip -br link").contains(&orphan), "nobody knows it any more");

            let now = networks.list().into_iter().map(|network| (network.name, network.id, network.created));
            assert_eq!(now.collect::<Vec<_>>(), list);
            assert_eq!(
                sh("iptables-save | grep '^[-:]'; ip -br addr show docker0"),
                before,
                "laid once, not twice"
            );
            let to = b.address();
            assert!(a.process.run(move || ping(to)));
            assert_eq!(ask_here(([127, 0, 0, 1], 8080), "x").await.unwrap(), "172.18.0.1 X");
            // Its address is taken; the name is, too.
            let c = networks.reserve(&crate::world::request("c", "front")).unwrap();
            assert_ne!(c.address, of_a[0].address);
            assert_ne!(c.address, of_b[0].address);
            networks.release_container(&a.id).await.unwrap();
            // Its process lives on: the interface does not go by itself.
            assert!(sh("ip -br link").contains(&of_a[0].host_interface));
            let gone = async {
                while sh("ip -br link").contains(&of_a[0].host_interface) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(4 * PATIENCE, gone).await.expect("it is removed all the same");
        });
    });
}

#[test]
fn definitions_that_cannot_be_read_stop_nothing() {
    node(async |world| {
        world.network("n").await;
        let file = world.config.directory.join("files/networks.json");
        for spoil in ["echo '{' >", "mkfifo", "mkdir", "ln -s /dev/zero"] {
            sh(&format!("rm -rf {0}* && {spoil} {0}", file.display()));
            let networks = Networks::open(world.config.clone()).unwrap();
            let names: Vec<String> = networks.list().into_iter().map(|network| network.name).collect();
            assert_eq!(names, ["none", "host", "bridge"], "{spoil}");
            assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{spoil}");
        }
    });
}

#[test]
fn starts_without_published_ports_run_no_program() {
    node(async |world| {
        let config =
            drydock_network::Config { iptables_restore: "/nonexistent".into(), ..world.config.clone() };
        let networks = Networks::open(config).unwrap();
        let bare = World { networks, config: world.config.clone() };
        let a = bare.start("a", &["bridge"]);
        assert_eq!(bare.networks.publish(&a.id, &[]).await.unwrap(), []);
        bare.networks.release_container(&a.id).await.unwrap();
        let refused = bare
            .networks
            .create(drydock_network::NewNetwork { name: "n".into(), ..Default::default() })
            .await;
        assert!(refused.unwrap_err().to_string().starts_with("run nonexistent: "));
        assert!(bare.networks.find("n").is_err(), "nothing is left of it");
        assert!(bare.networks.reserve(&request("b", "n")).is_err());
    });
}

#[test]
fn many_at_once() {
    node(async |world| {
        let make = |n: usize| {
            let networks = world.networks.clone();
            tokio::spawn(async move {
                let new = drydock_network::NewNetwork { name: format!("n{n}"), ..Default::default() };
                networks.create(new).await.unwrap()
            })
        };
        for task in (0..14).map(make).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let containers: Vec<_> =
            (0..14).map(|n| world.start(&format!("c{n}"), &[&format!("n{n}")])).collect();
        let publish = |container: &crate::world::Container| {
            let (networks, id) = (world.networks.clone(), container.id.clone());
            container.process.run(|| echo_server(80));
            let any = tcp(0);
            tokio::spawn(async move { networks.publish(&id, &[any]).await.unwrap()[0].host_port })
        };
        let mut ports = Vec::new();
        for task in containers.iter().map(publish).collect::<Vec<_>>() {
            ports.push(task.await.unwrap());
        }
        for (port, container) in ports.iter().zip(&containers) {
            let gateway = container.endpoints[0].gateway.unwrap();
            assert_eq!(ask_here(([127, 0, 0, 1], *port), "x").await.unwrap(), format!("{gateway} X"));
        }
        let nat = sh("iptables -t nat -S");
        assert_eq!((nat.matches("DNAT").count(), nat.matches("MASQUERADE").count()), (14, 15));
        let again = Networks::open(world.config.clone()).unwrap();
        assert_eq!(
            again.list(),
            world
                .networks
                .list()
                .into_iter()
                .map(|n| drydock_network::inspect::Network {
                    containers: std::collections::BTreeMap::new(),
                    ..n
                })
                .collect::<Vec<_>>()
        );
    });
}
