//! UDP packets to a published port. Each client has a socket towards the container, so that answers find back; it is closed
//! after some silence. Answers leave from the address that the client had sent to (packet information, ip(7)).

use super::{PAUSE, PLACES};
use nix::{
    cmsg_space,
    errno::Errno,
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
    },
};
use std::{
    collections::HashMap,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{io::Interest, net::UdpSocket, sync::OwnedSemaphorePermit, task::JoinSet, time::timeout};

/// A client that neither sends nor gets anything for so long is forgotten (docker-proxy's figure).
const IDLE: Duration = Duration::from_secs(90);
/// Largest packet.
const PACKET: usize = 65_507;

/// Who has sent, and to which address of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Client {
    from: SocketAddr,
    to: Option<IpAddr>,
}

type Clients = Arc<Mutex<HashMap<Client, Arc<UdpSocket>>>>;

/// Has the kernel say with each packet to which address it was sent.
pub(super) fn ask_for_destination(socket: &OwnedFd, address: IpAddr) -> Result<(), Errno> {
    match address {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true),
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true),
    }
}

/// Serves for ever; its clients' sockets end with it.
pub(super) async fn serve(socket: UdpSocket, to: impl Fn() -> Option<SocketAddr>) {
    let socket = Arc::new(socket);
    let clients = Clients::default();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; PACKET];
    loop {
        let received = socket.async_io(Interest::READABLE, || receive(&socket, &mut buffer)).await;
        let (len, client) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "receive for a container");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let known = lock(&clients).get(&client).cloned();
        let towards = match known {
            Some(towards) => towards,
            None => {
                let Some(target) = to() else { continue };
                // No place: the packet is lost, as packets may be.
                let Ok(place) = PLACES.clone().try_acquire_owned() else { continue };
                let Ok(towards) = connect(target).await else { continue };
                let towards = Arc::new(towards);
                lock(&clients).insert(client, towards.clone());
                tasks.spawn(answer(socket.clone(), towards.clone(), client, clients.clone(), place));
                towards
            }
        };
        // A container that does not listen is found out by the answering side.
        let _lost = towards.send(&buffer[..len]).await;
    }
}

async fn connect(target: SocketAddr) -> io::Result<UdpSocket> {
    let any = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Carries answers to one client until there are none for a while.
async fn answer(
    socket: Arc<UdpSocket>,
    towards: Arc<UdpSocket>,
    client: Client,
    clients: Clients,
    _place: OwnedSemaphorePermit,
) {
    let mut buffer = vec![0; 2048];
    loop {
        match timeout(IDLE, towards.readable()).await {
            Ok(Ok(())) => {}
            _ => break,
        }
        // The length first: most answers are small, and there may be many clients.
        match towards.try_io(Interest::READABLE, || peek_length(&towards)) {
            Ok(len) if len > buffer.len() => buffer.resize(len, 0),
            _ => {}
        }
        match towards.try_recv(&mut buffer) {
            Ok(len) => {
                let answer = &buffer[..len];
                let _lost = socket.async_io(Interest::WRITABLE, || send(&socket, answer, client)).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Nobody listens in the container (yet): as silence.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => break,
        }
    }
    lock(&clients).remove(&client);
}

fn lock(clients: &Clients) -> std::sync::MutexGuard<'_, HashMap<Client, Arc<UdpSocket>>> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

fn peek_length(socket: &UdpSocket) -> io::Result<usize> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
    Ok(nix::sys::socket::recv(socket.as_raw_fd(), &mut [], flags)?)
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Client)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut space = cmsg_space!(libc::in6_pktinfo);
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let from = message.address.as_ref().and_then(socket_address);
    let from = from.ok_or_else(|| io::Error::other("a packet from nowhere"))?;
    let to = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(info.ipi_spec_dst.s_addr))))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
        _ => None,
    });
    Ok((message.bytes, Client { from, to }))
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || address.as_sockaddr_in().map(|a| SocketAddr::V4(SocketAddrV4::from(*a)));
    address.as_sockaddr_in6().map(|a| SocketAddr::V6(SocketAddrV6::from(*a))).or_else(v4)
}

fn send(socket: &UdpSocket, packet: &[u8], client: Client) -> io::Result<usize> {
    let parts = [IoSlice::new(packet)];
    let to = SockaddrStorage::from(client.from);
    let fd = socket.as_raw_fd();
    let sent = match client.to {
        Some(IpAddr::V4(from)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: from.to_bits().to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            sendmsg(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&info)], MsgFlags::empty(), Some(&to))
        }
        Some(IpAddr::V6(from)) => {
            let info =
                libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: libc::in6_addr { s6_addr: from.octets() } };
            sendmsg(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&info)], MsgFlags::empty(), Some(&to))
        }
        None => sendmsg(fd, &parts, &[], MsgFlags::empty(), Some(&to)),
    };
    Ok(sent?)
}
