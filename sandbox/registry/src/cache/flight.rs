//! One blob on its way from a registry to the shelf. Whoever asks for it meanwhile reads the same file as it grows. It goes on
//! when all who asked have left: the next one will want it. If it has not the digest that it should have, it is thrown away and
//! the readers' connections break off before their end (they check the digest as well).

use super::{Failure, Inner};
use crate::Hasher;
use bytes::Bytes;
use drydock_images::Digest;
use futures_util::Stream;
use hyper::{StatusCode, header::CONTENT_LENGTH};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, PoisonError},
};
use tempfile::NamedTempFile;
use tokio::sync::watch;

/// Bytes that are read at a time.
const PIECE: u64 = 64 << 10;

/// How far it is.
#[derive(Debug, Clone)]
enum Progress {
    /// The registry has not answered yet.
    Asking,
    /// It arrives.
    Coming { size: Option<u64>, written: u64 },
    /// It is whole and right.
    Done { size: u64 },
    /// It will not come.
    Failed(Failure),
}

/// See the top of the file.
pub(super) struct Flight {
    /// What has arrived. Read at positions, so that readers do not disturb each other.
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
}

impl Flight {
    /// Begins to fetch a blob.
    pub(super) fn begin(
        cache: Arc<Inner>,
        registry: String,
        name: String,
        digest: Digest,
    ) -> Result<Arc<Self>, Failure> {
        let named = cache.shelf.new_file().map_err(Failure::internal)?;
        let file = Arc::new(named.as_file().try_clone().map_err(Failure::internal)?);
        let (tell, progress) = watch::channel(Progress::Asking);
        let flight = Arc::new(Self { file, progress });
        let kept = flight.clone();
        tokio::spawn(async move {
            let fetched = fetch(&cache, &registry, &name, &digest, named, &kept.file, &tell).await;
            let last = match fetched {
                Ok(size) => Progress::Done { size },
                Err(failure) => {
                    tracing::info!(registry, name, %digest, ?failure, "a blob could not be fetched");
                    Progress::Failed(failure)
                }
            };
            tell.send_replace(last);
            let key = format!("{registry}/{name}@{digest}");
            cache.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            drop(kept);
        });
        Ok(flight)
    }

    /// Whether it is no use to wait for it.
    pub(super) fn failed(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Failed(_))
    }

    /// Waits until the registry has answered; the blob's size, if it said.
    pub(super) async fn begun(&self) -> Result<Option<u64>, Failure> {
        let mut progress = self.progress.clone();
        let told = progress.wait_for(|p| !matches!(p, Progress::Asking)).await.map_err(Failure::internal)?;
        match &*told {
            Progress::Failed(failure) => Err(failure.clone()),
            Progress::Coming { size, .. } => Ok(*size),
            Progress::Done { size } => Ok(Some(*size)),
            Progress::Asking => Ok(None),
        }
    }

    /// The bytes, from the first to the last, as they arrive.
    pub(super) fn stream(self: Arc<Self>) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let progress = self.progress.clone();
        futures_util::stream::unfold(Some((self, progress, 0_u64)), async |state| {
            let (flight, mut progress, at) = state?;
            match flight.next(&mut progress, at).await {
                Ok(piece) if piece.is_empty() => None,
                Ok(piece) => {
                    let at = at + piece.len() as u64;
                    Some((Ok(piece), Some((flight, progress, at))))
                }
                Err(e) => Some((Err(e), None)),
            }
        })
    }

    /// What follows a position; empty at the end.
    async fn next(&self, progress: &mut watch::Receiver<Progress>, at: u64) -> io::Result<Bytes> {
        let ready = |p: &Progress| match p {
            Progress::Asking => false,
            Progress::Coming { written, .. } => *written > at,
            Progress::Done { .. } | Progress::Failed(_) => true,
        };
        let end = match &*progress.wait_for(ready).await.map_err(io::Error::other)? {
            Progress::Coming { written, .. } => *written,
            Progress::Done { size } => *size,
            Progress::Failed(failure) => return Err(io::Error::other(failure.message.clone())),
            Progress::Asking => at,
        };
        let length = end.saturating_sub(at).min(PIECE);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, at)?;
            Ok::<_, io::Error>(Bytes::from(bytes))
        });
        read.await.map_err(io::Error::other)?
    }
}

/// Fetches a blob into the file and puts it on the shelf; its size.
async fn fetch(
    cache: &Arc<Inner>,
    registry: &str,
    name: &str,
    digest: &Digest,
    named: NamedTempFile,
    file: &Arc<File>,
    tell: &watch::Sender<Progress>,
) -> Result<u64, Failure> {
    let _place = cache.downloads.acquire().await.map_err(Failure::internal)?;
    let answer = cache.upstream.blob(registry, name, digest).await?;
    let size = answer.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        let text = "the blob is larger than the cache of registries may be";
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", text)
    };
    if size.is_some_and(|size| size > cache.limits.bytes) {
        return Err(too_large());
    }
    let broken = |e: crate::Error| Failure::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", e.to_string());
    let mut hasher = Hasher::new();
    let mut body = answer.into_body();
    tell.send_replace(Progress::Coming { size, written: 0 });
    while let Some(piece) = cache.upstream.piece(&mut body).await.map_err(broken)? {
        let at = hasher.bytes();
        hasher.update(&piece);
        if hasher.bytes() > cache.limits.bytes {
            return Err(too_large());
        }
        let file = file.clone();
        let written = tokio::task::spawn_blocking(move || file.write_all_at(&piece, at)).await;
        written.map_err(Failure::internal)?.map_err(Failure::internal)?;
        tell.send_replace(Progress::Coming { size, written: hasher.bytes() });
    }
    if hasher.digest() != *digest {
        let text = format!("what {registry} sent for {digest} does not have this digest");
        return Err(Failure::new(StatusCode::BAD_GATEWAY, "DIGEST_INVALID", text));
    }
    let (shelf, kept, size) = (cache.clone(), digest.clone(), hasher.bytes());
    let kept = tokio::task::spawn_blocking(move || shelf.shelf.keep(&kept, named, size)).await;
    kept.map_err(Failure::internal)?.map_err(Failure::internal)?;
    Ok(size)
}
