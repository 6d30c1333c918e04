//! Names of things, as types: a session id is not a node name is not a terminal number.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a text is not the name that it was given as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{text}' is not valid: {rule}")]
pub struct InvalidName {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        // A hostile name must not flood a log or a page.
        Self { what, text: text.chars().take(40).collect(), rule }
    }
}

/// Name of a session: 10 characters of `a-z0-9`. Not a secret: an id alone opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[a-z0-9]{10}$"))]
pub struct SessionId(String);

impl SessionId {
    /// Length of every id, in characters.
    pub const LEN: usize = 10;

    /// An id from ten random bytes (letters and digits without look-alikes; 32 symbols, 50 bits).
    pub fn from_random(bytes: [u8; Self::LEN]) -> Self {
        const SYMBOLS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
        Self(bytes.iter().map(|b| SYMBOLS[usize::from(b % 32)] as char).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = InvalidName;
    fn from_str(s: &str) -> Result<Self, InvalidName> {
        if s.len() == Self::LEN && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            Ok(Self(s.into()))
        } else {
            Err(InvalidName::new("session id", s, "it has 10 characters of a-z and 0-9"))
        }
    }
}

/// Name and host name of a node: `node1` … `node99`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^node[1-9][0-9]?$"))]
pub struct NodeName(u8);

impl NodeName {
    /// The node with this number, 1 to 99.
    pub fn new(number: u8) -> Option<Self> {
        (1..=99).contains(&number).then_some(Self(number))
    }

    /// The node's number, 1 to 99; its address and link-layer address are derived from it.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for NodeName {
    type Err = InvalidName;
    fn from_str(s: &str) -> Result<Self, InvalidName> {
        s.strip_prefix("node")
            .filter(|n| !n.starts_with('0') && n.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|n| n.parse().ok())
            .and_then(Self::new)
            .ok_or_else(|| InvalidName::new("node", s, "nodes are called node1, node2, …"))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node{}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(s: String) -> Result<Self, InvalidName> { s.parse() }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String { name.to_string() }
        }
    )*};
}
serde_as_text!(SessionId, NodeName);

/// Number of a terminal, unique within its session and never used again in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalId(pub u32);

impl fmt::Display for TerminalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_ten_plain_characters() {
        assert!("abcdef0123".parse::<SessionId>().is_ok());
        for bad in ["", "abc", "ABCDEF0123", "../../etc/", "abcdef01234", "abcdef012é"] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
        assert!(SessionId::from_random([255; 10]).as_str().parse::<SessionId>().is_ok());
    }

    #[test]
    fn node_names_have_one_spelling() {
        assert_eq!("node12".parse::<NodeName>().unwrap().number(), 12);
        for bad in ["node0", "node01", "node100", "node", "node+1", "Node1", "node1 "] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_checked_when_they_are_decoded() {
        assert!(serde_json::from_str::<NodeName>("\"node0\"").is_err());
        assert_eq!(serde_json::to_string(&NodeName::new(3).unwrap()).unwrap(), "\"node3\"");
    }
}
