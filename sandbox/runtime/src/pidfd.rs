//! Process descriptors: processes named without the danger that a number is used again.

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

/// Opens a descriptor of a process that is not yet reaped.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal (1 to 64) to the process. `NotFound` when it has ended.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    send(pidfd, signal, 0)
}

/// Sends a signal (1 to 64) to the process group that the process leads; before Linux 6.9, which can't, to the process.
pub fn signal_group(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    match send(pidfd, signal, PIDFD_SIGNAL_PROCESS_GROUP) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => send(pidfd, signal, 0),
        other => other,
    }
}

/// linux/pidfd.h
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

fn send(pidfd: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    if !(1..=64).contains(&signal) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no such signal: {signal}")));
    }
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: integers, and a null pointer that asks for the plain kind of signal.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, flags) };
    match (sent, io::Error::last_os_error()) {
        (0, _) => Ok(()),
        (_, e) if e.raw_os_error() == Some(libc::ESRCH) => Err(io::ErrorKind::NotFound.into()),
        (_, e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::{
        fd::AsFd,
        unix::process::{CommandExt, ExitStatusExt},
    };

    #[test]
    fn a_group_gets_the_signal_with_all_its_members() {
        let mut command = std::process::Command::new("sh");
        // The shell ends only because its child did, and would ignore the signal itself.
        command
            .args(["-c", "trap '' TERM; (trap - TERM; exec sleep 100) & wait $!; exit $?"])
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let pidfd = open(child.id() as i32).unwrap();
        // Until the inner process has reset the signal it may ignore it: send again until it is gone.
        let status = loop {
            signal_group(pidfd.as_fd(), 15).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::yield_now();
        };
        assert!(status.code() == Some(143) || status.signal() == Some(15), "{status}");
        assert_eq!(signal(pidfd.as_fd(), 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
