//! Ids.

use std::fmt::Write as _;

/// Random bytes. The kernel's source does not fail once it has been seeded.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "no random bytes");
    }
    bytes
}

/// A name of `2 * N` hexadecimal digits.
pub fn hex<const N: usize>() -> String {
    bytes::<N>().iter().fold(String::with_capacity(2 * N), |mut text, byte| {
        // Writing to a string does not fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
