//! exec, attach and port-forward as Kubernetes clients speak them: the server's side of a connection that HTTP/1.1 has handed over.
//!
//! A kubelet calls [`negotiate()`] with the request's headers, answers 101 with the headers that it gives (or what its [`Refusal`]
//! says), and hands the upgraded connection to [`remote_command()`] or [`port_forward()`]. Both speak WebSocket channels
//! (`v5.channel.k8s.io` and its forerunners) and SPDY/3.1, bare or in a WebSocket. Nothing in here knows of pods or containers, and
//! whatever a client sends costs bounded memory.

mod exit;
mod negotiate;
mod pipe;
mod port_forward;
mod remote_command;
mod spdy;
mod tunnel;
mod websocket;

#[cfg(test)]
mod tests;

pub use exit::{Exit, Outcome};
pub use negotiate::{Negotiated, Protocol, Purpose, Refusal, negotiate};
pub use pipe::{Duplex, Input, Output};
pub use port_forward::{ForwardError, Forwarded, PortForward, port_forward, ports};
pub use remote_command::{Channels, Options, TerminalSize, remote_command};

/// Why a connection cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client did not open the streams that its request speaks of.
    #[error("timed out waiting for client to create streams")]
    StreamTimeout,
    /// The connection ended before it began.
    #[error("the client is gone")]
    Gone,
}
