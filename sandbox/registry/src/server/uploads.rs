//! Uploads: a blob arrives at once, in pieces, or not at all because another repository has it.
//!
//! An upload's file grows; beside it, in memory, goes the running digest. After a restart the digest is computed again from the
//! file, so a client may go on where it was. Only one request writes to an upload at a time.

use super::{
    Answer, CONTENT_DIGEST, Call, Inner, Registry,
    names::{self, Name, UploadId},
    refusal::Refusal,
    store::{ENTRY, Store},
};
use crate::digest::Hasher;
use axum::body::Body;
use drydock_images::Digest;
use futures_util::StreamExt as _;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE},
};
use std::{
    collections::HashMap,
    io::{self, Read as _, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
    sync::OwnedMutexGuard,
};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The uploads that this process has seen.
pub(super) struct Uploads {
    live: Mutex<HashMap<UploadId, Live>>,
}

struct Live {
    /// Bytes so far, by owner, for quotas.
    owner: String,
    bytes: u64,
    state: Arc<tokio::sync::Mutex<State>>,
}

/// What one writer holds.
struct State {
    hasher: Hasher,
    file: File,
}

type Held = OwnedMutexGuard<State>;

impl Uploads {
    pub(super) fn new() -> Self {
        Self { live: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<UploadId, Live>) -> T) -> T {
        work(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes an upload out, unless somebody writes to it now.
    pub(super) fn forget(&self, id: &UploadId) -> bool {
        self.with(|live| {
            let busy = live.get(id).is_some_and(|l| l.state.try_lock().is_err());
            if !busy {
                live.remove(id);
            }
            !busy
        })
    }

    /// Takes an upload out, whoever writes to it.
    pub(super) fn remove(&self, id: &UploadId) {
        self.with(|live| live.remove(id));
    }

    fn owner(&self, id: &UploadId) -> Option<String> {
        self.with(|live| live.get(id).map(|l| l.owner.clone()))
    }

    fn pending(&self, owner: &str) -> u64 {
        self.with(|live| live.values().filter(|l| l.owner == owner).map(|l| l.bytes).sum())
    }

    /// What an upload has, as its file says.
    fn set_bytes(&self, id: &UploadId, bytes: u64) {
        self.with(|live| {
            if let Some(one) = live.get_mut(id) {
                one.bytes = bytes;
            }
        });
    }

    /// Lets an upload grow if all uploads of its owner together stay within `limit`; layers come side by side.
    fn grow(&self, id: &UploadId, bytes: u64, limit: u64) -> bool {
        self.with(|live| {
            let Some(owner) = live.get(id).map(|l| l.owner.clone()) else { return false };
            let pending: u64 = live.values().filter(|l| l.owner == owner).map(|l| l.bytes).sum();
            let fits = pending.saturating_add(bytes) <= limit;
            if let Some(one) = live.get_mut(id).filter(|_| fits) {
                one.bytes += bytes;
            }
            fits
        })
    }
}

impl Inner {
    fn left(&self, payer: &str) -> io::Result<u64> {
        let Some(quota) = self.policy.quota(payer) else { return Ok(u64::MAX) };
        Ok(quota.saturating_sub(self.used(payer)?))
    }

    /// How many bytes more somebody may have, besides what is on its way.
    pub(super) fn space(&self, payer: &str) -> io::Result<u64> {
        Ok(self.left(payer)?.saturating_sub(self.uploads.pending(payer)))
    }
}

impl Registry {
    /// Makes an upload.
    async fn new_upload(&self, name: &Name, by: Option<&str>) -> Result<(UploadId, Held), Refusal> {
        let owner = self.inner.payer(name.as_str(), by);
        let (all, own) =
            self.inner.uploads.with(|live| (live.len(), live.values().filter(|l| l.owner == owner).count()));
        if all >= self.inner.limits.all_uploads || own >= self.inner.limits.uploads {
            let text = "too many uploads are open: finish or cancel one";
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", text));
        }
        self.may_have(name, &owner).await?;
        if !self.disk(|store| store.has_free(super::FREE)).await? {
            return Err(Refusal::denied("no space left on the registry's disk"));
        }
        let id = UploadId::new()?;
        let (repository, upload, setter) = (name.clone(), id.clone(), by.map(str::to_owned));
        let file =
            self.disk(move |store| store.begin_upload(&repository, &upload, setter.as_deref())).await?;
        let state = State { hasher: Hasher::new(), file: File::from_std(file) };
        let held = self.remember_upload(owner, &id, state)?;
        Ok((id, held))
    }

    fn remember_upload(&self, owner: String, id: &UploadId, state: State) -> Result<Held, Refusal> {
        let bytes = state.hasher.bytes();
        let state = Arc::new(tokio::sync::Mutex::new(state));
        let held =
            Arc::clone(&state).try_lock_owned().map_err(|e| Refusal::internal("a new upload is busy", e))?;
        self.inner.uploads.with(|live| live.insert(id.clone(), Live { owner, bytes, state }));
        Ok(held)
    }

    /// Takes hold of an upload of this repository.
    async fn hold(&self, name: &Name, id: &UploadId) -> Result<Held, Refusal> {
        let upload = id.clone();
        let begun = self.disk(move |store| store.upload_of(&upload)).await?;
        let Some((_, by)) = begun.filter(|(of, _)| of == name.as_str()) else {
            return Err(Refusal::upload_unknown());
        };
        let known = self.inner.uploads.with(|live| live.get(id).map(|l| Arc::clone(&l.state)));
        if let Some(state) = known {
            let text = "another request is writing to this upload";
            return state.try_lock_owned().map_err(|_| Refusal::upload_invalid(text));
        }
        let upload = id.clone();
        let (hasher, file) = self.disk(move |store| reopen(store, &upload)).await?;
        let owner = self.inner.payer(name.as_str(), by.as_deref());
        self.remember_upload(owner, id, State { hasher, file: File::from_std(file) })
    }

    async fn drop_upload(&self, id: &UploadId, held: Held) -> Result<bool, Refusal> {
        drop(held);
        self.inner.uploads.forget(id);
        let upload = id.clone();
        self.disk(move |store| store.drop_upload(&upload)).await
    }

    /// Refuses a repository that would be the first too many of who pays.
    pub(super) async fn may_have(&self, name: &Name, payer: &str) -> Result<(), Refusal> {
        let (name, payer) = (name.clone(), payer.to_owned());
        let fits = self.blocking(move |inner: &Inner| {
            let theirs = inner.store.where_used(|name, by| inner.payer(name.as_str(), by) == payer)?;
            Ok(theirs.contains(&name) || theirs.len() < inner.limits.repositories)
        });
        match fits.await.map_err(|e| Refusal::internal("the repositories cannot be counted", e))? {
            true => Ok(()),
            false => Err(Refusal::denied("too many repositories: delete some that are no longer needed")),
        }
    }

    /// How many bytes more somebody may have, with what is on its way.
    async fn left(&self, payer: &str) -> Result<u64, Refusal> {
        let payer = payer.to_owned();
        let left = self.blocking(move |inner: &Inner| inner.left(&payer));
        left.await.map_err(|e| Refusal::internal("the space cannot be counted", e))
    }

    /// Gives a repository a blob that is there, if who pays has space for it.
    async fn link(&self, name: &Name, digest: &Digest, by: Option<String>) -> Result<(), Refusal> {
        let payer = self.inner.payer(name.as_str(), by.as_deref());
        let wanted = digest.clone();
        let _alone = self.inner.counted.lock().await;
        let size = self.disk(move |store| store.blob_size(&wanted)).await?;
        if size + ENTRY > self.left(&payer).await?.saturating_sub(self.inner.uploads.pending(&payer)) {
            return Err(over_quota());
        }
        self.may_have(name, &payer).await?;
        let (name, digest) = (name.clone(), digest.clone());
        self.disk(move |store| store.link_blob(&name, &digest, by.as_deref())).await
    }
}

impl Call {
    /// `POST …/blobs/uploads/`: a mount, a whole blob, or an empty upload.
    pub(super) async fn begin_upload(self, name: Name, body: Body) -> Answer {
        if let Some(mounted) = self.mount(&name).await? {
            return Ok(mounted);
        }
        if let Some(algorithm) = self.query.get("digest-algorithm").filter(|a| *a != "sha256") {
            let text = format!("unsupported digest algorithm {algorithm:?}");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", text));
        }
        let whole = match self.query.get("digest") {
            Some(text) => Some(names::digest(text)?),
            None => None,
        };
        let by = self.setter(&name);
        let (id, mut held) = self.registry.new_upload(&name, by.as_deref()).await?;
        let registry = self.registry.clone();
        let Some(digest) = whole else { return progress(&name, &id, &held, StatusCode::ACCEPTED) };
        match append(&registry, &id, &mut held, body).await {
            Ok(()) => self.commit(name, id, held, digest).await,
            Err(refusal) => {
                registry.drop_upload(&id, held).await?;
                Err(refusal)
            }
        }
    }

    /// Takes a blob over from another repository that the sender may read.
    async fn mount(&self, name: &Name) -> Result<Option<Response<Body>>, Refusal> {
        let (Some(digest), Some(from)) = (self.query.get("mount"), self.query.get("from")) else {
            return Ok(None);
        };
        let (Ok(digest), Ok(from)) = (names::digest(digest), Name::parse(from)) else { return Ok(None) };
        if !self.may(&from, super::Action::Pull).await? {
            return Ok(None);
        }
        let _gate = self.registry.inner.gate.read().await;
        let wanted = digest.clone();
        if !self.registry.disk(move |store| Ok(store.has_blob(&from, &wanted))).await? {
            return Ok(None);
        }
        self.registry.link(name, &digest, self.setter(name)).await?;
        created(name, &digest).map(Some)
    }

    /// `PATCH`: the next piece.
    pub(super) async fn patch_upload(self, name: Name, id: UploadId, body: Body) -> Answer {
        let registry = self.registry.clone();
        let mut held = registry.hold(&name, &id).await?;
        self.check_range(&name, &id, &held)?;
        append(&registry, &id, &mut held, body).await?;
        progress(&name, &id, &held, StatusCode::ACCEPTED)
    }

    /// `PUT`: the last piece, perhaps empty, and the digest of the whole.
    pub(super) async fn finish_upload(self, name: Name, id: UploadId, body: Body) -> Answer {
        let registry = self.registry.clone();
        let digest = match self.query.get("digest") {
            Some(text) => names::digest(text)?,
            None => return Err(Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "digest missing")),
        };
        let mut held = registry.hold(&name, &id).await?;
        self.check_range(&name, &id, &held)?;
        append(&registry, &id, &mut held, body).await?;
        self.commit(name, id, held, digest).await
    }

    /// `GET`: how far it is.
    pub(super) async fn upload_status(self, name: Name, id: UploadId) -> Answer {
        let held = self.registry.hold(&name, &id).await?;
        progress(&name, &id, &held, StatusCode::NO_CONTENT)
    }

    /// `DELETE`: never mind.
    pub(super) async fn cancel_upload(self, name: Name, id: UploadId) -> Answer {
        let held = self.registry.hold(&name, &id).await?;
        self.registry.drop_upload(&id, held).await?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    /// Makes an upload a blob if the digest is right.
    async fn commit(&self, name: Name, id: UploadId, held: Held, digest: Digest) -> Answer {
        let registry = &self.registry;
        if held.hasher.digest() != digest {
            registry.drop_upload(&id, held).await?;
            return Err(Refusal::digest_invalid());
        }
        let _gate = registry.inner.gate.read().await;
        // Others may have been finished since this one began, and none is between this look and the count.
        let _alone = registry.inner.counted.lock().await;
        let by = self.setter(&name);
        let payer = registry.inner.payer(name.as_str(), by.as_deref());
        if held.hasher.bytes() + ENTRY > registry.left(&payer).await? {
            registry.drop_upload(&id, held).await?;
            return Err(over_quota());
        }
        // What a failed write left behind the end does not belong to the blob.
        held.file
            .set_len(held.hasher.bytes())
            .await
            .map_err(|e| Refusal::internal("an upload cannot be cut", e))?;
        let (repository, upload, content) = (name.clone(), id.clone(), digest.clone());
        let kept = registry
            .disk(move |store| store.keep_upload(&repository, &upload, &content, by.as_deref()))
            .await?;
        drop(held);
        registry.inner.uploads.forget(&id);
        if !kept {
            return Err(Refusal::upload_unknown());
        }
        created(&name, &digest)
    }

    /// A piece that says where it belongs must belong to the end.
    fn check_range(&self, name: &Name, id: &UploadId, held: &Held) -> Result<(), Refusal> {
        let Some(range) = self.head.headers.get(CONTENT_RANGE) else { return Ok(()) };
        let range =
            range.to_str().unwrap_or_default().trim_start_matches("bytes ").trim_start_matches("bytes=");
        let range = range.split('/').next().unwrap_or_default();
        let bounds = range
            .split_once('-')
            .and_then(|(from, to)| Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?)));
        let invalid = |status| {
            let refusal = Refusal::new(status, "RANGE_INVALID", "invalid content range");
            place(name, id).map_or_else(
                |r| r,
                |at| {
                    refusal
                        .with_header(LOCATION, at)
                        .with_header(RANGE, so_far(held.hasher.bytes()))
                        .with_header(
                            UPLOAD_UUID,
                            HeaderValue::from_str(id.as_str()).unwrap_or(HeaderValue::from_static("")),
                        )
                },
            )
        };
        match bounds {
            Some((from, to)) if from <= to && from == held.hasher.bytes() => Ok(()),
            Some(_) => Err(invalid(StatusCode::RANGE_NOT_SATISFIABLE)),
            None => Err(invalid(StatusCode::BAD_REQUEST)),
        }
    }
}

/// Writes a body to the end of an upload. What arrived before a failure stays, so that the client can go on.
async fn append(registry: &Registry, id: &UploadId, held: &mut Held, body: Body) -> Result<(), Refusal> {
    let limits = &registry.inner.limits;
    let Some(payer) = registry.inner.uploads.owner(id) else { return Err(Refusal::upload_unknown()) };
    let left = registry.left(&payer).await?;
    let before = held.hasher.bytes();
    registry.inner.uploads.set_bytes(id, before);
    let disk = |e: io::Error| match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => super::no_space(&e),
        _ => Refusal::internal("an upload cannot be written", e),
    };
    // A write that failed may have moved the cursor beyond what was counted.
    held.file.seek(SeekFrom::Start(before)).await.map_err(disk)?;
    let mut pieces = body.into_data_stream();
    loop {
        let piece = tokio::time::timeout(limits.idle, pieces.next()).await;
        let piece = match piece.map_err(|_| Refusal::upload_invalid("nothing arrived for too long"))? {
            None => break,
            Some(piece) => piece.map_err(|_| Refusal::upload_invalid("the connection broke"))?,
        };
        let size = piece.len() as u64;
        if held.hasher.bytes() + size > limits.blob {
            let text = format!("a blob has at most {} bytes here", limits.blob);
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", text));
        }
        if !registry.inner.uploads.grow(id, size, left) {
            return Err(over_quota());
        }
        held.file.write_all(&piece).await.map_err(disk)?;
        held.hasher.update(&piece);
    }
    held.file.flush().await.map_err(disk)
}

/// The file of an upload of an earlier process, and the digest of what it has.
fn reopen(store: &Store, id: &UploadId) -> io::Result<(Hasher, std::fs::File)> {
    let mut file = std::fs::File::options().read(true).write(true).open(store.upload(id))?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher, file)),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn created(name: &Name, digest: &Digest) -> Answer {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(LOCATION, super::lists::header(&format!("/v2/{name}/blobs/{digest}"))?);
    response.headers_mut().insert(CONTENT_DIGEST, super::lists::header(&digest.to_string())?);
    Ok(response)
}

fn progress(name: &Name, id: &UploadId, held: &Held, status: StatusCode) -> Answer {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, place(name, id)?);
    response.headers_mut().insert(RANGE, so_far(held.hasher.bytes()));
    response.headers_mut().insert(UPLOAD_UUID, super::lists::header(id.as_str())?);
    Ok(response)
}

fn place(name: &Name, id: &UploadId) -> Result<HeaderValue, Refusal> {
    super::lists::header(&format!("/v2/{name}/blobs/uploads/{}", id.as_str()))
}

/// `0-N`, where N is the last byte; the reference registry says `0-0` for nothing, too.
fn so_far(bytes: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("0-{}", bytes.saturating_sub(1)))
        .unwrap_or(HeaderValue::from_static("0-0"))
}

pub(super) fn over_quota() -> Refusal {
    Refusal::denied("the quota of this name is used up: delete images that are no longer needed")
}
