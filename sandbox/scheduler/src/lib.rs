//! The Kubernetes scheduler: gives every pod that has no node the best node there is, says why if there is none, and makes room for
//! important pods.
//!
//! [`run()`] is the component; [`core::Core`] decides and knows no API server. What happens to a pod reads top to bottom in [`mod@run`]
//! (the loop, binding, events) → [`core`] (what is known) → [`schedule`] (one decision) → [`plugins`] (the rules).

pub mod admission;
pub mod cache;
pub mod core;
pub mod devices;
mod hints;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod preemption;
pub mod queue;
pub mod resources;
pub mod run;
pub mod schedule;
pub mod selectors;
pub mod terms;
pub mod volumes;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use run::run;

/// `spec.schedulerName` of pods that say nothing else.
pub const DEFAULT_NAME: &str = "default-scheduler";
