//! How the arguments of an instruction are cut into words: each kind of instruction has its own way (BuildKit's
//! frontend/dockerfile/parser/{split_command,line_parsers}.go).

use super::go::quote;

const NOT_STRINGS: &str = "when using JSON array syntax, arrays must be comprised of strings only";

fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Name, flags and the rest of a line.
pub(super) fn split_command(line: &str, escape: char) -> (String, Vec<String>, String) {
    let line = line.trim();
    match line.split_once(is_blank) {
        Some((name, rest)) => {
            let (flags, rest) = flags(rest, escape);
            (name.to_owned(), flags, rest)
        }
        None => (line.to_owned(), Vec::new(), String::new()),
    }
}

/// Leading `--…` words, without their quotes.
fn flags(line: &str, escape: char) -> (Vec<String>, String) {
    let (mut flags, mut rest) = (Vec::new(), line);
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest.to_owned());
        }
        let (mut word, mut quote, mut quoted) = (String::new(), None, false);
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            if quote == Some(c) {
                quote = None;
            } else if c == escape {
                word.extend(chars.next().map(|(_, c)| c));
            } else if quote.is_some() {
                word.push(c);
            } else if c.is_whitespace() {
                end = at;
                break;
            } else if c == '\'' || c == '"' {
                (quote, quoted) = (Some(c), true);
            } else {
                word.push(c);
            }
        }
        rest = &rest[end..];
        if word == "--" {
            return (flags, rest.to_owned());
        }
        if quoted || !word.is_empty() {
            flags.push(word);
        }
    }
}

/// Words with their quotes and escapes, which are taken off when variables are expanded.
pub(super) fn words(rest: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = rest.chars().peekable();
    let (mut word, mut quote, mut quoted) = (String::new(), None, false);
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if quoted || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                quoted = false;
                continue;
            }
            None if c == '\'' || c == '"' => (quote, quoted) = (Some(c), true),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        // Nothing can be escaped within single quotes, and an escape at the end is dropped.
        if c == escape && quote != Some('\'') {
            let Some(escaped) = chars.next() else { continue };
            word.push(c);
            word.push(escaped);
        } else {
            word.push(c);
        }
    }
    if quoted || !word.is_empty() {
        words.push(word);
    }
    words
}

/// `name=value …` or the old `name value`, as (name, value, `=` or nothing) one after the other.
pub(super) fn name_values(rest: &str, instruction: &str, escape: char) -> Result<Vec<String>, String> {
    let words = words(rest, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let (name, value) =
            rest.split_once(is_blank).ok_or_else(|| format!("{instruction} must have two arguments"))?;
        return Ok(vec![name.to_owned(), value.trim_start_matches(is_blank).to_owned(), String::new()]);
    }
    let mut result = Vec::new();
    for word in &words {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            format!("Syntax error - can't find = in {}. Must be of the form: name=value", quote(word))
        })?;
        result.extend([name.to_owned(), value.to_owned(), "=".to_owned()]);
    }
    Ok(result)
}

/// Words between blanks; quotes mean nothing.
pub(super) fn whitespace(rest: &str) -> Vec<String> {
    if rest.is_empty() {
        return Vec::new();
    }
    let mut words = Vec::new();
    let mut rest = rest;
    while let Some((word, after)) = rest.split_once(is_blank) {
        words.push(word.to_owned());
        rest = after.trim_start_matches(is_blank);
    }
    words.push(rest.to_owned());
    words
}

/// A JSON array of strings. `Ok(None)`: not JSON, so it is to be read otherwise.
fn json(rest: &str) -> Result<Option<Vec<String>>, String> {
    let rest = rest.trim_start();
    if !rest.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else { return Ok(None) };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(NOT_STRINGS.to_owned()),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

/// A JSON array, or all of the rest as one word.
pub(super) fn json_or_text(rest: &str) -> Result<(Vec<String>, bool), String> {
    if rest.is_empty() {
        return Ok((Vec::new(), false));
    }
    Ok(match json(rest)? {
        Some(list) => (list, true),
        None => (vec![rest.to_owned()], false),
    })
}

/// A JSON array, or words between blanks.
pub(super) fn json_or_list(rest: &str) -> Result<(Vec<String>, bool), String> {
    Ok(match json(rest)? {
        Some(list) => (list, true),
        None => (whitespace(rest), false),
    })
}

/// A word, then as [`json_or_text`].
pub(super) fn health(rest: &str) -> Result<(Vec<String>, bool), String> {
    if rest.is_empty() {
        return Ok((Vec::new(), false));
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (args, is_json) = json_or_text(command.trim_start())?;
    Ok((std::iter::once(kind.to_owned()).chain(args).collect(), is_json))
}
