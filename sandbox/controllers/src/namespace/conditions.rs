//! What the status of a namespace says while it is being deleted (`namespaceConditionUpdater`). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// What was found on a pass over all kinds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Why the kinds could not be found out.
    pub discovery_error: Option<String>,
    /// Why content could not be deleted.
    pub delete_errors: Vec<String>,
    /// Objects that are left, by kind (`pods.`, `deployments.apps`).
    pub remaining: BTreeMap<String, usize>,
    /// Objects with a finalizer, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// How long it may take until what is left is gone, in seconds.
    pub estimate: i64,
}

/// The conditions that a pass gives, in upstream's order: type, whether it is bad, reason, message.
fn judged(pass: &Pass) -> [(&'static str, bool, &'static str, String); 5] {
    let counts = |map: &BTreeMap<String, usize>, verb: &str| {
        let all: Vec<_> =
            map.iter().map(|(name, count)| format!("{name} {verb} {count} resource instances")).collect();
        all.join(", ")
    };
    [
        match &pass.discovery_error {
            Some(error) => ("NamespaceDeletionDiscoveryFailure", true, "DiscoveryFailed", error.clone()),
            None => (
                "NamespaceDeletionDiscoveryFailure",
                false,
                "ResourcesDiscovered",
                "All resources successfully discovered".into(),
            ),
        },
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        if pass.delete_errors.is_empty() {
            (
                "NamespaceDeletionContentFailure",
                false,
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization".into(),
            )
        } else {
            let message = format!(
                "Failed to delete all resource types, {} remaining: {}",
                pass.delete_errors.len(),
                pass.delete_errors.join(", ")
            );
            ("NamespaceDeletionContentFailure", true, "ContentDeletionFailed", message)
        },
        if pass.remaining.is_empty() {
            ("NamespaceContentRemaining", false, "ContentRemoved", "All content successfully removed".into())
        } else {
            let message = format!("Some resources are remaining: {}", counts(&pass.remaining, "has"));
            ("NamespaceContentRemaining", true, "SomeResourcesRemain", message)
        },
        if pass.finalizers.is_empty() {
            (
                "NamespaceFinalizersRemaining",
                false,
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".into(),
            )
        } else {
            let message = format!(
                "Some content in the namespace has finalizers remaining: {}",
                counts(&pass.finalizers, "in")
            );
            ("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", message)
        },
    ]
}

/// Brings the conditions up to date; whether they changed. The time is that of the last change of a condition's status.
pub fn update(conditions: &mut Option<Vec<NamespaceCondition>>, pass: &Pass, now: Timestamp) -> bool {
    let list = conditions.get_or_insert_default();
    let mut changed = false;
    for (type_, bad, reason, message) in judged(pass) {
        let status = if bad { "True" } else { "False" };
        let new = NamespaceCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        };
        match list.iter_mut().find(|condition| condition.type_ == type_) {
            Some(old) if old.status == status && old.reason == new.reason && old.message == new.message => {}
            Some(old) => {
                let since = old.last_transition_time.clone().filter(|_| old.status == status);
                *old = NamespaceCondition {
                    last_transition_time: since.or(new.last_transition_time.clone()),
                    ..new
                };
                changed = true;
            }
            None => {
                list.push(new);
                changed = true;
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_and_then_no_more() {
        let now = Timestamp::UNIX_EPOCH;
        let later = Timestamp::from_second(9).unwrap();
        let pass = Pass {
            remaining: [("pods.".to_owned(), 2)].into(),
            finalizers: [("example.com/wait".to_owned(), 1)].into(),
            ..Pass::default()
        };
        let mut conditions = None;
        assert!(update(&mut conditions, &pass, now));
        assert!(!update(&mut conditions, &pass, later));
        let texts: Vec<_> = conditions
            .iter()
            .flatten()
            .filter(|one| one.status == "True")
            .filter_map(|one| one.message.as_deref())
            .collect();
        assert_eq!(
            texts,
            [
                "Some resources are remaining: pods. has 2 resource instances",
                "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances"
            ]
        );
        assert!(update(&mut conditions, &Pass::default(), later));
        assert!(conditions.iter().flatten().all(|one| one.status == "False"));
        let remaining =
            conditions.iter().flatten().find(|one| one.type_ == "NamespaceContentRemaining").unwrap();
        assert_eq!(remaining.last_transition_time, Some(Time(later)), "its status changed now");
    }
}
