//! The session's name server on the bridge: the nodes' names and addresses and that of the site's registry, nothing else (RFC 1035, UDP and TCP). Asked
//! by the learner's programs, so every length, count and time is bounded and an unreadable question is dropped.

use crate::{listen, services, session::Session};
use drydock_protocol::NodeName;
use drydock_runtime::spawner::{self, GATEWAY};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, PTR},
    },
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
};

/// Where the nodes ask.
pub const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(GATEWAY), 53);
/// Largest question over UDP that is read, in bytes. Ours are far smaller; more is cut and so unreadable.
const MAX_QUESTION: usize = 1232;
/// Connections at once.
const MAX_CONNECTIONS: usize = 16;
/// A connection may be silent this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names may be kept for this many seconds: nodes come and go.
const TTL: u32 = 5;
/// Pause after an error of a socket.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers for ever at `address`.
pub async fn serve(session: Rc<Session>, address: SocketAddr) -> io::Result<()> {
    let (udp, tcp) = (listen::udp(address)?, listen::tcp(address)?);
    tokio::join!(serve_udp(&session, udp), serve_tcp(&session, tcp));
    Ok(())
}

async fn serve_udp(session: &Session, socket: UdpSocket) {
    let mut buffer = [0; MAX_QUESTION];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, asker)) => {
                if let Some(answer) = answer(session, &buffer[..len]) {
                    // A lost answer is asked for again.
                    let _best_effort = socket.try_send_to(&answer, asker);
                }
            }
            Err(e) => {
                tracing::debug!(error = %e, "name server");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_tcp(session: &Rc<Session>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let session = session.clone();
                tokio::task::spawn_local(async move {
                    let _asker_gone = serve_connection(&session, stream).await;
                    drop(place);
                });
            }
            Err(e) => {
                tracing::debug!(error = %e, "name server");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_connection(session: &Session, mut stream: TcpStream) -> io::Result<()> {
    loop {
        // RFC 1035, 4.2.2: each message has its length before it.
        let question = async {
            let len = stream.read_u16().await?;
            let mut question = vec![0; usize::from(len)];
            stream.read_exact(&mut question).await.map(|_| question)
        };
        let question = tokio::time::timeout(PATIENCE, question).await??;
        let Some(answer) = answer(session, &question) else { return Ok(()) };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let message = [&len.to_be_bytes(), answer.as_slice()].concat();
        tokio::time::timeout(PATIENCE, stream.write_all(&message)).await??;
    }
}

fn answer(session: &Session, question: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    respond(&question, |node| session.nodes.borrow().contains_key(&node))?.to_vec().ok()
}

/// The answer to a message; `None` if it is no question.
fn respond(question: &Message, exists: impl Fn(NodeName) -> bool) -> Option<Message> {
    let asked = question.metadata;
    if asked.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(asked.id, asked.op_code);
    answer.metadata.recursion_desired = asked.recursion_desired;
    answer.metadata.response_code = match &question.queries[..] {
        [query] if asked.op_code == OpCode::Query => {
            answer.add_query(query.clone());
            let (code, record) = look_up(query, exists);
            answer.metadata.authoritative = code != ResponseCode::Refused;
            answer.add_answers(record);
            code
        }
        _ if asked.op_code == OpCode::Query => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    Some(answer)
}

/// Names of the outside are refused rather than denied: a resolver with another server goes on to that one.
fn look_up(query: &Query, exists: impl Fn(NodeName) -> bool) -> (ResponseCode, Option<Record>) {
    if query.query_class() != DNSClass::IN {
        return (ResponseCode::Refused, None);
    }
    let name = query.name();
    let asked = |kind| query.query_type() == kind || query.query_type() == RecordType::ANY;
    if let Some(node) = node_of_address(name) {
        return match node
            .filter(|node| exists(*node))
            .and_then(|node| Name::from_ascii(format!("{node}.")).ok())
        {
            None => (ResponseCode::NXDomain, None),
            Some(_) if !asked(RecordType::PTR) => (ResponseCode::NoError, None),
            Some(target) => {
                (ResponseCode::NoError, Some(Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(target)))))
            }
        };
    }
    if name.num_labels() != 1 {
        return (ResponseCode::Refused, None);
    }
    let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    if text == services::REGISTRY_NAME {
        let address = asked(RecordType::A)
            .then(|| Record::from_rdata(name.clone(), TTL, RData::A(A(*services::REGISTRY.ip()))));
        return (ResponseCode::NoError, address);
    }
    match text.parse().ok().filter(|node| exists(*node)) {
        None => (ResponseCode::NXDomain, None),
        // The name is there, with no address of that kind.
        Some(_) if !asked(RecordType::A) => (ResponseCode::NoError, None),
        Some(node) => {
            let address = RData::A(A(spawner::address(node)));
            (ResponseCode::NoError, Some(Record::from_rdata(name.clone(), TTL, address)))
        }
    }
}

/// For a reverse name of the session's bridge: the node with that address, if it can be one's.
#[expect(clippy::option_option, reason = "the outer one: not our network")]
fn node_of_address(name: &Name) -> Option<Option<NodeName>> {
    let net = name.parse_arpa_name().ok()?;
    let IpAddr::V4(address) = net.addr() else { return None };
    let ours =
        net.prefix_len() == 32 && address.octets()[..3] == spawner::address(NodeName::new(1)?).octets()[..3];
    ours.then(|| address.octets()[3].checked_sub(10).and_then(NodeName::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
        let mut question = Message::new(7, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let bytes = question.to_vec().unwrap();
        let exists = |node: NodeName| node.number() <= 2;
        let answer = respond(&Message::from_vec(&bytes).unwrap(), exists).unwrap();
        let answer = Message::from_vec(&answer.to_vec().unwrap()).unwrap();
        assert_eq!((answer.metadata.id, answer.queries.len()), (7, 1));
        (answer.metadata.response_code, answer.answers.iter().map(|r| r.data.to_string()).collect())
    }

    #[test]
    fn nodes_have_names_and_addresses() {
        let ok = ResponseCode::NoError;
        assert_eq!(ask("node2.", RecordType::A), (ok, vec!["192.168.0.12".into()]));
        assert_eq!(ask("NODE1.", RecordType::A), (ok, vec!["192.168.0.11".into()]));
        assert_eq!(ask("node2.", RecordType::AAAA), (ok, vec![]));
        assert_eq!(ask("registry.", RecordType::A), (ok, vec!["192.168.0.1".into()]));
        assert_eq!(ask("registry.", RecordType::AAAA), (ok, vec![]));
        assert_eq!(ask("12.0.168.192.in-addr.arpa.", RecordType::PTR), (ok, vec!["node2.".into()]));
    }

    #[test]
    fn other_names_do_not_exist_or_are_not_ours() {
        let none = (ResponseCode::NXDomain, vec![]);
        assert_eq!(ask("node3.", RecordType::A), none);
        assert_eq!(ask("node01.", RecordType::A), none);
        assert_eq!(ask("13.0.168.192.in-addr.arpa.", RecordType::PTR), none);
        assert_eq!(ask("1.0.168.192.in-addr.arpa.", RecordType::PTR), none);
        let refused = (ResponseCode::Refused, vec![]);
        assert_eq!(ask("example.org.", RecordType::A), refused);
        assert_eq!(ask("node1.example.org.", RecordType::A), refused);
        assert_eq!(ask("8.8.8.8.in-addr.arpa.", RecordType::PTR), refused);
        assert_eq!(ask("arpa.", RecordType::PTR).0, ResponseCode::NXDomain);
        assert_eq!(ask(".", RecordType::NS).0, ResponseCode::Refused);
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let exists = |_: NodeName| true;
        assert!(respond(&Message::response(1, OpCode::Query), exists).is_none());
        let empty = Message::new(1, MessageType::Query, OpCode::Query);
        assert_eq!(respond(&empty, exists).unwrap().metadata.response_code, ResponseCode::FormErr);
        let notify = Message::new(1, MessageType::Query, OpCode::Notify);
        assert_eq!(respond(&notify, exists).unwrap().metadata.response_code, ResponseCode::NotImp);
    }
}
