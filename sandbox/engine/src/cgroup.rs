//! Control groups of containers: `docker/<id>` in each hierarchy.

/// The node's hierarchies.
#[derive(Debug)]
pub struct Groups {}

impl Groups {
    /// Looks what is mounted.
    pub fn detect() -> Self {
        Self {}
    }
}
