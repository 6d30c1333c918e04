//! Debian's own engines and runtimes, unpacked by `peers.sh` into the directory that `DRYDOCK_PEERS` names. They run in
//! mount and network namespaces of their own, so that the host's are not touched.

use super::engine::run;
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// All of them.
pub struct Peers {
    dir: PathBuf,
    state: PathBuf,
    dockerd: Child,
    /// Keeps the namespaces of crun, runc and podman.
    place: Child,
    count: u32,
}

impl Peers {
    /// Starts docker.io and prepares the others, if they are there. `layer`: root directory of busybox.
    pub fn start(layer: &Path, scratch: &Path) -> Option<Self> {
        let dir = PathBuf::from(std::env::var_os("DRYDOCK_PEERS")?);
        let state = scratch.join("peers");
        std::fs::create_dir_all(&state).expect("mkdir");
        let apart = |verb: &str| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--net", "--propagation", "private"]).arg(script());
            command.arg(verb).arg(&dir).arg(&state).stdin(Stdio::null());
            command
        };
        let log = std::fs::File::create(state.join("dockerd.log")).expect("a log file");
        let dockerd =
            apart("dockerd").stdout(Stdio::null()).stderr(log).spawn().expect("unshare(1) can be started");
        let mut place = apart("podman").arg(layer).stdout(Stdio::piped()).spawn().expect("unshare(1)");
        let mut line = String::new();
        BufReader::new(place.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says something");
        assert_eq!(line.trim(), "ready", "peers.sh podman");
        let peers = Self { dir, state, dockerd, place, count: 0 };
        let end = Instant::now() + PATIENCE;
        while !peers.socket().exists() {
            assert!(Instant::now() < end, "dockerd does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(peers)
    }

    /// Where docker.io listens.
    pub fn socket(&self) -> PathBuf {
        self.state.join("docker.sock")
    }

    /// A tar archive of busybox.
    pub fn busybox(&self) -> PathBuf {
        self.state.join("busybox.tar")
    }

    /// A word in the command lines of docker.io's shims.
    pub fn mark(&self) -> String {
        self.state.join("exec").display().to_string()
    }

    /// Milliseconds of `crun run` or `runc run`: a directory as root, no network.
    pub fn runtime(&mut self, name: &str) -> f64 {
        self.count += 1;
        let id = format!("bench{}", self.count);
        let bundle = self.state.join("bundle");
        run(self.inside(&[name, "run", "--bundle", &bundle.to_string_lossy(), &id]).stdout(Stdio::null()))
    }

    /// Milliseconds of `podman run --rm`.
    pub fn podman(&self, network: &str) -> f64 {
        let place = |name: &str| self.state.join(name).display().to_string();
        run(&mut self.inside(&[
            "timeout",
            "20",
            "podman",
            "--root",
            &place("root"),
            "--runroot",
            &place("run"),
            "--storage-driver",
            "overlay",
            "run",
            "--rm",
            "--network",
            network,
            "localhost/busybox",
            "true",
        ]))
    }

    /// A command in the place; entering it takes about 2 ms.
    fn inside(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--target", &self.place.id().to_string()]);
        command.arg(script()).arg("in").arg(&self.dir).arg(&self.state).args(args).stdin(Stdio::null());
        command
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.dockerd.id()).expect("a process id"));
        let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        drop(self.dockerd.wait());
        drop(self.place.kill());
        drop(self.place.wait());
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/docker/peers.sh")
}
