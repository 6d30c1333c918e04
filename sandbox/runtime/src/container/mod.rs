//! Containers in a node. The engine describes one ([`spec`]), the node's init clones a child for it, and the child builds its
//! root and becomes its program ([`messages`] tells who says what). Follow one: [`EngineToInit::Run`] → `node_init` → `child`.
//!
//! [`EngineToInit::Run`]: messages::EngineToInit::Run

pub mod messages;
pub mod spec;
