//! Role-based access control over an index of the roles and bindings in the store. The index follows the store by its watches: it is
//! brought up to date by whoever asks next, so an answer is never older than the store, and a question costs a few look-ups.

use super::rules::Rule;
use super::{Attributes, Decision};
use crate::authn::User;
use crate::storage::decode;
use drydock_apimachinery::object::{self, list, text};
use drydock_etcd::{EventKind, KeyRange, Query, Record, Store, Watcher};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Where roles and bindings are.
const PREFIXES: [&str; 4] = [
    "/registry/clusterroles/",
    "/registry/roles/",
    "/registry/clusterrolebindings/",
    "/registry/rolebindings/",
];

/// What a binding binds to, and where it is (empty: in no namespace).
#[derive(Debug)]
struct Binding {
    name: String,
    namespace: String,
    role_kind: String,
    role: String,
    /// Name of the user or group, and how the subject is called.
    subjects: Vec<(Subject, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// Bindings of a subject in one namespace, in the order of their names, with the subject's description.
type BySubject = HashMap<Subject, Vec<(Arc<Binding>, usize)>>;

/// The index.
#[derive(Debug)]
pub struct Rbac {
    store: Store,
    /// The revision that the index is of, and the store's identity.
    at: (u64, i64),
    watches: Vec<Watcher>,
    /// Rules by the key's part after the prefix: `NAME` or `NAMESPACE/NAME`.
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    roles: HashMap<String, Arc<[Rule]>>,
    bindings: BTreeMap<String, Arc<Binding>>,
    /// By namespace; the empty one is for the bindings of the cluster.
    subjects: HashMap<String, BySubject>,
}

/// Rules of somebody, with what gives them.
pub struct Given<'a> {
    /// The rules of a role.
    pub rules: Arc<[Rule]>,
    binding: &'a Binding,
    subject: &'a str,
}

impl Given<'_> {
    /// Why it is allowed, as upstream says it.
    fn reason(&self) -> String {
        let Binding { name, namespace, role_kind, role, .. } = self.binding;
        let binding = match namespace.as_str() {
            "" => format!("ClusterRoleBinding {name:?}"),
            namespace => format!("RoleBinding {:?}", format!("{name}/{namespace}")),
        };
        format!("RBAC: allowed by {binding} of {role_kind} {role:?} to {}", self.subject)
    }
}

impl Rbac {
    /// An index over a store; it is filled when first asked.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            at: (0, 0),
            watches: Vec::new(),
            cluster_roles: HashMap::new(),
            roles: HashMap::new(),
            bindings: BTreeMap::new(),
            subjects: HashMap::new(),
        }
    }

    /// Whether somebody may do something.
    pub fn decide(&mut self, asked: &Attributes<'_>) -> Decision {
        let mut errors = Vec::new();
        for given in self.given(asked.user, asked.namespace, &mut errors) {
            if given.rules.iter().any(|rule| rule.allows(asked)) {
                return Decision::Allow(given.reason());
            }
        }
        let reason = match &errors[..] {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            several => format!("RBAC: [{}]", several.join(", ")),
        };
        Decision::NoOpinion(reason)
    }

    /// All rules that somebody has in a namespace (empty: in the cluster).
    pub fn rules_of(&mut self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut errors = Vec::new();
        let given = self.given(user, namespace, &mut errors);
        given.iter().flat_map(|given| given.rules.iter().cloned()).collect()
    }

    /// The rules of a role that a binding in this namespace refers to; none: there is no such role.
    pub fn role(&mut self, namespace: &str, kind: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.follow();
        self.find(namespace, kind, name)
    }

    fn find(&self, namespace: &str, kind: &str, name: &str) -> Option<Arc<[Rule]>> {
        match kind {
            "ClusterRole" => self.cluster_roles.get(name).cloned(),
            "Role" => self.roles.get(&format!("{namespace}/{name}")).cloned(),
            _ => None,
        }
    }

    fn given(&mut self, user: &User, namespace: &str, errors: &mut Vec<String>) -> Vec<Given<'_>> {
        self.follow();
        let mut found = Vec::new();
        let places: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for place in places {
            let Some(by_subject) = self.subjects.get(*place) else { continue };
            let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
            for subject in std::iter::once(Subject::User(user.name.clone())).chain(groups) {
                for (binding, index) in by_subject.get(&subject).into_iter().flatten() {
                    let Some(rules) = self.find(&binding.namespace, &binding.role_kind, &binding.role) else {
                        let kind = binding.role_kind.to_lowercase();
                        errors.push(format!("{kind}.{GROUP} {:?} not found", binding.role));
                        continue;
                    };
                    found.push(Given { rules, binding, subject: &binding.subjects[*index].1 });
                }
            }
        }
        found
    }

    /// Brings the index up to the store's revision.
    fn follow(&mut self) {
        let now = (self.store.id(), self.store.revision());
        if self.at == now && !self.watches.is_empty() {
            return;
        }
        let mut events = Vec::new();
        for (prefix, watch) in PREFIXES.iter().zip(&mut self.watches) {
            loop {
                match watch.try_next() {
                    Ok(batch) if batch.events.is_empty() => break,
                    Ok(batch) => events.extend(batch.events.into_iter().map(|event| (*prefix, event))),
                    // What happened meanwhile is forgotten.
                    Err(_) => return self.fill(),
                }
            }
        }
        if self.watches.is_empty() {
            return self.fill();
        }
        self.at = now;
        if events.is_empty() {
            return;
        }
        for (prefix, event) in events {
            match event.kind {
                EventKind::Put => self.put(prefix, &event.record),
                EventKind::Delete => self.forget(prefix, &event.record),
            }
        }
        self.index();
    }

    fn fill(&mut self) {
        self.watches.clear();
        self.cluster_roles.clear();
        self.roles.clear();
        self.bindings.clear();
        let now = (self.store.id(), self.store.revision());
        for prefix in PREFIXES {
            let range = KeyRange::prefix(prefix);
            let query = Query { at: Some(now.1), ..Query::default() };
            let found = self.store.range(&range, &query);
            let watch = self.store.watch(&range, Some(now.1 + 1));
            // Only if the store is replaced at this very moment: then whoever asks next fills it again.
            let (Ok(found), Ok(watch)) = (found, watch) else {
                self.watches.clear();
                return;
            };
            self.watches.push(watch);
            for record in &found.records {
                self.put(prefix, record);
            }
        }
        self.at = now;
        self.index();
    }

    fn put(&mut self, prefix: &str, record: &Record) {
        let Some(id) = id(prefix, record) else { return };
        // What somebody wrote past us and is no object gives no rights.
        let Ok(tree) = decode(record) else { return self.forget(prefix, record) };
        match prefix {
            "/registry/clusterroles/" => {
                self.cluster_roles.insert(id, Rule::all_of(&tree).into());
            }
            "/registry/roles/" => {
                self.roles.insert(id, Rule::all_of(&tree).into());
            }
            _ => {
                self.bindings.insert(format!("{prefix}{id}"), Arc::new(Binding::of(&tree)));
            }
        }
    }

    fn forget(&mut self, prefix: &str, record: &Record) {
        let Some(id) = id(prefix, record) else { return };
        match prefix {
            "/registry/clusterroles/" => self.cluster_roles.remove(&id).map(drop),
            "/registry/roles/" => self.roles.remove(&id).map(drop),
            _ => self.bindings.remove(&format!("{prefix}{id}")).map(drop),
        };
    }

    fn index(&mut self) {
        self.subjects.clear();
        for binding in self.bindings.values() {
            let by_subject = self.subjects.entry(binding.namespace.clone()).or_default();
            for (index, (subject, _)) in binding.subjects.iter().enumerate() {
                by_subject.entry(subject.clone()).or_default().push((Arc::clone(binding), index));
            }
        }
    }
}

fn id(prefix: &str, record: &Record) -> Option<String> {
    let key = std::str::from_utf8(&record.key).ok()?;
    key.strip_prefix(prefix).map(String::from)
}

impl Binding {
    fn of(tree: &Value) -> Self {
        let namespace = object::namespace(tree);
        let subjects = list(tree, &["subjects"]).iter().filter_map(|one| subject(one, namespace));
        Self {
            name: object::name(tree).into(),
            namespace: namespace.into(),
            role_kind: text(tree, &["roleRef", "kind"]).into(),
            role: text(tree, &["roleRef", "name"]).into(),
            subjects: subjects.collect(),
        }
    }
}

/// Whom a subject means, and how it is called (`appliesToUser`, `describeSubject`).
fn subject(tree: &Value, namespace: &str) -> Option<(Subject, String)> {
    let name = text(tree, &["name"]);
    match text(tree, &["kind"]) {
        "User" => Some((Subject::User(name.into()), format!("User {name:?}"))),
        "Group" => Some((Subject::Group(name.into()), format!("Group {name:?}"))),
        "ServiceAccount" => {
            let own = text(tree, &["namespace"]);
            let place = if own.is_empty() { namespace } else { own };
            let said = format!("ServiceAccount {:?}", format!("{name}/{own}"));
            (!place.is_empty())
                .then(|| (Subject::User(format!("system:serviceaccount:{place}:{name}")), said))
        }
        _ => None,
    }
}
