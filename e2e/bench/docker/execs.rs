//! When programs were executed, as the kernel tells it: an instance of tracefs of its own, with the event `sched_process_exec`
//! (the kernel's Documentation/trace/ftrace.rst).

use rustix::time::{ClockId, clock_gettime};
use std::{
    fs,
    path::{Path, PathBuf},
};

const INSTANCES: &str = "/sys/kernel/tracing/instances";

/// Milliseconds of the monotonic clock, the same in every process.
pub fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 * 1000.0 + time.tv_nsec as f64 / 1e6
}

/// What the kernel records until it is dropped.
pub struct Execs(PathBuf);

impl Execs {
    /// Begins to record.
    pub fn start() -> Self {
        let dir = Path::new(INSTANCES).join(format!("drydock-{}", std::process::id()));
        let set = |file: &str, text: &str| fs::write(dir.join(file), text);
        fs::create_dir(&dir)
            .and_then(|()| set("trace_clock", "mono"))
            .and_then(|()| set("events/sched/sched_process_exec/enable", "1"))
            .unwrap_or_else(|e| panic!("tracefs at {}: {e}", dir.display()));
        Self(dir)
    }

    /// When `true`(1) was executed, by [`now`]'s clock, the only time since this was asked before.
    pub fn of_true(&self) -> f64 {
        let file = self.0.join("trace");
        let text = fs::read_to_string(&file).expect("the trace");
        fs::write(&file, "").expect("the trace can be emptied");
        let mut times = text.lines().filter_map(time_of_true);
        let time = times.next().unwrap_or_else(|| panic!("nobody executed true: {text}"));
        assert_eq!(times.next(), None, "two executed true: {text}");
        time
    }
}

impl Drop for Execs {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

/// Of a line `true-71 [001] ..... 12.345678: sched_process_exec: filename=/bin/true pid=71 old_pid=71`.
fn time_of_true(line: &str) -> Option<f64> {
    let (before, event) = line.split_once(": sched_process_exec: filename=")?;
    let program = event.split(" pid=").next()?;
    if !program.ends_with("/true") {
        return None;
    }
    let seconds: f64 = before.rsplit(' ').next()?.parse().ok()?;
    Some(seconds * 1000.0)
}
