//! Types that cross a process or the browser boundary.
//!
//! Three conversations are written down here, one module each, and nothing else:
//!
//! * [`api`]: the REST bodies under `/api/v1` (page and CLI ↔ `drydock serve`);
//! * [`frame`] and [`control`]: what a browser tab's WebSocket carries, binary terminal traffic and JSON;
//! * [`pipe`]: what `drydock serve` says to a session process over its Unix socket.
//!
//! [`ids`], [`state`] and [`docker`] hold the names and the picture of a session that all of them share. This crate
//! compiles for wasm32 and must stay free of anything that needs an operating system.

pub mod api;
pub mod control;
pub mod docker;
pub mod frame;
pub mod ids;
pub mod pipe;
pub mod state;

pub use ids::{InvalidName, NodeName, SessionId, TerminalId};
