//! `# syntax=`: the image of the frontend that a file is written for. Docker's own is here and need not be fetched; others are
//! programs that speak BuildKit's language, which nothing here understands.

use super::{Attributes, Site, blocking};
use crate::client::BuildClient;
use crate::engine::OutlineRequest;
use crate::error::failed;
use crate::scratch::Scratch;
use crate::vertices::normalise;
use drydock_dockerfile::language;
use std::sync::Arc;
use tonic::Status;

/// Images of Docker's own frontend.
const OWN: [&str; 2] = ["docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"];
/// Tags of theirs that are no versions.
const TAGS: [&str; 5] = ["latest", "labs", "experimental", "master", "master-labs"];

/// The name without its tag, and the tag.
fn split(full: &str) -> (&str, &str) {
    full.rsplit_once(':').unwrap_or((full, ""))
}

/// `1`, `1.7`, `1.7.0`, each also with `-labs`.
fn is_version(tag: &str) -> bool {
    let number = tag.strip_suffix("-labs").or_else(|| tag.strip_suffix("-experimental")).unwrap_or(tag);
    let parts: Vec<&str> = number.split('.').collect();
    let numbers = parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    numbers && parts.len() <= 3 && parts.first() == Some(&"1")
}

/// Whether it is what builds here.
fn is_own(full: &str) -> bool {
    let (name, tag) = split(full);
    OWN.contains(&name) && (TAGS.contains(&tag) || is_version(tag))
}

/// Whether the file can be built here.
///
/// # Errors
/// If it wants a frontend that is not there, or not Docker's own.
pub(super) async fn check(
    site: &Site,
    attributes: &Attributes,
    text: &str,
    scratch: &Scratch,
) -> Result<(), Status> {
    let Some(name) = attributes.syntax.clone().or_else(|| language::syntax(text)) else { return Ok(()) };
    let full = normalise(&name);
    if is_own(&full) {
        return Ok(());
    }
    let step = site.progress.step(&format!("resolve image config for docker-image://{full}"));
    let session = site.sessions.get(&site.session).await?;
    let image = OutlineRequest {
        name,
        client: Arc::new(BuildClient::new(session, scratch.clone())),
        cancelled: site.cancel.clone(),
    };
    let engine = Arc::clone(&site.engine);
    let found = blocking(move || engine.outline(&image)).await?;
    let missing = |error| format!("failed to resolve source metadata for {full}: {error}");
    let found = found.map_err(missing).and_then(|_| {
        if OWN.contains(&split(&full).0) {
            return Ok(());
        }
        Err(format!("frontend {full} can't be run here: only docker/dockerfile builds"))
    });
    step.finish(found).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_own_frontend_is_known_by_its_names() {
        for own in [
            "docker/dockerfile",
            "docker/dockerfile:1",
            "docker.io/docker/dockerfile:1.7.0-labs",
            "docker/dockerfile:1.20",
            "docker/dockerfile:labs",
            "docker/dockerfile-upstream:master",
        ] {
            assert!(is_own(&normalise(own)), "{own}");
        }
        for other in [
            "docker/dockerfile:nope",
            "docker/dockerfile:2",
            "docker/dockerfile:1.",
            "foo/bar:1",
            "example.com/docker/dockerfile:1",
            "dockerfile:1",
        ] {
            assert!(!is_own(&normalise(other)), "{other}");
        }
    }
}
