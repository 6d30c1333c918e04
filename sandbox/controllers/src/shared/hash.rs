//! Hashes that become part of names: `pod-template-hash` and the suffix of a controller revision. FNV-1a of 32 bits, written with letters
//! that make no words (`rand.SafeEncodeString`). The value of upstream's hash is a private matter of each of its releases, so only its form is
//! the same here: it is computed over the JSON of the object.

use serde::Serialize;

const ALPHANUMS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 32 bits (`hash/fnv.New32a`).
#[derive(Debug, Clone, Copy)]
pub struct Fnv32(u32);

impl Default for Fnv32 {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv32 {
    /// Takes bytes in.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    /// The sum so far.
    pub fn sum(self) -> u32 {
        self.0
    }
}

/// The hash of a template, with the count of collisions that its owner has seen (`controller.ComputeHash`).
pub fn compute<T: Serialize>(template: &T, collisions: Option<i32>) -> String {
    let mut hash = Fnv32::default();
    // The types of the API have only string keys and finite numbers: they are always written.
    hash.write(&serde_json::to_vec(template).unwrap_or_default());
    if let Some(collisions) = collisions {
        hash.write(&collisions.to_le_bytes());
        hash.write(&[0; 4]);
    }
    safe_encode(&hash.sum().to_string())
}

/// Replaces each byte by a letter or digit that makes no words.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(ALPHANUMS[usize::from(byte) % ALPHANUMS.len()])).collect()
}

/// `LENGTH` random letters and digits of the same alphabet, as `generateName` appends.
pub fn random_suffix(seed: u64) -> String {
    let mut state = seed;
    (0..5)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = usize::try_from((state >> 33) % 27).unwrap_or_default();
            char::from(ALPHANUMS[index])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_is_that_of_the_standard() {
        for (text, sum) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            let mut hash = Fnv32::default();
            hash.write(text.as_bytes());
            assert_eq!(hash.sum(), sum, "{text}");
        }
    }

    #[test]
    fn encoding_is_that_of_upstream() {
        // Digits 0…9 are bytes 48…57; 48 % 27 = 21.
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }

    #[test]
    fn collisions_change_the_hash() {
        let template = serde_json::json!({"spec": {"containers": []}});
        assert_eq!(compute(&template, None), compute(&template, None));
        assert_ne!(compute(&template, None), compute(&template, Some(1)));
        assert_ne!(compute(&template, Some(2)), compute(&template, Some(1)));
        assert!(compute(&template, None).len() <= 10);
    }
}
