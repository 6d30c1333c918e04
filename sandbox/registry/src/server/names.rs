//! What a request's path names: a repository, a tag, a digest, an upload. Nothing reaches the disk before it went through here.

use super::refusal::Refusal;
use drydock_images::{Digest, Reference};
use hyper::StatusCode;
use std::fmt;

/// Components of a repository's name, at most: each is a folder.
pub(super) const COMPONENTS_MAX: usize = 16;

/// The name of a repository: lower-case components, no `..`, at most 255 characters. Safe as a relative path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(String);

/// A tag. Safe as a file name, since its first character is no dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(String);

/// The id of an upload: 32 hexadecimal digits that nobody guesses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UploadId(String);

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    Tag(Tag),
    Digest(Digest),
}

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Root,
    Catalogue,
    Tags(Name),
    Referrers(Name, Digest),
    Manifest(Name, Which),
    Blob(Name, Digest),
    Uploads(Name),
    Upload(Name, UploadId),
}

impl Name {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        // The rules are those of a reference's path; a domain in front makes sure that nothing else is seen in it.
        let reference = Reference::parse(&format!("registry.local/{text}"));
        match reference {
            Ok(r) if r.path() == text && r.is_name_only() && text.split('/').count() <= COMPONENTS_MAX => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "NAME_INVALID", "invalid repository name")),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let reference = Reference::parse("registry.local/x").and_then(|r| r.with_tag(text));
        reference.map(|_| Self(text.to_owned())).map_err(|_| {
            Refusal::new(StatusCode::BAD_REQUEST, "TAG_INVALID", "manifest tag did not match URI")
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl UploadId {
    pub(super) fn new() -> Result<Self, Refusal> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).map_err(|e| Refusal::internal("no random numbers", e))?;
        Ok(Self(bytes.iter().map(|b| format!("{b:02x}")).collect()))
    }

    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let fine = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if fine { Ok(Self(text.to_owned())) } else { Err(Refusal::upload_unknown()) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| {
        let text = "provided digest is not of the form sha256:<64 hexadecimal digits>";
        Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", text)
    })
}

impl Which {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains(':') { digest(text).map(Self::Digest) } else { Tag::parse(text).map(Self::Tag) }
    }
}

impl Route {
    /// Understands what follows `/v2/`. A name may contain `blobs` or `tags`, so it is read from its end.
    pub(crate) fn parse(path: &str) -> Result<Self, Refusal> {
        let path = percent_encoding::percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "NAME_INVALID", "the path is not UTF-8"))?;
        let parts: Vec<&str> = path.split('/').collect();
        let name = |n: usize| Name::parse(&parts[..parts.len() - n].join("/"));
        match parts.as_slice() {
            [""] => Ok(Self::Root),
            ["_catalog"] => Ok(Self::Catalogue),
            [.., "tags", "list"] => Ok(Self::Tags(name(2)?)),
            [.., "blobs", "uploads", ""] => Ok(Self::Uploads(name(3)?)),
            [.., "blobs", "uploads"] => Ok(Self::Uploads(name(2)?)),
            [.., "blobs", "uploads", id] => Ok(Self::Upload(name(3)?, UploadId::parse(id)?)),
            [.., "blobs", text] => Ok(Self::Blob(name(2)?, digest(text)?)),
            [.., "manifests", text] => Ok(Self::Manifest(name(2)?, Which::parse(text)?)),
            [.., "referrers", text] => Ok(Self::Referrers(name(2)?, digest(text)?)),
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "there is nothing at this path")),
        }
    }

    /// The repository that it is about.
    pub(super) fn name(&self) -> Option<&Name> {
        match self {
            Self::Root | Self::Catalogue => None,
            Self::Tags(name)
            | Self::Referrers(name, _)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let digest = Digest::of(b"x");
        let name = |text: &str| Name::parse(text).unwrap();
        assert_eq!(Route::parse("").unwrap(), Route::Root);
        assert_eq!(Route::parse("a/tags/tags/list").unwrap(), Route::Tags(name("a/tags")));
        assert_eq!(Route::parse("blobs/blobs/uploads/").unwrap(), Route::Uploads(name("blobs")));
        let encoded = format!("a%2Fb/blobs/sha256%3A{}", digest.hex());
        assert_eq!(Route::parse(&encoded).unwrap(), Route::Blob(name("a/b"), digest));
        let id = "0".repeat(32);
        assert!(matches!(Route::parse(&format!("a/blobs/uploads/{id}")), Ok(Route::Upload(..))));
    }

    #[test]
    fn hostile_paths_are_refused() {
        for path in [
            "../tags/list",
            "a/../b/tags/list",
            "a/%2e%2e/b/tags/list",
            "/tags/list",
            "a//b/tags/list",
            "A/tags/list",
            "a/_layers/tags/list",
            "a%00/tags/list",
            "a/manifests/.hidden",
            "a/manifests/..",
            "a/manifests/",
            "a/manifests/sha256:../../x",
            "a/blobs/sha512:00",
            "a/blobs/uploads/../../etc",
            "a/blobs/uploads/xyz",
            "a:b/tags/list",
            "a@sha256:00/tags/list",
            "%ff/tags/list",
            "tags/list",
            &format!("{}/tags/list", "a".repeat(256)),
            &format!("a/manifests/{}", "t".repeat(129)),
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }
}
