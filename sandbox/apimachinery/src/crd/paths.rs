//! The part of Kubernetes' JSONPath (client-go `util/jsonpath`) that definitions use for columns, scale and selectable fields:
//! `.spec.x`, `['a.b']`, `[0]`, `[-1]`, `[*]`, `.*` and filters such as `[?(@.type=="Ready")]`.

use serde_json::Value;

/// Most results that a path may have.
const MOST_RESULTS: usize = 1000;

/// A path, read once.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Elements of which a field (or themselves) compares so with a value; without a comparison, those that have the field.
    Filter(Vec<String>, Option<(Comparison, Value)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path, with or without braces around it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) =
                if let Some(inside) = rest.strip_prefix('[') { bracket(inside)? } else { dotted(rest)? };
            steps.push(step);
            rest = after;
        }
        Ok(Self(steps))
    }

    /// What it finds in a value.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|one| step.find(one)).take(MOST_RESULTS).collect();
        }
        found
    }

    /// The first that it finds.
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.find(value).first().copied()
    }

    /// Its fields, if it is nothing but fields.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.0.iter().map(field_of).collect()
    }

    /// Sets what a path of fields names, making maps on the way; false if the path is another.
    pub fn set(&self, object: &mut Value, value: Value) -> bool {
        let Some(fields) = self.fields() else { return false };
        let Some((last, above)) = fields.split_last() else { return false };
        crate::object::map_mut(object, above).insert((*last).into(), value);
        true
    }
}

fn field_of(step: &Step) -> Option<&str> {
    if let Step::Field(name) = step { Some(name) } else { None }
}

/// A step after a point.
fn dotted(rest: &str) -> Result<(Step, &str), String> {
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    let (mut name, mut escaped, mut end) = (String::new(), false, rest.len());
    for (at, c) in rest.char_indices() {
        if escaped {
            name.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if matches!(c, '.' | '[') {
            end = at;
            break;
        } else if c.is_whitespace() || matches!(c, '{' | '}' | '(' | ')' | '\'' | '"' | '|' | '&') {
            return Err(format!("unrecognized character in action: {c:?}"));
        } else {
            name.push(c);
        }
    }
    match name.as_str() {
        "" if rest.is_empty() => Err("path ends with a point".into()),
        "" if rest.starts_with('.') => Err("recursive descent is not supported here".into()),
        // `.[0]` is `[0]`.
        "" => bracket(&rest[1..]),
        "*" => Ok((Step::All, &rest[end..])),
        _ => Ok((Step::Field(name), &rest[end..])),
    }
}

/// A step in brackets, of which the first is gone.
fn bracket(inside: &str) -> Result<(Step, &str), String> {
    if let Some(quote @ ('\'' | '"')) = inside.chars().next() {
        let (name, rest) = inside[1..].split_once(quote).ok_or("unterminated quoted string")?;
        let rest = rest.strip_prefix(']').ok_or("unterminated array")?;
        return Ok((Step::Field(name.into()), rest));
    }
    if let Some(filter) = inside.strip_prefix("?(") {
        let (expression, rest) = filter.split_once(")]").ok_or("unterminated filter")?;
        return Ok((self::filter(expression)?, rest));
    }
    let (index, rest) = inside.split_once(']').ok_or("unterminated array")?;
    match index.trim() {
        "*" => Ok((Step::All, rest)),
        number => {
            Ok((Step::Index(number.parse().map_err(|_| format!("invalid array index {number}"))?), rest))
        }
    }
}

fn filter(expression: &str) -> Result<Step, String> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Unequal};
    let operators = [
        ("==", Equal),
        ("!=", Unequal),
        ("<=", LessOrEqual),
        (">=", GreaterOrEqual),
        ("<", Less),
        (">", Greater),
    ];
    let (left, comparison) =
        match operators.iter().find_map(|(text, operator)| Some((expression.split_once(text)?, operator))) {
            Some(((left, right), operator)) => {
                let right = right.trim();
                let text = |quote: char| right.strip_prefix(quote)?.strip_suffix(quote);
                let value = match text('\'').or(text('"')) {
                    Some(text) => Value::from(text),
                    None => serde_json::from_str(right)
                        .map_err(|_| format!("unrecognized value {right} in filter"))?,
                };
                (left.trim(), Some((*operator, value)))
            }
            None => (expression.trim(), None),
        };
    let path = left.strip_prefix('@').ok_or("a filter must start with @")?;
    let path = JsonPath::parse(path)?;
    let fields = path.fields().ok_or("a filter may compare fields only")?;
    Ok(Step::Filter(fields.into_iter().map(Into::into).collect(), comparison))
}

impl Step {
    fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(index) => {
                let Some(all) = value.as_array() else { return Vec::new() };
                let length = i64::try_from(all.len()).unwrap_or(i64::MAX);
                let index = if *index < 0 { length + index } else { *index };
                usize::try_from(index).ok().and_then(|index| all.get(index)).into_iter().collect()
            }
            Self::All => match value {
                Value::Array(all) => all.iter().collect(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            },
            Self::Filter(path, comparison) => {
                let fits = |one: &&Value| {
                    let found = path.iter().try_fold(*one, |value, name| value.get(name));
                    match (found, comparison) {
                        (None, _) => false,
                        (Some(_), None) => true,
                        (Some(found), Some((operator, wanted))) => compares(found, *operator, wanted),
                    }
                };
                value.as_array().into_iter().flatten().filter(fits).collect()
            }
        }
    }
}

fn compares(found: &Value, operator: Comparison, wanted: &Value) -> bool {
    let order = match (found, wanted) {
        (Value::Number(found), Value::Number(wanted)) => {
            found.as_f64().zip(wanted.as_f64()).and_then(|(found, wanted)| found.partial_cmp(&wanted))
        }
        (Value::String(found), Value::String(wanted)) => Some(found.cmp(wanted)),
        _ => None,
    };
    match operator {
        Comparison::Equal => found == wanted || order.is_some_and(|order| order.is_eq()),
        Comparison::Unequal => found != wanted && !order.is_some_and(|order| order.is_eq()),
        Comparison::Less => order.is_some_and(|order| order.is_lt()),
        Comparison::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Comparison::Greater => order.is_some_and(|order| order.is_gt()),
        Comparison::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_kubectl_shows() {
        let object = json!({"metadata": {"annotations": {"a.b/c": "x"}}, "spec": {"n": 1, "l": [1, 2, 3]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "n": 5}]}});
        for (path, found) in [
            (".spec.n", json!([1])),
            ("{.spec.n}", json!([1])),
            (".spec.l[1]", json!([2])),
            (".spec.l[-1]", json!([3])),
            (".spec.l[*]", json!([1, 2, 3])),
            (".spec.l[9]", json!([])),
            (".metadata.annotations['a.b/c']", json!(["x"])),
            (r".metadata.annotations.a\.b/c", json!(["x"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Ready')].status", json!(["True"])),
            (".status.conditions[?(@.n>4)].type", json!(["Other"])),
            (".status.conditions[?(@.n)].type", json!(["Other"])),
            (".nope.x", json!([])),
        ] {
            let parsed = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(json!(parsed.find(&object)), found, "{path}");
        }
        for bad in [".a[", ".a['x", ".a[x]", ".a[?(@.b", ".a b", ".", "..a"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_can_be_set() {
        let mut object = json!({"spec": {}});
        assert!(JsonPath::parse(".spec.a.b").unwrap().set(&mut object, 3.into()));
        assert_eq!(object, json!({"spec": {"a": {"b": 3}}}));
        assert!(!JsonPath::parse(".spec[0]").unwrap().set(&mut object, 3.into()));
    }
}
