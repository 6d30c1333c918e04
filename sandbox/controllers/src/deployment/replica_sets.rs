//! The ReplicaSets of a Deployment: which of them has its template, their revisions and annotations, and how many replicas a change of
//! scale gives to each (pkg/controller/deployment/util/deployment_util.go).

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::shared::hash;
use crate::shared::meta::{Labels, Meta, controller_ref};
use crate::shared::numbers::fenceposts;

/// The label that keeps ReplicaSets of a Deployment apart.
pub const HASH_LABEL: &str = "pod-template-hash";
/// The number of a template in the history of its Deployment.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// How many replicas the Deployment wanted when the ReplicaSet was last scaled.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// And how many it allowed with its surge.
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// The history annotation grows no longer than this (`maxRevHistoryLengthInChars`).
const MAX_HISTORY: usize = 2000;

/// How many replicas a ReplicaSet is to have.
pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// How many pods of it are available.
pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// How many replicas the Deployment is to have.
pub fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Whether it replaces pods one after the other.
pub fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()).is_none_or(|type_| type_ == "RollingUpdate")
}

/// How many pods it may have too many (rolling updates only) and too few.
pub fn limits(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) || desired(deployment) == 0 {
        return (0, 0);
    }
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref())
        .and_then(|strategy| strategy.rolling_update.as_ref());
    let (surge, unavailable) = fenceposts(
        rolling.and_then(|rolling| rolling.max_surge.as_ref()),
        rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
        desired(deployment),
    );
    (surge, unavailable.min(desired(deployment)))
}

/// How many pods it may have at most. The surge is counted also while it has no replicas, as upstream's annotation tells it.
pub fn maximum(deployment: &Deployment) -> i32 {
    desired(deployment).saturating_add(limits(deployment).0)
}

/// Whether two templates are the same but for the hash label.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let labels = |template: &PodTemplateSpec| {
        let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
        labels.remove(HASH_LABEL);
        labels
    };
    let rest = |template: &PodTemplateSpec| {
        template.metadata.as_ref().map(|meta| ObjectMeta {
            labels: None,
            annotations: meta.annotations.clone().filter(|annotations| !annotations.is_empty()),
            creation_timestamp: None,
            ..meta.clone()
        })
    };
    a.spec == b.spec && labels(a) == labels(b) && rest(a).unwrap_or_default() == rest(b).unwrap_or_default()
}

/// The index of the ReplicaSet with the Deployment's template; of several the oldest.
pub fn find_new(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Option<usize> {
    let template = &deployment.spec.as_ref()?.template;
    (0..sets.len())
        .filter(|index| {
            let own = sets[*index].spec.as_ref().and_then(|spec| spec.template.as_ref());
            own.is_some_and(|own| same_template(own, template))
        })
        .min_by_key(|index| (sets[*index].created(), sets[*index].name().to_owned()))
}

/// The revision that a ReplicaSet says it is.
pub fn revision(object: &ReplicaSet) -> i64 {
    object.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn is_copied(annotation: &str) -> bool {
    !matches!(annotation, LAST_APPLIED | REVISION | REVISION_HISTORY | DESIRED | MAXIMUM | ROLLBACK_TO)
}

/// Brings annotations of the new ReplicaSet up to date: those of the Deployment, and the revision; whether they changed
/// (`SetNewReplicaSetAnnotations`).
pub fn annotate_new(deployment: &Deployment, set: &mut ReplicaSet, new_revision: i64, exists: bool) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if is_copied(key) && annotations.get(key) != Some(value) {
            annotations.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = match old.as_deref().map(str::parse::<i64>) {
        None => 0,
        Some(Ok(number)) => number,
        // Somebody wrote something else there: it is left alone.
        Some(Err(_)) => return changed,
    };
    if old_number < new_revision {
        annotations.insert(REVISION.into(), new_revision.to_string());
        if let Some(old) = old {
            remember(annotations, &old);
        }
        changed = true;
    }
    if !exists {
        changed |= annotate_size(deployment, set);
    }
    changed
}

/// Notes a revision that the ReplicaSet had before.
fn remember(annotations: &mut Labels, old: &str) {
    let history = annotations.entry(REVISION_HISTORY.into()).or_default();
    if history.is_empty() {
        *history = old.to_owned();
        return;
    }
    if history.len() + 1 + old.len() > MAX_HISTORY {
        // The oldest goes; a single one that is too long cannot be.
        *history = history.split_once(',').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    }
    history.push(',');
    history.push_str(old);
}

/// Notes how many replicas the Deployment wants and allows; whether that changed (`SetReplicasAnnotations`).
pub fn annotate_size(deployment: &Deployment, set: &mut ReplicaSet) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in [(DESIRED, desired(deployment)), (MAXIMUM, maximum(deployment))] {
        let value = value.to_string();
        if annotations.get(key) != Some(&value) {
            annotations.insert(key.into(), value);
            changed = true;
        }
    }
    changed
}

/// Whether the notes of size are out of date.
pub fn needs_size(deployment: &Deployment, set: &ReplicaSet) -> bool {
    set.annotation(DESIRED) != Some(&desired(deployment).to_string())
        || set.annotation(MAXIMUM) != Some(&maximum(deployment).to_string())
}

/// The ReplicaSet of the Deployment's template, with that size and revision, to be created.
pub fn make_new(deployment: &Deployment, replicas: i32, revision: i64) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::compute(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name())),
            namespace: deployment.metadata.namespace.clone(),
            owner_references: Some(vec![controller_ref("apps/v1", "Deployment", &deployment.metadata)]),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate_new(deployment, &mut set, revision, false);
    Some(set)
}

/// The size that the new ReplicaSet may have now (`NewRSNewReplicas`): `current` is its size, `total` that of all.
pub fn new_size(deployment: &Deployment, total: i32, current: i32) -> i32 {
    if !is_rolling(deployment) {
        return desired(deployment);
    }
    let maximum = maximum(deployment);
    if total >= maximum {
        return current;
    }
    current.saturating_add(maximum.saturating_sub(total).min(desired(deployment).saturating_sub(current)))
}

/// Part of a change of scale that falls to a ReplicaSet (`GetReplicaSetProportion`).
pub fn proportion(set: &ReplicaSet, deployment: &Deployment, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(set, deployment);
    let allowed = to_add.saturating_sub(added);
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

fn fraction(set: &ReplicaSet, deployment: &Deployment) -> i32 {
    if desired(deployment) == 0 {
        return size(set).saturating_neg();
    }
    let base =
        set.annotation(MAXIMUM).and_then(|text| text.parse().ok()).filter(|maximum| *maximum > 0).or_else(
            || deployment.status.as_ref().and_then(|status| status.replicas).filter(|replicas| *replicas > 0),
        );
    let Some(base) = base else { return 0 };
    let exact = f64::from(size(set)) * f64::from(maximum(deployment)) / f64::from(base);
    // Sizes are far below what a float counts exactly.
    #[expect(clippy::cast_possible_truncation, reason = "a float as an integer saturates")]
    let rounded = exact.round() as i32;
    rounded.saturating_sub(size(set))
}
