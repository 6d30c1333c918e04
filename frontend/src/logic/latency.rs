//! The delay shown beside the connection's dot: the median of the last ten pings. Called by the store.

/// How many pings count.
const KEPT: usize = 10;

/// The last measured delays.
#[derive(Debug, Default)]
pub struct Latency(Vec<f64>);

impl Latency {
    /// Takes one more delay in milliseconds and tells the median.
    pub fn add(&mut self, millis: f64) -> f64 {
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push(millis);
        let mut sorted: Vec<f64> = Vec::with_capacity(KEPT);
        for &kept in &self.0 {
            sorted.insert(sorted.partition_point(|other| *other < kept), kept);
        }
        sorted[sorted.len() / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_ping_does_not_show() {
        let mut latency = Latency::default();
        for _ in 0..5 {
            latency.add(3.0);
        }
        assert_eq!(latency.add(900.0), 3.0);
    }

    #[test]
    fn only_the_last_ten_count() {
        let mut latency = Latency::default();
        for _ in 0..10 {
            latency.add(100.0);
        }
        let last = (0..10).map(|_| latency.add(1.0)).last();
        assert_eq!(last, Some(1.0));
    }
}
