//! PodSecurity: namespaces say by labels how safe their pods must be; what is not safe enough is refused, or warned of
//! (k8s.io/pod-security-admission). The checks themselves are in `checks`.

mod checks;

use super::{Context, Operation, forbidden, reader};
use drydock_apimachinery::Status;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object::{self, at, list};
use drydock_etcd::Store;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt;

/// Labels that say a level, and of which version.
const ENFORCE: [&str; 2] =
    ["pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/enforce-version"];
const AUDIT: [&str; 2] = ["pod-security.kubernetes.io/audit", "pod-security.kubernetes.io/audit-version"];
const WARN: [&str; 2] = ["pod-security.kubernetes.io/warn", "pod-security.kubernetes.io/warn-version"];

/// Pods of a namespace that are looked at when its level is raised (`defaultNamespaceMaxPodsToCheck`).
const MOST_PODS: usize = 3000;

/// How safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Level {
    /// Anything goes.
    #[default]
    Privileged,
    /// Nothing that is known to lead out of a container.
    Baseline,
    /// As hardening guides recommend.
    Restricted,
}

/// A level, as of a version of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standard<'a> {
    level: Level,
    version: &'a str,
}

impl fmt::Display for Standard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        write!(f, "{level}:{}", self.version)
    }
}

/// What a namespace says.
struct Policy<'a> {
    enforce: Standard<'a>,
    warn: Standard<'a>,
    errors: ErrorList,
}

impl<'a> Policy<'a> {
    /// From the labels. What is not understood is taken as the strictest, so that a slip does not open anything.
    fn of(namespace: &'a Value) -> Self {
        let mut errors = ErrorList::default();
        let labels = object::map(namespace, &["metadata", "labels"]);
        let enforce = standard(labels, ENFORCE, &mut errors, Level::Restricted);
        standard(labels, AUDIT, &mut errors, Level::Privileged);
        let warn = standard(labels, WARN, &mut errors, Level::Privileged);
        Self { enforce, warn, errors }
    }
}

fn standard<'a>(
    labels: Option<&'a Map<String, Value>>,
    [mode, of_version]: [&str; 2],
    errors: &mut ErrorList,
    in_doubt: Level,
) -> Standard<'a> {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let metadata = Path::new("metadata");
    let level = match label(mode) {
        None | Some("privileged") => Level::Privileged,
        Some("baseline") => Level::Baseline,
        Some("restricted") => Level::Restricted,
        Some(other) => {
            errors.invalid(
                &metadata.entry("labels", mode),
                other,
                "must be one of privileged, baseline, restricted",
            );
            in_doubt
        }
    };
    let version = match label(of_version) {
        None | Some("latest") => "latest",
        Some(version) => {
            let minor = version.strip_prefix("v1.").and_then(|minor| minor.parse::<u16>().ok());
            if minor.is_none() {
                errors.invalid(
                    &metadata.entry("labels", of_version),
                    version,
                    "must be \"latest\" or \"v1.x\"",
                );
            }
            minor.map_or("latest", |_| version)
        }
    };
    Standard { level, version }
}

/// Looks at a pod, at something that makes pods, or at a namespace.
pub fn check(
    store: &Store,
    context: &Context<'_>,
    tree: &Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if context.is("", "namespaces") {
        return namespace(store, context, tree, old, warnings);
    }
    let Some(template) = template(context) else { return Ok(()) };
    let is_pod = template.is_empty();
    let ignored = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
    if is_pod && ignored.contains(&context.subresource) || !is_pod && !context.subresource.is_empty() {
        return Ok(());
    }
    let Some(namespace) = reader::get(store, &format!("namespaces/{}", context.namespace))? else {
        return Ok(());
    };
    let policy = Policy::of(&namespace);
    if policy.enforce.level == Level::Privileged && policy.warn.level == Level::Privileged {
        return Ok(());
    }
    let Some(pod) = at(tree, template) else { return Ok(()) };
    if is_pod && context.operation == Operation::Update && !is_significant(pod, old) {
        return Ok(());
    }
    let enforced = if is_pod { violations(&policy.enforce, pod) } else { None };
    if let Some(what) = enforced {
        let why = format!("violates PodSecurity \"{}\": {what}", policy.enforce);
        return Err(forbidden(context, tree, &why));
    }
    if let Some(what) = violations(&policy.warn, pod) {
        warnings.push(format!("would violate PodSecurity \"{}\": {what}", policy.warn));
    }
    Ok(())
}

/// Where in an object its pod is; none: it makes none.
fn template(context: &Context<'_>) -> Option<&'static [&'static str]> {
    match (&*context.resource.group, &*context.resource.plural) {
        ("", "pods") => Some(&[]),
        ("", "podtemplates") => Some(&["template"]),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&["spec", "template"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// Whether an update of a pod can matter (`isSignificantPodUpdate`).
fn is_significant(pod: &Value, old: Option<&Value>) -> bool {
    let Some(old) = old else { return true };
    let relevant = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            for field in ["tolerations", "activeDeadlineSeconds", "schedulingGates", "nodeName"] {
                spec.remove(field);
            }
        }
        (spec, pod["metadata"].get("annotations").cloned())
    };
    relevant(pod) != relevant(old)
}

/// What a pod violates, as one text.
fn violations(standard: &Standard<'_>, pod: &Value) -> Option<String> {
    let found = match standard.level {
        Level::Privileged => return None,
        Level::Baseline => checks::baseline(pod),
        Level::Restricted => checks::restricted(pod),
    };
    let texts: Vec<String> = found.iter().map(|one| format!("{} ({})", one.reason, one.detail)).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// A namespace's labels must be understood; when they get stricter, pods that are there already are told of.
fn namespace(
    store: &Store,
    context: &Context<'_>,
    tree: &Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if !context.subresource.is_empty() {
        return Ok(());
    }
    let new = Policy::of(tree);
    let before = old.map(Policy::of);
    let same_errors = before.as_ref().is_some_and(|before| before.errors == new.errors);
    if !new.errors.is_empty() && !same_errors {
        return Err(Status::invalid(context.resource.group_kind(), object::name(tree), &new.errors));
    }
    let Some(before) = before else { return Ok(()) };
    let is_stricter = new.enforce.level > before.enforce.level
        || new.enforce.version != before.enforce.version && new.enforce.level != Level::Privileged;
    if is_stricter {
        warn_of_pods(store, object::name(tree), &new.enforce, warnings)?;
    }
    Ok(())
}

/// `EvaluatePodsInNamespace`: one warning for each way to violate, with the name of one pod and how many more there are.
fn warn_of_pods(
    store: &Store,
    namespace: &str,
    standard: &Standard<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut seen: HashSet<String> = HashSet::new();
    // One of each controller's pods comes first and names the others (`prioritizePods`).
    let all = reader::once(store, &format!("pods/{namespace}"), MOST_PODS)?;
    let (first, others): (Vec<_>, Vec<_>) = all.iter().partition(|pod| {
        let owner =
            list(pod, &["metadata", "ownerReferences"]).iter().find(|owner| owner["controller"] == true);
        owner.is_none_or(|owner| seen.insert(object::text(owner, &["uid"]).to_string()))
    });
    for pod in first.into_iter().chain(others) {
        let what = match standard.level {
            Level::Privileged => continue,
            Level::Baseline => checks::baseline(pod),
            Level::Restricted => checks::restricted(pod),
        };
        if what.is_empty() {
            continue;
        }
        let what = what.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>().join(", ");
        let name = object::name(pod).to_string();
        match found.iter_mut().find(|(known, _)| *known == what) {
            Some((_, names)) => names.push(name),
            None => found.push((what, vec![name])),
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    warnings.push(format!(
        "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
    ));
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(what, names)| match &names[..] {
            [name] => format!("{name}: {what}"),
            [name, more @ ..] => {
                let plural = if more.len() == 1 { "pod" } else { "pods" };
                format!("{name} (and {} other {plural}): {what}", more.len())
            }
            [] => what,
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    Ok(())
}
