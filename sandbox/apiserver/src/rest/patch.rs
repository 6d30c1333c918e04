//! `patch` in its five forms. A patch is applied anew to what there is each time somebody else was quicker.

use super::call::Call;
use super::options::{WriteOptions, Writing};
use super::update::{self, Change};
use crate::codec::{self, Expected};
use crate::http::negotiate::{self, content_type};
use crate::http::respond::Answer;
use crate::managed;
use crate::resource::Resource;
use bytes::Bytes;
use drydock_apimachinery::Status;
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
        let patched = self.apply(old)?;
        codec::conform(resource, patched, self.options.field_validation, warnings)
    }

    /// Applies it to an object of another kind: a scale.
    pub fn of_typed(
        &self,
        expected: &Expected<'_>,
        old: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        codec::conform_typed(expected, self.apply(old)?, self.options.field_validation, warnings)
    }

    fn apply(&self, old: &Value) -> Result<Value, Status> {
        match self.form {
            Form::Merge => {
                let patch: Value = serde_json::from_slice(&self.body)
                    .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
                let mut new = old.clone();
                merge(&mut new, &patch);
                Ok(new)
            }
            _ => Err(negotiate::unsupported_media("application/merge-patch+json")),
        }
    }
}

/// RFC 7386. Bodies are no deeper than the JSON reader lets them be.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(entries) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in entries {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
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
    let resource = call.resource.clone();
    let manager = call.manager(&patch.options.field_manager);
    let sub = call.info.subresource.clone();
    let change = Change::default();
    let (written, created) = update::apply(call, &patch.options, &change, |old, warnings| {
        let Some(old) = old else { return Err(Status::internal("this patch creates nothing")) };
        let mut new = patch.of_object(&resource, old, warnings)?;
        resource.default(&mut new);
        managed::update(&resource, &sub, Some(old), &mut new, &manager)?;
        Ok(new)
    })
    .await?;
    written.answer(call, if created { StatusCode::CREATED } else { StatusCode::OK })
}
