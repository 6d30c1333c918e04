//! `patch` in its five forms. A patch is applied anew to what there is each time somebody else was quicker.

use super::call::Call;
use super::options::{FieldValidation, WriteOptions, Writing};
use super::update::{self, Change};
use crate::codec::{self, Expected};
use crate::http::negotiate::{self, content_type};
use crate::http::respond::Answer;
use crate::managed;
use crate::resource::Resource;
use bytes::Bytes;
use drydock_apimachinery::decode::{self, Decoded};
use drydock_apimachinery::patch::{self, PatchKind, Patched};
use drydock_apimachinery::{Status, managed_fields};
use http::StatusCode;
use hyper::body::Incoming;
use serde_json::Value;

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own: lists are merged by keys.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// A patch that was read.
#[derive(Debug, Clone)]
pub struct Patch {
    /// How it is written.
    pub form: Form,
    /// What it says.
    pub body: Bytes,
    /// How it is carried out.
    pub options: WriteOptions,
}

impl Patch {
    /// Reads options and body.
    pub async fn read(call: &Call, incoming: Incoming) -> Result<Self, Status> {
        let form = form(call)?;
        let body = crate::http::body::read(incoming).await?;
        let writing = if form == Form::Apply { Writing::Apply } else { Writing::Patch };
        let options = WriteOptions::new(&call.query, writing)?;
        Ok(Self { form, body, options })
    }

    /// Applies it to an object of a resource.
    pub fn of_object(
        &self,
        resource: &Resource,
        old: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let expected = Expected::of(resource);
        match resource.custom() {
            None => self.of_typed(&expected, old, warnings),
            Some(custom) => {
                let patched = patch::apply(self.kind()?, old.clone(), &self.body, None)?;
                let decoded = codec::conform_custom(custom, &expected, &patched)?;
                self.judge(&patched, decoded, warnings)
            }
        }
    }

    /// Applies it to an object with a schema: of a built-in kind, or a scale.
    pub fn of_typed(
        &self,
        expected: &Expected<'_>,
        old: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let schema = expected.schema()?;
        let mut old = old.clone();
        // A strategic patch replaces managers as a whole, if at all, and its errors don't show them.
        if self.form != Form::Strategic {
            managed_fields::without_texts(&mut old);
        }
        let mut patched = patch::apply(self.kind()?, old, &self.body, Some(schema))?;
        let decoded = patched.conform(schema)?;
        let mut object = self.judge(&patched, decoded, warnings)?;
        codec::check_kind(expected, &mut object)?;
        Ok(object)
    }

    /// What becomes of what is no field.
    fn judge(
        &self,
        patched: &Patched,
        mut decoded: Decoded,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        match self.options.field_validation {
            FieldValidation::Strict if !decoded.strict.is_empty() => {
                return Err(patched.strict_status(&decoded.strict));
            }
            FieldValidation::Warn => warnings.append(&mut decoded.strict),
            _ => {}
        }
        Ok(decoded.object)
    }

    fn kind(&self) -> Result<PatchKind, Status> {
        match self.form {
            Form::Json => Ok(PatchKind::Json),
            Form::Merge => Ok(PatchKind::Merge),
            Form::Strategic => Ok(PatchKind::Strategic),
            Form::Apply => Err(Status::internal("an apply is no patch of this kind")),
        }
    }
}

fn form(call: &Call) -> Result<Form, Status> {
    let is_custom = call.resource.custom().is_some();
    match content_type(&call.headers) {
        "application/json-patch+json" => Ok(Form::Json),
        "application/merge-patch+json" => Ok(Form::Merge),
        "application/strategic-merge-patch+json" if !is_custom => Ok(Form::Strategic),
        "application/apply-patch+yaml" => Ok(Form::Apply),
        _ if is_custom => Err(negotiate::unsupported_media(
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        _ => Err(negotiate::unsupported_media(
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
             application/apply-patch+yaml",
        )),
    }
}

/// Patches the object that the path names.
pub async fn patch(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let patch = Patch::read(call, incoming).await?;
    if patch.form == Form::Apply {
        return apply(call, &patch).await;
    }
    let resource = call.resource.clone();
    let manager = call.manager(&patch.options.field_manager);
    let sub = call.info.subresource.clone();
    let change = Change::default();
    let (written, created) = update::apply(call, &patch.options, &change, |old, warnings| {
        let Some(old) = old else { return Err(Status::internal("this patch creates nothing")) };
        let mut new = patch.of_object(&resource, old, warnings)?;
        resource.default(&mut new);
        managed::update(&resource, &sub, Some(old), &mut new, &manager);
        Ok(new)
    })
    .await?;
    written.answer(call, if created { StatusCode::CREATED } else { StatusCode::OK }).await
}

/// Server-side apply: the patch is all that its manager wants; what others own is theirs unless it is forced.
async fn apply(call: &mut Call, patch: &Patch) -> Result<Answer, Status> {
    let resource = call.resource.clone();
    let sub = call.info.subresource.clone();
    let manager = patch.options.field_manager.clone();
    let written = decode::decode_applied(&patch.body)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    let validation = patch.options.field_validation;
    let change = Change { may_create: sub.is_empty(), ..Change::default() };
    let force = patch.options.force;
    let (written, created) = update::apply(call, &patch.options, &change, |old, warnings| {
        managed::check(&resource, &sub, &written.object)?;
        let wanted = codec::conform_applied(&resource, written.object.clone())?;
        let mut new = managed::apply(&resource, &sub, old, &wanted, &manager, force)?;
        codec::judge(&Expected::of(&resource), written.clone(), validation, warnings)?;
        resource.default(&mut new);
        Ok(new)
    })
    .await?;
    written.answer(call, if created { StatusCode::CREATED } else { StatusCode::OK }).await
}
