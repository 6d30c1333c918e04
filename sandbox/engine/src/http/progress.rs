//! Progress of a transfer as Docker words it: the numbers for programs (`progressDetail`) and the bar for people (`progress`).

use serde_json::{Value, json};

/// Where a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes so far.
    pub current: u64,
    /// Bytes in all; 0 if nobody knows.
    pub total: u64,
}

impl Progress {
    /// The `progressDetail` of a line. Zeros are left out, as Docker does.
    pub fn detail(self) -> Value {
        let mut detail = serde_json::Map::new();
        if self.current > 0 {
            detail.insert("current".to_owned(), json!(self.current));
        }
        if self.total > 0 {
            detail.insert("total".to_owned(), json!(self.total));
        }
        Value::Object(detail)
    }

    /// The bar: `[==>      ]  1.2MB/5MB`. Empty if there is nothing to tell.
    pub fn bar(self) -> String {
        let Self { current, total } = self;
        if current == 0 && total == 0 {
            return String::new();
        }
        let done = human_size(current);
        if total == 0 {
            return format!("{done:>8}");
        }
        let filled = (u128::from(current) * 100 / u128::from(total) / 2).min(50) as usize;
        let bar = format!("[{}>{}] ", "=".repeat(filled), " ".repeat(50 - filled));
        // More than announced: the total is wrong, so it is not shown.
        if current > total {
            format!("{bar}{done:>8}")
        } else {
            format!("{bar}{done:>8}/{}", human_size(total))
        }
    }
}

/// A size with four digits and a decimal unit: `19.97kB`, `1.984MB`.
fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit < UNITS.len() - 1 {
        size /= 1000.0;
        unit += 1;
    }
    let whole_digits = if size >= 100.0 {
        3
    } else if size >= 10.0 {
        2
    } else {
        1
    };
    let text = format!("{size:.*}", 4 - whole_digits);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{}", if text.is_empty() { "0" } else { text }, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (512, "512B"),
            (1000, "1kB"),
            (19_968, "19.97kB"),
            (1_984_258, "1.984MB"),
            (2_129_920, "2.13MB"),
            (100_000_000, "100MB"),
            (999_999, "1000kB"),
            (u64::MAX, "18.45EB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn bars_are_those_of_docker() {
        let bar = |current, total| Progress { current, total }.bar();
        // Recorded from a push.
        assert_eq!(
            bar(19_968, 1_984_258),
            "[>                                                  ]  19.97kB/1.984MB"
        );
        assert_eq!(
            bar(2_129_920, 1_984_258),
            "[==================================================>]   2.13MB"
        );
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(512, 0), "    512B");
        assert_eq!(Progress { current: 0, total: 5 }.detail().to_string(), r#"{"total":5}"#);
    }
}
