//! Manifests: stored byte by byte as they were pushed, by digest, with tags that lead to them.

use super::{
    Answer, CONTENT_DIGEST, Call,
    blobs::matches,
    lists::header,
    names::{Name, Tag, Which},
    refusal::Refusal,
    store::{ENTRY, Links, MANIFEST_ENTRIES, Stored},
};
use crate::manifest::{MANIFEST_MAX, ManifestError, RawManifest, media_type};
use axum::body::Body;
use drydock_images::Digest;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION},
};
use serde_json::json;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
const TAGS_MAX: usize = 32;

impl Call {
    pub(super) async fn get_manifest(self, name: Name, which: Which) -> Answer {
        let (repository, wanted) = (name.clone(), which.clone());
        let found = self.registry.disk(move |store| {
            let digest = match wanted {
                Which::Tag(tag) => store.tag(&repository, &tag)?,
                Which::Digest(digest) => Some(digest),
            };
            let stored = digest.map(|digest| store.manifest(&repository, &digest)).transpose()?.flatten();
            Ok((stored, store.has_repository(&repository)))
        });
        let stored = match found.await? {
            (Some(stored), _) => stored,
            (None, true) => return Err(unknown(&which)),
            (None, false) => return Err(Refusal::name_unknown(&name)),
        };
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, header(&stored.media_type)?);
        headers.insert(CONTENT_DIGEST, header(&stored.digest.to_string())?);
        headers.insert(ETAG, header(&format!("\"{}\"", stored.digest))?);
        if matches(&self.head.headers, &stored.digest) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(stored.bytes.len()));
        if self.head.method != Method::HEAD {
            *response.body_mut() = Body::from(stored.bytes);
        }
        Ok(response)
    }

    pub(super) async fn put_manifest(self, name: Name, which: Which, body: Body) -> Answer {
        let sent_as = media_type_of(&self.head.headers);
        let tags = self.tags_to_set(&which)?;
        let body = axum::body::to_bytes(body, MANIFEST_MAX);
        let idle = self.registry.inner.limits.idle;
        let bytes = match tokio::time::timeout(idle, body).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => {
                let text = format!("a manifest has at most {MANIFEST_MAX} bytes");
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", text));
            }
            Err(_) => return Err(Refusal::manifest_invalid("the manifest did not arrive in time")),
        };
        let digest = Digest::of(&bytes);
        if let Which::Digest(said) = &which
            && *said != digest
        {
            return Err(Refusal::digest_invalid());
        }
        let (raw, media_type) = understand(&bytes, &sent_as)?;
        let links = Links::of(&raw);
        self.registry.may_have(&name).await?;
        let _alone = self.registry.inner.counted.lock().await;
        let size = bytes.len() as u64 + (MANIFEST_ENTRIES + tags.len() as u64) * ENTRY;
        if size > self.registry.space(&name).await? {
            return Err(Refusal::denied(
                "the quota of this name is used up: delete images that are no longer needed",
            ));
        }
        let _gate = self.registry.inner.gate.read().await;
        let stored = Stored { digest: digest.clone(), media_type, bytes: bytes.into() };
        let (repository, subject, named) = (name.clone(), links.subject.clone(), tags.clone());
        let missing = self.registry.disk(move |store| {
            let blob = links.blobs.iter().find(|d| !store.has_blob(&repository, d));
            let manifest = links.manifests.iter().find(|d| !store.has_manifest(&repository, d));
            if let Some(missing) = blob.or(manifest) {
                return Ok(Some(missing.clone()));
            }
            store.put_manifest(&repository, &stored, &links)?;
            for tag in &named {
                store.set_tag(&repository, tag, &stored.digest)?;
            }
            Ok(None)
        });
        if let Some(missing) = missing.await? {
            let refusal =
                Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry");
            return Err(refusal.with_detail(json!({ "digest": missing })));
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::CREATED;
        let headers = response.headers_mut();
        headers.insert(LOCATION, header(&format!("/v2/{name}/manifests/{digest}"))?);
        headers.insert(CONTENT_DIGEST, header(&digest.to_string())?);
        if let Some(subject) = subject {
            headers.insert(OCI_SUBJECT, header(&subject.to_string())?);
        }
        if matches!(which, Which::Digest(_)) {
            for tag in &tags {
                headers.append(OCI_TAG, header(tag.as_str())?);
            }
        }
        Ok(response)
    }

    /// The tag of the path, or with a digest the tags of the query.
    fn tags_to_set(&self, which: &Which) -> Result<Vec<Tag>, Refusal> {
        if let Which::Tag(tag) = which {
            return Ok(vec![tag.clone()]);
        }
        let query = self.head.uri.query().unwrap_or_default();
        let tags = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "tag");
        let tags: Vec<Tag> =
            tags.take(TAGS_MAX + 1).map(|(_, tag)| Tag::parse(&tag)).collect::<Result<_, _>>()?;
        if tags.len() > TAGS_MAX {
            return Err(Refusal::new(
                StatusCode::URI_TOO_LONG,
                "TAG_INVALID",
                "too many tags in one request",
            ));
        }
        Ok(tags)
    }

    pub(super) async fn delete_manifest(self, name: Name, which: Which) -> Answer {
        // Alone: the content goes at once, as its owner's quota comes back at once.
        let _gate = self.registry.inner.gate.write().await;
        let (repository, wanted) = (name.clone(), which.clone());
        let done = self.registry.disk(move |store| {
            let gone = match &wanted {
                Which::Tag(tag) => store.delete_tag(&repository, tag)?,
                Which::Digest(digest) => store.delete_manifest(&repository, digest)?,
            };
            if let (true, Which::Digest(digest)) = (gone, &wanted) {
                store.drop_unnamed(digest)?;
            }
            Ok((gone, store.has_repository(&repository)))
        });
        match done.await? {
            (true, _) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::ACCEPTED;
                Ok(response)
            }
            (false, true) => Err(unknown(&which)),
            (false, false) => Err(Refusal::name_unknown(&name)),
        }
    }
}

fn unknown(which: &Which) -> Refusal {
    Refusal::manifest_unknown(match which {
        Which::Tag(tag) => json!({ "Tag": tag.as_str() }),
        Which::Digest(digest) => json!({ "Digest": digest }),
    })
}

fn media_type_of(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

/// Checks a manifest; its media type is what it says itself, else what it was sent as.
fn understand(bytes: &[u8], sent_as: &str) -> Result<(RawManifest, String), Refusal> {
    let refuse = |error: ManifestError| match error {
        ManifestError::Schema1 => Refusal::manifest_invalid("manifests of schema 1 are not supported"),
        ManifestError::Invalid(why) => Refusal::manifest_invalid(why),
    };
    let raw = RawManifest::parse(bytes).map_err(refuse)?;
    let known = [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_LIST,
    ];
    let said = raw.media_type.as_str();
    if !said.is_empty() && known.contains(&sent_as) && said != sent_as {
        let text = format!("the manifest says that it is {said:?} and was sent as {sent_as:?}");
        return Err(Refusal::manifest_invalid(text));
    }
    raw.clone().understand(sent_as).map_err(refuse)?;
    let media_type = match (said, raw.manifests.is_some()) {
        (said, _) if known.contains(&said) => said,
        (_, _) if known.contains(&sent_as) => sent_as,
        (_, true) => media_type::OCI_INDEX,
        (_, false) => media_type::OCI_MANIFEST,
    };
    Ok((raw.clone(), media_type.to_owned()))
}
