//! One terminal, without any transport: its output, its picture, and who looks at it.
//!
//! The pty's driver ([`crate::pty`]) puts output in and carries out resizes; each viewer's connection
//! ([`crate::viewer`]) asks for its next frame and reports acknowledgements. Nothing here waits, reads a clock or
//! touches a descriptor; time comes in as an argument. So all rules can be tested with plain calls:
//!
//! * Output keeps its absolute offsets. A viewer gets every byte once, in order, or a snapshot.
//! * At most [`WINDOW`] bytes are on the way to a viewer unacknowledged.
//! * The slowest *writer* holds the pty; a reader never does, it gets a snapshot when it falls out of the ring.
//! * A writer that owes acknowledgements for [`SILENCE`] is detached.
//! * The size is the smallest of all visible writers' rooms, and exactly one writer answers device queries.

mod machine;
mod ring;
mod scan;
mod screen;
#[cfg(test)]
mod tests;

pub use drydock_protocol::frame::WINDOW;
pub use machine::{Item, Terminal, Tick, ViewerId};
use std::time::Duration;

/// A writer may owe acknowledgements for this long.
pub const SILENCE: Duration = Duration::from_secs(30);
/// Changes of the size are gathered for this long.
pub const RESIZE_DEBOUNCE: Duration = Duration::from_millis(50);
/// A viewer that can't follow gets snapshots at least this far apart.
pub const SNAPSHOT_GAP: Duration = Duration::from_millis(200);
/// Output is parsed when it has been quiet for this long, or by this long after it came if it is not a flood.
pub const PARSE_QUIET: Duration = Duration::from_millis(10);
/// A flood, which pauses while its viewers parse, is parsed when it has been quiet for this long: as good as over.
pub const FLOOD_QUIET: Duration = Duration::from_millis(200);
