//! Capabilities (capabilities(7)).

use crate::{Result, error::Context};
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

/// What root in a node does not have, although it is root of its user namespace. Most of these would mean nothing there
/// (the kernel asks for them in the host's namespace); taking them away shows the learner the truth, and `SYS_RESOURCE`
/// would let a node raise its own limits (rlimits, `user.max_*` sysctls).
const DENIED: [CapabilitySet; 13] = [
    CapabilitySet::SYS_RESOURCE,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYS_PACCT,
    CapabilitySet::SYS_TIME,
    CapabilitySet::SYSLOG,
    CapabilitySet::WAKE_ALARM,
    CapabilitySet::BLOCK_SUSPEND,
    CapabilitySet::MAC_ADMIN,
    CapabilitySet::MAC_OVERRIDE,
    CapabilitySet::BPF,
    CapabilitySet::PERFMON,
    CapabilitySet::CHECKPOINT_RESTORE,
];

/// Takes from this process, and from all that it will start, what root in a node shall not have.
pub fn limit_node() -> Result<()> {
    for capability in DENIED {
        remove_capability_from_bounding_set(capability).step(|| format!("drop {capability:?}"))?;
    }
    let keep = CapabilitySet::all().difference(DENIED.into_iter().collect());
    let keep = keep.intersection(known());
    set(keep)
}

/// Takes everything from this process but what the session process needs: port 53 and signals to the nodes.
pub fn limit_session_process() -> Result<()> {
    let keep = CapabilitySet::NET_BIND_SERVICE | CapabilitySet::KILL;
    for capability in known().difference(keep).iter() {
        remove_capability_from_bounding_set(capability).step(|| format!("drop {capability:?}"))?;
    }
    set(keep)
}

/// Drops every capability but `SYS_ADMIN`, as the last step before `unshare(CLONE_NEWUSER)`.
pub(crate) fn keep_only_sys_admin() -> Result<()> {
    set(CapabilitySet::SYS_ADMIN)
}

/// The capabilities that this kernel has.
fn known() -> CapabilitySet {
    CapabilitySet::all()
        .iter()
        .filter(|c| rustix::thread::capability_is_in_bounding_set(*c).unwrap_or(false))
        .collect()
}

fn set(keep: CapabilitySet) -> Result<()> {
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).step(|| "set capabilities")
}
