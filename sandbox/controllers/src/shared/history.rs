//! Revisions of a template, kept as ControllerRevisions: for StatefulSets and DaemonSets (pkg/controller/history). Their content is a patch of the
//! owner, which is what `kubectl rollout undo` sends.

use std::sync::Arc;

use drydock_kubeclient::errors;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::hash::compute;
use super::meta::{Labels, Meta};
use crate::error::Error;

/// The patch that gives an owner that template.
pub fn content(template: &PodTemplateSpec) -> Value {
    // The types of the API are always written.
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Value::Object(fields) = &mut template {
        fields.insert("$patch".into(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

/// The template that a revision gives.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_str(&template.to_string()).ok()
}

/// Whether two revisions give the same.
pub fn same(revision: &ControllerRevision, content: &Value) -> bool {
    revision.data.as_ref().is_some_and(|data| data.0 == *content)
}

/// What a new revision is made of.
#[derive(Debug)]
pub struct Maker<'a> {
    /// Its owner.
    pub owner: &'a ObjectMeta,
    /// The reference to it.
    pub reference: OwnerReference,
    /// The label for the hash.
    pub hash_label: &'static str,
    /// The other labels.
    pub labels: Labels,
}

impl Maker<'_> {
    /// A revision with that content and number.
    pub fn make(&self, content: &Value, number: i64, collisions: Option<i32>) -> ControllerRevision {
        let hash = compute(content, collisions);
        let mut labels = self.labels.clone();
        labels.insert(self.hash_label.into(), hash.clone());
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", self.owner.name())),
                namespace: self.owner.namespace.clone(),
                labels: Some(labels),
                annotations: self.owner.annotations.clone(),
                owner_references: Some(vec![self.reference.clone()]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(content.clone())),
            revision: number,
        }
    }
}

/// Where a revision with a content stands among others.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It is the newest.
    Newest(Arc<ControllerRevision>),
    /// It is there, but older than others: it becomes the newest.
    Older(Arc<ControllerRevision>),
    /// It is not there.
    Missing,
}

/// Where the content stands among revisions, which are sorted by their number on the way.
pub fn standing(revisions: &mut [Arc<ControllerRevision>], content: &Value) -> Standing {
    revisions.sort_by(|a, b| {
        a.revision
            .cmp(&b.revision)
            .then_with(|| a.created().cmp(&b.created()))
            .then_with(|| a.name().cmp(b.name()))
    });
    match revisions.iter().rev().find(|revision| same(revision, content)) {
        Some(found) if revisions.last().is_some_and(|last| Arc::ptr_eq(last, found)) => {
            Standing::Newest(found.clone())
        }
        Some(found) => Standing::Older(found.clone()),
        None => Standing::Missing,
    }
}

/// The number after the highest.
pub fn next_number(revisions: &[Arc<ControllerRevision>]) -> i64 {
    revisions.iter().map(|revision| revision.revision).max().unwrap_or(0).saturating_add(1)
}

/// What came of asking for a revision.
#[derive(Debug)]
pub enum Ensured {
    /// Here it is.
    There(Arc<ControllerRevision>),
    /// Its name is taken by another one: with one more collision counted there is another name.
    Collision,
}

/// Finds or makes the revision of a content, and makes it the newest.
pub async fn ensure(
    client: &Client,
    maker: &Maker<'_>,
    revisions: &mut [Arc<ControllerRevision>],
    content: &Value,
    collisions: Option<i32>,
) -> Result<Ensured, Error> {
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), maker.owner.namespace());
    let standing = standing(revisions, content);
    let number = next_number(revisions);
    match standing {
        Standing::Newest(revision) => Ok(Ensured::There(revision)),
        Standing::Older(revision) => {
            let mut newer = ControllerRevision::clone(&revision);
            newer.revision = number;
            Ok(Ensured::There(Arc::new(api.replace(newer.name(), &PostParams::default(), &newer).await?)))
        }
        Standing::Missing => {
            let new = maker.make(content, number, collisions);
            match api.create(&PostParams::default(), &new).await {
                Ok(made) => Ok(Ensured::There(Arc::new(made))),
                Err(error) if errors::is_already_exists(&error) => {
                    let there = api.get(new.name()).await?;
                    if same(&there, content) && there.controlled_by(maker.owner.uid()) {
                        return Ok(Ensured::There(Arc::new(there)));
                    }
                    Ok(Ensured::Collision)
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// Revisions beyond a limit that nothing uses, oldest first.
pub fn surplus(
    revisions: &[Arc<ControllerRevision>],
    limit: Option<i32>,
    is_live: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Arc<ControllerRevision>> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let mut unused: Vec<_> = revisions.iter().filter(|revision| !is_live(revision)).cloned().collect();
    unused.sort_by_key(|revision| revision.revision);
    let extra = unused.len().saturating_sub(limit);
    unused.truncate(extra);
    unused
}

/// Deletes revisions.
pub async fn delete(client: &Client, revisions: Vec<Arc<ControllerRevision>>) -> Result<(), Error> {
    for revision in revisions {
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), revision.namespace());
        errors::unless_gone(api.delete(revision.name(), &DeleteParams::default()).await)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    use super::super::meta::controller_ref;
    use super::*;

    fn of(image: &str) -> PodTemplateSpec {
        PodTemplateSpec {
            metadata: None,
            spec: Some(PodSpec {
                containers: vec![Container {
                    name: "c".into(),
                    image: Some(image.into()),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
        }
    }

    #[test]
    fn revisions_are_found_by_content_and_give_it_back() {
        let owner = ObjectMeta { name: Some("web".into()), uid: Some("1".into()), ..ObjectMeta::default() };
        let maker = Maker {
            owner: &owner,
            reference: controller_ref("apps/v1", "StatefulSet", &owner),
            hash_label: "controller.kubernetes.io/hash",
            labels: Labels::new(),
        };
        let make = |image, number| Arc::new(maker.make(&content(&of(image)), number, None));
        let mut all = [make("b", 2), make("a", 1)];
        assert_eq!(template(&all[0]), Some(of("b")));
        assert_eq!(standing(&mut all, &content(&of("b"))), Standing::Newest(all[1].clone()));
        assert_eq!(standing(&mut all, &content(&of("a"))), Standing::Older(all[0].clone()));
        assert_eq!(standing(&mut all, &content(&of("c"))), Standing::Missing);
        assert_eq!(next_number(&all), 3);
        let names = |revisions: Vec<Arc<ControllerRevision>>| {
            revisions.iter().map(|one| one.revision).collect::<Vec<_>>()
        };
        assert_eq!(names(surplus(&all, Some(0), |revision| revision.revision == 2)), [1]);
        assert_eq!(names(surplus(&all, Some(1), |_| false)), [1]);
        assert_ne!(maker.make(&content(&of("a")), 1, Some(1)).name(), all[0].name());
    }
}
