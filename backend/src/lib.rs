//! `drydock serve` and the command line, as a library so that tests can run a server in their own process.

pub mod api;
pub mod auth;
pub mod client;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod error;
pub mod forward;
pub mod hosts;
pub mod kubernetes;
pub mod log;
pub mod metrics;
pub mod net;
pub mod page;
pub mod pipe;
pub mod playgrounds;
pub mod ports;
pub mod registry;
pub mod relay;
pub mod root;
pub mod serve;
pub mod sessions;
pub mod store;
pub mod token;
pub mod warden;
mod wasm_program;
