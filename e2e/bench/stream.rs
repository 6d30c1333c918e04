//! Output without a browser: how many bytes a second the server carries from a program's terminal to a page that takes
//! everything at once, beside what the kernel's terminal alone gives to a bare loop.

use crate::table::{Table, at_least, median};
use drydock_e2e::{Event, PageSocket, Server, page_socket::FIRST};
use drydock_protocol::api::Created;
use std::{
    fs::File,
    io::{ErrorKind, Read},
    process::{Command, Stdio},
    time::Instant,
};

const ROUNDS: usize = 3;
const GOAL: f64 = 200.0;
const MB: f64 = 1e6;

/// Makes the file, in the node and on the host.
const MAKE: &str =
    "yes 'A line of text as programs print it: words, numbers 12345 and a few signs.' | head -c 100000000 >";

/// Name, program, size of what it writes, and whether the terminal turns each `\n` into two characters (`opost`). The kernel
/// itself is slow at that when lines are short, so there is less of them then.
const KINDS: [(&str, &str, u64, bool); 4] = [
    ("cat of 100 MB, lines of 77 bytes, stty -opost", "cat FILE", 100_000_000, false),
    ("cat of 100 MB, lines of 77 bytes", "cat FILE", 100_000_000, true),
    ("yes | head -c 200M, stty -opost", "yes | head -c 200M", 200 << 20, false),
    ("yes | head -c 10M", "yes | head -c 10M", 10 << 20, true),
];

/// Prints the table.
pub async fn run() {
    let server = crate::serve();
    let session = server.session().await;
    crate::in_node(&server, &session, &format!("{MAKE} /root/file")).await;
    let scratch = server.scratch();
    let on_host = scratch.path().join("file").to_string_lossy().into_owned();
    shell(&format!("{MAKE} {on_host}"));

    let mut page = page(&server, &session).await;
    let mut table = Table::new(
        format!("stream: server side alone, MB/s of what the terminal gives, {ROUNDS} rounds"),
        &["", "drydock", "kernel alone", "ratio", "screens", "goal", "met"],
    );
    for (name, program, size, opost) in KINDS {
        let (mut ours, mut bare, mut snapshots) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let (rate, screens) =
                through(&mut page, &program.replace("FILE", "/root/file"), opost, size).await;
            ours.push(rate);
            snapshots += screens;
            let host = program.replace("FILE", &on_host);
            let rate = tokio::task::spawn_blocking(move || kernel(&host, opost)).await;
            bare.push(rate.expect("the loop does not panic"));
        }
        let (ours, bare) = (median(&ours), median(&bare));
        table.row([
            name.into(),
            format!("{ours:.0}"),
            format!("{bare:.0}"),
            format!("{:.2}", ours / bare),
            snapshots.to_string(),
            format!(">= {GOAL:.0}"),
            // What no reader of the terminal reaches says nothing about the server.
            if bare < GOAL { "kernel is slower".into() } else { at_least(ours, GOAL) },
        ]);
    }
    table.print();
    println!(
        "screens: how often output was replaced by a picture of the screen, as for a page that is too slow"
    );
}

async fn page(server: &Server, session: &Created) -> PageSocket {
    let mut page = server.page_at_prompt(&session.id, &session.token, "bench").await;
    page.keep = false;
    page
}

/// From the command's Enter to the last byte of its output.
async fn through(page: &mut PageSocket, program: &str, opost: bool, size: u64) -> (f64, u32) {
    let mode = if opost { "opost" } else { "-opost" };
    page.input(FIRST, &format!("stty {mode}; {program}; stty opost; echo e''nd\n")).await;
    let (began, from, screens) = (Instant::now(), page.screen(FIRST).offset, page.screen(FIRST).snapshots);
    let end = |p: &PageSocket, e: &Event| {
        matches!(e, Event::Terminal(_)) && {
            let screen = p.screen(FIRST);
            screen.offset - from >= size && screen.bytes.windows(4).any(|w| w == b"end\r")
        }
    };
    page.until("the end of the output", end).await;
    let screen = page.screen(FIRST);
    let rate = (screen.offset - from) as f64 / MB / began.elapsed().as_secs_f64();
    let screens = screen.snapshots - screens;
    if !screen.bytes.ends_with(b"# ") {
        page.until("a prompt", |p, _| p.screen(FIRST).bytes.ends_with(b"# ")).await;
    }
    (rate, screens)
}

/// The same program on a terminal of the host that a bare loop reads.
fn kernel(program: &str, opost: bool) -> f64 {
    let mode = if opost { "opost" } else { "-opost" };
    let pty = nix::pty::openpty(None, None).expect("a terminal");
    let slave = File::from(pty.slave);
    let stdio = |f: &File| Stdio::from(f.try_clone().expect("a descriptor"));
    let began = Instant::now();
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &format!("stty {mode}; {program}")]);
    let mut child =
        command.stdin(stdio(&slave)).stdout(stdio(&slave)).stderr(Stdio::null()).spawn().expect("bash");
    // The end is when nobody has the other side open any more.
    drop((command, slave));
    let (mut master, mut piece, mut total) = (File::from(pty.master), vec![0; 64 * 1024], 0);
    loop {
        match master.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => total += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // EIO: the last one has closed it.
            Err(_) => break,
        }
    }
    let rate = total as f64 / MB / began.elapsed().as_secs_f64();
    child.wait().expect("bash can be waited for");
    rate
}

fn shell(script: &str) {
    let status = Command::new("/bin/bash").args(["-c", script]).status().expect("bash");
    assert!(status.success(), "{script}: {status}");
}
