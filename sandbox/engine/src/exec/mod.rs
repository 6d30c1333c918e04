//! Programs in containers beside their first: `docker exec`.

/// All that are known.
#[derive(Debug, Default)]
pub struct Execs {}
