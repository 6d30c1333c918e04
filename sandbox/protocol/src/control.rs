//! Text WebSocket messages: JSON, one object a message, told apart by `type`. Unknown types are ignored by
//! both sides, so that either can be newer.

use crate::{
    NodeName, TerminalId,
    state::{Role, SessionState},
};
use serde::{Deserialize, Serialize};

/// The WebSocket subprotocol that page and server agree on.
pub const SUBPROTOCOL: &str = "drydock.v1";

/// WebSocket close codes of our own; a page does not reconnect after any of them but [`close::RESTART`].
pub mod close {
    /// The token gives no right to this session (unknown, revoked or expired).
    pub const FORBIDDEN: u16 = 4401;
    /// There is no such session (any more).
    pub const GONE: u16 = 4404;
    /// The session's time is over.
    pub const EXPIRED: u16 = 4408;
    /// Too many connections or messages.
    pub const LIMIT: u16 = 4429;
    /// The server restarts: reconnect.
    pub const RESTART: u16 = 1012;
}

/// What a page says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromPage {
    /// Show me this terminal, from this offset if the ring still has it, else by a snapshot.
    Attach {
        /// Which terminal.
        terminal: TerminalId,
        /// The first byte that the page lacks; absent: it has nothing.
        from: Option<u64>,
    },
    /// Show it no more.
    Detach {
        /// Which terminal.
        terminal: TerminalId,
    },
    /// Start a shell. Answered by [`ToPage::Opened`] with the same `request`.
    Open {
        /// On which node.
        node: NodeName,
        /// The page's own number for this request.
        request: u32,
    },
    /// End a terminal's processes (SIGHUP, as when a terminal window is closed) and forget it.
    Close {
        /// Which terminal.
        terminal: TerminalId,
        /// Even if something runs in it; else [`ToPage::Busy`] is the answer then.
        #[serde(default = "yes")]
        anyway: bool,
    },
    /// I look at this terminal.
    Focus {
        /// Which one; absent: none.
        terminal: Option<TerminalId>,
    },
    /// Switch a node on or off (owner).
    Power {
        /// Which node.
        node: NodeName,
        /// On or off.
        on: bool,
    },
    /// Answered at once by [`ToPage::Pong`] with the same number.
    Ping {
        /// Any number, such as a time.
        t: f64,
    },
    /// A message newer than this side.
    #[serde(other)]
    Unknown,
}

/// What pages that do not say mean: they have asked their user.
const fn yes() -> bool {
    true
}

/// What a page is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToPage {
    /// The first message of a connection.
    Hello {
        /// Number of this connection.
        you: u64,
        /// What this page may do.
        role: Role,
        /// Highest input number already taken from this page: resend only what is above it.
        input_seq: u32,
    },
    /// How the session is now. Comes first after Hello and again after every change.
    State {
        /// The whole picture.
        state: SessionState,
    },
    /// The answer to [`FromPage::Open`].
    Opened {
        /// The page's number for its request.
        request: u32,
        /// The new terminal.
        terminal: TerminalId,
    },
    /// Whether this page's xterm answers device queries (cursor position, attributes) of this terminal. Exactly
    /// one page does; the others must swallow the query.
    Answers {
        /// Which terminal.
        terminal: TerminalId,
        /// True: this page answers.
        yes: bool,
    },
    /// Something did not work; the text is for people.
    Notice {
        /// What it is about.
        text: String,
        /// The request that it answers, if one.
        request: Option<u32>,
    },
    /// A terminal is not closed, because something runs in it beside its shell ([`FromPage::Close`]).
    Busy {
        /// Which terminal.
        terminal: TerminalId,
        /// The name of a program that would end, at most 15 bytes.
        program: String,
    },
    /// Answer to [`FromPage::Ping`].
    Pong {
        /// The number from the ping.
        t: f64,
    },
    /// From `drydock serve`: the session's life. Comes after Hello and when it changes.
    Life {
        /// Seconds until the session ends.
        seconds_left: u64,
        /// Seconds by which its owner may still extend it (0: no more).
        can_extend: u64,
        /// Why it sleeps, if it does.
        asleep: bool,
    },
    /// A message newer than this side.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_messages_are_ignored_not_errors() {
        assert_eq!(serde_json::from_str::<FromPage>(r#"{"type":"dance","x":1}"#).unwrap(), FromPage::Unknown);
        assert_eq!(serde_json::from_str::<ToPage>(r#"{"type":"dance"}"#).unwrap(), ToPage::Unknown);
    }

    #[test]
    fn a_message_says_its_type() {
        let text = serde_json::to_string(&FromPage::Attach { terminal: TerminalId(1), from: None }).unwrap();
        assert_eq!(text, r#"{"type":"attach","terminal":1,"from":null}"#);
        let close = FromPage::Close { terminal: TerminalId(1), anyway: true };
        assert_eq!(serde_json::from_str::<FromPage>(r#"{"type":"close","terminal":1}"#).unwrap(), close);
    }
}
