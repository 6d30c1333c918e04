//! All nodes with the pods on them, pods whose binding is only on its way included (scheduler `backend/cache`). Changed by the event
//! loop and by each decision; the plugins read it while nothing changes it, so no snapshot is copied.

use std::collections::HashMap;
use std::sync::Arc;

use drydock_apimachinery::selectors::LabelSelector;
use k8s_openapi::api::core::v1::Node;

use crate::node::{NO_DOMAIN, NodeInfo};
use crate::pod::PodInfo;
use crate::terms::{Labels, selects};

/// Counts of pods by node are kept for as many selectors, and domains of nodes for as many labels: those that pods were last spread by.
/// A pod with more constraints gets more.
const COUNTERS: usize = 16;

struct Placed {
    pod: Arc<PodInfo>,
    node: String,
    /// Decided here, and not yet seen with the API server.
    is_assumed: bool,
}

/// Keeps, on each node, the number of pods of one namespace that one selector takes.
struct Counter {
    namespace: String,
    text: String,
    selector: LabelSelector,
    used: u64,
}

impl Counter {
    fn counts(&self, pod: &PodInfo) -> bool {
        pod.key.namespace == self.namespace && !pod.is_terminating() && selects(&self.selector, pod.labels())
    }
}

/// Numbers the values that a label of nodes has: its domains.
struct Topology {
    key: String,
    domains: HashMap<String, u32>,
    used: u64,
}

impl Topology {
    fn domain(&mut self, node: &NodeInfo) -> u32 {
        let Some(value) = node.node.metadata.labels.as_ref().and_then(|labels| labels.get(&self.key)) else {
            return NO_DOMAIN;
        };
        if let Some(domain) = self.domains.get(value) {
            return *domain;
        }
        let next = u32::try_from(self.domains.len()).unwrap_or(NO_DOMAIN);
        self.domains.insert(value.clone(), next);
        next
    }
}

/// Nodes, pods on nodes, and what is counted of them.
#[derive(Default)]
pub struct Cache {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    /// By uid.
    pods: HashMap<String, Placed>,
    /// On how many nodes each image is.
    images: HashMap<String, usize>,
    namespaces: HashMap<String, Labels>,
    counters: Vec<Counter>,
    topologies: Vec<Topology>,
    /// Counts decisions: what was asked for in the last one is not given up.
    clock: u64,
    /// How many pods care which pods are near: if none does, nobody need look.
    with_affinity: usize,
}

impl Cache {
    /// All nodes, in no particular order.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// Where the node of that name is among [`Cache::nodes`].
    pub fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index(name).map(|index| &self.nodes[index])
    }

    /// True if a pod on some node cares which pods are near.
    pub fn has_affinity(&self) -> bool {
        self.with_affinity > 0
    }

    /// Labels of a namespace.
    pub fn namespace(&self, name: &str) -> Option<Labels> {
        self.namespaces.get(name).cloned()
    }

    /// A namespace has these labels, or is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
    }

    /// On how many nodes an image is.
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// A node is new or has changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        if let Some(index) = self.index(&name) {
            self.count_images(index, false);
            self.nodes[index].update(node);
            self.count_images(index, true);
            self.set_domains(index);
            return;
        }
        let mut info = NodeInfo::new(node);
        info.counts = vec![0; self.counters.len()];
        // Pods may be told before their node is.
        for placed in self.pods.values().filter(|placed| placed.node == name) {
            self.with_affinity += usize::from(placed.pod.has_affinity());
            add_counted(&mut info, &self.counters, placed.pod.clone());
        }
        let index = self.nodes.len();
        self.nodes.push(info);
        self.by_name.insert(name, index);
        self.count_images(index, true);
        self.set_domains(index);
    }

    fn set_domains(&mut self, index: usize) {
        // Values that no node has any more keep their numbers; that must not go on for ever.
        let most = 2 * self.nodes.len() + 64;
        for topology in self.topologies.iter_mut().filter(|topology| topology.domains.len() > most) {
            topology.domains.clear();
        }
        let renewed = self.topologies.iter().any(|topology| topology.domains.is_empty());
        let changed = if renewed { 0..self.nodes.len() } else { index..index + 1 };
        for node in &mut self.nodes[changed] {
            let domains = self.topologies.iter_mut().map(|topology| topology.domain(node)).collect();
            node.domains = domains;
        }
    }

    /// A node is gone. Its pods are remembered until they are told to be gone too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(index) = self.by_name.remove(name) else { return };
        self.count_images(index, false);
        let gone = self.nodes.swap_remove(index);
        self.with_affinity -= gone.with_affinity.len();
        if let Some(moved) = self.nodes.get(index) {
            self.by_name.insert(moved.name.clone(), index);
        }
    }

    fn count_images(&mut self, index: usize, add: bool) {
        for image in self.nodes[index].images.keys() {
            let count = self.images.entry(image.clone()).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.images.remove(image);
            }
        }
    }

    /// A pod is on a node, says the API server.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.uid);
        let node = pod.node().unwrap_or_default().to_owned();
        self.place(pod, node, false);
    }

    /// A pod will be on a node: what it asks for is taken from now on.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.place(pod, node.to_owned(), true);
    }

    /// The binding failed: what was taken is free again.
    pub fn forget(&mut self, uid: &str) {
        if self.pods.get(uid).is_some_and(|placed| placed.is_assumed) {
            self.remove_pod(uid);
        }
    }

    /// A pod is gone, or has ended.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(placed) = self.pods.remove(uid) else { return };
        let Some(index) = self.index(&placed.node) else { return };
        if let Some(pod) = self.nodes[index].remove(uid) {
            self.with_affinity -= usize::from(pod.has_affinity());
            for (number, counter) in self.counters.iter().enumerate() {
                if counter.counts(&pod) {
                    self.nodes[index].counts[number] -= 1;
                }
            }
        }
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: String, is_assumed: bool) {
        if let Some(index) = self.index(&node) {
            self.with_affinity += usize::from(pod.has_affinity());
            add_counted(&mut self.nodes[index], &self.counters, pod.clone());
        }
        self.pods.insert(pod.uid.clone(), Placed { pod, node, is_assumed });
    }

    /// True if the pod is on a node, or is assumed to come.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// A pod that is on a node, and whether it is only assumed to come.
    pub fn pod(&self, uid: &str) -> Option<(Arc<PodInfo>, bool)> {
        self.pods.get(uid).map(|placed| (placed.pod.clone(), placed.is_assumed))
    }

    /// True if a pod of the namespace other than `uid` uses the claim; and the node where it does.
    pub fn user_of_claim(&self, namespace: &str, claim: &str, uid: &str) -> Option<&str> {
        let mut others = self
            .pods
            .values()
            .filter(|placed| placed.pod.key.namespace == namespace && placed.pod.uid != uid);
        others
            .find(|placed| placed.pod.claims.iter().any(|other| other.name == claim))
            .map(|placed| placed.node.as_str())
    }

    /// A decision begins: counters and topologies that are asked for from now on stay until the next one.
    pub fn begin(&mut self) {
        self.clock += 1;
    }

    /// The number of a label's topology: [`NodeInfo::domain`] then gives each node's domain in it.
    pub fn topology(&mut self, key: &str) -> usize {
        if let Some(number) = self.topologies.iter().position(|topology| topology.key == key) {
            self.topologies[number].used = self.clock;
            return number;
        }
        let mut topology = Topology { key: key.to_owned(), domains: HashMap::new(), used: self.clock };
        let domains: Vec<u32> = self.nodes.iter().map(|node| topology.domain(node)).collect();
        let number = free_slot(self.topologies.iter().map(|topology| topology.used), self.clock);
        if number == self.topologies.len() {
            self.topologies.push(topology);
        } else {
            self.topologies[number] = topology;
        }
        for (node, domain) in self.nodes.iter_mut().zip(domains) {
            node.domains.resize(self.topologies.len(), NO_DOMAIN);
            node.domains[number] = domain;
        }
        number
    }

    /// How many domains a topology has, domains without nodes included.
    pub fn domains(&self, topology: usize) -> usize {
        self.topologies.get(topology).map_or(0, |topology| topology.domains.len())
    }

    /// The number of the counter for a selector: [`NodeInfo::counts`] then holds, on each node, how many pods of the namespace it
    /// takes. The counts of a selector that is not known yet are made by looking at every pod once.
    pub fn counter(&mut self, namespace: &str, selector: &LabelSelector) -> usize {
        let text = selector.to_string();
        let is_known = |counter: &Counter| {
            counter.namespace == namespace && counter.text == text && counter.selector == *selector
        };
        if let Some(number) = self.counters.iter().position(is_known) {
            self.counters[number].used = self.clock;
            return number;
        }
        let counter =
            Counter { namespace: namespace.to_owned(), text, selector: selector.clone(), used: self.clock };
        let number = free_slot(self.counters.iter().map(|counter| counter.used), self.clock);
        for node in &mut self.nodes {
            let count = node.pods.iter().filter(|pod| counter.counts(pod)).count();
            node.counts.resize(self.counters.len().max(number + 1), 0);
            node.counts[number] = u32::try_from(count).unwrap_or(u32::MAX);
        }
        if number == self.counters.len() {
            self.counters.push(counter);
        } else {
            self.counters[number] = counter;
        }
        number
    }
}

/// The place that was not used for longest, or a new one while there may be more, or while all are needed.
fn free_slot(used: impl ExactSizeIterator<Item = u64>, now: u64) -> usize {
    let length = used.len();
    let oldest = used.enumerate().filter(|(_, used)| *used < now).min_by_key(|(_, used)| *used);
    if length < COUNTERS { length } else { oldest.map_or(length, |(number, _)| number) }
}

fn add_counted(node: &mut NodeInfo, counters: &[Counter], pod: Arc<PodInfo>) {
    for (number, counter) in counters.iter().enumerate() {
        if counter.counts(&pod) {
            node.counts[number] += 1;
        }
    }
    node.add(pod);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};

    #[test]
    fn a_node_carries_what_its_pods_ask_for_whatever_comes_first() {
        let mut cache = Cache::default();
        cache.set_pod(pod("a").cpu("1").on("n1").build());
        cache.set_node(node("n1").cpu("4").build());
        assert_eq!(cache.node("n1").unwrap().requested.milli_cpu, 1000);
        let b = pod("b").cpu("2").build();
        cache.assume(b.clone(), "n1");
        assert_eq!(cache.node("n1").unwrap().requested.milli_cpu, 3000);
        cache.set_pod(pod("b").cpu("2").on("n1").build());
        assert_eq!(
            cache.node("n1").unwrap().requested.milli_cpu,
            3000,
            "an assumed pod that arrives counts once"
        );
        cache.forget(&b.uid);
        assert_eq!(cache.node("n1").unwrap().requested.milli_cpu, 3000, "and can no longer be forgotten");
        cache.remove_pod(&b.uid);
        cache.remove_node("n1");
        cache.set_node(node("n1").cpu("4").build());
        assert_eq!(cache.node("n1").unwrap().requested.milli_cpu, 1000);
    }

    #[test]
    fn a_pod_that_asks_for_more_than_there_can_be_leaves_nothing_behind() {
        let mut cache = Cache::default();
        cache.set_node(node("n1").cpu("4").build());
        cache.set_pod(pod("small").cpu("1").memory("1Gi").on("n1").build());
        let before = cache.node("n1").unwrap().clone();
        let giant = |name: &str| {
            let pod = pod(name).cpu("9223372036854775807").memory("9223372036854775807").on("n1").build();
            assert!(pod.requests.memory > 1 << 50);
            pod
        };
        let giants = ["a", "b", "c"].map(giant);
        giants.iter().for_each(|pod| cache.set_pod(pod.clone()));
        assert!(cache.node("n1").unwrap().requested.memory > 1 << 52);
        giants.iter().for_each(|pod| cache.remove_pod(&pod.uid));
        let after = cache.node("n1").unwrap();
        assert_eq!((&after.requested, after.non_zero), (&before.requested, before.non_zero));
    }

    #[test]
    fn counters_follow_pods() {
        let mut cache = Cache::default();
        cache.set_node(node("n1").build());
        cache.set_pod(pod("a").label("app", "x").on("n1").build());
        let selector = LabelSelector::parse("app=x").unwrap();
        let number = cache.counter("default", &selector);
        let count = |cache: &Cache| cache.node("n1").unwrap().counts[number];
        assert_eq!(count(&cache), 1);
        cache.set_pod(pod("b").label("app", "x").on("n1").build());
        cache.set_pod(pod("c").label("app", "y").on("n1").build());
        assert_eq!(count(&cache), 2);
        cache.remove_pod("uid-a");
        assert_eq!(count(&cache), 1);
        for other in 0..40 {
            cache.begin();
            cache.counter("default", &LabelSelector::parse(&format!("app=x{other}")).unwrap());
        }
        assert!(cache.counters.len() <= COUNTERS, "counters that nobody asks for are given up");
        let number = cache.counter("default", &selector);
        assert_eq!(cache.node("n1").unwrap().counts[number], 1, "a counter that was given up is made anew");
        let numbers: Vec<usize> = (0..40)
            .map(|other| cache.counter("default", &LabelSelector::parse(&format!("b={other}")).unwrap()))
            .collect();
        assert_eq!(
            numbers.iter().collect::<std::collections::BTreeSet<_>>().len(),
            40,
            "those of one decision are all kept"
        );
    }

    #[test]
    fn domains_follow_nodes() {
        let mut cache = Cache::default();
        for (name, zone) in [("n1", "a"), ("n2", "b"), ("n3", "a")] {
            cache.set_node(node(name).label("zone", zone).build());
        }
        cache.set_node(node("n4").build());
        let zone = cache.topology("zone");
        let domain = |cache: &Cache, name: &str| cache.node(name).unwrap().domain(zone);
        assert_eq!((domain(&cache, "n1"), domain(&cache, "n4")), (domain(&cache, "n3"), None));
        assert_ne!(domain(&cache, "n1"), domain(&cache, "n2"));
        cache.set_node(node("n1").label("zone", "b").build());
        assert_eq!(domain(&cache, "n1"), domain(&cache, "n2"));
        for number in 0..1000 {
            cache.set_node(node("n4").label("zone", &format!("z{number}")).build());
        }
        assert!(cache.domains(zone) < 100, "values that are gone are forgotten");
        assert_eq!(domain(&cache, "n1"), domain(&cache, "n2"));
        assert_ne!(domain(&cache, "n1"), domain(&cache, "n4"));
    }
}
