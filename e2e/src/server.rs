//! A `drydock serve` of the built binary, with a state directory and a port of its own, and its command line. Dropping it
//! stops everything (`drydock stop`) and checks that nothing of it is left.

use crate::{PATIENCE, guard::Guard};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A server and all that belongs to it.
#[derive(Debug)]
pub struct Server {
    // Ended in `drop`; the directory goes last, by the order of the fields.
    process: Mutex<Option<Child>>,
    address: Mutex<SocketAddr>,
    options: Vec<String>,
    _guard: Guard,
    dir: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

impl Output {
    /// The exit status; -1 if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
    /// Standard output as JSON.
    #[track_caller]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        let good = self.ok();
        serde_json::from_slice(&good.stdout).unwrap_or_else(|e| panic!("{e}: {good:?}"))
    }
    /// Itself, if the command succeeded.
    #[track_caller]
    pub fn ok(&self) -> &Self {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.text(), self.stderr);
        self
    }
    /// Asserts a refusal: exit status and words that its text must hold.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code(), code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "'{word}' is not in: {}", self.stderr);
        }
        assert!(self.stderr.starts_with("drydock: ") || code == 127 || code == 2, "{}", self.stderr);
    }
}

impl Server {
    /// One server for all tests that run at the same time; options as of most tests.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        // A test that panicked while it started the server has left nothing half done here.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(&["--max-sessions", "100", "--sessions-per-client", "100"]));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server of its own with these options of `drydock serve`.
    pub fn start(options: &[&str]) -> Self {
        // Short: the paths of Unix sockets below it have at most 107 bytes.
        let dir = tempfile::Builder::new()
            .prefix("dd-e2e-")
            .tempdir_in("/var/tmp")
            .expect("/var/tmp can be written");
        let state = dir.path().join("s");
        let guard = Guard::new(
            "DRYDOCK_LOG=off \"$1\" --state-dir \"$2/s\" stop; rm -rf \"$2\"",
            &[&binary().to_string_lossy(), &dir.path().to_string_lossy()],
        );
        fs::create_dir(&state).expect("a state directory");
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        let (process, address) = serve(dir.path(), &options);
        Self { process: Mutex::new(Some(process)), address: Mutex::new(address), options, _guard: guard, dir }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        *lock(&self.address)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// A directory for files of the test.
    pub fn scratch(&self) -> TempDir {
        tempfile::Builder::new().tempdir_in(self.dir.path()).expect("a directory can be made")
    }

    /// The process id of `drydock serve`.
    pub fn pid(&self) -> u32 {
        lock(&self.process).as_ref().expect("the server runs").id()
    }

    /// Kills the web process as `kill -9` does. Sessions go on.
    pub fn kill(&self) {
        let mut process = lock(&self.process).take().expect("the server runs");
        process.kill().expect("it can be killed");
        process.wait().expect("it can be waited for");
    }

    /// Starts the web process again, on the same port.
    pub fn start_again(&self) {
        self.start_again_as(&binary());
    }

    /// The same with another file of the program, as after an upgrade.
    pub fn start_again_as(&self, program: &Path) {
        let (process, address) = serve_at(program, self.dir.path(), &self.options, self.address());
        *lock(&self.process) = Some(process);
        *lock(&self.address) = address;
    }

    /// Waits until the web process has ended by itself.
    pub fn wait(&self) -> ExitStatus {
        let mut process = lock(&self.process).take().expect("the server runs");
        wait_at_most(&mut process, PATIENCE).unwrap_or_else(|| {
            drop(process.kill());
            drop(process.wait());
            panic!("the server did not end:\n{}", self.log())
        })
    }

    /// The process id of a session's first process, from the warden's record; its end ends the session.
    pub fn session_pid(&self, id: &drydock_protocol::SessionId) -> i32 {
        let record = fs::read(self.state_dir().join(format!("run/warden/{id}.json")))
            .expect("the warden has a record of it");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("the record is JSON");
        record["spawner"][0]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok())
            .expect("the record names a process")
    }

    /// What the web process and the warden have written.
    pub fn log(&self) -> String {
        log(self.dir.path())
    }

    /// A command of the command line, ready to be run.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = drydock();
        command.arg("--state-dir").arg(self.state_dir()).args(args);
        command
    }

    /// Runs a command without input.
    pub async fn cli(&self, args: &[&str]) -> Output {
        self.cli_with_input(args, None).await
    }

    /// Runs a command in a session's node by `drydock exec`.
    pub async fn exec(&self, id: impl std::fmt::Display, node: &str, script: &str) -> Output {
        self.cli(&["exec", &id.to_string(), node, "--", "bash", "-c", script]).await
    }

    /// Runs a command with this input (`None`: `/dev/null`).
    pub async fn cli_with_input(&self, args: &[&str], input: Option<Vec<u8>>) -> Output {
        let mut command = self.command(args);
        let shown = format!("drydock {}", args.join(" "));
        let work = tokio::task::spawn_blocking(move || run(&mut command, input));
        match tokio::time::timeout(6 * PATIENCE, work).await {
            Ok(output) => output.expect("the command was run"),
            Err(_) => panic!("{shown} did not end within {:?}", 6 * PATIENCE),
        }
    }

    /// Asserts that no process, mount, loop device or control group of this server is left.
    pub fn assert_nothing_left(&self) {
        let left = leftovers(self.dir.path());
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = run(&mut self.command(["stop"]), None);
        if let Some(mut process) = lock(&self.process).take()
            && wait_at_most(&mut process, PATIENCE).is_none()
        {
            drop(process.kill());
            drop(process.wait());
        }
        // A test that fails already must not abort the process by a second panic.
        if thread::panicking() {
            eprintln!("=== log of the server\n{}", self.log());
        } else {
            assert!(stopped.status.success(), "drydock stop failed: {}\n{}", stopped.stderr, self.log());
            let end = Instant::now() + PATIENCE;
            while !leftovers(self.dir.path()).is_empty() && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
            self.assert_nothing_left();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binary under test: `DRYDOCK_BIN`, or the debug build.
pub fn binary() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/drydock");
    let path = std::env::var_os("DRYDOCK_BIN").map_or(built, PathBuf::from);
    path.canonicalize().unwrap_or_else(|e| {
        panic!(
            "no drydock binary at {} ({e}): build it (cargo build -p drydock), or name it in DRYDOCK_BIN",
            path.display()
        )
    })
}

/// The node images that tests use: `DRYDOCK_IMAGES`, or those in the cache of the user.
pub fn images() -> PathBuf {
    let cache =
        || PathBuf::from(std::env::var_os("HOME").unwrap_or("/root".into())).join(".cache/drydock/images");
    let dir = std::env::var_os("DRYDOCK_IMAGES").map_or_else(cache, PathBuf::from);
    assert!(
        dir.join("index.json").exists(),
        "no node image in {}: prepare one (drydock image --images DIR build), or name its directory in DRYDOCK_IMAGES",
        dir.display()
    );
    dir
}

/// The container images that tests use: `DRYDOCK_CATALOGUE`, or those beside the node images.
pub fn catalogue() -> PathBuf {
    let dir = std::env::var_os("DRYDOCK_CATALOGUE").map_or_else(
        || images().parent().map(|dir| dir.join("catalogue")).unwrap_or_default(),
        PathBuf::from,
    );
    assert!(
        dir.join("index.json").exists(),
        "no container images in {}: prepare them (drydock image add --basic), or name their directory in DRYDOCK_CATALOGUE",
        dir.display()
    );
    dir
}

/// The binary with an environment of its own.
fn drydock() -> Command {
    drydock_of(&binary())
}

fn drydock_of(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DRYDOCK_") {
            command.env_remove(name);
        }
    }
    command.env("DRYDOCK_IMAGES", images()).env("DRYDOCK_CATALOGUE", catalogue());
    command
}

fn serve(dir: &Path, options: &[String]) -> (Child, SocketAddr) {
    serve_at(&binary(), dir, options, SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// Starts the web process and waits until it says where it is.
fn serve_at(program: &Path, dir: &Path, options: &[String], listen: SocketAddr) -> (Child, SocketAddr) {
    let stderr =
        fs::File::options().create(true).append(true).open(dir.join("serve.log")).expect("a log file");
    let mut process = drydock_of(program)
        .args(["serve", "--listen", &listen.to_string(), "--state-dir"])
        .arg(dir.join("s"))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the binary can be started");
    let stdout = BufReader::new(process.stdout.take().expect("it is a pipe"));
    let (tell, told) = mpsc::channel();
    // Reads to the end: a server must never meet a closed standard output.
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if let Some(url) = line.strip_prefix("Drydock is at http://") {
                // Nobody listens any more after the first line.
                drop(tell.send(url.to_owned()));
            }
        }
    });
    match told.recv_timeout(Duration::from_secs(60)) {
        Ok(address) => (process, address.parse().expect("an address")),
        Err(_) => {
            drop(process.kill());
            drop(process.wait());
            panic!("drydock serve did not start:\n{}", log(dir))
        }
    }
}

fn log(dir: &Path) -> String {
    let read = |path: &str| fs::read_to_string(dir.join(path)).unwrap_or_default();
    format!("--- serve\n{}--- warden\n{}", read("serve.log"), read("s/log/warden.log"))
}

fn run(command: &mut Command, input: Option<Vec<u8>>) -> Output {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let writer = input.zip(child.stdin.take()).map(|(input, mut pipe)| {
        thread::spawn(move || {
            // A command that does not read its input to the end is no error here.
            drop(pipe.write_all(&input));
        })
    });
    let output = child.wait_with_output().expect("the command can be waited for");
    if let Some(writer) = writer {
        writer.join().expect("the input was written");
    }
    Output {
        status: output.status,
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn wait_at_most(process: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    loop {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// What is there of a server whose files are in this directory.
fn leftovers(dir: &Path) -> Vec<String> {
    let path = dir.to_string_lossy();
    let mut left: Vec<String> =
        processes_of(dir).into_iter().map(|(pid, line)| format!("process {pid}: {line}")).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    left.extend(mounts.lines().filter(|l| l.contains(&*path)).map(|l| format!("mount: {l}")));
    for device in files("/sys/block") {
        let file = fs::read_to_string(device.join("loop/backing_file")).unwrap_or_default();
        if file.contains(&*path) {
            left.push(format!("loop device {}: {file}", device.display()));
        }
    }
    for claim in files("/run/drydock/servers") {
        if fs::read_to_string(&claim).is_ok_and(|owner| owner == dir.join("s").to_string_lossy()) {
            left.push(format!("claim {}", claim.display()));
        }
    }
    // Every session has a log there for as long as the state directory lives.
    let sessions: Vec<_> = files(dir.join("s/log")).filter_map(|f| Some(f.file_stem()?.to_owned())).collect();
    // v2: one tree; v1: one below each controller.
    let trees = std::iter::once(PathBuf::from("/sys/fs/cgroup")).chain(files("/sys/fs/cgroup"));
    for group in trees.map(|t| t.join("drydock")).flat_map(files).flat_map(files) {
        if group.file_name().is_some_and(|name| sessions.iter().any(|s| s == name)) {
            left.push(format!("control group {}", group.display()));
        }
    }
    left
}

/// What is in a directory, if it is one.
fn files(dir: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path())
}

/// Processes of a server: those that name its directory, and all their descendants.
pub fn processes_of(dir: &Path) -> BTreeMap<u32, String> {
    let path = dir.to_string_lossy();
    let mut all = BTreeMap::new();
    for entry in files("/proc") {
        let Some(pid) = entry.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()) else { continue };
        let line = fs::read(entry.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let stat = fs::read_to_string(entry.join("stat")).unwrap_or_default();
        // After the name in parentheses: state, parent.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, parent) =
            (fields.next().unwrap_or("Z"), fields.next().and_then(|p| p.parse::<u32>().ok()));
        if !state.starts_with(['Z', 'X']) {
            all.insert(pid, (parent.unwrap_or(0), line));
        }
    }
    let ours = |line: &str| line.contains(&*path) && line.contains("drydock") && !line.contains(" guard ");
    let belongs = |mut pid: u32| loop {
        let Some((parent, line)) = all.get(&pid) else { return false };
        if ours(line) {
            return true;
        }
        pid = *parent;
    };
    all.iter().filter(|(pid, _)| belongs(**pid)).map(|(pid, (_, line))| (*pid, line.clone())).collect()
}
