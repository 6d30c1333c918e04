//! What the registry has: tags, repositories, referrers; page by page.

use super::{Action, Answer, Call, names::Name, refusal::Refusal, store::Stored};
use crate::manifest::{Descriptor, RawManifest, media_type};
use axum::body::Body;
use drydock_images::Digest;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, LINK},
};
use serde_json::json;

const OCI_FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
/// What a page has if nobody says, and at most.
const CATALOGUE_PAGE: usize = 100;
const PAGE_MAX: usize = 10_000;

/// A page of referrers has so many, and is made of so many bytes of manifests.
const REFERRERS_PAGE: usize = 1000;
const REFERRERS_READ: usize = 4 << 20;

/// Which page is wanted.
struct Page {
    n: Option<usize>,
    last: String,
}

impl Call {
    fn page(&self) -> Result<Page, Refusal> {
        let n = match self.query.get("n").map(|n| n.parse::<usize>()) {
            None => None,
            Some(Ok(n)) => Some(n.min(PAGE_MAX)),
            Some(Err(_)) => {
                let text = "invalid number of results requested";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", text));
            }
        };
        Ok(Page { n, last: self.query.get("last").cloned().unwrap_or_default() })
    }

    pub(super) async fn tags(self, name: Name) -> Answer {
        let page = self.page()?;
        let repository = name.clone();
        let tags = self.registry.disk(move |store| store.tags(&repository)).await?;
        let Some(tags) = tags else { return Err(Refusal::name_unknown(&name)) };
        let all = tags.iter().map(|t| t.as_str().to_owned()).collect();
        let (tags, next) = cut(all, &page, PAGE_MAX);
        let body = json!({ "name": name.as_str(), "tags": tags });
        linked(json(body.to_string()), &format!("/v2/{name}/tags/list"), next, &page)
    }

    /// The repositories that the sender may pull from.
    pub(super) async fn catalogue(self) -> Answer {
        let page = self.page()?;
        let user = self.user.clone();
        let names = self.registry.blocking(move |inner| {
            let all = inner.store.repositories()?;
            let seen =
                all.into_iter().filter(|n| inner.policy.allows(user.as_deref(), n.as_str(), Action::Pull));
            Ok(seen.map(|n| n.as_str().to_owned()).collect::<Vec<_>>())
        });
        let names = names.await.map_err(|e| Refusal::internal("the repositories cannot be listed", e))?;
        let (names, next) = cut(names, &page, CATALOGUE_PAGE);
        linked(json(json!({ "repositories": names }).to_string()), "/v2/_catalog", next, &page)
    }

    /// A page of them: a manifest, and so its annotations, may have megabytes.
    pub(super) async fn referrers(self, name: Name, digest: Digest) -> Answer {
        let page = self.page()?;
        let wanted = self.query.get("artifactType").cloned();
        let _turn = self.registry.inner.lists.acquire().await.map_err(|e| Refusal::internal("lists", e))?;
        let (repository, kind, after) = (name.clone(), wanted.clone(), page.last.clone());
        let found = self.registry.disk(move |store| {
            let mut found = Referrers::default();
            for digest in store.referrers(&repository, &digest)? {
                if digest.to_string() <= after {
                    continue;
                }
                if found.is_full() {
                    found.next = found.last.take();
                    break;
                }
                if let Some(stored) = store.manifest(&repository, &digest)? {
                    found.add(stored, kind.as_deref());
                }
            }
            Ok(found)
        });
        let found = found.await?;
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": found.all });
        let mut response = json(index.to_string());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type::OCI_INDEX));
        if let Some(kind) = &wanted {
            response.headers_mut().insert(OCI_FILTERS, HeaderValue::from_static("artifactType"));
            if let Some(last) = &found.next {
                let mut query = form_urlencoded::Serializer::new(String::new());
                query.append_pair("artifactType", kind).append_pair("last", last);
                let link = format!("<{}?{}>; rel=\"next\"", self.head.uri.path(), query.finish());
                response.headers_mut().insert(LINK, header(&link)?);
                return Ok(response);
            }
        }
        linked(response, self.head.uri.path(), found.next, &page)
    }
}

/// A page of referrers as it fills.
#[derive(Default)]
struct Referrers {
    all: Vec<Descriptor>,
    /// Bytes of the manifests that were read for it.
    read: usize,
    last: Option<String>,
    /// The last digest that was looked at, if there is more.
    next: Option<String>,
}

impl Referrers {
    fn is_full(&self) -> bool {
        self.read > REFERRERS_READ || self.all.len() >= REFERRERS_PAGE
    }

    fn add(&mut self, stored: Stored, kind: Option<&str>) {
        self.read += stored.bytes.len();
        self.last = Some(stored.digest.to_string());
        self.all.extend(descriptor(stored).filter(|d| kind.is_none() || d.artifact_type.as_deref() == kind));
    }
}

/// How a manifest is listed as a referrer (specification, "Listing Referrers").
fn descriptor(stored: Stored) -> Option<Descriptor> {
    let raw = RawManifest::parse(&stored.bytes).ok()?;
    let config = raw.config.map(|c| c.media_type);
    Some(Descriptor {
        media_type: stored.media_type,
        size: stored.bytes.len() as u64,
        digest: stored.digest,
        platform: None,
        annotations: raw.annotations,
        artifact_type: raw.artifact_type.filter(|t| !t.is_empty()).or(config),
    })
}

/// A page of a sorted list, and the last name on it if there is more.
fn cut(all: Vec<String>, page: &Page, default: usize) -> (Vec<String>, Option<String>) {
    let n = page.n.unwrap_or(default);
    let mut rest = all.into_iter().filter(|name| page.last.is_empty() || *name > page.last);
    let names: Vec<String> = rest.by_ref().take(n).collect();
    let more = n > 0 && rest.next().is_some();
    let next = names.last().cloned().filter(|_| more);
    (names, next)
}

fn linked(mut response: Response<Body>, path: &str, next: Option<String>, page: &Page) -> Answer {
    if let Some(last) = next {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("last", &last);
        if let Some(n) = page.n {
            query.append_pair("n", &n.to_string());
        }
        let link = header(&format!("<{path}?{}>; rel=\"next\"", query.finish()))?;
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

pub(super) fn json(body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn header(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|e| Refusal::internal("a header has strange characters", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let all = || ["a", "b", "c"].map(str::to_owned).to_vec();
        let page = |n, last: &str| Page { n, last: last.into() };
        assert_eq!(cut(all(), &page(None, ""), 10), (all(), None));
        assert_eq!(cut(all(), &page(Some(2), ""), 10), (vec!["a".into(), "b".into()], Some("b".into())));
        assert_eq!(cut(all(), &page(Some(2), "b"), 10), (vec!["c".into()], None));
        assert_eq!(cut(all(), &page(Some(0), ""), 10), (vec![], None));
        assert_eq!(cut(all(), &page(None, "zz"), 10), (vec![], None));
    }
}
