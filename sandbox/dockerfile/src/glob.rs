//! Wildcards without a regular expression engine: one compiled form ([`Glob`]) for the three languages that Dockerfiles have
//! (`filepath.Match` for COPY, `.dockerignore` patterns, shell patterns in `${v%p}`). Matching keeps a set of positions, so
//! its time is bounded by pattern length × text length whatever the pattern is.

/// A pattern is malformed; Go's text is `syntax error in pattern`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// Any one character; not `/` if so marked.
    Any {
        slash: bool,
    },
    /// Any number of characters.
    Star {
        slash: bool,
    },
    /// Begins `(.*/)?`, which is `.dockerignore`'s `**/`: may be passed together with the [`Token::Directories`] after it.
    Maybe,
    /// `.*/`.
    Directories,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
        slash: bool,
    },
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// As `filepath.Match` reads it: `*` and `?` stop at slashes, `[a-z]`, `\` escapes.
    ///
    /// # Errors
    /// [`BadPattern`] where Go has `ErrBadPattern`.
    pub fn path(pattern: &str) -> Result<Self, BadPattern> {
        Self::compile(pattern, false)
    }

    /// As `.dockerignore` reads it: [`Self::path`] plus `**`.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn ignore(pattern: &str) -> Result<Self, BadPattern> {
        Self::compile(pattern, true)
    }

    fn compile(pattern: &str, double_star: bool) -> Result<Self, BadPattern> {
        let chars: Vec<char> = pattern.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&c) = chars.get(at) {
            at += 1;
            match c {
                '*' if double_star && chars.get(at) == Some(&'*') => {
                    at += 1;
                    if chars.get(at) == Some(&'/') {
                        at += 1;
                    }
                    let literal = |c: &char| !matches!(c, '*' | '?' | '[' | ']' | '\\');
                    if at == chars.len() || (at == 2 && chars[at..].iter().all(literal)) {
                        // At the end it takes everything; `**x` is all that ends in x.
                        tokens.push(Token::Star { slash: true });
                    } else {
                        // Before something it is whole directories, or none.
                        tokens.extend([Token::Maybe, Token::Directories]);
                    }
                }
                '*' => {
                    if tokens.last() != Some(&(Token::Star { slash: false })) {
                        tokens.push(Token::Star { slash: false });
                    }
                }
                '?' => tokens.push(Token::Any { slash: false }),
                '[' => tokens.push(class(&chars, &mut at)?),
                '\\' => {
                    let escaped = chars.get(at).ok_or(BadPattern)?;
                    at += 1;
                    tokens.push(Token::Literal(*escaped));
                }
                c => tokens.push(Token::Literal(c)),
            }
        }
        Ok(Self { tokens })
    }

    /// As the shell reads it in `${v#p}`: `*` and `?` only, which take slashes too. An escape may stand before `*`, `?`, `\`,
    /// `/` and `}`.
    ///
    /// # Errors
    /// Go's text for another escape.
    pub fn shell(pattern: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star { slash: true },
                '?' => Token::Any { slash: true },
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '/' | '}')) => Token::Literal(c),
                    Some(c) => return Err(format!("invalid escape '\\{c}'")),
                    None => return Err("invalid escape '\\\u{fffd}'".into()),
                },
                c => Token::Literal(c),
            });
        }
        tokens.dedup_by(|a, b| matches!((a, b), (Token::Star { .. }, Token::Star { .. })));
        Ok(Self { tokens })
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        self.ends(&chars).is_some_and(|ends| ends.last == Some(chars.len()))
    }

    /// Number of characters of the shortest or longest beginning of `text` that matches.
    pub fn prefix(&self, text: &[char], longest: bool) -> Option<usize> {
        let ends = self.ends(text)?;
        if longest { ends.last } else { ends.first }
    }

    /// This pattern backwards, for suffixes.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.tokens.reverse();
        self
    }

    /// First and last position where a match that begins at 0 can end.
    fn ends(&self, text: &[char]) -> Option<Ends> {
        let count = self.tokens.len();
        let mut state = vec![false; count + 1];
        state[0] = true;
        let mut ends = Ends::default();
        for at in 0..=text.len() {
            self.skip_empty(&mut state);
            if state[count] {
                ends.first.get_or_insert(at);
                ends.last = Some(at);
            }
            let Some(&c) = text.get(at) else { break };
            let mut next = vec![false; count + 1];
            for (index, token) in self.tokens.iter().enumerate().filter(|(index, _)| state[*index]) {
                match token {
                    Token::Literal(l) if *l == c => next[index + 1] = true,
                    Token::Any { slash } if *slash || c != '/' => next[index + 1] = true,
                    Token::Star { slash } if *slash || c != '/' => next[index] = true,
                    Token::Directories => {
                        next[index] = true;
                        next[index + 1] |= c == '/';
                    }
                    Token::Class { negated, ranges, slash } if *slash || c != '/' => {
                        let within = ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
                        next[index + 1] |= within != *negated;
                    }
                    _ => {}
                }
            }
            state = next;
            if !state.contains(&true) {
                break;
            }
        }
        ends.last.map(|_| ends)
    }

    /// Steps that take no character.
    fn skip_empty(&self, state: &mut [bool]) {
        for (index, token) in
            self.tokens.iter().enumerate().filter(|(_, t)| matches!(t, Token::Star { .. } | Token::Maybe))
        {
            if state[index] {
                state[index + 1] = true;
                if *token == Token::Maybe {
                    state[index + 2] = true;
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Ends {
    first: Option<usize>,
    last: Option<usize>,
}

fn class(chars: &[char], at: &mut usize) -> Result<Token, BadPattern> {
    let negated = chars.get(*at) == Some(&'^');
    if negated {
        *at += 1;
    }
    let mut ranges = Vec::new();
    loop {
        if chars.get(*at) == Some(&']') && !ranges.is_empty() {
            *at += 1;
            return Ok(Token::Class { negated, ranges, slash: false });
        }
        let from = class_char(chars, at)?;
        let mut to = from;
        if chars.get(*at) == Some(&'-') {
            *at += 1;
            to = class_char(chars, at)?;
        }
        ranges.push((from, to));
    }
}

fn class_char(chars: &[char], at: &mut usize) -> Result<char, BadPattern> {
    let mut c = *chars.get(*at).ok_or(BadPattern)?;
    *at += 1;
    match c {
        '-' | ']' => return Err(BadPattern),
        '\\' => {
            c = *chars.get(*at).ok_or(BadPattern)?;
            *at += 1;
        }
        _ => {}
    }
    if *at >= chars.len() { Err(BadPattern) } else { Ok(c) }
}

/// Whether a COPY source has wildcards.
pub fn has_wildcards(name: &str) -> bool {
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => _ = chars.next(),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_path_match() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("[a-ζ]*", "α", true),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
        ] {
            assert_eq!(Glob::path(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "\\", "[a-b-c]"] {
            assert_eq!(Glob::path(bad), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn time_is_bounded() {
        let pattern = "*a".repeat(200);
        assert!(!Glob::shell(&pattern).unwrap().matches(&"a".repeat(2000).replace('a', "ab")));
    }
}
