//! Runs mmdebstrap on the host: a root file system of Debian packages, as a tar. Made for the node image and for the catalogue's
//! `debian`. Everything that it is told is the operator's or our own.

use crate::{Error, Progress, Result};
use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tar::{EntryType, Header};

/// The Debian release that nodes and the catalogue's images run.
pub const SUITE: &str = "trixie";
/// What Debian signs this release with, as its package debian-archive-keyring has it: other systems have that package without the keys of
/// newer releases, and Ubuntu's apt does not look at it.
const KEYS: [(&str, &[u8]); 3] = [
    ("debian-13-automatic.gpg", include_bytes!("../keys/debian-13-automatic.gpg")),
    ("debian-13-security-automatic.gpg", include_bytes!("../keys/debian-13-security-automatic.gpg")),
    ("debian-13-stable.gpg", include_bytes!("../keys/debian-13-stable.gpg")),
];
/// What the host trusts, for a mirror that signs with a key of its own (apt-secure(8)).
const TRUSTED: &str = "/etc/apt/trusted.gpg.d";
/// Nobody reads manuals or other languages in a node or a container; they would be half of an image.
pub const DOCUMENTATION: &[&str] = &[
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
];
/// Lines of the builder's output that an error shows.
const TAIL: usize = 20;
/// How often somebody looks whether to stop.
const PATIENCE: Duration = Duration::from_millis(200);

/// A root file system to be made.
#[derive(Debug, Clone, Default)]
pub struct DebianRoot {
    /// `minbase`, `extract` and so on, as in mmdebstrap(1).
    pub variant: &'static str,
    /// Packages beside those of the variant, separated by commas.
    pub packages: String,
    /// URL of a Debian mirror; absent: mmdebstrap's own default.
    pub mirror: Option<String>,
    /// More options for mmdebstrap.
    pub arguments: Vec<String>,
    /// Variables for its hooks.
    pub env: Vec<(&'static str, OsString)>,
    /// Becomes true when somebody wants an end.
    pub stop: Option<Arc<AtomicBool>>,
}

impl DebianRoot {
    /// Makes it as a file, with an empty `/dev`, since containers get devices of their own. `work` is a directory that everybody can get
    /// into (apt downloads without root's rights).
    pub fn write(&self, work: &Path, to: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
        let mut without = self.clone();
        without.arguments.push("--skip=output/dev".into());
        without.make(work, progress, |mut tar| {
            let mut dev = Header::new_ustar();
            dev.set_entry_type(EntryType::Directory);
            dev.set_mode(0o755);
            dev.set_uid(0);
            dev.set_gid(0);
            dev.set_mtime(now() / 86_400 * 86_400);
            dev.set_size(0);
            let named = dev.set_path("dev/");
            dev.set_cksum();
            let mut file = File::create(to).map_err(Error::path("make", to))?;
            // The option leaves the directory itself out too. An entry before the others needs no end of its own.
            named
                .and_then(|()| file.write_all(dev.as_bytes()))
                .and_then(|()| io::copy(&mut tar, &mut file))
                .map(drop)
                .map_err(Error::path("write", to))
        })
    }

    /// Makes it and gives the tar to `take`, which runs in a thread of its own.
    pub(crate) fn make<T: Send>(
        &self,
        work: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
        take: impl FnOnce(&mut dyn Read) -> Result<T> + Send,
    ) -> Result<T> {
        check_host()?;
        let child = self.start(work)?;
        follow(child, self.stop.as_deref(), progress, take)
    }

    fn start(&self, work: &Path) -> Result<Child> {
        // mmdebstrap makes mounts and starts many programs. In process and mount namespaces of its own all of them end with
        // this process, however it ends.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--pid",
            "--mount-proc",
            "--fork",
            "--kill-child",
            "mmdebstrap",
        ]);
        command.args(["--mode=root", "--format=tar", "--verbose"]);
        command.arg(format!("--variant={}", self.variant));
        command.arg("--aptopt=Acquire::Languages \"none\"");
        let mut keyring = OsString::from("--keyring=");
        keyring.push(write_keys(work)?);
        command.arg(keyring);
        command.args(&self.arguments);
        if !self.packages.is_empty() {
            command.arg(format!("--include={}", self.packages));
        }
        command.args([SUITE, "-"]);
        if let Some(mirror) = &self.mirror {
            command.arg(mirror);
        }
        command.envs(self.env.iter().cloned());
        // Times within the build's own day are rounded to its midnight: the same packages give the same layer.
        if std::env::var_os("SOURCE_DATE_EPOCH").is_none() {
            command.env("SOURCE_DATE_EPOCH", (now() / 86_400 * 86_400).to_string());
        }
        command.env("TMPDIR", work).env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(Error::io("cannot start mmdebstrap"))
    }
}

/// A directory with the keys whose signatures count, which may be there already.
fn write_keys(work: &Path) -> Result<PathBuf> {
    let dir = work.join("keys");
    fs::create_dir_all(&dir).map_err(Error::path("make", &dir))?;
    for (name, key) in KEYS {
        let path = dir.join(name);
        fs::write(&path, key).map_err(Error::path("write", &path))?;
    }
    for entry in fs::read_dir(TRUSTED).into_iter().flatten().flatten() {
        let path = dir.join(entry.file_name());
        if entry.path().is_file() && !path.exists() {
            fs::copy(entry.path(), &path).map_err(Error::path("write", &path))?;
        }
    }
    Ok(dir)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Says which package is missing before anything is begun.
pub(crate) fn check_host() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = [("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux"), ("setpriv", "util-linux")];
    for (program, package) in programs {
        if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            return Err(Error::Missing { program, package });
        }
    }
    Ok(())
}

/// Takes the tar from the running mmdebstrap while telling what it says.
fn follow<T: Send>(
    mut child: Child,
    stop: Option<&AtomicBool>,
    progress: &mut dyn FnMut(Progress<'_>),
    take: impl FnOnce(&mut dyn Read) -> Result<T> + Send,
) -> Result<T> {
    let (Some(tar), Some(said)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Error::Io {
            what: "cannot start mmdebstrap".into(),
            source: std::io::ErrorKind::BrokenPipe.into(),
        });
    };
    let (sender, events) = mpsc::channel();
    let mut tail = VecDeque::new();
    let taken = std::thread::scope(|scope| {
        let lines = sender.clone();
        scope.spawn(move || read_lines(said, &lines));
        let taker = scope.spawn(move || {
            let counted = Counted { from: tar, bytes: 0, told: 0, to: sender };
            take(&mut BufReader::with_capacity(1 << 20, counted))
        });
        let mut stage = String::from("starting mmdebstrap");
        loop {
            if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                // The namespaces' first process goes with it, and everything in them.
                let _already_gone = child.kill();
            }
            match events.recv_timeout(PATIENCE) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Ok(Event::Bytes(bytes)) => {
                    progress(Progress {
                        stage: "unpacking and packing",
                        detail: &format!("{} MB", bytes >> 20),
                    });
                }
                Ok(Event::Line(line)) => {
                    if let Some((new, detail)) = understand(&line) {
                        stage = new.map_or(stage, str::to_owned);
                        progress(Progress { stage: &stage, detail: &detail });
                    }
                    tail.push_back(line);
                    if tail.len() > TAIL {
                        tail.pop_front();
                    }
                }
            }
        }
        taker.join()
    });
    let status = child.wait().map_err(Error::io("cannot wait for mmdebstrap"))?;
    match taken {
        _ if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) => Err(Error::Stopped),
        // A broken tar is mostly a consequence of the builder's own failure, which says more.
        _ if !status.success() => Err(Error::Build {
            program: "mmdebstrap",
            status: status.to_string(),
            tail: tail.into_iter().collect::<Vec<_>>().join("\n"),
        }),
        Ok(taken) => taken,
        Err(_) => {
            Err(Error::Io { what: "the unpacking thread".into(), source: std::io::Error::other("panicked") })
        }
    }
}

enum Event {
    Line(String),
    Bytes(u64),
}

/// Sends each line of the builder's output, cut to a sane length.
fn read_lines(said: ChildStderr, to: &mpsc::Sender<Event>) {
    let mut said = BufReader::new(said);
    let mut line = Vec::new();
    loop {
        line.clear();
        match said.by_ref().take(64 << 10).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text: String = String::from_utf8_lossy(&line).trim_end().chars().take(300).collect();
                if to.send(Event::Line(text)).is_err() {
                    return;
                }
            }
        }
    }
}

/// Counts what passes and tells it every 32 MB.
struct Counted<R> {
    from: R,
    bytes: u64,
    told: u64,
    to: mpsc::Sender<Event>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.bytes += n as u64;
        if self.bytes - self.told >= 32 << 20 {
            self.told = self.bytes;
            let _ = self.to.send(Event::Bytes(self.bytes));
        }
        Ok(n)
    }
}

/// A line of mmdebstrap (`I: installing essential packages...`), of apt (`Get:3 URL suite/main amd64 name …`) or of dpkg
/// (`Setting up name (version) ...`) as a new stage, if it begins one, and a detail.
pub fn understand(line: &str) -> Option<(Option<&str>, String)> {
    if let Some(stage) = line.strip_prefix("I: ") {
        let stage = stage.trim_end_matches('.');
        let internal = [
            "chroot ",
            "removing ",
            "success ",
            "done",
            "automatically",
            "finding",
            "using ",
            "running --",
            "running special",
            "not running",
        ];
        return (!internal.iter().any(|i| stage.starts_with(i))).then(|| (Some(stage), String::new()));
    }
    let mut words = line.split_whitespace();
    let first = words.next()?;
    if first.starts_with("Get:") {
        let rest: Vec<_> = words.collect();
        let size = line.rsplit_once('[').map_or("", |(_, size)| size.trim_end_matches(']'));
        // URL, suite/component, architecture, name, architecture, version, [size, unit]; lists of packages have fewer.
        let name = rest.get(3).filter(|_| rest.len() == 8)?;
        return Some((None, format!("{name} {size}").trim_end().to_owned()));
    }
    let detail = line.strip_prefix("Setting up ").or_else(|| line.strip_prefix("Unpacking "))?;
    Some((None, detail.split(' ').next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_comes_from_what_the_builder_says() {
        let get = "Get:7 http://deb.example/debian trixie/main amd64 vim amd64 2:9.1 [1736 kB]";
        assert_eq!(understand(get), Some((None, "vim 1736 kB".into())));
        let stage = "I: installing essential packages...";
        assert_eq!(understand(stage), Some((Some("installing essential packages"), String::new())));
        assert_eq!(understand("Setting up vim (2:9.1) ..."), Some((None, "vim".into())));
        let list = "Get:5 http://deb.example/debian trixie/main amd64 Packages [9678 kB]";
        for silent in ["", list, "Reading package lists...", "I: automatically chosen mode: root", "Get:1"] {
            assert_eq!(understand(silent), None, "{silent}");
        }
    }
}
