//! What a node or a session has used so far, as its group's files tell.

use std::io;

/// What a node or a session has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// CPU time since the node's group was made, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory in use now, in bytes, without page cache that can be dropped.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
}

impl Sample {
    /// From a group's files: (controller, file) by `read`.
    pub(super) fn of(v2: bool, read: impl Fn(&str, &str) -> io::Result<String>) -> io::Result<Self> {
        let number = |controller: &str, file: &str| -> io::Result<u64> {
            let text = read(controller, file)?;
            text.trim()
                .parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {text}")))
        };
        let field = |controller: &str, file: &str, key: &str| -> io::Result<u64> {
            let text = read(controller, file)?;
            let mut lines = text.lines().filter_map(|l| l.split_once(' '));
            Ok(lines.find(|(k, _)| *k == key).and_then(|(_, v)| v.trim().parse().ok()).unwrap_or(0))
        };
        let (cpu_nanos, used, droppable) = if v2 {
            (
                field("cpu", "cpu.stat", "usage_usec")? * 1000,
                number("memory", "memory.current")?,
                field("memory", "memory.stat", "inactive_file")?,
            )
        } else {
            (
                number("cpuacct", "cpuacct.usage")?,
                number("memory", "memory.usage_in_bytes")?,
                field("memory", "memory.stat", "total_inactive_file")?,
            )
        };
        let processes = u32::try_from(number("pids", "pids.current")?).unwrap_or(u32::MAX);
        Ok(Self { cpu_nanos, memory: used.saturating_sub(droppable), processes })
    }
}
