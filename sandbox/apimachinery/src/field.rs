//! Paths of fields and errors about them, worded as `k8s.io/apimachinery/pkg/util/validation/field` words them.

use serde_json::Value;
use std::fmt::{self, Write};

/// Path of a field: `spec.containers[0].name`, `metadata.labels[app]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(String);

impl Path {
    /// A path of one field.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// A field below.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.into()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of the list that this is.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of the map that this is.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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

/// Something wrong with a field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What kind of wrong.
    pub kind: ErrorKind,
    /// Path of the field.
    pub field: String,
    /// The value, where the message shows it.
    pub value: Option<Value>,
    /// What more there is to say.
    pub detail: String,
}

impl FieldError {
    /// The message without the field's path, as causes carry it.
    pub fn body(&self) -> String {
        let mut out = self.kind.words().to_string();
        if let Some(value) = &self.value {
            let shown = match value {
                Value::String(_) => value.to_string(),
                Value::Null => "null".into(),
                other => other.to_string(),
            };
            let _infallible = write!(out, ": {shown}");
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
    pub fn push(&mut self, kind: ErrorKind, field: &Path, value: Option<Value>, detail: impl Into<String>) {
        self.0.push(FieldError { kind, field: field.to_string(), value, detail: detail.into() });
    }

    /// The field must be there.
    pub fn required(&mut self, field: &Path, detail: &str) {
        self.push(ErrorKind::Required, field, None, detail);
    }

    /// The value is not allowed.
    pub fn invalid(&mut self, field: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(ErrorKind::Invalid, field, Some(value.into()), detail);
    }

    /// The value is none of `supported`.
    pub fn not_supported(&mut self, field: &Path, value: impl Into<Value>, supported: &[&str]) {
        let mut sorted: Vec<_> = supported.iter().map(|one| format!("{one:?}")).collect();
        sorted.sort();
        let detail = format!("supported values: {}", sorted.join(", "));
        self.push(ErrorKind::NotSupported, field, Some(value.into()), detail);
    }

    /// The field must not be there, or must not change.
    pub fn forbidden(&mut self, field: &Path, detail: impl Into<String>) {
        self.push(ErrorKind::Forbidden, field, None, detail);
    }

    /// The value is there already.
    pub fn duplicate(&mut self, field: &Path, value: impl Into<Value>) {
        self.push(ErrorKind::Duplicate, field, Some(value.into()), "");
    }

    /// What it names does not exist.
    pub fn not_found(&mut self, field: &Path, value: impl Into<Value>) {
        self.push(ErrorKind::NotFound, field, Some(value.into()), "");
    }

    /// It is longer than `most` bytes.
    pub fn too_long(&mut self, field: &Path, most: usize) {
        self.push(ErrorKind::TooLong, field, None, format!("may not be more than {most} bytes"));
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
            &["Never", "Always"],
        );
        assert_eq!(
            errors.aggregate(),
            "[spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
             spec.containers[0].imagePullPolicy: Unsupported value: \"x\": supported values: \"Always\", \"Never\"]"
        );
    }
}
