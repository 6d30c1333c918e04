//! Forking without exec, and the hygiene that a forked child needs. The warden, the spawner and the node inits have
//! one thread each, always; that is what makes running Rust code in their forked children sound.

use crate::{Error, Result, error::Context};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

/// Runs `child` in a forked process, which exits with what it returns. Returns the child's process id.
pub fn fork(child: impl FnOnce() -> i32) -> Result<i32> {
    // SAFETY: the calling process has one thread (see the top of the file), so no lock is held by another
    // thread at this moment and the child may go on as any program.
    match unsafe { libc::fork() } {
        -1 => Err(Error::new("fork", io::Error::last_os_error())),
        0 => run_and_exit(child),
        pid => Ok(pid),
    }
}

/// Runs `work` in a forked process that has nothing to do with this one any more: nobody waits for it, it has no open files of ours, and it
/// works only while nobody else has to.
pub fn detached(work: impl FnOnce() -> i32) -> Result<()> {
    let pid = fork(|| {
        let begun = fork(|| {
            close_all_but(&[]);
            reset_signals();
            set_title("drydock-cleaner");
            // SAFETY: plain integers, no memory is touched. A refusal changes nothing but the speed.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
            work()
        });
        begun.map_or(1, |_| 0)
    })?;
    match wait(pid)? {
        0 => Ok(()),
        _ => Err(Error::new("fork", io::Error::from_raw_os_error(libc::EAGAIN))),
    }
}

/// Like [`fork`], but the child gets the new namespaces that `flags` (`CLONE_NEW…`) name; with
/// `CLONE_PARENT` it becomes a child of our parent. See clone(2).
pub fn clone(flags: i32, child: impl FnOnce() -> i32) -> Result<i32> {
    let exit_signal = if flags & libc::CLONE_PARENT != 0 { 0 } else { libc::SIGCHLD };
    // SAFETY: a plain record of integers; zero is a valid value of every field.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    args.exit_signal = u64::from(exit_signal.cast_unsigned());
    // SAFETY: no stack and no shared memory is asked for, so this behaves as fork(2) does; the process has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match pid {
        -1 => Err(Error::new("clone namespaces", io::Error::last_os_error())),
        0 => run_and_exit(child),
        pid => {
            i32::try_from(pid).map_err(|_| Error::new("clone", io::Error::from(io::ErrorKind::InvalidData)))
        }
    }
}

fn run_and_exit(child: impl FnOnce() -> i32) -> ! {
    // A panic must not unwind into the parent's stack frames, whose values belong to the parent.
    let status = catch_unwind(AssertUnwindSafe(child)).unwrap_or(101);
    // SAFETY: ends the process at once, without destructors and exit handlers that belong to the parent.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor above 2 but those in `keep`. What the caller owns of the others it must have dropped before:
/// a value that owns a closed descriptor ends the process when it is dropped.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut keep: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, RawFd::MAX);
}

fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: called only in forked children, where the values that own these descriptors are never used or dropped
    // again: a child runs its own function and ends by _exit.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Points standard input at `input` and standard output and error at `output`.
pub fn set_stdio(input: BorrowedFd<'_>, output: BorrowedFd<'_>, error: BorrowedFd<'_>) -> Result<()> {
    // Duplicate first: one of the three may itself be 0, 1 or 2.
    let high = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
    let (input, output, error) = (high(input), high(output), high(error));
    let (input, output, error) = (
        input.step(|| "duplicate stdin")?,
        output.step(|| "duplicate stdout")?,
        error.step(|| "duplicate stderr")?,
    );
    rustix::stdio::dup2_stdin(&input).step(|| "set standard input")?;
    rustix::stdio::dup2_stdout(&output).step(|| "set standard output")?;
    rustix::stdio::dup2_stderr(&error).step(|| "set standard error")
}

/// Gives every signal its default action and blocks none. A server started with `&` from a script has SIGINT ignored,
/// and would hand that on to every shell.
pub fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default action runs no code of ours.
            let _always_valid = unsafe { sigaction(signal, &default) };
        }
    }
    let _always_valid = SigSet::empty().thread_set_mask();
}

/// Keeps the process's memory and descriptors from every process but the host's root: its memory belongs to the
/// user namespace that it was last exec'd in, which is the host's (ptrace(2), "Ptrace access mode checking").
pub fn make_untraceable() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "make the process untraceable")
}

/// Sets what `ps` shows: the name (at most 15 bytes) and, where it fits, the command line.
pub fn set_title(title: &str) {
    set_command(title, title.as_bytes());
}

/// The same with a name and arguments that differ; each argument but the last ends with a zero.
pub fn set_command(name: &str, arguments: &[u8]) {
    if let Ok(name) = std::ffi::CString::new(name) {
        let _only_cosmetic = rustix::thread::set_name(&name);
    }
    // Forks have it where their parent has it, so it is looked up once.
    let Some((start, room)) = *ARGUMENTS.get_or_init(self::arguments) else { return };
    let mut text = arguments[..arguments.len().min(room - 1)].to_vec();
    text.resize(room, 0);
    // SAFETY: it is the kernel's own record of this process's argument area, which is mapped,
    // writable and as long as `text`. A forked child that calls this never reads its arguments again.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), start as *mut u8, room) };
}

/// Where this program's arguments lie, and how many bytes they are.
static ARGUMENTS: OnceLock<Option<(usize, usize)>> = OnceLock::new();

/// proc_pid_stat(5): fields 48 and 49 are where the arguments begin and end. Field 2 may hold spaces, so count after it.
fn arguments() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|f| f.parse::<usize>().ok());
    let (start, end) = (number(48)?, number(49)?);
    (start != 0 && end > start).then_some((start, end - start))
}

/// Waits for one child, by its process id; its status as a shell shows it.
pub fn wait(pid: i32) -> Result<i32> {
    use nix::sys::wait::{WaitStatus, waitpid};
    loop {
        match waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(status),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::new(format!("wait for process {pid}"), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_panics_ends_with_101() {
        // The test binary has threads, but this child only panics and exits.
        let pid = fork(|| -> i32 {
            std::panic::set_hook(Box::new(|_| {}));
            panic!("on purpose")
        })
        .unwrap();
        assert_eq!(wait(pid).unwrap(), 101);
    }
}
