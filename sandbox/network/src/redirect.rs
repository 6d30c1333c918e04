//! Leads questions to port 53 of the embedded name server to the ports where its sockets really are, as Docker does, so
//! that a container may have a name server of its own on port 53. A table of nf_tables in the container's network
//! namespace, made by one netlink batch (no program is run): `table ip docker-dns`, a chain of type nat at hook output.
//! Its name keeps it apart from what programs inside make with `iptables`.

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt,
            socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::{io, net::Ipv4Addr, os::fd::AsRawFd};

const TABLE: &[u8] = b"docker-dns\0";
const CHAIN: &[u8] = b"output\0";
/// Where containers ask (RFC 1035).
const PORT: u16 = 53;
/// The kernel answers at once.
const PATIENCE: i64 = 1000;

// linux/netfilter/nf_tables.h and nfnetlink.h: kinds of messages and attributes, in the order in which they are used.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
/// NFNL_SUBSYS_NFTABLES
const SUBSYSTEM: u16 = 10;
/// An attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// NFPROTO_IPV4
const IPV4: u8 = 2;
/// NF_INET_LOCAL_OUT
const HOOK_OUTPUT: u32 = 3;
/// NF_IP_PRI_NAT_DST
const PRIORITY: i32 = -100;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const EQUAL: u32 = 0;
const DNAT: u32 = 1;
/// NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED
const NAT_FLAGS: u32 = 3;

/// In the caller's network namespace: UDP and TCP to port 53 of `server` go to these ports of it.
pub(crate) fn lay(server: Ipv4Addr, udp: u16, tcp: u16) -> io::Result<()> {
    let table = attribute(1, TABLE);
    let hook = [attribute(1, &HOOK_OUTPUT.to_be_bytes()), attribute(2, &PRIORITY.to_be_bytes())].concat();
    let chain =
        [attribute(1, TABLE), attribute(3, CHAIN), attribute(4 | NESTED, &hook), attribute(7, b"nat\0")]
            .concat();
    let create = libc::NLM_F_CREATE;
    let mut messages = vec![
        (NEW_TABLE, create | libc::NLM_F_EXCL, table.clone()),
        (NEW_CHAIN, create, chain),
        (NEW_RULE, create | libc::NLM_F_APPEND, rule(server, libc::IPPROTO_UDP, udp)),
        (NEW_RULE, create | libc::NLM_F_APPEND, rule(server, libc::IPPROTO_TCP, tcp)),
    ];
    match send(&messages) {
        // An earlier engine has left one, with its ports.
        Err(Errno::EEXIST) => {
            messages.insert(0, (DELETE_TABLE, 0, table));
            Ok(send(&messages)?)
        }
        result => Ok(result?),
    }
}

/// `ip daddr SERVER ip protocol PROTOCOL th dport 53 dnat to SERVER:PORT`
fn rule(server: Ipv4Addr, protocol: i32, port: u16) -> Vec<u8> {
    let protocol = u8::try_from(protocol).unwrap_or_default();
    let expressions = [
        load(NETWORK_HEADER, 16, 4),
        compare(&server.octets()),
        load(NETWORK_HEADER, 9, 1),
        compare(&[protocol]),
        load(TRANSPORT_HEADER, 2, 2),
        compare(&PORT.to_be_bytes()),
        immediate(1, &server.octets()),
        immediate(2, &port.to_be_bytes()),
        expression(
            b"nat\0",
            &[number(1, DNAT), number(2, IPV4.into()), number(3, 1), number(5, 2), number(7, NAT_FLAGS)]
                .concat(),
        ),
    ];
    [attribute(1, TABLE), attribute(2, CHAIN), attribute(4 | NESTED, &expressions.concat())].concat()
}

/// Loads a part of the packet into register 1.
fn load(header: u32, offset: u32, len: u32) -> Vec<u8> {
    expression(b"payload\0", &[number(1, 1), number(2, header), number(3, offset), number(4, len)].concat())
}

/// Goes on only if register 1 holds this.
fn compare(value: &[u8]) -> Vec<u8> {
    let data = attribute(3 | NESTED, &attribute(1, value));
    expression(b"cmp\0", &[number(1, 1), number(2, EQUAL), data].concat())
}

/// Puts a value into a register.
fn immediate(register: u32, value: &[u8]) -> Vec<u8> {
    let data = attribute(2 | NESTED, &attribute(1, value));
    expression(b"immediate\0", &[number(1, register), data].concat())
}

fn expression(name: &[u8], data: &[u8]) -> Vec<u8> {
    attribute(1 | NESTED, &[attribute(1, name), attribute(2 | NESTED, data)].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// Length, kind, value; padded to four bytes (netlink(7)).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // All of ours are small.
    let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message: header, then the family that it is about, then attributes.
fn message(kind: u16, flags: i32, sequence: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(20 + attributes.len()).unwrap_or(u32::MAX);
    let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or_default();
    [
        &len.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        &[family, 0],
        &resource.to_be_bytes(),
        attributes,
    ]
    .concat()
}

/// Sends one batch: all of it is done, or nothing.
fn send(messages: &[(u16, i32, Vec<u8>)]) -> Result<(), Errno> {
    let mut batch = message(BATCH_BEGIN, 0, 0, 0, SUBSYSTEM, &[]);
    for ((kind, flags, attributes), sequence) in messages.iter().zip(1..) {
        batch.extend(message(*kind, flags | libc::NLM_F_ACK, sequence, IPV4, 0, attributes));
    }
    batch.extend(message(BATCH_END, 0, 0, 0, SUBSYSTEM, &[]));
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PATIENCE))?;
    sendto(fd.as_raw_fd(), &batch, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut open = messages.len();
    let mut buffer = [0; 8192];
    while open > 0 {
        let len = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..len];
        while let Some(code) = answer(&mut rest) {
            if code != 0 {
                return Err(Errno::from_raw(-code));
            }
            open = open.saturating_sub(1);
        }
    }
    Ok(())
}

/// The code in the next answer.
fn answer(rest: &mut &[u8]) -> Option<i32> {
    let word = |at: usize| rest.get(at..at + 4)?.try_into().ok();
    let len = usize::try_from(u32::from_ne_bytes(word(0)?)).ok()?;
    let code = i32::from_ne_bytes(word(16)?);
    *rest = rest.get(len.max(20).next_multiple_of(4)..).unwrap_or_default();
    Some(code)
}
