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
        other => {
            let text = other.to_string();
            format!(
                "error parsing regexp: {}",
                text.lines().last().unwrap_or_default().trim_start_matches("error: ")
            )
        }
    })?;
    if kept.len() >= MOST_KEPT {
        kept.clear();
    }
    kept.insert(pattern.into(), regex.clone());
    Ok(regex)
}

/// Whether an expression is wrong for Go, too. Go takes some that we do not: `{` that opens no count, for one.
pub(crate) fn is_wrong(pattern: &str) -> bool {
    let Err(error) = compiled(pattern) else { return false };
    let sure =
        ["unclosed group", "unopened group", "unclosed character class", "look-around", "backreferences"];
    sure.iter().any(|one| error.contains(one))
        || error.contains("repetition operator missing") && !pattern.contains('{')
}
