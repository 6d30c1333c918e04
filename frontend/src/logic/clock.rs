//! Words and warning levels for the time that a session has left. Called by the countdown of the top bar.

/// How urgent the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// More than 15 minutes.
    Calm,
    /// At most 15 minutes.
    Soon,
    /// At most 5 minutes.
    Now,
}

impl Urgency {
    /// The level for so many seconds left.
    pub fn of(seconds: u64) -> Self {
        match seconds {
            0..=300 => Self::Now,
            301..=900 => Self::Soon,
            _ => Self::Calm,
        }
    }

    /// The value of the countdown's `data-urgency` attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Soon => "soon",
            Self::Now => "now",
        }
    }
}

/// `1:59:03`, or `04:59` in the last hour.
pub fn digits(seconds: u64) -> String {
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m:02}:{s:02}") }
}

/// `2 hours`, `1 hour 30 minutes`, `14 minutes`, `30 seconds`: for sentences.
pub fn words(seconds: u64) -> String {
    let plural = |n: u64, unit: &str| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => plural(seconds, "second"),
        (0, m) => plural(m, "minute"),
        (h, 0) => plural(h, "hour"),
        (h, m) => format!("{} {}", plural(h, "hour"), plural(m, "minute")),
    }
}

/// The sentence to say when the time left has just gone from `before` to `now`, if one is due.
pub fn warning(before: u64, now: u64) -> Option<String> {
    [900, 300, 60].into_iter().find(|&at| before > at && now <= at).map(|_| {
        format!("This session ends in {}.", words(if now > 60 { now.div_ceil(60) * 60 } else { now }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_show_hours_only_when_there_are_any() {
        assert_eq!(digits(7143), "1:59:03");
        assert_eq!(digits(299), "04:59");
        assert_eq!(digits(0), "00:00");
    }

    #[test]
    fn colours_change_at_fifteen_and_five_minutes() {
        assert_eq!(
            [901, 900, 301, 300].map(Urgency::of),
            [Urgency::Calm, Urgency::Soon, Urgency::Soon, Urgency::Now]
        );
    }

    #[test]
    fn each_warning_is_said_once() {
        assert_eq!(warning(901, 900).as_deref(), Some("This session ends in 15 minutes."));
        assert_eq!(warning(900, 899), None);
        assert_eq!(warning(310, 299).as_deref(), Some("This session ends in 5 minutes."));
        assert_eq!(warning(61, 60).as_deref(), Some("This session ends in 1 minute."));
        // A page that slept through two of them says the one that is true now.
        assert_eq!(warning(2000, 50).as_deref(), Some("This session ends in 50 seconds."));
        // So does one that is opened late.
        assert_eq!(warning(u64::MAX, 590).as_deref(), Some("This session ends in 10 minutes."));
        assert_eq!(warning(u64::MAX, 901), None);
    }

    #[test]
    fn words_are_sentences_parts() {
        assert_eq!(words(7200), "2 hours");
        assert_eq!(words(5400), "1 hour 30 minutes");
        assert_eq!(words(1), "1 second");
    }
}
