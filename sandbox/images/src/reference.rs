//! Names of images, as people type them and as they are stored.
//!
//! [`Reference::parse`] takes what stands on a command line (`busybox`, `registry:5000/team/app:1.2`) and gives the full
//! name with domain and path; [`Reference::familiar`] goes back. Rules, limits and error texts are those of
//! github.com/distribution/reference, because `docker` prints them. Whoever passes a name on to a file system or a
//! registry may rely on this: a `Reference` holds only lower-case path components without `..`, a bounded tag and a
//! well-formed digest.

use std::{fmt, str::FromStr};

/// The registry that a name without a domain means.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag that a name without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const PATH_MAX: usize = 255;
/// A domain name has at most 253 characters; with a port 259.
const DOMAIN_MAX: usize = 259;
const TAG_MAX: usize = 128;

/// Why a text is not a reference. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text does not have the form of a reference.
    #[error("invalid reference format")]
    Format,
    /// The path has an upper-case letter.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The text is an image id, where a name is needed.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The path has more than 255 characters.
    #[error("repository name must not be more than {PATH_MAX} characters")]
    TooLong,
    /// The tag has other characters or is longer than tags may be.
    #[error("invalid tag format")]
    Tag,
    /// The digest is not an algorithm, a colon and hexadecimal digits.
    #[error("invalid checksum digest format")]
    DigestFormat,
    /// The digest has fewer or more digits than its algorithm gives.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// The digest's algorithm is not known.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
}

/// The name of an image in some registry, perhaps with a tag, perhaps with a digest.
///
/// `Display` gives the full form (`docker.io/library/busybox:latest`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// What a command that takes names and ids may have been given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyReference {
    /// A whole digest (`sha256:…`), or 64 hexadecimal digits, to which `sha256:` was added.
    Digest(String),
    /// A name.
    Named(Reference),
}

impl Reference {
    /// Parses what a user typed. No tag is added: see [`Reference::with_default_tag`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.to_lowercase() != remote {
            return Err(ReferenceError::Uppercase(remote.to_owned()));
        }
        let (name, digest) = match remainder.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (remainder.as_str(), None),
        };
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match name[last..].find(':') {
            Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
            None => (name, None),
        };
        let well_formed = is_domain(domain)
            && path.split('/').all(is_path_component)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(looks_like_digest);
        if !well_formed {
            return Err(ReferenceError::Format);
        }
        if path.len() > PATH_MAX {
            return Err(ReferenceError::TooLong);
        }
        digest.map_or(Ok(()), check_digest)?;
        Ok(Self {
            domain: domain.to_owned(),
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// The registry: `docker.io`, `registry:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, where one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was given, with its algorithm: `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Domain and path: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Whether neither a tag nor a digest was given.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same with the tag `latest` where neither tag nor digest was given.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same name with this tag; a digest stays.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if is_tag(tag) {
            Ok(Self { tag: Some(tag.to_owned()), ..self.clone() })
        } else {
            Err(ReferenceError::Tag)
        }
    }

    /// The same name with this digest; a tag stays.
    pub fn with_digest(&self, digest: &str) -> Result<Self, ReferenceError> {
        check_digest(digest)?;
        Ok(Self { digest: Some(digest.to_owned()), ..self.clone() })
    }

    /// The name alone, without tag and digest.
    #[must_use]
    pub fn name_only(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// The name as Docker shows it: without `docker.io` and `library`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as Docker shows it: [`Reference::familiar_name`] with tag and digest.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest);
        }
        name
    }
}

impl AnyReference {
    /// Parses a name, a whole digest or a whole image id.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            Ok(Self::Digest(format!("sha256:{text}")))
        } else if check_digest(text).is_ok() {
            Ok(Self::Digest(text.to_owned()))
        } else {
            Reference::parse(text).map(Self::Named)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// Splits at the first slash if what stands before it can only be a registry, and completes the short names of Docker Hub.
fn split_domain(text: &str) -> (&str, String) {
    let (domain, path) = match text.split_once('/') {
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first =>
        {
            (if first == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { first }, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        (domain, format!("{OFFICIAL}{path}"))
    } else {
        (domain, path.to_owned())
    }
}

/// 64 lower-case hexadecimal digits: an image id, never a name.
fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// `host`, `host:port`, `[v6]:port`. Upper case is allowed here.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(is_domain_label),
    };
    text.len() <= DOMAIN_MAX && port_ok && host_ok
}

fn is_domain_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Lower-case letters and digits, joined by one dot, one or two underscores or any number of dashes.
fn is_path_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().is_some_and(|b| word(*b)) || !bytes.last().is_some_and(|b| word(*b)) {
        return false;
    }
    bytes.split(|b| word(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The form that a reference demands of its digest; [`check_digest`] says whether it is one that can be used.
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let algorithm_ok = algorithm.split(['-', '_', '+', '.']).all(|part| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    algorithm_ok && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn check_digest(text: &str) -> Result<(), ReferenceError> {
    let Some((algorithm, hex)) = text.split_once(':') else { return Err(ReferenceError::DigestFormat) };
    let digits = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ if looks_like_digest(text) => return Err(ReferenceError::DigestAlgorithm),
        _ => return Err(ReferenceError::DigestFormat),
    };
    if hex.len() != digits {
        return Err(ReferenceError::DigestLength);
    }
    if hex.bytes().all(is_lower_hex) { Ok(()) } else { Err(ReferenceError::DigestFormat) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn short_names_become_full_names_and_back() {
        for (typed, full, shown) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
            ("team/app", "docker.io/team/app", "team/app"),
            ("library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("registry:5000/app", "registry:5000/app", "registry:5000/app"),
            ("registry:5000", "docker.io/library/registry:5000", "registry:5000"),
            ("Host/app:v", "Host/app:v", "Host/app:v"),
            ("[::1]:5000/a__b/c--d.e:T-x.", "[::1]:5000/a__b/c--d.e:T-x.", "[::1]:5000/a__b/c--d.e:T-x."),
            ("127.0.0.1:1/x", "127.0.0.1:1/x", "127.0.0.1:1/x"),
        ] {
            let parsed = Reference::parse(typed).unwrap_or_else(|e| panic!("{typed}: {e}"));
            assert_eq!((parsed.to_string().as_str(), parsed.familiar().as_str()), (full, shown), "{typed}");
            assert_eq!(full.parse::<Reference>().unwrap(), parsed, "the full form of {typed} is stable");
        }
    }

    #[test]
    fn parts_can_be_asked_and_changed() {
        let r = Reference::parse(&format!("registry:5000/team/app:v1@sha256:{HEX}")).unwrap();
        assert_eq!((r.domain(), r.path(), r.tag()), ("registry:5000", "team/app", Some("v1")));
        assert_eq!(r.digest().unwrap(), format!("sha256:{HEX}"));
        assert_eq!(r.clone().with_default_tag(), r);
        assert_eq!(r.name_only().with_default_tag().to_string(), "registry:5000/team/app:latest");
        assert_eq!(r.name_only().with_tag("a b").unwrap_err().to_string(), "invalid tag format");
        assert_eq!(r.name_only().with_digest(r.digest().unwrap()).unwrap().tag(), None);
        let only_digest = Reference::parse(&format!("app@sha256:{HEX}")).unwrap().with_default_tag();
        assert_eq!(only_digest.tag(), None, "a digest is enough");
    }

    #[test]
    fn refusals_have_dockers_words() {
        let format = "invalid reference format";
        let lower = |name: &str| format!("{format}: repository name ({name}) must be lowercase");
        let long = "a".repeat(256);
        for (bad, text) in [
            ("", format.to_owned()),
            ("/", format.to_owned()),
            (":tag", format.to_owned()),
            ("a:", format.to_owned()),
            ("a b", format.to_owned()),
            ("a//b", format.to_owned()),
            ("a/../b", format.to_owned()),
            ("../../etc/passwd", format.to_owned()),
            ("-a", format.to_owned()),
            ("a-", format.to_owned()),
            ("a..b", format.to_owned()),
            ("a___b", format.to_owned()),
            ("a:b:c", format.to_owned()),
            ("a@b", format.to_owned()),
            ("a@sha256:12", format.to_owned()),
            ("h.x:/a", format.to_owned()),
            ("-h.x/a", format.to_owned()),
            ("a\0b", format.to_owned()),
            ("a\n", format.to_owned()),
            ("ünder", format.to_owned()),
            ("Foo", lower("library/Foo")),
            ("team/App:V1", lower("team/App")),
            (HEX, format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
            (&long, "repository name must not be more than 255 characters".to_owned()),
            (&format!("a:{}", "t".repeat(129)), format.to_owned()),
            (&format!("{}.x/a", "h".repeat(300)), format.to_owned()),
            (&format!("a@sha256:{}", &HEX[1..]), "invalid checksum digest length".to_owned()),
            (&format!("a@sha256:{}", HEX.to_uppercase()), "invalid checksum digest format".to_owned()),
            (&format!("a@md5:{}", &HEX[..32]), "unsupported digest algorithm".to_owned()),
        ] {
            match Reference::parse(bad) {
                Ok(parsed) => panic!("{bad:?} was taken as {parsed}"),
                Err(e) => assert_eq!(e.to_string(), text, "{bad:?}"),
            }
        }
    }

    #[test]
    fn ids_and_digests_are_told_from_names() {
        let digest = AnyReference::Digest(format!("sha256:{HEX}"));
        assert_eq!(AnyReference::parse(HEX).unwrap(), digest);
        assert_eq!(AnyReference::parse(&format!("sha256:{HEX}")).unwrap(), digest);
        let name = AnyReference::parse("sha256:abc").unwrap();
        assert_eq!(name, AnyReference::Named(Reference::parse("docker.io/library/sha256:abc").unwrap()));
    }
}
