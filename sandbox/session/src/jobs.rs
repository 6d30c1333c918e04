//! What runs in a terminal beside its shell: told from the kernel's own view, process groups and sessions (setpgid(2), `proc_pid_stat(5)`).

use drydock_runtime::pty;
use std::{fs, os::fd::BorrowedFd};

/// The name of a program that closing the terminal would end; none if there is only the shell. What has left the shell's session
/// (`setsid`, a tmux server) goes on without the terminal, so it does not count.
pub fn program(master: BorrowedFd<'_>) -> Option<String> {
    let (shell, foreground) = (pty::session(master).ok()?, pty::foreground(master).ok());
    if let Some(leader) = foreground.filter(|group| *group != shell).and_then(Stat::read) {
        return Some(leader.name);
    }
    let ids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let beside = |stat: &Stat| stat.session == shell && stat.pid != shell && !stat.ended;
    ids.filter_map(Stat::read).find(beside).map(|job| job.name)
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    /// At most 15 bytes, which its user chose: without control characters here.
    name: String,
    ended: bool,
    session: i32,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// The name is in parentheses and may have some itself.
    fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?;
        Some(Self {
            pid: pid.parse().ok()?,
            name: name.chars().filter(|c| !c.is_control()).collect(),
            ended: matches!(state, "Z" | "X"),
            session: fields.nth(2)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_fields_behind_it() {
        let stat = Stat::parse("12 (a) S 1 (\u{1b}b) R 11 12 10 34816 12 4194304").unwrap();
        assert_eq!(stat, Stat { pid: 12, name: "a) S 1 (b".into(), ended: false, session: 10 });
    }

    #[test]
    fn what_has_ended_and_waits_for_its_parent_does_not_run() {
        assert!(Stat::parse("12 (sh) Z 11 12 10 34816 12 4194304").unwrap().ended);
        assert_eq!(Stat::parse("12 (sh) Z"), None);
    }
}
