//! The server as clients see it: what the verbs do to objects of built-in kinds, and what hostile clients get.

mod client;
mod custom;
mod flowcontrol;
mod hostile;
mod pods;
mod proxy;
mod security;
mod services;
mod tls;
mod verbs;
mod watches;
mod webhooks;
