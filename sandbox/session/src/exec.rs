//! A command in a node for a connection from serve (`drydock exec`, `cp`): carries its input and output, and its exit
//! status after the last output. The command's speed holds the sender, the reader's speed holds the command.

use crate::{
    fd,
    nodes::{Command, Process, ProcessIo},
    session::Session,
    wire,
};
use drydock_protocol::{
    NodeName,
    frame::Size,
    pipe::{BINARY, ErrorKind, Reply, exec},
};
use drydock_runtime::{pidfd, pty};
use nix::{errno::Errno, sys::signal::Signal, unistd};
use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};
use tokio::{
    io::{AsyncWriteExt, BufReader, Interest, unix::AsyncFd},
    net::{
        UnixStream,
        unix::{ReadHalf, WriteHalf},
    },
    sync::{Notify, oneshot},
};

/// Output in one frame.
const PIECE: usize = 32 * 1024;
/// Input that waits for the command, in bytes; more makes the sender wait.
const MAX_WAITING: usize = 256 * 1024;
/// End of file as a terminal types it.
const EOT: u8 = 4;

/// The command's side, as one connection uses it.
struct Running {
    pidfd: OwnedFd,
    tty: bool,
    stdin: RefCell<Option<Rc<AsyncFd<OwnedFd>>>>,
    waiting: RefCell<Waiting>,
    /// Told when input was added or its end came.
    fed: Notify,
    /// Told when the command took input.
    space: Notify,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    ended: bool,
}

/// Runs a command for a connection.
pub async fn serve(
    session: &Session,
    mut stream: UnixStream,
    node: NodeName,
    command: Command,
) -> io::Result<()> {
    session.touch();
    let tty = command.tty.is_some();
    let started = match session.init(node) {
        Ok(init) => init.spawn(command).await,
        Err(e) => Err(e),
    };
    let Process { pidfd, io, exited } = match started {
        Ok(process) => process,
        Err(e) => return wire::reply(&mut stream, &e.reply()).await,
    };
    let (stdin, outputs) = match io {
        ProcessIo::Pty(master) => {
            let master = Rc::new(fd::watch(master)?);
            (master.clone(), vec![(exec::STDOUT, master)])
        }
        ProcessIo::Pipes([stdin, stdout, stderr]) => (
            Rc::new(fd::watch(stdin)?),
            vec![(exec::STDOUT, Rc::new(fd::watch(stdout)?)), (exec::STDERR, Rc::new(fd::watch(stderr)?))],
        ),
    };
    let running = Running {
        pidfd,
        tty,
        stdin: RefCell::new(Some(stdin)),
        waiting: RefCell::default(),
        fed: Notify::new(),
        space: Notify::new(),
    };
    let (read, write) = stream.split();
    let (ended, done) = tokio::select! {
        done = running.take_requests(session, read) => (false, done),
        done = running.send_output(write, outputs, exited) => (done.is_ok(), done),
        never = running.feed() => (false, never),
    };
    // Nobody is left to hear it. What a command that has ended by itself leaves in the background goes on.
    if !ended {
        running.signal(Signal::SIGHUP as i32);
    }
    done
}

// === impl Running ===

impl Running {
    fn signal(&self, signal: i32) {
        if let Err(e) = pidfd::signal_group(self.pidfd.as_fd(), signal)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(error = %e, signal, "the signal could not be sent");
        }
    }

    /// Takes frames from serve. Ends with an error when serve is gone.
    async fn take_requests(&self, session: &Session, read: ReadHalf<'_>) -> io::Result<()> {
        let mut read = BufReader::with_capacity(4096, read);
        let mut payload = Vec::new();
        while let Some(tag) = wire::read(&mut read, &mut payload).await? {
            if tag != BINARY {
                continue;
            }
            match payload.split_first() {
                Some((&exec::STDIN, bytes)) => {
                    session.touch();
                    self.waiting.borrow_mut().bytes.extend_from_slice(bytes);
                    self.fed.notify_one();
                    self.wait_for_space(read.get_ref()).await?;
                }
                Some((&exec::STDIN_END, _)) => {
                    self.waiting.borrow_mut().ended = true;
                    self.fed.notify_one();
                }
                Some((&exec::RESIZE, &[a, b, c, d])) => {
                    let size =
                        Size { cols: u16::from_be_bytes([a, b]), rows: u16::from_be_bytes([c, d]) }.clamped();
                    let stdin = self.stdin.borrow();
                    if let Some(master) = stdin.as_ref().filter(|_| self.tty)
                        && let Err(e) = pty::resize(master.get_ref().as_fd(), size)
                    {
                        tracing::debug!(error = %e, "the pty can't be resized");
                    }
                }
                Some((&exec::SIGNAL, &[signal])) => self.signal(i32::from(signal)),
                _ => {}
            }
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }

    async fn wait_for_space(&self, connection: &ReadHalf<'_>) -> io::Result<()> {
        while self.waiting.borrow().bytes.len() > MAX_WAITING {
            tokio::select! {
                () = self.space.notified() => {}
                // Priority data does not exist on these sockets: this is the other side's hanging up.
                gone = connection.ready(Interest::PRIORITY) => {
                    gone?;
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
        }
        Ok(())
    }

    /// Feeds the command with what waits, for ever.
    async fn feed(&self) -> io::Result<()> {
        loop {
            let stdin = self.stdin.borrow().clone();
            let (empty, ended) = {
                let waiting = self.waiting.borrow();
                (waiting.bytes.is_empty(), waiting.ended)
            };
            let Some(stdin) = stdin.filter(|_| !empty || ended) else {
                // A command that reads no more throws the rest away.
                self.waiting.borrow_mut().bytes.clear();
                self.space.notify_one();
                self.fed.notified().await;
                continue;
            };
            if empty {
                self.end_input();
                continue;
            }
            let mut guard = stdin.writable().await?;
            let mut waiting = self.waiting.borrow_mut();
            match unistd::write(&*stdin, &waiting.bytes) {
                Ok(n) => drop(waiting.bytes.drain(..n)),
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(_) => {
                    self.stdin.take();
                }
            }
            self.space.notify_one();
        }
    }

    fn end_input(&self) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.ended = false;
        if self.tty {
            waiting.bytes.push(EOT);
        } else {
            self.stdin.take();
        }
    }

    /// Sends output as it comes, then the exit status.
    async fn send_output(
        &self,
        mut write: WriteHalf<'_>,
        mut outputs: Vec<(u8, Rc<AsyncFd<OwnedFd>>)>,
        mut exited: oneshot::Receiver<i32>,
    ) -> io::Result<()> {
        let mut frame = Vec::new();
        let mut status = None;
        loop {
            // Without waiting first: what a command printed before it ended is there when its end is told.
            let mut sent = false;
            let mut open = Vec::new();
            for (kind, fd) in outputs {
                frame.clear();
                let ended = read_frame(kind, &fd, &mut frame);
                if !frame.is_empty() {
                    write.write_all(&frame).await?;
                    sent = true;
                }
                if !ended {
                    open.push((kind, fd));
                }
            }
            outputs = open;
            match status {
                _ if sent => {}
                Some(Ok(status)) => return wire::reply(&mut write, &Reply::Exit { status }).await,
                Some(Err(_)) => {
                    let message = "the node was switched off".into();
                    return wire::reply(&mut write, &Reply::Error { kind: ErrorKind::Conflict, message })
                        .await;
                }
                None => {
                    let first = outputs.first().map(|(_, fd)| &**fd);
                    let second = outputs.get(1).map(|(_, fd)| &**fd);
                    tokio::select! {
                        ended = &mut exited => status = Some(ended),
                        () = readable(first) => {}
                        () = readable(second) => {}
                    }
                }
            }
        }
    }
}

/// Waits until there is output. The readiness stays noted until a read finds nothing.
async fn readable(output: Option<&AsyncFd<OwnedFd>>) {
    match output {
        Some(output) => drop(output.readable().await),
        None => std::future::pending().await,
    }
}

/// Reads what there is into a frame, up to a bound. True if no more will ever come.
fn read_frame(kind: u8, fd: &AsyncFd<OwnedFd>, frame: &mut Vec<u8>) -> bool {
    let start = wire::begin(frame, BINARY);
    frame.push(kind);
    let mut len = frame.len();
    frame.resize(len + PIECE, 0);
    let ended = loop {
        if len == frame.len() {
            break false;
        }
        match unistd::read(fd, &mut frame[len..]) {
            Ok(0) => break true,
            Ok(n) => len += n,
            Err(Errno::EINTR) => {}
            // Asked again so that the runtime learns that it is dry.
            Err(Errno::EAGAIN) => {
                match fd.try_io(Interest::READABLE, |fd| Ok(unistd::read(fd, &mut frame[len..])?)) {
                    Ok(0) => break true,
                    Ok(n) => len += n,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break false,
                    Err(_) => break true,
                }
            }
            Err(_) => break true,
        }
    };
    frame.truncate(len);
    if len == start + 1 {
        wire::cancel(frame, start);
    } else {
        wire::end(frame, start);
    }
    ended
}
