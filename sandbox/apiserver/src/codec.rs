//! Bodies of requests to objects: the schema of the kind decides what is a field, the query's `fieldValidation` what becomes of what
//! is none.

use crate::custom::CustomKind;
use crate::http::negotiate::Input;
use crate::resource::{Resource, group_version};
use crate::rest::options::FieldValidation;
use drydock_apimachinery::Status;
use drydock_apimachinery::decode::{self, DecodeError, Decoded, Format};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object::text;
use drydock_apimachinery::patch::Patched;
use drydock_apimachinery::schema::{self, Struct};
use drydock_apimachinery::status::GroupResource;
use serde_json::Value;

/// A kind that a body may be of.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Empty: core.
    pub group: &'a str,
    /// Such as `v1`.
    pub version: &'a str,
    /// Such as `Pod`.
    pub kind: &'a str,
}

impl<'a> Expected<'a> {
    /// The kind of a resource's objects.
    pub fn of(resource: &'a Resource) -> Self {
        Self { group: &resource.group, version: &resource.version, kind: &resource.kind }
    }

    fn api_version(&self) -> String {
        crate::resource::api_version(self.group, self.version)
    }

    /// Its fields.
    pub fn schema(&self) -> Result<Struct, Status> {
        schema::find(self.group, self.version, self.kind)
            .ok_or_else(|| Status::internal(format!("{} has no schema", self.kind)))
    }
}

fn format(input: Input) -> Format {
    match input {
        Input::Json => Format::Json,
        Input::Yaml => Format::Yaml,
        Input::Protobuf => Format::Protobuf,
    }
}

/// Reads an object of a resource.
pub fn decode_object(
    resource: &Resource,
    input: Input,
    body: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let expected = Expected::of(resource);
    if resource.custom().is_some() {
        return decode_custom(resource, &expected, input, body, validation, warnings);
    }
    decode_typed(&expected, input, body, validation, warnings)
}

/// Reads an object of a built-in kind; it need not say its kind.
pub fn decode_typed(
    expected: &Expected<'_>,
    input: Input,
    body: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    decode_versions(expected, None, input, body, validation, warnings)
}

/// The same of a kind that has the same fields in an older version, which is taken, too.
pub fn decode_versions(
    expected: &Expected<'_>,
    older: Option<&str>,
    input: Input,
    body: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let decoded = decode::decode(body, format(input), expected.schema()?);
    let mut decoded = decoded.map_err(|error| error.status(expected.kind, body))?;
    let older = older.map(|version| crate::resource::api_version(expected.group, version));
    if older.is_some_and(|older| text(&decoded.object, &["apiVersion"]) == older) {
        decoded.object["apiVersion"] = expected.api_version().into();
    }
    check_kind(expected, &mut decoded.object)?;
    judge(expected, decoded, validation, warnings)
}

/// A body of another kind than the path's, in the words of upstream's codec.
pub fn check_kind(expected: &Expected<'_>, object: &mut Value) -> Result<(), Status> {
    let (group, version) = group_version(text(object, &["apiVersion"]));
    let kind = text(object, &["kind"]);
    let said_version = !version.is_empty();
    if said_version && (group, version) != (expected.group, expected.version) {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            text(object, &["apiVersion"]),
            expected.api_version()
        )));
    }
    if !kind.is_empty() && kind != expected.kind {
        let version = expected.version;
        let hub = if expected.group.is_empty() {
            "core"
        } else {
            expected.group.split('.').next().unwrap_or_default()
        };
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: converting ({version}.{kind}) to ({hub}.{}): unknown conversion",
            expected.kind, expected.kind
        )));
    }
    name_kind(expected, object);
    Ok(())
}

fn name_kind(expected: &Expected<'_>, object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("kind".into(), expected.kind.into());
        map.insert("apiVersion".into(), expected.api_version().into());
    }
}

/// What becomes of what is no field.
pub fn judge(
    expected: &Expected<'_>,
    decoded: Decoded,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    match validation {
        FieldValidation::Strict if !decoded.strict.is_empty() => {
            Err(decode::strict_status(expected.version, expected.kind, &decoded.strict))
        }
        FieldValidation::Warn => {
            warnings.extend(decoded.strict);
            Ok(decoded.object)
        }
        FieldValidation::Strict | FieldValidation::Ignore => Ok(decoded.object),
    }
}

/// Reads an object of a custom resource; it must say its kind.
fn decode_custom(
    resource: &Resource,
    expected: &Expected<'_>,
    input: Input,
    body: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let decoded = decode::decode_untyped(body, format(input));
    let mut decoded = decoded.map_err(|error| error.status(expected.kind, body))?;
    if !decoded.object.is_object() || text(&decoded.object, &["kind"]).is_empty() {
        let summary: String = String::from_utf8_lossy(body).chars().take(30).collect();
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in '{}' ({})",
            expected.kind,
            String::from_utf8_lossy(body).trim_end(),
            summary.trim_end()
        )));
    }
    check_custom_kind(expected, &decoded.object)?;
    decode::conform_metadata(&mut decoded).map_err(|error| error.status(expected.kind, body))?;
    if let Some(custom) = resource.custom() {
        custom.prune(&mut decoded);
    }
    judge(expected, decoded, validation, warnings)
}

/// Custom resources refuse another kind as they refuse a wrong field (apiextensions' `customresource_handler.go`).
fn check_custom_kind(expected: &Expected<'_>, object: &Value) -> Result<(), Status> {
    let kind = text(object, &["kind"]);
    let api_version = text(object, &["apiVersion"]);
    let mut errors = ErrorList::default();
    if api_version != expected.api_version() {
        errors.invalid(&Path::new("apiVersion"), api_version, format!("must be {}", expected.api_version()));
    }
    if kind != expected.kind {
        errors.invalid(&Path::new("kind"), kind, format!("must be {}", expected.kind));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let of = GroupResource { group: group_version(api_version).0, resource: kind };
    Err(Status::invalid(of, drydock_apimachinery::object::name(object), &errors))
}

/// Makes what a patch made of a custom resource an object of it again.
pub fn conform_custom(
    custom: &CustomKind,
    expected: &Expected<'_>,
    patched: &Patched,
) -> Result<Decoded, Status> {
    check_custom_kind(expected, &patched.object)?;
    let mut decoded = Decoded { object: patched.object.clone(), strict: patched.strict.clone() };
    decode::conform_metadata(&mut decoded).map_err(|error| patched.refused(error.to_string()))?;
    custom.prune(&mut decoded);
    Ok(decoded)
}

/// Makes what a server-side apply wants, in which nothing is filled in, what it would be had it come as an object.
pub fn conform_applied(resource: &Resource, wanted: Value) -> Result<Value, Status> {
    let expected = Expected::of(resource);
    let refused = |error: DecodeError| error.status(expected.kind, b"");
    let Some(custom) = resource.custom() else {
        return Ok(decode::conform(&wanted, expected.schema()?).map_err(refused)?.object);
    };
    let mut decoded = Decoded { object: wanted, strict: Vec::new() };
    decode::conform_metadata(&mut decoded).map_err(refused)?;
    custom.prune(&mut decoded);
    Ok(decoded.object)
}

/// A stored object as it was before it was completed.
pub fn sparse(resource: &Resource, tree: Value) -> Result<Value, Status> {
    match schema::find(&resource.group, &resource.version, &resource.kind) {
        Some(schema) if resource.custom().is_none() => {
            let sparse = decode::sparse(tree, schema);
            sparse.map_err(|error| Status::internal(format!("a stored object is none: {error}")))
        }
        _ => Ok(tree),
    }
}

/// Fills in what is always written of an object of a built-in kind.
pub fn complete(resource: &Resource, tree: &mut Value) {
    if resource.custom().is_none()
        && let Some(schema) = schema::find(&resource.group, &resource.version, &resource.kind)
    {
        decode::complete(tree, schema);
    }
}

/// Reads options that come as a body. Every group knows them (`v1` and `apps/v1` alike).
pub fn decode_meta(kind: &str, input: Input, body: &[u8]) -> Result<Value, Status> {
    let schema = schema::find("meta.k8s.io", "v1", kind)
        .ok_or_else(|| Status::internal(format!("{kind} has no schema")))?;
    let decoded = decode::decode(body, format(input), schema);
    let object = decoded.map_err(|error| Status::bad_request(error.to_string()))?.object;
    match text(&object, &["kind"]) {
        said if said.is_empty() || said == kind => Ok(object),
        other => Err(Status::bad_request(format!(
            "converting ({other}) to ({kind}): decoded object cannot be converted to {kind}"
        ))),
    }
}
