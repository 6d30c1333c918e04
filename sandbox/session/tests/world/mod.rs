//! A session process in this process, with real ptys, pipes and sockets; only the spawner and the inits are played by
//! threads of the test.

use drydock_protocol::{
    NodeName, SessionId,
    control::{FromPage, ToPage},
    frame::{ClientFrame, ServerFrame, Size},
    pipe::{BINARY, Control, Open, Reply, TEXT},
    state::Role,
};
use drydock_runtime::{
    cgroup::{Hierarchies, SessionGroup},
    channel::Channel,
    files,
    limits::Limits,
    messages::{FromInit, FromSpawner, SessionBoot, ToInit, ToSpawner},
    pidfd, process, pty,
};
use drydock_session::Options;
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            net::{UnixListener, UnixStream},
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tempfile::TempDir;

/// Nobody in these tests is silent longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    directory: TempDir,
    pub session: Option<JoinHandle<io::Result<()>>>,
    spawner: Arc<Channel>,
}

pub fn node(number: u8) -> NodeName {
    NodeName::new(number).unwrap()
}

impl World {
    pub fn new() -> Self {
        Self::with(Options { dns: None, registry: None })
    }

    pub fn with(options: Options) -> Self {
        // As the real spawner and inits do: whoever runs the tests may have had SIGINT or SIGHUP ignored.
        process::reset_signals();
        let directory = TempDir::new().unwrap();
        let group = directory.path().join("drydock/test/session/nodes/node1");
        fs::create_dir_all(&group).unwrap();
        for (file, text) in [
            ("cpu.stat", "usage_usec 12\n"),
            ("memory.current", "5000000\n"),
            ("memory.stat", "inactive_file 1000000\n"),
            ("pids.current", "3\n"),
        ] {
            fs::write(group.join(file), text).unwrap();
        }
        let hierarchies = Hierarchies::V2(directory.path().into());
        let listener = UnixListener::bind(directory.path().join("sock")).unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let boot = SessionBoot {
            id: SessionId::from_random([1; 10]),
            limits: Limits::default(),
            spawner: theirs,
            listener: listener.into(),
            cgroup: SessionGroup::new(hierarchies, "test", "session").open_nodes().unwrap(),
            trace: Vec::new(),
            origin: std::time::Instant::now(),
        };
        let thread = thread::Builder::new().name("session".into());
        let session = thread.spawn(move || drydock_session::serve(boot, options)).unwrap();
        let spawner = Arc::new(ours);
        let played = spawner.clone();
        thread::spawn(move || play_spawner(&played));
        Self { directory, session: Some(session), spawner }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    pub fn open(&self, open: &Open) -> Connection {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut connection = Connection(stream);
        connection.text(&serde_json::to_vec(open).unwrap());
        connection
    }

    pub fn ask(&self, request: Control) -> Reply {
        self.open(&Open::Control { request }).reply()
    }

    pub fn page(&self, role: Role, client: &str) -> Page {
        Page {
            connection: self.open(&Open::Viewer { role, client: client.into() }),
            at: 0,
            seen: Vec::new(),
            size: None,
        }
    }

    /// As a spawner says it.
    pub fn say(&self, message: &FromSpawner) {
        self.spawner.send(message, &[]).unwrap();
    }

    /// Closes the spawner's end.
    pub fn end(mut self) -> io::Result<()> {
        nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&*self.spawner),
            nix::sys::socket::Shutdown::Both,
        )
        .unwrap();
        self.session.take().unwrap().join().unwrap()
    }
}

/// A connection as serve has it.
pub struct Connection(pub UnixStream);

impl Connection {
    pub fn text(&mut self, payload: &[u8]) {
        self.frame(TEXT, payload).unwrap();
    }

    pub fn binary(&mut self, payload: &[u8]) {
        self.frame(BINARY, payload).unwrap();
    }

    pub fn frame(&mut self, tag: u8, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.0.write_all(&[&[tag], &len[..], payload].concat())
    }

    pub fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    pub fn reply(&mut self) -> Reply {
        let (tag, payload) = self.read().expect("an answer");
        assert_eq!(tag, TEXT);
        serde_json::from_slice(&payload).unwrap()
    }
}

/// A browser's page.
pub struct Page {
    pub connection: Connection,
    /// Offset after the last byte that came.
    pub at: u64,
    /// All that the terminal printed here.
    pub seen: Vec<u8>,
    /// The terminal's size, once told.
    pub size: Option<Size>,
}

/// What came to a page.
#[derive(Debug)]
pub enum Event {
    Message(ToPage),
    Output,
    Snapshot(Vec<u8>),
    Size,
    Exit(i32),
}

impl Page {
    pub fn send(&mut self, message: &FromPage) {
        self.connection.text(&serde_json::to_vec(message).unwrap());
    }

    pub fn send_frame(&mut self, frame: &ClientFrame<'_>) {
        self.connection.binary(&frame.encode());
    }

    /// The next thing that comes. Output must go on where it stopped.
    pub fn next(&mut self) -> Event {
        let (tag, payload) = self.connection.read().expect("something");
        if tag == TEXT {
            return Event::Message(serde_json::from_slice(&payload).unwrap());
        }
        match ServerFrame::decode(&payload).unwrap() {
            ServerFrame::Output { offset, bytes, .. } => {
                assert_eq!(offset, self.at, "a gap or a double");
                self.at += bytes.len() as u64;
                self.seen.extend_from_slice(bytes);
                Event::Output
            }
            ServerFrame::Snapshot { offset, bytes, size, .. } => {
                self.size = Some(size);
                self.at = offset;
                self.seen = bytes.to_vec();
                Event::Snapshot(bytes.to_vec())
            }
            ServerFrame::Size { size, .. } => {
                self.size = Some(size);
                Event::Size
            }
            ServerFrame::Exit { status, .. } => Event::Exit(status),
        }
    }

    /// Takes what comes until `wanted` is true.
    pub fn until(&mut self, mut wanted: impl FnMut(&Self, &Event) -> bool) -> Event {
        loop {
            let event = self.next();
            if wanted(self, &event) {
                return event;
            }
        }
    }

    pub fn until_message(&mut self, mut wanted: impl FnMut(&ToPage) -> bool) -> ToPage {
        match self.until(|_, event| matches!(event, Event::Message(m) if wanted(m))) {
            Event::Message(message) => message,
            _ => unreachable!(),
        }
    }

    pub fn until_seen(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            self.next();
        }
    }
}

fn play_spawner(channel: &Arc<Channel>) {
    let mut inits = HashMap::new();
    let start = |name: NodeName, inits: &mut HashMap<NodeName, Arc<Channel>>| {
        let (ours, theirs) = Channel::pair().unwrap();
        let ours = Arc::new(ours);
        inits.insert(name, ours.clone());
        thread::spawn(move || play_init(&ours));
        let pid = i32::try_from(std::process::id()).unwrap();
        let up = FromSpawner::Up { node: name, pid, trace: Vec::new() };
        let _session_gone = channel.send(&up, &[theirs.as_fd()]);
    };
    let _session_gone = channel.send(&FromSpawner::Added(node(1)), &[]);
    start(node(1), &mut inits);
    while let Ok(Some((message, _))) = channel.recv::<ToSpawner>() {
        let answer = match message {
            ToSpawner::PowerOn(name) => {
                start(name, &mut inits);
                continue;
            }
            ToSpawner::PowerOff(name) => FromSpawner::Down { node: name, reboot: false },
            ToSpawner::Remove(name) => FromSpawner::Removed(name),
        };
        let _session_gone = channel.send(&answer, &[]);
    }
}

fn play_init(channel: &Arc<Channel>) {
    while let Ok(Some((message, mut fds))) = channel.recv::<ToInit>() {
        match message {
            ToInit::File { op } => {
                let connection = fds.pop().unwrap();
                thread::spawn(move || files::serve(connection, op));
            }
            ToInit::Spawn { id, argv, env, tty, .. } => {
                let argv = if argv.is_empty() {
                    ["bash", "--norc", "--noprofile", "-i"].map(Into::into).into()
                } else {
                    argv
                };
                let argv: Vec<_> = argv.iter().map(|a| OsStr::from_bytes(a)).collect();
                let mut command = if tty.is_some() {
                    let mut command = Command::new("setsid");
                    command.arg("-c").args(&argv);
                    command
                } else {
                    let mut command = Command::new(argv[0]);
                    command.args(&argv[1..]).process_group(0);
                    command
                };
                command.env("PS1", "ready$ ").env("TERM", "xterm-256color").envs(env);
                spawn(channel, id, command, tty.map(|s| (s.cols, s.rows)));
            }
        }
    }
}

fn spawn(channel: &Arc<Channel>, id: u32, mut command: Command, tty: Option<(u16, u16)>) {
    let mut master = None;
    match tty {
        Some((cols, rows)) => {
            // Closed on exec: a shell that held its own terminal's other side would never see it hang up.
            let devices = fs::File::open("/dev").unwrap();
            let (ours, slave) = pty::open(devices.as_fd(), Size { cols, rows }).unwrap();
            let again = || Stdio::from(slave.try_clone().unwrap());
            command.stdin(again()).stdout(again()).stderr(again());
            master = Some(ours);
        }
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            let errno = e.raw_os_error().unwrap_or(0);
            let _gone = channel.send(&FromInit::SpawnFailed { id, errno, message: e.to_string() }, &[]);
            return;
        }
    };
    // Its copies of the pty's other side.
    drop(command);
    let pid = i32::try_from(child.id()).unwrap();
    let mut fds: Vec<OwnedFd> = vec![pidfd::open(pid).unwrap()];
    match master {
        Some(master) => fds.push(master),
        None => {
            fds.push(child.stdin.take().unwrap().into());
            fds.push(child.stdout.take().unwrap().into());
            fds.push(child.stderr.take().unwrap().into());
        }
    }
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let _gone = channel.send(&FromInit::Spawned { id, pid }, &borrowed);
    let channel = channel.clone();
    thread::spawn(move || {
        let status = child.wait().unwrap();
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let _gone = channel.send(&FromInit::Exited { id, status }, &[]);
    });
}
