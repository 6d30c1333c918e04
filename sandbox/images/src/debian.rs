//! Builds the node image from Debian packages with mmdebstrap. What goes in is data: `node/packages`, `node/files` and
//! the two scripts beside them. Called by `drydock image build`; runs programs of the host as root, with no input from
//! learners.

use crate::{
    Digest, Error, Progress, Result, Store,
    config::{ImageConfig, RootFs, RunConfig},
    oci::{self, Descriptor, Manifest},
    store::{Taken, Writer, remove_tree},
};
use std::{
    collections::VecDeque,
    fs::{self, File, Permissions},
    io::{BufRead, BufReader, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    time::{SystemTime, UNIX_EPOCH},
};
use tar::{EntryType, Header};

/// The Debian release that nodes run.
const SUITE: &str = "trixie";
/// The suite that brings the clients for which [`SUITE`] is too old.
const CLIENTS: &str = "forky";
const PACKAGES: &str = include_str!("../node/packages");
const SETUP: &str = include_str!("../node/setup.sh");
const CUSTOMIZE: &str = include_str!("../node/customize.sh");
/// Our own files: path, content. All belong to root with mode 0644; `customize.sh` makes the programs executable.
const FILES: &[(&str, &str)] = &[
    ("root/.bashrc", include_str!("../node/files/root/.bashrc")),
    ("root/.profile", include_str!("../node/files/root/.profile")),
    ("etc/motd", include_str!("../node/files/etc/motd")),
    ("etc/tmux.conf", include_str!("../node/files/etc/tmux.conf")),
    ("etc/default/locale", include_str!("../node/files/etc/locale")),
    ("usr/local/bin/systemctl", include_str!("../node/files/usr/local/bin/systemctl")),
    ("usr/local/bin/service", include_str!("../node/files/usr/local/bin/service")),
];
/// Nobody reads manuals or other languages in a node; they would be half of the image. The profile script would load the
/// completions at the start of every login shell, which `.bashrc` avoids.
const LEFT_OUT: &[&str] = &[
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/etc/profile.d/bash_completion.sh",
];
/// Lines of the builder's output that an error shows.
const TAIL: usize = 20;

/// How to build an image.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// URL of a Debian mirror; absent: mmdebstrap's own default.
    pub mirror: Option<String>,
}

impl Store {
    /// Builds the node image from Debian packages and gives it a name; tells the digest of its manifest. Needs a
    /// Debian mirror in reach.
    pub fn build(
        &self,
        name: &str,
        options: &BuildOptions,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Digest> {
        if !oci::is_name(name) {
            return Err(Error::Name(name.escape_debug().to_string()));
        }
        check_host()?;
        let writer = self.writer(progress)?;
        let work = WorkDir::new(&writer)?;
        let child = start(&work.0, options)?;
        let layer = follow(&writer, child, progress)?;
        drop(work);

        progress(Progress { stage: "storing", detail: "" });
        writer.keep_tar(&layer)?;
        let now = oci::rfc3339(now());
        let manifest = describe(&writer, layer, &now)?;
        let digest = manifest.digest.clone();
        let mut named = manifest;
        named.annotations.insert(oci::REF_NAME.into(), name.into());
        named.annotations.insert(oci::CREATED.into(), now);
        writer.commit(vec![named])?;
        Ok(digest)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Says which package is missing before anything is begun.
fn check_host() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = [
        ("mmdebstrap", "mmdebstrap debian-archive-keyring"),
        ("unshare", "util-linux"),
        ("setpriv", "util-linux"),
    ];
    for (program, package) in programs {
        if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            return Err(Error::Missing { program, package });
        }
    }
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if !Path::new(keyring).exists() {
        return Err(Error::Missing { program: keyring, package: "debian-archive-keyring" });
    }
    Ok(())
}

/// Where mmdebstrap works: outside of the store, since apt's unprivileged downloader must get in, and on disk rather
/// than in a `/tmp` that may be memory.
struct WorkDir(PathBuf);

impl WorkDir {
    fn new(writer: &Writer<'_>) -> Result<Self> {
        let above = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let dir = above.join(format!("drydock-build-{}-{}", std::process::id(), now()));
        // The note comes first: if this process is killed, the next one finds and deletes the directory.
        let note = writer.tmp.join("outside");
        symlink(&dir, &note).map_err(Error::path("make", &note))?;
        fs::create_dir(&dir).map_err(Error::path("make", &dir))?;
        let work = Self(dir);
        fs::set_permissions(&work.0, Permissions::from_mode(0o755))
            .map_err(Error::path("set the mode of", &work.0))?;
        for (name, content) in [("setup.sh", SETUP), ("customize.sh", CUSTOMIZE)] {
            let path = work.0.join(name);
            fs::write(&path, content).map_err(Error::path("write", &path))?;
        }
        write_files(&work.0.join("files.tar"))?;
        Ok(work)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // If this fails, the next use of the store does it: the note is still there.
        let _ = remove_tree(&self.0);
    }
}

/// Our own files as a tar, which brings owners and modes along whatever the umask is.
fn write_files(path: &Path) -> Result<()> {
    let file = File::create(path).map_err(Error::path("make", path))?;
    let mut tar = tar::Builder::new(file);
    for (name, content) in FILES {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).map_err(Error::path("write", path))?;
    }
    tar.finish().map_err(Error::path("write", path))
}

/// Package names as mmdebstrap takes them.
fn packages() -> String {
    let names =
        PACKAGES.lines().map(|l| l.split('#').next().unwrap_or_default().trim()).filter(|l| !l.is_empty());
    names.collect::<Vec<_>>().join(",")
}

fn start(work: &Path, options: &BuildOptions) -> Result<Child> {
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
    command.args(["--mode=root", "--variant=minbase", "--format=tar", "--verbose"]);
    command.arg("--aptopt=Acquire::Languages \"none\"");
    command.args(LEFT_OUT.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg("--setup-hook=sh \"$DRYDOCK_BUILD/setup.sh\" \"$1\"");
    command.arg("--customize-hook=sh \"$DRYDOCK_BUILD/customize.sh\" \"$1\"");
    command.arg(format!("--include={}", packages()));
    command.args([SUITE, "-"]);
    if let Some(mirror) = &options.mirror {
        command.arg(mirror);
    }
    command.env("DRYDOCK_BUILD", work).env("DRYDOCK_SUITE", SUITE).env("DRYDOCK_CLIENTS", CLIENTS);
    // Times within the build's own day are rounded to its midnight: the same packages give the same layer.
    if std::env::var_os("SOURCE_DATE_EPOCH").is_none() {
        command.env("SOURCE_DATE_EPOCH", (now() / 86_400 * 86_400).to_string());
    }
    command.env("TMPDIR", work).env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(Error::io("cannot start mmdebstrap"))
}

/// Takes the tar from the running mmdebstrap while telling what it says.
fn follow(writer: &Writer<'_>, mut child: Child, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Taken> {
    let (Some(tar), Some(said)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Error::Io {
            what: "cannot start mmdebstrap".into(),
            source: std::io::ErrorKind::BrokenPipe.into(),
        });
    };
    let (sender, events) = mpsc::channel();
    let mut tail = VecDeque::new();
    let layer = std::thread::scope(|scope| {
        let lines = sender.clone();
        scope.spawn(move || read_lines(said, &lines));
        let unpacker = scope.spawn(move || {
            let counted = Counted { from: tar, bytes: 0, told: 0, to: sender };
            writer.take_tar(BufReader::with_capacity(1 << 20, counted))
        });
        let mut stage = String::from("starting mmdebstrap");
        for event in events {
            match event {
                Event::Bytes(bytes) => {
                    progress(Progress {
                        stage: "unpacking and packing",
                        detail: &format!("{} MB", bytes >> 20),
                    });
                }
                Event::Line(line) => {
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
        unpacker.join()
    });
    let status = child.wait().map_err(Error::io("cannot wait for mmdebstrap"))?;
    match layer {
        // A broken tar is mostly a consequence of the builder's own failure, which says more.
        _ if !status.success() => Err(Error::Build {
            program: "mmdebstrap",
            status: status.to_string(),
            tail: tail.into_iter().collect::<Vec<_>>().join("\n"),
        }),
        Ok(layer) => layer,
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
fn understand(line: &str) -> Option<(Option<&str>, String)> {
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

fn describe(writer: &Writer<'_>, layer: Taken, created: &str) -> Result<Descriptor> {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = ImageConfig {
        created: Some(created.into()),
        architecture: oci::architecture().into(),
        os: "linux".into(),
        config: RunConfig {
            env: Some(vec![path.into(), "LANG=C.UTF-8".into()]),
            cmd: Some(vec!["/bin/bash".into()]),
            working_dir: "/root".into(),
            ..RunConfig::default()
        },
        rootfs: RootFs { kind: "layers".into(), diff_ids: vec![layer.diff_id] },
        ..ImageConfig::default()
    };
    let config = writer.add_json(oci::CONFIG, &config)?;
    let media_type = Some(oci::MANIFEST.to_owned());
    let manifest = Manifest { schema_version: 2, media_type, config, layers: vec![layer.descriptor] };
    writer.add_json(oci::MANIFEST, &manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_list_has_no_comments_or_blanks() {
        let list = packages();
        assert!(list.starts_with("bash-completion,") && list.contains(",docker-cli/forky,"), "{list}");
        assert!(!list.contains(['#', ' ', '\n']) && !list.contains(",,"));
    }

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
