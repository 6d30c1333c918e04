//! The host's side of a test: a warden in a state directory of its own, and what can be asked of it.

use crate::{
    agent::{self, Ask},
    engine,
};
use drydock_protocol::{NodeName, SessionId};
use drydock_runtime::{channel::Channel, egress::Egress, launch::Mains, limits::Limits};
use drydock_warden::{
    Config,
    messages::{Answer, Call, Message, Request},
    state_paths,
};
use nix::sys::signal::{Signal, kill};
use std::{
    cell::{Cell, RefCell},
    io::{Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// In the child: runs the warden for a state directory, and says so on standard output.
pub fn be_the_warden(state_dir: PathBuf) {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let images = std::env::var_os("DRYDOCK_IMAGES").map_or_else(|| state_dir.join("images"), PathBuf::from);
    let catalogue = state_dir.join("catalogue");
    let mains = Mains { session: agent::main, engine: engine::main, kubelet: |_| 0 };
    let image_command = vec![];
    let config =
        Config { state_dir, images, catalogue, disk_bytes: 8 << 30, image_command, wasm: None, mains };
    drydock_warden::run(&config, || {
        println!("ready");
        std::io::stdout().flush().unwrap();
    })
    .expect("warden");
}

/// A warden with a state directory, both of which go when this is dropped.
pub struct Host {
    dir: TempDir,
    network: Option<String>,
    warden: RefCell<Child>,
    channel: RefCell<Channel>,
    calls: Cell<u64>,
}

pub fn node(number: u8) -> NodeName {
    NodeName::new(number).unwrap()
}

/// Small limits, so that a test reaches them soon.
pub fn small() -> Limits {
    Limits { memory: 256 << 20, pids: 100, disk: 64 << 20, cpu_millis: 2000, ..Limits::default() }
}

impl Host {
    pub fn new() -> Self {
        Self::in_network(None)
    }

    /// A warden whose host is the network namespace at this path.
    pub fn in_network(network: Option<&str>) -> Self {
        let dir = tempfile::Builder::new().prefix("drydock-test-").tempdir_in("/var/tmp").unwrap();
        let (warden, channel) = Self::start(dir.path(), network);
        let network = network.map(String::from);
        Self {
            dir,
            network,
            warden: RefCell::new(warden),
            channel: RefCell::new(channel),
            calls: Cell::new(0),
        }
    }

    fn start(dir: &Path, network: Option<&str>) -> (Child, Channel) {
        let exe = std::env::current_exe().unwrap();
        let mut command = match network {
            None => Command::new(exe),
            Some(path) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={path}")).arg(exe);
                command
            }
        };
        // Sessions must not end with the test's own process group when it is interrupted from a keyboard.
        command.arg("warden").arg(dir).stdout(Stdio::piped()).process_group(0);
        let mut warden = command.spawn().unwrap();
        let mut word = [0; 6];
        warden.stdout.as_mut().unwrap().read_exact(&mut word).expect("the warden did not start");
        (warden, connect(dir))
    }

    /// Another connection to the warden.
    pub fn connect(&self) -> Channel {
        connect(self.dir.path())
    }

    pub fn state(&self) -> &Path {
        self.dir.path()
    }

    pub fn warden_pid(&self) -> u32 {
        self.warden.borrow().id()
    }

    /// Kills the warden and starts another for the same state directory.
    pub fn restart(&self) {
        self.kill_warden();
        let (warden, channel) = Self::start(self.dir.path(), self.network.as_deref());
        *self.warden.borrow_mut() = warden;
        self.channel.replace(channel);
    }

    pub fn kill_warden(&self) {
        let mut warden = self.warden.borrow_mut();
        warden.kill().unwrap();
        warden.wait().unwrap();
    }

    pub fn send(&self, request: Request) -> u64 {
        let number = self.calls.get() + 1;
        self.calls.set(number);
        let call = serde_json::to_vec(&Call { number, request }).unwrap();
        self.channel.borrow().send_bytes(&call, &[]).unwrap();
        number
    }

    /// The next message, or none when the warden is gone.
    pub fn receive(&self) -> Option<Message> {
        receive(&self.channel.borrow())
    }

    pub fn ask(&self, request: Request) -> Answer {
        let number = self.send(request);
        loop {
            match self.receive().expect("the warden is there") {
                Message::Answer { number: n, answer } if n == number => return answer,
                _ => {}
            }
        }
    }

    pub fn try_create(&self, nodes: u8, limits: Limits) -> (SessionId, Answer) {
        let id = new_id();
        let answer = self.try_create_as(&id, nodes, limits);
        (id, answer)
    }

    pub fn try_create_as(&self, id: &SessionId, nodes: u8, limits: Limits) -> Answer {
        let (id, image, egress) = (id.clone(), "node".into(), Egress::default());
        self.ask(Request::Create { id, nodes, image, limits, egress, cluster: false })
    }

    /// Has the warden keep a session ready, and waits until it does. Its id.
    pub fn ready(&self, limits: Limits) -> SessionId {
        let id = new_id();
        let (image, egress) = ("node".into(), Egress::default());
        let asked = self.ask(Request::KeepReady { id: id.clone(), image, limits, egress });
        assert_eq!(asked, Answer::Done);
        let record = self.state().join("run/warden").join(format!("{id}.json"));
        let until = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&record).is_ok_and(|text| text.contains("\"spawner\":[")) {
            assert!(Instant::now() < until, "no session is made ready");
            std::thread::yield_now();
        }
        id
    }

    pub fn create(&self, nodes: u8) -> Session<'_> {
        self.create_with(nodes, small())
    }

    pub fn create_with(&self, nodes: u8, limits: Limits) -> Session<'_> {
        self.create_as(new_id(), nodes, limits)
    }

    pub fn create_as(&self, id: SessionId, nodes: u8, limits: Limits) -> Session<'_> {
        let answer = self.try_create_as(&id, nodes, limits);
        assert!(matches!(answer, Answer::Created { .. }), "{answer:?}");
        Session { host: self, id }
    }
}

fn connect(state: &Path) -> Channel {
    let fd = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let address = nix::sys::socket::UnixAddr::new(&state_paths::warden_socket(state)).unwrap();
    nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &address).unwrap();
    Channel::from(fd)
}

/// The next message, or none when the warden is gone.
pub fn receive(channel: &Channel) -> Option<Message> {
    let (bytes, _) = channel.recv_bytes().ok()??;
    Some(serde_json::from_slice(&bytes).unwrap())
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The warden may be in any state: another one sweeps up.
            self.restart();
        }
        if let Answer::Sessions { sessions } = self.ask(Request::List) {
            for id in sessions {
                self.ask(Request::Destroy { id });
            }
        }
        // Without sessions and without us the warden ends and gives everything back.
        let (_, other) = Channel::pair().unwrap();
        self.channel.replace(other);
        let status = self.warden.borrow_mut().wait().unwrap();
        assert!(status.success(), "the warden ended with {status}");
    }
}

pub fn new_id() -> SessionId {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let [a, b] = [n / 32, n % 32];
    SessionId::from_random([a, b, std::process::id() as u8, 3, 4, 5, 6, 7, 8, 9])
}

/// A running session of a test.
pub struct Session<'a> {
    pub host: &'a Host,
    pub id: SessionId,
}

impl Session<'_> {
    pub fn ask(&self, ask: &Ask) -> (i32, String) {
        let mut stream =
            UnixStream::connect(state_paths::session_socket(self.host.state(), &self.id)).unwrap();
        // No step of these tests takes long; a hang shall fail one test, not stop them all.
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        stream.write_all(serde_json::to_string(ask).unwrap().as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
        let mut text = String::new();
        if let Err(e) = stream.read_to_string(&mut text) {
            let log = self.host.state().join("log").join(format!("{}.log", self.id));
            panic!("{ask:?}: {e}; log: {}", std::fs::read_to_string(log).unwrap_or_default());
        }
        let (status, output) = text.split_once('\n').unwrap_or(("-1", "the session process is gone"));
        (status.parse().unwrap(), output.to_string())
    }

    /// Runs a script in a node, whatever its exit status.
    pub fn try_run(&self, number: u8, script: &str) -> (i32, String) {
        self.ask(&Ask::Run(node(number), script.into()))
    }

    /// Runs a script in a node, which must succeed.
    pub fn run(&self, number: u8, script: &str) -> String {
        let (status, output) = self.try_run(number, script);
        assert_eq!(status, 0, "`{script}` on node{number}: {output}");
        output.trim_end().to_string()
    }

    /// The spawner's process id on the host.
    pub fn pid(&self) -> i32 {
        let record = self.host.state().join("run/warden").join(format!("{}.json", self.id));
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
        i32::try_from(record["spawner"][0].as_i64().unwrap()).unwrap()
    }

    pub fn kill(&self) {
        kill(nix::unistd::Pid::from_raw(self.pid()), Signal::SIGKILL).unwrap();
    }

    pub fn destroy(&self) -> Answer {
        self.host.ask(Request::Destroy { id: self.id.clone() })
    }
}
