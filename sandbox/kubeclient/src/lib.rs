//! How components of a cluster talk to the API server: connection, informers, work queues, events, leader election.
//!
//! [`connect`] gives a `kube::Client`; [`Informers`] hands out one [`Informer`] per kind, shared by all that ask; a [`WorkQueue`]
//! carries keys from an informer's handlers to workers; a [`Recorder`] writes events, a [`Reporter`] those of the new form; a [`Elector`] holds a Lease. What a component has beside that, its log ([`Klog`]) and
//! its end by a panic ([`crash`]), is here too. All of it runs on a
//! current-thread runtime. Nothing in here knows what a controller does with objects.

pub mod config;
pub mod connection;
pub mod crash;
pub mod errors;
pub mod events;
pub mod informer;
pub mod informers;
pub mod klog;
pub mod leader;
pub mod meta;
pub mod queue;
mod rate;
mod reflector;
mod store;

#[cfg(test)]
mod testing;

pub use config::{ClientConfig, ConfigError};
pub use connection::{client, connect};
pub use events::{EventType, Recorder, Report, Reporter};
pub use informer::{Event, Index, Informer};
pub use informers::Informers;
pub use klog::Klog;
pub use leader::Elector;
pub use meta::ObjectKey;
pub use queue::WorkQueue;
