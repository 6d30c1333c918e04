//! The last half megabyte that a terminal printed, by absolute offset. Used by the terminal core only. Memory is
//! taken as it is needed: a terminal that has printed one prompt holds 4 KiB.

/// Most bytes that are kept.
pub const CAPACITY: usize = 512 * 1024;
const FIRST: usize = 4 * 1024;

/// A byte queue that forgets its oldest bytes.
///
/// `bytes.len()` is zero or a power of two up to [`CAPACITY`]; the byte with offset `o` is `bytes[o % len]`.
#[derive(Debug, Default)]
pub struct Ring {
    bytes: Vec<u8>,
    start: u64,
    tail: u64,
}

impl Ring {
    /// Offset of the oldest byte that is still here.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Offset of the next byte to come.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Appends bytes and forgets what does not fit any more.
    pub fn push(&mut self, data: &[u8]) {
        // What would be overwritten by the same call need not be written.
        let skipped = data.len().saturating_sub(CAPACITY);
        self.tail += skipped as u64;
        let data = &data[skipped..];
        self.start = self.start.max((self.tail + data.len() as u64).saturating_sub(CAPACITY as u64));
        self.grow(data.len());
        let at = self.index(self.tail);
        let first = data.len().min(self.bytes.len() - at);
        self.bytes[at..at + first].copy_from_slice(&data[..first]);
        self.bytes[..data.len() - first].copy_from_slice(&data[first..]);
        self.tail += data.len() as u64;
    }

    /// Up to `len` bytes from `from` on, as they lie in memory (the second part is empty unless the ring wraps
    /// between). Bytes that are not here are left out.
    pub fn get(&self, from: u64, len: usize) -> (&[u8], &[u8]) {
        let from = from.clamp(self.start, self.tail);
        let len = usize::try_from(self.tail - from).unwrap_or(usize::MAX).min(len);
        if len == 0 {
            return (&[], &[]);
        }
        let at = self.index(from);
        let first = len.min(self.bytes.len() - at);
        (&self.bytes[at..at + first], &self.bytes[..len - first])
    }

    /// The same bytes in one piece.
    pub fn copy(&self, from: u64, len: usize) -> Vec<u8> {
        let (a, b) = self.get(from, len);
        [a, b].concat()
    }

    fn grow(&mut self, more: usize) {
        let kept = usize::try_from(self.tail.saturating_sub(self.start)).unwrap_or(CAPACITY);
        let need = (kept + more).clamp(FIRST, CAPACITY).next_power_of_two();
        if need <= self.bytes.len() {
            return;
        }
        let mut bytes = vec![0; need];
        for (offset, byte) in (self.start..).zip(self.copy(self.start, kept)) {
            bytes[usize::try_from(offset % need as u64).unwrap_or(0)] = byte;
        }
        self.bytes = bytes;
    }

    fn index(&self, offset: u64) -> usize {
        // The remainder is smaller than a length, so it fits.
        usize::try_from(offset % self.bytes.len() as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_the_last_bytes_under_their_offsets(sizes in proptest::collection::vec(0usize..200_000, 0..30)) {
            let mut ring = Ring::default();
            let mut all = Vec::new();
            for (i, size) in sizes.into_iter().enumerate() {
                let data: Vec<u8> = (0..size).map(|n| (n * 7 + i) as u8).collect();
                ring.push(&data);
                all.extend(data);
                prop_assert_eq!(ring.tail(), all.len() as u64);
                prop_assert_eq!(ring.start(), all.len().saturating_sub(CAPACITY) as u64);
                prop_assert_eq!(ring.copy(ring.start(), usize::MAX), &all[ring.start() as usize..]);
            }
        }
    }

    #[test]
    fn a_prompt_costs_little() {
        let mut ring = Ring::default();
        ring.push(b"root@node1:~# ");
        assert_eq!(ring.bytes.len(), FIRST);
        assert_eq!(ring.copy(5, 5), b"node1");
        assert_eq!(ring.copy(100, 5), b"");
    }
}
