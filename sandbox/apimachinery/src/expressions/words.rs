//! Faults of an expression as cel-go shows them (cel-go `common/error.go`): where, what, the line and a caret below it.

use super::check::Fault;
use cel::common::ast::SourceInfo;
use std::fmt::Write;

/// Most faults that are told.
const MOST_FAULTS: usize = 100;

/// All faults, the first of the text first.
pub fn told(faults: &[Fault], info: &SourceInfo) -> String {
    let mut placed: Vec<_> = faults.iter().map(|fault| (position(fault.id, info), &fault.message)).collect();
    placed.sort_by_key(|(position, _)| *position);
    let mut out = String::new();
    for ((line, column), message) in placed.iter().take(MOST_FAULTS) {
        if !out.is_empty() {
            out.push('\n');
        }
        one(&mut out, &info.source, *line, *column, message);
    }
    if let Some(more) = placed.len().checked_sub(MOST_FAULTS).filter(|more| *more > 0) {
        let _infallible = write!(out, "\n{more} more errors were truncated");
    }
    out
}

/// One fault, at a line and a column, both from 1 on.
pub fn one(out: &mut String, source: &str, line: usize, column: usize, message: &str) {
    let _infallible = write!(out, "ERROR: <input>:{line}:{column}: {message}");
    let Some(text) = line.checked_sub(1).and_then(|line| source.split('\n').nth(line)) else { return };
    let text = text.replace('\t', " ");
    let wide = |c: Option<char>| c.is_some_and(|c| c.len_utf8() > 1);
    let before = text.chars().take(column - 1).map(|c| if wide(Some(c)) { '\u{ff0e}' } else { '.' });
    let dots: String = before.collect();
    let caret = if wide(text.chars().nth(column - 1)) { '\u{ff3e}' } else { '^' };
    let _infallible = write!(out, "\n | {text}\n | {dots}{caret}");
}

/// Line and column of a part, both from 1 on.
fn position(id: u64, info: &SourceInfo) -> (usize, usize) {
    let start = info.offset_for(id).map_or(0, |(start, _)| start as usize);
    let before = info.source.get(..start.min(info.source.len())).unwrap_or_default();
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    (line + 1, column + 1)
}
