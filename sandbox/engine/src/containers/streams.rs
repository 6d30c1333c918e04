//! Input and output of a container while it runs: a pump per stream reads what the program writes, hands it to the log and to
//! every attached client. Clients may attach before the start and stay until the run ends.

use bytes::Bytes;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, watch},
};

/// Pieces that an attached client may be behind before the program has to wait for it; as with Docker a client that
/// attaches and does not read holds the container up, since nothing may be lost.
const BEHIND: usize = 64;
/// Most bytes that are read at once.
const PIECE: usize = 32 * 1024;

/// Which stream; the number is that of the frames on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and a terminal.
    Out = 1,
    /// Standard error.
    Err = 2,
}

impl Stream {
    /// As logs name it.
    pub fn name(self) -> &'static str {
        if self == Self::Out { "stdout" } else { "stderr" }
    }
}

/// An end of a pipe or the master of a terminal.
#[derive(Debug)]
pub struct Io(AsyncFd<OwnedFd>);

impl Io {
    /// Takes a descriptor. Must be called within the runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        watched(fd).map(Self)
    }

    /// Reads some bytes; 0 at the end. A terminal that nobody holds any more reads as EIO: that is its end.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.readable().await?;
            match guard.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), buffer)?)) {
                Ok(Err(e)) if e.raw_os_error() == Some(Errno::EIO as i32) => return Ok(0),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(done) => return done,
                Err(_not_ready) => {}
            }
        }
    }

    /// Writes all bytes.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.0.writable().await?;
            match guard.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), bytes)?)) {
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(done) => bytes = &bytes[done?..],
                Err(_not_ready) => {}
            }
        }
        Ok(())
    }

    /// Sets the size of a terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(self.0.get_ref(), size)?)
    }
}

impl AsFd for Io {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// A descriptor that the runtime watches. To be called within the runtime.
pub fn watched<T: std::os::fd::AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
    watched_for(fd, Interest::READABLE | Interest::WRITABLE)
}

/// The same for one kind of news.
pub fn watched_for<T: std::os::fd::AsRawFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // Sound for what is given here: it owns its descriptor and always tells the same one.
    #[expect(deprecated, reason = "the replacement is unsafe to call")]
    AsyncFd::with_interest(fd, interest)
}

/// The input of a run.
#[derive(Debug, Clone, Default)]
pub enum Input {
    /// It does not run yet.
    #[default]
    NotYet,
    /// It can be written.
    Open(Arc<Io>),
    /// It has none, or it has been closed, or the run is over.
    Closed,
}

/// Who takes part in a container's input and output.
#[derive(Debug)]
pub struct Streams {
    clients: Mutex<Vec<Client>>,
    input: watch::Sender<Input>,
}

#[derive(Debug, Clone)]
struct Client {
    out: bool,
    err: bool,
    to: mpsc::Sender<(Stream, Bytes)>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { clients: Mutex::default(), input: watch::Sender::new(Input::NotYet) }
    }
}

impl Streams {
    fn clients(&self) -> MutexGuard<'_, Vec<Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Output from now on until the run ends.
    pub fn attach(&self, out: bool, err: bool) -> mpsc::Receiver<(Stream, Bytes)> {
        let (to, from) = mpsc::channel(BEHIND);
        self.clients().push(Client { out, err, to });
        from
    }

    /// Input, when it is there.
    pub fn input(&self) -> watch::Receiver<Input> {
        self.input.subscribe()
    }

    /// Sets the input at the start of a run, and when it closes.
    pub fn set_input(&self, input: Input) {
        self.input.send_replace(input);
    }

    /// A run is over: attached clients come to their end.
    pub fn finish(&self) {
        self.clients().clear();
        self.set_input(Input::Closed);
    }

    /// Gives a piece of output to all who want it.
    pub async fn hand_out(&self, stream: Stream, piece: &Bytes) {
        let wants = |c: &Client| if stream == Stream::Out { c.out } else { c.err };
        let takers: Vec<Client> = self.clients().iter().filter(|c| wants(c)).cloned().collect();
        let mut gone = false;
        for client in &takers {
            gone |= client.to.send((stream, piece.clone())).await.is_err();
        }
        if gone {
            self.clients().retain(|c| !c.to.is_closed());
        }
    }
}

/// Reads a stream to its end, piece by piece.
pub async fn pump<F: Future<Output = ()>>(io: Arc<Io>, mut take: impl FnMut(Bytes) -> F) {
    let mut buffer = vec![0; PIECE];
    loop {
        match io.read(&mut buffer).await {
            Ok(0) => return,
            Ok(n) => take(Bytes::copy_from_slice(&buffer[..n])).await,
            Err(error) => {
                tracing::warn!(%error, "output can't be read");
                return;
            }
        }
    }
}

/// A piece as it goes over a multiplexed connection.
pub fn frame(stream: Stream, piece: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(piece.len() + 8);
    framed.extend_from_slice(&[stream as u8, 0, 0, 0]);
    framed.extend_from_slice(&u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(piece);
    framed.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pipe;

    #[tokio::test]
    async fn output_reaches_all_clients_and_ends_with_the_run() {
        let (read, write) = pipe().unwrap();
        let streams = Streams::default();
        let mut both = streams.attach(true, true);
        let mut errors = streams.attach(false, true);
        let io = Arc::new(Io::new(read).unwrap());
        nix::unistd::write(&write, b"hello").unwrap();
        drop(write);
        let streams = Arc::new(streams);
        let to = streams.clone();
        pump(io, move |piece| {
            let to = to.clone();
            async move { to.hand_out(Stream::Out, &piece).await }
        })
        .await;
        streams.finish();
        assert_eq!(both.recv().await.unwrap(), (Stream::Out, Bytes::from_static(b"hello")));
        assert!(both.recv().await.is_none() && errors.recv().await.is_none());
        assert_eq!(&frame(Stream::Err, b"ab")[..], b"\x02\0\0\0\0\0\0\x02ab");
    }
}
