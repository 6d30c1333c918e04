//! The child that the init clones for a container or an exec, as the engine sees it on its way to its program: what it reports, and the
//! pipes between it and us.

use super::streams::{Io, watched};
use crate::{
    error::{Context, Result},
    init::Process,
};
use drydock_runtime::{
    channel::Channel,
    container::{
        child::TITLE,
        messages::FromChild,
        spec::{ContainerSpec, Filter},
    },
};
use nix::fcntl::OFlag;
use std::{fs::File, io, os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::io::unix::AsyncFd;

/// A child that reports nothing for so long is stuck (a bind of a dead network file system).
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a child may live on that reports no more and has no program.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A child on its way to its program.
pub struct Child {
    /// The process.
    pub process: Process,
    /// What it reports.
    pub report: AsyncFd<Channel>,
}

impl Child {
    /// The next report; nothing when its program runs.
    pub async fn hear(&mut self) -> Result<(Option<FromChild>, Vec<OwnedFd>)> {
        let next = async {
            loop {
                let mut guard = self.report.readable().await?;
                match guard.try_io(|channel| channel.get_ref().recv::<FromChild>()) {
                    Ok(Ok(None)) => return Ok((None, vec![])),
                    Ok(Ok(Some((message, fds)))) => return Ok((Some(message), fds)),
                    Ok(Err(e)) => return Err(e),
                    Err(_not_ready) => {}
                }
            }
        };
        let heard: io::Result<_> = match tokio::time::timeout(PATIENCE, next).await {
            Ok(heard) => heard,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        heard.doing(|| "the container's process does not report".to_string())
    }
}

/// Whether the filter that a container has brought ended its child before there was a program, and kept it from telling so. One
/// that only keeps it from its program says so itself: that counts as a run, as with runc.
pub async fn kept_from_its_program(child: &mut Child, description: &ContainerSpec) -> bool {
    const KILLED: [i32; 2] = [128 + nix::libc::SIGSYS, 128 + nix::libc::SIGSEGV];
    if !matches!(description.process.seccomp, Filter::Program(_)) || description.init {
        return false;
    }
    let process = &mut child.process;
    let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid));
    if name.is_ok_and(|name| name.trim_end() != TITLE) {
        return false;
    }
    // It has ended, or is about to, so quickly that it was hardly a program that did.
    let (tell, exit) = tokio::sync::oneshot::channel();
    let waited = std::mem::replace(&mut process.exit, exit);
    let Ok(Ok(status)) = tokio::time::timeout(LAST_WORDS, waited).await else { return true };
    let _kept_for_who_waits = tell.send(status);
    KILLED.contains(&status)
}

/// The engine's ends of a run's input and output.
#[derive(Debug, Default)]
pub struct Ends {
    /// Standard input.
    pub stdin: Option<Arc<Io>>,
    /// Standard output.
    pub stdout: Option<Arc<Io>>,
    /// Standard error.
    pub stderr: Option<Arc<Io>>,
    /// In place of all three.
    pub terminal: Option<Arc<Io>>,
}

/// Pipes for a process, and its ends to give away.
pub struct Plumbing {
    /// Ours.
    pub ends: Ends,
    /// Its standard input, output and error; none with a terminal.
    pub theirs: Vec<OwnedFd>,
}

impl Plumbing {
    /// For a process with a terminal, or without, with input or without.
    pub fn new(tty: bool, stdin: bool) -> Result<Self> {
        let mut plumbing = Self { ends: Ends::default(), theirs: vec![] };
        if tty {
            return Ok(plumbing);
        }
        let make = |plumbing: &mut Self| -> io::Result<()> {
            let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC);
            if stdin {
                let (read, write) = pipe()?;
                plumbing.theirs.push(read);
                plumbing.ends.stdin = Some(Arc::new(Io::new(write)?));
            } else {
                plumbing.theirs.push(File::open("/dev/null")?.into());
            }
            for end in [&mut plumbing.ends.stdout, &mut plumbing.ends.stderr] {
                let (read, write) = pipe()?;
                plumbing.theirs.push(write);
                *end = Some(Arc::new(Io::new(read)?));
            }
            Ok(())
        };
        make(&mut plumbing).doing(|| "pipes of the container".to_string())?;
        Ok(plumbing)
    }
}

/// A connected pair: ours, watched by the runtime, and the child's.
pub fn report_pair() -> Result<(AsyncFd<Channel>, Channel)> {
    let make = || -> io::Result<_> {
        let (ours, theirs) = Channel::pair()?;
        nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((watched(ours)?, theirs))
    };
    make().doing(|| "report channel".to_string())
}
