//! The only part of the page that talks to the server: REST ([`rest`]), uploads ([`upload`]) and the session's
//! WebSocket ([`link`]). The store calls it; components never do.

pub mod link;
pub mod rest;
pub mod upload;
