//! What was seen already. Most lists are short: then looking at all of it costs less than hashing, and nothing is allocated.

use smallvec::SmallVec;
use std::collections::HashSet;

/// From here on it is a set.
const FEW: usize = 8;

/// Texts that were seen.
#[derive(Debug, Clone, Default)]
pub struct Seen<'a> {
    few: SmallVec<[&'a str; FEW]>,
    more: HashSet<&'a str>,
}

impl<'a> Seen<'a> {
    /// Adds a text; false if it was there.
    pub fn insert(&mut self, text: &'a str) -> bool {
        if self.contains(text) {
            return false;
        }
        if self.few.len() < FEW {
            self.few.push(text)
        } else {
            self.more.insert(text);
        }
        true
    }

    /// Whether a text is there.
    pub fn contains(&self, text: &str) -> bool {
        self.few.contains(&text) || self.more.contains(text)
    }
}

impl<'a> FromIterator<&'a str> for Seen<'a> {
    fn from_iter<I: IntoIterator<Item = &'a str>>(all: I) -> Self {
        let mut seen = Self::default();
        all.into_iter().for_each(|text| {
            seen.insert(text);
        });
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_new_once() {
        let texts: Vec<String> = (0..3 * FEW).map(|number| number.to_string()).collect();
        let mut seen = Seen::default();
        for text in &texts {
            assert!(!seen.contains(text) && seen.insert(text) && seen.contains(text) && !seen.insert(text));
        }
        assert!(texts.iter().all(|text| seen.contains(text)) && !seen.contains("x"));
        assert!(["a", "b"].into_iter().collect::<Seen<'_>>().contains("b"));
    }
}
