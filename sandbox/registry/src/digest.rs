//! SHA-256 of something that arrives in pieces.

use drydock_images::Digest;
use sha2::{Digest as _, Sha256};

/// Computes the digest of bytes that come piece by piece, and counts them.
#[derive(Clone, Default)]
pub struct Hasher {
    hash: Sha256,
    bytes: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
    }

    /// How many bytes have been taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of all pieces so far.
    pub fn digest(&self) -> Digest {
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in self.hash.clone().finalize() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        text.parse().expect("64 hexadecimal digits are a digest")
    }
}

/// The twelve digits by which Docker shows a layer.
pub(crate) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_digest_of_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!((hasher.digest(), hasher.bytes()), (Digest::of(b"abc"), 3));
        assert_eq!(short(&hasher.digest()), "ba7816bf8f01");
    }
}
