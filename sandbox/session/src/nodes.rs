//! Nodes: what the spawner says of them, switching them on and off, and starting processes in them through their
//! inits.

use crate::{error::Error, link::Link, session::Session};
use drydock_protocol::{
    NodeName,
    docker::Docker,
    frame::Size,
    pipe::{Argument, FileOp},
    state::{self, Port, Power, Usage},
};
use drydock_runtime::{
    channel::Channel,
    messages::{FromInit, FromSpawner, ToInit, ToSpawner},
    pidfd, spawner,
};
use nix::sys::signal::Signal;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Instant,
};
use tokio::sync::{Notify, oneshot, watch};

/// The node that gets the first terminal.
const FIRST_NODE: u8 = 1;
/// Longest program and arguments and environment together, in bytes.
const MAX_ARGUMENTS: usize = 96 * 1024;

/// What the session process knows of a node.
pub struct Node {
    /// Whether it runs.
    pub power: Power,
    /// What it uses.
    pub usage: Option<Usage>,
    /// CPU time at the last figure.
    pub last_sample: Option<(Instant, u64)>,
    /// What listens in it.
    pub ports: Vec<Port>,
    /// Its Docker engine, while that runs.
    pub docker: Option<Docker>,
    init: Option<Rc<Init>>,
    stopping: bool,
    failure: Option<String>,
}

/// A process in a node, just started.
pub struct Process {
    /// Names it.
    pub pidfd: OwnedFd,
    /// Our ends.
    pub io: ProcessIo,
    /// Its exit status when it has ended; an error when its node went down.
    pub exited: oneshot::Receiver<i32>,
}

/// Our ends of a process's input and output.
pub enum ProcessIo {
    /// The pty's master.
    Pty(OwnedFd),
    /// Standard input, output and error.
    Pipes([OwnedFd; 3]),
}

/// What a process is started with.
pub struct Command {
    /// Program and arguments; empty: the login shell.
    pub argv: Vec<Argument>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Working directory; absent: the home directory.
    pub cwd: Option<String>,
    /// A pty of this size; absent: pipes.
    pub tty: Option<Size>,
}

/// The way to a node's init.
pub struct Init {
    /// Its process id, as this process sees it.
    pub pid: i32,
    node: NodeName,
    link: Link<ToInit>,
    last_id: Cell<u32>,
    starting: RefCell<HashMap<u32, oneshot::Sender<Result<Process, Error>>>>,
    running: RefCell<HashMap<u32, oneshot::Sender<i32>>>,
    /// The channel on which the node's Docker engine tells of itself; a new one for each start of it.
    engine: watch::Sender<Option<Rc<OwnedFd>>>,
    down: Notify,
}

// === impl Node ===

impl Node {
    fn new() -> Self {
        Self {
            power: Power::Starting,
            usage: None,
            last_sample: None,
            ports: Vec::new(),
            docker: None,
            init: None,
            stopping: false,
            failure: None,
        }
    }

    /// The node in the picture.
    pub fn state(&self, name: NodeName) -> state::Node {
        let on = self.power == Power::On;
        state::Node {
            name,
            address: spawner::address(name).to_string(),
            power: self.power,
            usage: self.usage.filter(|_| on),
            ports: if on { self.ports.clone() } else { Vec::new() },
            docker: self.docker.clone().filter(|_| on),
        }
    }

    /// The way to its init, if it is on.
    pub fn init(&self) -> Option<&Rc<Init>> {
        self.init.as_ref()
    }
}

// === impl Session: nodes ===

impl Session {
    /// Listens to the spawner until it is gone, which ends the session.
    pub async fn hear_spawner(self: Rc<Self>) -> io::Result<()> {
        while let Some((message, mut fds)) = self.spawner.recv::<FromSpawner>().await? {
            tracing::info!(?message, "spawner");
            match message {
                FromSpawner::Given(after) => self.given(after),
                FromSpawner::Added(node) => {
                    self.nodes.borrow_mut().entry(node).or_insert_with(Node::new);
                }
                FromSpawner::Up { node, pid, trace } => {
                    self.steps(trace);
                    match fds.pop().map(|fd| Init::new(node, pid, fd.into())) {
                        Some(Ok(init)) => self.node_up(node, init),
                        Some(Err(e)) => self.node_failed(node, format!("its init can't be talked to: {e}")),
                        None => self.node_failed(node, "its init came without a channel".into()),
                    }
                }
                FromSpawner::Down { node, reboot } => self.node_down(node, reboot),
                FromSpawner::Removed(node) => self.node_removed(node),
                FromSpawner::Failed { node, message } => self.node_failed(node, message),
            }
            self.changed();
        }
        Ok(())
    }

    fn node_up(self: &Rc<Self>, name: NodeName, init: Init) {
        let init = Rc::new(init);
        let mut nodes = self.nodes.borrow_mut();
        let node = nodes.entry(name).or_insert_with(Node::new);
        *node = Node { power: Power::On, init: Some(init.clone()), ..Node::new() };
        tokio::task::spawn_local(self.clone().hear_engines(name, init.engine.subscribe()));
        tokio::task::spawn_local(init.run());
        drop(nodes);
        if name.number() == FIRST_NODE {
            tokio::task::spawn_local(self.clone().open_first(name));
        }
    }

    /// Takes the pictures of a node's engine, and of the next one when it was started anew, until the node goes down.
    async fn hear_engines(self: Rc<Self>, name: NodeName, mut engines: watch::Receiver<Option<Rc<OwnedFd>>>) {
        while engines.changed().await.is_ok() {
            let Some(fd) = engines.borrow_and_update().clone() else { continue };
            let link = fd.try_clone().and_then(|fd| Link::<()>::new(fd.into()));
            let link = match link {
                Ok(link) => link,
                Err(e) => {
                    tracing::warn!(node = %name, error = %e, "the node's engine can't be heard");
                    continue;
                }
            };
            while let Ok(Some((picture, _))) = link.recv::<Docker>().await {
                self.show_engine(name, Some(picture));
            }
            self.show_engine(name, None);
        }
    }

    fn show_engine(&self, name: NodeName, picture: Option<Docker>) {
        if let Some(node) = self.nodes.borrow_mut().get_mut(&name) {
            node.docker = picture;
        }
        self.mark_dirty();
    }

    fn node_down(&self, name: NodeName, reboot: bool) {
        if let Some(node) = self.nodes.borrow_mut().get_mut(&name) {
            let old = std::mem::replace(node, Node { power: Power::Off, ..Node::new() });
            if let Some(init) = old.init {
                init.close();
            }
            if reboot && !old.stopping {
                self.start_node(name, node);
            }
        }
    }

    fn node_failed(&self, name: NodeName, message: String) {
        tracing::error!(node = %name, message, "a node could not be started");
        let mut nodes = self.nodes.borrow_mut();
        // One that was switched off while it started has not failed.
        let failure = nodes.get(&name).is_none_or(|node| !node.stopping).then_some(message);
        nodes.insert(name, Node { power: Power::Off, failure, ..Node::new() });
    }

    fn node_removed(&self, name: NodeName) {
        self.node_down(name, false);
        self.nodes.borrow_mut().remove(&name);
        let of_node: Vec<_> =
            self.terminals.borrow().values().filter(|t| t.node == name).map(|t| t.id).collect();
        for id in of_node {
            // Nobody else takes terminals away between these two lines.
            let _gone = self.close_terminal(id);
        }
    }

    fn start_node(&self, name: NodeName, node: &mut Node) {
        (node.power, node.failure) = (Power::Starting, None);
        if let Err(e) = self.spawner.send(ToSpawner::PowerOn(name), None) {
            (node.power, node.failure) = (Power::Off, Some(e.to_string()));
        }
    }

    /// Switches a node on or off and waits until it is.
    pub async fn power(&self, name: NodeName, on: bool) -> Result<(), Error> {
        let mut changes = self.changes.subscribe();
        let mut asked = false;
        loop {
            if let Some(done) = self.power_step(name, on, &mut asked) {
                return done;
            }
            // The sender lives as long as `self`.
            let _never_fails = changes.changed().await;
        }
    }

    fn power_step(&self, name: NodeName, on: bool, asked: &mut bool) -> Option<Result<(), Error>> {
        let mut nodes = self.nodes.borrow_mut();
        let Some(node) = nodes.get_mut(&name) else { return Some(Err(Error::NoNode(name))) };
        match (on, node.power) {
            (true, Power::On) if !node.stopping => Some(Ok(())),
            (true, Power::Off) if *asked => {
                let message = node.failure.clone().unwrap_or_else(|| "it went down again at once".into());
                Some(Err(Error::NodeFailed { node: name, message }))
            }
            (true, Power::Off) => {
                *asked = true;
                self.start_node(name, node);
                self.changed();
                None
            }
            (false, Power::Off) => Some(Ok(())),
            (false, _) if !node.stopping => {
                node.stopping = true;
                match self.spawner.send(ToSpawner::PowerOff(name), None) {
                    Ok(()) => None,
                    Err(source) => Some(Err(Error::Io { what: "switch the node off", source })),
                }
            }
            _ => None,
        }
    }

    /// Switches a node off, lets go of its disk and waits until that is done.
    pub async fn remove_node(&self, name: NodeName) -> Result<(), Error> {
        let mut changes = self.changes.subscribe();
        match self.nodes.borrow_mut().get_mut(&name) {
            None => return Err(Error::NoNode(name)),
            Some(node) => node.stopping = true,
        }
        let sent = self.spawner.send(ToSpawner::Remove(name), None);
        sent.map_err(|source| Error::Io { what: "remove the node", source })?;
        while self.nodes.borrow().contains_key(&name) {
            let _never_fails = changes.changed().await;
        }
        Ok(())
    }

    /// Waits until a node that is being added is on.
    pub async fn await_node(&self, name: NodeName) -> Result<(), Error> {
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(node) = self.nodes.borrow().get(&name) {
                match (node.power, &node.failure) {
                    (Power::On, _) => return Ok(()),
                    (Power::Off, Some(message)) => {
                        return Err(Error::NodeFailed { node: name, message: message.clone() });
                    }
                    _ => {}
                }
            }
            let _never_fails = changes.changed().await;
        }
    }

    /// The first node that could not be started, with the reason.
    pub fn failed_node(&self) -> Option<Error> {
        let nodes = self.nodes.borrow();
        nodes
            .iter()
            .find_map(|(name, node)| Some(Error::NodeFailed { node: *name, message: node.failure.clone()? }))
    }

    /// Whether there are nodes and none of them is being started.
    pub fn all_on(&self) -> bool {
        let nodes = self.nodes.borrow();
        !nodes.is_empty() && nodes.values().all(|node| node.power != Power::Starting)
    }

    /// The way to a node's init.
    pub fn init(&self, name: NodeName) -> Result<Rc<Init>, Error> {
        let nodes = self.nodes.borrow();
        let node = nodes.get(&name).ok_or(Error::NoNode(name))?;
        node.init.clone().ok_or(Error::NodeOff(name))
    }
}

// === impl Init ===

impl Init {
    fn new(node: NodeName, pid: i32, channel: Channel) -> io::Result<Self> {
        Ok(Self {
            pid,
            node,
            link: Link::new(channel)?,
            last_id: Cell::new(0),
            starting: RefCell::default(),
            running: RefCell::default(),
            engine: watch::Sender::new(None),
            down: Notify::new(),
        })
    }

    /// Starts a process.
    pub async fn spawn(&self, command: Command) -> Result<Process, Error> {
        let Command { argv, env, cwd, tty } = command;
        let length = argv.iter().map(|argument| argument.as_bytes().len()).sum::<usize>()
            + env.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
            + cwd.as_ref().map_or(0, String::len);
        if length > MAX_ARGUMENTS || argv.len() + env.len() > 4096 {
            return Err(Error::Limit("the command is too long: at most 96 KiB of arguments".into()));
        }
        let texts = env.iter().flat_map(|(k, v)| [k, v]).chain(&cwd).map(String::as_bytes);
        if argv.iter().map(Argument::as_bytes).chain(texts).any(|text| text.contains(&0)) {
            return Err(Error::Invalid("an argument holds a zero byte".into()));
        }
        let argv = argv.into_iter().map(Argument::into_bytes).collect();
        let id = self.last_id.get().wrapping_add(1);
        self.last_id.set(id);
        let (sender, receiver) = oneshot::channel();
        self.starting.borrow_mut().insert(id, sender);
        if let Err(source) = self.link.send(ToInit::Spawn { id, argv, env, cwd, tty }, None) {
            self.starting.borrow_mut().remove(&id);
            return Err(Error::Io { what: "ask the node to start a process", source });
        }
        receiver.await.unwrap_or(Err(Error::NodeOff(self.node)))
    }

    /// Hands a connection to a process of the node that does file work on it.
    pub fn file(&self, op: FileOp, connection: OwnedFd) -> Result<(), Error> {
        let sent = self.link.send(ToInit::File { op }, Some(connection));
        sent.map_err(|source| Error::Io { what: "ask the node for file work", source })
    }

    async fn run(self: Rc<Self>) {
        loop {
            let message = tokio::select! {
                message = self.link.recv::<FromInit>() => message,
                () = self.down.notified() => return,
            };
            match message {
                Ok(Some((message, fds))) => self.handle(message, fds),
                Ok(None) => break,
                Err(e) => {
                    tracing::error!(node = %self.node, error = %e, "the node's init can't be heard");
                    break;
                }
            }
        }
        // Whoever waits for an answer learns that none will come; the spawner will say why.
        self.starting.borrow_mut().clear();
        self.running.borrow_mut().clear();
    }

    fn handle(&self, message: FromInit, fds: Vec<OwnedFd>) {
        match message {
            FromInit::Spawned { id, .. } => {
                let (sender, exited) = oneshot::channel();
                self.running.borrow_mut().insert(id, sender);
                let process = process(fds, exited).ok_or(Error::Io {
                    what: "start a process",
                    source: io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"),
                });
                let waiting = self.starting.borrow_mut().remove(&id);
                let unwanted = match waiting {
                    Some(waiting) => waiting.send(process).err(),
                    None => Some(process),
                };
                if let Some(Ok(process)) = unwanted {
                    // Whoever asked for it is gone.
                    let _ended = pidfd::signal_group(process.pidfd.as_fd(), Signal::SIGKILL as i32);
                }
            }
            FromInit::SpawnFailed { id, errno, message } => {
                if let Some(waiting) = self.starting.borrow_mut().remove(&id) {
                    let _unwanted = waiting.send(Err(Error::Spawn { errno, message }));
                }
            }
            FromInit::Engine => {
                if let Some(fd) = fds.into_iter().next() {
                    self.engine.send_replace(Some(Rc::new(fd)));
                }
            }
            FromInit::Exited { id, status } => {
                if let Some(waiting) = self.running.borrow_mut().remove(&id) {
                    let _unwanted = waiting.send(status);
                }
            }
        }
    }

    fn close(&self) {
        self.starting.borrow_mut().clear();
        self.running.borrow_mut().clear();
        self.down.notify_one();
    }
}

fn process(fds: Vec<OwnedFd>, exited: oneshot::Receiver<i32>) -> Option<Process> {
    let mut fds = fds.into_iter();
    let pidfd = fds.next()?;
    let io = match (fds.next()?, fds.next(), fds.next()) {
        (pty, None, None) => ProcessIo::Pty(pty),
        (stdin, Some(stdout), Some(stderr)) => ProcessIo::Pipes([stdin, stdout, stderr]),
        _ => return None,
    };
    Some(Process { pidfd, io, exited })
}
