//! How objects get into the store: new ones under a name that is free, changed ones if nobody else changed them meanwhile
//! (k8s.io/apiserver `pkg/registry/generic/registry/store.go`).

use super::call::Call;
use super::meta;
use super::options::{Options, WriteOptions};
use crate::admission::{Context, Operation};
use crate::codec::{self, Expected};
use crate::http::respond::Answer;
use crate::resource::Resource;
use crate::server::Server;
use crate::services;
use crate::storage::{self, keys};
use drydock_apimachinery::{Status, managed_fields, object};
use drydock_etcd::{Compare, Error, Op, OpResult, Record, Txn};
use http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// Names that are tried for a `generateName` (`maxNameGenerationCreateAttempts`).
const NAMES: usize = 8;

/// Events live so long (`--event-ttl`).
const EVENT_SECONDS: i64 = 3600;

/// What a write left.
#[derive(Debug)]
pub enum Written {
    /// It is in the store.
    Stored(Arc<Record>),
    /// It would have been (a dry run), in the version of the request.
    Imagined(Value),
}

impl Written {
    /// As an answer.
    pub async fn answer(self, call: &Call, code: StatusCode) -> Result<Answer, Status> {
        match self {
            Self::Stored(record) => call.answer_record(code, record).await,
            Self::Imagined(mut tree) => {
                managed_fields::without_texts(&mut tree);
                call.answer_tree(code, tree)
            }
        }
    }
}

/// Stores a new object (in the version of the request, defaults filled in), trying other names if the first generated one is taken.
pub async fn store_new(call: &mut Call, mut tree: Value, options: &WriteOptions) -> Result<Written, Status> {
    let name = object::name(&tree).to_string();
    admit(call, Operation::Create, &name, None, options, &mut tree, None).await?;
    if let Some(warning) = meta::dedup_owners(&mut tree, true) {
        call.warnings.push(warning);
    }
    let is_generated = name.is_empty() && !object::text(&tree, &["metadata", "generateName"]).is_empty();
    let mut attempt = 1;
    loop {
        let again = if is_generated && attempt < NAMES { Some(tree.clone()) } else { None };
        match try_new(call, tree, options).await {
            Err(status) if status.reason == "AlreadyExists" => match again {
                Some(fresh) => tree = fresh,
                None if is_generated => return Err(generated_conflict(&status, &call.resource)),
                None => return Err(status),
            },
            done => return done,
        }
        attempt += 1;
    }
}

/// All generated names were taken (`NewGenerateNameConflict`).
fn generated_conflict(status: &Status, resource: &Resource) -> Status {
    let name = status.details.as_ref().map(|details| details.name.clone()).unwrap_or_default();
    let of = resource.group_resource();
    let message = format!(
        "{of} \"{name}\" already exists, the server was not able to generate a unique name for the object"
    );
    let mut conflict = Status::failure(409, "AlreadyExists", message).about(of, &name);
    conflict.details.get_or_insert_default().retry_after_seconds = 1;
    conflict
}

async fn try_new(call: &mut Call, mut tree: Value, options: &WriteOptions) -> Result<Written, Status> {
    meta::fill(&mut tree)?;
    let generate = object::text(&tree, &["metadata", "generateName"]).to_string();
    if object::name(&tree).is_empty() && !generate.is_empty() {
        let name = meta::generate_name(&generate)?;
        meta::of(&mut tree).insert("name".into(), name.into());
    }
    let resource = call.resource.clone();
    meta::set_namespace(&mut tree, &resource, call.namespace())?;
    resource.prepare(&mut tree, None);
    if resource.counts_generations() {
        meta::of(&mut tree).insert("generation".into(), 1.into());
    }
    let server = call.server.clone();
    let _until_it_is_written = services::allocate(&server, &resource, &mut tree, None)?;
    check_new(call, &resource, &tree)?;
    let name = object::name(&tree).to_string();
    let context = call.admission(Operation::Create, &name, Options::Write(options));
    let mut warnings = Vec::new();
    server.admission.validate(&server, &context, &tree, None, &mut warnings).await?;
    call.warnings.append(&mut warnings);
    if !object::text(&tree, &["metadata", "resourceVersion"]).is_empty() {
        // The words and the code are upstream's.
        return Err(Status::failure(500, "", "resourceVersion should not be set on objects to be created"));
    }
    codec::complete(&resource, &mut tree);
    put_new(call, &resource, tree, options.dry_run).await
}

/// Metadata and the rest of a new object.
fn check_new(call: &mut Call, resource: &Resource, tree: &Value) -> Result<(), Status> {
    let errors = resource.validate(tree, None, meta::validate(tree, resource));
    if !errors.is_empty() {
        return Err(Status::invalid(resource.group_kind(), object::name(tree), &errors));
    }
    call.warnings.extend(resource.warnings(tree, None));
    Ok(())
}

async fn put_new(call: &Call, resource: &Resource, tree: Value, dry_run: bool) -> Result<Written, Status> {
    let name = object::name(&tree).to_string();
    let key = keys::of(resource, object::namespace(&tree), &name);
    let server = &call.server;
    if dry_run {
        return match server.store.get(key.as_bytes(), None).map_err(refusal)? {
            Some(record) => Err(exists(resource, &name, &record)),
            None => Ok(Written::Imagined(tree)),
        };
    }
    let stored = call.store(tree).await?;
    let value = storage::encode(&stored);
    let lease = lease_of(server, resource).await?;
    let compares = vec![Compare::absent(key.clone())];
    let mut then = vec![Op::Put { key: key.clone().into(), value: Some(value), lease: Some(lease) }];
    then.extend(services::addresses::beside(server, resource, None, Some(&stored))?);
    let txn = Txn { compares, then, otherwise: vec![Op::get(key)] };
    let mut done = server.store.txn(txn).await.map_err(refusal)?;
    match done.results.swap_remove(0) {
        OpResult::Put { record, .. } => {
            storage::object::remember(&record, resource, &stored);
            Ok(Written::Stored(record))
        }
        OpResult::Range(found) => match found.records.first() {
            Some(record) => Err(exists(resource, &name, record)),
            None => Err(Status::internal("the store refused what it had no reason to refuse")),
        },
        OpResult::Delete(_) => Err(Status::internal("the store answered another question")),
    }
}

/// The lease that an object's record hangs on; 0: none.
pub async fn lease_of(server: &Server, resource: &Resource) -> Result<i64, Status> {
    if resource.plural == "events" && matches!(&*resource.group, "" | "events.k8s.io") {
        return server.store.lease_for(EVENT_SECONDS).await.map_err(refusal);
    }
    Ok(0)
}

/// There is one already.
fn exists(resource: &Resource, name: &str, record: &Record) -> Status {
    let mut status = Status::already_exists(resource.group_resource(), name);
    if storage::decode(record).is_ok_and(|tree| object::is_deleting(&tree)) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// Gives an object (of another kind than the resource's, if that is told) to the plug-ins that may change it.
pub async fn admit(
    call: &mut Call,
    operation: Operation,
    name: &str,
    kind: Option<Expected<'_>>,
    options: &WriteOptions,
    tree: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let context = Context { kind, ..call.admission(operation, name, Options::Write(options)) };
    let mut warnings = Vec::new();
    let done = call.server.admission.mutate(&call.server, &context, tree, old, &mut warnings).await;
    call.warnings.append(&mut warnings);
    done
}

/// Gives to all plug-ins what is itself stored nowhere: a binding, an eviction, the options of a connection.
pub async fn admit_other(
    call: &mut Call,
    operation: Operation,
    kind: Expected<'_>,
    options: Options<'_>,
    tree: &mut Value,
) -> Result<(), Status> {
    let (server, name) = (call.server.clone(), call.info.name.clone());
    let mut warnings = Vec::new();
    let context = Context { kind: Some(kind), ..call.admission(operation, &name, options) };
    let mut done = server.admission.mutate(&server, &context, tree, None, &mut warnings).await;
    if done.is_ok() {
        done = server.admission.validate(&server, &context, tree, None, &mut warnings).await;
    }
    call.warnings.append(&mut warnings);
    done
}

/// The store's refusal as an answer.
pub fn refusal(error: Error) -> Status {
    match error {
        // Without a reason, as upstream passes it on.
        Error::TooLarge | Error::Unavailable(_) | Error::NoSpace(_) => {
            Status::failure(500, "", error.to_string())
        }
        other => Status::internal(other),
    }
}
