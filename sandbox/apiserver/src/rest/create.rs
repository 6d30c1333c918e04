//! `create`.

use super::call::Call;
use super::meta;
use super::options::{WriteOptions, Writing};
use super::write;
use crate::http::respond::Answer;
use crate::managed;
use drydock_apimachinery::Status;
use http::StatusCode;
use hyper::body::Incoming;

/// Makes the object of the body.
pub async fn create(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let options = WriteOptions::new(&call.query, Writing::Create)?;
    let (input, bytes) = call.body(incoming).await?;
    let mut tree = call.decode(input, &bytes, options.field_validation)?;
    drop(bytes);
    if !call.resource.builtin_kind().is_none_or(|kind| kind.is_stored()) {
        return crate::review::answer(call, tree).await;
    }
    if call.resource.custom().is_some_and(|custom| custom.is_terminating) {
        let of = call.resource.group_resource();
        let mut status = Status::method_not_supported(of, "create");
        status.message = "create not allowed while custom resource definition is terminating".into();
        return Err(status);
    }
    meta::wipe(&mut tree);
    let resource = call.resource.clone();
    meta::set_namespace(&mut tree, &resource, call.namespace())?;
    if let Some(warning) = meta::dedup_owners(&mut tree, false) {
        call.warnings.push(warning);
    }
    resource.default(&mut tree);
    let manager = call.manager(&options.field_manager);
    managed::update(&resource, "", None, &mut tree, &manager);
    let written = write::store_new(call, tree, &options).await?;
    written.answer(call, StatusCode::CREATED).await
}
