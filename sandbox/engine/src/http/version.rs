//! Versions of the API. A path may begin with `/v1.NN`; the server takes it off, refuses what it does not speak, and
//! handlers ask [`ApiVersion`] where answers differ between versions.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;

/// Version of the engine as `docker version` prints it.
pub const VERSION: &str = "28.5.2";
/// Newest API version that is spoken.
pub const MAX_API: ApiVersion = ApiVersion { major: 1, minor: 51 };
/// Oldest API version that is spoken.
pub const MIN_API: ApiVersion = ApiVersion { major: 1, minor: 24 };

/// A version of the Engine API; an extractor gives that of the request (the newest, if the path names none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// The first number; 1 so far.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl ApiVersion {
    /// Whether the client speaks version 1.`minor` or newer.
    pub fn at_least(self, minor: u32) -> bool {
        self >= Self { major: 1, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(MAX_API))
    }
}

/// What a path's prefix asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// A version that is spoken.
    Spoken(ApiVersion),
    /// One that is not, with the text of the refusal and whether it must be plain text: clients that old print a body as it is.
    Refused {
        /// What the client is told.
        message: String,
        /// Not as JSON.
        plain: bool,
    },
}

/// Takes `/v1.NN` off a path. Without such a prefix the newest version is meant.
pub(super) fn split(path: &str) -> (Asked, &str) {
    let newest = (Asked::Spoken(MAX_API), path);
    let Some(after) = path.strip_prefix("/v") else { return newest };
    let end = after.find('/').unwrap_or(after.len());
    let (text, rest) = after.split_at(end);
    if rest.is_empty() || text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return newest;
    }
    (judge(text), rest)
}

fn judge(text: &str) -> Asked {
    if compare(text, &MIN_API.to_string()) == Ordering::Less {
        let message = format!(
            "client version {text} is too old. Minimum supported API version is {MIN_API}, please upgrade your client to a newer version"
        );
        return Asked::Refused { message, plain: true };
    }
    if compare(text, &MAX_API.to_string()) == Ordering::Greater {
        let message = format!("client version {text} is too new. Maximum supported API version is {MAX_API}");
        return Asked::Refused { message, plain: false };
    }
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    Asked::Spoken(ApiVersion { major: numbers.next().unwrap_or(1), minor: numbers.next().unwrap_or(0) })
}

/// Number by number, as Docker compares; what is missing counts as 0, what is no number too.
fn compare(one: &str, other: &str) -> Ordering {
    let numbers = |text: &str| text.split('.').map(|n| n.parse().unwrap_or(0_u32)).collect::<Vec<_>>();
    let (one, other) = (numbers(one), numbers(other));
    for at in 0..one.len().max(other.len()) {
        let ordering = one.get(at).unwrap_or(&0).cmp(other.get(at).unwrap_or(&0));
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(minor: u32) -> Asked {
        Asked::Spoken(ApiVersion { major: 1, minor })
    }

    #[test]
    fn prefix_is_taken_off() {
        assert_eq!(split("/v1.50/info"), (spoken(50), "/info"));
        assert_eq!(split("/v1.24/images/a/b/json"), (spoken(24), "/images/a/b/json"));
        assert_eq!(split("/info"), (spoken(51), "/info"));
        assert_eq!(split("/version"), (spoken(51), "/version"));
        assert_eq!(split("/volumes/v1"), (spoken(51), "/volumes/v1"));
        assert_eq!(split("/v1.50"), (spoken(51), "/v1.50"));
        assert_eq!(split("/v/x"), (spoken(51), "/v/x"));
    }

    #[test]
    fn too_new_and_too_old_are_refused_in_dockers_words() {
        let refused = |message: &str, plain| Asked::Refused { message: message.to_owned(), plain };
        assert_eq!(
            split("/v1.99/info").0,
            refused("client version 1.99 is too new. Maximum supported API version is 1.51", false)
        );
        let old = "client version 1.10 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version";
        assert_eq!(split("/v1.10/info").0, refused(old, true));
        assert!(matches!(split("/v2/info").0, Asked::Refused { plain: false, .. }));
        assert!(matches!(split("/v1.51.1/info").0, Asked::Refused { .. }));
    }

    #[test]
    fn at_least_compares_numbers() {
        assert!(ApiVersion { major: 1, minor: 44 }.at_least(44));
        assert!(!ApiVersion { major: 1, minor: 43 }.at_least(44));
        assert!(MAX_API.at_least(9));
    }
}
