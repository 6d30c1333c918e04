//! Words of a Dockerfile: quotes, escapes and `$variables`, as BuildKit's shell lexer has them (frontend/dockerfile/shell).
//!
//! Where BuildKit recurses or grows without end, this has limits: 100 nested substitutions, [`Lexer::max`] bytes of result.

use crate::glob::Glob;
use std::collections::{BTreeMap, BTreeSet};

/// Substitutions within substitutions (`${a:-${b:-…}}`).
const MAX_DEPTH: usize = 100;
/// Bytes of an expanded word: a few lines of `ARG a=$a$a` would otherwise fill the memory. (A variable of more than 128 KiB no
/// program can be started with.)
const MAX_SIZE: usize = 1 << 20;
/// Characters of a value in which `${v/p/r}` searches: its time grows with their square.
const MAX_SEARCHED: usize = 16 << 10;

/// Variables that are set.
pub type Variables = BTreeMap<String, String>;

/// How words are read.
#[derive(Debug, Clone)]
pub struct Lexer {
    /// `\`, or the backtick of `# escape=`.
    pub escape: char,
    /// Quotes stay in the result.
    pub raw_quotes: bool,
    /// Escapes stay in the result.
    pub raw_escapes: bool,
    /// Quotes are characters like others.
    pub skip_quotes: bool,
    /// What is not set stays as it is written.
    pub skip_unset: bool,
    /// Bytes of a result.
    pub max: usize,
}

impl Lexer {
    /// The usual reading: quotes and escapes are processed.
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            skip_quotes: false,
            skip_unset: false,
            max: MAX_SIZE,
        }
    }

    /// Expands variables and removes quotes.
    ///
    /// # Errors
    /// BuildKit's text, `failed to process "…": …`.
    pub fn word(&self, source: &str, variables: &Variables) -> Result<String, String> {
        self.process(source, variables).map(|(word, _)| word)
    }

    /// As [`Self::word`], then split at spaces that are not quoted.
    ///
    /// # Errors
    /// As [`Self::word`].
    pub fn words(&self, source: &str, variables: &Variables) -> Result<Vec<String>, String> {
        self.process(source, variables).map(|(_, words)| words)
    }

    /// As [`Self::word`], and which variables were looked up: for checks of a Dockerfile.
    pub fn look(&self, source: &str, variables: &Variables) -> Looked {
        let mut reader = self.reader(source, variables);
        let word = reader.until(None).map(|(word, _)| word).unwrap_or_default();
        Looked { word, set: reader.set, unset: reader.unset }
    }

    fn reader<'a>(&'a self, source: &str, variables: &'a Variables) -> Reader<'a> {
        Reader {
            lexer: self,
            raw_escapes: self.raw_escapes,
            chars: source.chars().collect(),
            at: 0,
            variables,
            depth: 0,
            set: BTreeSet::new(),
            unset: BTreeSet::new(),
        }
    }

    fn process(&self, source: &str, variables: &Variables) -> Result<(String, Vec<String>), String> {
        let mut reader = self.reader(source, variables);
        reader.until(None).map_err(|e| format!("failed to process {}: {e}", super::go::quote(source)))
    }
}

/// `NAME=value` lines as variables.
pub fn variables<S: AsRef<str>>(env: &[S]) -> Variables {
    let pair = |e: &S| {
        let (key, value) = e.as_ref().split_once('=').unwrap_or((e.as_ref(), ""));
        (key.to_owned(), value.to_owned())
    };
    env.iter().map(pair).collect()
}

/// What a word says, and what of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// The word; empty if it can't be expanded.
    pub word: String,
    /// Variables in it that are set.
    pub set: BTreeSet<String>,
    /// Variables in it that are not.
    pub unset: BTreeSet<String>,
}

struct Reader<'a> {
    lexer: &'a Lexer,
    raw_escapes: bool,
    chars: Vec<char>,
    at: usize,
    variables: &'a Variables,
    depth: usize,
    set: BTreeSet<String>,
    unset: BTreeSet<String>,
}

#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
    within: bool,
}

impl Words {
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.push_raw(c);
        } else if self.within && !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
            self.within = false;
        }
    }

    fn push_raw(&mut self, c: char) {
        self.current.push(c);
        self.within = true;
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    /// Reads to `stop` (which is taken) or, without one, to the end.
    fn until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), String> {
        let (mut result, mut words) = (String::new(), Words::default());
        while let Some(c) = self.peek() {
            if result.len() > self.lexer.max {
                return Err("expanded value is too large".into());
            }
            if stop == Some(c) {
                self.at += 1;
                return Ok((result, words.finish()));
            }
            let special = match c {
                '$' => {
                    let text = self.dollar()?;
                    text.chars().for_each(|c| words.push(c));
                    result.push_str(&text);
                    continue;
                }
                '<' => Some(self.heredoc()),
                '\'' if !self.lexer.skip_quotes => Some(self.single_quoted()?),
                '"' if !self.lexer.skip_quotes => Some(self.double_quoted()?),
                _ => None,
            };
            if let Some(text) = special {
                words.current.push_str(&text);
                words.within = true;
                result.push_str(&text);
                continue;
            }
            self.at += 1;
            if c != self.lexer.escape {
                words.push(c);
                result.push(c);
                continue;
            }
            if self.raw_escapes {
                words.push_raw(c);
                result.push(c);
            }
            // An escape at the end is nothing.
            let Some(escaped) = self.next() else { break };
            words.push_raw(escaped);
            result.push(escaped);
        }
        match stop {
            Some(stop) => Err(format!("unexpected end of statement while looking for matching {stop}")),
            None => Ok((result, words.finish())),
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let mut result = String::new();
        let quote = self.next().filter(|_| self.lexer.raw_quotes);
        result.extend(quote);
        loop {
            match self.next() {
                None => {
                    return Err("unexpected end of statement while looking for matching single-quote".into());
                }
                Some('\'') => {
                    result.extend(quote);
                    return Ok(result);
                }
                Some(c) => result.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let mut result = String::new();
        let quote = self.next().filter(|_| self.lexer.raw_quotes);
        result.extend(quote);
        loop {
            match self.peek() {
                None => {
                    return Err("unexpected end of statement while looking for matching double-quote".into());
                }
                Some('"') => {
                    self.at += 1;
                    result.extend(quote);
                    return Ok(result);
                }
                Some('$') => result.push_str(&self.dollar()?),
                Some(mut c) => {
                    self.at += 1;
                    if c == self.lexer.escape {
                        if self.raw_escapes {
                            result.push(c);
                        }
                        match self.peek() {
                            None => continue,
                            Some(next) if next == '"' || next == '$' || next == self.lexer.escape => {
                                c = next;
                                self.at += 1;
                            }
                            Some(_) => {}
                        }
                    }
                    result.push(c);
                }
            }
            if result.len() > self.lexer.max {
                return Err("expanded value is too large".into());
            }
        }
    }

    fn dollar(&mut self) -> Result<String, String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.get(&name) {
                None if self.lexer.skip_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        match self.peek() {
            None => return Err("syntax error: missing '}'".into()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".into()),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("syntax error: bad substitution".into());
        }
        let result = self.substitution();
        self.depth -= 1;
        result
    }

    /// After `${`.
    fn substitution(&mut self) -> Result<String, String> {
        let name = self.name();
        let Some(c) = self.next() else {
            return Err("unsupported modifier (\u{fffd}) in substitution".into());
        };
        match c {
            '}' => Ok(match self.get(&name) {
                None if self.lexer.skip_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            ':' => {
                let modifier = self.next();
                let text = format!(":{}", modifier.unwrap_or('\u{fffd}'));
                self.modified(&name, modifier.unwrap_or('\u{fffd}'), &text, true)
            }
            '+' | '-' | '?' | '#' | '%' => self.modified(&name, c, &c.to_string(), false),
            '/' => self.replaced(&name),
            c => Err(format!("unsupported modifier ({c}) in substitution")),
        }
    }

    /// Reads to `stop`; at the end of the text the error is `missing`.
    fn part(&mut self, stop: char, raw_escapes: bool, missing: &str) -> Result<String, String> {
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until(Some(stop));
        self.raw_escapes = before;
        result.map(|(text, _)| text).map_err(|e| if self.peek().is_none() { missing.into() } else { e })
    }

    /// `${name:-word}` and so on, after the modifier. `text` is the modifier as written.
    fn modified(
        &mut self,
        name: &str,
        modifier: char,
        text: &str,
        empty_is_unset: bool,
    ) -> Result<String, String> {
        let pattern = matches!(modifier, '#' | '%');
        if empty_is_unset && pattern {
            return Err(format!("unsupported modifier ({text}) in substitution"));
        }
        let word = self.part('}', pattern, "syntax error: missing '}'")?;
        let value = self.get(name);
        if self.lexer.skip_unset && value.is_none() {
            return Ok(format!("${{{name}{text}{word}}}"));
        }
        let present = value.as_deref().is_some_and(|v| !(empty_is_unset && v.is_empty()));
        match modifier {
            '-' => Ok(if present { value.unwrap_or_default() } else { word }),
            '+' => Ok(if present { word } else { String::new() }),
            '?' if present => Ok(value.unwrap_or_default()),
            '?' => {
                let reason =
                    if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                Err(format!("{name}: {}", if word.is_empty() { reason } else { &word }))
            }
            '#' | '%' => trimmed(&word, &value.unwrap_or_default(), modifier),
            _ => Err(format!("unsupported modifier ({text}) in substitution")),
        }
    }

    /// `${name/pattern/replacement}`, after the first slash.
    fn replaced(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let pattern = self.part('/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.part('}', true, "syntax error: missing '}'")?;
        let value = match self.get(name) {
            None if self.lexer.skip_unset => return Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            value => value.unwrap_or_default(),
        };
        let glob =
            Glob::shell(&pattern).map_err(|e| format!("invalid pattern ({pattern}) in substitution: {e}"))?;
        let text: Vec<char> = value.chars().collect();
        if text.len() > MAX_SEARCHED {
            return Err("expanded value is too large".into());
        }
        let (mut result, mut at) = (String::new(), 0);
        while at <= text.len() {
            match glob.prefix(&text[at..], true) {
                Some(0) | None => {
                    result.extend(text.get(at));
                    at += 1;
                }
                Some(length) => {
                    result.push_str(&replacement);
                    at += length;
                    if !all {
                        result.extend(&text[at..]);
                        break;
                    }
                }
            }
            if result.len() > self.lexer.max {
                return Err("expanded value is too large".into());
            }
        }
        Ok(result)
    }

    /// A name, a number, or one special character; empty if there is none.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_numeric() => {
                while self.peek().is_some_and(char::is_numeric) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.at += 1;
                }
            }
        }
        self.chars[start..self.at].iter().collect()
    }

    /// `<<` with the spaces after it is one piece, so that `<< EOF` is one word.
    fn heredoc(&mut self) -> String {
        self.at += 1;
        let mut result = String::from("<");
        if self.peek() == Some('<') {
            self.at += 1;
            result.push('<');
            while let Some(c @ ('\t' | '\r' | ' ')) = self.peek() {
                self.at += 1;
                result.push(c);
            }
        }
        result
    }

    fn get(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name).cloned();
        let of = if value.is_some() { &mut self.set } else { &mut self.unset };
        of.insert(name.to_owned());
        value
    }
}

/// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
fn trimmed(word: &str, value: &str, modifier: char) -> Result<String, String> {
    let (longest, pattern) = match word.strip_prefix(modifier) {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let glob =
        Glob::shell(pattern).map_err(|e| format!("invalid pattern ({pattern}) in substitution: {e}"))?;
    let text: Vec<char> = value.chars().collect();
    Ok(if modifier == '#' {
        let length = glob.prefix(&text, longest).unwrap_or(0);
        text[length..].iter().collect()
    } else {
        let backwards: Vec<char> = text.iter().rev().copied().collect();
        let length = glob.reversed().prefix(&backwards, longest).unwrap_or(0);
        text[..text.len() - length].iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(source: &str) -> Result<String, String> {
        let set = variables(&["v=value", "empty=", "path=/a/b/c.tar.gz", "s=hello  world", "x=aaa"]);
        Lexer::new('\\').word(source, &set)
    }

    #[test]
    fn substitutions() {
        for (source, expected) in [
            ("$v", "value"),
            ("${v}", "value"),
            ("a$v.b", "avalue.b"),
            ("$nothing", ""),
            ("$", "$"),
            ("\\$v", "$v"),
            ("'$v'", "$v"),
            ("\"$v\"", "value"),
            ("\"\\$v\"", "$v"),
            ("\"\\n\"", "\\n"),
            ("${v:-x}", "value"),
            ("${empty:-x}", "x"),
            ("${empty-x}", ""),
            ("${nothing-x}", "x"),
            ("${v:+x}", "x"),
            ("${empty:+x}", ""),
            ("${empty+x}", "x"),
            ("${nothing+x}", ""),
            ("${v:?no}", "value"),
            ("${path#*/}", "a/b/c.tar.gz"),
            ("${path##*/}", "c.tar.gz"),
            ("${path%.*}", "/a/b/c.tar"),
            ("${path%%.*}", "/a/b/c"),
            ("${path#/?/}", "b/c.tar.gz"),
            ("${v/a/o}", "volue"),
            ("${x/a/b}", "baa"),
            ("${x//a/b}", "bbb"),
            ("${path//\\//-}", "-a-b-c.tar.gz"),
            ("${nothing:-${v:-z}}", "value"),
            ("${nothing:-'a b'}", "a b"),
            ("$1", ""),
            ("<<EOF", "<<EOF"),
            ("a\\ b", "a b"),
        ] {
            assert_eq!(expand(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn errors_in_buildkits_words() {
        for (source, expected) in [
            ("${v", r#"failed to process "${v": unsupported modifier (�) in substitution"#),
            ("${", r#"failed to process "${": syntax error: missing '}'"#),
            ("${}", r#"failed to process "${}": syntax error: bad substitution"#),
            ("${v:-a", r#"failed to process "${v:-a": syntax error: missing '}'"#),
            ("${v:xx}", r#"failed to process "${v:xx}": unsupported modifier (:x) in substitution"#),
            ("${v^}", r#"failed to process "${v^}": unsupported modifier (^) in substitution"#),
            ("${nothing?}", r#"failed to process "${nothing?}": nothing: is not allowed to be unset"#),
            ("${empty:?}", r#"failed to process "${empty:?}": empty: is not allowed to be empty"#),
            ("${nothing:?give one}", r#"failed to process "${nothing:?give one}": nothing: give one"#),
            (
                "'a",
                "failed to process \"'a\": unexpected end of statement while looking for matching single-quote",
            ),
            (
                "\"a",
                r#"failed to process "\"a": unexpected end of statement while looking for matching double-quote"#,
            ),
        ] {
            assert_eq!(expand(source).as_ref().map_err(String::as_str), Err(expected), "{source}");
        }
    }

    #[test]
    fn words_are_split_after_expansion() {
        let set = variables(&["s=80 443"]);
        let lexer = Lexer::new('\\');
        assert_eq!(lexer.words("$s", &set).unwrap(), ["80", "443"]);
        assert_eq!(lexer.words("\"$s\" x", &set).unwrap(), ["80 443", "x"]);
    }

    #[test]
    fn growth_and_nesting_have_limits() {
        let set = variables(&[format!("v={}", "x".repeat(1 << 20))]);
        assert!(Lexer::new('\\').word(&"$v".repeat(50), &set).is_err());
        assert!(Lexer::new('\\').word(&format!("\"{}\"", "$v".repeat(50)), &set).is_err());
        assert!(expand(&"${z:-".repeat(100_000)).is_err());
    }
}
