//! Claims of devices as the scheduler sees them (scheduler `plugins/dynamicresources`). No driver offers any device here, so a claim that
//! nobody has allocated cannot be; what is told of it is upstream's.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use drydock_kubeclient::ObjectKey;
use k8s_openapi::api::resource::v1::{DeviceRequest, ResourceClaim};

use crate::node::NodeInfo;
use crate::plugins::{Cycle, Plugin, Refusal, Rejection, Verdict};
use crate::pod::PodInfo;

/// Everything known of devices.
#[derive(Default)]
pub struct Devices {
    claims: HashMap<ObjectKey, Arc<ResourceClaim>>,
    classes: BTreeSet<String>,
}

/// What is to be done about the claims of a pod.
#[derive(Clone, Copy, Default)]
pub(crate) struct DeviceState {
    /// Some are not allocated.
    pub(crate) must_allocate: bool,
}

impl Devices {
    /// A claim is as it is, or gone.
    pub fn set_claim(&mut self, key: ObjectKey, claim: Option<Arc<ResourceClaim>>) {
        match claim {
            Some(claim) => self.claims.insert(key, claim),
            None => self.claims.remove(&key),
        };
    }

    /// A class is there, or gone.
    pub fn set_class(&mut self, name: String, is_there: bool) {
        if is_there {
            self.classes.insert(name);
        } else {
            self.classes.remove(&name);
        }
    }

    /// Whether all claims of a pod are there (`PreEnqueue`): until then nobody looks at it.
    pub fn are_there(&self, pod: &PodInfo) -> bool {
        self.of(pod).is_ok()
    }

    /// `foreachPodResourceClaim`.
    fn of(&self, pod: &PodInfo) -> Result<Vec<&ResourceClaim>, String> {
        let mut claims = Vec::new();
        for one in pod.spec().resource_claims.iter().flatten() {
            let Some(name) = name(pod, &one.name, one.resource_claim_name.as_deref())? else { continue };
            let key = ObjectKey::new(&pod.key.namespace, name);
            let Some(claim) = self.claims.get(&key) else {
                return Err(format!("could not find ResourceClaim \"{key}\""));
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("resourceclaim {name:?} is being deleted"));
            }
            claims.push(&**claim);
        }
        Ok(claims)
    }
}

/// The name of a pod's claim; none: it needs none after all. A claim that is made from a template has a name once it is made.
fn name<'p>(pod: &'p PodInfo, of: &str, given: Option<&'p str>) -> Result<Option<&'p str>, String> {
    if given.is_some() {
        return Ok(given);
    }
    let statuses = pod.pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
    let made = statuses.unwrap_or_default().iter().find(|status| status.name == of);
    let made = made.ok_or_else(|| format!("pod \"{}\": ResourceClaim not created yet", pod.key))?;
    Ok(made.resource_claim_name.as_deref())
}

/// The classes that a request names, each with the name of the request.
fn classes(request: &DeviceRequest) -> impl Iterator<Item = (String, &str)> {
    let exactly = request.exactly.iter().map(|one| (request.name.clone(), one.device_class_name.as_str()));
    let alternatives = request.first_available.iter().flatten().map(|one| {
        let name = format!("{}/{}", request.name, one.name);
        (name, one.device_class_name.as_str())
    });
    exactly.chain(alternatives)
}

/// `PreFilter`.
pub(crate) fn prepare(pod: &PodInfo, devices: &Devices) -> Result<DeviceState, Refusal> {
    let refuse = |message| Refusal { plugin: Plugin::DynamicResources, message };
    let claims = devices.of(pod).map_err(refuse)?;
    let is_allocated =
        |claim: &ResourceClaim| claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
    let mut state = DeviceState::default();
    for claim in claims.into_iter().filter(|claim| !is_allocated(claim)) {
        state.must_allocate = true;
        let requests = claim.spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten());
        let mut unknown = requests.flat_map(classes).filter(|(_, class)| !devices.classes.contains(*class));
        if let Some((request, class)) = unknown.next() {
            return Err(refuse(format!("request {request}: device class {class} does not exist")));
        }
    }
    Ok(state)
}

pub(crate) fn filter(_: &Cycle<'_>, _: &NodeInfo) -> Verdict {
    Err(Rejection::new(Plugin::DynamicResources, true, "cannot allocate all claims"))
}
