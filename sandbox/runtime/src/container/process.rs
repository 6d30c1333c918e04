//! From a forked child that stands in a container's namespaces to the container's program: user, groups, limits, capabilities,
//! system call filter, exec. Used by a container's first process and by `docker exec`; the order of the steps in [`enter`] is runc's
//! (libcontainer, `finalizeNamespace`): what needs privilege first, the filter last.

use super::{
    messages::{Failure, FailureKind},
    rlimits,
    seccomp::Filters,
    spec::{Filter, ProcessSpec},
    users::{self, User},
};
use crate::{Result, error::Context, process, seccomp};
use nix::{
    errno::Errno,
    fcntl::AtFlags as NixAtFlags,
    sys::prctl,
    unistd::{Gid, Uid, execve, execveat, setgid, setgroups, setuid},
};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::FdFlags,
    thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities},
};
use seccompiler::BpfProgram;
use std::{
    ffi::CString,
    fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

/// Where programs are looked up if the environment says nothing (Docker's default).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Input, output and errors of the process.
pub type Stdio = [OwnedFd; 3];

/// What is ready to be executed.
pub struct Program<'a> {
    file: ProgramFile<'a>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program<'_> {
    /// Its arguments, the first one its name.
    pub(super) fn arguments(&self) -> &[CString] {
        &self.argv
    }
}

/// Where its code is.
enum ProgramFile<'a> {
    /// In the container, by path.
    Path(CString),
    /// Outside, by descriptor. With what it needs to keep open.
    Descriptor(BorrowedFd<'a>, Option<BorrowedFd<'a>>),
}

/// What runs a WebAssembly module.
#[derive(Clone, Copy)]
pub struct Wasm<'a> {
    /// See [`super::EngineBoot::wasm`].
    pub program: Option<BorrowedFd<'a>>,
    /// Compiled code of the module.
    pub code: Option<BorrowedFd<'a>>,
}

/// Which process of a container.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// Its first; perhaps one that runs a module.
    First { wasm: Option<Wasm<'a>> },
    /// One of `docker exec`.
    Exec,
}

/// Looks the user up (in the container's own files) and takes on everything that the process shall be, down to the
/// filter. Returns what [`execute`] wants. After an error the process is good for nothing but reporting it.
pub fn enter<'a>(
    spec: &ProcessSpec,
    stdio: Stdio,
    report: BorrowedFd<'_>,
    filters: &Filters,
    start: Start<'a>,
) -> std::result::Result<Program<'a>, Failure> {
    let user = users::find(&spec.user, &spec.groups).map_err(other)?;
    let program = match start {
        Start::First { wasm: Some(wasm) } => prepare_wasm(spec, &user, wasm)?,
        _ => prepare(spec, &user)?,
    };
    if matches!(start, Start::First { .. }) {
        make_directory(&spec.cwd, &user);
    }
    let set_up = || -> Result<(CapabilitySet, Option<BpfProgram>)> {
        let [input, output, error] = stdio.each_ref().map(AsFd::as_fd);
        if spec.tty.is_none() {
            own_pipes(&user, &[input, output, error]);
        }
        process::set_stdio(input, output, error)?;
        drop(stdio);
        let mut keep = vec![report];
        if let ProgramFile::Descriptor(program, code) = program.file {
            keep.extend([Some(program), code].into_iter().flatten());
        }
        process::close_all_but(&keep);
        if spec.tty.is_some() {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).step(|| "take the terminal")?;
            let mode = rustix::fs::Mode::from_raw_mode(0o620);
            let _cosmetic = rustix::fs::fchmod(rustix::stdio::stdin(), mode);
            let uid = rustix::process::Uid::from_raw(user.uid);
            rustix::fs::fchown(rustix::stdio::stdin(), Some(uid), None).step(|| "own the terminal")?;
        }
        rlimits::set(&spec.rlimits, user.uid)?;
        if let Some(score) = spec.oom_score_adj {
            // Lowering it needs a privilege that no session has; Docker's rootless mode lets it be as well.
            let _kept = fs::write("/proc/self/oom_score_adj", score.to_string());
        }
        let keep = capabilities(&spec.capabilities);
        for capability in known().difference(keep).iter() {
            remove_capability_from_bounding_set(capability).step(|| format!("drop {capability:?}"))?;
        }
        let given = match &spec.seccomp {
            Filter::Program(instructions) => seccomp::program(instructions),
            Filter::Off | Filter::Default { .. } => vec![],
        };
        let filter = match spec.seccomp {
            Filter::Off => None,
            Filter::Default { admin } => Some(filters.choose(admin)),
            Filter::Program(_) => Some(&given),
        };
        if !spec.no_new_privileges
            && let Some(filter) = filter
        {
            // While SYS_ADMIN is there, so that set-user-id programs go on working; what comes below is not filtered.
            seccomp::install(filter)?;
        }
        Ok((keep, filter.filter(|_| spec.no_new_privileges).cloned()))
    };
    let (keep, filter) = set_up().map_err(|e| other(e.to_string()))?;
    become_user(&user, keep)?;
    // As the user: a directory that only root may enter is refused, as runc refuses it.
    let cwd = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
    rustix::process::chdir(cwd).map_err(|e| {
        let why = Errno::from_raw(e.raw_os_error()).desc().to_lowercase();
        other(format!("chdir to cwd ({cwd:?}) set in config.json failed: {why}"))
    })?;
    if spec.no_new_privileges {
        prctl::set_no_new_privs().map_err(|e| refused("can't set no_new_privs", e))?;
    }
    if let Some(filter) = &filter {
        seccomp::install(filter).map_err(|e| other(e.to_string()))?;
    }
    Ok(program)
}

/// Takes user, groups and capabilities on. What refuses them here is the container's own filter, so runc's words for it are told.
fn become_user(user: &User, keep: CapabilitySet) -> std::result::Result<(), Failure> {
    prctl::set_keepcaps(true).map_err(|e| refused("unable to set keep caps", e))?;
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(|e| refused("unable to setup user: setgroups", e))?;
    setgid(Gid::from_raw(user.gid)).map_err(|e| refused("unable to setup user", e))?;
    setuid(Uid::from_raw(user.uid)).map_err(|e| refused("unable to setup user", e))?;
    prctl::set_keepcaps(false).map_err(|e| refused("unable to clear keep caps", e))?;
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
        .map_err(|e| refused("unable to apply caps", Errno::from_raw(e.raw_os_error())))
}

fn refused(what: &str, errno: Errno) -> Failure {
    other(format!("{what}: {}", errno.desc().to_lowercase()))
}

/// Becomes the program; returns only if it can't. That a program is there was seen before (`prepare`), and that is all that Docker
/// tells as a failed start: what the kernel thinks of it (a script with an interpreter that is missing, another machine's program)
/// the program's own standard error tells, and its exit status, which is returned. (runc, `standard_init_linux.go`, `init_linux.go`)
///
/// # Errors
/// Our own program for WebAssembly can't be executed.
pub fn execute(program: &Program<'_>, parent: Parent) -> std::result::Result<i32, Failure> {
    let (argv, env) = (&program.argv, &program.env);
    match &program.file {
        ProgramFile::Path(path) => {
            let Err(errno) = execve(path, argv, env);
            let path = path.to_string_lossy();
            let (status, text) = match parent {
                Parent::Engine => (255, format!("exec {path}: {}\n", errno.desc().to_lowercase())),
                Parent::Init => {
                    let status = match errno {
                        Errno::ENOENT => 127,
                        Errno::EACCES => 126,
                        _ => 1,
                    };
                    let pid = std::process::id();
                    (status, format!("[FATAL tini ({pid})] exec {path} failed: {}\n", errno.desc()))
                }
            };
            let _nobody_listens = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            Ok(status)
        }
        ProgramFile::Descriptor(file, code) => {
            // It finds the code by the number that its arguments tell.
            let kept = code.map_or(Ok(()), |code| rustix::io::fcntl_setfd(code, FdFlags::empty()));
            let errno = match kept {
                Err(e) => Errno::from_raw(e.raw_os_error()),
                Ok(()) => {
                    let Err(errno) = execveat(file, c"", argv, env, NixAtFlags::AT_EMPTY_PATH);
                    errno
                }
            };
            let why = errno.desc().to_lowercase();
            Err(Failure {
                kind: FailureKind::NotExecutable,
                message: format!("exec the WebAssembly runtime: {why}"),
            })
        }
    }
}

/// Who starts a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// The engine, as runc does.
    Engine,
    /// Process 1 of `--init`, as tini does.
    Init,
}

fn other(message: impl Into<String>) -> Failure {
    Failure { kind: FailureKind::Other, message: message.into() }
}

fn text(text: &str) -> std::result::Result<CString, Failure> {
    CString::new(text).map_err(|_| other("an argument holds a zero byte"))
}

fn environment(spec: &ProcessSpec, user: &User) -> std::result::Result<Vec<CString>, Failure> {
    // An empty one counts as none, as with runc.
    let given = spec.env.iter().filter(|variable| *variable != "HOME=");
    let mut env: Vec<CString> = given.map(|s| text(s)).collect::<std::result::Result<_, _>>()?;
    if !spec.env.iter().any(|e| e.starts_with("HOME=") && e != "HOME=") {
        env.push(text(&format!("HOME={}", user.home))?);
    }
    Ok(env)
}

/// The program that runs a module. Whether the module is there it sees itself: with the container's rights, in the container's root.
fn prepare_wasm<'a>(
    spec: &ProcessSpec,
    user: &User,
    wasm: Wasm<'a>,
) -> std::result::Result<Program<'a>, Failure> {
    let program = wasm.program.ok_or_else(|| other("this host has no WebAssembly runtime"))?;
    let code = match wasm.code {
        Some(code) => format!("/proc/self/fd/{}", code.as_raw_fd()),
        None => "-".into(),
    };
    let words = ["wasmtime", "run", &code];
    let words = words.into_iter().chain(spec.argv.iter().map(String::as_str));
    Ok(Program {
        file: ProgramFile::Descriptor(program, wasm.code),
        argv: words.map(text).collect::<std::result::Result<_, _>>()?,
        env: environment(spec, user)?,
    })
}

/// Finds the program as Go's `exec.LookPath` does, whose words Docker shows.
fn prepare(spec: &ProcessSpec, user: &User) -> std::result::Result<Program<'static>, Failure> {
    let name = spec.argv.first().ok_or_else(|| other("no command specified"))?;
    let path = if name.contains('/') {
        executable(name)
            .map_err(|(kind, why)| Failure { kind, message: format!("exec: {name:?}: {why}") })?;
        name.clone()
    } else {
        let path = spec.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(PATH);
        let found = path.split(':').map(|dir| match dir {
            "" => name.clone(),
            dir => format!("{}/{name}", dir.trim_end_matches('/')),
        });
        found.into_iter().find(|path| executable(path).is_ok()).ok_or_else(|| Failure {
            kind: FailureKind::NotFound,
            message: format!("exec: {name:?}: executable file not found in $PATH"),
        })?
    };
    let argv = spec.argv.iter().map(|s| text(s)).collect::<std::result::Result<_, _>>()?;
    Ok(Program { file: ProgramFile::Path(text(&path)?), argv, env: environment(spec, user)? })
}

fn executable(path: &str) -> std::result::Result<(), (FailureKind, String)> {
    use std::os::unix::fs::PermissionsExt;
    let says = |e: &std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(0)).desc().to_lowercase();
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err((FailureKind::NotFound, format!("stat {path}: no such file or directory")))
        }
        Err(e) => Err((FailureKind::NotExecutable, format!("stat {path}: {}", says(&e)))),
        Ok(meta) if meta.is_dir() => Err((FailureKind::NotExecutable, "is a directory".into())),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
            Err((FailureKind::NotExecutable, "permission denied".into()))
        }
        Ok(_) => match accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(_) => Err((FailureKind::NotExecutable, "permission denied".into())),
        },
    }
}

/// Docker makes a working directory that is missing, for the user.
fn make_directory(cwd: &str, user: &User) {
    if cwd.is_empty() || fs::metadata(cwd).is_ok() {
        return;
    }
    // What fails here fails again, with a message, when the process goes there.
    let mut at = std::path::PathBuf::from("/");
    for part in std::path::Path::new(cwd).components().skip(1) {
        at.push(part);
        if fs::create_dir(&at).is_ok() {
            let _seen_later = std::os::unix::fs::chown(&at, Some(user.uid), Some(user.gid));
        }
    }
}

/// Programs open `/dev/stdout`, which asks the pipe's owner.
fn own_pipes(user: &User, pipes: &[BorrowedFd<'_>]) {
    if user.uid != 0 {
        for pipe in pipes {
            let uid = rustix::process::Uid::from_raw(user.uid);
            let _pipes_only = rustix::fs::fchown(pipe, Some(uid), None);
        }
    }
}

/// The capabilities with these names that this process has.
pub(crate) fn capabilities(names: &[String]) -> CapabilitySet {
    let wanted = known().iter().filter(|c| {
        let mut own = c.iter_names();
        own.next().is_some_and(|(own, _)| names.iter().any(|name| name == own))
    });
    wanted.collect()
}

/// The capabilities that this kernel has and that are still in the bounding set. The init asks once, before it clones: a node's
/// bounding set never changes, and its containers need not ask for each capability again.
pub(crate) fn known() -> CapabilitySet {
    *KNOWN.get_or_init(|| {
        let all = CapabilitySet::all();
        all.iter().filter(|c| rustix::thread::capability_is_in_bounding_set(*c).unwrap_or(false)).collect()
    })
}

static KNOWN: OnceLock<CapabilitySet> = OnceLock::new();
