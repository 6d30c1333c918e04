//! Field selectors: `metadata.name=a,status.phase!=Running` (k8s.io/apimachinery `pkg/fields/selector.go`).

use super::{SelectorError, fail};

/// What one field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field's label.
    pub field: String,
    /// The value.
    pub value: String,
    /// False: any other value.
    pub is_equal: bool,
}

/// What the fields of an object must be. Empty: anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector(Vec<FieldTerm>);

impl FieldSelector {
    /// Reads the text form.
    pub fn parse(selector: &str) -> Result<Self, SelectorError> {
        let mut parts = split_terms(selector);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, is_equal, value)) = split_term(part) else {
                return fail(format!("invalid selector: '{selector}'; can't understand '{part}'"));
            };
            terms.push(FieldTerm { field: field.into(), value: unescape(value)?, is_equal });
        }
        Ok(Self(terms))
    }

    /// All terms, ordered as texts.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.0
    }
}

/// At commas that are not escaped.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut is_escaped) = (0, false);
    for (index, c) in selector.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' => {
                terms.push(&selector[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find("!=").unwrap_or(usize::MAX).min(term.find('=').unwrap_or(usize::MAX));
    let (field, rest) = term.split_at_checked(at)?;
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, false, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, true, value))
}

/// `UnescapeValue`.
fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return fail(format!("invalid field selector: invalid escape sequence: \\{c}")),
                None => return fail("invalid field selector: invalid escape sequence: \\"),
            },
            ',' | '=' => {
                return fail(format!("invalid field selector: unescaped character in value: {c}"));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_split_as_upstream_splits_them() {
        let term = |field: &str, is_equal, value: &str| FieldTerm {
            field: field.into(),
            value: value.into(),
            is_equal,
        };
        let cases = [
            ("", vec![]),
            ("x=a,y=b", vec![term("x", true, "a"), term("y", true, "b")]),
            ("x==a", vec![term("x", true, "a")]),
            ("x!=a,y=b", vec![term("x", false, "a"), term("y", true, "b")]),
            ("x=", vec![term("x", true, "")]),
            (r"x=a\,b\=c", vec![term("x", true, "a,b=c")]),
        ];
        for (selector, want) in cases {
            assert_eq!(FieldSelector::parse(selector).expect(selector).terms(), want, "{selector}");
        }
        for selector in ["x", "x=a||y=b", "x==a==b", r"x=\q"] {
            assert!(FieldSelector::parse(selector).is_err(), "{selector}");
        }
    }
}
