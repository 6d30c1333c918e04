//! HTTP of the Engine API: the server on the node's Unix socket, the version prefix of paths, query strings, JSON bodies,
//! lines of progress, and connections that stop speaking HTTP (`attach`, `exec`). Nothing here knows a container.
//!
//! [`serve`] is the entry point; `api` holds what is served.

mod bytes;
mod hijack;
mod json;
pub mod lines;
mod ordered;
mod peer;
mod progress;
mod query;
mod server;
mod version;
pub mod websocket;
pub mod whole;

pub use bytes::{drain, produce, reader};
pub use hijack::{Connection, Form, hijack, upgrade};
pub use json::{Answer, answer, read_json, read_request};
pub use lines::{Lines, body_of, stream};
pub use ordered::Json;
pub(crate) use ordered::ordered;
pub use peer::Peer;
pub use progress::Progress;
pub use query::Query;
#[cfg(test)]
pub use server::accept;
pub use server::serve;
pub use version::{ApiVersion, MAX_API, MIN_API, VERSION};
