//! Who owns whom: a graph of all objects by uid, built from what the monitors see. Owners that nobody has seen yet are in it as virtual nodes,
//! until somebody has asked the API server whether they exist (`GraphBuilder`). Pure: a change gives back who is to be looked at.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::shared::meta::Meta;

/// The finalizer of an object that goes after its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents stay.
pub const ORPHAN: &str = "orphan";

/// Where an object is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// `apps/v1`.
    pub api_version: Arc<str>,
    /// `ReplicaSet`.
    pub kind: Arc<str>,
    /// Empty: none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An object of the graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it is.
    pub identity: Identity,
    /// Whom it depends on.
    pub owners: Vec<OwnerReference>,
    /// Who depends on it, by uid.
    pub dependents: BTreeSet<String>,
    /// It is being deleted.
    pub deleting: bool,
    /// It is being deleted and waits for its dependents.
    pub deleting_dependents: bool,
    /// Only references speak of it: nobody has seen it.
    pub virtual_: bool,
    /// The revision that was seen last, and its finalizers.
    pub resource_version: Option<String>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
}

/// Who is to be looked at after a change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Look {
    /// Whether the object of that uid is to be deleted.
    Delete(String),
    /// Its dependents are to be let go.
    Orphan(String),
    /// Its reference to an owner in another namespace is to be told.
    WrongNamespace {
        /// The dependent.
        uid: String,
        /// The uid of the owner.
        owner: String,
    },
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Nodes,
}

/// By uid. In boxes, since a map has room for twice as many as there are.
type Nodes = HashMap<String, Box<Node>>;

impl Graph {
    /// The node of a uid.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid).map(Box::as_ref)
    }

    /// The uids and nodes of those that depend on it.
    pub fn dependents(&self, uid: &str) -> Vec<(String, Node)> {
        let all = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        all.filter_map(|uid| Some((uid.clone(), self.get(uid)?.clone()))).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// An object is there, or has changed.
    pub fn seen(&mut self, identity: &Identity, meta: &ObjectMeta) -> Vec<Look> {
        let uid = meta.uid().to_owned();
        let mut look = Vec::new();
        let mut node =
            self.nodes.remove(&uid).unwrap_or_else(|| Box::new(Node::virtual_of(identity.clone())));
        let (was_deleting, was_waiting) = (node.deleting, node.deleting_dependents);
        let old_owners = std::mem::replace(&mut node.owners, meta.owners().to_vec());
        // A reference may have told a wrong place; the object itself knows.
        node.identity = identity.clone();
        node.virtual_ = false;
        node.resource_version.clone_from(&meta.resource_version);
        node.finalizers = meta.finalizers.clone().unwrap_or_default();
        node.deleting |= meta.deleting();
        node.deleting_dependents |= meta.deleting() && meta.has_finalizer(FOREGROUND);
        let now_waiting = node.deleting_dependents && !was_waiting;
        let owners = node.owners.clone();
        let dependents: Vec<String> = node.dependents.iter().cloned().collect();
        self.nodes.insert(uid.clone(), node);

        self.link(&uid, &owners, &old_owners, &mut look);
        if old_owners != owners {
            self.unblock(&old_owners, &owners, &mut look);
            // An owner that was taken away may have been the last.
            if !old_owners.is_empty() && !owners.is_empty() {
                look.push(Look::Delete(uid.clone()));
            }
        }
        if meta.deleting() && meta.has_finalizer(ORPHAN) && !was_deleting {
            look.push(Look::Orphan(uid.clone()));
        }
        if now_waiting {
            look.extend(dependents.iter().cloned().map(Look::Delete));
        }
        if node_waits(&self.nodes, &uid) {
            look.push(Look::Delete(uid.clone()));
        }
        look.extend(self.wrong_namespaces(&uid, &dependents));
        look
    }

    /// Enters a dependent with its owners, and takes it from those that it no longer has.
    fn link(&mut self, uid: &str, owners: &[OwnerReference], old: &[OwnerReference], look: &mut Vec<Look>) {
        let namespace = self.nodes.get(uid).map(|node| node.identity.namespace.clone()).unwrap_or_default();
        for owner in owners {
            let node = self.nodes.entry(owner.uid.clone()).or_insert_with(|| {
                // Nobody has seen it: the API server is asked whether it exists.
                look.push(Look::Delete(owner.uid.clone()));
                Box::new(Node::virtual_of(Identity {
                    api_version: owner.api_version.as_str().into(),
                    kind: owner.kind.as_str().into(),
                    namespace: namespace.clone(),
                    name: owner.name.clone(),
                }))
            });
            node.dependents.insert(uid.to_owned());
        }
        for owner in old.iter().filter(|old| !owners.iter().any(|owner| owner.uid == old.uid)) {
            if let Some(node) = self.nodes.get_mut(&owner.uid) {
                node.dependents.remove(uid);
                if node.virtual_ && node.dependents.is_empty() {
                    self.nodes.remove(&owner.uid);
                }
            }
        }
    }

    /// Owners that waited for a dependent that no longer blocks them.
    fn unblock(&self, old: &[OwnerReference], new: &[OwnerReference], look: &mut Vec<Look>) {
        for owner in old.iter().filter(|owner| owner.block_owner_deletion == Some(true)) {
            let still = new.iter().any(|new| new.uid == owner.uid && new.block_owner_deletion == Some(true));
            if !still && node_waits(&self.nodes, &owner.uid) {
                look.push(Look::Delete(owner.uid.clone()));
            }
        }
    }

    /// References across namespaces, which are no references (`reportInvalidNamespaceOwnerRef`): those of `uid`, and of its dependents.
    fn wrong_namespaces(&self, uid: &str, dependents: &[String]) -> Vec<Look> {
        let wrong = |dependent: &str, owner: &str| {
            let (dependent_node, owner_node) = (self.nodes.get(dependent)?, self.nodes.get(owner)?);
            let apart = !owner_node.virtual_
                && !dependent_node.virtual_
                && !owner_node.identity.namespace.is_empty()
                && owner_node.identity.namespace != dependent_node.identity.namespace;
            apart.then(|| Look::WrongNamespace { uid: dependent.to_owned(), owner: owner.to_owned() })
        };
        let owners = self.nodes.get(uid).into_iter().flat_map(|node| &node.owners);
        let mut all: Vec<Look> = owners.filter_map(|owner| wrong(uid, &owner.uid)).collect();
        all.extend(dependents.iter().filter_map(|dependent| wrong(dependent, uid)));
        all
    }

    /// An object is gone: its dependents are looked at, and owners that waited for it.
    pub fn gone(&mut self, uid: &str) -> Vec<Look> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut look: Vec<Look> = node.dependents.iter().cloned().map(Look::Delete).collect();
        for owner in &node.owners {
            let Some(entry) = self.nodes.get_mut(&owner.uid) else { continue };
            entry.dependents.remove(uid);
            if entry.deleting_dependents {
                look.push(Look::Delete(owner.uid.clone()));
            } else if entry.virtual_ && entry.dependents.is_empty() {
                self.nodes.remove(&owner.uid);
            }
        }
        look
    }
}

fn node_waits(nodes: &Nodes, uid: &str) -> bool {
    nodes.get(uid).is_some_and(|node| node.deleting_dependents)
}

impl Node {
    fn virtual_of(identity: Identity) -> Self {
        Self {
            identity,
            owners: Vec::new(),
            dependents: BTreeSet::new(),
            deleting: false,
            deleting_dependents: false,
            virtual_: true,
            resource_version: None,
            finalizers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn identity(kind: &str, name: &str) -> Identity {
        Identity {
            api_version: "apps/v1".into(),
            kind: kind.into(),
            namespace: "default".into(),
            name: name.into(),
        }
    }

    fn meta(uid: &str, owners: &[&str]) -> ObjectMeta {
        let owner = |uid: &&str| OwnerReference {
            uid: (*uid).into(),
            kind: "ReplicaSet".into(),
            api_version: "apps/v1".into(),
            name: format!("n{uid}"),
            controller: None,
            block_owner_deletion: Some(true),
        };
        ObjectMeta {
            uid: Some(uid.into()),
            name: Some(format!("n{uid}")),
            namespace: Some("default".into()),
            owner_references: Some(owners.iter().map(owner).collect()),
            ..ObjectMeta::default()
        }
    }

    fn deleting(mut meta: ObjectMeta, finalizer: &str) -> ObjectMeta {
        meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        meta.finalizers = Some(vec![finalizer.into()]);
        meta
    }

    fn delete(uid: &str) -> Look {
        Look::Delete(uid.into())
    }

    #[test]
    fn an_owner_that_nobody_has_seen_is_asked_for() {
        let mut graph = Graph::default();
        assert_eq!(graph.seen(&identity("Pod", "n2"), &meta("2", &["1"])), [delete("1")]);
        assert!(graph.get("1").unwrap().virtual_);
        assert_eq!(graph.seen(&identity("ReplicaSet", "n1"), &meta("1", &[])), []);
        assert!(!graph.get("1").unwrap().virtual_);
        assert_eq!(graph.gone("1"), [delete("2")]);
    }

    #[test]
    fn foreground_deletion_looks_at_dependents_and_comes_back_when_they_are_gone() {
        let mut graph = Graph::default();
        graph.seen(&identity("ReplicaSet", "n1"), &meta("1", &[]));
        graph.seen(&identity("Pod", "n2"), &meta("2", &["1"]));
        let looks = graph.seen(&identity("ReplicaSet", "n1"), &deleting(meta("1", &[]), FOREGROUND));
        assert_eq!(looks, [delete("2"), delete("1")]);
        assert_eq!(graph.gone("2"), [delete("1")]);
    }

    #[test]
    fn orphaning_is_asked_for_once() {
        let mut graph = Graph::default();
        let going = deleting(meta("1", &[]), ORPHAN);
        graph.seen(&identity("ReplicaSet", "n1"), &meta("1", &[]));
        assert_eq!(graph.seen(&identity("ReplicaSet", "n1"), &going), [Look::Orphan("1".into())]);
        assert_eq!(graph.seen(&identity("ReplicaSet", "n1"), &going), []);
    }

    #[test]
    fn changed_owners_move_the_dependent() {
        let mut graph = Graph::default();
        for uid in ["1", "3"] {
            graph.seen(&identity("ReplicaSet", uid), &meta(uid, &[]));
        }
        graph.seen(&identity("Pod", "n2"), &meta("2", &["1"]));
        assert_eq!(graph.seen(&identity("Pod", "n2"), &meta("2", &["3"])), [delete("2")]);
        assert!(graph.dependents("1").is_empty());
        assert_eq!(graph.dependents("3").len(), 1);
    }

    #[test]
    fn references_across_namespaces_are_told() {
        let mut graph = Graph::default();
        let elsewhere = Identity { namespace: "other".into(), ..identity("ReplicaSet", "n1") };
        graph.seen(&elsewhere, &meta("1", &[]));
        let looks = graph.seen(&identity("Pod", "n2"), &meta("2", &["1"]));
        assert_eq!(looks, [Look::WrongNamespace { uid: "2".into(), owner: "1".into() }]);
    }
}
