//! `get`: one object, copied out of the store's memory.

use super::call::Call;
use super::{options, write};
use crate::http::respond::Answer;
use drydock_apimachinery::Status;
use drydock_etcd::Record;
use http::StatusCode;
use std::sync::Arc;

/// The longest that a reader waits for a revision that does not exist yet (`blockTimeout` of the watch cache).
pub const WAIT: std::time::Duration = std::time::Duration::from_secs(3);

/// Answers with the object that the path names.
pub async fn get(call: &Call) -> Result<Answer, Status> {
    match options::resource_version(call.query.text("resourceVersion"))? {
        Some(revision) => not_older_than(call, revision).await?,
        None => newest(call)?,
    }
    call.answer_record(StatusCode::OK, read(call)?).await
}

/// The record of the object that the path names.
pub fn read(call: &Call) -> Result<Arc<Record>, Status> {
    let found = call.server.store.get(call.key().as_bytes(), None).map_err(Status::internal)?;
    found.ok_or_else(|| call.not_found())
}

/// Refuses if it can't be told whether what is here is the newest: whoever names no revision wants that.
pub fn newest(call: &Call) -> Result<(), Status> {
    call.server.store.check_connection().map_err(write::refusal)
}

/// Waits until the store is as new as a reader wants, for a while.
pub async fn not_older_than(call: &Call, revision: i64) -> Result<(), Status> {
    let store = &call.server.store;
    if store.revision() >= revision || tokio::time::timeout(WAIT, store.reached(revision)).await.is_ok() {
        return Ok(());
    }
    Err(too_large(revision, store.revision()))
}

/// 504: nobody has heard of this revision (`NewTooLargeResourceVersionError`).
fn too_large(revision: i64, current: i64) -> Status {
    let message = format!("Timeout: Too large resource version: {revision}, current: {current}");
    let cause = "Too large resource version";
    let mut status = Status::failure(504, "Timeout", message).cause("ResourceVersionTooLarge", cause, "");
    status.details.get_or_insert_default().retry_after_seconds = 1;
    status
}
