//! The configuration with which `kubectl` outside reaches a session's cluster.

use super::App;
use crate::{auth::Caller, error::Error, kubernetes};
use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use drydock_protocol::{api::ApiError, state::Role};

/// Make a kubeconfig for the session's cluster. It holds a new link of the role `type`, which can be revoked as any other.
#[utoipa::path(post, path = "/sessions/{id}/kubeconfig", operation_id = "create_kubeconfig", params(("id" = String, Path)), responses(
    (status = 201, body = String, content_type = "application/yaml"), (status = 403, body = ApiError),
    (status = 409, body = ApiError), (status = 410, body = crate::error::Ended), (status = 429, body = ApiError),
))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    kubernetes::must_have_cluster(&right.live)?;
    let (_, token) = app.sessions.make_link(&right.live, Role::Type, None)?;
    let text = kubernetes::kubeconfig(&app.base(&caller), &right.live.id, &token);
    let name = format!("attachment; filename=\"drydock-{}.kubeconfig\"", right.live.id);
    let headers =
        [(header::CONTENT_TYPE, "application/yaml".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((StatusCode::CREATED, headers, text).into_response())
}
