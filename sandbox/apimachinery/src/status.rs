//! `Status`: what the API server answers when it does not answer with an object (k8s.io/apimachinery `pkg/apis/meta/v1/types.go`),
//! made with the words of `pkg/api/errors/errors.go`, since clients show them and some look into them.

use crate::field::ErrorList;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An answer that is no object: mostly a refusal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Always `kind: Status` and `apiVersion: v1`; takes no space, so that errors stay small.
    #[serde(flatten)]
    type_meta: TypeMeta,
    /// Empty but for the `continue` of an expired list.
    #[serde(default)]
    pub metadata: ListMeta,
    /// `Success` or `Failure`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For programs: one word, such as `NotFound`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code.
    #[serde(default)]
    pub code: u16,
}

/// Kind and version of every status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TypeMeta;

impl Serialize for TypeMeta {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("kind", "Status")?;
        map.serialize_entry("apiVersion", "v1")?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for TypeMeta {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The part of `ListMeta` that a status may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListMeta {
    /// Token with which an expired list can go on.
    #[serde(rename = "continue", default, skip_serializing_if = "String::is_empty")]
    pub continue_: String,
}

/// `StatusDetails`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind or its resource, whichever the message names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What exactly is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// `StatusCause`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Such as `FieldValueInvalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// A resource for a message: `deployments.apps`, or `pods` of the core group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// Empty: core.
    pub group: &'a str,
    /// The plural (or, in messages of validation, the kind).
    pub resource: &'a str,
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

impl Status {
    /// A refusal with this code, reason and message.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            type_meta: TypeMeta,
            metadata: ListMeta::default(),
            status: "Failure".into(),
            message: message.into(),
            reason: reason.into(),
            details: None,
            code,
        }
    }

    /// A success with nothing else to say, as deletions answer.
    pub fn success() -> Self {
        Self { status: "Success".into(), message: String::new(), ..Self::failure(200, "", "") }
    }

    /// The same with details about an object.
    pub fn about(mut self, of: GroupResource<'_>, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = of.group.into();
        details.kind = of.resource.into();
        details.name = name.into();
        self
    }

    /// The same with one cause more.
    pub fn cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let cause = Cause { reason: reason.into(), message: message.into(), field: field.into() };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// 404: there is no such object.
    pub fn not_found(of: GroupResource<'_>, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{of} \"{name}\" not found")).about(of, name)
    }

    /// 409: there is one already.
    pub fn already_exists(of: GroupResource<'_>, name: &str) -> Self {
        Self::failure(409, "AlreadyExists", format!("{of} \"{name}\" already exists")).about(of, name)
    }

    /// 409: it has changed meanwhile, or a precondition does not hold.
    pub fn conflict(of: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {of} \"{name}\": {why}");
        Self::failure(409, "Conflict", message).about(of, name)
    }

    /// 403: not allowed.
    pub fn forbidden(of: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = match (of.resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{of} is forbidden: {why}"),
            _ => format!("{of} \"{name}\" is forbidden: {why}"),
        };
        Self::failure(403, "Forbidden", message).about(of, name)
    }

    /// 422: the object is invalid. `kind` is the object's kind (not its resource).
    pub fn invalid(kind: GroupResource<'_>, name: &str, errors: &ErrorList) -> Self {
        let message = format!("{kind} \"{name}\" is invalid: {}", errors.aggregate());
        let mut status = Self::failure(422, "Invalid", message).about(kind, name);
        for error in errors.iter() {
            status = status.cause(error.kind.reason(), error.body(), &error.field);
        }
        status
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 405: the resource can't do that.
    pub fn method_not_supported(of: GroupResource<'_>, verb: &str) -> Self {
        Self::failure(
            405,
            "MethodNotAllowed",
            format!("{verb} is not supported on resources of kind \"{of}\""),
        )
        .about(of, "")
    }

    /// 410: the revision is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 500: our own fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        Self::failure(500, "InternalError", format!("Internal error occurred: {message}"))
            .cause("", message, "")
    }

    /// As JSON.
    pub fn to_value(&self) -> Value {
        // Strings, numbers and lists only: it can't fail.
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_small_and_survive_json() {
        assert!(size_of::<Status>() < 128);
        let status = Status::bad_request("no");
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.starts_with(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"no""#
        ));
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn words_are_those_of_kubernetes() {
        let of = GroupResource { group: "example.com", resource: "widgets" };
        let status = Status::not_found(of, "x");
        assert_eq!(status.message, "widgets.example.com \"x\" not found");
        let core = GroupResource { group: "", resource: "pods" };
        assert_eq!(Status::forbidden(core, "p", "no").message, "pods \"p\" is forbidden: no");
    }
}
