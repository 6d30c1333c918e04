//! Drives the pty of one terminal: carries bytes between the kernel and the terminal core ([`crate::terminal`]), does
//! what its clock demands and wakes its viewers. One task per terminal; it never waits for a viewer.

use crate::{
    error::Error,
    fd, jobs,
    nodes::{Command, Process, ProcessIo},
    session::{First, MAX_TERMINALS, Session},
    terminal::{Terminal, ViewerId},
};
use drydock_protocol::{NodeName, TerminalId, frame::Size, state};
use drydock_runtime::{pidfd, pty};
use nix::{errno::Errno, sys::signal::Signal, unistd};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Instant,
};
use tokio::{
    io::{
        Interest,
        unix::{AsyncFd, AsyncFdReadyGuard},
    },
    sync::{Notify, oneshot},
};

/// Output that is read at a time. (The kernel gives 4 KiB per call.)
const READ: usize = 64 * 1024;
/// Input of one viewer that may wait for the terminal's program, in bytes.
const MAX_WAITING_INPUT: usize = 128 * 1024;
/// Status of a process that ended with its node (SIGKILL).
const KILLED: i32 = 128 + 9;

thread_local! {
    /// Where all terminals of the process read to, one after the other.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A terminal and its pty.
pub struct Pty {
    /// Its number.
    pub id: TerminalId,
    /// The node it runs on.
    pub node: NodeName,
    /// What it shows to whom.
    pub machine: RefCell<Terminal>,
    /// `None` once the other side is closed for good.
    master: RefCell<Option<Rc<AsyncFd<OwnedFd>>>>,
    pidfd: OwnedFd,
    input: RefCell<VecDeque<Input>>,
    /// Told whenever waiting input went out.
    space: Notify,
    wake: Notify,
    viewers: RefCell<Vec<(ViewerId, Rc<Notify>)>>,
    closed: Cell<bool>,
}

struct Input {
    viewer: ViewerId,
    bytes: Vec<u8>,
    written: usize,
}

/// How a read of the pty ended.
enum Got {
    /// There may be more.
    Some,
    /// Nothing more now.
    Dry,
    /// Nothing more ever.
    End,
}

// === impl Session: opening terminals ===

impl Session {
    /// Starts a login shell in a new terminal.
    pub async fn open_terminal(self: &Rc<Self>, node: NodeName) -> Result<TerminalId, Error> {
        let init = self.init(node)?;
        if self.terminals.borrow().len() + self.opening.get() >= MAX_TERMINALS {
            let text = format!("{MAX_TERMINALS} terminals are open, which is the most; close one first");
            return Err(Error::Limit(text));
        }
        let id = TerminalId(self.last_terminal.get() + 1);
        self.last_terminal.set(id.0);
        self.opening.set(self.opening.get() + 1);
        let env = vec![("COLORTERM".into(), "truecolor".into())];
        let command = Command { argv: Vec::new(), env, cwd: None, tty: Some(Size::DEFAULT) };
        let process = init.spawn(command).await;
        self.opening.set(self.opening.get() - 1);
        let (pty, exited) = Pty::new(id, node, process?)?;
        self.terminals.borrow_mut().insert(id, pty.clone());
        tokio::task::spawn_local(pty.drive(self.clone(), exited));
        self.changed();
        Ok(id)
    }

    /// Opens the first terminal, so that its prompt is there before anybody looks. Does so once.
    pub async fn open_first(self: Rc<Self>, node: NodeName) {
        if !matches!(*self.first.borrow(), First::Awaited) {
            return;
        }
        self.first.replace(First::Starting);
        let since = Instant::now();
        let opened = self.open_terminal(node).await;
        match opened.and_then(|id| self.terminal(id)) {
            Err(e) => {
                tracing::error!(error = %e, "the first terminal could not be opened");
                self.first.replace(First::Failed(e.to_string()));
            }
            Ok(pty) => {
                self.step("spawn shell", since);
                let since = Instant::now();
                let mut changes = self.changes.subscribe();
                while !pty.machine.borrow_mut().shows_text(Instant::now()) && !pty.is_over() {
                    let _never_fails = changes.changed().await;
                }
                self.step("shell prompt", since);
                self.first.replace(First::Printed);
            }
        }
        self.changed();
    }
}

// === impl Pty ===

impl Pty {
    fn new(
        id: TerminalId,
        node: NodeName,
        process: Process,
    ) -> Result<(Rc<Self>, oneshot::Receiver<i32>), Error> {
        let ProcessIo::Pty(master) = process.io else {
            let source = io::Error::new(io::ErrorKind::InvalidData, "it came without a pty");
            return Err(Error::Io { what: "open a terminal", source });
        };
        let master = fd::watch(master).map_err(|source| Error::Io { what: "open a terminal", source })?;
        let pty = Rc::new(Self {
            id,
            node,
            machine: RefCell::new(Terminal::new(id, Size::DEFAULT)),
            master: RefCell::new(Some(Rc::new(master))),
            pidfd: process.pidfd,
            input: RefCell::default(),
            space: Notify::new(),
            wake: Notify::new(),
            viewers: RefCell::default(),
            closed: Cell::new(false),
        });
        Ok((pty, process.exited))
    }

    /// The terminal in the picture.
    pub fn state(&self) -> state::Terminal {
        let machine = self.machine.borrow();
        state::Terminal {
            id: self.id,
            node: self.node,
            title: machine.title().into(),
            size: machine.size(),
            exited: machine.exit_status(),
        }
    }

    /// Shows it to a viewer, who is told through `wake` when there is something to fetch.
    pub fn attach(&self, viewer: ViewerId, writer: bool, from: Option<u64>, wake: Rc<Notify>) {
        self.machine.borrow_mut().attach(viewer, writer, from, Instant::now());
        let mut viewers = self.viewers.borrow_mut();
        viewers.retain(|(id, _)| *id != viewer);
        viewers.push((viewer, wake));
        drop(viewers);
        self.poke();
    }

    /// Shows it to a viewer no more.
    pub fn detach(&self, viewer: ViewerId) {
        self.machine.borrow_mut().detach(viewer, Instant::now());
        self.viewers.borrow_mut().retain(|(id, _)| *id != viewer);
        self.poke();
    }

    /// Lets the driver and all viewers look again, after a change of the machine.
    pub fn poke(&self) {
        self.wake.notify_one();
        self.wake_viewers();
    }

    /// A viewer has made room: the pty may go on.
    pub fn poke_driver(&self) {
        self.wake.notify_one();
    }

    /// True while so much of a viewer's input waits that it must wait itself.
    pub fn is_full(&self, viewer: ViewerId) -> bool {
        let input = self.input.borrow();
        input.iter().filter(|i| i.viewer == viewer).map(|i| i.bytes.len() - i.written).sum::<usize>()
            >= MAX_WAITING_INPUT
    }

    /// Waits until [`Self::is_full`] is false.
    pub async fn space(&self, viewer: ViewerId) {
        loop {
            let told = self.space.notified();
            if !self.is_full(viewer) {
                return;
            }
            told.await;
        }
    }

    /// Types bytes: at once if the kernel takes them, else as soon as it does.
    pub fn put_input(&self, viewer: ViewerId, bytes: &[u8]) {
        let Some(master) = self.master.borrow().clone() else { return };
        let mut input = self.input.borrow_mut();
        let written = if input.is_empty() { unistd::write(&*master, bytes).unwrap_or(0) } else { 0 };
        if written < bytes.len() {
            input.push_back(Input { viewer, bytes: bytes[written..].to_vec(), written: 0 });
            self.wake.notify_one();
        }
    }

    /// Ends the terminal's processes as closing a window does: SIGHUP to the shell, and the hang-up of the pty to
    /// all that use it.
    pub fn close(&self) {
        self.closed.set(true);
        self.end_master();
        let _may_have_ended = pidfd::signal_group(self.pidfd.as_fd(), Signal::SIGHUP as i32);
        self.wake.notify_one();
    }

    /// What runs in it beside its shell, in the foreground or as a job: its name.
    pub fn program(&self) -> Option<String> {
        jobs::program(self.master.borrow().as_ref()?.get_ref().as_fd())
    }

    fn is_over(&self) -> bool {
        self.closed.get() || self.machine.borrow().exit_status().is_some()
    }

    fn end_master(&self) {
        self.master.take();
        self.input.borrow_mut().clear();
        self.space.notify_waiters();
    }

    fn wake_viewers(&self) {
        for (_, wake) in self.viewers.borrow().iter() {
            wake.notify_one();
        }
    }

    async fn drive(self: Rc<Self>, session: Rc<Session>, mut exited: oneshot::Receiver<i32>) {
        let mut status = None;
        while !self.closed.get() {
            self.tick(&session);
            let (may_read, due, told_exit) = {
                let machine = self.machine.borrow();
                (machine.may_read(), machine.due(), machine.exit_status().is_some())
            };
            let master = self.master.borrow().clone();
            if let Some(status) = status.filter(|_| may_read && !told_exit) {
                // The last words are already in the pty; the kernel may have told of them before.
                if !matches!(self.read(master.as_deref(), &session), Got::Some) {
                    self.machine.borrow_mut().exit(status);
                    self.wake_viewers();
                    session.changed();
                }
                tokio::task::yield_now().await;
                continue;
            }
            let must_write = !self.input.borrow().is_empty();
            tokio::select! {
                () = self.wake.notified() => {}
                ended = &mut exited, if status.is_none() => status = Some(ended.unwrap_or(KILLED)),
                () = sleep_until(due) => {}
                mut guard = ready(master.as_deref(), Interest::READABLE), if may_read => {
                    if !matches!(self.read(master.as_deref(), &session), Got::Some) {
                        guard.clear_ready();
                    }
                    drop(guard);
                    // Others' turn: other terminals, and the viewers of this one.
                    tokio::task::yield_now().await;
                }
                mut guard = ready(master.as_deref(), Interest::WRITABLE), if must_write => {
                    if self.write(master.as_deref()) {
                        guard.clear_ready();
                    }
                }
            }
        }
    }

    fn tick(&self, session: &Session) {
        let mut machine = self.machine.borrow_mut();
        let now = Instant::now();
        if machine.due().is_none_or(|due| now < due) {
            return;
        }
        let tick = machine.tick(now);
        let renamed = machine.take_title_changed();
        drop(machine);
        if let Some(size) = tick.resize
            && let Some(master) = self.master.borrow().as_deref()
            && let Err(e) = pty::resize(master.get_ref().as_fd(), size)
        {
            tracing::warn!(terminal = %self.id, error = %e, "the pty can't be resized");
        }
        for viewer in tick.detached {
            self.viewers.borrow_mut().retain(|(id, _)| *id != viewer);
            if let Some(viewer) = session.viewers.borrow().get(&viewer) {
                viewer.forget(self.id);
                viewer.notice(format!(
                    "Terminal {} was detached: this page took no output for 30 seconds. Reload to go on.",
                    self.id
                ));
            }
        }
        if renamed || tick.resize.is_some() {
            session.mark_dirty();
        }
        self.wake_viewers();
    }

    /// Reads what is there, up to a bound, into the machine.
    fn read(&self, master: Option<&AsyncFd<OwnedFd>>, session: &Session) -> Got {
        let Some(master) = master else { return Got::End };
        let got = SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(READ, 0);
            let mut len = 0;
            let got = loop {
                if len == scratch.len() {
                    break Got::Some;
                }
                match unistd::read(master, &mut scratch[len..]) {
                    Ok(0) => break Got::End,
                    Ok(n) => len += n,
                    Err(Errno::EAGAIN) => break Got::Dry,
                    Err(Errno::EINTR) => {}
                    // EIO: no process has the other side open any more.
                    Err(_) => break Got::End,
                }
            };
            self.take_output(&scratch[..len], session);
            got
        });
        if matches!(got, Got::End) {
            self.end_master();
        }
        got
    }

    fn take_output(&self, bytes: &[u8], session: &Session) {
        if bytes.is_empty() {
            return;
        }
        let mut machine = self.machine.borrow_mut();
        machine.output(bytes, Instant::now());
        let renamed = machine.take_title_changed();
        drop(machine);
        self.wake_viewers();
        if matches!(*session.first.borrow(), First::Starting) {
            session.changed();
        } else if renamed {
            session.mark_dirty();
        }
    }

    /// Writes what waits. True if the kernel takes no more now.
    fn write(&self, master: Option<&AsyncFd<OwnedFd>>) -> bool {
        let Some(master) = master else { return true };
        let mut input = self.input.borrow_mut();
        let full = loop {
            let Some(next) = input.front_mut() else { break false };
            match unistd::write(master, &next.bytes[next.written..]) {
                Ok(n) => next.written += n,
                Err(Errno::EINTR) => continue,
                Err(_) => break true,
            }
            if next.written == next.bytes.len() {
                input.pop_front();
            }
        };
        self.space.notify_waiters();
        full
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn ready(master: Option<&AsyncFd<OwnedFd>>, interest: Interest) -> AsyncFdReadyGuard<'_, OwnedFd> {
    if let Some(master) = master
        && let Ok(guard) = master.ready(interest).await
    {
        return guard;
    }
    // Without a pty, or without a runtime, nothing will come.
    std::future::pending().await
}
