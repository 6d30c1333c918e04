//! The only part of the page that talks to the server: REST ([`rest`]), uploads ([`upload`]) and the session's
//! WebSocket ([`link`], held by a worker: [`socket`]). The store calls it; components never do.

pub mod link;
pub mod rest;
mod socket;
pub mod upload;
