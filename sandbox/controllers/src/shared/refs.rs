//! Whether a controller owns, adopts or releases an object, by owner reference and labels
//! (k8s.io/kubernetes/pkg/controller/controller_ref_manager.go).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::meta::{Meta, selects};

/// What an object is to a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Own,
    /// It is nobody's and has our labels: to be made ours.
    Adopt,
    /// It is ours and has our labels no more: to be let go.
    Release,
    /// It is none of our business.
    Ignore,
}

/// What `object` is to the owner.
pub fn claim(owner: &ObjectMeta, selector: &LabelSelector, object: &impl Meta) -> Claim {
    let matches = selects(selector, object.labels());
    match object.controller() {
        Some(reference) if reference.uid != owner.uid() => Claim::Ignore,
        Some(_) if matches => Claim::Own,
        Some(_) if owner.deleting() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner.deleting() || !matches || object.deleting() => Claim::Ignore,
        None if owner.namespace() != object.namespace() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The strategic merge patch that makes an object ours.
pub fn adoption(owner: &OwnerReference, uid: &str) -> Value {
    json!({"metadata": {"ownerReferences": [owner], "uid": uid}})
}

/// The strategic merge patch that lets an object go.
pub fn release(owner_uid: &str, uid: &str) -> Value {
    json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": owner_uid}], "uid": uid}})
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::super::meta::controller_ref;
    use super::*;

    fn object(labels: &[(&str, &str)], owner: Option<&ObjectMeta>, deleting: bool) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("default".into()),
            labels: Some(labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()),
            owner_references: owner.map(|owner| vec![controller_ref("apps/v1", "ReplicaSet", owner)]),
            deletion_timestamp: deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    /// The cases of upstream's `TestClaimPods`.
    #[test]
    fn claims() {
        let ours =
            ObjectMeta { uid: Some("1".into()), namespace: Some("default".into()), ..ObjectMeta::default() };
        let other = ObjectMeta { uid: Some("2".into()), ..ours.clone() };
        let going = ObjectMeta { deletion_timestamp: Some(Time(Timestamp::UNIX_EPOCH)), ..ours.clone() };
        let selector = LabelSelector {
            match_labels: Some([("app".to_owned(), "web".to_owned())].into()),
            match_expressions: None,
        };
        let web = &[("app", "web")][..];
        let db = &[("app", "db")][..];
        for (owner, what, expected) in [
            (&ours, object(web, Some(&ours), false), Claim::Own),
            (&ours, object(web, None, false), Claim::Adopt),
            (&ours, object(web, None, true), Claim::Ignore),
            (&ours, object(db, None, false), Claim::Ignore),
            (&ours, object(db, Some(&ours), false), Claim::Release),
            (&ours, object(web, Some(&other), false), Claim::Ignore),
            (&going, object(web, None, false), Claim::Ignore),
            (&going, object(web, Some(&going), false), Claim::Own),
            (&going, object(db, Some(&going), false), Claim::Ignore),
        ] {
            assert_eq!(claim(owner, &selector, &what), expected, "{what:?}");
        }
    }
}
