//! What `drydock serve` may ask of the warden, and what it is told. JSON over a `SOCK_SEQPACKET` Unix socket,
//! one message a packet of at most [`MAX_PACKET`] bytes. Only the user that serve runs as may connect.
//! Nothing in here comes from a learner: ids are made by serve, numbers are bounded by the warden.

use drydock_protocol::{NodeName, SessionId, pipe::Step};
use drydock_runtime::{egress::Egress, limits::Limits};
use serde::{Deserialize, Serialize};

/// Largest packet, in bytes.
pub const MAX_PACKET: usize = 128 * 1024;

/// One request with the caller's number, which the answer repeats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The caller's number.
    pub number: u64,
    /// What is asked.
    pub request: Request,
}

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Make a session with nodes `node1` … `node{nodes}` and start it; [`Answer::Created`].
    /// Its socket is `run/sessions/{id}.sock` below the state directory and accepts connections at once.
    Create {
        /// The new session's id; must not be in use.
        id: SessionId,
        /// How many nodes.
        nodes: u8,
        /// Name of a prepared node image, such as `node`.
        image: String,
        /// What it may use.
        limits: Limits,
        /// What it may reach outside; without rules nothing.
        #[serde(default)]
        egress: Egress,
        /// Whether its nodes make up a Kubernetes cluster.
        #[serde(default)]
        cluster: bool,
    },
    /// Keep a session ready that the next [`Request::Create`] is likely to ask for: one with this id, image, limits and rules. It is made when nothing else was asked for a moment, is no session to anybody before it was asked for, and ends with this
    /// connection. There is one at most: another takes the place of one that nobody has asked for. [`Answer::Done`] at once.
    KeepReady {
        /// Its id.
        id: SessionId,
        /// The image of its nodes.
        image: String,
        /// What it may use.
        limits: Limits,
        /// What it may reach outside.
        #[serde(default)]
        egress: Egress,
    },
    /// Give a session another node; it starts by itself. [`Answer::Done`].
    AddNode {
        /// Which session.
        id: SessionId,
        /// The new node; must not exist.
        node: NodeName,
    },
    /// Delete the disk of a node that its session process has removed. [`Answer::Done`].
    ForgetNode {
        /// Which session.
        id: SessionId,
        /// Which node.
        node: NodeName,
    },
    /// Freeze or thaw all processes of a session's nodes. [`Answer::Done`].
    Freeze {
        /// Which session.
        id: SessionId,
        /// True: freeze.
        frozen: bool,
    },
    /// End a session and delete everything of it. [`Answer::Destroyed`]; also when there is no such session.
    Destroy {
        /// Which session.
        id: SessionId,
    },
    /// Make an image of the catalogue, as `drydock image add NAME` does; [`Message::Preparing`] tells how far that is, and when it is
    /// there, [`Answer::Done`].
    PrepareImage {
        /// Its name in the catalogue (`nginx`).
        name: String,
    },
    /// All sessions whose processes run. [`Answer::Sessions`].
    List,
    /// End the warden, if no session is left; else it refuses.
    Exit,
}

/// What serve is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "snake_case")]
pub enum Message {
    /// The answer to a [`Call`].
    Answer {
        /// The call's number.
        number: u64,
        /// The answer.
        answer: Answer,
    },
    /// An image of the catalogue is being made.
    Preparing {
        /// Its name.
        name: String,
        /// What is being done, for people.
        line: String,
    },
    /// A session has ended by itself (its process died or was killed) or for the sake of the host; everything of it is deleted.
    Died {
        /// Which session.
        id: SessionId,
        /// Why, as far as the kernel tells ("killed by signal 9"), or what the host ran out of.
        reason: String,
    },
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It runs.
    Created {
        /// Steps of its making, times since the request arrived at the warden.
        trace: Vec<Step>,
    },
    /// It is gone.
    Destroyed {
        /// Steps of its end.
        trace: Vec<Step>,
    },
    /// It is done.
    Done,
    /// The sessions whose processes run.
    Sessions {
        /// Their ids.
        sessions: Vec<SessionId>,
    },
    /// It did not work, and what was begun is undone. Where even that failed, a session is swept up later, and a node is still there
    /// to be forgotten ([`Request::ForgetNode`]).
    Failed {
        /// What kind of failure.
        kind: FailureKind,
        /// For people: what failed and what to do.
        message: String,
    },
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No such session, node or image.
    NotFound,
    /// The id or node is in use, or sessions still run.
    InUse,
    /// A number is out of bounds.
    Invalid,
    /// No id range, loop device, disk space or memory left.
    Full,
    /// The kernel refused.
    Failed,
}
