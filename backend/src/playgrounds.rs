//! What there is to choose on the start page. One table; everything else asks it.

use drydock_protocol::api::Playground;

/// A kind of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// As the API and the command line name it.
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    /// How many nodes it has if nothing is said.
    pub nodes: u8,
    /// Whether its nodes make up a Kubernetes cluster.
    pub cluster: bool,
}

/// All kinds; the first is what a session is if nothing is said.
pub const ALL: &[Kind] = &[
    Kind {
        name: "linux",
        title: "Linux",
        description: "Debian nodes on a network of their own, with you as root.",
        nodes: 1,
        cluster: false,
    },
    Kind {
        name: "docker",
        title: "Docker",
        description: "A Docker engine on every node, with the official docker and docker compose.",
        nodes: 1,
        cluster: false,
    },
    Kind {
        name: "kubernetes",
        title: "Kubernetes",
        description: "A cluster of three nodes, with the official kubectl on each of them.",
        nodes: 3,
        cluster: true,
    },
];

/// The kind of this name.
pub fn find(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name)
}

/// Names for a message, such as `linux, docker`.
pub fn names() -> String {
    ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

impl Kind {
    /// For the API.
    pub fn offer(&self, max_nodes: u8) -> Playground {
        Playground {
            name: self.name.into(),
            title: self.title.into(),
            description: self.description.into(),
            nodes: self.nodes.min(max_nodes),
            max_nodes,
        }
    }
}
