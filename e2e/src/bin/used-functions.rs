//! `used-functions PROGRAM SECONDS PID…`: prints which functions of a program its processes enter in so many seconds, as the linker
//! wants them ordered (`--symbol-ordering-file`): those that more of the processes share come first. PROGRAM is the same program with
//! its symbols. The processes do not survive it: each function that was not entered is left with a breakpoint until the end, when
//! whoever is in one dies.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// int3
const BREAKPOINT: u8 = 0xcc;
/// How often breakpoints are set anew: a process that gives its text back to the kernel loses them.
const ANEW: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [program, seconds, pids @ ..] = &args[..] else {
        return Err("usage: used-functions PROGRAM SECONDS PID...".into());
    };
    let functions = functions(program)?;
    // Whoever stops tells its tracer by a signal, which is waited for.
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    child.thread_block()?;
    let stops = SignalFd::with_flags(&child, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let until = Instant::now() + Duration::from_secs(seconds.parse()?);
    let mut traced = HashMap::new();
    for (number, pid) in pids.iter().enumerate() {
        let pid = Pid::from_raw(pid.parse()?);
        traced.insert(pid, Traced::new(pid, 1 << number, &functions)?);
    }
    let mut entered = Entered::default();
    while Instant::now() < until {
        for traced in traced.values() {
            traced.memory.write_all_at(&traced.armed, functions.start)?;
        }
        let anew = until.min(Instant::now() + ANEW);
        while let Some(left) = anew.checked_duration_since(Instant::now()) {
            hear_all(&mut traced, &functions, &mut entered)?;
            let wait = PollTimeout::try_from(left)?;
            poll(&mut [PollFd::new(stops.as_fd(), PollFlags::POLLIN)], wait)?;
            while stops.read_signal()?.is_some() {}
        }
    }
    for traced in traced.values() {
        traced.memory.write_all_at(&traced.text, functions.start)?;
    }
    for name in entered.in_order() {
        println!("{name}");
    }
    Ok(())
}

/// Has all go on that have stopped.
fn hear_all(traced: &mut HashMap<Pid, Traced>, functions: &Functions, entered: &mut Entered) -> Result<()> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) => return Ok(()),
            Ok(WaitStatus::Stopped(thread, Signal::SIGTRAP)) => {
                let process = process_of(thread)?;
                let traced = traced.get_mut(&process).ok_or("a process stopped that was not asked for")?;
                traced.step(thread, functions, entered)?;
            }
            Ok(WaitStatus::Stopped(thread, signal)) => ptrace::cont(thread, signal)?,
            Ok(WaitStatus::PtraceEvent(thread, ..)) => ptrace::cont(thread, None)?,
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if traced.contains_key(&pid) => {
                return Err(format!("process {pid} has ended").into());
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The functions of a program by their addresses, and what they take of its address space.
struct Functions {
    names: BTreeMap<u64, String>,
    start: u64,
    length: usize,
}

fn functions(program: &str) -> Result<Functions> {
    let told = Command::new("readelf").args(["--wide", "--symbols", program]).output()?;
    let mut names = BTreeMap::new();
    for line in String::from_utf8(told.stdout)?.lines() {
        // Number, value, size, type, binding, visibility, section, name.
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, address, _, "FUNC", _, _, section, name, ..] = fields[..]
            && section != "UND"
        {
            names.entry(u64::from_str_radix(address, 16)?).or_insert_with(|| name.to_owned());
        }
    }
    let (Some(start), Some(last)) = (names.keys().next().copied(), names.keys().next_back().copied()) else {
        return Err(format!("{program}: no symbols").into());
    };
    Ok(Functions { names, start, length: usize::try_from(last - start)? + 1 })
}

/// A process with breakpoints.
struct Traced {
    memory: File,
    text: Vec<u8>,
    /// The text with breakpoints where no function has been entered yet.
    armed: Vec<u8>,
    /// Its bit in the sets of those who enter a function.
    bit: u32,
}

impl Traced {
    fn new(pid: Pid, bit: u32, functions: &Functions) -> Result<Self> {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = task?.file_name().to_string_lossy().parse()?;
            ptrace::seize(Pid::from_raw(thread), Options::PTRACE_O_TRACECLONE)?;
        }
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        let mut text = vec![0; functions.length];
        memory.read_exact_at(&mut text, functions.start)?;
        let mut armed = text.clone();
        for address in functions.names.keys() {
            armed[usize::try_from(address - functions.start)?] = BREAKPOINT;
        }
        Ok(Self { memory, text, armed, bit })
    }

    /// A thread came to a breakpoint: notes it, and has the thread go on from there without.
    fn step(&mut self, thread: Pid, functions: &Functions, entered: &mut Entered) -> Result<()> {
        let address = step_back(thread)?;
        let name = functions.names.get(&address).ok_or_else(|| format!("no function at {address:x}"))?;
        let offset = usize::try_from(address - functions.start)?;
        self.armed[offset] = self.text[offset];
        self.memory.write_all_at(&self.text[offset..=offset], address)?;
        entered.note(name, self.bit);
        Ok(ptrace::cont(thread, None)?)
    }
}

/// Has a thread that ran into a breakpoint run what stands there now; returns where.
#[cfg(target_arch = "x86_64")]
fn step_back(thread: Pid) -> Result<u64> {
    let mut registers = ptrace::getregs(thread)?;
    registers.rip = registers.rip.wrapping_sub(1);
    ptrace::setregs(thread, registers)?;
    Ok(registers.rip)
}

/// Other processors have other breakpoints, and another linker.
#[cfg(not(target_arch = "x86_64"))]
fn step_back(_thread: Pid) -> Result<u64> {
    Err("breakpoints are set for x86-64 alone".into())
}

fn process_of(thread: Pid) -> Result<Pid> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    Ok(Pid::from_raw(group.ok_or("a thread without a process")?.trim().parse()?))
}

/// Functions in the order in which they were first entered, and by whom.
#[derive(Default)]
struct Entered {
    order: Vec<String>,
    by: HashMap<String, u32>,
}

impl Entered {
    fn note(&mut self, name: &str, bit: u32) {
        let by = self.by.entry(name.to_owned()).or_default();
        if *by == 0 {
            self.order.push(name.to_owned());
        }
        *by |= bit;
    }

    /// What all share, then what fewer do, each group together.
    fn in_order(mut self) -> Vec<String> {
        let by = self.by;
        let of = |name: &String| by.get(name).copied().unwrap_or_default();
        self.order.sort_by_key(|name| (std::cmp::Reverse(of(name).count_ones()), of(name)));
        self.order
    }
}
