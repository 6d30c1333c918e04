//! What is wrong with a Dockerfile, in Docker's words.

use std::ops::RangeInclusive;

/// A Dockerfile can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// As Docker prints it: errors of an instruction begin with `dockerfile parse error on line 3: `, those of the text (an unended
    /// here-document) do not.
    pub message: String,
    /// The lines in question, from 1.
    pub lines: RangeInclusive<usize>,
    /// Where it was found.
    pub(crate) of: Of,
}

/// Where an error was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// There is no text.
    Nothing,
    /// When the text was cut into words.
    Text,
    /// When the words were understood.
    Instruction,
}

impl ParseError {
    pub(super) fn new(message: impl Into<String>, lines: RangeInclusive<usize>) -> Self {
        Self { message: message.into(), lines, of: Of::Instruction }
    }

    pub(super) fn text(message: impl Into<String>, lines: RangeInclusive<usize>) -> Self {
        Self { of: Of::Text, ..Self::new(message, lines) }
    }

    /// As the classic builder says it, for a Dockerfile of this name.
    pub fn of_classic(&self, name: &str) -> String {
        match self.of {
            Of::Nothing => format!("the Dockerfile ({name}) cannot be empty"),
            Of::Text => format!("failed to parse {name}: {}", self.message),
            Of::Instruction => self.message.clone(),
        }
    }
}

/// Appends ` (did you mean X?)` if one of `options` is near, as BuildKit does.
pub fn suggest<S: AsRef<str>>(message: String, value: &str, options: &[S], case_sensitive: bool) -> String {
    let fold = |s: &str| if case_sensitive { s.to_owned() } else { s.to_lowercase() };
    let wanted = fold(value);
    let mut best: Option<(usize, String)> = None;
    // A long word is near to none of them, and the distance costs time.
    if wanted.len() > 64 {
        return message;
    }
    for option in options {
        let option = fold(option.as_ref());
        if option == wanted {
            return message;
        }
        let distance = distance(&wanted, &option);
        if distance < best.as_ref().map_or(3, |(d, _)| *d) {
            best = Some((distance, option));
        }
    }
    match best {
        Some((_, m)) if !case_sensitive && value == value.to_uppercase() && value != value.to_lowercase() => {
            format!("{message} (did you mean {}?)", m.to_uppercase())
        }
        Some((_, m)) => format!("{message} (did you mean {m}?)"),
        None => message,
    }
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
