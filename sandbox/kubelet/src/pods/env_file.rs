//! Files of variables in a pod's volumes, which other containers of the pod have written (`valueFrom.fileKeyRef`, `pkg/util/env`): a
//! small part of the shell's language, in which every value stands in single quotes.

/// Longest line (Go's `bufio.MaxScanTokenSize`).
const MAX_LINE: usize = 64 << 10;

/// What is wrong with such a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    /// A line is too long.
    #[error("bufio.Scanner: token too long")]
    TooLong,
    /// A line is no assignment.
    #[error("invalid environment variable format at line {line}: {why}")]
    Format {
        /// Which, from one.
        line: usize,
        /// Why not.
        why: &'static str,
    },
    /// The file ends in a value.
    #[error("invalid environment variable format starting at line {line}: unclosed single quote")]
    Unclosed {
        /// Where the value begins.
        line: usize,
    },
}

/// The value that the file assigns to a variable first; empty if it has none. What stands after it is not looked at.
pub fn value(text: &str, key: &str) -> Result<String, EnvFileError> {
    let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
    while let Some((number, line)) = lines.next() {
        let bad = |why| Err(EnvFileError::Format { line: number, why });
        if line.len() >= MAX_LINE {
            return Err(EnvFileError::TooLong);
        }
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, rest)) = line.split_once('=') else { return bad("missing '='") };
        if name.trim_end_matches(BLANK).is_empty() {
            return bad("empty variable name");
        }
        if name.ends_with(BLANK) {
            return bad("whitespace before '=' is not allowed");
        }
        // As in a shell: nothing is assigned.
        if rest.starts_with(BLANK) {
            if name == key {
                return Ok(String::new());
            }
            continue;
        }
        let Some(rest) = rest.strip_prefix('\'') else {
            return bad("value must be enclosed in single quotes");
        };
        let (value, end, after) = quoted(rest, number, &mut lines)?;
        let after = after.trim_start_matches(BLANK);
        if !after.is_empty() && !after.starts_with('#') {
            return Err(EnvFileError::Format { line: end, why: "unexpected content after closing quote" });
        }
        if name == key {
            return Ok(value);
        }
    }
    Ok(String::new())
}

const BLANK: [char; 2] = [' ', '\t'];

/// What stands in quotes up to the closing one, maybe over several lines; the line of this one, and what follows it there.
fn quoted<'a>(
    begun: &'a str,
    line: usize,
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
) -> Result<(String, usize, &'a str), EnvFileError> {
    let (mut value, mut rest, mut number) = (String::new(), begun, line);
    loop {
        if let Some((last, after)) = rest.split_once('\'') {
            value.push_str(last);
            return Ok((value, number, after));
        }
        value.push_str(rest);
        value.push('\n');
        (number, rest) = lines.next().ok_or(EnvFileError::Unclosed { line })?;
        if rest.len() >= MAX_LINE {
            return Err(EnvFileError::TooLong);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_single_quotes() {
        let text = "# by an init container\n\n  HOST='db.internal' # a comment\nMOTD='two\nlines $HOME\\n'\nNONE= 'x'\nHOST='later'\n";
        for (key, wanted) in
            [("HOST", "db.internal"), ("MOTD", "two\nlines $HOME\\n"), ("NONE", ""), ("MISSING", "")]
        {
            assert_eq!(value(text, key).unwrap(), wanted, "{key}");
        }
    }

    #[test]
    fn other_files_are_refused_in_upstreams_words() {
        for (text, said) in [
            ("A=1", "at line 1: value must be enclosed in single quotes"),
            ("#\nA = '1'", "at line 2: whitespace before '=' is not allowed"),
            ("A", "at line 1: missing '='"),
            ("='1'", "at line 1: empty variable name"),
            ("A='1\n2'3", "at line 2: unexpected content after closing quote"),
            ("A='1\n2", "starting at line 1: unclosed single quote"),
        ] {
            let error = value(text, "B").unwrap_err().to_string();
            assert_eq!(error, format!("invalid environment variable format {said}"));
        }
        assert_eq!(value(&"A".repeat(MAX_LINE), "A"), Err(EnvFileError::TooLong));
    }
}
