//! The connections of serve: the one, and perhaps one that has just been killed, or the command line's. An answer goes to the
//! connection that asked, events go to all. The warden waits for none of them: who does not read is hung up on, and must connect again.

use crate::messages::{Answer, Message};
use drydock_runtime::channel::Channel;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

/// Connections at a time.
const MOST: usize = 8;
/// What may wait in the kernel for one that is slow, in bytes: the ends of some thousand sessions.
const ROOM: usize = 4 << 20;

/// Who asked: a connection, and its own number of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The connection. No number is used again.
    pub client: u64,
    /// Its call.
    pub number: u64,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Clients {
    all: Vec<(u64, Channel)>,
    last: u64,
}

impl Clients {
    /// Takes a new connection.
    pub fn add(&mut self, channel: Channel) -> io::Result<()> {
        if self.all.len() >= MOST {
            return Err(io::Error::other(format!("there are {MOST} connections already")));
        }
        channel.wait_for_nobody(ROOM)?;
        self.last += 1;
        self.all.push((self.last, channel));
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, with what becomes readable when they ask.
    pub fn fds(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.all.iter().map(|(client, channel)| (*client, channel.as_fd()))
    }

    /// The next packet of a connection; absent when it has none, also because it is over.
    pub fn read(&mut self, client: u64) -> Option<Vec<u8>> {
        let (_, channel) = self.all.iter().find(|(one, _)| *one == client)?;
        match channel.recv_bytes() {
            Ok(Some((packet, _))) => return Some(packet),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
            Ok(None) => {}
            Err(e) => tracing::warn!("read from serve: {e}"),
        }
        self.hang_up(client);
        None
    }

    /// Ends a connection.
    pub fn hang_up(&mut self, client: u64) {
        self.all.retain(|(one, _)| *one != client);
    }

    /// Answers a call, if who asked is still there.
    pub fn answer(&mut self, caller: Caller, answer: Answer) {
        let message = Message::Answer { number: caller.number, answer };
        self.all.retain(|(client, channel)| *client != caller.client || send(channel, &message));
    }

    /// Tells an event to all but these.
    pub fn tell(&mut self, message: &Message, but: &[Caller]) {
        self.all
            .retain(|(client, channel)| but.iter().any(|b| b.client == *client) || send(channel, message));
    }
}

/// False when the connection is over.
fn send(channel: &Channel, message: &Message) -> bool {
    let sent =
        serde_json::to_vec(message).map_err(io::Error::other).and_then(|m| channel.send_bytes(&m, &[]));
    match &sent {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            tracing::warn!("serve does not read what it is told: hung up");
        }
        Err(e) => tracing::warn!("answer to serve: {e}"),
        Ok(()) => {}
    }
    sent.is_ok()
}
