//! Through which of its networks a container reaches the outside, and through which its published ports lead.

use crate::{Endpoint, networks::State};

/// The endpoints with a container's default routes, one a family.
#[derive(Debug, Clone, Default)]
pub(crate) struct WaysOut {
    pub ipv4: Option<Endpoint>,
    pub ipv6: Option<Endpoint>,
}

impl WaysOut {
    /// Not internal, then by priority, then by the network's name.
    pub fn of(state: &State, container: &str) -> Self {
        let choose = |leads_out: fn(&Endpoint) -> bool| {
            let candidates = state.endpoints_of(container).filter(|e| e.plugged && leads_out(e));
            candidates
                .min_by(|a, b| {
                    let by_priority = b.gateway_priority.cmp(&a.gateway_priority);
                    by_priority.then_with(|| a.network_name.cmp(&b.network_name))
                })
                .cloned()
        };
        Self {
            ipv4: choose(|endpoint| endpoint.gateway.is_some()),
            ipv6: choose(|endpoint| endpoint.ipv6.as_ref().is_some_and(|ipv6| ipv6.gateway.is_some())),
        }
    }
}

/// Leads published ports to the endpoints with the default routes, which it answers.
pub(crate) fn set_target(state: &State, container: &str) -> WaysOut {
    let ways = WaysOut::of(state, container);
    if let Some(known) = state.containers.get(container) {
        let ipv6 = ways.ipv6.as_ref().and_then(|endpoint| endpoint.ipv6.as_ref());
        known
            .target
            .set(ways.ipv4.as_ref().and_then(|endpoint| endpoint.address), ipv6.map(|ipv6| ipv6.address));
    }
    ways
}
