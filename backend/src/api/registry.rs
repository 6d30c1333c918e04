//! A session's rules at the site's image registry. The operator sets them, and lessons on their behalf; learners only see them.
//! And the images that sessions share, which only the operator deletes.

use super::{App, Body, Query};
use crate::{
    auth::Caller,
    error::Error,
    registry::{RulesError, SharedImage},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use drydock_protocol::{
    api::{ApiError, RegistryRules, SetRegistryRules},
    state::Role,
};

/// Show who may log in at `registry:5000` from a session.
#[utoipa::path(get, path = "/sessions/{id}/registry", operation_id = "show_registry_rules", params(("id" = String, Path)), responses(
    (status = 200, body = RegistryRules), (status = 403, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RegistryRules>, Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    Ok(Json(app.sessions.registry.rules(&right.live.id)))
}

/// Set who may log in at `registry:5000` from a session (operator only). Accounts that are not named are gone.
#[utoipa::path(put, path = "/sessions/{id}/registry", operation_id = "set_registry_rules", params(("id" = String, Path)), request_body = SetRegistryRules, responses(
    (status = 200, body = RegistryRules), (status = 400, body = ApiError), (status = 403, body = ApiError),
    (status = 410, body = crate::error::Ended),
))]
pub async fn set(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(rules): Body<SetRegistryRules>,
) -> Result<Json<RegistryRules>, Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    caller.must_be_operator()?;
    let registry = &app.sessions.registry;
    registry.set_rules(&right.live.id, rules).await.map_err(|e| match e {
        RulesError::Disk(e) => Error::internal(e.to_string()),
        refused => Error::invalid("bad_rules", refused.to_string()),
    })?;
    Ok(Json(registry.rules(&right.live.id)))
}

/// Which shared image is meant.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SharedQuery {
    /// `shared/NAME:TAG`.
    image: String,
}

/// List the images that sessions share, and which session has set each (operator only).
#[utoipa::path(get, path = "/registry/shared", operation_id = "list_shared_images", responses(
    (status = 200, body = Vec<SharedImage>), (status = 403, body = ApiError),
))]
pub async fn list_shared(State(app): State<App>, caller: Caller) -> Result<Json<Vec<SharedImage>>, Error> {
    caller.must_be_operator()?;
    app.sessions.registry.shared().await.map(Json).map_err(Error::internal)
}

/// Delete an image that a session has shared (operator only). Its tag is free for any session again.
#[utoipa::path(delete, path = "/registry/shared", operation_id = "delete_shared_image", params(SharedQuery), responses(
    (status = 204, description = "It is gone"), (status = 403, body = ApiError), (status = 404, body = ApiError),
))]
pub async fn delete_shared(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<SharedQuery>,
) -> Result<StatusCode, Error> {
    caller.must_be_operator()?;
    match app.sessions.registry.delete_shared(&query.image).await.map_err(Error::internal)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => {
            let why = "No session has shared an image of this name: shared/NAME:TAG is its form.";
            Err(Error::not_found("no_such_image", why))
        }
    }
}
