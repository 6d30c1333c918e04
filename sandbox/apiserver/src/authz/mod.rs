//! Who may do what. The router asks it once per request, handlers ask again for what a request implies (an update that creates).

pub mod escalation;
mod node;
pub mod policy;
mod rbac;
mod rules;

pub use node::name_of as node_of;
pub use rules::Rule;

use crate::authn::User;
use crate::http::RequestInfo;
use drydock_apimachinery::Status;
use drydock_etcd::Store;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a User,
    /// Such as `get`.
    pub verb: &'a str,
    /// False: `path` counts, and what follows it does not.
    pub is_resource: bool,
    /// Such as `/healthz`.
    pub path: &'a str,
    /// Empty: core.
    pub group: &'a str,
    /// Such as `v1`.
    pub version: &'a str,
    /// Such as `pods`.
    pub resource: &'a str,
    /// Such as `log`.
    pub subresource: &'a str,
    /// Empty: all, or none.
    pub namespace: &'a str,
    /// Empty: all, or not known.
    pub name: &'a str,
}

impl<'a> Attributes<'a> {
    /// Of a request.
    pub fn of(user: &'a User, info: &'a RequestInfo) -> Self {
        Self {
            user,
            verb: info.verb,
            is_resource: info.is_resource,
            path: &info.path,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
        }
    }

    /// The refusal (`pkg/endpoints/handlers/responsewriters/errors.go`).
    pub fn forbidden(&self, reason: &str) -> Status {
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let of = drydock_apimachinery::status::GroupResource { group: self.group, resource: self.resource };
        if !self.is_resource {
            let why = format!("User {:?} cannot {} path {:?}{because}", self.user.name, self.verb, self.path);
            return Status::failure(403, "Forbidden", format!("forbidden: {why}")).about(of, "");
        }
        let resource = match self.subresource {
            "" => self.resource.to_string(),
            sub => format!("{}/{sub}", self.resource),
        };
        let place = match self.namespace {
            "" => "at the cluster scope".to_string(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let why = format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {place}{because}",
            self.user.name, self.verb, self.group
        );
        Status::forbidden(of, self.name, &why)
    }
}

/// What one who decides says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes, for this reason (empty: none is told).
    Allow(String),
    /// Nothing; perhaps another one does. With a reason that is told if nobody says yes.
    NoOpinion(String),
}

impl Decision {
    /// True if it is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// All who decide, asked in this order until one allows it: the group of masters, nodes, roles.
#[derive(Debug)]
pub struct Authorizer {
    allows_all: bool,
    nodes: Option<Mutex<node::Nodes>>,
    rbac: Option<Mutex<rbac::Rbac>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is an index that follows the store; at worst it is a step behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Authorizer {
    /// With these modes (`--authorization-mode`).
    pub fn new(store: &Store, modes: &[String]) -> Self {
        let has = |mode: &str| modes.iter().any(|one| one == mode);
        Self {
            allows_all: has("AlwaysAllow"),
            nodes: has("Node").then(|| Mutex::new(node::Nodes::new(store.clone()))),
            rbac: has("RBAC").then(|| Mutex::new(rbac::Rbac::new(store.clone()))),
        }
    }

    /// Whether somebody may do something, and why.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        if self.allows_all || attributes.user.is_in("system:masters") {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        let nodes = self.nodes.as_ref().map(|nodes| lock(nodes).decide(attributes));
        match nodes {
            Some(Decision::NoOpinion(reason)) => reasons.push(reason),
            Some(allowed) => return allowed,
            None => {}
        }
        match self.rbac.as_ref().map(|rbac| lock(rbac).decide(attributes)) {
            Some(Decision::NoOpinion(reason)) => reasons.push(reason),
            Some(allowed) => return allowed,
            None => {}
        }
        reasons.retain(|reason| !reason.is_empty());
        Decision::NoOpinion(reasons.join("\n"))
    }

    /// A refusal, or nothing.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        match self.decide(attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
        }
    }

    /// Whether roles count.
    pub fn has_rbac(&self) -> bool {
        self.rbac.is_some()
    }

    /// All rules that roles give somebody in a namespace (empty: in the cluster).
    pub fn rules_of(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.rbac.as_ref().map(|rbac| lock(rbac).rules_of(user, namespace)).unwrap_or_default()
    }

    /// The rules of a role that is referred to from a namespace.
    pub fn role(&self, namespace: &str, kind: &str, name: &str) -> Option<Arc<[Rule]>> {
        lock(self.rbac.as_ref()?).role(namespace, kind, name)
    }
}

#[cfg(test)]
mod tests;
