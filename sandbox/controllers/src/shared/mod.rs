//! What several controllers share: owners and labels, states of pods, expectations, batches, hashes of templates, revisions.
//! Nothing in here belongs to one controller.

pub mod batch;
pub mod claims;
pub mod conditions;
pub mod expectations;
pub mod hash;
pub mod history;
pub mod meta;
pub mod node_selector;
pub mod numbers;
pub mod owners;
pub mod pod_control;
pub mod pods;
pub mod refs;
pub mod resources;
