//! How one object differs from another as refusals tell it: a unified diff of both, printed as what Go's `json.MarshalIndent` makes of
//! the server's internal types (`k8s.io/apimachinery/pkg/util/diff`).

use super::internal;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;

/// Lines of what is the same around what is not.
const CONTEXT: usize = 3;
/// Objects of more lines than this are not compared: nobody reads it, and it takes its time.
const MOST_LINES: usize = 20_000;
/// In texts of so many lines, lines that come up often don't count as the beginning of what is the same.
const MANY_LINES: usize = 200;

/// The difference between an object of an internal type before and after.
pub fn of(kind: &str, old: &Value, new: &Value) -> String {
    let (a, b) = (internal::lines(kind, old), internal::lines(kind, new));
    if a.len().max(b.len()) > MOST_LINES {
        return String::new();
    }
    let a: Vec<&str> = a.iter().map(String::as_str).collect();
    let b: Vec<&str> = b.iter().map(String::as_str).collect();
    unified(&a, &b)
}

/// A piece that is the same, or one that stands for another.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    is_equal: bool,
    a: (usize, usize),
    b: (usize, usize),
}

fn unified(a: &[&str], b: &[&str]) -> String {
    let mut out = String::new();
    for group in groups(pieces(a, b)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let (old, new) = (range(first.a.0, last.a.1), range(first.b.0, last.b.1));
        let _infallible = writeln!(out, "@@ -{old} +{new} @@");
        for piece in &group {
            let (olds, news) = (&a[piece.a.0..piece.a.1], &b[piece.b.0..piece.b.1]);
            if piece.is_equal {
                put(&mut out, ' ', olds);
            } else {
                put(&mut out, '-', olds);
                put(&mut out, '+', news);
            }
        }
    }
    out
}

fn put(out: &mut String, sign: char, lines: &[&str]) {
    for line in lines {
        out.push(sign);
        out.push_str(line);
        out.push('\n');
    }
}

fn range(start: usize, end: usize) -> String {
    match end - start {
        1 => (start + 1).to_string(),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    }
}

/// Pieces with a little of what is the same around them, apart where there is much of it (`GetGroupedOpCodes`).
fn groups(mut pieces: Vec<Piece>) -> Vec<Vec<Piece>> {
    if let Some(first) = pieces.first_mut().filter(|first| first.is_equal) {
        *first = tail(*first);
    }
    if let Some(last) = pieces.last_mut().filter(|last| last.is_equal) {
        *last = head(*last);
    }
    let (mut all, mut group) = (Vec::new(), Vec::new());
    for piece in pieces {
        if piece.is_equal && piece.a.1 - piece.a.0 > 2 * CONTEXT {
            group.push(head(piece));
            all.push(std::mem::take(&mut group));
            group.push(tail(piece));
        } else {
            group.push(piece);
        }
    }
    all.push(group);
    all.retain(|group| group.iter().any(|piece| !piece.is_equal));
    all
}

fn head(piece: Piece) -> Piece {
    let keep = |(from, to): (usize, usize)| (from, to.min(from + CONTEXT));
    Piece { a: keep(piece.a), b: keep(piece.b), ..piece }
}

fn tail(piece: Piece) -> Piece {
    let keep = |(from, to): (usize, usize)| (from.max(to.saturating_sub(CONTEXT)), to);
    Piece { a: keep(piece.a), b: keep(piece.b), ..piece }
}

/// Both texts as pieces, in order.
fn pieces(a: &[&str], b: &[&str]) -> Vec<Piece> {
    let mut all = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (at_a, at_b, size) in matches(a, b).into_iter().chain([(a.len(), b.len(), 0)]) {
        if i < at_a || j < at_b {
            all.push(Piece { is_equal: false, a: (i, at_a), b: (j, at_b) });
        }
        (i, j) = (at_a + size, at_b + size);
        if size > 0 {
            all.push(Piece { is_equal: true, a: (at_a, i), b: (at_b, j) });
        }
    }
    all
}

/// What is the same: where in both, and how much (Python's `SequenceMatcher`, which Go's library is).
fn matches(a: &[&str], b: &[&str]) -> Vec<(usize, usize, usize)> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(index);
    }
    if b.len() >= MANY_LINES {
        places.retain(|_, places| places.len() <= b.len() / 100 + 1);
    }
    let mut found = Vec::new();
    let mut open = vec![((0, a.len()), (0, b.len()))];
    while let Some((in_a, in_b)) = open.pop() {
        let (i, j, size) = longest(a, b, &places, in_a, in_b);
        if size == 0 {
            continue;
        }
        found.push((i, j, size));
        open.push(((in_a.0, i), (in_b.0, j)));
        open.push(((i + size, in_a.1), (j + size, in_b.1)));
    }
    found.sort_unstable();
    let mut joined: Vec<(usize, usize, usize)> = Vec::with_capacity(found.len());
    for (i, j, size) in found {
        match joined.last_mut() {
            Some(last) if last.0 + last.2 == i && last.1 + last.2 == j => last.2 += size,
            _ => joined.push((i, j, size)),
        }
    }
    joined
}

fn longest(
    a: &[&str],
    b: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    (a_from, a_to): (usize, usize),
    (b_from, b_to): (usize, usize),
) -> (usize, usize, usize) {
    let mut best = (a_from, b_from, 0);
    // How long what is the same is that ends at the line before, by where it ends in `b`.
    let mut ending: HashMap<usize, usize> = HashMap::new();
    for (i, line) in a.iter().enumerate().take(a_to).skip(a_from) {
        let mut now = HashMap::new();
        for &j in places.get(line).into_iter().flatten().filter(|&&j| j >= b_from && j < b_to) {
            let size = j.checked_sub(1).and_then(|before| ending.get(&before)).unwrap_or(&0) + 1;
            now.insert(j, size);
            if size > best.2 {
                best = (i + 1 - size, j + 1 - size, size);
            }
        }
        ending = now;
    }
    let (mut i, mut j, mut size) = best;
    while i > a_from && j > b_from && a[i - 1] == b[j - 1] {
        (i, j, size) = (i - 1, j - 1, size + 1);
    }
    while i + size < a_to && j + size < b_to && a[i + size] == b[j + size] {
        size += 1;
    }
    (i, j, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python's `difflib.unified_diff` (the same algorithm) prints them.
    #[test]
    fn as_difflib_has_it() {
        let split = |text: &'static str| text.split(' ').collect::<Vec<_>>();
        assert_eq!(unified(&split("a b c"), &split("a b c")), "");
        assert_eq!(unified(&split("a"), &split("b")), "@@ -1 +1 @@\n-a\n+b\n");
        assert_eq!(
            unified(&split("1 2 3 4 5 6 7 8 9 a b c d"), &split("1 x 3 4 5 6 7 8 9 a b d")),
            "@@ -1,5 +1,5 @@\n 1\n-2\n+x\n 3\n 4\n 5\n@@ -9,5 +9,4 @@\n 9\n a\n b\n-c\n d\n"
        );
        assert_eq!(unified(&split("q a b x c d"), &split("a b y c d f")).lines().count(), 9);
    }
}
