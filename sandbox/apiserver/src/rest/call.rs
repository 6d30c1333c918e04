//! A request on its way through the engine.

use super::options::Options;
use crate::admission::{Context, Operation};
use crate::authn::User;
use crate::codec;
use crate::custom::conversion;
use crate::http::respond::{self, Answer, Style};
use crate::http::{Query, RequestInfo, body, negotiate};
use crate::resource::Resource;
use crate::server::Server;
use crate::storage::{self, Naming};
use bytes::Bytes;
use drydock_apimachinery::Status;
use drydock_etcd::Record;
use http::header::USER_AGENT;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// A request of a resource, authorised, its body not yet read.
#[derive(Debug)]
pub struct Call {
    /// Where it arrived.
    pub server: Arc<Server>,
    /// What it is about.
    pub info: RequestInfo,
    /// Its query.
    pub query: Query,
    /// Its method: `HEAD` is a `get` too.
    pub method: Method,
    /// Its head.
    pub headers: HeaderMap,
    /// Who asks.
    pub user: User,
    /// How the answer is written.
    pub style: Style,
    /// Of what.
    pub resource: Arc<Resource>,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    /// What the connection may become, until somebody takes it.
    pub upgrade: Option<OnUpgrade>,
    /// The query as it was written, for those to whom it is passed on.
    pub raw_query: Option<String>,
}

impl Call {
    /// Reads the body and the form in which it came.
    pub async fn body(&self, incoming: Incoming) -> Result<(negotiate::Input, Bytes), Status> {
        let input = negotiate::input(&self.headers)?;
        Ok((input, body::read(incoming).await?))
    }

    /// Who writes, for `managedFields`: what it says, else what the program calls itself up to the first slash.
    pub fn manager(&self, field_manager: &str) -> String {
        if !field_manager.is_empty() {
            return field_manager.into();
        }
        let agent = self.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let name = agent.split('/').next().unwrap_or_default();
        let mut end = name.len().min(128);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        if end == 0 { "unknown".into() } else { name[..end].into() }
    }

    /// What admission must know.
    pub fn admission<'a>(&'a self, operation: Operation, name: &'a str, options: Options<'a>) -> Context<'a> {
        Context {
            operation,
            resource: &self.resource,
            requested: None,
            subresource: &self.info.subresource,
            namespace: self.namespace(),
            name,
            user: &self.user,
            dry_run: options.dry_run(),
            kind: None,
            options,
        }
    }

    /// The namespace of the objects; empty for those of the cluster.
    pub fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.info.namespace } else { "" }
    }

    /// The key of the object that the path names.
    pub fn key(&self) -> String {
        storage::keys::of(&self.resource, self.namespace(), &self.info.name)
    }

    /// There is no such object.
    pub fn not_found(&self) -> Status {
        Status::not_found(self.resource.group_resource(), &self.info.name)
    }

    /// An object as the answer, from the store's bytes.
    pub async fn answer_record(&self, code: StatusCode, record: Arc<Record>) -> Result<Answer, Status> {
        use negotiate::Shape;
        let record = &*conversion::record(&self.server, &self.resource, record).await?;
        if self.style.output.shape != Shape::Object {
            return self.answer_tree(code, self.load(storage::decode(record)?));
        }
        if self.style.is_compact_json() && record.value.len() < respond::GZIP_FROM / 2 {
            return Ok(respond::bytes(
                code,
                "application/json",
                storage::object::line(record, &self.resource)?,
            ));
        }
        let mut out = Vec::with_capacity(record.value.len() + 64);
        storage::object::write(&mut out, record, &self.resource, record.mod_revision, Naming::Full)?;
        if self.style.is_compact_json() {
            out.push(b'\n');
        }
        Ok(respond::json(code, out, self.style))
    }

    /// An object (in the version of the request) as the answer.
    pub fn answer_tree(&self, code: StatusCode, tree: Value) -> Result<Answer, Status> {
        use negotiate::Shape;
        let shaped = match self.style.output.shape {
            Shape::Object => tree,
            Shape::Metadata(version) => super::table::metadata_of(tree, version),
            Shape::Table(version) => {
                let options = super::table::Options::new(&self.query, version)?;
                super::table::of_object(&self.resource, tree, &options)
            }
        };
        Ok(respond::value(code, &shaped, self.style))
    }

    /// Answers with a list of objects that are stored nowhere, in the shape that was asked for.
    pub fn answer_list(&self, kind: &str, version: &str, items: Vec<Value>) -> Result<Answer, Status> {
        use super::table;
        let tree = match self.style.output.shape {
            negotiate::Shape::Table(version) => {
                let options = table::Options::new(&self.query, version)?;
                let now = Timestamp::now();
                let rows = items.into_iter().map(|item| table::row(&self.resource, item, &options, now));
                json!({
                    "kind": "Table",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": {},
                    "columnDefinitions": table::columns(&self.resource),
                    "rows": rows.collect::<Vec<Value>>(),
                })
            }
            _ => json!({"kind": kind, "apiVersion": version, "metadata": {}, "items": items}),
        };
        Ok(respond::value(StatusCode::OK, &tree, self.style))
    }

    /// From the stored version, in which no webhook converted it, to the request's.
    pub fn load(&self, tree: Value) -> Value {
        self.resource.load(tree)
    }

    /// The object of a record in the version of the request.
    pub async fn object(&self, record: Arc<Record>) -> Result<Value, Status> {
        let record = conversion::record(&self.server, &self.resource, record).await?;
        Ok(self.load(storage::decode(&record)?))
    }

    /// An object of the request's version as it is stored.
    pub async fn store(&self, tree: Value) -> Result<Value, Status> {
        let tree = conversion::to_stored(&self.server, &self.resource, tree).await?;
        Ok(self.resource.store(tree))
    }

    /// Reads a body as an object of the resource.
    pub fn decode(
        &mut self,
        input: negotiate::Input,
        bytes: &[u8],
        validation: super::options::FieldValidation,
    ) -> Result<Value, Status> {
        codec::decode_object(&self.resource, input, bytes, validation, &mut self.warnings)
    }
}
