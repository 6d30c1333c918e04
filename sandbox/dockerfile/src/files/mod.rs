//! File work for builds: trees whose links lead nowhere outside ([`Tree`]), copying between them, archives, modes and owners.
//!
//! The engine is root of the session, and the trees hold whatever a learner put there: links to `/`, FIFOs, endless directories.
//! So every path is resolved by the kernel below the tree's root (`openat2` with `RESOLVE_IN_ROOT`), nothing is opened that could
//! block, and depth is bounded.

mod archive;
mod context;
mod copy;
mod mode;
mod owner;
mod tree;

pub use archive::{go_error, is_archive, unpack};
pub use context::{read_dockerfile, unpack_context};
pub use copy::{Copier, CopyOptions, Existing};
pub(crate) use copy::{hash, hex};
pub use mode::ModeChange;
pub use owner::{Owner, resolve_owner};
pub use tree::{Kind, Tree};

/// Directories within directories that are followed.
pub(crate) const MAX_DEPTH: usize = 200;
