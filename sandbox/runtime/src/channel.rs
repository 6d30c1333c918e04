//! Messages with descriptors over a `SOCK_SEQPACKET` pair: how the session process, the spawner and the node
//! inits talk. One message is one packet, postcard-encoded; descriptors travel beside it (`SCM_RIGHTS`) and are
//! close-on-exec on arrival. Both ends may be blocking or not; nothing is ever sent in parts.

use crate::limits::Limits;
use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
        accept4, bind, connect, getsockopt, listen, recvmsg, sendmsg, setsockopt, socket, socketpair,
        sockopt::{PeerCredentials, SndBuf, SndBufForce},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

/// Largest message, in bytes, encoded.
pub const MAX_MESSAGE: usize = 128 * 1024;
/// Most descriptors beside one message: the disks of all nodes of a session.
pub const MAX_FDS: usize = 2 * Limits::MAX_NODES as usize;

thread_local! {
    /// Where packets arrive. One for each thread that receives, and only as much of it is memory as the largest packet was long: a
    /// buffer for each packet would be cleared each time, and be copied page by page in every forked child.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_MESSAGE]);
}

/// One end of a packet socket pair.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// A connected pair, close-on-exec, blocking.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// From now on this end waits for nobody: [`Self::send`] and [`Self::recv`] fail with `WouldBlock` instead. What the other end has
    /// not read yet may take `room` bytes, which the kernel keeps for it.
    pub fn wait_for_nobody(&self, room: usize) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&self.0, true)?;
        // Without the right to more than the system's usual bound there is as much as that.
        Ok(setsockopt(&self.0, SndBufForce, &room).or_else(|_| setsockopt(&self.0, SndBuf, &room))?)
    }

    /// Sends one message. Errors: `WouldBlock` if the other end does not read, `BrokenPipe` if it is gone,
    /// `InvalidData` if the message is larger than [`MAX_MESSAGE`] encoded.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_bytes(&postcard::to_stdvec(message).map_err(io::Error::other)?, fds)
    }

    /// Sends one packet as it is; errors as for [`Self::send`].
    pub fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too large for the channel"));
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        loop {
            match sendmsg::<()>(
                self.0.as_raw_fd(),
                &[IoSlice::new(bytes)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Receives one message; `None` when the other end is closed.
    pub fn recv<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some((bytes, fds)) = self.recv_bytes()? else { return Ok(None) };
        let message = postcard::from_bytes(&bytes)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("unreadable message: {e}")))?;
        Ok(Some((message, fds)))
    }

    /// Receives one packet as it is; `None` when the other end is closed.
    pub fn recv_bytes(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        SCRATCH.with_borrow_mut(|scratch| self.recv_into(scratch))
    }

    fn recv_into(&self, buffer: &mut [u8]) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let mut space = cmsg_space!([RawFd; MAX_FDS]);
        let (len, fds) = loop {
            let mut parts = [IoSliceMut::new(buffer)];
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            {
                Ok(message) => {
                    let mut fds = Vec::new();
                    for control in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(raw) = control {
                            // SAFETY: the kernel has just installed these descriptors for us alone.
                            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                        }
                    }
                    break (message.bytes, fds);
                }
                // Told once if the other end was closed with something of ours unread; what it has sent before that is still to come.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(e) => return Err(e.into()),
            }
        };
        Ok((len > 0).then(|| (buffer[..len].to_vec(), fds)))
    }

    /// Connects to a listener; fails at once when its queue is full.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self(fd))
    }

    /// The end as a plain descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

/// Listens for packet connections at a path.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Binds to `path` (which must not exist, and be shorter than 108 bytes) with access for its owner only.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listen(&fd, Backlog::new(16)?)?;
        Ok(Self(fd))
    }

    /// Takes the next connection and the user id that made it.
    pub fn accept(&self) -> io::Result<(Channel, u32)> {
        let raw = accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
        // SAFETY: a descriptor that accept4 has just made for us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let user = getsockopt(&fd, PeerCredentials)?.uid();
        Ok((Channel(fd), user))
    }
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_whole() {
        let (a, b) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        a.send(&("hello".to_string(), 7u32), &[file.as_fd()]).unwrap();
        let (message, fds): ((String, u32), _) = b.recv().unwrap().unwrap();
        assert_eq!((message.0.as_str(), message.1, fds.len()), ("hello", 7, 1));
        drop(a);
        assert!(b.recv::<u32>().unwrap().is_none());
    }

    #[test]
    fn last_words_arrive_though_ours_were_not_read() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&1u32, &[]).unwrap();
        b.send(&2u32, &[]).unwrap();
        drop(b);
        assert_eq!(a.recv::<u32>().unwrap().map(|(message, _)| message), Some(2));
        assert!(a.recv::<u32>().unwrap().is_none());
    }

    #[test]
    fn an_end_that_does_not_read_stops_nobody() {
        let (a, b) = Channel::pair().unwrap();
        a.wait_for_nobody(64 << 10).unwrap();
        assert_eq!(a.recv_bytes().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut sent = 0;
        while a
            .send_bytes(&[7; 1000], &[])
            .inspect_err(|e| assert_eq!(e.kind(), io::ErrorKind::WouldBlock))
            .is_ok()
        {
            sent += 1;
        }
        assert!(sent > 10, "{sent}");
        // What was sent arrives, and then there is room again.
        for _ in 0..sent {
            assert_eq!(b.recv_bytes().unwrap().unwrap().0, [7; 1000]);
        }
        a.send_bytes(&[8], &[]).unwrap();
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&vec![0xffu8; 40], &[]).unwrap();
        assert!(b.recv::<(String, String)>().is_err());
    }
}
