//! A node, its containers, a host outside, and what the tests do in them.

use drydock_network::{
    Config, Endpoint, EndpointRequest, Networks, NewNetwork, PortRequest, Protocol, dns_names,
};
use drydock_runtime::container::net::set_up;
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt,
            socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsRawFd,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// What must happen happens in this time.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// What must not happen has not happened after this time.
pub const SHORT: Duration = Duration::from_millis(300);

/// A node.
pub struct World {
    pub networks: Networks,
    pub config: Config,
}

/// Runs a test in a node of its own.
pub fn node<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send + 'static) {
    in_namespace(move || {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        runtime(async {
            let networks = Networks::open(config.clone()).unwrap();
            test(World { networks, config }).await;
        });
    });
}

pub fn config(directory: &tempfile::TempDir) -> Config {
    let resolv_conf = directory.path().join("resolv.conf");
    fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    Config { directory: directory.path().join("network"), resolv_conf, ..Config::default() }
}

pub fn in_namespace(work: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        sh("ip link set lo up");
        // As on a machine that has just booted; a namespace begins with what the host has now.
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

/// Runs a shell command in the caller's network namespace.
pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A process with a network namespace of its own.
pub struct Process(Child);

impl Process {
    pub fn start() -> Self {
        // It ends with the test, however that ends.
        let program = ["-n", "setpriv", "--pdeathsig", "KILL", "sleep", "1000"];
        let child = Command::new("unshare").args(program).stdin(Stdio::null()).spawn().unwrap();
        let ours = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let theirs = || fs::read_link(format!("/proc/{}/ns/net", child.id())).unwrap();
        while theirs() == ours {
            thread::sleep(Duration::from_millis(1));
        }
        Self(child)
    }

    pub fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    /// Does something in its network namespace.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.begin(work).join().unwrap()
    }

    pub fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    pub fn sh(&self, command: &str) -> String {
        let command = command.to_owned();
        self.run(move || sh(&command))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A container.
pub struct Container {
    pub id: String,
    pub process: Process,
    pub endpoints: Vec<Endpoint>,
}

impl Container {
    pub fn address(&self) -> Ipv4Addr {
        self.endpoints[0].address.unwrap()
    }
}

pub fn id_of(name: &str) -> String {
    let digits: String = name.bytes().map(|b| format!("{b:02x}")).collect();
    format!("{digits:0<64}")
}

pub fn request(name: &str, network: &str) -> EndpointRequest {
    EndpointRequest {
        network: network.into(),
        container: id_of(name),
        container_name: name.into(),
        dns_names: dns_names(name, &[], &id_of(name), ""),
        ..EndpointRequest::default()
    }
}

impl World {
    pub async fn network(&self, name: &str) -> String {
        self.networks.create(NewNetwork { name: name.into(), ..NewNetwork::default() }).await.unwrap()
    }

    /// Starts a container in these networks, as the engine and a container's child do it.
    pub fn start(&self, name: &str, networks: &[&str]) -> Container {
        self.start_as(name, networks.iter().map(|network| request(name, network)).collect())
    }

    pub fn start_as(&self, name: &str, requests: Vec<EndpointRequest>) -> Container {
        let endpoints = requests.iter().map(|request| self.networks.reserve(request).unwrap()).collect();
        let process = Process::start();
        let interfaces = self.networks.plug(&id_of(name), process.pid()).unwrap();
        process.run(move || set_up(&interfaces, false).unwrap());
        Container { id: id_of(name), process, endpoints }
    }
}

/// A machine beside the node: 203.0.113.1, where the node is 203.0.113.2 and its default route leads.
pub fn outside() -> Process {
    let outside = Process::start();
    sh(&format!(
        "ip link add out type veth peer name far netns {} && ip addr add 203.0.113.2/24 dev out && \
         ip link set out up",
        outside.pid()
    ));
    outside.sh("ip link set lo up && ip addr add 203.0.113.1/24 dev far && ip link set far up");
    sh("ip route add default via 203.0.113.1");
    outside
}

/// Sends echo requests and says whether an answer came. More than one: an interface that has just been made may not yet
/// let the first packet pass.
pub fn ping(to: Ipv4Addr) -> bool {
    (0..4).any(|_| ping_once(to))
}

/// RFC 792
fn ping_once(to: Ipv4Addr) -> bool {
    let fd = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).unwrap();
    let wait = TimeVal::milliseconds(300);
    setsockopt(&fd, sockopt::ReceiveTimeout, &wait).unwrap();
    // Type 8, code 0, checksum, identifier 0x4242, sequence number 1.
    let packet = [8, 0, !0x4a, !0x43, 0x42, 0x42, 0, 1];
    let to_address = SockaddrIn::from(SocketAddrV4::new(to, 0));
    if sendto(fd.as_raw_fd(), &packet, &to_address, MsgFlags::empty()).is_err() {
        return false;
    }
    let mut answer = [0; 128];
    while let Ok(len) = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()) {
        // After the IP header of 20 bytes: type 0 and the identifier.
        if len >= 28 && answer[20] == 0 && answer[24..26] == packet[4..6] && answer[12..16] == to.octets() {
            return true;
        }
    }
    false
}

/// Whether a TCP connection can be made, for the same reason asked more than once.
pub fn connects(to: (Ipv4Addr, u16)) -> bool {
    (0..4).any(|_| TcpStream::connect_timeout(&to.into(), SHORT).is_ok())
}

/// A port of the node for one of a container.
pub fn port(protocol: Protocol, host: u16, inner: u16) -> PortRequest {
    PortRequest { protocol, host_ip: None, host_port: host, host_port_end: 0, container_port: inner }
}

/// A port of the node for the container's web server.
pub fn tcp(host: u16) -> PortRequest {
    port(Protocol::Tcp, host, 80)
}

/// Serves one TCP port: tells each client who it is, then gives back what it sends, in capitals, when it has ended.
pub fn echo_server(port: u16) {
    serve_echo(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
}

/// The same for both families.
pub fn echo_server6(port: u16) {
    serve_echo(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
}

fn serve_echo(listener: TcpListener) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            thread::spawn(move || {
                let peer = client.peer_addr().unwrap().ip();
                let mut text = String::new();
                let _gone = client.read_to_string(&mut text);
                let _gone = write!(client, "{peer} {}", text.to_uppercase());
            });
        }
    });
}

/// Asks [`echo_server`]; ends its own direction before it reads.
pub fn ask(to: SocketAddr, text: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// [`ask`], while the runtime of the node goes on.
pub async fn ask_here(to: impl Into<SocketAddr>, text: &'static str) -> std::io::Result<String> {
    let to = to.into();
    tokio::task::spawn_blocking(move || ask(to, text)).await.unwrap()
}
