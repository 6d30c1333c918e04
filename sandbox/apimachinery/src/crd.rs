//! Custom resources: the structural schemas that their definitions declare, and what these do to objects. The API server reads a
//! version's schema once with [`Structural::read`].

mod structural;

pub use structural::{Rule, Structural, ValueChecks};
