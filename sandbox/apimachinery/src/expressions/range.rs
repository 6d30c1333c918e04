//! Costs and sizes: from least to most, with an end at the largest number (`CostEstimate`, `SizeEstimate`).

/// What reading through a text costs, for each character.
const TRAVERSE: f64 = 0.1;

/// From least to most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    /// Of which nothing is known.
    pub const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    pub fn fixed(number: u64) -> Self {
        Self { min: number, max: number }
    }

    pub fn add(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub fn multiply(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// Rounded up.
    pub fn times(self, factor: f64) -> Self {
        Self { min: times(self.min, factor), max: times(self.max, factor) }
    }

    pub fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// What reading through a text of this size costs.
    pub fn traverse(self) -> Self {
        self.times(TRAVERSE)
    }
}

fn times(number: u64, factor: f64) -> u64 {
    let number = number as f64;
    if number > 0.0 && factor > 0.0 && number > u64::MAX as f64 / factor {
        return u64::MAX;
    }
    // What is beyond the largest number becomes it.
    (number * factor).ceil() as u64
}
