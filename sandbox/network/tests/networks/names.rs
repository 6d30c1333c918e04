//! The embedded name server, asked by real questions from inside containers.

use crate::world::{Container, PATIENCE, Process, World, id_of, node, outside, request, sh};
use drydock_network::{EndpointRequest, NewNetwork, Resolver, dns_names};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
};

const SERVER: &str = "127.0.0.11:53";

type Answer = (ResponseCode, Vec<String>);

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut question = Message::new(77, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    question.to_vec().unwrap()
}

fn read(bytes: &[u8]) -> Answer {
    let answer = Message::from_vec(bytes).unwrap();
    assert_eq!((answer.metadata.id, answer.queries.len()), (77, 1));
    assert!(answer.answers.iter().all(|record| record.ttl == 600));
    let mut data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    (answer.metadata.response_code, data)
}

fn by_udp(name: &str, kind: RecordType) -> Answer {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    socket.send_to(&question(name, kind), SERVER).unwrap();
    let mut buffer = [0; 4096];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from.to_string(), SERVER);
    read(&buffer[..len])
}

fn by_tcp(name: &str, kind: RecordType) -> Answer {
    let mut stream = TcpStream::connect(SERVER).unwrap();
    stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    let question = question(name, kind);
    let len = u16::try_from(question.len()).unwrap().to_be_bytes();
    stream.write_all(&[&len, question.as_slice()].concat()).unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer).unwrap();
    read(&answer)
}

/// Asks inside, while the node's runtime goes on.
pub async fn ask(process: &Process, name: &'static str, kind: RecordType) -> Answer {
    let udp = process.begin(move || by_udp(name, kind));
    let tcp = process.begin(move || by_tcp(name, kind));
    let (udp, tcp) =
        tokio::task::spawn_blocking(|| (udp.join().unwrap(), tcp.join().unwrap())).await.unwrap();
    assert_eq!(udp, tcp);
    udp
}

fn found(data: &[&str]) -> Answer {
    (ResponseCode::NoError, data.iter().map(|text| (*text).to_owned()).collect())
}

async fn serve(world: &World, container: &Container) {
    world.networks.serve_names(&container.id, container.process.pid(), Resolver::default()).await.unwrap();
}

/// A name server that knows `example.org` only. `.example` names it refuses.
fn other_server(address: SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    let listener = std::net::TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&other_answer(&buffer[..len]), from).unwrap();
        }
    });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let len = stream.read(&mut buffer).unwrap();
            let answer = other_answer(&buffer[2..len]);
            let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&len, answer.as_slice()].concat()).unwrap();
        }
    });
}

fn other_answer(question: &[u8]) -> Vec<u8> {
    use hickory_proto::rr::{RData, Record, rdata::A};
    let question = Message::from_vec(question).unwrap();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    let query = question.queries[0].clone();
    let name = query.name().clone();
    match name.to_ascii().as_str() {
        "example.org." => {
            answer.add_answers([Record::from_rdata(name, 600, RData::A(A::new(198, 51, 100, 1)))]);
        }
        text if text.ends_with(".example.") => answer.metadata.response_code = ResponseCode::Refused,
        _ => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer.add_query(query);
    answer.to_vec().unwrap()
}

#[test]
fn containers_by_name() {
    node(async |world| {
        world.network("front").await;
        world.network("back").await;
        let aliased = |name: &str, network: &str, alias: &str| EndpointRequest {
            dns_names: dns_names(name, &[alias.to_owned()], &id_of(name), "host-of-it"),
            has_aliases: true,
            ..request(name, network)
        };
        let a = world.start("a", &["front", "back"]);
        let _web1 = world.start_as("web1", vec![aliased("web1", "front", "web")]);
        let _web2 = world.start_as("web2", vec![aliased("web2", "front", "web")]);
        let db = world.start_as("db", vec![aliased("db", "back", "Store")]);
        let linked = EndpointRequest { links: vec![("mine".into(), "web1".into())], ..request("b", "front") };
        let b = world.start_as("b", vec![linked]);
        let hidden = world.start("hidden", &["bridge"]);
        for container in [&a, &b] {
            serve(&world, container).await;
        }
        let a = &a.process;
        assert_eq!(ask(a, "web1.", RecordType::A).await, found(&["172.18.0.3"]));
        assert_eq!(ask(a, "WEB.", RecordType::A).await, found(&["172.18.0.3", "172.18.0.4"]));
        assert_eq!(ask(a, "store.", RecordType::A).await, found(&["172.19.0.3"]));
        assert_eq!(ask(a, "db.back.", RecordType::A).await, found(&["172.19.0.3"]));
        assert_eq!(ask(a, "host-of-it.front.", RecordType::A).await, found(&["172.18.0.3", "172.18.0.4"]));
        let short = id_of("web1")[..12].to_owned();
        assert_eq!(ask(a, short.leak(), RecordType::A).await, found(&["172.18.0.3"]));
        // There, with no address of that kind.
        assert_eq!(ask(a, "web1.", RecordType::AAAA).await, found(&[]));
        assert_eq!(ask(a, "web1.", RecordType::MX).await, found(&[]));
        assert_eq!(ask(a, "3.0.18.172.in-addr.arpa.", RecordType::PTR).await, found(&["web1.front."]));
        // Nobody else answers here, so it is not known whether the name exists.
        let nobody = (ResponseCode::ServFail, vec![]);
        assert_eq!(ask(a, "db.front.", RecordType::A).await, nobody);
        assert_eq!(ask(a, "hidden.", RecordType::A).await, nobody);
        assert_eq!(ask(a, "mine.", RecordType::A).await, nobody);
        assert_eq!(ask(&b.process, "mine.", RecordType::A).await, found(&["172.18.0.3"]));
        assert_eq!(ask(&b.process, "db.", RecordType::A).await, nobody, "b is in one network only");

        world.networks.rename(&db.id, "db", "database");
        assert_eq!(ask(a, "database.", RecordType::A).await, found(&["172.19.0.3"]));
        world.networks.release_container(&db.id).await.unwrap();
        assert_eq!(ask(a, "database.", RecordType::A).await, nobody);
        assert!(world.networks.serves_names(&b.id) && !world.networks.serves_names(&hidden.id));
    });
}

#[test]
fn other_names_are_asked_elsewhere() {
    node(async |world| {
        world.network("front").await;
        let closed = NewNetwork { name: "closed".into(), internal: true, ..NewNetwork::default() };
        world.networks.create(closed).await.unwrap();
        other_server("127.0.0.1:53".parse().unwrap());
        // The first refuses to answer: nobody is there.
        fs::write(&world.config.resolv_conf, "nameserver 127.0.0.2\nnameserver 127.0.0.1\n").unwrap();
        let (a, c) = (world.start("a", &["front"]), world.start("c", &["closed"]));
        for container in [&a, &c] {
            serve(&world, container).await;
        }
        assert_eq!(ask(&a.process, "example.org.", RecordType::A).await, found(&["198.51.100.1"]));
        assert_eq!(ask(&a.process, "nosuch.org.", RecordType::A).await, (ResponseCode::NXDomain, vec![]));
        assert_eq!(ask(&a.process, "x.example.", RecordType::A).await, (ResponseCode::ServFail, vec![]));
        assert_eq!(ask(&c.process, "example.org.", RecordType::A).await, (ResponseCode::ServFail, vec![]));
        assert_eq!(ask(&c.process, "c.", RecordType::A).await, found(&["172.19.0.2"]));

        // With ndots set, single names are for search domains.
        let d = world.start("d", &["front"]);
        let resolver = Resolver { ndots_set: true, servers: Vec::new() };
        world.networks.serve_names(&d.id, d.process.pid(), resolver).await.unwrap();
        assert_eq!(ask(&d.process, "nosuch.", RecordType::A).await, found(&[]));
        assert_eq!(ask(&d.process, "example.org.", RecordType::A).await, found(&["198.51.100.1"]));
    });
}

#[test]
fn servers_that_were_asked_for_are_asked_from_inside() {
    node(async |world| {
        let outside = outside();
        outside.run(|| other_server("203.0.113.1:53".parse().unwrap()));
        world.network("front").await;
        let a = world.start("a", &["front"]);
        let servers = vec!["127.0.0.11".parse().unwrap(), "203.0.113.1".parse().unwrap()];
        let resolver = Resolver { servers, ndots_set: false };
        world.networks.serve_names(&a.id, a.process.pid(), resolver).await.unwrap();
        assert_eq!(ask(&a.process, "example.org.", RecordType::A).await, found(&["198.51.100.1"]));
        // Only the container reaches it: the node has lost its way.
        sh("iptables -I OUTPUT -p udp --dport 53 -j DROP && iptables -I OUTPUT -p tcp --dport 53 -j DROP");
        assert_eq!(ask(&a.process, "example.org.", RecordType::A).await, found(&["198.51.100.1"]));
    });
}

#[test]
fn garbage_gets_no_answer_and_does_no_harm() {
    node(async |world| {
        world.network("front").await;
        let a = world.start("a", &["front"]);
        serve(&world, &a).await;
        let garbage = a.process.begin(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for len in [0, 1, 11, 12, 13, 4095, 9000] {
                socket.send_to(&vec![0xff; len], SERVER).unwrap();
            }
            let mut stream = TcpStream::connect(SERVER).unwrap();
            stream.write_all(&[0, 4, 1, 2, 3, 4]).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap()
        });
        assert_eq!(tokio::task::spawn_blocking(|| garbage.join().unwrap()).await.unwrap(), 0);
        assert_eq!(ask(&a.process, "a.", RecordType::A).await, found(&["172.18.0.2"]));
        // A container that runs on: its name server ends with its networks.
        world.networks.release("front", &a.id).unwrap();
        assert!(!world.networks.serves_names(&a.id));
    });
}

#[test]
fn a_container_may_serve_names_itself() {
    node(async |world| {
        world.network("front").await;
        let a = world.start("a", &["front"]);
        serve(&world, &a).await;
        a.process.run(|| {
            let any: SocketAddr = "0.0.0.0:53".parse().unwrap();
            other_server(any);
        });
        assert_eq!(ask(&a.process, "a.", RecordType::A).await, found(&["172.18.0.2"]));
        let own = a.process.begin(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(&question("example.org.", RecordType::A), "127.0.0.1:53").unwrap();
            let mut buffer = [0; 4096];
            let len = socket.recv(&mut buffer).unwrap();
            read(&buffer[..len])
        });
        assert_eq!(own.join().unwrap(), found(&["198.51.100.1"]));
        // An engine that starts anew has other ports.
        world.networks.release("front", &a.id).unwrap();
        world.networks.reserve(&request("a", "front")).unwrap();
        world.networks.plug_running(&a.id, a.process.pid()).unwrap();
        serve(&world, &a).await;
        assert_eq!(ask(&a.process, "a.", RecordType::A).await, found(&["172.18.0.2"]));
    });
}
