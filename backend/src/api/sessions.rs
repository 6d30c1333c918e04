//! Sessions and the queue.

use super::{App, Body};
use crate::{
    auth::{Caller, set_cookie},
    error::Error,
    sessions::{
        create::{Made, Outcome},
        live::EndKind,
    },
};
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use drydock_protocol::{
    api::{ApiError, CreateSession, Created, Extend, Queued, Session, SessionLine},
    state::Role,
};
use std::time::Instant;

/// Make a session. Answers when its first prompt is there.
#[utoipa::path(post, path = "/sessions", operation_id = "create_session", request_body = CreateSession, responses(
    (status = 201, description = "It is ready; a cookie lets this browser in", body = Created),
    (status = 202, description = "The host is full: a place in the queue", body = Queued),
    (status = 400, body = ApiError), (status = 429, body = ApiError), (status = 503, body = ApiError),
))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(wish): Body<CreateSession>,
) -> Result<Response, Error> {
    let arrived = Instant::now();
    let client = caller.client(app.sessions.config.behind_proxy);
    let want = app.sessions.check(&wish, client)?;
    let outcome = app.sessions.create(want, arrived).await?;
    answer(&app, &caller, outcome)
}

/// Ask about a place in the queue, at least once a minute. When it is its turn the session is made and answered.
#[utoipa::path(get, path = "/queue/{ticket}", operation_id = "ask_queue", params(("ticket" = String, Path, description = "From Queued")), responses(
    (status = 201, description = "Its turn came, the session is ready", body = Created),
    (status = 202, description = "Still waiting", body = Queued),
    (status = 404, body = ApiError), (status = 503, body = ApiError),
))]
pub async fn queue(
    State(app): State<App>,
    caller: Caller,
    Path(ticket): Path<String>,
) -> Result<Response, Error> {
    let outcome = app.sessions.ask(&ticket, Instant::now()).await?;
    answer(&app, &caller, outcome)
}

/// Give up a place in the queue.
#[utoipa::path(delete, path = "/queue/{ticket}", operation_id = "leave_queue", params(("ticket" = String, Path, description = "From Queued")), responses(
    (status = 204, description = "Whoever waits behind it moves up"), (status = 404, body = ApiError),
))]
pub async fn leave(State(app): State<App>, Path(ticket): Path<String>) -> Result<StatusCode, Error> {
    app.sessions.leave(&ticket)?;
    Ok(StatusCode::NO_CONTENT)
}

fn answer(app: &App, caller: &Caller, outcome: Outcome) -> Result<Response, Error> {
    match outcome {
        Outcome::Queued(queued) => Ok((StatusCode::ACCEPTED, Json(queued)).into_response()),
        Outcome::Made(made) => {
            let Made { live, token, nodes, ready_ms } = *made;
            let url = link_url(&app.base(caller), live.id.as_str(), &token);
            let cookie = cookie(app, caller, live.id.as_str(), &token)?;
            let expires_at = live.now().expires_at;
            let body = Created { id: live.id.clone(), url, token, nodes, ready_ms, expires_at };
            Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], Json(body)).into_response())
        }
    }
}

/// Where a browser opens a session. The token is in the fragment, which browsers send to nobody.
pub fn link_url(base: &str, id: &str, token: &str) -> String {
    format!("{base}/s/{id}#t={token}")
}

fn cookie(app: &App, caller: &Caller, id: &str, token: &str) -> Result<HeaderValue, Error> {
    let age = app.sessions.config.max_ttl.seconds();
    let text = set_cookie(id, token, app.scheme(caller.headers()), age);
    HeaderValue::from_str(&text)
        .map_err(|_| Error::invalid("bad_token", "The token has characters that no token has."))
}

/// List the sessions that have not ended (operator only).
#[utoipa::path(get, path = "/sessions", operation_id = "list_sessions", responses(
    (status = 200, body = Vec<SessionLine>), (status = 403, body = ApiError),
))]
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Vec<SessionLine>>, Error> {
    caller.must_be_operator()?;
    Ok(Json(app.sessions.list()))
}

/// Show a session. An ended one is shown with status 410.
#[utoipa::path(get, path = "/sessions/{id}", operation_id = "show_session", params(("id" = String, Path)), responses(
    (status = 200, body = Session), (status = 403, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Session>, Error> {
    let right = caller.right(&app.sessions, &id, Role::View)?;
    Ok(Json(app.sessions.describe(&right.live, right.role).await?))
}

/// End a session and delete everything of it.
#[utoipa::path(delete, path = "/sessions/{id}", operation_id = "delete_session", params(("id" = String, Path)), responses(
    (status = 204, description = "Nothing of it is left"),
    (status = 503, description = "It is closed, and what runs of it is removed when the warden is back", body = ApiError),
    (status = 403, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    let who = if caller.is_operator() { "The operator ended it." } else { "Its owner ended it." };
    if app.sessions.end(&right.live, EndKind::Deleted, who).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Error::unavailable(
        "removed_later",
        "The session is closed, but the server cannot remove what runs of it now: that is done when its operator has started drydock serve again.",
    ))
}

/// Exchange the token in the Authorization header for a cookie.
#[utoipa::path(post, path = "/sessions/{id}/enter", operation_id = "enter_session", params(("id" = String, Path)), responses(
    (status = 204, description = "The cookie is set"),
    (status = 403, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn enter(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    // A cookie cannot be exchanged for itself.
    let token = caller.bearer().ok_or_else(Error::no_right)?;
    let right = caller.right(&app.sessions, &id, Role::View)?;
    // An owner who looks at the link that they have just made for others stays the owner.
    if caller.cookie_role(&app.sessions, &id).is_some_and(|role| role > right.role) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let cookie = cookie(&app, &caller, &id, token)?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Let a session live longer.
#[utoipa::path(post, path = "/sessions/{id}/extend", operation_id = "extend_session", params(("id" = String, Path)), request_body = Extend, responses(
    (status = 200, body = Session), (status = 403, body = ApiError), (status = 409, body = ApiError),
    (status = 410, body = crate::error::Ended),
))]
pub async fn extend(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(by): Body<Extend>,
) -> Result<Json<Session>, Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    app.sessions.extend(&right.live, by.seconds)?;
    Ok(Json(app.sessions.describe(&right.live, right.role).await?))
}
