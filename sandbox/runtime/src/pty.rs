//! Pseudo terminals (pty(7)), made in a node's own devpts.

use drydock_protocol::frame::Size;
use rustix::{
    fs::{Mode, OFlags, openat},
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    termios::{Winsize, tcgetpgrp, tcgetsid, tcgetwinsize, tcsetwinsize},
};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

/// A new pty in the devpts instance whose root directory is `devpts`: (master, slave), both close-on-exec, the
/// master non-blocking. No path is looked up, so nothing that the node mounts over `/dev` is ever opened.
pub fn open(devpts: BorrowedFd<'_>, size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let master = openat(devpts, "ptmx", flags, Mode::empty())?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    tcsetwinsize(&master, winsize(size))?;
    Ok((master, slave))
}

/// Gives the pty another size (the foreground process group gets SIGWINCH).
pub fn resize(master: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    Ok(tcsetwinsize(master, winsize(size))?)
}

/// The pty's size.
pub fn size(master: BorrowedFd<'_>) -> io::Result<Size> {
    let w = tcgetwinsize(master)?;
    Ok(Size { cols: w.ws_col, rows: w.ws_row })
}

/// The process id of the shell whose session has this terminal, as this process sees it.
pub fn session(master: BorrowedFd<'_>) -> io::Result<i32> {
    Ok(tcgetsid(master)?.as_raw_nonzero().get())
}

/// The process group in the terminal's foreground.
pub fn foreground(master: BorrowedFd<'_>) -> io::Result<i32> {
    Ok(tcgetpgrp(master)?.as_raw_nonzero().get())
}

fn winsize(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}
