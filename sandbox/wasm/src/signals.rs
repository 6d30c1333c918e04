//! Signals end the program, as they end any program that does not care for them. Process 1 of a container must do that itself: the
//! kernel hands it only signals that it waits for (pid_namespaces(7)).

use nix::sys::signal::{SigSet, Signal};

/// Those whose default action is not the end of the process (signal(7)), that can't be waited for, or that wasmtime needs for traps. A
/// write to a closed pipe is an error to the guest, and no signal.
const OTHERS: [Signal; 17] = [
    Signal::SIGKILL,
    Signal::SIGSTOP,
    Signal::SIGCHLD,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
    Signal::SIGWINCH,
    Signal::SIGPIPE,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGSYS,
];

/// Call it before there is another thread.
pub fn end_when_told() {
    let mut set = SigSet::empty();
    Signal::iterator().filter(|signal| !OTHERS.contains(signal)).for_each(|signal| set.add(signal));
    if set.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        if let Ok(signal) = set.wait() {
            std::process::exit(128 + signal as i32);
        }
    });
}
