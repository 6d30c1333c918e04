//! A service of a node that runs from the node's start: a process that the init forks (without exec, as it does the engine's) and
//! forks again when it dies. The kubelet of a node that belongs to a cluster is one. Its output goes to a file of the node.
//!
//! ```text
//!   resting ─── due ──▶ running ─── dies ──▶ resting
//!      ▲                   │ stop
//!      └───── start ──── stopped
//! ```

use crate::{
    Result,
    cluster::KubeletBoot,
    error::Context,
    initctl::{Reply, Verb},
    mounts, process,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::fs::OFlags;
use std::{
    fs::{self, File},
    io::Write,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// How systemd names it.
pub const KUBELET: &str = "kubelet";
/// Where it writes, below the node's root.
const LOG: &str = "var/log/kubelet.log";
/// Its process id, for `systemctl status`.
const PID_FILE: &str = "run/kubelet.pid";
/// How long it rests after it died before it is started again (kubeadm's unit: `RestartSec=10`; a learner waits less).
const REST: Duration = Duration::from_secs(1);
/// How long it may take to stop before it is killed.
const STOP_TIME: Duration = Duration::from_secs(10);

enum State {
    Running { pid: i32 },
    Resting { until: Instant },
    Stopped,
}

struct Stopping {
    again: bool,
    kill_at: Instant,
    reply: Reply,
}

/// See the top of the file.
pub struct ServiceHost {
    boot: KubeletBoot,
    main: fn(KubeletBoot) -> i32,
    root: OwnedFd,
    state: State,
    stopping: Option<Stopping>,
}

impl ServiceHost {
    /// A service that is due at once.
    pub fn new(boot: KubeletBoot, main: fn(KubeletBoot) -> i32, root: BorrowedFd<'_>) -> Result<Self> {
        let root = root.try_clone_to_owned().step(|| "duplicate the root")?;
        Ok(Self { boot, main, root, state: State::Resting { until: Instant::now() }, stopping: None })
    }

    /// What stays open in the init.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// When [`Self::work`] must be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match (&self.stopping, &self.state) {
            (Some(stopping), _) => Some(stopping.kill_at),
            (None, State::Resting { until }) => Some(*until),
            _ => None,
        }
    }

    /// Does what is due.
    pub fn work(&mut self) -> Result<()> {
        match &self.state {
            State::Running { pid } if self.stopping.as_ref().is_some_and(|s| Instant::now() >= s.kill_at) => {
                let _gone = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                Ok(())
            }
            State::Resting { until } if Instant::now() >= *until => self.start(),
            _ => Ok(()),
        }
    }

    fn start(&mut self) -> Result<()> {
        let log = self.open_log();
        let (main, boot) = (self.main, self.boot.clone());
        let pid = process::fork(move || {
            // Without a place to write to, it writes where the init does.
            if let Ok(log) = &log
                && process::set_stdio(log.as_fd(), log.as_fd(), log.as_fd()).is_err()
            {
                return 1;
            }
            drop(log);
            process::close_all_but(&[]);
            process::reset_signals();
            process::set_title(KUBELET);
            main(boot)
        })?;
        self.state = State::Running { pid };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
        if let Ok(file) = mounts::open_below(self.root.as_fd(), PID_FILE, flags) {
            let _only_told = File::from(file).write_all(pid.to_string().as_bytes());
        }
        Ok(())
    }

    fn open_log(&self) -> std::io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
        mounts::open_below(self.root.as_fd(), LOG, flags)
    }

    /// A child of the init has ended; false if it is not this service.
    pub fn ended(&mut self, ended: i32, status: i32) -> bool {
        if !matches!(self.state, State::Running { pid } if pid == ended) {
            return false;
        }
        let _already_gone = fs::remove_file(format!("/{PID_FILE}"));
        tracing::info!(node = %self.boot.node, status, "the kubelet ended");
        let now = Instant::now();
        self.state = match self.stopping.take() {
            Some(Stopping { again: true, reply, .. }) => {
                reply.say("ok");
                State::Resting { until: now }
            }
            Some(Stopping { reply, .. }) => {
                reply.say("ok");
                State::Stopped
            }
            None => State::Resting { until: now + REST },
        };
        true
    }

    /// Does what `systemctl` says.
    pub fn obey(&mut self, verb: Verb, reply: Reply) -> Result<()> {
        match (verb, &self.state) {
            (Verb::Stop | Verb::Restart, State::Running { pid }) => {
                let _gone = kill(Pid::from_raw(*pid), Signal::SIGTERM);
                let again = verb == Verb::Restart;
                self.stopping = Some(Stopping { again, kill_at: Instant::now() + STOP_TIME, reply });
            }
            (Verb::Stop, _) => {
                self.state = State::Stopped;
                reply.say("ok");
            }
            (Verb::Start, State::Running { .. }) => reply.say("ok"),
            (Verb::Start | Verb::Restart, _) => {
                self.start()?;
                reply.say("ok");
            }
        }
        Ok(())
    }
}
