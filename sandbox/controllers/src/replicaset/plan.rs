//! How many pods to make, or which to delete. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::shared::pods::{Ranked, deletion_order, node};

/// No more than so many pods are made or deleted at once (`BurstReplicas`).
pub const BURST: usize = 500;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Nothing.
    Nothing,
    /// So many pods are to be made.
    Create(usize),
    /// These are to be deleted.
    Delete(Vec<Arc<Pod>>),
}

/// What is to be done so that of `active` there are `wanted`. `related`: pods that count when pods on one node are told from pods spread over
/// several (all of the Deployment's).
pub fn plan(active: &[Arc<Pod>], wanted: i32, related: &[Arc<Pod>], now: Timestamp) -> Plan {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    match active.len() {
        count if count < wanted => Plan::Create((wanted - count).min(BURST)),
        count if count > wanted => Plan::Delete(to_delete(active, (count - wanted).min(BURST), related, now)),
        _ => Plan::Nothing,
    }
}

fn to_delete(active: &[Arc<Pod>], count: usize, related: &[Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    if count >= active.len() {
        return active.to_vec();
    }
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related {
        *on_node.entry(node(pod)).or_default() += 1;
    }
    let mut sorted: Vec<&Arc<Pod>> = active.iter().collect();
    let rank = |pod: &Arc<Pod>| on_node.get(node(pod)).copied().unwrap_or(0);
    sorted.sort_by(|a, b| {
        deletion_order(Ranked { pod: a, kin: rank(a) }, Ranked { pod: b, kin: rank(b) }, now)
    });
    sorted.into_iter().take(count).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::meta::Meta;
    use crate::shared::pods::tests::{at, pod};

    #[test]
    fn plans() {
        let pods: Vec<_> = (0..4).map(|n| Arc::new(pod(&format!("p{n}"), "n", "Running", Some(0)))).collect();
        assert_eq!(plan(&pods, 4, &[], at(0)), Plan::Nothing);
        assert_eq!(plan(&pods, 7, &[], at(0)), Plan::Create(3));
        assert_eq!(plan(&pods, 7000, &[], at(0)), Plan::Create(BURST));
        let Plan::Delete(all) = plan(&pods, 0, &[], at(0)) else { panic!("they are too many") };
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn pods_doubled_up_with_siblings_go_first() {
        let mine =
            [Arc::new(pod("a", "n1", "Running", Some(0))), Arc::new(pod("b", "n2", "Running", Some(0)))];
        let siblings = [Arc::new(pod("c", "n2", "Running", Some(0)))];
        let related: Vec<_> = mine.iter().chain(&siblings).cloned().collect();
        let Plan::Delete(first) = plan(&mine, 1, &related, at(10)) else { panic!("there is one too many") };
        assert_eq!(first.iter().map(|pod| pod.name()).collect::<Vec<_>>(), ["b"]);
    }
}
