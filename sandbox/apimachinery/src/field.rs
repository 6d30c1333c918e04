//! Paths of fields and errors about them, worded as `k8s.io/apimachinery/pkg/util/validation/field` words them.

use serde_json::Value;
use std::fmt::{self, Write};

/// Path of a field: `spec.containers[0].name`, `metadata.labels[app]`. It knows its last step and what that is below. Validation makes one
/// for every field that it looks at and shows few of them: only then they become text.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    above: Option<&'a Path<'a>>,
    step: Step<'a>,
}

/// The end of a path.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    /// Nothing: where all paths begin.
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
    /// A field, and an element of the list in it.
    Element(&'a str, usize),
    /// A field, and an entry of the map in it.
    Entry(&'a str, &'a str),
}

impl Default for Path<'_> {
    fn default() -> Self {
        Self { above: None, step: Step::Root }
    }
}

impl<'a> Path<'a> {
    /// A path that is written so; an empty one has no dot before what is below.
    pub const fn new(text: &'a str) -> Self {
        Self { above: None, step: if text.is_empty() { Step::Root } else { Step::Field(text) } }
    }

    const fn below(&'a self, step: Step<'a>) -> Self {
        Self { above: Some(self), step }
    }

    /// A field below, or one below that (`a.b`).
    #[must_use]
    pub const fn child(&'a self, name: &'a str) -> Self {
        self.below(Step::Field(name))
    }

    /// An element of the list that this is.
    #[must_use]
    pub const fn index(&'a self, index: usize) -> Self {
        self.below(Step::Index(index))
    }

    /// An entry of the map that this is.
    #[must_use]
    pub const fn key(&'a self, key: &'a str) -> Self {
        self.below(Step::Key(key))
    }

    /// An element of a list below.
    #[must_use]
    pub const fn element(&'a self, list: &'a str, index: usize) -> Self {
        self.below(Step::Element(list, index))
    }

    /// An entry of a map below.
    #[must_use]
    pub const fn entry(&'a self, map: &'a str, key: &'a str) -> Self {
        self.below(Step::Entry(map, key))
    }
}

/// Where something may be wrong: a path, or one that is put together only if something is.
pub trait At {
    /// The path.
    fn path(&self) -> Path<'_>;
}

impl At for &Path<'_> {
    fn path(&self) -> Path<'_> {
        **self
    }
}

/// A field below a path.
impl At for (&Path<'_>, &str) {
    fn path(&self) -> Path<'_> {
        self.0.child(self.1)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = match self.above {
            None | Some(Path { step: Step::Root, .. }) => "",
            Some(_) => ".",
        };
        if let Some(above) = self.above {
            above.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => write!(f, "{dot}{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
            Step::Element(list, index) => write!(f, "{dot}{list}[{index}]"),
            Step::Entry(map, key) => write!(f, "{dot}{map}[{key}]"),
        }
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It must be there.
    Required,
    /// Its value is not allowed.
    Invalid,
    /// Its value is none of the possible ones.
    NotSupported,
    /// It must not be there, or must not change.
    Forbidden,
    /// Its value is there already.
    Duplicate,
    /// What it names does not exist.
    NotFound,
    /// It is too long.
    TooLong,
    /// It has too many elements.
    TooMany,
    /// It is of the wrong type.
    TypeInvalid,
    /// Our own fault.
    Internal,
}

impl ErrorKind {
    /// The `reason` of a status's cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// A text in quotes as Go's `%q` writes it.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || c == '\u{7f}' => {
                let _infallible = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A value as Go's `json.Marshal` writes it: the same JSON, but safe inside of HTML.
pub fn go_json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// A value as a message shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// A text in quotes as Go writes it, all else as JSON.
    Value(Value),
    /// A struct, whose fields have an order, as JSON.
    Struct(String),
}

impl<T: Into<Value>> From<T> for Shown {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(Value::String(text)) => f.write_str(&go_quote(text)),
            Self::Value(other) => f.write_str(&go_json(other)),
            Self::Struct(json) => f.write_str(json),
        }
    }
}

/// Something wrong with a field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What kind of wrong.
    pub kind: ErrorKind,
    /// Path of the field.
    pub field: String,
    /// The value, where the message shows it.
    pub value: Option<Shown>,
    /// What more there is to say.
    pub detail: String,
}

impl FieldError {
    /// The message without the field's path, as causes carry it.
    pub fn body(&self) -> String {
        let mut out = self.kind.words().to_string();
        if let Some(value) = &self.value {
            let _infallible = write!(out, ": {value}");
        }
        if !self.detail.is_empty() {
            let _infallible = write!(out, ": {}", self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// All that is wrong with an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ErrorList(Vec<FieldError>);

impl ErrorList {
    /// True if nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }

    /// One more.
    pub fn push(&mut self, kind: ErrorKind, field: &Path, value: Option<Shown>, detail: impl Into<String>) {
        self.0.push(FieldError { kind, field: field.to_string(), value, detail: detail.into() });
    }

    /// The field must be there.
    pub fn required(&mut self, field: &Path, detail: &str) {
        self.push(ErrorKind::Required, field, None, detail);
    }

    /// The value is not allowed.
    pub fn invalid(&mut self, field: &Path, value: impl Into<Shown>, detail: impl Into<String>) {
        self.push(ErrorKind::Invalid, field, Some(value.into()), detail);
    }

    /// The value is none of `supported`, which are told in the order given.
    pub fn not_supported(&mut self, field: &Path, value: impl Into<Shown>, supported: &[&str]) {
        let quoted: Vec<_> = supported.iter().map(|one| go_quote(one)).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        self.push(ErrorKind::NotSupported, field, Some(value.into()), detail);
    }

    /// The field must not be there, or must not change.
    pub fn forbidden(&mut self, field: &Path, detail: impl Into<String>) {
        self.push(ErrorKind::Forbidden, field, None, detail);
    }

    /// The value is there already.
    pub fn duplicate(&mut self, field: &Path, value: impl Into<Shown>) {
        self.push(ErrorKind::Duplicate, field, Some(value.into()), "");
    }

    /// What it names does not exist.
    pub fn not_found(&mut self, field: &Path, value: impl Into<Shown>) {
        self.push(ErrorKind::NotFound, field, Some(value.into()), "");
    }

    /// It is longer than `most` bytes.
    pub fn too_long(&mut self, field: &Path, most: usize) {
        self.push(ErrorKind::TooLong, field, None, format!("may not be more than {most} bytes"));
    }

    /// There are more of them than `most`.
    pub fn too_many(&mut self, field: &Path, count: usize, most: usize) {
        self.push(ErrorKind::TooMany, field, Some(count.into()), format!("must have at most {most} items"));
    }

    /// The value is not allowed, and not shown.
    pub fn invalid_without_value(&mut self, field: &Path, detail: impl Into<String>) {
        self.push(ErrorKind::Invalid, field, None, detail);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of another list.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// As one message: one error as it is, several in brackets, each text once.
    pub fn aggregate(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        if let [one] = &texts[..] { one.clone() } else { format!("[{}]", texts.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_elements() {
        let spec = Path::new("spec");
        for index in [0, 7, 10, usize::MAX] {
            assert_eq!(
                spec.element("ports", index).to_string(),
                spec.child("ports").index(index).to_string()
            );
            assert_eq!(spec.element("ports", index).to_string(), format!("spec.ports[{index}]"));
        }
        assert_eq!(spec.entry("limits", "cpu").to_string(), "spec.limits[cpu]");
        assert_eq!(Path::default().element("a", 1).to_string(), "a[1]");
        assert_eq!(Path::default().to_string(), "");
        assert_eq!(Path::new("").child("a").to_string(), "a");
        assert_eq!((&spec, "a").path().to_string(), "spec.a");
    }

    #[test]
    fn errors_read_as_those_of_kubernetes() {
        let mut errors = ErrorList::default();
        let spec = Path::new("spec");
        errors.invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0");
        assert_eq!(
            errors.aggregate(),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
        errors.not_supported(
            &spec.child("containers").index(0).child("imagePullPolicy"),
            "x",
            &["Always", "Never"],
        );
        assert_eq!(
            errors.aggregate(),
            "[spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
             spec.containers[0].imagePullPolicy: Unsupported value: \"x\": supported values: \"Always\", \"Never\"]"
        );
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        let mut errors = ErrorList::default();
        let field = Path::new("f");
        errors.invalid(&field, "a\"b\u{1}\n<é", "");
        errors.invalid(&field, serde_json::json!({"a": "<b>"}), "x");
        let texts: Vec<_> = errors.iter().map(FieldError::body).collect();
        assert_eq!(texts, [r#"Invalid value: "a\"b\x01\n<é""#, r#"Invalid value: {"a":"\u003cb\u003e"}: x"#]);
    }
}
