//! Who has an address now, told to all neighbours on a link unasked: an ARP announcement (RFC 5227, section 3) or an unsolicited neighbour
//! advertisement (RFC 4861, section 7.2.6). The kernel sends these only when an interface is switched on, which is before a bridge's
//! port lets anything pass.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// All stations of a link.
const BROADCAST: [u8; 6] = [0xff; 6];

/// `ff02::1`, all nodes, and its link-layer address.
const ALL_NODES: (Ipv6Addr, [u8; 6]) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), [0x33, 0x33, 0, 0, 0, 1]);

/// Tells it on one interface of the caller's network namespace.
pub fn announce(interface: u32, mac: [u8; 6], address: IpAddr) -> io::Result<()> {
    let (to, protocol, packet) = match address {
        IpAddr::V4(address) => (BROADCAST, libc::ETH_P_ARP, arp(mac, address)),
        IpAddr::V6(address) => (ALL_NODES.1, libc::ETH_P_IPV6, advertisement(mac, address)),
    };
    send(interface, to, u16::try_from(protocol).unwrap_or_default(), &packet)
}

/// A request that asks for the sender's own address.
fn arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, lengths of their addresses, request.
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &mac, &address.octets(), &[0; 6], &address.octets()].concat()
}

fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    // Type 136, code 0, checksum; override; target; option: the target's link-layer address.
    let mut message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &address.octets(), &[2, 1], &mac].concat();
    let length = u8::try_from(message.len()).unwrap_or_default();
    let (from, to) = (address.octets(), ALL_NODES.0.octets());
    let pseudo = [&from[..], &to, &[0, 0, 0, length, 0, 0, 0, ICMPV6]].concat();
    let sum = checksum(pseudo.iter().chain(&message).copied());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // Version, length, next header, and the hop limit that shows that no router has passed it on.
    let head = [0x60, 0, 0, 0, 0, length, ICMPV6, 255];
    [&head[..], &from, &to, &message].concat()
}

const ICMPV6: u8 = 58;

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: impl Iterator<Item = u8>) -> u16 {
    let weighted = bytes.enumerate().map(|(at, byte)| u32::from(byte) << if at % 2 == 0 { 8 } else { 0 });
    let mut sum: u32 = weighted.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

fn send(interface: u32, to: [u8; 6], protocol: u16, packet: &[u8]) -> io::Result<()> {
    // Datagrams: the kernel writes the link's header. Protocol 0: nothing is received.
    // SAFETY: integers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor has just been made and is nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut address = [0; 8];
    address[..6].copy_from_slice(&to);
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(interface).unwrap_or_default(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or_default();
    // SAFETY: both pointers lead to values that live through the call, with their lengths.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0x11, 0x22, 0x33, 0x44, 0x55];

    #[test]
    fn an_arp_announcement_names_its_sender_twice() {
        let packet = arp(MAC, Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(packet.len(), 28);
        assert_eq!(packet[8..14], MAC);
        assert_eq!((&packet[14..18], &packet[24..28]), (&[172, 17, 0, 2][..], &[172, 17, 0, 2][..]));
    }

    #[test]
    fn an_advertisement_has_the_right_checksum() {
        let packet = advertisement(MAC, "fd00::2".parse().unwrap());
        assert_eq!(packet.len(), 40 + 32);
        let pseudo = [&packet[8..40], &[0, 0, 0, 32, 0, 0, 0, ICMPV6]].concat();
        assert_eq!(checksum(pseudo.iter().chain(&packet[40..]).copied()), 0, "a sum with its complement");
        assert_eq!(packet[66..72], MAC);
    }
}
