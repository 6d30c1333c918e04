//! The registry: the OCI distribution protocol (1.1) as an axum router over a folder.
//!
//! The host mounts [`Registry::router`] on a listener of its own; nodes reach it as `registry:5000`. Strangers write here: every
//! name and digest is checked before it becomes a path ([`names`]), bodies are bounded, space is counted by owner ([`Policy`]).
//! The reference registry's status codes and error codes are kept, because clients act on them.

mod blobs;
mod garbage;
mod lists;
mod manifests;
mod names;
mod policy;
mod refusal;
mod space;
mod store;
mod uploads;

pub use garbage::Collected;
pub(crate) use names::{Route, Which};
pub use policy::{Accounts, Action, Open, PasswordError, Policy};

use self::{names::Name, policy::Remembered, refusal::Refusal, store::Store, uploads::Uploads};
use axum::{Router, body::Body, extract::State, http::request::Parts, routing::any};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use drydock_images::Digest;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE},
};
use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Mutex, RwLock, Semaphore};

const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

const LISTS_MAX: usize = 4;
/// What the disk keeps free for others.
const FREE: u64 = 1 << 30;
/// Longest name of an account that is looked at.
const USER_MAX: usize = 64;

/// What the registry takes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest blob.
    pub blob: u64,
    /// How many uploads one owner may have open at a time.
    pub uploads: usize,
    /// How many uploads may be open in all.
    pub all_uploads: usize,
    /// How many repositories one owner may have.
    pub repositories: usize,
    /// How long a client may send nothing.
    pub idle: Duration,
    /// How many passwords are computed at a time.
    pub logins: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob: 16 << 30,
            uploads: 64,
            all_uploads: 4096,
            repositories: 500,
            idle: Duration::from_secs(60),
            logins: 2,
        }
    }
}

/// What the garbage collection removes.
#[derive(Debug, Clone)]
pub struct Garbage {
    /// How old something must be, so that a running push loses nothing.
    pub grace: Duration,
    /// How long an upload waits for its next piece.
    pub uploads: Duration,
    /// Whether manifests to which no tag leads are garbage.
    pub untagged: bool,
}

impl Default for Garbage {
    fn default() -> Self {
        Self { grace: Duration::from_secs(3600), uploads: Duration::from_secs(24 * 3600), untagged: true }
    }
}

/// A registry over a folder. Clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    uploads: Uploads,
    policy: Arc<dyn Policy>,
    limits: Limits,
    remembered: Remembered,
    logins: Semaphore,
    /// Lists of manifests that are made at a time.
    lists: Semaphore,
    /// Held between the look whether something fits a quota and its being counted.
    counted: Mutex<()>,
    /// Shared by everything that gives names to content, alone for the garbage collection.
    gate: RwLock<()>,
}

/// A tag as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagOf {
    /// `name:tag`.
    pub image: String,
    /// The manifest that it means.
    pub digest: Digest,
    /// Who set it ([`Policy::setter`]).
    pub by: Option<String>,
}

impl Inner {
    /// Who pays for something in a repository.
    fn payer(&self, repository: &str, by: Option<&str>) -> String {
        by.map_or_else(|| self.policy.owner(repository), str::to_owned)
    }

    fn used(&self, payer: &str) -> io::Result<u64> {
        self.store.used(|name, by| self.payer(name.as_str(), by) == payer)
    }

    /// Images of setters who are gone make room where their owner has more than its quota.
    fn make_room(&self) -> io::Result<()> {
        let owners: BTreeSet<String> =
            self.store.payments()?.iter().map(|(name, _)| self.policy.owner(name.as_str())).collect();
        for owner in owners {
            if let Some(most) = self.policy.quota(&owner) {
                self.store.make_room(|name| self.policy.owner(name) == owner, most)?;
            }
        }
        Ok(())
    }
}

/// A request whose path, method and sender are known.
struct Call {
    registry: Registry,
    head: Parts,
    user: Option<String>,
    query: HashMap<String, String>,
}

type Answer = Result<Response<Body>, Refusal>;

impl Registry {
    /// Opens a folder, making it if needed.
    pub fn open(root: &Path, policy: Arc<dyn Policy>, limits: Limits) -> io::Result<Self> {
        let inner = Inner {
            store: Store::open(root)?,
            uploads: Uploads::new(),
            policy,
            remembered: Remembered::new()?,
            logins: Semaphore::new(limits.logins.max(1)),
            lists: Semaphore::new(LISTS_MAX),
            limits,
            counted: Mutex::new(()),
            gate: RwLock::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The routes, all below `/v2/`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v2", any(handle))
            .route("/v2/", any(handle))
            .route("/v2/{*rest}", any(handle))
            .with_state(self.clone())
    }

    /// Removes what nothing leads to. Requests that write wait meanwhile.
    pub async fn collect_garbage(&self, what: Garbage) -> io::Result<Collected> {
        let _alone = self.inner.gate.write().await;
        let age = what.uploads;
        let stale = self.blocking(move |inner| inner.store.stale_uploads(age)).await?;
        let mut uploads = 0;
        for id in stale {
            // One that is being written to is not stale, whatever its file says.
            if self.inner.uploads.forget(&id) {
                uploads += 1;
                self.blocking(move |inner| inner.store.drop_upload(&id)).await?;
            }
        }
        let report = self.blocking(move |inner| {
            inner.make_room()?;
            inner.store.collect(what.grace, what.untagged)
        });
        let report = report.await?;
        Ok(Collected { uploads, ..report })
    }

    /// Everybody who has something here.
    pub async fn owners(&self) -> io::Result<BTreeSet<String>> {
        self.blocking(|inner| {
            let payments = inner.store.payments()?;
            let uploads = inner.store.uploaders()?;
            let payers = payments.iter().map(|(name, by)| inner.payer(name.as_str(), by.as_deref()));
            Ok(payers.chain(uploads.iter().map(|(_, name, by)| inner.payer(name, by.as_deref()))).collect())
        })
        .await
    }

    /// Deletes all repositories and uploads of these owners, and what they put into others' repositories unless an image needs it.
    /// The content goes with the next garbage collection.
    pub async fn delete_owners(&self, owners: BTreeSet<String>) -> io::Result<()> {
        let _alone = self.inner.gate.write().await;
        self.blocking(move |inner| {
            for (id, name, by) in inner.store.uploaders()? {
                if owners.contains(&inner.payer(&name, by.as_deref())) {
                    // Whoever writes to it still finds no upload afterwards.
                    inner.uploads.remove(&id);
                    inner.store.drop_upload(&id)?;
                }
            }
            inner.store.delete_repositories(|name| owners.contains(&inner.policy.owner(name)))?;
            inner.store.release(&owners)
        })
        .await
    }

    /// The tags of an owner's repositories, and who has set them.
    pub async fn tags_of(&self, owner: &str) -> io::Result<Vec<TagOf>> {
        let owner = owner.to_owned();
        self.blocking(move |inner| {
            let mut all = Vec::new();
            for name in
                inner.store.repositories()?.iter().filter(|name| inner.policy.owner(name.as_str()) == owner)
            {
                for tag in inner.store.tags(name)?.unwrap_or_default() {
                    if let Some(set) = inner.store.tag(name, &tag)? {
                        let image = format!("{name}:{}", tag.as_str());
                        all.push(TagOf { image, digest: set.digest, by: set.by });
                    }
                }
            }
            Ok(all)
        })
        .await
    }

    /// Deletes a tag (`name:tag`), and its image if nothing else leads to it, whoever has set it; false if there is none.
    pub async fn delete_tag(&self, image: &str) -> io::Result<bool> {
        let parsed = image.rsplit_once(':').map(|(name, tag)| (Name::parse(name), names::Tag::parse(tag)));
        let Some((Ok(name), Ok(tag))) = parsed else { return Ok(false) };
        let _alone = self.inner.gate.write().await;
        self.blocking(move |inner| {
            let gone = inner.store.delete_tagged(&name, &tag)?;
            if gone {
                inner.store.drop_all_unnamed()?;
            }
            Ok(gone)
        })
        .await
    }

    /// Asks the policy again for every password: accounts have changed.
    pub fn forget_logins(&self) {
        self.inner.remembered.forget();
    }

    /// How many bytes an owner has here.
    pub async fn used(&self, owner: &str) -> io::Result<u64> {
        let owner = owner.to_owned();
        self.blocking(move |inner| inner.used(&owner)).await
    }

    /// Runs file work on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(io::Error::other)?
    }

    /// The same for a request: what fails here is our fault.
    async fn disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let done = self.blocking(move |inner| work(&inner.store)).await;
        done.map_err(disk_refused)
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let user = self.who(&head.headers).await?;
        let route = Route::parse(head.uri.path().strip_prefix("/v2/").unwrap_or_default())?;
        let query =
            form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let call = Call { registry: self.clone(), head, user, query };
        if let Some(name) = route.name() {
            call.check(name, action(&call.head.method)).await?;
        }
        call.run(route, body).await
    }

    /// Who sends a request: nobody in particular, or an account with its password.
    async fn who(&self, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        if self.inner.policy.anonymous() {
            return Ok(None);
        }
        let Some((user, password)) = credentials(headers) else { return Err(unauthorized()) };
        if self.inner.remembered.knows(&user, &password) {
            return Ok(Some(user));
        }
        let _turn = self.inner.logins.acquire().await.map_err(|e| Refusal::internal("logins", e))?;
        let (name, secret) = (user.clone(), password.clone());
        let checked = self.blocking(move |inner| Ok(inner.policy.check_password(&name, &secret))).await;
        if checked.map_err(|e| Refusal::internal("the password check failed", e))? {
            self.inner.remembered.remember(&user, &password);
            Ok(Some(user))
        } else {
            // Whoever wants to can cause any number of these.
            tracing::debug!(user, "a login at the registry was refused");
            Err(unauthorized())
        }
    }
}

impl Call {
    /// Who answers for what the sender puts there.
    fn setter(&self, name: &Name) -> Option<String> {
        self.registry.inner.policy.setter(self.user.as_deref(), name.as_str())
    }

    async fn run(self, route: Route, body: Body) -> Answer {
        let method = self.head.method.clone();
        let reads = method == Method::GET || method == Method::HEAD;
        match (route, method.as_str()) {
            (Route::Root, _) if reads => Ok(lists::json("{}".into())),
            (Route::Catalogue, "GET") => self.catalogue().await,
            (Route::Tags(name), "GET") => self.tags(name).await,
            (Route::Referrers(name, digest), "GET") => self.referrers(name, digest).await,
            (Route::Manifest(name, which), _) if reads => self.get_manifest(name, which).await,
            (Route::Manifest(name, which), "PUT") => self.put_manifest(name, which, body).await,
            (Route::Manifest(name, which), "DELETE") => self.delete_manifest(name, which).await,
            (Route::Blob(name, digest), _) if reads => self.get_blob(name, digest).await,
            (Route::Blob(name, digest), "DELETE") => self.delete_blob(name, digest).await,
            (Route::Uploads(name), "POST") => self.begin_upload(name, body).await,
            (Route::Upload(name, id), "PATCH") => self.patch_upload(name, id, body).await,
            (Route::Upload(name, id), "PUT") => self.finish_upload(name, id, body).await,
            (Route::Upload(name, id), "DELETE") => self.cancel_upload(name, id).await,
            (Route::Upload(name, id), _) if reads => self.upload_status(name, id).await,
            _ => Err(Refusal::unsupported()),
        }
    }

    /// Whether the sender may do that.
    async fn check(&self, name: &Name, action: Action) -> Result<(), Refusal> {
        if self.may(name, action).await? {
            Ok(())
        } else {
            Err(Refusal::denied("requested access to the resource is denied"))
        }
    }

    async fn may(&self, name: &Name, action: Action) -> Result<bool, Refusal> {
        let (user, name) = (self.user.clone(), name.clone());
        let allowed = self
            .registry
            .blocking(move |inner| Ok(inner.policy.allows(user.as_deref(), name.as_str(), action)))
            .await;
        allowed.map_err(|e| Refusal::internal("the policy failed", e))
    }
}

async fn handle(State(registry): State<Registry>, request: Request<Body>) -> Response<Body> {
    let head = request.method() == Method::HEAD;
    let mut response = registry.answer(request).await.unwrap_or_else(Refusal::into_response);
    response.headers_mut().insert(VERSION, HeaderValue::from_static("registry/2.0"));
    if head {
        *response.body_mut() = Body::empty();
    }
    response
}

fn action(method: &Method) -> Action {
    match method.as_str() {
        "GET" | "HEAD" => Action::Pull,
        "DELETE" => Action::Delete,
        _ => Action::Push,
    }
}

/// Name and password of a Basic header, if that may be an account's.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let plain = BASE64_STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let plain = String::from_utf8(plain).ok()?;
    let (user, password) = plain.split_once(':')?;
    if user.len() > USER_MAX {
        return None;
    }
    Some((user.to_owned(), password.to_owned()))
}

fn unauthorized() -> Refusal {
    let realm = HeaderValue::from_static("Basic realm=\"Drydock registry\"");
    Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
        .with_header(WWW_AUTHENTICATE, realm)
}

fn disk_refused(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => no_space(&error),
        _ => Refusal::internal("the disk refused", error),
    }
}

fn no_space(error: &io::Error) -> Refusal {
    tracing::warn!(%error, "the registry's disk is full");
    Refusal::denied("no space left on the registry's disk")
}
