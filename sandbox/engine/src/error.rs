//! What a request is refused with: an HTTP status and Docker's own words. Clients decide by the status, people read the words.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use drydock_go::io_text;

/// A refusal as the Engine API tells it: `{"message": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// HTTP status.
    pub status: StatusCode,
    /// In Docker's words.
    pub message: String,
}

/// What almost everything in this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400: the request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 403: it may not be done.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 409: not in this state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 304: it is so already. Has no body.
    pub fn not_modified() -> Self {
        Self::new(StatusCode::NOT_MODIFIED, "")
    }

    /// 500: something below failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 501: not here.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        (self.status, Json(serde_json::json!({ "message": self.message }))).into_response()
    }
}

/// Says what was being done when the system refused: `open /x: permission denied`, as Go prints it.
pub trait Context<T> {
    /// Makes an internal error of it.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::internal(format!("{}: {}", what(), io_text(&e))))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::internal(format!("{}: {}", what(), io_text(&e.into()))))
    }
}

/// Whether a disk or a quota is full.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl From<drydock_images::local::StoreError> for Error {
    fn from(error: drydock_images::local::StoreError) -> Self {
        use drydock_images::local::StoreError::{Conflict, Damaged, Invalid, Io, NotFound, Reference};
        let status = match &error {
            NotFound(_) => StatusCode::NOT_FOUND,
            Conflict(_) => StatusCode::CONFLICT,
            Invalid(_) | Reference(_) => StatusCode::BAD_REQUEST,
            Damaged(_) | Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_in_gos_words() {
        let full = || std::io::Error::from_raw_os_error(nix::libc::EDQUOT);
        let error = Err::<(), _>(full()).doing(|| "mkdir /x".into()).unwrap_err();
        assert_eq!(error.message, "mkdir /x: disk quota exceeded");
        assert!(is_full(&full()) && !is_full(&std::io::Error::from_raw_os_error(nix::libc::EIO)));
        let busy = std::io::Error::from_raw_os_error(nix::libc::EAGAIN);
        assert_eq!(io_text(&busy), "resource temporarily unavailable");
    }
}
