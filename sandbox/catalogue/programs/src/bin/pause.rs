//! The first process of a pod: holds the pod's namespaces, and takes in the children of processes that ended before them where the
//! pod's containers share process ids (as upstream's `build/pause/linux/pause.c` does).

use nix::{
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::getpid,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    if getpid().as_raw() != 1 {
        eprintln!("Warning: pause should be the first process");
    }
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD] {
        signals.add(signal);
    }
    if let Err(error) = signals.thread_block() {
        eprintln!("pause: {error}");
        return ExitCode::from(1);
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    if status == WaitStatus::StillAlive {
                        break;
                    }
                }
            }
            Ok(signal) => {
                eprintln!("Shutting down, got signal: {signal}");
                return ExitCode::SUCCESS;
            }
            Err(error) => {
                eprintln!("pause: {error}");
                return ExitCode::from(2);
            }
        }
    }
}
