//! Keys: Ed25519 pairs that follow from the cluster's seed and a label (HKDF, RFC 5869), so that every node has the same.

use crate::Error;
use rcgen::{KeyPair, PKCS_ED25519};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

/// Head of an Ed25519 private key in PKCS#8, version 1 (RFC 8410, section 7), as every TLS library reads it.
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

/// Bytes that follow from the seed, other ones for each label.
pub fn derive(seed: &[u8; 32], label: &str) -> [u8; 32] {
    let key = Salt::new(HKDF_SHA256, b"drydock cluster").extract(seed);
    let mut bytes = [0; 32];
    // Both fail only for lengths above 255 hashes.
    if let Ok(okm) = key.expand(&[label.as_bytes()], Length) {
        let _always_fits = okm.fill(&mut bytes);
    }
    bytes
}

/// The key pair of this label.
pub fn pair(seed: &[u8; 32], label: &str) -> Result<KeyPair, Error> {
    let der = [&PKCS8[..], &derive(seed, label)].concat();
    KeyPair::from_pkcs8_der_and_sign_algo(&der.into(), &PKCS_ED25519)
        .map_err(|source| Error::Certificate { what: format!("key of {label}"), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_from_seed_and_label() {
        let key = |seed: u8, label: &str| pair(&[seed; 32], label).unwrap().serialize_pem();
        assert_eq!(key(1, "ca"), key(1, "ca"));
        assert_ne!(key(1, "ca"), key(1, "front-proxy-ca"));
        assert_ne!(key(1, "ca"), key(2, "ca"));
        assert_ne!(derive(&[0; 32], "a"), [0; 32]);
    }
}
