//! Claims, volumes and storage classes as the scheduler sees them, and what must be done to give a pod its volumes on a node (scheduler
//! `plugins/volumebinding/binder.go`). Filled by the event loop; the VolumeBinding plugin asks it what is possible, the binding task
//! does it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use drydock_apimachinery::quantity::Quantity;
use drydock_kubeclient::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::node::NodeInfo;
use crate::terms::{NodeTerm, selector, selects};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The node that a claim's volume is to be made for.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What is to be done for a claim before its pod can be bound.
#[derive(Clone, Debug)]
pub enum Step {
    /// Bind this volume to it.
    Bind {
        /// The volume.
        volume: Arc<PersistentVolume>,
        /// The claim.
        claim: Arc<PersistentVolumeClaim>,
    },
    /// Have a volume made for it on the pod's node.
    Provision {
        /// The claim.
        claim: Arc<PersistentVolumeClaim>,
    },
}

/// Everything known of storage.
#[derive(Default)]
pub struct Volumes {
    claims: HashMap<ObjectKey, Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: HashMap<String, Arc<StorageClass>>,
    /// Volumes that are given to claims, whose binding is on its way.
    assumed: HashMap<String, ObjectKey>,
}

/// Where a claim stands.
pub(crate) enum ClaimPhase {
    /// Its volume; none if that is gone.
    Bound(Option<Arc<PersistentVolume>>),
    /// Its volume comes with its first pod.
    Waiting,
    /// Its volume comes without any pod, and has not come yet.
    Pending,
}

impl Volumes {
    /// A claim is as it is, or gone.
    pub fn set_claim(&mut self, key: ObjectKey, claim: Option<Arc<PersistentVolumeClaim>>) {
        match claim {
            Some(claim) => self.claims.insert(key, claim),
            None => self.claims.remove(&key),
        };
    }

    /// A volume is as it is, or gone.
    pub fn set_volume(&mut self, name: &str, volume: Option<Arc<PersistentVolume>>) {
        // What the API server says takes the place of what was assumed once it knows a claim.
        if volume
            .as_ref()
            .is_none_or(|volume| volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some()))
        {
            self.assumed.remove(name);
        }
        match volume {
            Some(volume) => self.volumes.insert(name.to_owned(), volume),
            None => self.volumes.remove(name),
        };
    }

    /// A class is as it is, or gone.
    pub fn set_class(&mut self, name: &str, class: Option<Arc<StorageClass>>) {
        match class {
            Some(class) => self.classes.insert(name.to_owned(), class),
            None => self.classes.remove(name),
        };
    }

    /// The claim of that name.
    pub fn claim(&self, key: &ObjectKey) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(key)
    }

    /// The volumes of these steps are taken.
    pub fn assume(&mut self, steps: &[Step]) {
        for step in steps {
            if let Step::Bind { volume, claim } = step {
                self.assumed
                    .insert(volume.metadata.name.clone().unwrap_or_default(), ObjectKey::of(&**claim));
            }
        }
    }

    /// The volumes of these steps are free again.
    pub fn forget(&mut self, steps: &[Step]) {
        for step in steps {
            if let Step::Bind { volume, .. } = step {
                self.assumed.remove(volume.metadata.name.as_deref().unwrap_or_default());
            }
        }
    }

    pub(crate) fn phase(&self, claim: &PersistentVolumeClaim) -> ClaimPhase {
        let volume =
            claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
        if let Some(name) = volume {
            let is_complete = claim
                .metadata
                .annotations
                .as_ref()
                .is_some_and(|annotations| annotations.contains_key(BIND_COMPLETED));
            return if is_complete {
                ClaimPhase::Bound(self.volumes.get(name).cloned())
            } else {
                ClaimPhase::Pending
            };
        }
        let waits = self
            .class(claim)
            .is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        if waits { ClaimPhase::Waiting } else { ClaimPhase::Pending }
    }

    fn class(&self, claim: &PersistentVolumeClaim) -> Option<&Arc<StorageClass>> {
        let name = claim.spec.as_ref()?.storage_class_name.as_ref()?;
        self.classes.get(name)
    }

    /// What must be done so that all claims get their volumes on the node; none: it cannot be done.
    pub(crate) fn plan(&self, claims: &[Arc<PersistentVolumeClaim>], node: &NodeInfo) -> Option<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::new();
        for claim in claims {
            let selected =
                claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(SELECTED_NODE));
            if let Some(selected) = selected {
                if *selected != node.name {
                    return None;
                }
                steps.push(Step::Provision { claim: claim.clone() });
            } else if let Some(volume) = self.matching(claim, node, &steps) {
                steps.push(Step::Bind { volume, claim: claim.clone() });
            } else if self.can_provision(claim, node) {
                steps.push(Step::Provision { claim: claim.clone() });
            } else {
                return None;
            }
        }
        Some(steps)
    }

    /// The smallest free volume that will do for the claim (`volume.FindMatchingVolume`).
    fn matching(
        &self,
        claim: &PersistentVolumeClaim,
        node: &NodeInfo,
        taken: &[Step],
    ) -> Option<Arc<PersistentVolume>> {
        let key = ObjectKey::of(claim);
        let is_taken = |name: &str| {
            let by_step = |step: &Step| matches!(step, Step::Bind { volume, .. } if volume.metadata.name.as_deref() == Some(name));
            self.assumed.get(name).is_some_and(|other| *other != key) || taken.iter().any(by_step)
        };
        let candidates = self
            .volumes
            .iter()
            .filter(|(name, volume)| !is_taken(name) && serves(volume, claim) && reaches(volume, node));
        candidates.min_by_key(|(_, volume)| capacity(volume)).map(|(_, volume)| volume.clone())
    }

    fn can_provision(&self, claim: &PersistentVolumeClaim, node: &NodeInfo) -> bool {
        let Some(class) = self.class(claim) else { return false };
        if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER {
            return false;
        }
        let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
        topologies.is_empty()
            || topologies.iter().any(|term| {
                let mut expressions = term.match_label_expressions.iter().flatten();
                expressions.all(|expression| {
                    node.labels().get(&expression.key).is_some_and(|value| expression.values.contains(value))
                })
            })
    }
}

fn amount(quantity: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> i64 {
    quantity.and_then(|quantity| quantity.0.parse::<Quantity>().ok()).map_or(0, Quantity::value)
}

fn capacity(volume: &PersistentVolume) -> i64 {
    amount(
        volume
            .spec
            .as_ref()
            .and_then(|spec| spec.capacity.as_ref())
            .and_then(|capacity| capacity.get("storage")),
    )
}

/// True if the volume is free (or kept for this claim) and has what the claim asks for.
fn serves(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let key = ObjectKey::of(claim);
    let is_free = match &has.claim_ref {
        Some(kept) => {
            kept.name.as_deref() == Some(&key.name)
                && kept.namespace.as_deref() == Some(&key.namespace)
                && kept
                    .uid
                    .as_ref()
                    .is_none_or(|uid| uid.is_empty() || claim.metadata.uid.as_ref() == Some(uid))
        }
        None => volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available"),
    };
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let asked = wants
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref())
        .and_then(|requests| requests.get("storage"));
    let block = |mode: Option<&String>| mode.is_some_and(|mode| mode == "Block");
    is_free
        && volume.metadata.deletion_timestamp.is_none()
        && has.storage_class_name.as_deref().unwrap_or_default()
            == wants.storage_class_name.as_deref().unwrap_or_default()
        && wants.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && block(has.volume_mode.as_ref()) == block(wants.volume_mode.as_ref())
        && capacity(volume) >= amount(asked)
        && wants.selector.as_ref().is_none_or(|wanted| {
            let labels = volume.metadata.labels.clone().unwrap_or_default();
            selects(&selector(Some(wanted)), &labels)
        })
}

/// True if the node can have the volume (`CheckNodeAffinity`).
pub(crate) fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref())
        .and_then(|affinity| affinity.required.as_ref());
    affinity.is_none_or(|required| {
        let mut terms = required.node_selector_terms.iter().filter_map(NodeTerm::of);
        terms.any(|term| term.matches(&node.name, node.labels()))
    })
}
