//! Sockets on the session's own addresses, which the spawner may not have given to the bridge yet: it makes the network while this process starts.

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use std::{
    io,
    net::{self, SocketAddr},
    os::fd::AsRawFd,
};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

/// Connections that wait to be accepted (what `TcpListener::bind` of the standard library takes, too).
const BACKLOG: u32 = 128;

/// Listens at an address, be it there or yet to come.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket::setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Receives at an address, be it there or yet to come.
pub fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Datagram, flags, None)?;
    socket::setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    UdpSocket::from_std(net::UdpSocket::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_may_come_later() {
        // Nobody's (RFC 5737).
        let address: SocketAddr = "192.0.2.1:53053".parse().unwrap();
        assert_eq!(udp(address).unwrap().local_addr().unwrap(), address);
        assert_eq!(tcp(address).unwrap().local_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn an_address_in_use_is_refused() {
        let first = udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let again = udp(first.local_addr().unwrap());
        assert_eq!(again.map(|_| ()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
