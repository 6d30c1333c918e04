//! Secrets: link tokens, queue tickets, port secrets and the capability in a port's address. Tokens leave this
//! process once, when they are made; what is kept is their hash. Called by `sessions`, `auth` and `ports`.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use drydock_protocol::{NodeName, SessionId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];
/// Key of the capabilities in a session's port addresses.
pub type PortSecret = [u8; 32];

/// Characters of the capability in a port's address: 26 × 5 = 130 bits.
const MAC_LEN: usize = 26;

/// The system's random numbers cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random numbers: {0}")]
pub struct NoRandom(getrandom::Error);

/// A random array.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandom)?;
    Ok(bytes)
}

/// A new token of 160 random bits, in lower-case letters and digits.
pub fn new_token() -> Result<String, NoRandom> {
    Ok(BASE32_NOPAD.encode(&random::<20>()?).to_ascii_lowercase())
}

/// A new session id.
pub fn new_session_id() -> Result<SessionId, NoRandom> {
    Ok(SessionId::from_random(random()?))
}

/// What is kept of a token. Tokens have full entropy, so one round of a plain hash is enough.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether two hashes are the same, in constant time.
pub fn same(a: &TokenHash, b: &TokenHash) -> bool {
    a.ct_eq(b).into()
}

/// SHA-256 as text, for ETags and Content-Security-Policy.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The host label that opens a port: `node1-8080-SESSION-CAPABILITY`, at most 50 characters (a DNS label has 63).
pub fn port_label(secret: &PortSecret, id: &SessionId, node: NodeName, port: u16) -> String {
    format!("{node}-{port}-{id}-{}", port_mac(secret, node, port))
}

fn port_mac(secret: &PortSecret, node: NodeName, port: u16) -> String {
    let digest = match Hmac::<Sha256>::new_from_slice(secret) {
        Ok(mac) => mac.chain_update(format!("drydock port {node} {port}")).finalize().into_bytes(),
        // HMAC takes keys of any length.
        Err(_) => return String::new(),
    };
    let mut text = BASE32_NOPAD.encode(&digest).to_ascii_lowercase();
    text.truncate(MAC_LEN);
    text
}

/// A host label taken apart. Its capability is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortLabel {
    /// Which node.
    pub node: NodeName,
    /// Which port.
    pub port: u16,
    /// Which session.
    pub id: SessionId,
    mac: String,
}

impl PortLabel {
    /// Reads a label; `None` if it is no such label.
    pub fn parse(label: &str) -> Option<Self> {
        let mut parts = label.split('-');
        let node = parts.next()?.parse().ok()?;
        let port_text = parts.next()?;
        let port: u16 = port_text.parse().ok().filter(|p: &u16| *p > 0 && p.to_string() == port_text)?;
        let id = parts.next()?.parse().ok()?;
        let mac = parts.next()?.to_owned();
        let plain =
            mac.len() == MAC_LEN && mac.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
        (plain && parts.next().is_none()).then_some(Self { node, port, id, mac })
    }

    /// Whether the capability was made with this secret.
    pub fn is_genuine(&self, secret: &PortSecret) -> bool {
        let right = port_mac(secret, self.node, self.port);
        right.len() == MAC_LEN && bool::from(right.as_bytes().ct_eq(self.mac.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_label_opens_its_own_port_only() {
        let id: SessionId = "abcdefghij".parse().unwrap();
        let node = NodeName::new(99).unwrap();
        let label = port_label(&[7; 32], &id, node, 65535);
        assert!(label.len() <= 63, "{label}");
        let parsed = PortLabel::parse(&label).unwrap();
        assert!(parsed.is_genuine(&[7; 32]));
        assert!(!parsed.is_genuine(&[8; 32]));
        let other = PortLabel { port: 80, ..parsed };
        assert!(!other.is_genuine(&[7; 32]));
    }

    #[test]
    fn other_labels_are_no_port_labels() {
        for bad in [
            "",
            "www",
            "node1-80",
            "node1-080-abcdefghij-aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "node1-0-abcdefghij-aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "node1-80-abcdefghij-short",
        ] {
            assert_eq!(PortLabel::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (a, b) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
        assert!(same(&hash(&a), &hash(&a)) && !same(&hash(&a), &hash(&b)));
    }
}
