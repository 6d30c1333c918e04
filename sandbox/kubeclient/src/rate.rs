//! Waiting times and token buckets, as client-go has them. Called by the reflector, the queue and the recorder.

use std::time::Duration;

use tokio::time::Instant;

/// Times between retries that double up to a limit, each spread by up to half.
#[derive(Debug)]
pub(crate) struct Backoff {
    from: Duration,
    to: Duration,
    next: Duration,
    state: u64,
}

impl Backoff {
    pub(crate) fn new(from: Duration, to: Duration) -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self { from, to, next: from, state: RandomState::new().hash_one(0u8) | 1 }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.to);
        wait + wait.mul_f64(f64::from(self.random(1000)) / 2000.0)
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.from;
    }

    /// A number below `limit` (xorshift; good enough to spread load, and no more than that).
    pub(crate) fn random(&mut self, limit: u32) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        u32::try_from(self.state >> 33).unwrap_or(0) % limit.max(1)
    }
}

/// Tokens that come back at a steady rate (golang.org/x/time/rate.Limiter).
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self { per_second, burst, tokens: burst, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.at = now;
    }

    /// Takes a token if there is one.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    /// Takes a token, if need be one of the future; how long it is until then.
    pub(crate) fn reserve(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.tokens / self.per_second)
        }
    }
}
