//! Reading and deleting blobs, whole or in part.

use super::{Answer, CONTENT_DIGEST, Call, lists::header, names::Name, refusal::Refusal};
use axum::body::Body;
use drydock_images::Digest;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue,
        IF_NONE_MATCH, RANGE,
    },
};
use std::io::SeekFrom;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};
use tokio_util::io::ReaderStream;

/// What part of a blob is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Bytes(u64, u64),
    Nothing,
}

impl Call {
    pub(super) async fn get_blob(self, name: Name, digest: Digest) -> Answer {
        let (repository, wanted) = (name.clone(), digest.clone());
        let opened = self.registry.disk(move |store| store.open_blob(&repository, &wanted)).await?;
        let Some((file, size)) = opened else { return Err(Refusal::blob_unknown(&digest)) };
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(crate::media_type::BINARY));
        headers.insert(CONTENT_DIGEST, header(&digest.to_string())?);
        headers.insert(ETAG, header(&format!("\"{digest}\""))?);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
        if matches(&self.head.headers, &digest) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        let (from, length) = match part(&self.head.headers, size) {
            Part::Whole => (0, size),
            Part::Bytes(from, to) => {
                let range = header(&format!("bytes {from}-{to}/{size}"))?;
                response.headers_mut().insert(CONTENT_RANGE, range);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                (from, to - from + 1)
            }
            Part::Nothing => {
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                let refusal = Refusal::new(status, "RANGE_INVALID", "invalid content range");
                return Err(refusal.with_header(CONTENT_RANGE, header(&format!("bytes */{size}"))?));
            }
        };
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        if self.head.method != Method::HEAD {
            let mut file = File::from_std(file);
            file.seek(SeekFrom::Start(from))
                .await
                .map_err(|e| Refusal::internal("a blob cannot be read", e))?;
            *response.body_mut() =
                Body::from_stream(ReaderStream::with_capacity(file.take(length), 64 * 1024));
        }
        Ok(response)
    }

    pub(super) async fn delete_blob(self, name: Name, digest: Digest) -> Answer {
        // Alone: the content goes at once, as its owner's quota comes back at once.
        let _gate = self.registry.inner.gate.write().await;
        let wanted = digest.clone();
        let unlinked = self.registry.disk(move |store| {
            let unlinked = store.unlink_blob(&name, &wanted)?;
            if unlinked {
                store.drop_unnamed(&wanted)?;
            }
            Ok(unlinked)
        });
        if !unlinked.await? {
            return Err(Refusal::blob_unknown(&digest));
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::ACCEPTED;
        Ok(response)
    }
}

/// Whether the client says that it has just this.
pub(super) fn matches(headers: &HeaderMap, digest: &Digest) -> bool {
    let value = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == digest.to_string())
}

/// One range is answered; several, or a unit other than bytes, are answered with the whole (RFC 9110, section 14.2).
fn part(headers: &HeaderMap, size: u64) -> Part {
    let value = headers.get(RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Some(range) = value.strip_prefix("bytes=").filter(|r| !r.contains(',')) else { return Part::Whole };
    let Some((from, to)) = range.trim().split_once('-') else { return Part::Whole };
    let (from, to) = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.min(size.saturating_sub(1))),
        (Ok(from), Err(_)) if to.is_empty() => (from, size.saturating_sub(1)),
        (Err(_), Ok(last)) if from.is_empty() && last > 0 => {
            (size.saturating_sub(last), size.saturating_sub(1))
        }
        (Err(_), Ok(_)) if from.is_empty() => return Part::Nothing,
        _ => return Part::Whole,
    };
    if from < size { Part::Bytes(from, to) } else { Part::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |text: &'static str, size| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static(text));
            part(&headers, size)
        };
        assert_eq!(part("bytes=0-3", 10), Part::Bytes(0, 3));
        assert_eq!(part("bytes=4-", 10), Part::Bytes(4, 9));
        assert_eq!(part("bytes=-3", 10), Part::Bytes(7, 9));
        assert_eq!(part("bytes=-30", 10), Part::Bytes(0, 9));
        assert_eq!(part("bytes=8-99", 10), Part::Bytes(8, 9));
        assert_eq!(part("bytes=10-", 10), Part::Nothing);
        assert_eq!(part("bytes=0-", 0), Part::Nothing);
        assert_eq!(part("bytes=-0", 10), Part::Nothing);
        for whole in ["bytes=5-3", "bytes=0-1,3-4", "lines=1-2", "bytes=x-y", "bytes="] {
            assert_eq!(part(whole, 10), Part::Whole, "{whole}");
        }
    }
}
