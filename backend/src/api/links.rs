//! Links to a session.

use super::{App, Body};
use crate::{auth::Caller, error::Error, sessions::live::Live, store::LinkRow};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use drydock_protocol::{
    api::{ApiError, CreateLink, Link},
    state::Role,
};

/// List a session's links, without what they open it with.
#[utoipa::path(get, path = "/sessions/{id}/links", operation_id = "list_links", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<Link>), (status = 403, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<Link>>, Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    let links = app.sessions.links(&right.live)?;
    let told = |row: LinkRow| Link { yours: right.link == Some(row.id), ..tell(&right.live, row) };
    Ok(Json(links.into_iter().map(told).collect()))
}

/// Make a link. Its address is told only now.
#[utoipa::path(post, path = "/sessions/{id}/links", operation_id = "create_link", params(("id" = String, Path)), request_body = CreateLink, responses(
    (status = 201, body = Link), (status = 400, body = ApiError), (status = 403, body = ApiError),
    (status = 410, body = crate::error::Ended), (status = 429, body = ApiError),
))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(wish): Body<CreateLink>,
) -> Result<(StatusCode, Json<Link>), Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    let (row, token) = app.sessions.make_link(&right.live, wish.role, wish.ttl_seconds)?;
    let url = super::sessions::link_url(&app.base(&caller), &id, &token);
    let link = Link { qr_svg: qr(&url), url: Some(url), ..tell(&right.live, row) };
    Ok((StatusCode::CREATED, Json(link)))
}

/// Revoke a link; who came in by it is shown out at once. Addresses of ports change. One's own link stays.
#[utoipa::path(delete, path = "/sessions/{id}/links/{n}", operation_id = "revoke_link", params(("id" = String, Path), ("n" = u64, Path)), responses(
    (status = 204, description = "It opens nothing any more"),
    (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 409, body = ApiError),
    (status = 410, body = crate::error::Ended),
))]
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path((id, n)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    let n = n.parse().map_err(|_| Error::not_found("link_not_found", "Links have numbers."))?;
    if right.link == Some(n) {
        let why = "You are here by this link, and could not come back. Make another one that lets you do everything, come in by that, and revoke this one.";
        return Err(Error::new(StatusCode::CONFLICT, "own_link", why));
    }
    app.sessions.revoke_link(&right.live, n)?;
    Ok(StatusCode::NO_CONTENT)
}

fn tell(live: &Live, row: LinkRow) -> Link {
    let session_ends = live.now().expires_at;
    let expires_at = row.expires_at.map_or(session_ends, |t| t.min(session_ends));
    Link {
        id: row.id,
        role: row.role,
        expires_at,
        revoked: row.revoked,
        yours: false,
        url: None,
        qr_svg: None,
    }
}

fn qr(url: &str) -> Option<String> {
    use fast_qr::convert::svg::SvgBuilder;
    let code = fast_qr::QRBuilder::new(url).build().ok()?;
    Some(SvgBuilder::default().to_str(&code))
}
