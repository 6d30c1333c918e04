//! Process descriptors: processes named without the danger that a number is used again.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

/// Opens a descriptor of a process that is not yet reaped.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal (1 to 64) to the process. `NotFound` when it has ended.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    if !(1..=64).contains(&signal) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no such signal: {signal}")));
    }
    // SAFETY: the number is a signal of this kernel (checked above); the C library keeps some real-time
    // signals for itself, but we only pass the number on and never install a handler for it.
    let signal = unsafe { Signal::from_raw_unchecked(signal) };
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::SRCH) => Err(io::ErrorKind::NotFound.into()),
        Err(e) => Err(e.into()),
    }
}
