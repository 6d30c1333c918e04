//! The embedded name server: 127.0.0.11:53 inside a container that is in a user-defined network. Its sockets are opened
//! by a thread that goes there; tasks of the engine answer. Names of containers come from [`crate::names`]; all else is
//! asked elsewhere, as moby's `libnetwork/resolver.go` does it. What comes in is written by strangers on both sides, so
//! lengths, counts and times are bounded.

use crate::{
    Error, Networks, Result,
    error::Kind,
    files,
    inside::{Inside, Namespace},
    names, redirect,
};
use drydock_runtime::netlink::{Batch, LOOPBACK};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR},
    },
};
use nix::fcntl::OFlag;
use std::{
    fs::OpenOptions,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// Where containers ask.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(files::EMBEDDED), PORT);
const PORT: u16 = 53;
/// Seconds that an answer may be kept (Docker's figure).
const TTL: u32 = 600;
/// Another server has so long to answer (Docker's figure).
const PATIENCE: Duration = Duration::from_secs(4);
/// A connection may be silent this long.
const SILENCE: Duration = Duration::from_secs(10);
/// Largest question over UDP.
const MAX_QUESTION: usize = 4096;
/// Answers over UDP to those who don't say that they take more (RFC 1035, 4.2.1).
const PLAIN_ANSWER: usize = 512;
/// Questions of one container that wait for other servers.
const MAX_FORWARDED: usize = 256;
/// Connections of one container.
const MAX_CONNECTIONS: usize = 32;
/// Other servers that are asked (resolv.conf(5) has three).
const MAX_SERVERS: usize = 3;
/// Pause after an error of a socket.
const PAUSE: Duration = Duration::from_millis(100);
/// Largest `resolv.conf` that is read.
const MAX_CONF: u64 = 64 << 10;

/// How questions that are not about containers are answered.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    /// `--dns`: asked from inside the container. None: the node's resolvers, asked from the node.
    pub servers: Vec<IpAddr>,
    /// `ndots` is set by the node's `resolv.conf` or `--dns-option`: then single names are not asked elsewhere.
    pub ndots_set: bool,
}

/// A running name server. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server(Vec<JoinHandle<()>>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Networks {
    /// Serves names at 127.0.0.11 in a network namespace, for a container in a user-defined network,
    /// until it is released. Switches the loopback interface on there. A second call has no effect.
    pub async fn serve_names(
        &self,
        container: &str,
        inside: impl Into<Inside>,
        resolver: Resolver,
    ) -> Result<()> {
        let inside = inside.into();
        match self.state().containers.get(container) {
            Some(known) if known.resolver.is_none() => {}
            _ => return Ok(()),
        }
        let namespace = Namespace::of(&inside)?;
        let (udp, tcp) = namespace.run(open)?;
        let start = || Ok::<_, io::Error>((UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?));
        let (udp, tcp) = start().map_err(|e| Error::io("start a name server", &e))?;
        let upstream = Upstream::new(&self.shared.config.resolv_conf, &resolver, namespace);
        let asked = Arc::new(Asked {
            networks: self.clone(),
            container: container.to_owned(),
            ndots_set: resolver.ndots_set,
            upstream,
            places: Semaphore::new(MAX_FORWARDED),
        });
        let tasks = vec![tokio::spawn(serve_udp(asked.clone(), udp)), tokio::spawn(serve_tcp(asked, tcp))];
        let server = Server(tasks);
        match self.state().containers.get_mut(container) {
            Some(known) => known.resolver = Some(server),
            // Released meanwhile.
            None => drop(server),
        }
        Ok(())
    }

    /// Whether a container has the embedded name server.
    pub fn serves_names(&self, container: &str) -> bool {
        self.state().containers.get(container).is_some_and(|known| known.resolver.is_some())
    }
}

/// Inside the container.
fn open() -> Result<(std::net::UdpSocket, std::net::TcpListener)> {
    Batch::new().up(LOOPBACK).send()?;
    let bind = |port| {
        let address = SocketAddr::new(ADDRESS.ip(), port);
        let (udp, tcp) = (std::net::UdpSocket::bind(address)?, std::net::TcpListener::bind(address)?);
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok((udp, tcp))
    };
    let open = || {
        // Port 53 is the container's; questions to it are led to ports that nobody else wants.
        let (udp, tcp): (std::net::UdpSocket, std::net::TcpListener) = bind(0)?;
        let ports = (udp.local_addr()?.port(), tcp.local_addr()?.port());
        match redirect::lay(files::EMBEDDED, ports.0, ports.1) {
            Ok(()) => Ok((udp, tcp)),
            Err(error) => {
                tracing::warn!(%error, "questions can't be redirected: the name server takes port 53 itself");
                bind(PORT)
            }
        }
    };
    open().map_err(|e: io::Error| Error::io("open the name server's sockets", &e))
}

/// One container's name server.
struct Asked {
    networks: Networks,
    container: String,
    ndots_set: bool,
    upstream: Upstream,
    places: Semaphore,
}

/// A question, or what there is to say at once.
enum Step {
    Answer(Message),
    Forward,
}

async fn serve_udp(asked: Arc<Asked>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        let (len, asker) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "name server");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let Ok(question) = Message::from_vec(&buffer[..len]) else { continue };
        match asked.consider(&question) {
            None => {}
            Some(Step::Answer(answer)) => {
                let most = usize::from(question.edns.as_ref().map_or(0, |edns| edns.max_payload()));
                // A lost answer is asked for again.
                let _lost =
                    encode(answer, most.max(PLAIN_ANSWER)).map(|bytes| socket.try_send_to(&bytes, asker));
            }
            Some(Step::Forward) => {
                let (asked, socket, bytes) = (asked.clone(), socket.clone(), buffer[..len].to_vec());
                tasks.spawn(async move {
                    let answer = asked.forward(&question, &bytes, false).await;
                    let _lost = answer.map(|bytes| socket.try_send_to(&bytes, asker));
                });
            }
        }
    }
}

async fn serve_tcp(asked: Arc<Asked>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                while tasks.try_join_next().is_some() {}
                let asked = asked.clone();
                tasks.spawn(async move {
                    let _asker_gone = serve_connection(&asked, stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "name server");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_connection(asked: &Asked, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let bytes = timeout(SILENCE, read_message(&mut stream)).await??;
        let Ok(question) = Message::from_vec(&bytes) else { return Ok(()) };
        let answer = match asked.consider(&question) {
            None => None,
            Some(Step::Answer(answer)) => encode(answer, usize::from(u16::MAX)),
            Some(Step::Forward) => asked.forward(&question, &bytes, true).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        timeout(SILENCE, write_message(&mut stream, &answer)).await??;
    }
}

/// RFC 1035, 4.2.2: each message has its length before it.
async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), bytes].concat()).await
}

impl Asked {
    /// `None`: no question at all.
    fn consider(&self, question: &Message) -> Option<Step> {
        if question.metadata.message_type != MessageType::Query {
            return None;
        }
        let refusal = |code| Some(Step::Answer(response(question, code)));
        match &question.queries[..] {
            _ if question.metadata.op_code != OpCode::Query => refusal(ResponseCode::NotImp),
            [query] if query.query_class() == DNSClass::IN => Some(self.look_up(question, query)),
            [_] => Some(Step::Forward),
            _ => refusal(ResponseCode::FormErr),
        }
    }

    fn look_up(&self, question: &Message, query: &Query) -> Step {
        let name = query.name();
        let text = name.to_ascii();
        let state = self.networks.state();
        let records = match query.query_type() {
            RecordType::A => names::resolve(&state, &self.container, &text)
                .map(|found| shuffled(found.iter().filter_map(|a| Some(RData::A(A(a.ipv4?)))))),
            // Perhaps none: who asks goes on to the addresses of the other kind.
            RecordType::AAAA => names::resolve(&state, &self.container, &text)
                .map(|found| shuffled(found.iter().filter_map(|a| Some(RData::AAAA(AAAA(a.ipv6?)))))),
            // The name is there, with no mail exchanger: those who ask go on to the address.
            RecordType::MX => names::resolve(&state, &self.container, &text).map(|_| Vec::new()),
            RecordType::PTR => {
                reverse(&state, &self.container, name).map(|target| vec![RData::PTR(PTR(target))])
            }
            _ => None,
        };
        drop(state);
        let single = text.trim_end_matches('.');
        let single = !single.is_empty() && !single.contains('.');
        match records {
            Some(records) => {
                let mut answer = response(question, ResponseCode::NoError);
                answer
                    .add_answers(records.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data)));
                Step::Answer(answer)
            }
            // With `ndots` set, the asker tries its search domains next.
            None if self.ndots_set
                && single
                && matches!(query.query_type(), RecordType::A | RecordType::AAAA) =>
            {
                Step::Answer(response(question, ResponseCode::NoError))
            }
            None => Step::Forward,
        }
    }

    /// Another server's answer, or a refusal.
    async fn forward(&self, question: &Message, bytes: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let refusal = |code| encode(response(question, code), PLAIN_ANSWER);
        let Ok(_place) = self.places.try_acquire() else { return refusal(ResponseCode::Refused) };
        // In internal networks only, a container must not reach the outside by its questions either.
        let reaches_out = self.networks.way_out(&self.container).is_some();
        match self.upstream.ask(bytes, tcp, reaches_out).await {
            Some(answer) => Some(answer),
            None => refusal(ResponseCode::ServFail),
        }
    }
}

fn reverse(state: &crate::networks::State, asker: &str, name: &Name) -> Option<Name> {
    let net = name.parse_arpa_name().ok()?;
    let whole = net.prefix_len() == if net.addr().is_ipv4() { 32 } else { 128 };
    let found = whole.then(|| names::reverse(state, asker, net.addr()))??;
    let mut target = Name::from_ascii(found).ok()?;
    target.set_fqdn(true);
    Some(target)
}

/// Spreads load over several containers of one name.
fn shuffled(addresses: impl Iterator<Item = RData>) -> Vec<RData> {
    let mut addresses: Vec<RData> = addresses.collect();
    if addresses.len() > 1 {
        let random = usize::from(u16::from_ne_bytes(crate::random::bytes()));
        let by = random % addresses.len();
        addresses.rotate_left(by);
    }
    addresses
}

fn response(question: &Message, code: ResponseCode) -> Message {
    let asked = question.metadata;
    let mut answer = Message::response(asked.id, asked.op_code);
    answer.metadata.recursion_desired = asked.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.queries.clone_from(&question.queries);
    answer
}

fn encode(mut answer: Message, most: usize) -> Option<Vec<u8>> {
    let bytes = answer.to_vec().ok()?;
    if bytes.len() <= most {
        return Some(bytes);
    }
    answer.answers.clear();
    answer.metadata.truncation = true;
    answer.to_vec().ok()
}

/// The servers that know other names.
struct Upstream {
    servers: Vec<IpAddr>,
    /// They are asked from there; else from the node.
    inside: Option<Namespace>,
}

impl Upstream {
    fn new(resolv_conf: &Path, resolver: &Resolver, namespace: Namespace) -> Self {
        let node = resolver.servers.is_empty();
        let mut servers = if node {
            files::ResolvConf::parse(&read_conf(resolv_conf)).servers
        } else {
            resolver.servers.clone()
        };
        if !node {
            // Never itself.
            servers.retain(|server| *server != ADDRESS.ip());
        }
        servers.truncate(MAX_SERVERS);
        Self { servers, inside: (!node).then_some(namespace) }
    }

    async fn ask(&self, question: &[u8], tcp: bool, reaches_out: bool) -> Option<Vec<u8>> {
        if self.inside.is_none() && !reaches_out {
            return None;
        }
        for server in &self.servers {
            let server = SocketAddr::new(*server, PORT);
            let asked = async {
                if tcp { self.ask_tcp(server, question).await } else { self.ask_udp(server, question).await }
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) if !gave_up(&answer) => return Some(answer),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%server, %error, "name server does not answer"),
                Err(_) => tracing::debug!(%server, "name server does not answer in time"),
            }
        }
        None
    }

    async fn ask_udp(&self, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        let open = || {
            let any = if server.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED)
            };
            let socket = std::net::UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = UdpSocket::from_std(self.there(open)?)?;
        socket.connect(server).await?;
        socket.send(question).await?;
        let mut answer = vec![0; usize::from(u16::MAX)];
        loop {
            let len = socket.recv(&mut answer).await?;
            if answers(&answer[..len], question) {
                answer.truncate(len);
                return Ok(answer);
            }
        }
    }

    async fn ask_tcp(&self, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let open = || Ok(std::net::TcpStream::from(socket(family, SockType::Stream, flags, None)?));
        let mut stream = TcpSocket::from_std_stream(self.there(open)?).connect(server).await?;
        write_message(&mut stream, question).await?;
        let answer = read_message(&mut stream).await?;
        if answers(&answer, question) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Opens a socket where servers are asked from.
    fn there<T: Send>(&self, open: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        match &self.inside {
            None => open(),
            Some(namespace) => namespace
                .run(|| open().map_err(|e| Kind::Internal.error(e.to_string())))
                .map_err(io::Error::other),
        }
    }
}

/// Whether it is the answer to this question: the same id, and the mark of an answer (RFC 1035, 4.1.1).
fn answers(answer: &[u8], question: &[u8]) -> bool {
    answer.len() >= 12 && answer[..2] == question[..2] && answer[2] & 0x80 != 0
}

/// The server says that it can't (2) or will not (5): another one may.
fn gave_up(answer: &[u8]) -> bool {
    matches!(answer[3] & 0x0f, 2 | 5)
}

/// The node's file, whatever the node's root has made of it.
fn read_conf(path: &Path) -> String {
    let read = || {
        let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
        let mut bytes = Vec::new();
        if file.metadata()?.is_file() {
            file.take(MAX_CONF).read_to_end(&mut bytes)?;
        }
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}
