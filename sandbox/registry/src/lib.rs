//! The OCI distribution protocol: a client that pulls and pushes ([`Client`]), and a registry ([`server::Registry`]).
//!
//! The engine of a node uses the client: for `docker pull`, `push`, `login`, `search` and for what a build needs. It speaks to
//! registries anywhere, so everything that arrives is bounded, and a layer is handed on only after its digest was found
//! right. Texts and order of events are dockerd's, because the official client prints them. The server is a library:
//! the host process mounts its router, and nodes reach it as `registry:5000`; so is the cache of other registries ([`Cache`]).

mod cache;
mod client;
mod credentials;
mod digest;
mod error;
mod events;
mod manifest;
mod platform;
pub mod server;
mod store;

pub use cache::{Cache, CacheLimits};
pub use client::{
    Allow, Client, ClientOptions, ImageSink, ImageSource, Inspection, KnownBlob, LayerBlob, LayerContent,
    LoginOutcome, Outline, PullLayer, PullOutcome, PullRequest, PulledImage, PushImage, PushLayer,
    PushOutcome, PushRequest, Resolver, SearchResult, SinkError, system_roots, tls_text,
};
pub use credentials::{AuthConfig, CredentialsError, decode_registry_auth, decode_registry_config};
pub use digest::Hasher;
pub use error::{Error, Kind};
pub use events::{Amount, Event, Events};
pub use manifest::{Descriptor, MANIFEST_MAX, media_type};
pub use platform::{Platform, PlatformError};
pub use store::{StoreSink, StoreSource};

/// What the client returns.
pub type Result<T> = std::result::Result<T, Error>;
