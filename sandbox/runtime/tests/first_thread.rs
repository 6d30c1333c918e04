//! What deeper calls have left of the first thread's stack is given back, and what is in use is kept. Without Rust's test harness, which
//! has other threads run its tests.

use std::hint::black_box;

/// How deep calls go. KiB.
const DEPTH: usize = 512;

/// Goes so many frames of a kilobyte deep.
fn deep(steps: usize) -> usize {
    let frame = black_box([1_u8; 1024]);
    if steps == 0 { usize::from(frame[0]) } else { deep(steps - 1) + usize::from(frame[steps % 1024]) }
}

/// KiB of the first thread's stack that are there.
fn present() -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut stack = maps.lines().skip_while(|line| !line.ends_with("[stack]"));
    let size = stack.find_map(|line| line.strip_prefix("Rss:")).unwrap();
    size.trim().trim_end_matches(" kB").parse().unwrap()
}

fn main() {
    let kept = black_box([7_u8; 64 * 1024]);
    assert!(deep(DEPTH) > DEPTH);
    let before = present();
    drydock_runtime::stack::give_back().unwrap();
    let after = present();
    assert!(after + DEPTH / 2 < before, "{before} KiB, then {after}");
    assert!(black_box(kept).iter().all(|byte| *byte == 7));
    assert!(deep(DEPTH) > DEPTH);
    println!("test result: ok. 1 passed; 0 failed");
}
