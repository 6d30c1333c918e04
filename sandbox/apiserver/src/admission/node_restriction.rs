//! NodeRestriction: a kubelet writes its own node, its own pods' status and its own leases, and nothing that would widen what it may do
//! (k8s.io/kubernetes `plugin/pkg/admission/noderestriction`).

use super::service_account::{is_mirror, referenced};
use super::{Context, Operation, forbidden, reader};
use crate::authz::node_of;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, list, map, text};
use drydock_etcd::Store;
use serde_json::Value;

/// Labels of the `kubernetes.io` domain that a kubelet sets itself (`kubeletapis.kubeletLabels`).
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

/// Refuses what a node may not write.
pub fn check(
    store: &Store,
    context: &Context<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(node) = node_of(context.user) else { return Ok(()) };
    let check = Check { store, context, node, object, old };
    match (&*context.resource.group, &*context.resource.plural, context.subresource) {
        ("", "pods", "") => check.pod(),
        ("", "pods", "status") => check.pod_status(),
        ("", "pods", "eviction") => check.own_pod(context.name),
        ("", "pods", _) => check.refuse(&format!("unexpected pod subresource {:?}", context.subresource)),
        ("", "nodes", _) => check.own_node(),
        ("", "serviceaccounts", "token") => check.token(),
        ("coordination.k8s.io", "leases", _) => check.lease(),
        ("storage.k8s.io", "csinodes", _) => check.csi_node(),
        _ => Ok(()),
    }
}

struct Check<'a> {
    store: &'a Store,
    context: &'a Context<'a>,
    node: &'a str,
    object: &'a Value,
    old: Option<&'a Value>,
}

impl Check<'_> {
    fn refuse(&self, why: &str) -> Result<(), Status> {
        Err(forbidden(self.context, self.old.unwrap_or(self.object), why))
    }

    fn pod(&self) -> Result<(), Status> {
        let node = self.node;
        match self.context.operation {
            Operation::Create => self.mirror_pod(),
            Operation::Delete => {
                let bound = self.old.map(|pod| text(pod, &["spec", "nodeName"])).unwrap_or_default();
                if bound == node {
                    return Ok(());
                }
                self.refuse(&format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
            }
            _ => self.refuse("unexpected operation \"UPDATE\""),
        }
    }

    fn mirror_pod(&self) -> Result<(), Status> {
        let (node, pod) = (self.node, self.object);
        if !is_mirror(pod) {
            return self.refuse(&format!(
                "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
            ));
        }
        if text(pod, &["spec", "nodeName"]) != node {
            return self
                .refuse(&format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let owners = list(pod, &["metadata", "ownerReferences"]);
        if owners.len() > 1 {
            return self.refuse(&format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
        let is_itself = |owner: &Value| {
            text(owner, &["apiVersion"]) == "v1"
                && text(owner, &["kind"]) == "Node"
                && text(owner, &["name"]) == node
        };
        if let Some(owner) = owners.first()
            && !is_itself(owner)
        {
            return self.refuse(&format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        if !text(pod, &["spec", "serviceAccountName"]).is_empty() {
            return self
                .refuse(&format!("node {node:?} can not create pods that reference a service account"));
        }
        match referenced(pod) {
            Some(what) => self.refuse(&format!("node {node:?} can not create pods that reference {what}")),
            None => Ok(()),
        }
    }

    fn pod_status(&self) -> Result<(), Status> {
        let (node, Some(old)) = (self.node, self.old) else { return Ok(()) };
        if text(old, &["spec", "nodeName"]) != node {
            return self.refuse(&format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        let labels = |pod: &Value| map(pod, &["metadata", "labels"]).cloned().unwrap_or_default();
        if labels(self.object) != labels(old) {
            return self.refuse(&format!("node {node:?} cannot update labels through pod status"));
        }
        Ok(())
    }

    fn own_pod(&self, name: &str) -> Result<(), Status> {
        let node = self.node;
        let pod = reader::pod(self.store, self.context.namespace, name)?;
        match pod {
            Some(pod) if text(&pod, &["spec", "nodeName"]) == node => Ok(()),
            Some(_) => {
                self.refuse(&format!("node {node} can only evict pods with spec.nodeName set to itself"))
            }
            None => Ok(()),
        }
    }

    fn own_node(&self) -> Result<(), Status> {
        let node = self.node;
        let name = match self.context.name {
            "" => object::name(self.object),
            name => name,
        };
        if name != node {
            return self.refuse(&format!("node {node:?} is not allowed to modify node {name:?}"));
        }
        let labels = |tree: &Value| map(tree, &["metadata", "labels"]).cloned().unwrap_or_default();
        let is_forbidden = |label: &str| {
            let domain = label.split('/').next().filter(|_| label.contains('/')).unwrap_or_default();
            let in_domain = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
            if in_domain("node-restriction.kubernetes.io") {
                return true;
            }
            let is_own = OWN_LABELS.contains(&label)
                || in_domain("kubelet.kubernetes.io")
                || in_domain("node.kubernetes.io");
            (in_domain("kubernetes.io") || in_domain("k8s.io")) && !is_own
        };
        match (self.context.operation, self.old) {
            (Operation::Create, _) => {
                let mut wrong: Vec<String> =
                    labels(self.object).keys().filter(|label| is_forbidden(label)).cloned().collect();
                if !wrong.is_empty() {
                    wrong.sort();
                    return self.refuse(&format!(
                        "node {node:?} is not allowed to set the following labels: {}",
                        wrong.join(", ")
                    ));
                }
                if !list(self.object, &["metadata", "ownerReferences"]).is_empty() {
                    return self.refuse(&format!("node {node:?} is not allowed to set ownerReferences"));
                }
                Ok(())
            }
            (Operation::Update, Some(old)) => {
                if list(self.object, &["spec", "taints"]) != list(old, &["spec", "taints"]) {
                    return self.refuse(&format!("node {node:?} is not allowed to modify taints"));
                }
                let (new, before) = (labels(self.object), labels(old));
                let changed = new.keys().chain(before.keys()).filter(|key| new.get(*key) != before.get(*key));
                let mut wrong: Vec<String> = changed.filter(|label| is_forbidden(label)).cloned().collect();
                if wrong.is_empty() {
                    return Ok(());
                }
                wrong.sort();
                wrong.dedup();
                self.refuse(&format!("is not allowed to modify labels: {}", wrong.join(", ")))
            }
            _ => Ok(()),
        }
    }

    fn token(&self) -> Result<(), Status> {
        let node = self.node;
        let reference = &self.object["spec"]["boundObjectRef"];
        if text(reference, &["apiVersion"]) != "v1" || text(reference, &["kind"]) != "Pod" {
            return self.refuse("node requested token not bound to a pod");
        }
        let name = text(reference, &["name"]);
        let Some(pod) = reader::pod(self.store, self.context.namespace, name)? else {
            return self.refuse(&format!("pods {name:?} not found"));
        };
        if text(reference, &["uid"]) != object::uid(&pod) {
            return self.refuse("the UID in the bound object reference does not match the UID in record");
        }
        if text(&pod, &["spec", "nodeName"]) != node {
            return self.refuse("node requested token bound to a pod scheduled on a different node");
        }
        Ok(())
    }

    fn lease(&self) -> Result<(), Status> {
        let node = self.node;
        if self.context.namespace != "kube-node-lease" {
            return self.refuse("can only access leases in the \"kube-node-lease\" system namespace");
        }
        let name = if self.context.name.is_empty() { object::name(self.object) } else { self.context.name };
        if name == node {
            return Ok(());
        }
        self.refuse("can only access node lease with the same name as the requesting node")
    }

    fn csi_node(&self) -> Result<(), Status> {
        let name = if self.context.name.is_empty() { object::name(self.object) } else { self.context.name };
        if name == self.node {
            return Ok(());
        }
        self.refuse("can only access CSINode with the same name as the requesting node")
    }
}
