//! `update`, and what every change of a stored object has in common: read, change, check, write if nobody was quicker, else again
//! (`Store.Update` of k8s.io/apiserver `pkg/registry/generic/registry/store.go`).

use super::call::Call;
use super::meta;
use super::options::{Options, WriteOptions, Writing};
use super::subresource;
use super::write::{self, Written};
use crate::admission::{Context, Operation};
use crate::codec::{self, Expected};
use crate::custom::conversion;
use crate::http::respond::Answer;
use crate::managed;
use crate::resource::Resource;
use crate::server::Server;
use crate::services;
use crate::storage;
use drydock_apimachinery::Status;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object::{self, list, text};
use drydock_apimachinery::status::GroupResource;
use drydock_etcd::{Compare, Op, OpResult, Record, Txn};
use http::StatusCode;
use hyper::body::Incoming;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// How often a change is begun anew because another one was quicker.
const ATTEMPTS: usize = 64;

/// Replaces the object by that of the body.
pub async fn update(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let options = WriteOptions::new(&call.query, Writing::Update)?;
    let (input, bytes) = call.body(incoming).await?;
    let mut tree = call.decode(input, &bytes, options.field_validation)?;
    drop(bytes);
    let resource = call.resource.clone();
    meta::set_namespace(&mut tree, &resource, call.namespace())?;
    meta::check_name(&tree, &call.info.name)?;
    if let Some(warning) = meta::dedup_owners(&mut tree, false) {
        call.warnings.push(warning);
    }
    resource.default(&mut tree);
    let manager = call.manager(&options.field_manager);
    let wanted_uid = Some(object::uid(&tree).to_string()).filter(|uid| !uid.is_empty());
    let sub = call.info.subresource.clone();
    let change = Change { uid: wanted_uid, may_create: resource.creates_on_update(), ..Change::default() };
    let (written, created) = apply(call, &options, &change, |old, _| {
        let mut new = tree.clone();
        managed::update(&resource, &sub, old, &mut new, &manager);
        Ok(new)
    })
    .await?;
    written.answer(call, if created { StatusCode::CREATED } else { StatusCode::OK }).await
}

/// What kind of change it is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// The object must have this uid.
    pub uid: Option<String>,
    /// If there is no object, one is made.
    pub may_create: bool,
    /// The server's own change (a binding, an eviction): the writer's rules don't apply.
    pub is_internal: bool,
    /// What the writer sees, if it is not the object.
    pub view: Option<View>,
    /// What the writer applies to the object that he does not see.
    pub applied: Option<Applied>,
}

/// A server-side apply through a view.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What its manager wants of the object itself.
    pub wanted: Value,
    /// Even if another one owns it.
    pub force: bool,
}

/// What writers of a subresource, and admission, see of an object instead of itself: its scale.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Its kind.
    pub kind: Expected<'static>,
    /// What is seen of an object.
    pub of: fn(&Resource, &Value) -> Result<Value, Status>,
    /// An object as it becomes by what was written.
    pub set: fn(&Resource, &Value, &Value) -> Result<Value, Status>,
}

impl Change {
    fn kind(&self) -> Option<Expected<'static>> {
        self.view.map(|view| view.kind)
    }

    /// What is seen of an object.
    fn seen<'a>(&self, resource: &Resource, object: &'a Value) -> Result<Cow<'a, Value>, Status> {
        match self.view {
            Some(view) => Ok(Cow::Owned((view.of)(resource, object)?)),
            None => Ok(Cow::Borrowed(object)),
        }
    }
}

/// Changes the object that the path names. `make` is given what it sees of the old object (none: there is none) in the version of the request and
/// returns the new one; it may be called several times. The second value is true if it was created.
pub async fn apply(
    call: &mut Call,
    options: &WriteOptions,
    change: &Change,
    mut make: impl FnMut(Option<&Value>, &mut Vec<String>) -> Result<Value, Status>,
) -> Result<(Written, bool), Status> {
    let key = call.key();
    let before = call.warnings.len();
    for _ in 0..ATTEMPTS {
        // Warnings of an attempt that came to nothing would be said twice.
        call.warnings.truncate(before);
        let Some(record) = call.server.store.get(key.as_bytes(), None).map_err(write::refusal)? else {
            if !change.is_internal {
                // An object that is gone has no uid.
                check_uid(call, change, "", key.as_bytes())?;
            }
            match create_instead(call, options, change, &mut make).await {
                Err(status) if status.reason == "AlreadyExists" => continue,
                done => return done.map(|written| (written, true)),
            }
        };
        if let Some(written) = attempt(call, options, change, &mut make, &record).await? {
            return Ok((written, false));
        }
    }
    Err(conflict(call))
}

/// There is no such object.
async fn create_instead(
    call: &mut Call,
    options: &WriteOptions,
    change: &Change,
    make: &mut impl FnMut(Option<&Value>, &mut Vec<String>) -> Result<Value, Status>,
) -> Result<Written, Status> {
    if !change.may_create || !call.info.subresource.is_empty() {
        return Err(call.not_found());
    }
    let mut warnings = Vec::new();
    let mut tree = make(None, &mut warnings)?;
    call.warnings.append(&mut warnings);
    let uid = object::uid(&tree);
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Status::conflict(call.resource.group_resource(), &call.info.name, &why));
    }
    let attributes =
        crate::authz::Attributes { verb: "create", ..crate::authz::Attributes::of(&call.user, &call.info) };
    call.server.authorizer.authorize(&attributes)?;
    meta::check_name(&tree, &call.info.name)?;
    meta::wipe(&mut tree);
    meta::of(&mut tree).remove("resourceVersion");
    write::store_new(call, tree, options).await
}

/// One go; none: somebody else was quicker.
async fn attempt(
    call: &mut Call,
    options: &WriteOptions,
    change: &Change,
    make: &mut impl FnMut(Option<&Value>, &mut Vec<String>) -> Result<Value, Status>,
    record: &Arc<Record>,
) -> Result<Option<Written>, Status> {
    let resource = call.resource.clone();
    let seen = conversion::record(&call.server, &resource, record.clone()).await?;
    let old = call.load(storage::object::decode_to_change(&seen, &resource)?);
    check_uid(call, change, object::uid(&old), &record.key)?;
    let mut new = make_new(call, options, change, make, &old).await?;
    check_version(call, &mut new, &old)?;
    let server = call.server.clone();
    let (_until_it_is_written, is_same) = settle(call, &server, change, &mut new, &old)?;
    if !change.is_internal {
        let context = call.admission(Operation::Update, &call.info.name, Options::Write(options));
        let context = Context { kind: change.kind(), ..context };
        let (new, old) = (change.seen(&resource, &new)?, change.seen(&resource, &old)?);
        let mut warnings = Vec::new();
        server.admission.validate(&server, &context, &new, Some(&old), &mut warnings).await?;
        call.warnings.append(&mut warnings);
    }
    if must_go(&resource, &new, &old) {
        return finish_deletion(call, options, new, record).await;
    }
    if is_same {
        return Ok(Some(Written::Stored(record.clone())));
    }
    if options.dry_run {
        return Ok(Some(Written::Imagined(new)));
    }
    put(call, new, &old, record).await
}

/// The new object as the writer and admission make it.
async fn make_new(
    call: &mut Call,
    options: &WriteOptions,
    change: &Change,
    make: &mut impl FnMut(Option<&Value>, &mut Vec<String>) -> Result<Value, Status>,
    old: &Value,
) -> Result<Value, Status> {
    let resource = call.resource.clone();
    let seen = change.seen(&resource, old)?;
    let mut warnings = Vec::new();
    let mut new = make(Some(&seen), &mut warnings)?;
    call.warnings.append(&mut warnings);
    meta::set_namespace(&mut new, &resource, call.namespace())?;
    meta::check_name(&new, &call.info.name)?;
    if change.is_internal {
        return Ok(new);
    }
    let name = call.info.name.clone();
    write::admit(call, Operation::Update, &name, change.kind(), options, &mut new, Some(&seen)).await?;
    if let Some(warning) = meta::dedup_owners(&mut new, true) {
        call.warnings.push(warning);
    }
    let Some(view) = change.view else { return Ok(new) };
    let (sub, manager) = (&call.info.subresource, call.manager(&options.field_manager));
    if let Some(Applied { wanted, force }) = &change.applied {
        let merged = managed::apply(&resource, sub, Some(old), wanted, &manager, *force)?;
        return (view.set)(&resource, &merged, &new);
    }
    let mut whole = (view.set)(&resource, old, &new)?;
    managed::update(&resource, sub, Some(old), &mut whole, &manager);
    Ok(whole)
}

/// Writes it; none: somebody else was quicker.
async fn put(call: &Call, new: Value, old: &Value, record: &Record) -> Result<Option<Written>, Status> {
    let resource = &call.resource;
    let stored = call.store(new).await?;
    let value = storage::encode(&stored);
    let lease = write::lease_of(&call.server, resource).await?;
    let compares = vec![Compare::unchanged(record.key.clone(), record.mod_revision)];
    let mut then = vec![Op::Put { key: record.key.clone(), value: Some(value), lease: Some(lease) }];
    then.extend(services::addresses::beside(&call.server, resource, Some(old), Some(&stored))?);
    let mut done = call.server.store.txn(Txn::when(compares, then)).await.map_err(write::refusal)?;
    if !done.succeeded || done.results.is_empty() {
        return Ok(None);
    }
    match done.results.swap_remove(0) {
        OpResult::Put { record, .. } => {
            storage::object::remember(&record, resource, &stored);
            Ok(Some(Written::Stored(record)))
        }
        _ => Err(Status::internal("the store answered another question")),
    }
}

/// What the server decides of the new object, and whether the rest is allowed (`BeforeUpdate`). Tells, too, whether nothing is changed.
fn settle<'a>(
    call: &mut Call,
    server: &'a Server,
    change: &Change,
    new: &mut Value,
    stored: &Value,
) -> Result<(Option<services::Hold<'a>>, bool), Status> {
    let resource = call.resource.clone();
    meta::of(new).insert("resourceVersion".into(), stored["metadata"]["resourceVersion"].clone());
    let mut hold = None;
    if !change.is_internal {
        // Rules compare what was written with what was written, not with what is always filled in.
        let old = &codec::sparse(&resource, managed::without_entries(stored))?;
        let sub = call.info.subresource.clone();
        subresource::keep(&resource, &sub, new, old);
        if sub.is_empty() {
            resource.prepare(new, Some(old));
        }
        meta::keep(new, old);
        if sub.is_empty() {
            hold = services::allocate(server, &resource, new, Some(old))?;
        }
        // Twice, as upstream: once for all kinds and once in each kind's own rules. Clients see it in the causes.
        let of_metadata = meta::validate_update(new, old, &resource);
        let mut errors = of_metadata.clone();
        errors.extend(of_metadata);
        let errors = subresource::validate(&resource, &sub, new, old, errors);
        if !errors.is_empty() {
            return Err(Status::invalid(resource.group_kind(), object::name(new), &errors));
        }
        if sub.is_empty() {
            call.warnings.extend(resource.warnings(new, Some(old)));
        }
    }
    codec::complete(&resource, new);
    if !change.is_internal {
        count_generation(&resource, new, stored);
    }
    Ok((hold, managed::keep_times(new, stored)))
}

/// One more, if anything but metadata and status changed.
fn count_generation(resource: &Resource, new: &mut Value, old: &Value) {
    if !resource.counts_generations() {
        return;
    }
    let has_status = resource.has_status();
    let counts = |key: &str| match key {
        "metadata" | "kind" | "apiVersion" => false,
        "status" => !has_status,
        _ => true,
    };
    let counted = |object: &'_ Value| {
        let map = object.as_object().into_iter().flatten();
        map.filter(|(key, _)| counts(key)).count()
    };
    let same = |(key, value): (&String, &Value)| !counts(key) || old.get(key) == Some(value);
    if counted(new) != counted(old) || !new.as_object().into_iter().flatten().all(same) {
        let generation = object::int(old, &["metadata", "generation"]).unwrap_or(0);
        meta::of(new).insert("generation".into(), generation.saturating_add(1).into());
    }
}

/// The optimistic lock.
fn check_version(call: &Call, new: &mut Value, old: &Value) -> Result<(), Status> {
    let resource = &call.resource;
    let wanted = text(new, &["metadata", "resourceVersion"]);
    let wanted = super::options::resource_version(wanted).map_err(|_| {
        let mut errors = ErrorList::default();
        let path = Path::new("metadata.resourceVersion");
        errors.invalid(&path, wanted, format!("strconv.ParseUint: parsing {wanted:?}: invalid syntax"));
        Status::invalid(resource.group_kind(), &call.info.name, &errors)
    })?;
    match wanted.unwrap_or(0) {
        0 if resource.takes_unconditional_updates() => Ok(()),
        0 => {
            let mut errors = ErrorList::default();
            let path = Path::new("metadata.resourceVersion");
            errors.invalid(&path, 0, "must be specified for an update");
            // The resource where the kind should be: upstream's own note says that this is an oversight.
            Err(Status::invalid(resource.group_resource(), &call.info.name, &errors))
        }
        version if version.to_string() == text(old, &["metadata", "resourceVersion"]) => Ok(()),
        _ => Err(conflict(call)),
    }
}

/// 409: somebody else was quicker.
pub fn conflict(call: &Call) -> Status {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Status::conflict(call.resource.group_resource(), &call.info.name, why)
}

fn check_uid(call: &Call, change: &Change, has: &str, key: &[u8]) -> Result<(), Status> {
    match &change.uid {
        Some(wanted) if wanted != has => {
            Err(precondition(call.resource.group_resource(), &call.info.name, key, wanted, has))
        }
        _ => Ok(()),
    }
}

/// A precondition of the store does not hold, in the words of `pkg/storage/errors.go`.
fn precondition(of: GroupResource<'_>, name: &str, key: &[u8], wanted: &str, has: &str) -> Status {
    let key = String::from_utf8_lossy(key);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {wanted}, UID in object meta: {has}"
    );
    Status::conflict(of, name, &why)
}

/// True if the update removed what held a deletion up (`ShouldDeleteDuringUpdate`).
fn must_go(resource: &Resource, new: &Value, old: &Value) -> bool {
    let grace = object::int(old, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    let is_free = list(new, &["metadata", "finalizers"]).is_empty() && object::is_deleting(old) && grace == 0;
    // A namespace is held up by its specification's finalizers too.
    is_free && (!resource.is("", "namespaces") || list(new, &["spec", "finalizers"]).is_empty())
}

/// Deletes instead of writing; the answer is the object as it would have been written.
async fn finish_deletion(
    call: &Call,
    options: &WriteOptions,
    new: Value,
    record: &Arc<Record>,
) -> Result<Option<Written>, Status> {
    if options.dry_run {
        return Ok(Some(Written::Imagined(new)));
    }
    let deleted = super::delete::remove(&call.server, record).await?;
    Ok(deleted.map(|_| Written::Imagined(new)))
}
