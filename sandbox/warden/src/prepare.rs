//! Container images of the catalogue that are made when somebody first asks for them: the warden starts the program that makes them
//! (`drydock image add NAME`), one at a time, and passes on what it says. Names come from serve and are checked here; what is made
//! of a name is in the program, not in the request.

use crate::{clients::Caller, error::Error};
use std::{
    collections::VecDeque,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
};

/// Longest name.
const MAX_NAME: usize = 40;
/// Images that may wait.
const MAX_WAITING: usize = 32;
/// Longest line that is passed on, in bytes.
const MAX_LINE: usize = 500;
/// Lines that a failure tells.
const TAIL: usize = 3;

/// What became of it.
#[derive(Debug)]
pub struct Ended {
    /// Who asked.
    pub calls: Vec<Caller>,
    /// Done, or what the program said last.
    pub result: Result<(), String>,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Preparations {
    /// Program and arguments; the name follows. Empty: images are not made here.
    command: Vec<PathBuf>,
    running: Option<Running>,
    waiting: VecDeque<(String, Vec<Caller>)>,
}

#[derive(Debug)]
struct Running {
    name: String,
    calls: Vec<Caller>,
    child: Child,
    output: ChildStderr,
    line: Vec<u8>,
    tail: VecDeque<String>,
}

impl Preparations {
    /// With the program that makes images.
    pub fn new(command: Vec<PathBuf>) -> Self {
        Self { command, running: None, waiting: VecDeque::new() }
    }

    /// Asks for an image; several who ask for the same are served by one run.
    pub fn ask(&mut self, name: &str, call: Caller) -> Result<(), Error> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > MAX_NAME || name.starts_with('-') || !name.bytes().all(known) {
            return Err(Error::Invalid("an image of the catalogue has a name of small letters".into()));
        }
        if self.command.is_empty() {
            return Err(Error::Host("this server makes no images".into()));
        }
        if let Some(running) = self.running.as_mut().filter(|r| r.name == name) {
            running.calls.push(call);
        } else if let Some((_, calls)) = self.waiting.iter_mut().find(|(waiting, _)| waiting == name) {
            calls.push(call);
        } else if self.waiting.len() >= MAX_WAITING {
            return Err(Error::Invalid(format!("{MAX_WAITING} images wait to be made already")));
        } else {
            self.waiting.push_back((name.to_owned(), vec![call]));
        }
        Ok(())
    }

    /// Whether a program runs or an image waits for it.
    pub fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }

    /// What the running program says comes from here.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.output.as_fd())
    }

    /// Starts the next one, if none runs. Returns those for which it could not be started.
    pub fn start(&mut self) -> Vec<Ended> {
        let mut failed = Vec::new();
        while self.running.is_none()
            && let Some((name, calls)) = self.waiting.pop_front()
        {
            match self.spawn(&name) {
                Ok((child, output)) => {
                    let (line, tail) = (Vec::new(), VecDeque::new());
                    self.running = Some(Running { name, calls, child, output, line, tail });
                }
                Err(e) => failed.push(Ended { calls, result: Err(format!("can't be started: {e}")) }),
            }
        }
        failed
    }

    fn spawn(&self, name: &str) -> io::Result<(Child, ChildStderr)> {
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::NotFound)?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((child, output))
    }

    /// Reads what the program has said: (its image's name, lines), and its end.
    pub fn read(&mut self) -> (Vec<(String, String)>, Option<Ended>) {
        let Some(running) = &mut self.running else { return (vec![], None) };
        let mut bytes = [0; 4096];
        // The caller has seen that there is something, so this does not wait.
        let length = running.output.read(&mut bytes).unwrap_or(0);
        let mut lines = Vec::new();
        for &byte in &bytes[..length] {
            match byte {
                b'\n' | b'\r' => {
                    let text = String::from_utf8_lossy(&std::mem::take(&mut running.line)).trim().to_owned();
                    if !text.is_empty() {
                        running.tail.push_back(text.clone());
                        if running.tail.len() > TAIL {
                            running.tail.pop_front();
                        }
                        lines.push((running.name.clone(), text));
                    }
                }
                byte if running.line.len() < MAX_LINE => running.line.push(byte),
                _ => {}
            }
        }
        if length > 0 {
            return (lines, None);
        }
        let ended = self.running.take().map(|mut running| {
            let status = running.child.wait();
            let result = match status {
                Ok(status) if status.success() => Ok(()),
                _ => Err(running.tail.into_iter().collect::<Vec<_>>().join("; ")),
            };
            Ended { calls: running.calls, result }
        });
        (lines, ended)
    }
}

impl Drop for Preparations {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            // It clears up after itself when it is asked to end.
            let pid = nix::unistd::Pid::from_raw(running.child.id().cast_signed());
            let _ended = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _status = running.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads until a run has ended.
    fn end(preparations: &mut Preparations) -> (Vec<String>, Ended) {
        let mut said = Vec::new();
        loop {
            let (lines, ended) = preparations.read();
            said.extend(lines.into_iter().map(|(_, line)| line));
            if let Some(ended) = ended {
                return (said, ended);
            }
        }
    }

    fn call(number: u64) -> Caller {
        Caller { client: 1, number }
    }

    fn with(script: &str) -> Preparations {
        Preparations::new(["sh", "-c", script, "make"].map(PathBuf::from).to_vec())
    }

    #[test]
    fn one_run_serves_all_who_ask() {
        let mut p = with("echo getting $1 >&2; echo done >&2");
        p.ask("nginx", call(1)).unwrap();
        assert!(p.start().is_empty());
        p.ask("nginx", call(2)).unwrap();
        p.ask("redis", call(3)).unwrap();
        assert!(p.start().is_empty());
        let (said, ended) = end(&mut p);
        assert_eq!(
            (said, ended.calls),
            (vec!["getting nginx".into(), "done".into()], vec![call(1), call(2)])
        );
        assert!(ended.result.is_ok() && p.is_busy());
        p.start();
        assert_eq!(end(&mut p).1.calls, [call(3)]);
        assert!(!p.is_busy());
    }

    #[test]
    fn failures_say_why() {
        let mut p = with("echo one >&2; echo no mirror answers >&2; exit 1");
        p.ask("nginx", call(1)).unwrap();
        p.start();
        assert_eq!(end(&mut p).1.result, Err("one; no mirror answers".into()));
        for bad in ["", "--all", "../x", "a b", "UPPER", &"x".repeat(41)] {
            assert!(p.ask(bad, call(1)).is_err(), "{bad}");
        }
        assert!(Preparations::new(vec![]).ask("nginx", call(1)).is_err());
    }
}
