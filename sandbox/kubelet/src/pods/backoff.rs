//! Growing delays: client-go's `flowcontrol.Backoff`, which the kubelet uses for containers that crash and images that can't be pulled.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// Shortest delay (`backOffPeriod`).
pub const FIRST: Duration = Duration::from_secs(10);
/// Longest delay (`MaxContainerBackOff`, `imageBackOffPeriod`).
pub const LONGEST: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: Duration,
    updated: SystemTime,
}

/// Delays by what is delayed.
#[derive(Debug, Default)]
pub struct Backoff {
    entries: HashMap<String, Entry>,
}

impl Backoff {
    /// How long is still to wait, if the last attempt ended at `ended`; none if it is time.
    pub fn wait(&self, key: &str, ended: SystemTime, now: SystemTime) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        if expired(ended, entry.updated) {
            return None;
        }
        let due = ended + entry.delay;
        due.duration_since(now).ok().filter(|left| !left.is_zero())
    }

    /// The same, since the last attempt was noted.
    pub fn wait_since_update(&self, key: &str, now: SystemTime) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        self.wait(key, entry.updated, now)
    }

    /// The delay that holds now.
    pub fn delay(&self, key: &str) -> Duration {
        self.entries.get(key).map_or(Duration::ZERO, |entry| entry.delay)
    }

    /// An attempt is made: the next delay is twice as long, unless the thing was well for long.
    pub fn next(&mut self, key: &str, ended: SystemTime, now: SystemTime) {
        let delay = match self.entries.get(key) {
            Some(entry) if !expired(ended, entry.updated) => (entry.delay * 2).min(LONGEST),
            _ => FIRST,
        };
        self.entries.insert(key.to_owned(), Entry { delay, updated: now });
    }
}

/// Well for twice the longest delay: all is forgotten.
fn expired(event: SystemTime, updated: SystemTime) -> bool {
    event.duration_since(updated).is_ok_and(|since| since > LONGEST * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_five_minutes_and_are_forgotten_after_ten() {
        let mut backoff = Backoff::default();
        let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(backoff.wait("a", now, now), None);
        let mut delays = Vec::new();
        for _ in 0..7 {
            backoff.next("a", now, now);
            delays.push(backoff.delay("a").as_secs());
            assert_eq!(backoff.wait("a", now, now), Some(backoff.delay("a")));
            now += backoff.delay("a");
            assert_eq!(backoff.wait_since_update("a", now), None);
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        now += Duration::from_secs(601);
        backoff.next("a", now, now);
        assert_eq!(backoff.delay("a"), FIRST);
    }
}
