//! Sets of completion indexes, and how a status writes them: `0-2,5`. Pure.

use std::collections::BTreeSet;

/// Reads `0-2,5`; indexes from `limit` on, and what is no index, are left out. An interval costs as much as it holds, so the limit bounds it.
pub fn parse(text: &str, limit: i32) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<i32>(), to.parse::<i32>()) {
            all.extend(from.max(0)..=to.min(limit.saturating_sub(1)));
        }
    }
    all
}

/// Writes `0-2,5`; two that follow each other are written as `0,1`, as upstream does.
pub fn format(all: &BTreeSet<i32>) -> String {
    let mut parts: Vec<(i32, i32)> = Vec::new();
    for index in all {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let part = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After upstream's `TestCalculateSucceededIndexes` and `TestParseIndexesFromString`.
    #[test]
    fn written_and_read() {
        for (text, indexes) in [
            ("", vec![]),
            ("3", vec![3]),
            ("3,4", vec![3, 4]),
            ("0-2,5", vec![0, 1, 2, 5]),
            ("1-3,5,8,9", vec![1, 2, 3, 5, 8, 9]),
        ] {
            let set: BTreeSet<i32> = indexes.into_iter().collect();
            assert_eq!(format(&set), text);
            assert_eq!(parse(text, 10), set);
        }
        assert_eq!(parse("2-2000000000", 5), [2, 3, 4].into());
        assert_eq!(parse("x,-1,1-", 5), BTreeSet::new());
    }
}
