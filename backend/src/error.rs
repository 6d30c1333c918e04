//! The one error of the API: an HTTP status, a short code for programs and a sentence for people. Made everywhere
//! below `api`, turned into an answer by axum. It never carries a secret or a path of the host.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use drydock_protocol::{
    api::{ApiError, Session},
    pipe::ErrorKind,
};
use serde::Serialize;

/// Why a request was refused or failed.
#[derive(Debug, Clone)]
pub struct Error {
    /// The HTTP status.
    pub status: StatusCode,
    /// Short name for programs.
    pub code: &'static str,
    /// What was wrong and what to do.
    pub message: String,
    /// The session that the asker had a right to, if it has ended.
    pub ended: Option<Box<Session>>,
    /// Seconds after which it may work.
    pub retry_after: Option<u64>,
}

/// Body of a `410`: an [`ApiError`] and the ended session's last picture in one object.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Ended {
    /// Always `session_ended`.
    pub code: &'static str,
    /// Why it ended and what to do.
    pub message: String,
    /// How it was.
    #[serde(flatten)]
    pub session: Session,
}

impl Error {
    /// An error with this status.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), ended: None, retry_after: None }
    }
    /// `400`: the request makes no sense.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
    /// `404`: something that a holder of the right asked for is not there.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }
    /// `409`: the thing is there but not in a state for this.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }
    /// `403` for a missing, unknown, revoked or expired token. The same for every session id, existing or not,
    /// so that ids cannot be probed.
    pub fn no_right() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "no_right",
            "This link does not open a session: it is incomplete, was revoked, or has expired. Ask its sender for a new one, or start a session of your own.",
        )
    }
    /// `403` for a token whose role is too low.
    pub fn role_too_low(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "role_too_low", message)
    }
    /// `429`: a limit of the operator.
    pub fn limit(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, message)
    }
    /// `413`.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }
    /// `500`: our own fault; `what` is for the log only.
    pub fn internal(what: impl std::fmt::Display) -> Self {
        tracing::error!(error = %what, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something failed inside the server. Try again; if it happens again, its operator finds the reason in the log.",
        )
    }
    /// `503`.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        error.retry_after = Some(5);
        error
    }
    /// `410`: the session that the asker had a right to is over.
    pub fn ended(session: Session) -> Self {
        let why = session.ended_because.as_deref().unwrap_or("It has ended.");
        let message = format!("This session is over. {why} Start a new one from the start page.");
        let mut error = Self::new(StatusCode::GONE, "session_ended", message);
        error.ended = Some(Box::new(session));
        error
    }
    /// What a session process answered.
    pub fn from_session(kind: ErrorKind, message: String) -> Self {
        let message = sentence(&message);
        match kind {
            ErrorKind::NotFound => Self::not_found("not_found", message),
            ErrorKind::Conflict => Self::conflict("conflict", message),
            ErrorKind::Invalid => Self::invalid("invalid", message),
            ErrorKind::Denied => Self::new(StatusCode::FORBIDDEN, "permission_denied", message),
            ErrorKind::Limit => Self::too_large(message),
            ErrorKind::Failed => Self::new(StatusCode::BAD_GATEWAY, "session_failed", message),
        }
    }
    /// The body for [`Self`] as JSON text, for answers that are not HTTP.
    pub fn body(&self) -> ApiError {
        ApiError { code: self.code.to_owned(), message: self.message.clone() }
    }
}

/// A text as a sentence: file work and the kernel begin and end theirs as they like.
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars().take(500);
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let sentence = first + &chars.collect::<String>();
    if sentence.ends_with(['.', '!', '?']) { sentence } else { sentence + "." }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = match self.ended {
            Some(session) => {
                (self.status, Json(Ended { code: self.code, message: self.message, session: *session }))
                    .into_response()
            }
            None => (self.status, Json(self.body())).into_response(),
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_says_is_a_sentence() {
        for (said, shown) in [
            ("no such file", "No such file."),
            ("/root/x: is it there?", "/root/x: is it there?"),
            ("There is no node9 in this session.", "There is no node9 in this session."),
        ] {
            assert_eq!(Error::from_session(ErrorKind::NotFound, said.into()).message, shown);
        }
    }
}
