//! What the pod and the claims of an ordinal are. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};

use crate::shared::meta::{Meta, controller_ref};
use crate::shared::pods::from_template;

/// The label with a pod's name, for Services of a single pod.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label with a pod's ordinal.
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
/// The label with the revision that a pod is of.
pub const REVISION: &str = "controller-revision-hash";

/// The first ordinal, and how many there are.
pub fn ordinals(set: &StatefulSet) -> std::ops::Range<i32> {
    let spec = set.spec.as_ref();
    let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0);
    start..start.saturating_add(spec.and_then(|spec| spec.replicas).unwrap_or(1))
}

/// The ordinal of a pod of the set; `None`: its name is not of the set.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = pod.name().rsplit_once('-')?;
    let digits = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    (parent == set.name() && digits).then(|| ordinal.parse().ok()).flatten()
}

/// The name of the pod of an ordinal.
pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name())
}

/// The revision that a pod is of.
pub fn revision(pod: &Pod) -> &str {
    pod.label(REVISION).unwrap_or_default()
}

/// The pod of an ordinal, of a revision's template.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let name = pod_name(set, ordinal);
    let owner = controller_ref("apps/v1", "StatefulSet", &set.metadata);
    let mut pod = from_template(template, set.name(), set.namespace(), owner);
    pod.metadata.generate_name = Some(format!("{}-", set.name()));
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.into(), name.clone());
    labels.insert(POD_INDEX.into(), ordinal.to_string());
    labels.insert(REVISION.into(), revision.into());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain =
        set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|name| !name.is_empty());
    let claims = claims(set, ordinal);
    if !claims.is_empty() {
        let volumes = spec.volumes.get_or_insert_default();
        // A template's volume of a claim's name gives way.
        volumes.retain(|volume| !claims.iter().any(|(template, _)| *template == volume.name));
        volumes.extend(claims.into_iter().map(|(template, claim)| Volume {
            name: template,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.name().into(),
                read_only: Some(false),
            }),
            ..Volume::default()
        }));
    }
    pod
}

/// The claims of an ordinal, each with the name of its template.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let spec = set.spec.as_ref();
    let templates = spec.and_then(|spec| spec.volume_claim_templates.as_ref()).into_iter().flatten();
    let selector = spec.and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    templates
        .map(|template| {
            let mut claim = template.clone();
            claim.metadata.name = Some(format!("{}-{}-{ordinal}", template.name(), set.name()));
            claim.metadata.namespace = set.metadata.namespace.clone();
            claim.metadata.labels.get_or_insert_default().extend(selector.clone());
            claim.status = None;
            (template.name().to_owned(), claim)
        })
        .collect()
}
