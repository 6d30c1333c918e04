//! What can go wrong between us and a registry. The texts are dockerd's: the official client prints them.

use drydock_images::Reference;
use std::io;

/// Why an operation at a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry could not be reached, or stopped in the middle.
    #[error("{op} {url:?}: {reason}")]
    Transport {
        /// `Get`, `Head`, `Post`, ….
        op: &'static str,
        /// The address that was asked.
        url: String,
        /// Why it failed, as Go's net package says it.
        reason: String,
    },
    /// A body ended before its end, or stood still.
    #[error("{0}")]
    Broken(String),
    /// The registry refused with an error code of the distribution protocol.
    #[error("{}: {message}", .code.to_lowercase().replace('_', " "))]
    Api {
        /// `UNAUTHORIZED`, `DENIED`, `MANIFEST_UNKNOWN`, ….
        code: String,
        /// The registry's text.
        message: String,
    },
    /// The token service refused; Docker shows which request needed the token.
    #[error("{op} {url:?}: {source}")]
    Token {
        /// The request that needed a token.
        op: &'static str,
        /// Its address.
        url: String,
        /// What the token service said.
        source: Box<Error>,
    },
    /// The registry wants a name and a password and none were given.
    #[error("no basic auth credentials")]
    NoCredentials,
    /// The registry answered with a status that no protocol step expects.
    #[error("received unexpected HTTP status: {0}")]
    Status(String),
    /// Name and password were refused, or the registry did not let anybody in.
    #[error("login attempt to {url} failed with status: {status}")]
    Login {
        /// The address.
        url: String,
        /// The status, `401 Unauthorized`.
        status: String,
    },
    /// The image is not there or not for us.
    #[error("{text}")]
    NotFound {
        /// The whole text.
        text: String,
    },
    /// The index has no image for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// A request that cannot be fulfilled by anybody.
    #[error("{0}")]
    Invalid(String),
    /// What arrived is not what was asked for, or larger than allowed.
    #[error("{0}")]
    Content(String),
    /// The image store refused.
    #[error("{0}")]
    Sink(String),
    /// Several attempts failed; the last error.
    #[error("download failed after attempts={attempts}: {source}")]
    Attempts {
        /// How many.
        attempts: u32,
        /// The last one's error.
        source: Box<Error>,
    },
    /// This machine's disk or file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Which status the Engine API answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 404.
    NotFound,
    /// 400.
    Invalid,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 500.
    System,
}

impl Error {
    /// How the Engine API should answer.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Invalid(_) => Kind::Invalid,
            Self::Token { source, .. } => source.kind(),
            Self::Api { code, .. } if code == "UNAUTHORIZED" => Kind::Unauthorized,
            Self::Api { code, .. } if code == "DENIED" => Kind::Forbidden,
            _ => Kind::System,
        }
    }

    /// Whether the same request may succeed if it is sent again.
    pub(crate) fn may_retry(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Broken(_) | Self::Status(_) => true,
            Self::Api { code, .. } => !matches!(
                code.as_str(),
                "UNAUTHORIZED"
                    | "UNSUPPORTED"
                    | "DENIED"
                    | "TOOMANYREQUESTS"
                    | "NAME_UNKNOWN"
                    | "BLOB_UNKNOWN"
            ),
            _ => false,
        }
    }

    /// Whether nobody spoke HTTP at the other end, so that another way in may be tried.
    pub(crate) fn is_transport(&self) -> bool {
        matches!(self, Self::Transport { .. })
    }

    /// The error of a pull as a whole.
    pub(crate) fn of_pull(self, reference: &Reference) -> Self {
        let Self::Api { code, .. } = &self else { return self };
        let text = match code.as_str() {
            "DENIED" => format!(
                "pull access denied for {}, repository does not exist or may require 'docker login': {self}",
                reference.familiar_name()
            ),
            "MANIFEST_UNKNOWN" => format!("manifest for {} not found: {self}", reference.familiar()),
            "NAME_UNKNOWN" => format!("repository {} not found: {self}", reference.familiar_name()),
            _ => return self,
        };
        Self::NotFound { text }
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: &str, message: &str) -> Error {
        Error::Api { code: code.into(), message: message.into() }
    }

    #[test]
    fn pull_errors_have_dockers_words() {
        let name = Reference::parse("nosuch:1").unwrap();
        assert_eq!(
            api("DENIED", "requested access to the resource is denied").of_pull(&name).to_string(),
            "pull access denied for nosuch, repository does not exist or may require 'docker login': denied: requested \
             access to the resource is denied"
        );
        let unknown = api("MANIFEST_UNKNOWN", "manifest unknown").of_pull(&name);
        assert_eq!(
            unknown.to_string(),
            "manifest for nosuch:1 not found: manifest unknown: manifest unknown"
        );
        assert_eq!(unknown.kind(), Kind::NotFound);
        let refused = api("UNAUTHORIZED", "authentication required").of_pull(&name);
        assert_eq!(refused.to_string(), "unauthorized: authentication required");
        assert_eq!(refused.kind(), Kind::Unauthorized);
    }

    #[test]
    fn what_may_be_tried_again() {
        assert!(!api("DENIED", "").may_retry());
        assert!(api("UNKNOWN", "").may_retry());
        assert!(Error::Status("503 Service Unavailable".into()).may_retry());
    }
}
