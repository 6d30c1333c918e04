//! `RUN` on the operator's host: in process, mount, uts and ipc namespaces of its own, with the image as root. It has the host's
//! network, since packages come from there. Everything that is put in for it (`/dev`, `/proc`, `resolv.conf`, the mirror) is a mount
//! and no part of the image.

use super::{bind, never};
use crate::{Error, Result, work::Work};
use drydock_dockerfile::{
    build::{Answer, BackendError, RunRequest, Stream},
    files::{Tree, resolve_owner},
    language::Network,
};
use drydock_images::mmdebstrap::SUITE;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::{
    fs::{self, File},
    io::Read,
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

/// Variables of the operator that a command gets, so that packages come through a proxy.
const PROXY: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];
/// How often somebody looks whether to stop.
const PATIENCE: Duration = Duration::from_millis(200);
/// Where the catalogue's `debian` says where packages come from.
const SOURCES: &str = "etc/apt/sources.list.d/debian.sources";

/// Runs commands.
pub(super) struct Commands {
    pub(super) stop: Option<Arc<AtomicBool>>,
    setpriv: PathBuf,
    unshare: PathBuf,
    resolv_conf: PathBuf,
    /// In the place of [`SOURCES`].
    sources: Option<PathBuf>,
    steps: AtomicU32,
}

impl Commands {
    pub(super) fn new(work: &Work, mirror: Option<&str>, stop: Option<Arc<AtomicBool>>) -> Result<Self> {
        let dir = work.sub("run", 0o700)?;
        let resolv_conf = dir.join("resolv.conf");
        // A copy, since the host's is often a link into a directory that changes.
        fs::write(&resolv_conf, fs::read("/etc/resolv.conf").unwrap_or_default())
            .map_err(Error::path("write", &resolv_conf))?;
        let sources = mirror.map(|mirror| {
            let path = dir.join("sources");
            let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
            let text =
                format!("Types: deb\nURIs: {mirror}\nSuites: {SUITE}\nComponents: main\nSigned-By: {key}\n");
            fs::write(&path, text).map_err(Error::path("write", &path))?;
            Ok::<_, Error>(path)
        });
        Ok(Self {
            stop,
            setpriv: program("setpriv")?,
            unshare: program("unshare")?,
            resolv_conf,
            sources: sources.transpose()?,
            steps: AtomicU32::new(0),
        })
    }

    /// A number that no other step has.
    pub(super) fn number(&self) -> u32 {
        self.steps.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs a command with `root` as its root and tells how it ended.
    pub(super) fn run(
        &self,
        root: &Path,
        request: &RunRequest,
        log: &mut dyn FnMut(Stream, &[u8]),
    ) -> Answer<i32> {
        if !request.mounts.is_empty() || request.insecure {
            return never("RUN --mount and RUN --security");
        }
        let dressed =
            Dressed::new(root, self).map_err(|e| BackendError(format!("cannot prepare the step: {e}")))?;
        let status = self.wait(self.command(root, request)?, log);
        drop(dressed);
        status
    }

    fn command(&self, root: &Path, request: &RunRequest) -> Answer<Command> {
        let workdir = root.join(request.workdir.trim_start_matches('/'));
        fs::create_dir_all(&workdir)?;
        // All that the command starts ends with it, and it ends with this process, however that ends.
        let mut command = Command::new(&self.setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.unshare);
        command.args(["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc"]);
        if request.network == Network::None {
            command.arg("--net");
        }
        command.arg("--root").arg(root).arg("--wd").arg(&request.workdir);
        let mut home = "/root";
        if !matches!(request.user.as_str(), "" | "root" | "0") {
            let (uid, gid) = resolve_owner(&Tree::open(root)?, &request.user).map_err(BackendError)?;
            command.args(["--setgid", &gid.to_string(), "--setuid", &uid.to_string()]);
            home = "/";
        }
        command.arg("--").args(&request.argv);
        command.env_clear().env("HOME", home).env("DEBIAN_FRONTEND", "noninteractive");
        command.envs(PROXY.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(request.env.iter().filter_map(|entry| entry.split_once('=')));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    fn wait(&self, mut command: Command, log: &mut dyn FnMut(Stream, &[u8])) -> Answer<i32> {
        let mut child = command.spawn()?;
        let (sender, said) = mpsc::channel();
        let pipes: [(Stream, Option<Box<dyn Read + Send>>); 2] = [
            (Stream::Stdout, child.stdout.take().map(|pipe| Box::new(pipe) as _)),
            (Stream::Stderr, child.stderr.take().map(|pipe| Box::new(pipe) as _)),
        ];
        std::thread::scope(|scope| {
            for (stream, pipe) in pipes {
                let sender = sender.clone();
                scope.spawn(move || pipe.map(|pipe| pass(pipe, |data| sender.send((stream, data)).is_ok())));
            }
            drop(sender);
            loop {
                if self.stopped() {
                    let _already_gone = child.kill();
                }
                match said.recv_timeout(PATIENCE) {
                    Ok((stream, data)) => log(stream, &data),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        });
        let status = child.wait()?;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }
}

/// Reads until the end, or until nobody wants more.
fn pass(mut pipe: Box<dyn Read + Send>, mut to: impl FnMut(Vec<u8>) -> bool) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n @ 1..) = pipe.read(&mut buffer) {
        if !to(buffer[..n].to_vec()) {
            return;
        }
    }
}

/// Where a program of the host is.
fn program(name: &'static str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.ok_or(Error::Store(drydock_images::Error::Missing { program: name, package: "util-linux" }))
}

/// What a command finds beside the image. Taken away when this is dropped, with the mount points that were made for it.
struct Dressed {
    mounts: Vec<PathBuf>,
    stubs: Vec<PathBuf>,
}

impl Dressed {
    fn new(root: &Path, commands: &Commands) -> std::io::Result<Self> {
        let mut dressed = Self { mounts: Vec::new(), stubs: Vec::new() };
        dressed.directory(&root.join("proc"))?;
        dressed.devices(&root.join("dev"))?;
        dressed.file(&commands.resolv_conf, &root.join("etc/resolv.conf"))?;
        if let Some(sources) = &commands.sources
            && root.join(SOURCES).is_file()
        {
            dressed.file(sources, &root.join(SOURCES))?;
        }
        Ok(dressed)
    }

    /// A directory as a mount point.
    fn directory(&mut self, path: &Path) -> std::io::Result<()> {
        if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            fs::create_dir(path)?;
            self.stubs.push(path.to_owned());
        }
        Ok(())
    }

    /// A file of the host, read-only.
    fn file(&mut self, from: &Path, to: &Path) -> std::io::Result<()> {
        if let Some(parent) = to.parent() {
            self.directory(parent)?;
        }
        match fs::symlink_metadata(to) {
            Ok(found) if found.is_file() => {}
            // A link would lead out of the root.
            Ok(_) => return Ok(()),
            Err(_) => {
                File::create_new(to)?;
                self.stubs.push(to.to_owned());
            }
        }
        bind(from, to)?;
        self.mounts.push(to.to_owned());
        Ok(())
    }

    /// The devices that every program may expect.
    fn devices(&mut self, dev: &Path) -> std::io::Result<()> {
        self.directory(dev)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), dev, Some("tmpfs"), flags, Some("mode=755,size=64m"))?;
        self.mounts.push(dev.to_owned());
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            let to = dev.join(name);
            File::create_new(&to)?;
            mount(Some(&Path::new("/dev").join(name)), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        }
        for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
            symlink(format!("/proc/self/fd{target}"), dev.join(name))?;
        }
        fs::create_dir(dev.join("shm"))
    }
}

impl Drop for Dressed {
    fn drop(&mut self) {
        for path in self.mounts.iter().rev() {
            // The devices below /dev go with it. The namespace ends with the process in any case.
            let _gone_later = umount2(path, MntFlags::MNT_DETACH);
        }
        for path in self.stubs.iter().rev() {
            // A directory that the command put something into stays.
            let _in_use = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}
