//! Drives a real server in this process: real HTTP, WebSockets and CLI on one side; a warden and session processes of
//! the test's own on the other (`fake`), which speak the real protocols over real sockets.

mod bad_input;
mod cli;
mod fake;
mod files;
mod harness;
mod openapi;
mod ports;
mod restart;
mod rights;
mod sessions;
mod sockets;
