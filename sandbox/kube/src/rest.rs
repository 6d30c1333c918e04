//! What a component does when it comes to rest: it gives back the memory that work has left behind, first that of its start. A cluster in
//! a playground is idle most of the time.

use std::time::Duration;

use drydock_runtime::{heap, stack, text};
use nix::time::{ClockId, clock_gettime};

/// How long a component is looked at first; each time that it rests as long, it is left alone for twice as long as before, since work has
/// stragglers.
const FIRST: Duration = Duration::from_secs(5);
/// And at last for so long, about as often as etcd is compacted.
const LONGEST: Duration = Duration::from_secs(320);
/// The part of the time that a component that rests may have the processor, in thousandths: leases and probes go on.
const REST: u32 = 10;

/// Gives memory back whenever the process rests.
pub async fn give_back() {
    let mut look = FIRST;
    loop {
        let before = processor_time();
        tokio::time::sleep(look).await;
        if processor_time().saturating_sub(before) > look * REST / 1000 {
            look = FIRST;
            continue;
        }
        heap::give_back();
        if let Err(error) = stack::give_back() {
            tracing::debug!(%error, "the stack keeps its size");
        }
        text::give_back();
        look = (look * 2).min(LONGEST);
    }
}

/// What the process has had of the processor so far. Without that clock it always rests.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
