//! rtnetlink(7): bridges, veth pairs, addresses and routes. Requests are sent in batches and their answers read
//! together; interface numbers are chosen by us, so nothing has to be looked up.

use crate::{Error, Result, error::Context};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::{
        BridgePortState, InfoBridgePort, InfoData, InfoKind, InfoMacVlan, InfoPortData, InfoPortKind,
        InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
    },
    neighbour::NeighbourMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

/// Number of the loopback interface in every network namespace.
pub const LOOPBACK: u32 = 1;

/// Requests to the network namespace that the calling thread is in.
#[derive(Debug, Default)]
pub struct Batch {
    requests: Vec<(String, NetlinkMessage<RouteNetlinkMessage>)>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a bridge with this interface number and link-layer address, and switches it on.
    pub fn bridge(&mut self, name: &str, index: u32, mac: [u8; 6]) -> &mut Self {
        let mut link = up(index);
        link.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.create(format!("make bridge {name}"), RouteNetlinkMessage::NewLink(link))
    }

    /// Makes a pair of connected interfaces: one here with this number, a port of a bridge if one is named, and one that `peer`
    /// describes in another network namespace. Without a number here the kernel would choose the peer's too
    /// (drivers/net/veth.c, `veth_newlink`), which then depends on what else is in its namespace.
    pub fn veth(
        &mut self,
        name: &str,
        index: u32,
        bridge: Option<u32>,
        peer: &Peer<'_>,
        there: In<'_>,
    ) -> &mut Self {
        let mut other = LinkMessage::default();
        other.header.index = peer.index;
        other.attributes = vec![
            LinkAttribute::IfName(peer.name.into()),
            LinkAttribute::Address(peer.mac.to_vec()),
            match there {
                In::Process(pid) => LinkAttribute::NetNsPid(pid.cast_unsigned()),
                In::Namespace(namespace) => LinkAttribute::NetNsFd(namespace.as_raw_fd()),
            },
        ];
        let mut link = up(index);
        link.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
            ]),
        ];
        link.attributes.extend(bridge.map(LinkAttribute::Controller));
        self.create(format!("make interfaces {name} and {}", peer.name), RouteNetlinkMessage::NewLink(link))
    }

    /// Makes a pair of connected interfaces, as [`Pair`] describes it.
    pub fn pair(&mut self, pair: &Pair<'_>, namespace: BorrowedFd<'_>) -> &mut Self {
        let mtu = pair.mtu.map(LinkAttribute::Mtu);
        let mut other = LinkMessage::default();
        other.header.index = pair.peer.index;
        other.attributes = vec![
            LinkAttribute::IfName(pair.peer.name.into()),
            LinkAttribute::Address(pair.peer.mac.to_vec()),
            LinkAttribute::NetNsFd(namespace.as_raw_fd()),
        ];
        other.attributes.extend(mtu.clone());
        let mut link = up(pair.index);
        link.attributes = vec![
            LinkAttribute::IfName(pair.name.into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
            ]),
            LinkAttribute::Controller(pair.bridge),
        ];
        link.attributes.extend(mtu);
        self.create(
            format!("make interfaces {} and {}", pair.name, pair.peer.name),
            RouteNetlinkMessage::NewLink(link),
        )
    }

    /// Makes an interface in another network namespace that shares one here.
    pub fn macvlan(
        &mut self,
        parent: u32,
        mode: MacvlanMode,
        peer: &Peer<'_>,
        namespace: BorrowedFd<'_>,
    ) -> &mut Self {
        let mode = match mode {
            MacvlanMode::Bridge => MacVlanMode::Bridge,
            MacvlanMode::Private => MacVlanMode::Private,
            MacvlanMode::Vepa => MacVlanMode::Vepa,
            MacvlanMode::Passthrough => MacVlanMode::Passthrough,
        };
        let mut link = LinkMessage::default();
        link.header.index = peer.index;
        link.attributes = vec![
            LinkAttribute::IfName(peer.name.into()),
            LinkAttribute::Address(peer.mac.to_vec()),
            LinkAttribute::NetNsFd(namespace.as_raw_fd()),
            LinkAttribute::Link(parent),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)])),
            ]),
        ];
        self.create(format!("make interface {}", peer.name), RouteNetlinkMessage::NewLink(link))
    }

    /// Lets a port of a bridge talk to ports that are not isolated only.
    pub fn isolate(&mut self, name: &str) -> &mut Self {
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(true)])),
            ]),
        ];
        self.request(format!("isolate bridge port {name}"), RouteNetlinkMessage::NewLink(link), 0)
    }

    /// Sets the largest packet of an interface.
    pub fn mtu(&mut self, index: u32, mtu: u32) -> &mut Self {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![LinkAttribute::Mtu(mtu)];
        self.request(format!("set the MTU of interface {index}"), RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Deletes an interface by its name.
    pub fn delete_named(&mut self, name: &str) -> &mut Self {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(name.into())];
        self.request(format!("delete interface {name}"), RouteNetlinkMessage::DelLink(link), 0)
    }

    /// Makes `gateway` the default route of its family in place of the one that is there.
    pub fn replace_default_route(&mut self, gateway: impl Into<IpAddr>) -> &mut Self {
        let gateway = gateway.into();
        self.request(
            format!("route to {gateway}"),
            RouteNetlinkMessage::NewRoute(default_route(family_of(gateway), Some(gateway))),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Removes the default route of the family that this gateway is of.
    pub fn delete_default_route(&mut self, gateway: impl Into<IpAddr>) -> &mut Self {
        let message = default_route(family_of(gateway.into()), None);
        self.request("remove the default route".into(), RouteNetlinkMessage::DelRoute(message), 0)
    }

    /// Switches an interface on.
    pub fn up(&mut self, index: u32) -> &mut Self {
        self.request(format!("switch on interface {index}"), RouteNetlinkMessage::SetLink(up(index)), 0)
    }

    /// Deletes an interface.
    pub fn delete(&mut self, index: u32) -> &mut Self {
        let mut link = LinkMessage::default();
        link.header.index = index;
        self.request(format!("delete interface {index}"), RouteNetlinkMessage::DelLink(link), 0)
    }

    /// Gives an interface an address.
    pub fn address(&mut self, index: u32, address: impl Into<IpAddr>, prefix: u8) -> &mut Self {
        let address = address.into();
        let mut message = AddressMessage::default();
        message.header.family = family_of(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        match address {
            // A network of two addresses has none to spare for broadcasts (RFC 3021).
            IpAddr::V4(address) if prefix < 31 => {
                let broadcast = Ipv4Addr::from_bits(address.to_bits() | (u32::MAX >> prefix));
                message.attributes.push(AddressAttribute::Broadcast(broadcast));
            }
            IpAddr::V4(_) => {}
            // Who gives addresses out knows that nobody else has this one: it can be used at once.
            IpAddr::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
        }
        self.create(format!("add address {address}"), RouteNetlinkMessage::NewAddress(message))
    }

    /// Adds a default route.
    pub fn default_route(&mut self, gateway: impl Into<IpAddr>) -> &mut Self {
        let gateway = gateway.into();
        self.create(
            format!("route to {gateway}"),
            RouteNetlinkMessage::NewRoute(default_route(family_of(gateway), Some(gateway))),
        )
    }

    /// Leads packets for a network to a gateway, in place of the route that is there.
    pub fn route(&mut self, network: Ipv4Addr, prefix: u8, gateway: Ipv4Addr) -> &mut Self {
        self.request(
            format!("route to {network}/{prefix} by {gateway}"),
            RouteNetlinkMessage::NewRoute(route_to(network, prefix, Some(gateway))),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Removes the route to a network.
    pub fn delete_route(&mut self, network: Ipv4Addr, prefix: u8) -> &mut Self {
        let message = RouteNetlinkMessage::DelRoute(route_to(network, prefix, None));
        self.request(format!("remove the route to {network}/{prefix}"), message, 0)
    }

    fn create(&mut self, what: String, message: RouteNetlinkMessage) -> &mut Self {
        self.request(what, message, NLM_F_CREATE | NLM_F_EXCL)
    }

    fn request(&mut self, what: String, message: RouteNetlinkMessage, flags: u16) -> &mut Self {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.header.sequence_number = u32::try_from(self.requests.len() + 1).unwrap_or(u32::MAX);
        self.requests.push((what, request));
        self
    }

    /// Sends the requests and waits for all answers. The first refusal is the error; later requests of the
    /// batch may have been carried out all the same.
    pub fn send(&mut self) -> Result<()> {
        if self.requests.is_empty() {
            return Ok(());
        }
        let mut socket = Socket::new(NETLINK_ROUTE).step(|| "open a netlink socket")?;
        socket.bind_auto().step(|| "bind a netlink socket")?;
        let mut bytes = Vec::new();
        for (_, request) in &mut self.requests {
            request.finalize();
            let start = bytes.len();
            bytes.resize(start + request.buffer_len(), 0);
            request.serialize(&mut bytes[start..]);
        }
        socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).step(|| "send to netlink")?;
        let mut open = self.requests.len();
        let mut refusal = None;
        while open > 0 {
            let (answer, _) = socket.recv_from_full().step(|| "read from netlink")?;
            let mut rest = &answer[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|e| Error::new("read a netlink answer", io::Error::other(e)))?;
                if let NetlinkPayload::Error(error) = &message.payload {
                    open -= 1;
                    if error.code.is_some() && refusal.is_none() {
                        refusal = Some((message.header.sequence_number, error.to_io()));
                    }
                }
                // Messages are padded to four bytes.
                let length = message.header.length as usize;
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            }
        }
        let Some((number, error)) = refusal else { return Ok(()) };
        let what = self.requests.get(number as usize - 1).map_or("netlink", |(what, _)| what.as_str());
        Err(Error::new(what, error))
    }
}

/// An interface of the network namespace that the calling thread is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The bridge that it is a port of.
    pub bridge: Option<u32>,
}

/// All interfaces.
pub fn links() -> Result<Vec<Link>> {
    Ok(ask_for_links(LinkMessage::default(), NLM_F_DUMP)?.iter().filter_map(read_link).collect())
}

/// Whether a bridge lets packets pass at this port of it. The kernel tells the bridge some time after a port's other end has been
/// switched on, at the latest when somebody asks (Linux 6.8).
pub fn forwards(port: &str) -> Result<bool> {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(port.into())];
    let forwarding = InfoBridgePort::State(BridgePortState::Forwarding);
    let is_open = |info: &LinkInfo| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(settings)) => settings.contains(&forwarding),
        _ => false,
    };
    Ok(ask_for_links(link, NLM_F_ACK)?.iter().flat_map(|link| &link.attributes).any(|attribute| {
        match attribute {
            LinkAttribute::LinkInfo(infos) => infos.iter().any(is_open),
            _ => false,
        }
    }))
}

fn ask_for_links(about: LinkMessage, flags: u16) -> Result<Vec<LinkMessage>> {
    let mut links = Vec::new();
    ask(RouteNetlinkMessage::GetLink(about), flags, "look at interfaces", |answer| {
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = read(answer)?.payload {
            links.push(link);
        }
        Ok(true)
    })?;
    Ok(links)
}

/// How many neighbours (arp(7), IPv6's too) the network namespace of the calling thread has; no more than `most` are counted. Nothing of
/// them is read.
pub fn neighbours(most: usize) -> Result<usize> {
    let (mut count, all) = (0, RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()));
    ask(all, NLM_F_DUMP, "count neighbours", |_| {
        count += 1;
        Ok(count < most)
    })?;
    Ok(count)
}

/// Asks, and takes answers until there are no more or `take` has enough.
fn ask(
    question: RouteNetlinkMessage,
    flags: u16,
    what: &'static str,
    mut take: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE).step(|| "open a netlink socket")?;
    socket.bind_auto().step(|| "bind a netlink socket")?;
    let mut request = NetlinkMessage::from(question);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).step(|| "send to netlink")?;
    loop {
        let (answer, _) = socket.recv_from_full().step(|| "read from netlink")?;
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let head = NetlinkBuffer::new_checked(rest).map_err(unreadable)?;
            let (message, kind) = (&rest[..head.length() as usize], head.message_type());
            rest = &rest[message.len().next_multiple_of(4).min(rest.len())..];
            if kind == NLMSG_DONE || kind == NLMSG_ERROR {
                return match read(message)?.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        Err(Error::new(what, error.to_io()))
                    }
                    _ => Ok(()),
                };
            }
            if !take(message)? {
                return Ok(());
            }
        }
    }
}

fn read(message: &[u8]) -> Result<NetlinkMessage<RouteNetlinkMessage>> {
    NetlinkMessage::deserialize(message).map_err(unreadable)
}

fn unreadable(error: netlink_packet_core::DecodeError) -> Error {
    Error::new("read a netlink answer", io::Error::other(error))
}

fn read_link(link: &LinkMessage) -> Option<Link> {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let bridge = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    });
    Some(Link { index: link.header.index, name, bridge })
}

/// A pair of connected interfaces: one here, a port of a bridge, and one in another network namespace.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Name of the one here.
    pub name: &'a str,
    /// Its number. 0: the kernel chooses, and then it chooses the other one's too (`drivers/net/veth.c`).
    pub index: u32,
    /// The bridge that it is a port of.
    pub bridge: u32,
    /// Largest packet, for both.
    pub mtu: Option<u32>,
    /// The other one. Number 0: the kernel chooses.
    pub peer: Peer<'a>,
}

/// How interfaces on the same parent see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Directly.
    Bridge,
    /// Not at all.
    Private,
    /// By way of a switch that sends back.
    Vepa,
    /// There is one only, and it takes the parent's place.
    Passthrough,
}

/// A network namespace.
#[derive(Debug, Clone, Copy)]
pub enum In<'a> {
    /// That of the process with this id.
    Process(i32),
    /// This one.
    Namespace(BorrowedFd<'a>),
}

/// The other end of a pair of interfaces.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number in its namespace.
    pub index: u32,
    /// Its link-layer address.
    pub mac: [u8; 6],
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn default_route(family: AddressFamily, gateway: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes =
        gateway.map(|gateway| RouteAttribute::Gateway(RouteAddress::from(gateway))).into_iter().collect();
    message
}

fn route_to(network: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>) -> RouteMessage {
    let mut message = default_route(AddressFamily::Inet, gateway.map(IpAddr::V4));
    message.header.destination_prefix_length = prefix;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(network)));
    message
}

fn up(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}
