//! `delete` and `deletecollection`: with grace for pods, with finalizers for whatever wants to clean up first, and with what the
//! deleter wants to become of what the object owns (k8s.io/apiserver `pkg/registry/rest/delete.go` and
//! `pkg/registry/generic/registry/store.go`).

use super::call::Call;
use super::list::{self};
use super::meta;
use super::options::{DeleteOptions, Options, Propagation};
use super::write;
use crate::admission::Operation;
use crate::bootstrap;
use crate::codec;
use crate::custom;
use crate::custom::conversion;
use crate::http::respond::{self, Answer};
use crate::resource::Resource;
use crate::server::Server;
use crate::services;
use crate::storage;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, int, list as list_at, text};
use drydock_etcd::{Compare, KeyRange, Op, Record, Txn};
use http::StatusCode;
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

/// How often a deletion is begun anew because somebody changed the object.
const ATTEMPTS: usize = 64;

/// What became of a deletion.
enum Outcome {
    /// The object is gone; this is what it was.
    Gone(Value),
    /// It is still there, marked.
    Pending(Value),
    /// It was marked before, and nothing changed.
    AlreadyPending(Value),
}

/// Reads the options: of the body, else of the query.
async fn options(call: &Call, incoming: Incoming) -> Result<DeleteOptions, Status> {
    let bytes = crate::http::body::read(incoming).await?;
    if bytes.is_empty() {
        return DeleteOptions::of_query(&call.query);
    }
    let input = crate::http::negotiate::input(&call.headers)?;
    let body = codec::decode_meta("DeleteOptions", input, &bytes)?;
    DeleteOptions::of_object(&body)
}

/// Deletes the object that the path names.
pub async fn delete(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let mut options = options(call, incoming).await?;
    let name = call.info.name.clone();
    check_priority(&call.resource, &name)?;
    warn_of_orphans(call, &options);
    let outcome = delete_named(call, &name, &mut options, Some(&name)).await?;
    answer(call, outcome, &options).await
}

/// Nobody deletes the cluster's own priority classes, unless he deletes the collection
/// (`pkg/registry/scheduling/priorityclass/storage/storage.go`, whose `Delete` that does not go through).
fn check_priority(resource: &Resource, name: &str) -> Result<(), Status> {
    if !resource.is("scheduling.k8s.io", "priorityclasses") || !bootstrap::is_system_priority(name) {
        return Ok(());
    }
    let why = "this is a system priority class and cannot be deleted";
    Err(Status::forbidden(resource.group_resource(), name, why))
}

/// Deletes the object that the path names for somebody who needs no answer and has asked admission.
pub async fn delete_one(call: &mut Call, options: &mut DeleteOptions) -> Result<(), Status> {
    let name = call.info.name.clone();
    delete_named(call, &name, options, None).await.map(|_| ())
}

/// `batch/v1` jobs leave their pods by default, to people's surprise (`pkg/registry/batch/job/strategy.go`).
fn warn_of_orphans(call: &mut Call, options: &DeleteOptions) {
    if call.resource.is("batch", "jobs") && options.propagation.is_none() && options.orphan.is_none() {
        call.warnings.push(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
             set propagationPolicy=Orphan to suppress this warning"
                .into(),
        );
    }
}

async fn answer(call: &Call, outcome: Outcome, options: &DeleteOptions) -> Result<Answer, Status> {
    let (tree, was_deleted) = match outcome {
        Outcome::Gone(tree) => {
            if returns_object(&call.resource) {
                return call.answer_tree(StatusCode::OK, call.load(tree));
            }
            return Ok(success(call, &tree));
        }
        Outcome::AlreadyPending(tree)
            if !returns_object(&call.resource) && !call.resource.is("", "namespaces") =>
        {
            return Ok(success(call, &tree));
        }
        Outcome::Pending(tree) | Outcome::AlreadyPending(tree) => (tree, false),
    };
    let code =
        if !was_deleted && options.orphan == Some(false) { StatusCode::ACCEPTED } else { StatusCode::OK };
    let tree = conversion::from_stored(&call.server, &call.resource, tree).await?;
    call.answer_tree(code, call.load(tree))
}

/// A `Status` that says what was deleted.
fn success(call: &Call, tree: &Value) -> Answer {
    let mut status = Status::success().about(call.resource.group_resource(), object::name(tree));
    status.details.get_or_insert_default().uid = object::uid(tree).into();
    status.code = 0;
    let mut value = status.to_value();
    if let Some(map) = value.as_object_mut() {
        map.remove("code");
    }
    respond::value(StatusCode::OK, &value, call.style)
}

/// Kinds whose registries set `ReturnDeletedObject`.
fn returns_object(resource: &Resource) -> bool {
    match &*resource.group {
        "" => matches!(
            &*resource.plural,
            "pods"
                | "services"
                | "serviceaccounts"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
        ),
        "storage.k8s.io" => true,
        _ => false,
    }
}

/// Deletes an object, beginning anew when somebody changes it meanwhile. Admission is told that it is about `told`; none: it isn't asked.
async fn delete_named(
    call: &mut Call,
    name: &str,
    options: &mut DeleteOptions,
    told: Option<&str>,
) -> Result<Outcome, Status> {
    let resource = call.resource.clone();
    let key = storage::keys::of(&resource, call.namespace(), name);
    for _ in 0..ATTEMPTS {
        let found = call.server.store.get(key.as_bytes(), None).map_err(write::refusal)?;
        let record = found.ok_or_else(|| Status::not_found(resource.group_resource(), name))?;
        let old = storage::decode(&record)?;
        if let Some(told) = told {
            let seen = call.object(record.clone()).await?;
            admit(call, told, options, &seen).await?;
        }
        let server = call.server.clone();
        if let Some(outcome) = attempt(&server, &resource, options, &record, old).await? {
            return Ok(outcome);
        }
    }
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Err(Status::conflict(resource.group_resource(), name, why))
}

/// Asks admission (`AdmissionToValidateObjectDeleteFunc`).
async fn admit(call: &mut Call, name: &str, options: &DeleteOptions, old: &Value) -> Result<(), Status> {
    let server = call.server.clone();
    let old = Some(old);
    let mut warnings = Vec::new();
    let context = call.admission(Operation::Delete, name, Options::Delete(options));
    let mut done = server.admission.mutate(&server, &context, &mut Value::Null, old, &mut warnings).await;
    if done.is_ok() {
        done = server.admission.validate(&server, &context, &Value::Null, old, &mut warnings).await;
    }
    call.warnings.append(&mut warnings);
    done
}

/// One go; none: somebody changed it.
async fn attempt(
    server: &Server,
    resource: &Resource,
    options: &mut DeleteOptions,
    record: &Arc<Record>,
    old: Value,
) -> Result<Option<Outcome>, Status> {
    check_preconditions(resource, options, &old)?;
    if resource.is("apiextensions.k8s.io", "customresourcedefinitions") && !object::is_deleting(&old) {
        return delete_definition(server, resource, options, record, old).await;
    }
    if resource.is("", "namespaces") && !list_at(&old, &["spec", "finalizers"]).is_empty() {
        return delete_namespace(server, resource, options, record, old).await;
    }
    let mut new = old.clone();
    let grace = grace(resource, options, &mut new)?;
    if grace == Grace::Pending {
        return Ok(Some(Outcome::AlreadyPending(old)));
    }
    let finalizers = finalizers(resource, &new, options);
    let is_held = !finalizers.is_empty();
    set_finalizers(&mut new, finalizers);
    if is_held && grace != Grace::Period {
        mark(&mut new);
    }
    if is_held || grace == Grace::Period {
        if new == old {
            return Ok(Some(Outcome::Pending(old)));
        }
        if options.dry_run {
            return Ok(Some(Outcome::Pending(new)));
        }
        let marked = replace(server, resource, record, &new).await?;
        return match marked {
            Some(marked) => Ok(Some(Outcome::Pending(storage::decode(&marked)?))),
            None => Ok(None),
        };
    }
    if options.dry_run {
        return Ok(Some(Outcome::Gone(old)));
    }
    let removed = remove(server, record).await?;
    Ok(removed.map(|revision| {
        meta::of(&mut new).insert("resourceVersion".into(), revision.to_string().into());
        Outcome::Gone(new)
    }))
}

/// A namespace is emptied first: its controller removes the finalizer of its specification when that is done
/// (`pkg/registry/core/namespace/storage/storage.go`).
async fn delete_namespace(
    server: &Server,
    resource: &Resource,
    options: &DeleteOptions,
    record: &Arc<Record>,
    old: Value,
) -> Result<Option<Outcome>, Status> {
    if object::is_deleting(&old) {
        return Ok(Some(Outcome::AlreadyPending(old)));
    }
    let mut new = old.clone();
    meta::of(&mut new).insert("deletionTimestamp".into(), meta::now().into());
    object::map_mut(&mut new, &["status"]).insert("phase".into(), "Terminating".into());
    let finalizers = finalizers(resource, &new, options);
    set_finalizers(&mut new, finalizers);
    if options.dry_run {
        return Ok(Some(Outcome::Pending(new)));
    }
    match replace(server, resource, record, &new).await? {
        Some(marked) => Ok(Some(Outcome::Pending(storage::decode(&marked)?))),
        None => Ok(None),
    }
}

/// A definition takes its objects along: it stays until they are gone (apiextensions-apiserver
/// `pkg/registry/customresourcedefinition/etcd.go`).
async fn delete_definition(
    server: &Server,
    resource: &Resource,
    options: &DeleteOptions,
    record: &Arc<Record>,
    old: Value,
) -> Result<Option<Outcome>, Status> {
    let mut new = old.clone();
    mark(&mut new);
    meta::of(&mut new).remove("deletionGracePeriodSeconds");
    let mut finalizers = finalizers(resource, &new, options);
    if !finalizers.contains(&json!(custom::CLEANUP)) {
        finalizers.push(custom::CLEANUP.into());
    }
    set_finalizers(&mut new, finalizers);
    let words = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    custom::condition(&mut new, "Terminating", "True", "InstanceDeletionPending", words);
    if options.dry_run {
        return Ok(Some(Outcome::Pending(new)));
    }
    match replace(server, resource, record, &new).await? {
        Some(marked) => Ok(Some(Outcome::Pending(storage::decode(&marked)?))),
        None => Ok(None),
    }
}

/// Deletes a record's object for the server's own purposes, as far as its finalizers let it go.
pub async fn delete_record(server: &Server, resource: &Resource, record: &Arc<Record>) -> Result<(), Status> {
    let old = storage::decode(record)?;
    attempt(server, resource, &mut DeleteOptions::default(), record, old).await.map(|_| ())
}

fn check_preconditions(resource: &Resource, options: &DeleteOptions, old: &Value) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::conflict(resource.group_kind(), object::name(old), &why));
    let has = object::uid(old);
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != has) {
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({has}). \
             The object might have been deleted and then recreated"
        ));
    }
    let has = text(old, &["metadata", "resourceVersion"]);
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != has) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({has}). \
             The object might have been modified"
        ));
    }
    Ok(())
}

/// How long an object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grace {
    /// No time at all.
    None,
    /// The object is marked with a time.
    Period,
    /// It was marked before.
    Pending,
}

/// Marks a pod with the time that it has (`BeforeDelete`, and `CheckGracefulDelete` of `pkg/registry/core/pod/strategy.go`).
fn grace(resource: &Resource, options: &mut DeleteOptions, tree: &mut Value) -> Result<Grace, Status> {
    options.grace = options.grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
    if !resource.is("", "pods") {
        return Ok(Grace::None);
    }
    let now = Timestamp::now();
    if object::is_deleting(tree) {
        return shorten(options.grace, tree, now);
    }
    let own = int(tree, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(0);
    let is_nowhere = text(tree, &["spec", "nodeName"]).is_empty();
    let is_over = matches!(text(tree, &["status", "phase"]), "Failed" | "Succeeded");
    let period = match options.grace.unwrap_or(own) {
        _ if is_nowhere || is_over => 0,
        seconds if seconds < 0 => 1,
        seconds => seconds,
    };
    let until = now.checked_add(SignedDuration::from_secs(period)).unwrap_or(Timestamp::MAX);
    let generation = int(tree, &["metadata", "generation"]);
    let metadata = meta::of(tree);
    metadata.insert("deletionTimestamp".into(), meta::seconds(until).into());
    metadata.insert("deletionGracePeriodSeconds".into(), period.into());
    if let Some(generation) = generation.filter(|generation| *generation > 0) {
        metadata.insert("generation".into(), generation.saturating_add(1).into());
    }
    Ok(if period == 0 { Grace::None } else { Grace::Period })
}

/// A second deletion may only give it less time.
fn shorten(wanted: Option<i64>, tree: &mut Value, now: Timestamp) -> Result<Grace, Status> {
    let has = int(tree, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    if has == 0 {
        return Ok(Grace::None);
    }
    let Some(wanted) = wanted.filter(|wanted| *wanted < has) else { return Ok(Grace::Pending) };
    if wanted == 0 {
        meta::of(tree).insert("deletionGracePeriodSeconds".into(), 0.into());
        return Ok(Grace::None);
    }
    let until: Timestamp = text(tree, &["metadata", "deletionTimestamp"]).parse().unwrap_or(now);
    let earlier = until.checked_sub(SignedDuration::from_secs(has - wanted)).unwrap_or(now);
    let (until, period) = if earlier < now { (now, 1) } else { (earlier, wanted) };
    let metadata = meta::of(tree);
    metadata.insert("deletionTimestamp".into(), meta::seconds(until).into());
    metadata.insert("deletionGracePeriodSeconds".into(), period.into());
    Ok(Grace::Period)
}

/// What becomes of owned objects if nobody says (`DefaultGarbageCollectionPolicy`).
fn default_policy(resource: &Resource) -> Option<Propagation> {
    match (&*resource.group, &*resource.plural) {
        ("" | "events.k8s.io", "events") => None,
        ("", "replicationcontrollers") | ("batch", "jobs") => Some(Propagation::Orphan),
        _ => Some(Propagation::Background),
    }
}

/// The finalizers that the object has from now on (`deletionFinalizersForGarbageCollection`).
fn finalizers(resource: &Resource, tree: &Value, options: &DeleteOptions) -> Vec<Value> {
    let had = list_at(tree, &["metadata", "finalizers"]);
    let Some(usual) = default_policy(resource) else { return had.to_vec() };
    let (orphan, foreground) = (json!("orphan"), json!("foregroundDeletion"));
    let policy = match (options.orphan, options.propagation) {
        (Some(true), _) => Propagation::Orphan,
        (Some(false), _) => Propagation::Background,
        (None, Some(policy)) => policy,
        (None, None) if had.contains(&orphan) => Propagation::Orphan,
        (None, None) if had.contains(&foreground) => Propagation::Foreground,
        (None, None) => usual,
    };
    let kept = had.iter().filter(|one| **one != orphan && **one != foreground).cloned();
    let added = match policy {
        Propagation::Orphan => Some(orphan.clone()),
        Propagation::Foreground => Some(foreground.clone()),
        Propagation::Background => None,
    };
    kept.chain(added).collect()
}

fn set_finalizers(tree: &mut Value, finalizers: Vec<Value>) {
    if finalizers.is_empty() {
        meta::of(tree).remove("finalizers");
    } else {
        meta::of(tree).insert("finalizers".into(), finalizers.into());
    }
}

/// `markAsDeleting`.
fn mark(tree: &mut Value) {
    let generation = int(tree, &["metadata", "generation"]).filter(|generation| *generation > 0);
    let was_marked = object::is_deleting(tree);
    let now = Timestamp::now();
    let is_later =
        text(tree, &["metadata", "deletionTimestamp"]).parse::<Timestamp>().is_ok_and(|time| time > now);
    let metadata = meta::of(tree);
    if !was_marked && let Some(generation) = generation {
        metadata.insert("generation".into(), generation.saturating_add(1).into());
    }
    if !was_marked || is_later {
        metadata.insert("deletionTimestamp".into(), meta::seconds(now).into());
    }
    metadata.insert("deletionGracePeriodSeconds".into(), 0.into());
}

/// Writes the marked object; none: somebody changed it.
async fn replace(
    server: &Server,
    resource: &Resource,
    record: &Record,
    tree: &Value,
) -> Result<Option<Arc<Record>>, Status> {
    let (key, value) = (record.key.clone(), storage::encode(tree));
    let outcome = server.store.update_if(key, record.mod_revision, value, record.lease).await;
    match outcome.map_err(write::refusal)? {
        drydock_etcd::Outcome::Done { record, .. } => {
            storage::object::remember(&record, resource, tree);
            Ok(Some(record))
        }
        drydock_etcd::Outcome::Conflict(_) => Ok(None),
    }
}

/// Removes the record; the revision of its deletion, or none: somebody changed it.
pub async fn remove(server: &Server, record: &Record) -> Result<Option<i64>, Status> {
    let mut then = vec![Op::Delete(KeyRange::Key(record.key.clone()))];
    then.extend(services::addresses::beside_record(server, record)?);
    let compares = vec![Compare::unchanged(record.key.clone(), record.mod_revision)];
    let done = server.store.txn(Txn::when(compares, then)).await.map_err(write::refusal)?;
    Ok(done.succeeded.then_some(done.revision))
}

/// Deletes all that the selectors want; the answer is the list of what there was.
pub async fn delete_collection(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let options = options(call, incoming).await?;
    let (answer, names) = list::for_deletion(call).await?;
    for (namespace, name) in names {
        let mut own = options.clone();
        if call.resource.namespaced {
            call.info.namespace = namespace;
        }
        // As upstream, whose admission is asked about the collection.
        match delete_named(call, &name, &mut own, Some("")).await {
            Ok(_) => {}
            // Somebody else was quicker.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(answer)
}
