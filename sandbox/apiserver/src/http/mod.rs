//! What the API server knows of HTTP and not of Kubernetes' objects: connections, bodies, what a request is about, in what form its
//! answer is wanted, and how answers are written. The handlers in [`crate::rest`] use it; it knows none of them.

pub mod body;
pub mod contain;
pub mod info;
pub mod listener;
pub mod negotiate;
pub mod query;
pub mod respond;
pub mod websocket;
mod yaml;

pub use body::Body;
pub use info::RequestInfo;
pub use query::Query;
