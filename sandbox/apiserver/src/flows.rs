//! Which flow schema a request is of. Clients are told in two headers, and that is all that comes of it: how many requests are worked on
//! at the same time has one limit for all (k8s.io/apiserver `pkg/util/flowcontrol/rule.go`, `pkg/server/filters/priority-and-fairness.go`).

use crate::authz::Attributes;
use crate::http::respond::Answer;
use crate::storage::decode;
use drydock_apimachinery::object::{self, at, int, list, text};
use drydock_etcd::{KeyRange, Store, Watcher};
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Where schemas and levels are.
const PREFIXES: [&str; 2] = ["/registry/flowschemas/", "/registry/prioritylevelconfigurations/"];

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// The schema and the level of a request: their uids.
#[derive(Debug, Clone)]
pub struct Flow {
    schema: HeaderValue,
    level: HeaderValue,
}

impl Flow {
    /// Tells them to the client.
    pub fn tell(self, answer: &mut Answer) {
        answer.headers_mut().insert(SCHEMA_UID, self.schema);
        answer.headers_mut().insert(LEVEL_UID, self.level);
    }
}

/// All schemas, as they are in the store now.
#[derive(Debug)]
pub struct Flows(Mutex<Index>);

#[derive(Debug)]
struct Index {
    store: Store,
    /// The store's identity and the revision that the index is of.
    at: (u64, i64),
    watches: Vec<Watcher>,
    schemas: Vec<Schema>,
}

#[derive(Debug)]
struct Schema {
    flow: Flow,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<Resources>,
    others: Vec<Others>,
}

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    /// What the name of a service account begins with: all of a namespace.
    Accounts(String),
}

#[derive(Debug)]
struct Resources {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster: bool,
}

#[derive(Debug)]
struct Others {
    verbs: Vec<String>,
    paths: Vec<String>,
}

impl Flows {
    /// Those of a store; they are read when first asked for.
    pub fn new(store: Store) -> Self {
        Self(Mutex::new(Index { store, at: (0, 0), watches: Vec::new(), schemas: Vec::new() }))
    }

    /// The first schema that a request matches. None: not even what every cluster has is there.
    pub fn of(&self, asked: &Attributes<'_>) -> Option<Flow> {
        // It follows the store; at worst it is a step behind.
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index.follow();
        index.schemas.iter().find(|schema| schema.matches(asked)).map(|schema| schema.flow.clone())
    }
}

impl Index {
    fn follow(&mut self) {
        let now = (self.store.id(), self.store.revision());
        if self.at == now && !self.watches.is_empty() {
            return;
        }
        let is_same =
            self.watches.iter_mut().all(|watch| watch.try_next().is_ok_and(|batch| batch.events.is_empty()));
        if self.watches.is_empty() || !is_same {
            self.fill(now.1);
        }
        self.at = now;
    }

    fn fill(&mut self, revision: i64) {
        let watches =
            PREFIXES.iter().map(|prefix| self.store.watch(&KeyRange::prefix(*prefix), Some(revision + 1)));
        // Only if the store is replaced at this very moment it can't be watched: then whoever asks next fills it again.
        self.watches = watches.collect::<Result<_, _>>().unwrap_or_default();
        let all = |prefix: &str| {
            let records = self.store.below(prefix.as_bytes()).into_iter();
            records.filter_map(|record| decode(&record).ok()).collect::<Vec<Value>>()
        };
        let [mut schemas, levels] = PREFIXES.map(all);
        let levels: HashMap<_, _> = levels.iter().map(|one| (object::name(one), object::uid(one))).collect();
        // By name they are already.
        schemas.sort_by_key(|schema| int(schema, &["spec", "matchingPrecedence"]));
        self.schemas = schemas.iter().filter_map(|schema| Schema::of(schema, &levels)).collect();
    }
}

impl Schema {
    /// None: its level does not exist.
    fn of(tree: &Value, levels: &HashMap<&str, &str>) -> Option<Self> {
        let level = levels.get(text(tree, &["spec", "priorityLevelConfiguration", "name"]))?;
        let value = |uid: &str| HeaderValue::from_str(uid).ok();
        let flow = Flow { schema: value(object::uid(tree))?, level: value(level)? };
        Some(Self { flow, rules: list(tree, &["spec", "rules"]).iter().map(Rule::of).collect() })
    }

    fn matches(&self, asked: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(asked))
    }
}

impl Rule {
    fn of(tree: &Value) -> Self {
        let texts = |tree: &Value, field: &str| -> Vec<String> {
            list(tree, &[field]).iter().filter_map(Value::as_str).map(String::from).collect()
        };
        let resources = list(tree, &["resourceRules"]).iter().map(|rule| Resources {
            verbs: texts(rule, "verbs"),
            groups: texts(rule, "apiGroups"),
            resources: texts(rule, "resources"),
            namespaces: texts(rule, "namespaces"),
            cluster: at(rule, &["clusterScope"]) == Some(&Value::Bool(true)),
        });
        let others = list(tree, &["nonResourceRules"])
            .iter()
            .map(|rule| Others { verbs: texts(rule, "verbs"), paths: texts(rule, "nonResourceURLs") });
        Self {
            subjects: list(tree, &["subjects"]).iter().filter_map(Subject::of).collect(),
            resources: resources.collect(),
            others: others.collect(),
        }
    }

    fn matches(&self, asked: &Attributes<'_>) -> bool {
        let is_of = |subject: &Subject| match subject {
            Subject::User(name) => name == "*" || *name == asked.user.name,
            Subject::Group(name) => name == "*" || asked.user.is_in(name),
            Subject::Accounts(start) => asked.user.name.starts_with(start),
        };
        self.subjects.iter().any(is_of)
            && if asked.is_resource {
                self.resources.iter().any(|rule| rule.matches(asked))
            } else {
                self.others.iter().any(|rule| rule.matches(asked))
            }
    }
}

impl Subject {
    fn of(tree: &Value) -> Option<Self> {
        let account = |field: &str| text(tree, &["serviceAccount", field]);
        Some(match text(tree, &["kind"]) {
            "User" => Self::User(text(tree, &["user", "name"]).into()),
            "Group" => Self::Group(text(tree, &["group", "name"]).into()),
            "ServiceAccount" => {
                let start = format!("system:serviceaccount:{}:", account("namespace"));
                match account("name") {
                    "*" => Self::Accounts(start),
                    name => Self::User(start + name),
                }
            }
            _ => return None,
        })
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

impl Resources {
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        let is_named = |one: &String| match one.split_once('/') {
            _ if one == "*" => true,
            Some((resource, sub)) => (resource, sub) == (asked.resource, asked.subresource),
            None => asked.subresource.is_empty() && one == asked.resource,
        };
        let is_there =
            if asked.namespace.is_empty() { self.cluster } else { has(&self.namespaces, asked.namespace) };
        is_there
            && has(&self.verbs, asked.verb)
            && has(&self.groups, asked.group)
            && self.resources.iter().any(is_named)
    }
}

impl Others {
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        let is_under =
            |path: &String| path.strip_suffix('*').is_some_and(|start| asked.path.starts_with(start));
        has(&self.verbs, asked.verb) && (has(&self.paths, asked.path) || self.paths.iter().any(is_under))
    }
}
