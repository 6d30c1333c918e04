//! WebAssembly containers: which images and runtimes they are of, and the compiled code of their modules, which is kept in
//! `/var/lib/docker/wasm` by the module's digest. Compiling is the work of the program that will run the code
//! (`sandbox/wasm`), in a process of its own. This process must never load compiled code: the node's root may change it on disk.

use drydock_images::config::ImageConfig;
use drydock_runtime::container::spec::ProcessSpec;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read, Seek},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    time::SystemTime,
};

/// What clients call the runtime (`docker run --runtime`): containerd's name for it. The last word alone is understood too.
pub const RUNTIME: &str = "io.containerd.wasmtime.v1";
const SHORT: &str = "wasmtime";
/// Most files that are kept; the oldest go first.
const MAX_KEPT: usize = 64;
/// Longest text of a compiler that is told.
const MAX_TEXT: u64 = 4096;
/// Seconds of processor time that the compilation of one module may take; others wait for their turn.
const MAX_SECONDS: u64 = 300;
/// Where every container has other files than its image.
const ALWAYS_MOUNTED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Whether a runtime is the one for WebAssembly.
pub fn is_runtime(name: &str) -> bool {
    matches!(name, RUNTIME | SHORT)
}

/// Whether an image holds a module.
pub fn is_platform(config: &ImageConfig) -> bool {
    matches!(config.os.as_str(), "wasi" | "wasip1" | "wasip2")
        && matches!(config.architecture.as_str(), "wasm" | "wasm32")
}

/// The program, and what it has compiled.
#[derive(Debug)]
pub struct Wasm {
    inner: Arc<Inner>,
    /// One module at a time: of twenty containers that start at once, nineteen find the code.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    program: OwnedFd,
    /// Tells this program from others, whose code does not fit.
    build: String,
    dir: PathBuf,
}

/// Where a container's module may be.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
    /// As the client gave it.
    name: String,
    /// In the order of search, absolute.
    paths: Vec<PathBuf>,
    mounted: Vec<String>,
}

/// Why there is no code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no such module.
    Missing(String),
    /// It can't be compiled.
    Failed(String),
}

impl Place {
    /// Of the process, below the mounted root. `mounted`: where the container has other files than its image.
    pub fn new(root: &Path, process: &ProcessSpec, mut mounted: Vec<String>) -> Self {
        let name = process.argv.first().cloned().unwrap_or_default();
        let cwd = Path::new(if process.cwd.is_empty() { "/" } else { &process.cwd });
        let mut paths = vec![cwd.join(&name)];
        if !name.contains('/') {
            let path = process.env.iter().rev().find_map(|v| v.strip_prefix("PATH=")).unwrap_or_default();
            paths.extend(std::env::split_paths(path).filter(|d| d.is_absolute()).map(|dir| dir.join(&name)));
        }
        mounted.extend(ALWAYS_MOUNTED.map(Into::into));
        Self { root: root.to_path_buf(), name, paths, mounted }
    }

    /// Opens the module. Nothing, if it may be in a mount or behind a link: then the program in the container finds it.
    fn open(&self) -> Result<Option<File>, Refused> {
        let failed = |e: io::Error| Refused::Failed(format!("exec: {:?}: {e}", self.name));
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(&self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| failed(e.into()))?;
        for path in &self.paths {
            if self.mounted.iter().any(|mounted| path.starts_with(mounted)) {
                return Ok(None);
            }
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve).map(File::from) {
                Ok(file) if file.metadata().is_ok_and(|m| m.is_file()) => return Ok(Some(file)),
                Err(rustix::io::Errno::LOOP) => return Ok(None),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) | Ok(_) => {}
                Err(e) => return Err(failed(e.into())),
            }
        }
        Err(Refused::Missing(if self.name.contains('/') {
            format!("exec: {:?}: stat {}: no such file or directory", self.name, self.name)
        } else {
            format!("exec: {:?}: executable file not found in $PATH", self.name)
        }))
    }
}

impl Wasm {
    /// Keeps code below `/var/lib/docker`.
    pub fn new(program: OwnedFd, root: &Path) -> io::Result<Self> {
        let file = File::from(program);
        let meta = file.metadata()?;
        let build = format!("{:x}-{:x}-{:x}", meta.len(), meta.mtime(), meta.mtime_nsec());
        let inner = Inner { program: file.into(), build, dir: root.join("wasm") };
        Ok(Self { inner: Arc::new(inner), turn: tokio::sync::Mutex::default() })
    }

    /// The compiled code of a container's module, open for reading; compiles it if that was not done yet. Nothing: the program in the
    /// container must compile it itself.
    pub async fn code(&self, place: Place) -> Result<Option<OwnedFd>, Refused> {
        let found = blocking(move || {
            let Some(mut module) = place.open()? else { return Ok(None) };
            let failed = |e: io::Error| Refused::Failed(format!("read {}: {e}", place.name));
            let digest = digest(&mut module).map_err(failed)?;
            Ok(Some((module, digest, place.name)))
        });
        let Some((module, digest, name)) = found.await? else { return Ok(None) };
        let kept = self.inner.dir.join(format!("{digest}-{}.cwasm", self.inner.build));
        let there = kept.clone();
        if let Some(code) = blocking(move || Ok(open_code(&there))).await? {
            return Ok(Some(code));
        }
        let _turn = self.turn.lock().await;
        let inner = self.inner.clone();
        blocking(move || match open_code(&kept) {
            Some(code) => Ok(Some(code)),
            None => inner.compile(module, &kept, &name).map(|()| open_code(&kept)),
        })
        .await
    }
}

impl Inner {
    fn compile(&self, module: File, kept: &Path, name: &str) -> Result<(), Refused> {
        let failed = |what: &str, e: io::Error| Refused::Failed(format!("{what}: {e}"));
        fs::create_dir_all(&self.dir).map_err(|e| failed("make the directory for compiled code", e))?;
        let new = kept.with_extension("new");
        let _left_by_a_crash = fs::remove_file(&new);
        let file = File::create_new(&new).map_err(|e| failed("make a file for compiled code", e))?;
        let done = self.run(module, file).map_err(|e| failed("run the compiler", e));
        let done = done.and_then(|(status, text)| {
            if status.success() {
                return fs::rename(&new, kept).map_err(|e| failed("keep compiled code", e));
            }
            let why = text.trim().strip_prefix("Error: ").unwrap_or(text.trim());
            let why = if why.is_empty() { status.to_string() } else { why.to_string() };
            Err(Refused::Failed(format!("exec: {name:?}: {why}")))
        });
        match done {
            Ok(()) => self.forget_old(),
            Err(_) => drop(fs::remove_file(&new)),
        }
        done
    }

    /// The compiler's status, and the beginning of what it said.
    fn run(&self, module: File, to: File) -> io::Result<(ExitStatus, String)> {
        let mut child = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()))
            .arg0("wasmtime")
            .arg("compile")
            .env_clear()
            .stdin(module)
            .stdout(to)
            .stderr(Stdio::piped())
            .spawn()?;
        let limit = Rlimit { current: Some(MAX_SECONDS), maximum: Some(MAX_SECONDS) };
        let mut text = Vec::new();
        let read = prlimit(Pid::from_raw(child.id().cast_signed()), Resource::Cpu, limit)
            .map_err(io::Error::from)
            // More than that is not waited for: a longer text ends the compiler at its broken pipe.
            .and_then(|_| {
                child.stderr.take().map_or(Ok(0), |pipe| pipe.take(MAX_TEXT).read_to_end(&mut text))
            });
        if read.is_err() {
            child.kill()?;
        }
        let status = child.wait()?;
        read.map(|_| (status, String::from_utf8_lossy(&text).into_owned()))
    }

    /// Keeps the directory from growing without end.
    fn forget_old(&self) {
        let Ok(list) = fs::read_dir(&self.dir) else { return };
        let time = |entry: &fs::DirEntry| {
            entry.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let mut files: Vec<_> =
            list.flatten().take(MAX_KEPT * 4).map(|entry| (time(&entry), entry.path())).collect();
        files.sort();
        let surplus = files.len().saturating_sub(MAX_KEPT);
        for (_, path) in files.into_iter().take(surplus) {
            let _gone_already = fs::remove_file(path);
        }
    }
}

/// Opens code that is kept. The node's root may have put anything in its place: that is then no code.
fn open_code(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(file.as_fd()).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size > 0).then_some(file)
}

/// SHA-256 in hex; the file is at its start afterwards.
fn digest(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => hash.update(&piece[..length]),
        }
    }
    file.rewind()?;
    Ok(hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _never_fails = write!(hex, "{byte:02x}");
        hex
    }))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Refused::Failed(e.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A program that copies the module and counts its runs; it fails on an empty one.
    fn wasm(dir: &Path) -> Wasm {
        let program = dir.join("program");
        let script = format!(
            "#!/bin/sh\necho x >> {}/runs\nread -r line || {{ echo 'Error: no module' >&2; exit 1; }}\necho \"$1 $line\"\n",
            dir.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let program = File::open(program).unwrap();
        // The shell opens its script again by this number, which a real program does not need.
        rustix::io::fcntl_setfd(&program, rustix::io::FdFlags::empty()).unwrap();
        Wasm::new(program.into(), dir).unwrap()
    }

    fn place(root: &Path, name: &str, mounted: &[&str]) -> Place {
        let paths = vec![Path::new("/work").join(name), Path::new("/bin").join(name)];
        let mounted = mounted.iter().map(|m| (*m).into()).collect();
        Place { root: root.into(), name: name.into(), paths, mounted }
    }

    fn runs(dir: &Path) -> usize {
        fs::read_to_string(dir.join("runs")).map_or(0, |text| text.lines().count())
    }

    #[tokio::test]
    async fn a_module_is_compiled_once_and_code_is_kept_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("work")).unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("work/a.wasm"), "content\n").unwrap();
        fs::write(root.join("bin/b.wasm"), "content\n").unwrap();
        let wasm = wasm(dir.path());
        for name in ["a.wasm", "b.wasm", "a.wasm"] {
            let code = wasm.code(place(&root, name, &[])).await.unwrap().unwrap();
            let mut text = String::new();
            File::from(code).read_to_string(&mut text).unwrap();
            assert_eq!(text, "compile content\n");
        }
        assert_eq!(runs(dir.path()), 1);
        fs::write(root.join("work/a.wasm"), "other\n").unwrap();
        wasm.code(place(&root, "a.wasm", &[])).await.unwrap().unwrap();
        assert_eq!(runs(dir.path()), 2);
        // What is in its place but no file is no code.
        for kept in fs::read_dir(dir.path().join("wasm")).unwrap().flatten() {
            fs::remove_file(kept.path()).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", kept.path()).unwrap();
        }
        let again = wasm.code(place(&root, "a.wasm", &[])).await.unwrap();
        assert!(again.is_some());
        assert_eq!(runs(dir.path()), 3);
    }

    #[tokio::test]
    async fn what_the_engine_cannot_see_is_left_to_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("work")).unwrap();
        let wasm = wasm(dir.path());
        assert!(wasm.code(place(&root, "a.wasm", &["/work"])).await.unwrap().is_none());
        std::os::unix::fs::symlink("/etc/passwd", root.join("work/link.wasm")).unwrap();
        assert!(wasm.code(place(&root, "link.wasm", &[])).await.unwrap().is_none());
        assert_eq!(runs(dir.path()), 0);
    }

    #[tokio::test]
    async fn refusals_say_why_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("work")).unwrap();
        let wasm = wasm(dir.path());
        let missing = wasm.code(place(&root, "a.wasm", &[])).await.unwrap_err();
        let words = "exec: \"a.wasm\": executable file not found in $PATH";
        assert_eq!(missing, Refused::Missing(words.into()));
        fs::write(root.join("work/a.wasm"), "").unwrap();
        let failed = wasm.code(place(&root, "a.wasm", &[])).await.unwrap_err();
        assert_eq!(failed, Refused::Failed("exec: \"a.wasm\": no module".into()));
        assert_eq!(fs::read_dir(dir.path().join("wasm")).unwrap().count(), 0);
    }

    #[test]
    fn platforms_and_runtimes() {
        let of = |os: &str, architecture: &str| {
            is_platform(&ImageConfig {
                os: os.into(),
                architecture: architecture.into(),
                ..ImageConfig::default()
            })
        };
        assert!(of("wasi", "wasm") && of("wasip1", "wasm"));
        assert!(!of("linux", "amd64") && !of("linux", "wasm"));
        assert!(is_runtime("io.containerd.wasmtime.v1") && !is_runtime("io.containerd.wasmedge.v1"));
    }
}
