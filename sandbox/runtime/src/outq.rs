//! How much of what was sent over a Unix stream socket its other end has not read yet (unix(7) has it as `SIOCOUTQ`; the kernel counts
//! the memory of what waits). Called by the engine; there is no event for it, so it can only be asked.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Bytes of kernel memory in which sent data waits; 0: the other end has read all.
pub fn unread(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: the request writes one int, and `waiting` is one that lives until the call returns.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(waiting).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::{fd::AsFd, unix::net::UnixStream},
    };

    #[test]
    fn what_is_read_waits_no_longer() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(unread(ours.as_fd()).unwrap(), 0);
        ours.write_all(b"head").unwrap();
        assert!(unread(ours.as_fd()).unwrap() > 0);
        theirs.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread(ours.as_fd()).unwrap(), 0);
    }
}
