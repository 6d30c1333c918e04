//! How long to wait before the next attempt to connect: 0.25 s, doubled up to 8 s, each ±30 % so that a class of
//! thirty pages does not come back in one instant. Called by `net::link`.

use super::units::within;

/// First wait, in milliseconds.
const FIRST: f64 = 250.0;
/// Longest wait before the spread is added, in milliseconds.
const LONGEST: f64 = 8000.0;
/// Spread to either side.
const SPREAD: f64 = 0.3;

/// Counts attempts that failed in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Milliseconds to wait now; `random` is in 0..1.
    pub fn next(&mut self, random: f64) -> u32 {
        let base = (FIRST * 2f64.powi(self.failures.min(16) as i32)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let spread = 1.0 + SPREAD * (within(random, 0.0, 1.0) * 2.0 - 1.0);
        (base * spread) as u32
    }

    /// A connection works again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_eight_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..7).map(|_| backoff.next(0.5)).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000]);
        backoff.reset();
        assert_eq!(backoff.next(0.5), 250);
    }

    #[test]
    fn waits_are_spread_by_thirty_percent() {
        assert_eq!(Backoff::default().next(0.0), 175);
        assert_eq!(Backoff::default().next(1.0), 325);
    }
}
