//! One blob from us to a registry: is it there, can it be mounted, else upload it while it is read (and packed).

use super::{
    http::{Body, full},
    push::{ImageSource, LayerContent, PushLayer},
    repository::Repository,
};
use crate::{
    Descriptor, Error, Event, Events, Result,
    digest::{Hasher, short},
    events::Meter,
    media_type,
};
use bytes::Bytes;
use drydock_images::Digest;
use flate2::{Compression, write::GzEncoder};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    HeaderMap, Method, StatusCode,
    body::Frame,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};
use std::{
    io::{self, Read, Write},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

const PIECE: usize = 64 * 1024;
/// Attempts at other repositories and at other digests are cheap, but not free.
const MOUNTS_MAX: usize = 4;
const CHECKS_MAX: usize = 3;

/// What the reading thread knows when it is done.
struct Packed {
    digest: Digest,
    size: u64,
    media_type: String,
}

impl Repository {
    /// Whether a blob is there, and its size.
    pub(super) async fn has_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        let answer = self.fetch(Method::HEAD, &self.url(&format!("blobs/{digest}")), Vec::new()).await?;
        match answer.status() {
            StatusCode::OK => {
                let length = answer.headers().get(hyper::header::CONTENT_LENGTH);
                Ok(length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.http.refusal(answer).await),
        }
    }

    /// Uploads bytes at once, unless they are there.
    pub(super) async fn put_bytes(&self, bytes: Bytes) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        if self.has_blob(&digest).await?.is_some() {
            return Ok(digest);
        }
        let place = self.begin(None).await?.ok_or_else(unexpected_mount)?;
        self.commit(&place, &digest, full(bytes)).await?;
        Ok(digest)
    }

    /// Brings a layer there by the cheapest way.
    pub(super) async fn put_layer<S: ImageSource>(
        &self,
        domain: &str,
        path: &str,
        layer: &PushLayer,
        source: &Arc<S>,
        events: &Events,
    ) -> Result<Descriptor> {
        let id = short(&layer.diff_id);
        let mut asked: Vec<&Digest> = Vec::new();
        for known in &layer.known {
            if asked.contains(&&known.digest) || asked.len() >= CHECKS_MAX {
                continue;
            }
            asked.push(&known.digest);
            if let Ok(Some(size)) = self.has_blob(&known.digest).await {
                events(Event::layer(id, "Layer already exists"));
                return Ok(descriptor(known.digest.clone(), size, &known.media_type));
            }
        }
        let mut place = None;
        let elsewhere = layer.known.iter().filter_map(|known| {
            let other = known.repository.as_deref()?.strip_prefix(domain)?.strip_prefix('/')?;
            (other != path).then_some((known, other))
        });
        for (known, other) in elsewhere.take(MOUNTS_MAX) {
            match self.begin(Some((&known.digest, other))).await {
                Ok(None) => {
                    events(Event::layer(id, format!("Mounted from {other}")));
                    return Ok(descriptor(known.digest.clone(), known.size, &known.media_type));
                }
                // The registry could not mount but has begun an upload.
                Ok(begun) => place = begun,
                Err(error) => tracing::debug!(%error, from = other, "cannot mount"),
            }
        }
        let place = match place {
            Some(place) => place,
            None => self.begin(None).await?.ok_or_else(unexpected_mount)?,
        };
        let packed = self.stream(&place, layer, source, events).await?;
        events(Event::layer(id, "Pushed"));
        Ok(descriptor(packed.digest, packed.size, &packed.media_type))
    }

    /// Begins an upload and gives its address; `None` means that the blob was mounted.
    async fn begin(&self, mount: Option<(&Digest, &str)>) -> Result<Option<String>> {
        let mut url = self.url("blobs/uploads/");
        if let Some((digest, from)) = mount {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("mount", &digest.to_string())
                .append_pair("from", from)
                .finish();
            url = format!("{url}?{query}");
        }
        let limit = Some(self.options.answer_timeout);
        let answer = self.send(Method::POST, &url, Vec::new(), full(""), mount.map(|m| m.1), limit).await?;
        match answer.status() {
            StatusCode::CREATED if mount.is_some() => Ok(None),
            StatusCode::ACCEPTED => place(&url, answer.headers()).map(Some),
            _ => Err(self.http.refusal(answer).await),
        }
    }

    /// Ends an upload; `body` is what has not been sent yet.
    async fn commit(&self, place: &str, digest: &Digest, body: Body) -> Result<()> {
        let joint = if place.contains('?') { '&' } else { '?' };
        let value: String = form_urlencoded::byte_serialize(digest.to_string().as_bytes()).collect();
        let url = format!("{place}{joint}digest={value}");
        let limit = Some(self.options.answer_timeout);
        let answer = self.send(Method::PUT, &url, binary(), body, None, limit).await?;
        if answer.status() == StatusCode::CREATED { Ok(()) } else { Err(self.http.refusal(answer).await) }
    }

    /// Sends a layer while a thread reads it.
    async fn stream<S: ImageSource>(
        &self,
        place_url: &str,
        layer: &PushLayer,
        source: &Arc<S>,
        events: &Events,
    ) -> Result<Packed> {
        let (sender, receiver) = mpsc::channel::<Bytes>(4);
        let reader = {
            let (source, layer, events) = (Arc::clone(source), layer.clone(), Arc::clone(events));
            tokio::task::spawn_blocking(move || read(source.as_ref(), &layer, &events, sender))
        };
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let pieces = futures_util::stream::unfold(receiver, move |mut receiver| {
            let counter = Arc::clone(&counter);
            async move {
                let piece = receiver.recv().await?;
                counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Some((Ok::<_, io::Error>(Frame::data(piece)), receiver))
            }
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        let answer =
            self.watched(self.send(Method::PATCH, place_url, binary(), body, None, None), &sent, place_url);
        let answer = answer.await;
        // A reader that failed ends the body early; then its error is the true one.
        let packed = reader.await.map_err(io::Error::other).and_then(|packed| packed);
        let packed = match (packed, &answer) {
            (Err(error), Err(_)) if error.kind() == io::ErrorKind::BrokenPipe => None,
            (Err(error), Ok(_)) if error.kind() == io::ErrorKind::BrokenPipe => None,
            (packed, _) => Some(packed.map_err(Error::io("cannot read the layer"))?),
        };
        let answer = answer?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(self.http.refusal(answer).await);
        }
        let packed =
            packed.ok_or_else(|| Error::Broken("the registry did not take the whole layer".into()))?;
        let next = place(place_url, answer.headers())?;
        self.commit(&next, &packed.digest, full("")).await?;
        Ok(packed)
    }

    /// Waits for an answer as long as something moves.
    async fn watched<T>(
        &self,
        answer: impl Future<Output = Result<T>>,
        sent: &AtomicU64,
        url: &str,
    ) -> Result<T> {
        let mut answer = pin!(answer);
        let mut before = 0;
        loop {
            match tokio::time::timeout(self.options.idle_timeout, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    if now == before {
                        let reason = "write: i/o timeout".into();
                        return Err(Error::Transport { op: "Patch", url: url.to_owned(), reason });
                    }
                    before = now;
                }
            }
        }
    }
}

/// Runs on a thread of its own: reads, packs, hashes, sends.
fn read<S: ImageSource>(
    source: &S,
    layer: &PushLayer,
    events: &Events,
    sender: mpsc::Sender<Bytes>,
) -> io::Result<Packed> {
    let out = Out { sender, hasher: Hasher::new() };
    let mut meter = Meter::new(Arc::clone(events), short(&layer.diff_id), "Pushing", layer.size);
    let (out, media_type) = match source.open(layer)? {
        LayerContent::Tar(mut tar) => {
            let packer = GzEncoder::new(io::BufWriter::with_capacity(PIECE, out), Compression::default());
            let packer = copy(&mut tar, packer, &mut meter)?;
            let buffered = packer.finish()?;
            (
                buffered.into_inner().map_err(io::IntoInnerError::into_error)?,
                media_type::DOCKER_LAYER.to_owned(),
            )
        }
        LayerContent::Blob { mut reader, size, media_type } => {
            meter.set_total(size);
            (copy(&mut reader, out, &mut meter)?, media_type)
        }
    };
    Ok(Packed { digest: out.hasher.digest(), size: out.hasher.bytes(), media_type })
}

fn copy<W: Write>(from: &mut dyn Read, mut to: W, meter: &mut Meter) -> io::Result<W> {
    let mut buffer = vec![0; PIECE];
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(to),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        to.write_all(&buffer[..n])?;
        meter.add(n as u64);
    }
}

/// The writing end: counts, hashes, and hands on to the connection.
struct Out {
    sender: mpsc::Sender<Bytes>,
    hasher: Hasher,
}

impl Write for Out {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.hasher.update(data);
        self.sender.blocking_send(Bytes::copy_from_slice(data)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn descriptor(digest: Digest, size: u64, media_type: &str) -> Descriptor {
    let media_type = media_type.to_owned();
    Descriptor { media_type, size, digest, platform: None, annotations: None, artifact_type: None }
}

fn binary() -> super::http::Headers {
    vec![(CONTENT_TYPE, HeaderValue::from_static(media_type::BINARY))]
}

fn place(url: &str, headers: &HeaderMap) -> Result<String> {
    let target = headers.get(LOCATION).and_then(|v| v.to_str().ok());
    target
        .and_then(|target| super::http::join(url, target))
        .ok_or_else(|| Error::Content("the registry did not say where to upload to".into()))
}

fn unexpected_mount() -> Error {
    Error::Content("the registry answered an upload as if it were a mount".into())
}
