//! Text → instructions as lists of words: directives, comments, continuation lines, here-documents. The rules and their oddities
//! are those of BuildKit's frontend/dockerfile/parser; [`super::parse`] gives the words their meaning.

use super::error::{Of, ParseError};
use super::instruction::LineWarning;
use super::shell::{Lexer, Variables};
use super::words;
use std::collections::BTreeSet;

/// Go's `bufio.MaxScanTokenSize` − 1.
const MAX_LINE: usize = 65_535;
/// All of a Dockerfile. (Docker has no limit; ours keeps a learner's file from filling the engine's memory.)
const MAX_FILE: usize = 4 << 20;

/// One instruction, not yet understood.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    /// As written (`Run`).
    pub name: String,
    /// The words after name and flags.
    pub args: Vec<String>,
    /// `--name=value`, quotes removed.
    pub flags: Vec<String>,
    /// The arguments were a JSON array.
    pub json: bool,
    /// The logical line.
    pub original: String,
    pub heredocs: Vec<Heredoc>,
    pub first_line: usize,
    pub last_line: usize,
    /// Comments before it, without their marks.
    pub comments: Vec<String>,
    /// What stands after ONBUILD.
    pub child: Option<Box<Node>>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    pub name: String,
    /// Variables in it are expanded (its name is not quoted).
    pub expand: bool,
    /// `<<-`: leading tabs are dropped.
    pub chomp: bool,
    pub content: String,
}

impl Heredoc {
    pub fn text(&self) -> String {
        if self.chomp { chomp(&self.content) } else { self.content.clone() }
    }
}

/// Drops the tabs at the beginning of each line.
pub(crate) fn chomp(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// A file as instructions.
#[derive(Debug)]
pub(crate) struct Lines {
    pub nodes: Vec<Node>,
    pub escape: char,
    pub directives: Vec<(String, String)>,
    pub warnings: Vec<LineWarning>,
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    at: usize,
    escape: char,
    directives_done: bool,
    directives: Vec<(String, String)>,
}

/// Reads a Dockerfile's text.
pub(crate) fn read(text: &str) -> Result<Lines, ParseError> {
    if text.len() > MAX_FILE {
        return Err(ParseError::text(
            format!("dockerfile greater than max allowed size of {MAX_FILE}"),
            0..=0,
        ));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        lines: text.split_inclusive('\n').collect(),
        at: 0,
        escape: '\\',
        directives_done: false,
        directives: Vec::new(),
    };
    let (mut nodes, mut warnings, mut comments) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(line) = reader.next_line()? {
        let first_line = reader.at;
        let line = line.trim_end_matches(['\r', '\n']).trim_start();
        let directive =
            reader.directive(line).map_err(|e| ParseError::text(e, first_line - 1..=first_line - 1))?;
        if let Some(comment) = line.strip_prefix('#').filter(|_| !directive) {
            match comment.trim() {
                // An empty one says that those before it are about nothing.
                "" => comments.clear(),
                comment => comments.push(comment.to_owned()),
            }
        }
        let Some((logical, empty_continuation)) = reader.logical(line)? else { continue };
        if empty_continuation {
            let text = format!("Empty continuation line found in: {logical}");
            warnings.push(LineWarning { line: reader.at, text });
        }
        let fail =
            |message: String, last: usize| ParseError::text(message, first_line..=last.max(first_line));
        let mut node = node(&logical, reader.escape, 0).map_err(|e| fail(e, reader.at))?;
        if node.can_have_heredocs() && logical.contains("<<") {
            node.heredocs = heredocs_of(&logical).map_err(|e| fail(e, reader.at))?;
            let last_line = reader.at;
            for heredoc in &mut node.heredocs {
                if !reader.heredoc(heredoc)? {
                    return Err(fail("unterminated heredoc".into(), last_line));
                }
            }
        }
        (node.first_line, node.last_line) = (first_line, reader.at);
        node.comments = std::mem::take(&mut comments);
        nodes.push(node);
    }
    if nodes.is_empty() {
        let error = ParseError::text("file with no instructions", reader.at..=reader.at);
        return Err(if text.is_empty() { ParseError { of: Of::Nothing, ..error } } else { error });
    }
    Ok(Lines { nodes, escape: reader.escape, directives: reader.directives, warnings })
}

impl<'a> Reader<'a> {
    fn next_line(&mut self) -> Result<Option<&'a str>, ParseError> {
        let Some(line) = self.lines.get(self.at) else { return Ok(None) };
        if line.len() > MAX_LINE {
            let message = format!("dockerfile line greater than max allowed size of {MAX_LINE}");
            return Err(ParseError::text(message, self.at..=self.at));
        }
        self.at += 1;
        Ok(Some(line))
    }

    /// `# name = value` before anything else; whether it is one.
    fn directive(&mut self, line: &str) -> Result<bool, String> {
        if self.directives_done {
            return Ok(false);
        }
        let Some((name, value)) = line.strip_prefix('#').and_then(directive) else {
            self.directives_done = true;
            return Ok(false);
        };
        if self.directives.iter().any(|(seen, _)| *seen == name) {
            return Err(format!("only one {name} parser directive can be used"));
        }
        if name == "escape" {
            self.escape = match value.as_str() {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(format!("invalid escape token '{value}' does not match ` or \\")),
            };
        }
        self.directives.push((name, value));
        Ok(true)
    }

    /// An instruction that begins with this line and goes on in the next ones, and whether one of those is empty; `None`: there is no
    /// instruction here.
    fn logical(&mut self, line: &str) -> Result<Option<(String, bool)>, ParseError> {
        let (mut logical, mut ended) = self.continued(if line.starts_with('#') { "" } else { line });
        if ended && logical.is_empty() {
            return Ok(None);
        }
        let mut empty = false;
        while !ended {
            let Some(line) = self.next_line()? else { break };
            let line = line.trim_end_matches(['\r', '\n']);
            if line.trim_start().starts_with('#') {
                continue;
            }
            if line.trim().is_empty() {
                empty = true;
                continue;
            }
            let (part, end) = self.continued(line);
            logical.push_str(&part);
            ended = end;
        }
        Ok(Some((logical, empty)))
    }

    /// The line without its continuation mark, and whether the instruction ends here.
    fn continued(&self, line: &str) -> (String, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            // A doubled escape is not a continuation.
            Some(rest) if !rest.ends_with(self.escape) => (rest.to_owned(), false),
            _ => (line.to_owned(), true),
        }
    }

    /// Reads the content to its terminator; false if there is none.
    fn heredoc(&mut self, heredoc: &mut Heredoc) -> Result<bool, ParseError> {
        while let Some(line) = self.next_line()? {
            let mut end = line.trim_end_matches(['\r', '\n']);
            if heredoc.chomp {
                end = end.trim_start_matches('\t');
            }
            if end == heredoc.name {
                return Ok(true);
            }
            heredoc.content.push_str(line);
        }
        Ok(false)
    }
}

/// The frontend that a file is written for (`# syntax=`), before anything else of it is read.
pub fn syntax(text: &str) -> Option<String> {
    let mut directives = text.lines().map_while(|line| line.strip_prefix('#').and_then(directive));
    let (_, value) = directives.find(|(name, _)| name == "syntax")?;
    value.split_whitespace().next().map(str::to_owned)
}

fn directive(comment: &str) -> Option<(String, String)> {
    let (name, value) = comment.trim_start().split_once('=')?;
    let (name, value) = (name.trim_end().to_lowercase(), value.trim());
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty())
        .then(|| (name, value.to_owned()))
}

/// One logical line. `depth` counts ONBUILDs.
fn node(line: &str, escape: char, depth: usize) -> Result<Node, String> {
    let (name, flags, rest) = words::split_command(line, escape);
    let mut node = Node { name, flags, original: line.to_owned(), ..Node::default() };
    let rest = rest.trim();
    match node.name.to_lowercase().as_str() {
        "add" | "copy" | "volume" => (node.args, node.json) = words::json_or_list(rest)?,
        "cmd" | "entrypoint" | "run" | "shell" => (node.args, node.json) = words::json_or_text(rest)?,
        "healthcheck" => (node.args, node.json) = words::health(rest)?,
        "arg" => node.args = words::words(rest, escape),
        "env" => node.args = words::name_values(rest, "ENV", escape)?,
        "label" => node.args = words::name_values(rest, "LABEL", escape)?,
        "expose" | "from" => node.args = words::whitespace(rest),
        "maintainer" | "stopsignal" | "user" | "workdir" if !rest.is_empty() => {
            node.args = vec![rest.to_owned()]
        }
        // A chain of ONBUILDs is refused later; it need not be followed.
        "onbuild" if !rest.is_empty() && depth < 2 => {
            let child = self::node(rest, escape, depth + 1)?;
            node.args = std::iter::once(child.name.clone()).chain(child.args.iter().cloned()).collect();
            node.child = Some(Box::new(child));
        }
        _ => {}
    }
    Ok(node)
}

impl Node {
    fn can_have_heredocs(&self) -> bool {
        let node = self.child.as_deref().unwrap_or(self);
        matches!(node.name.to_lowercase().as_str(), "add" | "copy" | "run") && !node.json
    }
}

/// `<<NAME` in the words of a line.
fn heredocs_of(line: &str) -> Result<Vec<Heredoc>, String> {
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, skip_unset: true, ..Lexer::new('\\') };
    // BuildKit ignores this error too: a line that the lexer can't read has no here-documents.
    let words = lexer.words(line, &Variables::new()).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut heredocs = Vec::new();
    for word in words {
        heredocs.extend(heredoc(&word)?);
        if heredocs.len() > 1000 || !seen.insert(word) && heredocs.len() > 100 {
            return Err("too many heredocs".into());
        }
    }
    Ok(heredocs)
}

/// `3<<-"EOF"`, if the word is one.
pub(crate) fn heredoc(word: &str) -> Result<Option<Heredoc>, String> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let mut lexer = Lexer { skip_unset: true, ..Lexer::new('\\') };
    let plain = lexer.words(rest, &Variables::new())?;
    let [name] = plain.as_slice() else { return Ok(None) };
    lexer.raw_quotes = true;
    let raw = lexer.words(rest, &Variables::new())?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    // With quotes anywhere in its name, the content is taken as it is.
    let expand = raw.first().is_some_and(|raw| quotes(raw) == quotes(name));
    Ok(Some(Heredoc { name: name.clone(), expand, chomp, content: String::new() }))
}
