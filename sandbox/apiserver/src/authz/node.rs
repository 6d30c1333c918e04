//! What kubelets may do (k8s.io/kubernetes `plugin/pkg/auth/authorizer/node`): what the role of nodes says, but secrets, config maps,
//! claims and volumes only if a pod on the node needs them, tokens only of service accounts of its pods, and of leases and CSI nodes
//! only its own.
//!
//! Which pod needs what is read from the pods in the store, which are followed by a watch; nothing is read before the first question.

use super::rules::Rule;
use super::{Attributes, Decision, policy};
use crate::authn::User;
use crate::storage::decode;
use drydock_apimachinery::object::{self, list, text};
use drydock_etcd::{EventKind, KeyRange, Query, Record, Store, Watcher};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

const PODS: &str = "/registry/pods/";

/// The node that a user is: `system:node:NAME`, in the group of nodes.
pub fn name_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.is_in("system:nodes").then_some(name)
}

/// Something that a pod needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Need {
    kind: Kind,
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
    ResourceClaim,
}

/// The node authoriser.
#[derive(Debug)]
pub struct Nodes {
    store: Store,
    watch: Option<Watcher>,
    /// Needs by the pod's key, under the node's name.
    pods: HashMap<String, HashMap<Vec<u8>, HashSet<Need>>>,
    /// The node of each pod.
    places: HashMap<Vec<u8>, String>,
    rules: Vec<Rule>,
}

impl Nodes {
    /// For the nodes of a store.
    pub fn new(store: Store) -> Self {
        let rules = policy::node_rules();
        Self { store, watch: None, pods: HashMap::new(), places: HashMap::new(), rules }
    }

    /// Whether a node may do something.
    pub fn decide(&mut self, asked: &Attributes<'_>) -> Decision {
        let Some(node) = name_of(asked.user) else { return Decision::NoOpinion(String::new()) };
        let node = node.to_owned();
        if asked.is_resource {
            let special = match (asked.group, asked.resource) {
                ("", "secrets") => Some(self.read(&node, Kind::Secret, asked)),
                ("", "configmaps") => Some(self.read(&node, Kind::ConfigMap, asked)),
                ("", "persistentvolumeclaims") if asked.subresource == "status" => {
                    Some(self.claim_status(&node, asked))
                }
                ("", "persistentvolumeclaims") => Some(self.get(&node, asked, |nodes, node, asked| {
                    nodes.needs(node, Kind::Claim, asked.namespace, asked.name)
                })),
                ("", "persistentvolumes") => {
                    Some(self.get(&node, asked, |nodes, node, asked| nodes.has_volume(node, asked.name)))
                }
                ("resource.k8s.io", "resourceclaims") => {
                    Some(self.get(&node, asked, |nodes, node, asked| {
                        nodes.needs(node, Kind::ResourceClaim, asked.namespace, asked.name)
                    }))
                }
                ("storage.k8s.io", "volumeattachments") => {
                    Some(self.get(&node, asked, |nodes, node, asked| nodes.is_attached(node, asked.name)))
                }
                ("", "serviceaccounts") => Some(self.service_account(&node, asked)),
                ("coordination.k8s.io", "leases") => Some(own_lease(&node, asked)),
                ("storage.k8s.io", "csinodes") => Some(own_csi_node(&node, asked)),
                ("", "nodes") if asked.subresource.is_empty() => own_node(&node, asked),
                _ => None,
            };
            if let Some(decision) = special {
                return decision;
            }
        }
        match self.rules.iter().any(|rule| rule.allows(asked)) {
            true => Decision::Allow(String::new()),
            false => Decision::NoOpinion(String::new()),
        }
    }

    /// `get`, `list` and `watch` of one object that a pod needs (`authorizeReadNamespacedObject`).
    fn read(&mut self, node: &str, kind: Kind, asked: &Attributes<'_>) -> Decision {
        if !matches!(asked.verb, "get" | "list" | "watch") {
            return refuse("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        if asked.name.is_empty() {
            return refuse("No Object name found");
        }
        let is_needed = self.needs(node, kind, asked.namespace, asked.name);
        related(node, is_needed)
    }

    fn get(
        &mut self,
        node: &str,
        asked: &Attributes<'_>,
        is_related: impl FnOnce(&mut Self, &str, &Attributes<'_>) -> bool,
    ) -> Decision {
        if asked.verb != "get" {
            return refuse("can only get individual resources of this type");
        }
        if !asked.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        let is_related = is_related(self, node, asked);
        related(node, is_related)
    }

    fn claim_status(&mut self, node: &str, asked: &Attributes<'_>) -> Decision {
        if !matches!(asked.verb, "update" | "patch") {
            return refuse("can only get/update/patch this type");
        }
        let is_needed = self.needs(node, Kind::Claim, asked.namespace, asked.name);
        related(node, is_needed)
    }

    fn service_account(&mut self, node: &str, asked: &Attributes<'_>) -> Decision {
        match (asked.verb, asked.subresource) {
            ("create", "token") | ("get" | "list" | "watch", "") if !asked.name.is_empty() => {
                let is_needed = self.needs(node, Kind::ServiceAccount, asked.namespace, asked.name);
                related(node, is_needed)
            }
            _ => refuse("can only create tokens for individual service accounts"),
        }
    }

    fn needs(&mut self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        self.follow();
        let need = Need { kind, namespace: namespace.into(), name: name.into() };
        self.pods.get(node).is_some_and(|pods| pods.values().any(|needs| needs.contains(&need)))
    }

    /// True if a claim that a pod on the node needs is bound to the volume.
    fn has_volume(&mut self, node: &str, volume: &str) -> bool {
        self.follow();
        let needs = self.pods.get(node).into_iter().flat_map(HashMap::values).flatten();
        needs.filter(|need| need.kind == Kind::Claim).any(|claim| {
            let key = format!("/registry/persistentvolumeclaims/{}/{}", claim.namespace, claim.name);
            let found = self.store.get(key.as_bytes(), None).ok().flatten();
            let tree = found.and_then(|record| decode(&record).ok()).unwrap_or_default();
            text(&tree, &["spec", "volumeName"]) == volume
        })
    }

    fn is_attached(&self, node: &str, attachment: &str) -> bool {
        let key = format!("/registry/volumeattachments/{attachment}");
        let found = self.store.get(key.as_bytes(), None).ok().flatten();
        let tree = found.and_then(|record| decode(&record).ok()).unwrap_or_default();
        text(&tree, &["spec", "nodeName"]) == node
    }

    fn follow(&mut self) {
        loop {
            let Some(watch) = &mut self.watch else { return self.fill() };
            match watch.try_next() {
                Ok(batch) if batch.events.is_empty() => return,
                Ok(batch) => {
                    for event in batch.events {
                        match event.kind {
                            EventKind::Put => self.put(&event.record),
                            EventKind::Delete => self.forget(&event.record.key),
                        }
                    }
                }
                Err(_) => self.watch = None,
            }
        }
    }

    fn fill(&mut self) {
        self.pods.clear();
        self.places.clear();
        let range = KeyRange::prefix(PODS);
        let at = self.store.revision();
        let found = self.store.range(&range, &Query { at: Some(at), ..Query::default() });
        let watch = self.store.watch(&range, Some(at + 1));
        // Only if the store is replaced at this very moment: then whoever asks next fills it again.
        let (Ok(found), Ok(watch)) = (found, watch) else { return };
        self.watch = Some(watch);
        for record in &found.records {
            self.put(record);
        }
    }

    fn put(&mut self, record: &Record) {
        self.forget(&record.key);
        let Ok(pod) = decode(record) else { return };
        let node = text(&pod, &["spec", "nodeName"]);
        // A pod that has ended needs nothing any more (`graph_populator.go`).
        if node.is_empty() || matches!(text(&pod, &["status", "phase"]), "Succeeded" | "Failed") {
            return;
        }
        self.places.insert(record.key.to_vec(), node.into());
        self.pods.entry(node.into()).or_default().insert(record.key.to_vec(), needs_of(&pod));
    }

    fn forget(&mut self, key: &[u8]) {
        let Some(node) = self.places.remove(key) else { return };
        if let Some(pods) = self.pods.get_mut(&node) {
            pods.remove(key);
            if pods.is_empty() {
                self.pods.remove(&node);
            }
        }
    }
}

fn refuse(reason: &str) -> Decision {
    Decision::NoOpinion(reason.into())
}

fn related(node: &str, is_related: bool) -> Decision {
    match is_related {
        true => Decision::Allow(String::new()),
        false => refuse(&format!("no relationship found between node '{node}' and this object")),
    }
}

fn own_lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return refuse("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != "kube-node-lease" {
        return refuse("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // The name of a new one is in its body: admission looks at that (NodeRestriction).
    match asked.verb == "create" || asked.name == node {
        true => Decision::Allow(String::new()),
        false => refuse("can only access node lease with the same name as the requesting node"),
    }
}

fn own_csi_node(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return refuse("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return refuse("cannot authorize CSINode subresources");
    }
    match asked.verb == "create" || asked.name == node {
        true => Decision::Allow(String::new()),
        false => refuse("can only access CSINode with the same name as the requesting node"),
    }
}

/// Reads of node objects: its own and no other.
fn own_node(node: &str, asked: &Attributes<'_>) -> Option<Decision> {
    match asked.verb {
        "get" | "list" | "watch" if asked.name == node => Some(Decision::Allow(String::new())),
        "get" | "list" | "watch" => {
            let wanted = if asked.name.is_empty() { "all nodes" } else { asked.name };
            Some(refuse(&format!("node '{node}' cannot read '{wanted}', only its own Node object")))
        }
        _ => None,
    }
}

/// All that a pod refers to and its kubelet must read.
fn needs_of(pod: &Value) -> HashSet<Need> {
    let namespace = object::namespace(pod);
    let mut needs = HashSet::new();
    let mut add = |kind: Kind, name: &str| {
        if !name.is_empty() {
            needs.insert(Need { kind, namespace: namespace.into(), name: name.into() });
        }
    };
    let spec = &pod["spec"];
    add(Kind::ServiceAccount, text(spec, &["serviceAccountName"]));
    for secret in list(spec, &["imagePullSecrets"]) {
        add(Kind::Secret, text(secret, &["name"]));
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(spec, &[field]) {
            for variable in list(container, &["env"]) {
                add(Kind::Secret, text(variable, &["valueFrom", "secretKeyRef", "name"]));
                add(Kind::ConfigMap, text(variable, &["valueFrom", "configMapKeyRef", "name"]));
            }
            for source in list(container, &["envFrom"]) {
                add(Kind::Secret, text(source, &["secretRef", "name"]));
                add(Kind::ConfigMap, text(source, &["configMapRef", "name"]));
            }
        }
    }
    for volume in list(spec, &["volumes"]) {
        add(Kind::Secret, text(volume, &["secret", "secretName"]));
        add(Kind::ConfigMap, text(volume, &["configMap", "name"]));
        add(Kind::Claim, text(volume, &["persistentVolumeClaim", "claimName"]));
        if volume.get("ephemeral").is_some() {
            add(Kind::Claim, &format!("{}-{}", object::name(pod), text(volume, &["name"])));
        }
        for source in list(volume, &["projected", "sources"]) {
            add(Kind::Secret, text(source, &["secret", "name"]));
            add(Kind::ConfigMap, text(source, &["configMap", "name"]));
        }
        for field in ["azureFile", "cephfs", "csi", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
            add(Kind::Secret, text(volume, &[field, "secretRef", "name"]));
            add(Kind::Secret, text(volume, &[field, "nodePublishSecretRef", "name"]));
        }
    }
    for claim in list(pod, &["status", "resourceClaimStatuses"]) {
        add(Kind::ResourceClaim, text(claim, &["resourceClaimName"]));
    }
    for claim in list(spec, &["resourceClaims"]) {
        add(Kind::ResourceClaim, text(claim, &["resourceClaimName"]));
    }
    needs
}
