//! Regular expressions of schemas, compiled when first needed and kept for the process: schemas hold texts only. A pattern costs at most
//! so much to compile.

use regex::{Regex, RegexBuilder};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Most bytes that a compiled expression may take.
const MOST_SIZE: usize = 1 << 20;
/// Most expressions that are kept.
const MOST_KEPT: usize = 64;

/// Compiles an expression, or gives the one compiled before.
pub(crate) fn compiled(pattern: &str) -> Result<Regex, String> {
    static KEPT: OnceLock<Mutex<HashMap<String, Regex>>> = OnceLock::new();
    let kept = KEPT.get_or_init(Mutex::default);
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(pattern) {
        return Ok(known.clone());
    }
    let regex = RegexBuilder::new(pattern).size_limit(MOST_SIZE).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "error parsing regexp: expression too large".to_string(),
        other => as_go_says(pattern, &other.to_string()),
    })?;
    if kept.len() >= MOST_KEPT {
        kept.clear();
    }
    kept.insert(pattern.into(), regex.clone());
    Ok(regex)
}

/// What Go says of an expression (`regexp/syntax`) of which our crate says `why`. What only one of them minds stays in the crate's words.
pub(crate) fn as_go_says(pattern: &str, why: &str) -> String {
    let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
    // The crate shows an expression of one line four columns to the right, and a caret below.
    let caret = why.lines().find(|line| line.trim_start().starts_with('^'));
    let from = caret.and_then(|line| line.find('^')?.checked_sub(4)).unwrap_or(0);
    let width = caret.map_or(1, |line| line.trim().chars().count());
    let rest = || pattern.chars().skip(from).collect::<String>();
    let marked = || pattern.chars().skip(from).take(width).collect::<String>();
    let (what, part) = match last {
        "unclosed character class" => ("missing closing ]", rest()),
        "unclosed group" => ("missing closing )", pattern.to_owned()),
        "unopened group" => ("unexpected )", pattern.to_owned()),
        "repetition operator missing expression" => ("missing argument to repetition operator", marked()),
        "unrecognized escape sequence" | "backreferences are not supported" => {
            ("invalid escape sequence", marked())
        }
        "incomplete escape sequence, reached end of pattern prematurely" => {
            ("trailing backslash at end of expression", String::new())
        }
        _ if last.starts_with("invalid character class range") => ("invalid character class range", marked()),
        _ if last.starts_with("look-around") => ("invalid or unsupported Perl syntax", marked()),
        _ => return said(last),
    };
    format!("error parsing regexp: {what}: `{part}`")
}

fn said(last: &str) -> String {
    format!("error parsing regexp: {last}")
}

/// Whether an expression is wrong for Go, too. Go takes some that we do not: `{` that opens no count, for one.
pub(crate) fn is_wrong(pattern: &str) -> bool {
    let Err(error) = RegexBuilder::new(pattern).size_limit(MOST_SIZE).build() else { return false };
    let error = error.to_string();
    let sure =
        ["unclosed group", "unopened group", "unclosed character class", "look-around", "backreferences"];
    sure.iter().any(|one| error.contains(one))
        || error.contains("repetition operator missing") && !pattern.contains('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_said_as_go_says_them() {
        for (pattern, fault) in [
            ("[", "missing closing ]: `[`"),
            ("ab[c", "missing closing ]: `[c`"),
            ("a(b", "missing closing ): `a(b`"),
            ("ab)", "unexpected ): `ab)`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("a(?=b)", "invalid or unsupported Perl syntax: `(?=`"),
            ("\\", "trailing backslash at end of expression: ``"),
        ] {
            assert_eq!(compiled(pattern).unwrap_err(), format!("error parsing regexp: {fault}"), "{pattern}");
        }
    }
}
