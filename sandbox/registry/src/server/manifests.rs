//! Manifests: stored byte by byte as they were pushed, by digest, with tags that lead to them.

use super::{
    Answer, CONTENT_DIGEST, Call, Inner,
    blobs::matches,
    lists::header,
    names::{Name, Tag, Which},
    refusal::Refusal,
    store::{ENTRY, Links, Set, Store, Stored},
    uploads,
};
use crate::manifest::{MANIFEST_MAX, ManifestError, RawManifest, media_type};
use axum::body::Body;
use drydock_images::Digest;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION},
};
use serde_json::json;
use std::{collections::HashSet, io};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
const TAGS_MAX: usize = 32;
/// An index for which its setter pays leads to at most so many manifests of so many bytes.
const NEEDS_MAX: usize = 1000;
const NEEDS_READ: usize = 32 << 20;

/// A manifest that is to be put.
struct New {
    name: Name,
    stored: Stored,
    links: Links,
    tags: Vec<Tag>,
    by: Option<String>,
}

impl New {
    /// Puts it, unless something speaks against that. The caller sees to it that no other one is put meanwhile.
    fn put(&self, inner: &Inner) -> io::Result<Result<(), Refusal>> {
        let (store, name, by) = (&inner.store, &self.name, self.by.as_deref());
        let blob = self.links.blobs.iter().find(|d| !store.has_blob(name, d));
        let manifest = self.links.manifests.iter().find(|d| !store.has_manifest(name, d));
        if let Some(missing) = blob.or(manifest) {
            let refusal =
                Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry");
            return Ok(Err(refusal.with_detail(json!({ "digest": missing }))));
        }
        for tag in &self.tags {
            let others =
                |set: &Set| set.digest != self.stored.digest && set.by.is_some() && set.by != self.by;
            if store.tag(name, tag)?.is_some_and(|set| others(&set)) {
                let text = format!("{name}:{} is another session's: push another tag", tag.as_str());
                return Ok(Err(Refusal::denied(text)));
            }
        }
        let Some((blobs, manifests)) = self.needs(store)? else {
            return Ok(Err(Refusal::manifest_invalid("an index names too many manifests")));
        };
        let mut price = self.stored.size() + self.tags.len() as u64 * ENTRY;
        for digest in &blobs {
            price += store.price(&store.layer_link(name, digest), digest, by)?;
        }
        for stored in &manifests {
            price += store.price(&store.manifest_link(name, &stored.digest), &stored.digest, by)?;
        }
        if price > inner.space(&inner.payer(name.as_str(), by))? {
            return Ok(Err(uploads::over_quota()));
        }
        if by.is_some() {
            blobs.iter().try_for_each(|digest| store.link_blob(name, digest, by))?;
            manifests.iter().try_for_each(|stored| store.link_manifest(name, stored, by))?;
        }
        store.put_manifest(name, &self.stored, &self.links, by)?;
        self.tags.iter().try_for_each(|tag| store.set_tag(name, tag, &self.stored.digest, by))?;
        Ok(Ok(()))
    }

    /// What its setter pays for with it; `None` if that is too much to be looked at.
    fn needs(&self, store: &Store) -> io::Result<Option<(HashSet<Digest>, Vec<Stored>)>> {
        let mut blobs: HashSet<Digest> = self.links.blobs.iter().cloned().collect();
        let (mut manifests, mut bytes, mut seen) = (Vec::new(), 0, HashSet::new());
        let mut todo = if self.by.is_some() { self.links.manifests.clone() } else { Vec::new() };
        while let Some(digest) = todo.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            let Some(stored) = store.manifest(&self.name, &digest)? else { continue };
            bytes += stored.bytes.len();
            if seen.len() > NEEDS_MAX || bytes > NEEDS_READ {
                return Ok(None);
            }
            if let Ok(raw) = RawManifest::parse(&stored.bytes) {
                let links = Links::of(&raw);
                blobs.extend(links.blobs);
                todo.extend(links.manifests);
            }
            manifests.push(stored);
        }
        Ok(Some((blobs, manifests)))
    }
}

impl Call {
    pub(super) async fn get_manifest(self, name: Name, which: Which) -> Answer {
        let (repository, wanted) = (name.clone(), which.clone());
        let found = self.registry.disk(move |store| {
            let digest = match wanted {
                Which::Tag(tag) => store.tag(&repository, &tag)?.map(|set| set.digest),
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
        let by = self.setter(&name);
        self.registry.may_have(&name, &self.registry.inner.payer(name.as_str(), by.as_deref())).await?;
        let _gate = self.registry.inner.gate.read().await;
        let _alone = self.registry.inner.counted.lock().await;
        let subject = links.subject.clone();
        let stored = Stored { digest: digest.clone(), media_type, bytes: bytes.into() };
        let new = New { name: name.clone(), stored, links, tags: tags.clone(), by };
        let done = self.registry.blocking(move |inner| new.put(inner)).await;
        done.map_err(super::disk_refused)??;
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
