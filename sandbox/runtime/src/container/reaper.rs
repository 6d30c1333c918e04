//! `docker run --init`: process 1 of a container that starts the program as its child, hands signals on to it, and takes in orphans, as
//! tini does.

use super::{
    child,
    process::{Parent, Program},
};
use crate::{channel::Channel, process};
use nix::{
    sys::{
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use std::ffi::CString;

/// Runs the program and returns its exit status.
pub fn run(program: &Program<'_>, report: &Channel) -> i32 {
    process::set_command("docker-init", &command(program.arguments()));
    let signals = SigSet::all();
    let _always_valid = signals.thread_block();
    let started = process::fork(|| {
        process::reset_signals();
        let _own_group = rustix::process::setpgid(None, None);
        child::execute(program, Parent::Init, report)
    });
    let main = match started {
        Ok(pid) => pid,
        Err(e) => {
            let message = e.to_string();
            let kind = super::messages::FailureKind::Other;
            return child::report(report, super::messages::Failure { kind, message });
        }
    };
    // What tini's exec takes from a user who is not root.
    if !rustix::process::getuid().is_root() {
        let none = CapabilitySet::empty();
        let _less_is_always_granted =
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none });
    }
    // From here on the engine sees that the program runs when the child's exec has closed the last copy.
    process::close_all_but(&[]);
    if let Ok(stdin) =
        std::io::IsTerminal::is_terminal(&std::io::stdin()).then_some(rustix::stdio::stdin()).ok_or(())
        && let Some(group) = rustix::process::Pid::from_raw(main)
    {
        let _no_longer_there = rustix::termios::tcsetpgrp(stdin, group);
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(status) = reap(main) {
                    return status;
                }
            }
            Ok(signal) => {
                let _just_ended = kill(Pid::from_raw(main), signal);
            }
            Err(_) => {}
        }
    }
}

/// What `ps` shows: tini's command line (moby `daemon/oci_linux.go`).
fn command(program: &[CString]) -> Vec<u8> {
    let own = [c"/sbin/docker-init", c"--"].into_iter();
    let words: Vec<&[u8]> =
        own.chain(program.iter().map(CString::as_c_str)).map(std::ffi::CStr::to_bytes).collect();
    words.join(&0)
}

/// Takes in all that have ended; the status of the program if it is among them.
fn reap(main: i32) -> Option<i32> {
    let mut ended = None;
    loop {
        let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => (pid.as_raw(), status),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => continue,
        };
        if pid == main {
            ended = Some(status);
        }
    }
}
