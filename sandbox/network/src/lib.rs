//! Container networks of a node: bridges, addresses, names, published ports. What libnetwork is to dockerd.
//!
//! [`Networks`] is the entry point and lives in the engine's process, in the node's network namespace. A container's way through it:
//!
//! 1. [`Networks::reserve`], once a network: address, link-layer address, names. Touches nothing but memory.
//! 2. [`Networks::plug`], when there is a network namespace for it and its first process waits: makes the interfaces and says how the
//!    child is to set them up ([`drydock_runtime::container::spec::Interface`]).
//! 3. [`Networks::settle`], when the child has set them up: packets pass, and neighbours know.
//! 4. [`Networks::serve_names`] on user-defined networks: the name server at 127.0.0.11 inside the container.
//! 5. [`Networks::publish`], if it publishes ports.
//! 6. [`Networks::release_container`], when it has ended.
//!
//! `docker network connect` and `disconnect` on a running container are `reserve` with [`Networks::plug_running`], and
//! [`Networks::release`]. After a restart of the engine, containers that run come back with [`Networks::adopt`].

mod announce;
mod bridge;
mod bridge_options;
mod default_bridge;
mod definition;
mod endpoints;
mod error;
pub mod files;
mod firewall;
mod inside;
pub mod inspect;
mod ipam;
mod mac;
mod macvlan;
mod names;
mod networks;
mod ports;
mod proxy;
mod publish;
mod random;
mod redirect;
mod resolver;
mod store;
mod time;
mod ways;
mod wiring;
mod wishes;

pub use default_bridge::{AddressPool, DefaultBridge};
pub use definition::{Driver, IpamConfig, NewNetwork, is_predefined};
pub use endpoints::{Endpoint, EndpointRequest, dns_names};
pub use error::{Error, Kind, Result};
pub use inside::Inside;
pub use mac::Mac;
pub use networks::{Config, Networks};
pub use ports::{Binding, PortRequest, Protocol};
pub use resolver::Resolver;
