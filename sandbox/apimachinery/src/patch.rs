//! `PATCH`: JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch. The API server calls [`apply`] with the stored
//! object, then [`Patched::conform`] for built-in kinds, which makes of the result what decoding makes of a body. Server-side apply is
//! no patch of this kind: see `apply`. Errors are those of apiserver's `pkg/endpoints/handlers/patch.go`.

pub(crate) mod go_format;
mod strategic;

use crate::Status;
use crate::decode::{self, Decoded, Format, go_json};
use crate::field::{ErrorList, Path};
use crate::schema::{Struct, Type};
use crate::status::GroupResource;
use json_patch::PatchOperation;
use serde_json::Value;

pub use strategic::{Field as PatchField, Lookup as PatchLookup};

/// Most operations of a JSON patch, as upstream.
const MOST_OPERATIONS: usize = 10_000;
/// Most bytes that `copy` operations may add up to, as upstream (the limit of request bodies).
const MOST_COPIED: usize = 3 * 1024 * 1024;
/// Most nesting of what a JSON patch makes.
const MOST_DEPTH: usize = 128;

/// What kind of patch a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`.
    Json,
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`: built-in kinds only.
    Strategic,
}

/// The result of a patch.
#[derive(Debug, Clone, PartialEq)]
pub struct Patched {
    /// The object, not yet conformed to its schema.
    pub object: Value,
    /// What was wrong with the patch but not refused, for `fieldValidation`.
    pub strict: Vec<String>,
    /// The strategic patch, as errors show it; other kinds show the result.
    shown: Option<String>,
}

impl Patched {
    /// What decoding makes of the result: unknown fields are dropped and told, wrong types refused (422).
    pub fn conform(&mut self, schema: Struct) -> Result<Decoded, Status> {
        let conformed = if self.shown.is_some() {
            decode::conform_taken(&mut self.object, schema)
        } else {
            decode::conform(&self.object, schema)
        };
        match conformed {
            Ok(mut decoded) => {
                decoded.strict.splice(0..0, self.strict.iter().cloned());
                Ok(decoded)
            }
            Err(error) => {
                // The result of a strategic patch is not decoded, but converted.
                let converted =
                    self.shown.as_ref().and_then(|_| decode::unstructured_error(&self.object, schema));
                Err(self.refused(converted.unwrap_or_else(|| error.to_string())))
            }
        }
    }

    fn shown(&self) -> String {
        self.shown.clone().unwrap_or_else(|| self.object.to_string())
    }

    /// The refusal of a result that is no object of its kind (422).
    pub fn refused(&self, why: impl Into<String>) -> Status {
        invalid(self.shown(), why.into())
    }

    /// The refusal under `fieldValidation=Strict` (422), with the strict errors that [`Self::conform`] told.
    pub fn strict_status(&self, strict: &[String]) -> Status {
        self.refused(format!("strict decoding error: {}", strict.join(", ")))
    }
}

fn invalid(shown: String, detail: String) -> Status {
    let mut errors = ErrorList::default();
    errors.invalid(&Path::new("patch"), shown, detail);
    Status::invalid(GroupResource { group: "", resource: "" }, "", &errors)
}

/// 422 without a reason, as upstream answers to patches that do not apply.
fn unprocessable() -> Status {
    let mut status =
        Status::failure(422, "Invalid", "the server rejected our request due to an error in our request");
    status.details = Some(Box::default());
    status
}

/// Applies a patch to an object. `schema` is needed for strategic patches.
pub fn apply(
    kind: PatchKind,
    current: Value,
    body: &[u8],
    schema: Option<Struct>,
) -> Result<Patched, Status> {
    match kind {
        PatchKind::Json => json(current, body),
        PatchKind::Merge => {
            let patch =
                tree(body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            if !patch.object.is_object() {
                let why = go_json::wrong_type(&patch.object, "Go value of type map[string]interface {}");
                return Err(Status::bad_request(format!("error decoding patch: {why}")));
            }
            let mut object = current;
            json_patch::merge(&mut object, &patch.object);
            Ok(Patched { object, strict: patch.strict, shown: None })
        }
        PatchKind::Strategic => {
            let patch = tree(body).map_err(Status::bad_request)?;
            let map = match patch.object {
                Value::Object(map) => map,
                other => {
                    let why = go_json::wrong_type(&other, "Go value of type map[string]interface {}");
                    return Err(Status::bad_request(why));
                }
            };
            let shown = Some(go_format::map(&map));
            let Value::Object(original) = current else {
                return Err(Status::internal("the stored object is no object"));
            };
            let type_ = schema.map(Type::Struct);
            let object = strategic::merge(original, map, type_).map_err(|error| match error {
                strategic::Error::Bad(message) => Status::bad_request(message),
                strategic::Error::Unprocessable => unprocessable(),
                strategic::Error::Other(message) => Status::internal(message),
            })?;
            Ok(Patched { object: Value::Object(object), strict: patch.strict, shown })
        }
    }
}

/// Any JSON; the error in Go's words.
fn tree(body: &[u8]) -> Result<Decoded, String> {
    decode::decode_untyped(body, Format::Json).map_err(|error| {
        let text = error.to_string();
        text.strip_prefix("couldn't get version/kind; json parse error: ").map(Into::into).unwrap_or(text)
    })
}

fn json(current: Value, body: &[u8]) -> Result<Patched, Status> {
    let tree = tree(body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let strict = tree.strict.iter().map(|text| format!("json patch {text}")).collect();
    let operations = operations(tree.object)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    if operations.len() > MOST_OPERATIONS {
        let count = operations.len();
        return Err(Status::failure(
            413,
            "RequestEntityTooLarge",
            format!("The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {count}"),
        ));
    }
    let (mut object, mut copied) = (current, 0);
    for operation in operations {
        let operation: PatchOperation = serde_json::from_value(operation).map_err(|_| unprocessable())?;
        let operation = &operation;
        bounded(&object, operation, &mut copied).ok_or_else(unprocessable)?;
        json_patch::patch(&mut object, std::slice::from_ref(operation)).map_err(|_| unprocessable())?;
    }
    Ok(Patched { object, strict, shown: None })
}

/// The operations, as far as decoding looks at them (`jsonPatchOp` of apiserver's handlers): whether there is such an operation is found
/// out when they are applied.
fn operations(patch: Value) -> Result<Vec<Value>, String> {
    let operations = match patch {
        Value::Array(all) => all,
        Value::Null => Vec::new(),
        other => return Err(go_json::wrong_type(&other, "Go value of type []handlers.jsonPatchOp")),
    };
    for one in operations.iter().filter(|one| !one.is_null()) {
        let Value::Object(map) = one else {
            return Err(go_json::wrong_type(one, "Go value of type handlers.jsonPatchOp"));
        };
        for field in ["op", "path", "from"] {
            if let Some(value) = map.get(field).filter(|value| !value.is_string() && !value.is_null()) {
                let into = format!("Go struct field jsonPatchOp.{field} of type string");
                return Err(go_json::wrong_type(value, &into));
            }
        }
    }
    Ok(operations)
}

/// Whether an operation keeps within bounds: few lines of `copy` and `move` could make a huge or endlessly deep object.
fn bounded(object: &Value, operation: &PatchOperation, copied: &mut usize) -> Option<()> {
    let (value, path, copies) = match operation {
        PatchOperation::Add(add) => (&add.value, &add.path, false),
        PatchOperation::Replace(replace) => (&replace.value, &replace.path, false),
        PatchOperation::Copy(copy) => (object.pointer(copy.from.as_str())?, &copy.path, true),
        PatchOperation::Move(move_) => (object.pointer(move_.from.as_str())?, &move_.path, false),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Some(()),
    };
    if copies {
        *copied += value.to_string().len();
    }
    let within = path.as_str().matches('/').count() + depth(value) <= MOST_DEPTH && *copied <= MOST_COPIED;
    within.then_some(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(all) => 1 + all.iter().map(depth).max().unwrap_or(0),
        Value::Object(all) => 1 + all.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::find;
    use serde_json::json;

    fn deployment() -> Struct {
        find("apps", "v1", "Deployment").unwrap()
    }

    fn run(kind: PatchKind, current: Value, patch: Value) -> Result<Value, Status> {
        apply(kind, current, patch.to_string().as_bytes(), Some(deployment())).map(|patched| patched.object)
    }

    #[test]
    fn json_patches() {
        let object = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1}});
        let run = |patch| run(PatchKind::Json, object.clone(), patch);
        assert_eq!(
            run(json!([{"op": "replace", "path": "/spec/replicas", "value": 3}])).unwrap()["spec"]["replicas"],
            3
        );
        assert_eq!(
            run(json!([{"op": "add", "path": "/metadata/labels/x.io~1y", "value": "z"}])).unwrap()["metadata"]
                ["labels"],
            json!({"a": "b", "x.io/y": "z"})
        );
        for failing in [
            json!([{"op": "test", "path": "/spec/replicas", "value": 9}]),
            json!([{"op": "remove", "path": "/spec/nope"}]),
            json!([{"op": "add", "path": "/status/a/b", "value": 1}]),
        ] {
            let status = run(failing).unwrap_err();
            assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
            assert_eq!(status.message, "the server rejected our request due to an error in our request");
            assert_eq!(status.to_value()["details"], json!({}));
        }
        for (wrong, why) in [
            (json!({"op": "add"}), "object into Go value of type []handlers.jsonPatchOp"),
            (json!(["add"]), "string into Go value of type handlers.jsonPatchOp"),
            (json!([{"op": 1}]), "number into Go struct field jsonPatchOp.op of type string"),
        ] {
            let status = run(wrong).unwrap_err();
            assert_eq!(status.code, 400);
            assert_eq!(status.message, format!("error decoding patch: json: cannot unmarshal {why}"));
        }
        assert_eq!(run(json!([{"op": "bogus", "path": "/a"}])).unwrap_err().code, 422);
    }

    #[test]
    fn json_patches_cannot_grow_without_end() {
        let doubling: Vec<_> = (0..60).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})).collect();
        let object = json!({"a": ["x".repeat(1000)]});
        assert_eq!(run(PatchKind::Json, object, json!(doubling)).unwrap_err().code, 422);
        let deepening: Vec<_> =
            (0..200).map(|n| json!({"op": "add", "path": "/a".repeat(n + 1), "value": {}})).collect();
        assert_eq!(run(PatchKind::Json, json!({}), json!(deepening)).unwrap_err().code, 422);
        let many: Vec<_> =
            (0..=MOST_OPERATIONS).map(|_| json!({"op": "test", "path": "/a", "value": 1})).collect();
        assert_eq!(run(PatchKind::Json, json!({"a": 1}), json!(many)).unwrap_err().code, 413);
    }

    #[test]
    fn merge_patches_replace_lists_and_delete_with_null() {
        let object =
            json!({"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"template": {"x": [1, 2]}}});
        let patch = json!({"metadata": {"labels": {"a": null}}, "spec": {"template": {"x": [3]}}});
        assert_eq!(
            run(PatchKind::Merge, object, patch).unwrap(),
            json!({"metadata": {"labels": {"c": "d"}}, "spec": {"template": {"x": [3]}}})
        );
        assert_eq!(run(PatchKind::Merge, json!({}), json!([1])).unwrap_err().code, 400);
    }

    #[test]
    fn kubectl_apply_with_a_changed_image_and_a_dropped_container() {
        let object = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "sidecar", "image": "s"},
            {"name": "web", "image": "nginx:1", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {}},
        ]}}}});
        let patch = json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "web"}],
            "containers": [{"name": "web", "image": "nginx:2", "$setElementOrder/ports": [{"containerPort": 80}, {"containerPort": 81}],
                "ports": [{"containerPort": 81}]}, {"name": "sidecar", "$patch": "delete"}],
        }}}});
        assert_eq!(
            run(PatchKind::Strategic, object, patch).unwrap()["spec"]["template"]["spec"]["containers"],
            json!([{"name": "web", "image": "nginx:2", "resources": {},
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81}]}])
        );
    }

    #[test]
    fn a_changed_strategy_retains_its_keys_only() {
        let object =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let patched = run(PatchKind::Strategic, object.clone(), patch).unwrap();
        assert_eq!(patched["spec"]["strategy"], json!({"type": "Recreate"}));
        let wrong = json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}});
        let status = run(PatchKind::Strategic, object, wrong).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (400, "invalid patch format of retainKeys"));
    }

    #[test]
    fn results_that_fit_no_schema_are_refused_with_the_patch() {
        let mut patched = apply(
            PatchKind::Strategic,
            json!({"kind": "Deployment"}),
            br#"{"spec":{"replicas":"x","paused":true}}"#,
            Some(deployment()),
        )
        .unwrap();
        assert_eq!(
            patched.conform(deployment()).unwrap_err().message,
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[paused:true replicas:x]]\": unrecognized type: int32"
        );
        let mut patched = apply(PatchKind::Merge, json!({}), br#"{"spec":{"bogus":1}}"#, None).unwrap();
        let decoded = patched.conform(deployment()).unwrap();
        assert_eq!(
            patched.strict_status(&decoded.strict).message,
            " \"\" is invalid: patch: Invalid value: \"{\\\"spec\\\":{\\\"bogus\\\":1}}\": strict decoding error: unknown field \"spec.bogus\""
        );
    }
}
