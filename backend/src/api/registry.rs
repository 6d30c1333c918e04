//! A session's rules at the site's image registry. The operator sets them, and lessons on their behalf; learners only see them.

use super::{App, Body};
use crate::{auth::Caller, error::Error, registry::RulesError};
use axum::{
    Json,
    extract::{Path, State},
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
