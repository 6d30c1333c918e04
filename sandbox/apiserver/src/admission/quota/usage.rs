//! What objects take of a quota.

use crate::admission::{Context, Operation};
use drydock_apimachinery::object::{at, int, list, map, text};
use drydock_apimachinery::quantity::{Format, Quantity};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a write takes: resource and how much more than before.
#[derive(Debug, Default)]
pub struct Usage {
    /// By the quota's name for it.
    pub delta: BTreeMap<String, Quantity>,
    kind: Kind,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Only how many there are.
    #[default]
    Count,
    Pod,
    Claim,
    Service,
}

/// Resources that a pod's containers must name if a quota counts them.
const NAMED: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

impl Usage {
    /// Whether an object of this kind takes of a resource.
    pub fn knows(&self, resource: &str) -> bool {
        let is_compute = |name: &str| {
            matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pods")
                || name.starts_with("requests.") && name != "requests.storage"
                || name.starts_with("limits.")
                || name.starts_with("hugepages-")
        };
        self.delta.contains_key(resource)
            || match self.kind {
                Kind::Count => false,
                Kind::Pod => is_compute(resource) && !resource.contains(".storageclass."),
                Kind::Claim => resource == "requests.storage" || resource.contains(".storageclass."),
                Kind::Service => resource.starts_with("services."),
            }
    }

    fn add(&mut self, resource: &str, quantity: Quantity) {
        let sum = self.delta.get(resource).map_or(quantity, |sum| sum.plus(quantity));
        self.delta.insert(resource.into(), sum);
    }

    fn count(&mut self, resource: &str, n: i64) {
        self.add(resource, Quantity::new(n, Format::DecimalSi));
    }
}

/// What a write takes; none: nothing that is counted.
pub fn of(context: &Context<'_>, tree: &Value, old: Option<&Value>) -> Option<Usage> {
    let is_create = context.operation == Operation::Create;
    let measured = |tree: &Value| match (&*context.resource.group, &*context.resource.plural) {
        ("", "pods") => pod(tree),
        ("", "persistentvolumeclaims") => claim(tree),
        ("", "services") => service(tree),
        (group, plural) => other(group, plural),
    };
    let mut usage = measured(tree);
    match (context.operation, old) {
        (Operation::Create, _) => Some(usage),
        // Of these an update can take more.
        (Operation::Update, Some(old)) if matches!(usage.kind, Kind::Claim | Kind::Service) => {
            for (resource, before) in measured(old).delta {
                let now = usage.delta.get(&resource).copied().unwrap_or_default();
                usage.delta.insert(resource, now.minus(before));
            }
            Some(usage)
        }
        _ => is_create.then_some(usage),
    }
}

fn other(group: &str, plural: &str) -> Usage {
    let mut usage = Usage::default();
    match group {
        "" => usage.count(&format!("count/{plural}"), 1),
        group => usage.count(&format!("count/{plural}.{group}"), 1),
    }
    if group.is_empty()
        && matches!(plural, "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas")
    {
        usage.count(plural, 1);
    }
    usage
}

fn claim(tree: &Value) -> Usage {
    let mut usage = Usage { kind: Kind::Claim, ..Usage::default() };
    usage.count("count/persistentvolumeclaims", 1);
    usage.count("persistentvolumeclaims", 1);
    let size = at(tree, &["spec", "resources", "requests", "storage"]).and_then(Quantity::of);
    let size = size.unwrap_or_default();
    usage.add("requests.storage", size);
    let class = text(tree, &["spec", "storageClassName"]);
    if !class.is_empty() {
        let of = |what: &str| format!("{class}.storageclass.storage.k8s.io/{what}");
        usage.add(&of("requests.storage"), size);
        usage.count(&of("persistentvolumeclaims"), 1);
    }
    usage
}

fn service(tree: &Value) -> Usage {
    let mut usage = Usage { kind: Kind::Service, ..Usage::default() };
    usage.count("count/services", 1);
    usage.count("services", 1);
    let ports = list(tree, &["spec", "ports"]);
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let (balancers, nodes) = match text(tree, &["spec", "type"]) {
        "NodePort" => (0, count(ports.len())),
        "LoadBalancer" if tree["spec"]["allocateLoadBalancerNodePorts"] == false => {
            let with = ports.iter().filter(|port| int(port, &["nodePort"]).unwrap_or(0) != 0);
            (1, count(with.count()))
        }
        "LoadBalancer" => (1, count(ports.len())),
        _ => (0, 0),
    };
    usage.count("services.loadbalancers", balancers);
    usage.count("services.nodeports", nodes);
    usage
}

fn pod(tree: &Value) -> Usage {
    let mut usage = Usage { kind: Kind::Pod, ..Usage::default() };
    usage.count("count/pods", 1);
    usage.count("pods", 1);
    for (part, prefix) in [("requests", "requests."), ("limits", "limits.")] {
        for (name, quantity) in total(tree, part) {
            let is_plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
            let is_huge = name.starts_with("hugepages-");
            if part == "requests" {
                usage.add(&format!("{prefix}{name}"), quantity);
                if is_plain || is_huge {
                    usage.add(&name, quantity);
                }
            } else if is_plain {
                usage.add(&format!("{prefix}{name}"), quantity);
            }
        }
    }
    usage
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(container: &Value, part: &str) -> Amounts {
    let all = map(container, &["resources", part]).into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), Quantity::of(value)?))).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        let new = sum.get(name).map_or(*quantity, |sum| sum.plus(*quantity));
        sum.insert(name.clone(), new);
    }
}

/// What all containers take together: init containers run one by one, but those that restart stay beside the others.
fn total(pod: &Value, part: &str) -> Amounts {
    let spec = &pod["spec"];
    let mut running = Amounts::new();
    let mut most = Amounts::new();
    for container in list(spec, &["initContainers"]) {
        let own = amounts(container, part);
        let mut now = running.clone();
        add(&mut now, &own);
        if text(container, &["restartPolicy"]) == "Always" {
            running = now.clone();
        }
        for (name, quantity) in now {
            if most.get(&name).is_none_or(|most| *most < quantity) {
                most.insert(name, quantity);
            }
        }
    }
    for container in list(spec, &["containers"]) {
        add(&mut running, &amounts(container, part));
    }
    for (name, quantity) in most {
        if running.get(&name).is_none_or(|sum| *sum < quantity) {
            running.insert(name, quantity);
        }
    }
    let overhead = map(spec, &["overhead"]).into_iter().flatten();
    let overhead = overhead.filter_map(|(name, value)| Some((name.clone(), Quantity::of(value)?))).collect();
    // Overhead raises limits only where there are some.
    let overhead: Amounts = match part {
        "limits" => {
            let overhead: Amounts = overhead;
            overhead.into_iter().filter(|(name, _)| running.contains_key(name)).collect()
        }
        _ => overhead,
    };
    add(&mut running, &overhead);
    running
}

/// What containers don't say although a quota counts it: `limits.cpu for: a,b; memory for: a`.
pub fn unspecified<'a>(pod: &Value, hard: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut missing = Vec::new();
    let hard: BTreeSet<&str> = hard.filter(|name| NAMED.contains(name)).collect();
    for name in hard {
        let (part, resource) = match name.split_once('.') {
            Some((part, resource)) => (part, resource),
            None => ("requests", name),
        };
        let spec = &pod["spec"];
        let all = list(spec, &["containers"]).iter().chain(list(spec, &["initContainers"]));
        let lacking: BTreeSet<&str> = all
            .filter(|container| at(container, &["resources", part, resource]).is_none())
            .map(|container| text(container, &["name"]))
            .collect();
        if !lacking.is_empty() {
            missing.push(format!("{name} for: {}", lacking.into_iter().collect::<Vec<_>>().join(",")));
        }
    }
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// Whether a scope takes a pod in (`podMatchesScopeFunc`).
pub fn is_in_scope(pod: &Value, scope: &str, operator: &str, values: &[&str]) -> bool {
    match scope {
        "Terminating" => int(pod, &["spec", "activeDeadlineSeconds"]).is_some(),
        "NotTerminating" => int(pod, &["spec", "activeDeadlineSeconds"]).is_none(),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = text(pod, &["spec", "priorityClassName"]);
            match operator {
                "In" => !class.is_empty() && values.contains(&class),
                "NotIn" => !values.contains(&class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
            let kind = &pod["spec"]["affinity"][*kind];
            let preferred = list(kind, &["preferredDuringSchedulingIgnoredDuringExecution"]).iter();
            let required = list(kind, &["requiredDuringSchedulingIgnoredDuringExecution"]).iter();
            preferred
                .map(|term| &term["podAffinityTerm"])
                .chain(required)
                .any(|term| !list(term, &["namespaces"]).is_empty() || !term["namespaceSelector"].is_null())
        }),
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let mut all = list(spec, &["containers"]).iter().chain(list(spec, &["initContainers"]));
    all.all(|container| {
        ["requests", "limits"].iter().all(|part| {
            ["cpu", "memory"].iter().all(|name| {
                let quantity = at(container, &["resources", part, name]).and_then(Quantity::of);
                quantity.is_none_or(Quantity::is_zero)
            })
        })
    })
}
