//! Signals by name and number, as clients give them.

use crate::error::{Error, Result};
use nix::sys::signal::Signal;
use std::str::FromStr;

/// Largest number of a real-time signal.
const MAX: i32 = 64;

/// `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`. Docker's words for what is none.
pub fn parse(text: &str) -> Result<i32> {
    let bad = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=MAX).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = bare.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().map_err(|_| bad())? };
        return if (0..=30).contains(&offset) { Ok(34 + offset) } else { Err(bad()) };
    }
    if let Some(offset) = bare.strip_prefix("RTMAX") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().map_err(|_| bad())? };
        return if (-30..=0).contains(&offset) { Ok(MAX + offset) } else { Err(bad()) };
    }
    let name = match bare {
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    Signal::from_str(&format!("SIG{name}")).map(|s| s as i32).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in
            [("9", 9), ("kill", 9), ("SIGTERM", 15), ("RTMIN+3", 37), ("SIGRTMAX", 64), ("CLD", 17)]
        {
            assert_eq!(parse(text).unwrap(), number);
        }
        for bad in ["0", "65", "-1", "", "SIGNO", "RTMIN+99"] {
            assert_eq!(parse(bad).unwrap_err().message, format!("invalid signal: {bad}"));
        }
    }
}
