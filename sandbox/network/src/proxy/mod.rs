//! The userland proxy: a socket of the node whose traffic tasks carry to a container, as docker-proxy does.

mod tcp;
mod udp;

use crate::Protocol;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, listen,
        setsockopt, socket, sockopt,
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, LazyLock, PoisonError, RwLock},
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinHandle};

/// Connections and UDP clients at once, of all ports of a node: each costs two descriptors and two buffers.
const MAX_CLIENTS: usize = 2048;
/// Pause after an error of a listening socket (no descriptors left, for instance).
const PAUSE: Duration = Duration::from_millis(100);

static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_CLIENTS)));

/// The addresses that published ports of a container lead to. They change when the container changes networks.
#[derive(Debug, Default)]
pub(crate) struct Target(RwLock<(Option<Ipv4Addr>, Option<Ipv6Addr>)>);

impl Target {
    pub fn set(&self, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (ipv4, ipv6);
    }

    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1
    }

    /// What comes to an IPv6 address of the node goes to the container's, if it has one.
    fn for_host(&self, host: IpAddr) -> Option<IpAddr> {
        let (ipv4, ipv6) = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        ipv6.filter(|_| host.is_ipv6()).map(IpAddr::V6).or(ipv4.map(IpAddr::V4))
    }
}

/// Whether sockets can have IPv6 addresses here.
pub(crate) fn ipv6_available() -> bool {
    socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).is_ok()
        && std::fs::exists("/proc/sys/net/ipv6").unwrap_or(false)
}

/// A port that is bound, and to which nobody listens yet.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    protocol: Protocol,
    address: IpAddr,
}

/// A running proxy. It ends, with its connections, when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy(JoinHandle<()>);

impl Proxy {
    /// Ends it. When this is done, the port is free.
    pub async fn stop(mut self) {
        self.0.abort();
        let _cancelled = (&mut self.0).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Socket {
    /// Takes a port of the node.
    pub fn bind(protocol: Protocol, address: IpAddr, port: u16) -> Result<Self, Errno> {
        let (family, any): (_, Box<dyn SockaddrLike>) = match address {
            IpAddr::V4(v4) => (AddressFamily::Inet, Box::new(SockaddrIn::from(SocketAddrV4::new(v4, port)))),
            IpAddr::V6(v6) => {
                (AddressFamily::Inet6, Box::new(SockaddrIn6::from(SocketAddrV6::new(v6, port, 0, 0))))
            }
        };
        let kind = match protocol {
            Protocol::Tcp => SockType::Stream,
            Protocol::Udp => SockType::Datagram,
        };
        let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        if protocol == Protocol::Tcp {
            // Connections of the previous container may still be waiting for their end.
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        }
        match address {
            IpAddr::V6(_) => setsockopt(&fd, sockopt::Ipv6V6Only, &true)?,
            IpAddr::V4(_) => {}
        }
        if protocol == Protocol::Udp {
            udp::ask_for_destination(&fd, address)?;
        }
        bind(fd.as_raw_fd(), any.as_ref())?;
        if protocol == Protocol::Tcp {
            // With SO_REUSEADDR only listening finds out that somebody else listens.
            listen(&fd, Backlog::MAXCONN)?;
        }
        Ok(Self { fd, protocol, address })
    }

    /// Carries what comes to `port` of the container. Needs a runtime.
    pub fn start(self, target: Arc<Target>, port: u16) -> io::Result<Proxy> {
        let host = self.address;
        let to = move || target.for_host(host).map(|address| SocketAddr::from((address, port)));
        Ok(Proxy(match self.protocol {
            Protocol::Tcp => {
                let listener = tokio::net::TcpListener::from_std(TcpListener::from(self.fd))?;
                tokio::spawn(tcp::serve(listener, to))
            }
            Protocol::Udp => {
                let socket = tokio::net::UdpSocket::from_std(UdpSocket::from(self.fd))?;
                tokio::spawn(udp::serve(socket, to))
            }
        }))
    }
}
