//! A [`Channel`] to the spawner or to a node's init as the session process uses it: sending never blocks; what the other
//! side does not take at once waits in a bounded queue.

use crate::fd;
use drydock_runtime::channel::Channel;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
};
use tokio::{io::unix::AsyncFd, sync::Notify};

/// Most messages that wait.
const MAX_WAITING: usize = 256;

/// One end of a channel whose other end takes messages of type `T`.
pub struct Link<T> {
    channel: AsyncFd<Channel>,
    waiting: RefCell<VecDeque<(T, Option<OwnedFd>)>>,
    wake: Notify,
}

impl<T: Serialize> Link<T> {
    /// Takes over a channel.
    pub fn new(channel: Channel) -> io::Result<Self> {
        Ok(Self { channel: fd::watch(channel)?, waiting: RefCell::default(), wake: Notify::new() })
    }

    /// Sends a message, now or as soon as the other side takes it. Errors: the message is too large, the other side
    /// is gone, or too much waits already.
    pub fn send(&self, message: T, fd: Option<OwnedFd>) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            match self.try_send(&message, fd.as_ref()) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
        if waiting.len() >= MAX_WAITING {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many requests wait"));
        }
        waiting.push_back((message, fd));
        self.wake.notify_one();
        Ok(())
    }

    /// The next message; `None` when the other side is gone. Sends meanwhile what waits.
    pub async fn recv<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        loop {
            let must_send = !self.waiting.borrow().is_empty();
            tokio::select! {
                ready = self.channel.readable() => {
                    if let Ok(message) = ready?.try_io(|channel| channel.get_ref().recv()) {
                        return message;
                    }
                }
                ready = self.channel.writable(), if must_send => {
                    if ready?.try_io(|_| self.flush()).is_ok_and(|sent| sent.is_err()) {
                        // The message can't be sent at all; the requester learns it when the node goes down.
                        self.waiting.borrow_mut().pop_front();
                    }
                }
                () = self.wake.notified() => {}
            }
        }
    }

    fn flush(&self) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        while let Some((message, fd)) = waiting.front() {
            self.try_send(message, fd.as_ref())?;
            waiting.pop_front();
        }
        Ok(())
    }

    fn try_send(&self, message: &T, fd: Option<&OwnedFd>) -> io::Result<()> {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        self.channel.get_ref().send(message, &fds)
    }
}
