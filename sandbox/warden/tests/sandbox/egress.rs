//! The way out, tried in networks made for it: the warden's host is a network namespace of its own, which reaches a
//! "world" through a router, as a real host does.

use crate::host::{Host, small};
use drydock_runtime::egress::Egress;
use drydock_warden::messages::{Answer, Request};
use libtest_mimic::Trial;
use nix::sched::{CloneFlags, setns};
use std::{fs::File, io::Write, net::TcpListener, process::Command, sync::mpsc};

pub fn tests() -> Vec<Trial> {
    vec![Trial::test("the_way_out_is_as_wide_as_its_rules", the_way_out_is_as_wide_as_its_rules)]
}

/// Two network namespaces: `host` and, behind it, `world`. They go when this is dropped.
struct Networks(String);

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().expect("ip (package iproute2)");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Networks {
    fn new() -> Self {
        let name = format!("ddt{}", std::process::id());
        let n = Self(name.clone());
        for side in ["h", "w"] {
            ip(&format!("netns add {name}{side}"));
            ip(&format!("-n {name}{side} link set lo up"));
        }
        ip(&format!("-n {name}h link add out type veth peer name in netns {name}w"));
        for (side, link, address) in [("h", "out", "10.99.0.1/30"), ("w", "in", "10.99.0.2/30")] {
            ip(&format!("-n {name}{side} addr add {address} dev {link}"));
            ip(&format!("-n {name}{side} link set {link} up"));
        }
        ip(&format!("-n {name}h route add default via 10.99.0.2"));
        // In the world: an address that rules allow, one that they do not, and a private one.
        for address in ["203.0.113.5", "203.0.113.6", "10.1.2.3"] {
            ip(&format!("-n {name}w addr add {address}/32 dev lo"));
        }
        n
    }

    fn path(&self, side: &str) -> String {
        format!("/run/netns/{}{side}", self.0)
    }

    /// Answers "hello" on every address of a namespace at these ports, until the test's process ends.
    fn serve(&self, side: &str, ports: &'static [u16]) {
        let path = self.path(side);
        let (ready, wait) = mpsc::channel();
        std::thread::spawn(move || {
            // A thread may be in another network than its process.
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let listeners: Vec<TcpListener> =
                ports.iter().map(|port| TcpListener::bind(("::", *port)).unwrap()).collect();
            for listener in listeners {
                std::thread::spawn(move || {
                    for connection in listener.incoming() {
                        let _asker_gone = connection.unwrap().write_all(b"hello\n");
                    }
                });
            }
            ready.send(()).unwrap();
        });
        wait.recv().unwrap();
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for side in ["h", "w"] {
            let _gone = Command::new("ip").args(["netns", "del", &format!("{}{side}", self.0)]).status();
        }
    }
}

/// What a service on the host's end of an uplink answers to the session's end.
fn by_ipv6(networks: &Networks, host: &Host) -> String {
    let output = |command: &mut Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
    let net = format!("--net={}", networks.path("h"));
    let links = output(Command::new("nsenter").args([&net, "ip", "-br", "-6", "addr"]));
    let line = links.lines().find(|line| line.starts_with("dd")).expect("an uplink with an address");
    let (link, address) = (
        line.split('@').next().unwrap(),
        line.split_whitespace().find_map(|word| word.split_once('/')).expect("its address").0,
    );
    // Sessions' numbers are part of the name: the first session has the first.
    assert!(link.ends_with("-1"), "{link}");
    let children = format!("/proc/{0}/task/{0}/children", host.warden_pid());
    let children = std::fs::read_to_string(children).unwrap();
    let net = format!("--net=/proc/{}/ns/net", children.split(' ').next().expect("the first session"));
    let ask = format!("head -1 < /dev/tcp/{address}%up0/80");
    output(Command::new("nsenter").args([&net, "timeout", "3", "bash", "-c", &ask]))
}

fn the_way_out_is_as_wide_as_its_rules() -> Result<(), libtest_mimic::Failed> {
    let networks = Networks::new();
    networks.serve("w", &[53, 80, 81]);
    networks.serve("h", &[80]);
    let host = Host::in_network(Some(&networks.path("h")));
    let egress = Egress {
        allow: vec!["203.0.113.5 tcp 80".parse()?, "10.0.0.0/8".parse()?],
        resolvers: vec!["10.1.2.3".parse()?],
    };
    let create = |egress: Egress| {
        let id = crate::host::new_id();
        let request = Request::Create {
            id: id.clone(),
            nodes: 1,
            image: "node".into(),
            limits: small(),
            egress,
            cluster: false,
        };
        let answer = host.ask(request);
        assert!(matches!(answer, Answer::Created { .. }), "{answer:?}");
        crate::host::Session { host: &host, id }
    };
    let (open, other, shut) = (create(egress.clone()), create(egress), create(Egress::default()));
    let get = |s: &crate::host::Session<'_>, address: &str, port: u16| {
        s.try_run(1, &format!("timeout 3 bash -c 'head -1 < /dev/tcp/{address}/{port}' 2>&1")).1
    };
    assert_eq!(get(&open, "203.0.113.5", 80), "hello\n");
    assert_eq!(get(&other, "203.0.113.5", 80), "hello\n");
    // A resolver that the operator names, in a private network as most are; nothing else there.
    assert_eq!(get(&open, "10.1.2.3", 53), "hello\n");
    assert!(!get(&open, "10.99.0.2", 53).contains("hello"));
    // What no rule allows is refused at once, not by a time-out.
    for (address, port) in [("203.0.113.5", 81), ("203.0.113.6", 80)] {
        assert!(get(&open, address, port).contains("No route to host"), "{address}:{port}");
    }
    // Closed whatever the rules say: private networks, the host's own addresses, the other session.
    for address in [
        "10.1.2.3",
        "10.99.0.2",
        "10.99.0.1",
        "100.64.0.2",
        "100.64.0.4",
        "100.64.0.5",
        "192.168.0.12",
        "169.254.169.254",
    ] {
        assert!(!get(&open, address, 80).contains("hello"), "{address}");
    }
    assert!(get(&shut, "203.0.113.5", 80).contains("Network is unreachable"));
    // Nor by IPv6, which every interface has, from the session's own end.
    assert_eq!(by_ipv6(&networks, &host), "");
    // Nothing of it is left on the host.
    for session in [&open, &other, &shut] {
        session.destroy();
    }
    let inside = |args: &[&str]| {
        let path = networks.path("h");
        let output = Command::new("nsenter").arg(format!("--net={path}")).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(inside(&["nft", "list", "tables"]), "");
    assert!(!inside(&["ip", "-br", "link"]).contains("dd"));
    Ok(())
}
