//! What is to become of an object, given what its owners are (`attemptToDeleteItem`). Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::graph::{FOREGROUND, ORPHAN};

/// What an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It exists.
    Solid,
    /// It does not (or another object has its name).
    Dangling,
    /// It is being deleted and waits for its dependents.
    Waiting,
}

/// How an object is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// At once; its dependents follow.
    Background,
    /// After its dependents.
    Foreground,
    /// Its dependents stay.
    Orphan,
}

/// What is to be done with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: an owner holds it and all references are right.
    Keep,
    /// An owner holds it; references to these uids are to be taken away.
    Forget(Vec<String>),
    /// It is to be deleted. With `unblock`, first its own references must stop holding up their owners: there is a ring.
    Delete {
        /// How.
        propagation: Propagation,
        /// See above.
        unblock: bool,
    },
}

/// What is to be done with an object of these owners. `has_dependents`: something depends on it. `dependents_wait`: and one of those is itself
/// waiting for its dependents. `finalizers`: its own.
pub fn decide(
    owners: &[(OwnerReference, Owner)],
    has_dependents: bool,
    dependents_wait: bool,
    finalizers: &[String],
) -> Decision {
    if owners.is_empty() {
        return Decision::Keep;
    }
    let uids = |wanted: fn(Owner) -> bool| -> Vec<String> {
        owners
            .iter()
            .filter(|(_, owner)| wanted(*owner))
            .map(|(reference, _)| reference.uid.clone())
            .collect()
    };
    if owners.iter().any(|(_, owner)| *owner == Owner::Solid) {
        let others = uids(|owner| owner != Owner::Solid);
        return if others.is_empty() { Decision::Keep } else { Decision::Forget(others) };
    }
    let waiting = owners.iter().any(|(_, owner)| *owner == Owner::Waiting);
    if waiting && has_dependents {
        return Decision::Delete { propagation: Propagation::Foreground, unblock: dependents_wait };
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    let propagation = if has(ORPHAN) {
        Propagation::Orphan
    } else if has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    Decision::Delete { propagation, unblock: false }
}

/// References without those owners.
pub fn without(references: &[OwnerReference], owners: &[String]) -> Vec<OwnerReference> {
    references.iter().filter(|reference| !owners.contains(&reference.uid)).cloned().collect()
}

/// References that hold up no owner.
pub fn unblocked(references: &[OwnerReference]) -> Vec<OwnerReference> {
    references
        .iter()
        .cloned()
        .map(|reference| OwnerReference { block_owner_deletion: Some(false), ..reference })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        use Owner::{Dangling, Solid, Waiting};
        let background = Decision::Delete { propagation: Propagation::Background, unblock: false };
        let foreground = |unblock| Decision::Delete { propagation: Propagation::Foreground, unblock };
        type Case<'a> = (&'a [Owner], bool, bool, &'a [&'a str], Decision);
        let cases: [Case; 10] = [
            (&[], true, false, &[], Decision::Keep),
            (&[Solid], true, false, &[], Decision::Keep),
            (&[Solid, Dangling], false, false, &[], Decision::Forget(vec!["1".into()])),
            (&[Solid, Waiting], false, false, &[], Decision::Forget(vec!["1".into()])),
            (&[Dangling], false, false, &[], background.clone()),
            (&[Dangling], true, false, &[], background.clone()),
            (&[Waiting], false, false, &[], background),
            (&[Waiting], true, false, &[], foreground(false)),
            (&[Waiting, Dangling], true, true, &[], foreground(true)),
            (
                &[Dangling],
                true,
                false,
                &[ORPHAN],
                Decision::Delete { propagation: Propagation::Orphan, unblock: false },
            ),
        ];
        for (owners, has_dependents, wait, finalizers, expected) in cases {
            let owners: Vec<_> = owners
                .iter()
                .enumerate()
                .map(|(index, owner)| {
                    (OwnerReference { uid: index.to_string(), ..OwnerReference::default() }, *owner)
                })
                .collect();
            let finalizers: Vec<_> = finalizers.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(decide(&owners, has_dependents, wait, &finalizers), expected, "{owners:?}");
        }
    }
}
