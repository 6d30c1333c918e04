//! Paths of fields and errors about them, worded as `k8s.io/apimachinery/pkg/util/validation/field` words them.

use serde_json::Value;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt::{self, Write};

/// Paths up to this length lie on the stack.
const SHORT: usize = 64;

/// Path of a field: `spec.containers[0].name`, `metadata.labels[app]`. Validation makes one for every field that it looks at and shows
/// few of them, so most lie on the stack.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Path(SmallVec<[u8; SHORT]>);

impl Clone for Path {
    fn clone(&self) -> Self {
        // At once: `SmallVec`'s own goes byte by byte.
        Self(SmallVec::from_slice(&self.0))
    }
}

impl Path {
    /// A path of one field.
    pub fn new(name: &str) -> Self {
        Self(SmallVec::from_slice(name.as_bytes()))
    }

    /// A field below.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { self.with(&[".", name]) }
    }

    /// An element of the list that this is.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut digits = [0; 20];
        self.with(&["[", decimal(index, &mut digits), "]"])
    }

    /// An entry of the map that this is.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(&["[", key, "]"])
    }

    /// An element of a list below.
    #[must_use]
    pub fn element(&self, list: &str, index: usize) -> Self {
        let mut digits = [0; 20];
        let dot = if self.0.is_empty() { "" } else { "." };
        self.with(&[dot, list, "[", decimal(index, &mut digits), "]"])
    }

    fn with(&self, pieces: &[&str]) -> Self {
        let length = self.0.len() + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let all = [&*self.0].into_iter().chain(pieces.iter().map(|piece| piece.as_bytes()));
        let mut short = [0; SHORT];
        if length > SHORT {
            return Self(all.flatten().copied().collect());
        }
        let mut at = 0;
        for piece in all {
            short[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        Self(SmallVec::from_buf_and_len(short, length))
    }
}

/// A number in the end of a buffer, which is as long as the longest.
fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    str::from_utf8(&digits[at..]).unwrap_or_default()
}

/// Where something may be wrong: a path, or one that is put together only if something is.
pub trait At {
    /// The path.
    fn path(&self) -> Cow<'_, Path>;
}

impl At for &Path {
    fn path(&self) -> Cow<'_, Path> {
        Cow::Borrowed(self)
    }
}

/// A field below a path.
impl At for (&Path, &str) {
    fn path(&self) -> Cow<'_, Path> {
        Cow::Owned(self.0.child(self.1))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Made of whole texts alone.
        f.write_str(str::from_utf8(&self.0).map_err(|_| fmt::Error)?)
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
            assert_eq!(spec.element("ports", index), spec.child("ports").index(index));
            assert_eq!(spec.element("ports", index).to_string(), format!("spec.ports[{index}]"));
        }
        assert_eq!(Path::default().element("a", 1), Path::new("a[1]"));
        assert_eq!(*(&spec, "a").path(), spec.child("a"));
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
