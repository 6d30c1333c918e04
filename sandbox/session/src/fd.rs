//! Descriptors that the runtime waits for: ptys, pipes, channels.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};
use tokio::io::unix::AsyncFd;

/// Makes a descriptor non-blocking and registers it.
pub fn watch<T: AsFd + AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    set_nonblocking(&inner)?;
    #[expect(
        deprecated,
        reason = "its successor is an unsafe fn, and this crate holds no unsafe code; T owns its descriptor"
    )]
    AsyncFd::new(inner)
}

/// Makes a descriptor non-blocking.
fn set_nonblocking(fd: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
