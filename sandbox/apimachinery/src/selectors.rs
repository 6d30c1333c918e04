//! Label and field selectors: the texts of queries (`labelSelector`, `fieldSelector`) and the `LabelSelector` objects of
//! specifications. Grammar and errors are those of k8s.io/apimachinery `pkg/labels/selector.go` and `pkg/fields/selector.go`.

mod field;
mod lexer;

pub use field::{FieldSelector, FieldTerm};

use crate::names;
use crate::object::{list, map, text};
use lexer::{Context, Parser, Token};
use serde_json::Value;
use std::fmt;

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// What a label must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// One of the values. Without it the label does not match.
    In,
    /// None of the values. Without it the label matches.
    NotIn,
    /// The same as `In` with one value, written with `=`.
    Equals,
    /// The same as `NotIn` with one value, written with `!=`.
    NotEquals,
    /// There.
    Exists,
    /// Not there.
    DoesNotExist,
    /// A greater number.
    GreaterThan,
    /// A smaller number.
    LessThan,
}

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what; sorted, each once.
    pub values: Vec<String>,
}

impl Requirement {
    fn new(key: String, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        values.sort();
        values.dedup();
        let mut errors: Vec<String> =
            key_errors(&key).into_iter().map(|error| format!("key: {error}")).collect();
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            for (index, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err())
            {
                errors.push(format!(
                    "values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                ));
            }
        }
        for (index, value) in values.iter().enumerate() {
            let why = names::is_valid_label_value(value);
            if !why.is_empty() {
                errors.push(format!("values[{index}][{key}]: Invalid value: {value:?}: {}", why.join("; ")));
            }
        }
        match &errors[..] {
            [] => Ok(Self { key, operator, values }),
            [one] => Err(SelectorError(one.clone())),
            several => Err(SelectorError(format!("[{}]", several.join(", ")))),
        }
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let is_one = |value: &str| self.values.iter().any(|one| one == value);
        match self.operator {
            Operator::In | Operator::Equals => value.is_some_and(is_one),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(is_one),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value).is_some_and(|(is, than)| is > than),
            Operator::LessThan => self.compare(value).is_some_and(|(is, than)| is < than),
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

fn key_errors(key: &str) -> Option<String> {
    let why = names::is_qualified_name(key);
    (!why.is_empty()).then(|| format!("Invalid value: {key:?}: {}", why.join("; ")))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// What the labels of an object must be. Empty: anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    is_nothing: bool,
}

impl LabelSelector {
    /// Reads the text form: `a=b,c in (d,e),!f`.
    pub fn parse(selector: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser::new(selector);
        let mut requirements = Vec::new();
        loop {
            match parser.peek(Context::Values) {
                (Token::Identifier | Token::Not, _) => {
                    let requirement = parse_requirement(&mut parser);
                    requirements.push(requirement.map_err(|SelectorError(why)| {
                        SelectorError(format!("unable to parse requirement: {why}"))
                    })?);
                }
                (Token::End, _) => break,
                (_, found) => {
                    return fail(format!("found '{found}', expected: !, identifier, or 'end of string'"));
                }
            }
            match parser.next(Context::Values) {
                (Token::End, _) => break,
                (Token::Comma, _) => match parser.peek(Context::Values) {
                    (Token::Identifier | Token::Not, _) => {}
                    (_, found) => return fail(format!("found '{found}', expected: identifier after ','")),
                },
                (_, found) => return fail(format!("found '{found}', expected: ',' or 'end of string'")),
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, is_nothing: false })
    }

    /// Reads a `LabelSelector` object (`LabelSelectorAsSelector`); null selects nothing, `{}` everything.
    pub fn of_object(selector: &Value) -> Result<Self, SelectorError> {
        if selector.is_null() {
            return Ok(Self { requirements: Vec::new(), is_nothing: true });
        }
        let mut made = Self::of_labels(&selector["matchLabels"])?;
        for expression in list(selector, &["matchExpressions"]) {
            let values = list(expression, &["values"]).iter().filter_map(Value::as_str).map(String::from);
            let operator = match text(expression, &["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return fail(format!("{other:?} is not a valid label selector operator")),
            };
            let key = text(expression, &["key"]).to_string();
            made.requirements.push(Requirement::new(key, operator, values.collect())?);
        }
        made.requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(made)
    }

    /// Reads a map of labels, all of which must be there.
    pub fn of_labels(labels: &Value) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in map(labels, &[]).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_string();
            requirements.push(Requirement::new(key.clone(), Operator::Equals, vec![value])?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, is_nothing: false })
    }

    /// True if it wants anything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.is_nothing
    }

    /// What it wants, ordered by label.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// True if an object is wanted whose labels `label` looks up.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.is_nothing && self.requirements.iter().all(|one| one.matches(label(&one.key)))
    }

    /// The same of an object.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(|key| crate::object::label(object, key))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

fn fail<T>(why: impl Into<String>) -> Result<T, SelectorError> {
    Err(SelectorError(why.into()))
}

fn parse_requirement(parser: &mut Parser<'_>) -> Result<Requirement, SelectorError> {
    let (mut token, mut literal) = parser.next(Context::Values);
    let is_negated = token == Token::Not;
    if is_negated {
        (token, literal) = parser.next(Context::Values);
    }
    if token != Token::Identifier {
        return fail(format!("found '{literal}', expected: identifier"));
    }
    let key = literal.to_string();
    if let Some(why) = key_errors(&key) {
        return fail(format!("<nil>: {why}"));
    }
    if is_negated {
        return Requirement::new(key, Operator::DoesNotExist, Vec::new());
    }
    if matches!(parser.peek(Context::Values).0, Token::End | Token::Comma) {
        return Requirement::new(key, Operator::Exists, Vec::new());
    }
    let operator = match parser.next(Context::KeyAndOperator) {
        (Token::In, _) => Operator::In,
        (Token::NotIn, _) => Operator::NotIn,
        (Token::Equals | Token::DoubleEquals, _) => Operator::Equals,
        (Token::NotEquals, _) => Operator::NotEquals,
        (Token::GreaterThan, _) => Operator::GreaterThan,
        (Token::LessThan, _) => Operator::LessThan,
        (_, found) => return fail(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt")),
    };
    let values = match operator {
        Operator::In | Operator::NotIn => parse_values(parser)?,
        _ => vec![parse_exact_value(parser)?],
    };
    Requirement::new(key, operator, values)
}

fn parse_values(parser: &mut Parser<'_>) -> Result<Vec<String>, SelectorError> {
    let (token, found) = parser.next(Context::Values);
    if token != Token::Open {
        return fail(format!("found '{found}' expected: '('"));
    }
    match parser.peek(Context::Values) {
        (Token::Identifier | Token::Comma, first) => {
            let values = parse_list(parser)?;
            match parser.next(Context::Values).0 {
                Token::Close => Ok(values),
                _ => fail(format!("found '{first}', expected: ')'")),
            }
        }
        (Token::Close, _) => {
            parser.next(Context::Values);
            Ok(vec![String::new()])
        }
        (_, found) => fail(format!("found '{found}', expected: ',', ')' or identifier")),
    }
}

/// A list whose elements may be empty: `a,,b`.
fn parse_list(parser: &mut Parser<'_>) -> Result<Vec<String>, SelectorError> {
    let mut values = Vec::new();
    loop {
        match parser.next(Context::Values) {
            (Token::Identifier, literal) => {
                values.push(literal.to_string());
                match parser.peek(Context::Values) {
                    (Token::Comma, _) => {}
                    (Token::Close, _) => return Ok(values),
                    (_, found) => return fail(format!("found '{found}', expected: ',' or ')'")),
                }
            }
            (Token::Comma, _) => {
                if values.is_empty() {
                    values.push(String::new());
                }
                match parser.peek(Context::Values).0 {
                    Token::Close => {
                        values.push(String::new());
                        return Ok(values);
                    }
                    Token::Comma => values.push(String::new()),
                    _ => {}
                }
            }
            (_, found) => return fail(format!("found '{found}', expected: ',', or identifier")),
        }
    }
}

fn parse_exact_value(parser: &mut Parser<'_>) -> Result<String, SelectorError> {
    if matches!(parser.peek(Context::Values).0, Token::End | Token::Comma) {
        return Ok(String::new());
    }
    match parser.next(Context::Values) {
        (Token::Identifier, literal) => Ok(literal.to_string()),
        (_, found) => fail(format!("found '{found}', expected: identifier")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Cases of upstream's `TestSelectorParse`.
    #[test]
    fn selectors_are_read_as_upstream_reads_them() {
        let good = ["x=a,y=b,z=c", "", "x!=a,y=b", "x=", "x= ", "x=,z= ", "x= ,z= ", "!x", "x>1", "x>1,z<5"];
        for selector in good {
            let parsed = LabelSelector::parse(selector).expect(selector);
            assert_eq!(parsed.to_string(), selector.replace(' ', ""));
        }
        for selector in ["x=a||y=b", "x==a==b", "!x=a", "x<a", "x in (a", "x in", "(a)", "x=a,"] {
            assert!(LabelSelector::parse(selector).is_err(), "{selector}");
        }
    }

    /// Cases of upstream's `TestSelectorMatches`: selector, labels, whether they match.
    #[test]
    fn selectors_match_as_upstream_matches() {
        let cases = [
            ("", json!({"x": "y"}), true),
            ("x=y", json!({"x": "y"}), true),
            ("x=y,z=w", json!({"x": "y", "z": "w"}), true),
            ("x!=y,z!=w", json!({"x": "z", "z": "a"}), true),
            ("notin=in", json!({"notin": "in"}), true),
            ("x", json!({"x": "z"}), true),
            ("!x", json!({"y": "z"}), true),
            ("x>1", json!({"x": "2"}), true),
            ("x<1", json!({"x": "0"}), true),
            ("x=z", json!({}), false),
            ("x=y", json!({"x": "z"}), false),
            ("x=y,z=w", json!({"x": "w", "z": "w"}), false),
            ("x!=y,z!=w", json!({"x": "z", "z": "w"}), false),
            ("x", json!({"y": "z"}), false),
            ("!x", json!({"x": "z"}), false),
            ("x>1", json!({"x": "0"}), false),
            ("x in (a,,b)", json!({"x": ""}), true),
            ("x notin (a)", json!({}), true),
            ("x in (a,b),y", json!({"x": "b", "y": ""}), true),
        ];
        for (selector, labels, want) in cases {
            let parsed = LabelSelector::parse(selector).expect(selector);
            let object = json!({"metadata": {"labels": labels}});
            assert_eq!(parsed.matches_object(&object), want, "{selector} {labels}");
        }
    }

    #[test]
    fn objects_become_selectors() {
        let selector = LabelSelector::of_object(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db", "cache"]}],
        }));
        assert_eq!(selector.expect("sound").to_string(), "app=web,tier notin (cache,db)");
        assert!(!LabelSelector::of_object(&Value::Null).expect("sound").matches(|_| None));
        assert!(LabelSelector::of_object(&json!({})).expect("sound").matches(|_| None));
    }

    #[test]
    fn errors_are_upstreams() {
        let words = |selector: &str| LabelSelector::parse(selector).expect_err(selector).to_string();
        assert_eq!(words("!=a"), "found '!=', expected: !, identifier, or 'end of string'");
        assert_eq!(words("!=="), "found '!=', expected: !, identifier, or 'end of string'");
        assert_eq!(words("a=b,"), "found '', expected: identifier after ','");
        assert_eq!(
            words("a b"),
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
        );
        assert_eq!(words("a=!"), "unable to parse requirement: found '!', expected: identifier");
    }
}
