//! What `drydock serve` and a session process say to each other over the session's Unix stream socket.
//!
//! Every connection begins with one text frame from serve holding an [`Open`], which says what the connection
//! is for; what follows depends on that and is told at each variant. A frame is `u8 tag, u32 length
//! (big-endian), payload`, the tag being [`TEXT`] or [`BINARY`]. The session process trusts serve; serve does
//! not trust the session process (it lives with the learner), so it bounds every length it reads.

use crate::{NodeName, TerminalId, frame::Size, state::Role};
use serde::{Deserialize, Serialize};

/// Tag of a frame whose payload is JSON.
pub const TEXT: u8 = 0;
/// Tag of a frame whose payload is bytes.
pub const BINARY: u8 = 1;
/// Largest payload of a frame, in bytes.
pub const MAX_FRAME: u32 = 1024 * 1024;

/// An argument of a program: text, or the bytes of what is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Argument {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl Argument {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// Its bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Argument {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|e| Self::Bytes(e.into_bytes()), Self::Text)
    }
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What a connection is for: the first frame, from serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "open", rename_all = "snake_case")]
pub enum Open {
    /// A browser tab. What follows in both directions is the tab's WebSocket traffic, message by message
    /// ([`crate::control`] as text, [`crate::frame`] as binary). The session process enforces the role.
    Viewer {
        /// What the tab may do.
        role: Role,
        /// The page's own random name; numbers its input across reconnects.
        client: String,
    },
    /// One question, answered by one text frame holding a [`Reply`].
    Control {
        /// The question.
        request: Control,
    },
    /// A command. serve sends binary frames ([`exec`]); the session answers with binary frames and ends with
    /// a text frame holding a [`Reply`] ([`Reply::Exit`] or an error).
    Exec {
        /// On which node.
        node: NodeName,
        /// Program and arguments; empty: the login shell.
        argv: Vec<Argument>,
        /// Added to the environment.
        env: Vec<(String, String)>,
        /// Working directory; absent: the home directory.
        cwd: Option<String>,
        /// A pty of this size; absent: three pipes.
        tty: Option<Size>,
    },
    /// A TCP connection to a port of a node. The session answers with one text frame holding a [`Reply`]; after
    /// [`Reply::Done`] the connection carries the plain bytes of the TCP connection, without frames.
    Tcp {
        /// Which node.
        node: NodeName,
        /// Which port.
        port: u16,
    },
    /// The site's services (its image registry), which nodes reach at the session's gateway. For every connection of a node
    /// the session sends a text frame holding a [`NodeCall`]; serve takes it with [`Open::Take`].
    Services,
    /// Takes a connection that a [`NodeCall`] has told of. The session answers with one text frame holding a [`Reply`]; after
    /// [`Reply::Done`] the connection carries the plain bytes of the node's.
    Take {
        /// The call's number.
        call: u64,
    },
    /// Work on a node's files, done inside the node by a process of the node. Answers as told at [`FileOp`].
    File {
        /// On which node.
        node: NodeName,
        /// What to do.
        op: FileOp,
    },
}

/// A node has connected to a service of the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCall {
    /// Number of the connection; it waits for some seconds.
    pub call: u64,
    /// The node's address.
    pub from: std::net::IpAddr,
}

/// Kinds of binary frames on an [`Open::Exec`] connection: the payload's first byte; the rest is data.
pub mod exec {
    /// serve → session: bytes for standard input.
    pub const STDIN: u8 = 0;
    /// session → serve: bytes from standard output (or the pty).
    pub const STDOUT: u8 = 1;
    /// session → serve: bytes from standard error.
    pub const STDERR: u8 = 2;
    /// serve → session: end of standard input.
    pub const STDIN_END: u8 = 3;
    /// serve → session: new size of the pty: u16 columns, u16 rows, big-endian.
    pub const RESIZE: u8 = 4;
    /// serve → session: send this signal number (one byte) to the process group.
    pub const SIGNAL: u8 = 5;
}

/// A question to a session process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// How are you? Answered by [`Reply::State`].
    State,
    /// Answered by [`Reply::Ready`] as soon as every node is on and the first terminal has printed its prompt.
    Ready,
    /// Start a terminal; [`Reply::Terminal`].
    OpenTerminal {
        /// On which node.
        node: NodeName,
    },
    /// End a terminal; [`Reply::Done`].
    CloseTerminal {
        /// Which.
        terminal: TerminalId,
    },
    /// Switch a node on or off; [`Reply::Done`] when it is.
    Power {
        /// Which node.
        node: NodeName,
        /// On or off.
        on: bool,
    },
    /// Switch a node off and forget it; [`Reply::Done`] when nothing of it is left but its disk.
    RemoveNode {
        /// Which node.
        node: NodeName,
    },
    /// Wait until a node that the warden has just handed in is on; [`Reply::Done`].
    AwaitNode {
        /// Which node.
        node: NodeName,
    },
}

/// The answer to a [`Control`], and the last word of other connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// The session's state.
    State {
        /// The whole picture.
        state: crate::state::SessionState,
        /// Microseconds since the last keystroke, upload or command of anybody.
        idle_micros: u64,
        /// Number of pages connected.
        viewers: u32,
    },
    /// Ready; the steps of the session's start inside the session.
    Ready {
        /// Steps in order.
        trace: Vec<Step>,
    },
    /// The new terminal.
    Terminal {
        /// Its number.
        terminal: TerminalId,
    },
    /// The command ended with this status (128 + n for signal n).
    Exit {
        /// The status, 0 to 255.
        status: i32,
    },
    /// A directory.
    Entries {
        /// What is in it, at most 10,000, by name.
        entries: Vec<Entry>,
        /// True if there were more.
        cut: bool,
    },
    /// A file is coming: `size` bytes in binary frames (fewer if it shrinks meanwhile), then [`Reply::Done`].
    File {
        /// What it is.
        entry: Entry,
    },
    /// It did not work.
    Error {
        /// What kind of failure.
        kind: ErrorKind,
        /// One sentence for people that names the thing.
        message: String,
    },
}

/// What kind of failure; serve turns it into an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No such node, terminal, file or program.
    NotFound,
    /// The thing is there but not in a state for this (node off, port closed, directory instead of file).
    Conflict,
    /// The request makes no sense.
    Invalid,
    /// The kernel lets nobody do that, not even the node's root.
    Denied,
    /// A limit is reached (terminals, disk, size).
    Limit,
    /// The kernel or the session failed.
    Failed,
}

/// One measured step of a start or a stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Step {
    /// What was done, in a few words ("clone namespaces").
    pub name: String,
    /// When it began, in microseconds since the request arrived at serve (or the process began, as named by its group).
    pub start_micros: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// Work on a node's files. Paths are absolute paths inside the node.
// Not told apart by a field as the others are: it also travels to a node's init in a format that can't look ahead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOp {
    /// [`Reply::Entries`].
    List {
        /// The directory.
        path: String,
    },
    /// [`Reply::File`], binary frames, [`Reply::Done`].
    Read {
        /// The file.
        path: String,
        /// Refuse a file larger than this many bytes ([`ErrorKind::Limit`]).
        limit: Option<u64>,
    },
    /// serve sends the content in binary frames and an empty text frame as its end; then [`Reply::File`], as it was written. The
    /// file appears under its name only when it is complete; an older file of that name keeps its owner and mode.
    Write {
        /// The file.
        path: String,
        /// Permission bits of a new file.
        mode: u32,
        /// If set, refuse ([`ErrorKind::Conflict`]) when the present file's modification time is another.
        unless_changed_since_micros: Option<i64>,
        /// Refuse ([`ErrorKind::Conflict`]) if there is something of that name.
        #[serde(default)]
        only_new: bool,
        /// If set, the file's modification time, in microseconds since 1970.
        #[serde(default)]
        modified_micros: Option<i64>,
    },
    /// Make a directory and its parents; [`Reply::Done`].
    MakeDir {
        /// The directory.
        path: String,
        /// Permission bits of a new one.
        #[serde(default)]
        mode: Option<u32>,
    },
    /// Make a symbolic link, in the place of another if there is one; [`Reply::Done`].
    Link {
        /// The link.
        path: String,
        /// What it leads to, whether that is there or not.
        target: String,
    },
    /// Delete a file or a directory with all in it; [`Reply::Done`].
    Remove {
        /// The file or directory.
        path: String,
    },
    /// [`Reply::Done`].
    Rename {
        /// Old path.
        from: String,
        /// New path; must not exist.
        to: String,
    },
}

/// A file, directory or other entry of a node's file system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Entry {
    /// Name without directory; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits, as in `chmod`.
    pub mode: u32,
    /// Modification time, microseconds since 1970.
    pub modified_micros: i64,
    /// In a list: what a symbolic link leads to in the end, if there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<EntryKind>,
}

/// Kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Other,
}
