//! The whole way of output in the session process: real pty, session process, socket, a page that acknowledges. Prints
//! what came through per second, and what the session process alone would manage: bytes per second of its own CPU
//! time (user and system). The first figure is mostly the kernel's pty and the program that prints.

#[expect(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../tests/world/mod.rs"]
mod world;

use drydock_protocol::{TerminalId, control::FromPage, frame::ClientFrame, pipe::Control, state::Role};
use std::{fs, time::Instant};
use world::World;

const FIRST: TerminalId = TerminalId(1);
const TOTAL: u64 = 400_000_000;

fn main() {
    for (name, script) in [
        ("cooked lines", "yes 0123456789abcdefghijklmnopqrstuvwxyz"),
        ("raw lines", "stty -opost; yes 0123456789abcdefghijklmnopqrstuvwxyz"),
    ] {
        measure(name, script);
    }
}

fn measure(name: &str, script: &str) {
    let world = World::new();
    world.ask(Control::Ready);
    let mut page = world.page(Role::Type, "bench");
    page.send(&FromPage::Attach { terminal: FIRST, from: None });
    let command = format!("{script} | head -c {TOTAL}\n");
    page.send_frame(&ClientFrame::Input { terminal: FIRST, seq: 1, bytes: command.as_bytes() });
    let (began, cpu) = (Instant::now(), session_cpu_seconds());
    let mut acked = 0;
    while page.at < TOTAL {
        page.next();
        page.seen.clear();
        if page.at - acked > 16 * 1024 {
            acked = page.at;
            page.send_frame(&ClientFrame::Ack { terminal: FIRST, offset: acked });
        }
    }
    let megabytes = TOTAL as f64 / 1e6;
    println!(
        "{name}: {:.0} MB/s in all; session process alone {:.0} MB/s",
        megabytes / began.elapsed().as_secs_f64(),
        megabytes / (session_cpu_seconds() - cpu)
    );
}

/// CPU time of the newest session thread.
fn session_cpu_seconds() -> f64 {
    let of_session = |stat: &String| stat.contains("(session)");
    let tasks = fs::read_dir("/proc/self/task").expect("/proc");
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let newest = stats.filter(of_session).last().unwrap_or_default();
    // proc_pid_stat(5): fields 14 and 15, in hundredths of a second; field 2 may hold spaces.
    let fields = newest.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
