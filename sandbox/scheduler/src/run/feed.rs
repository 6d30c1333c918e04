//! What the scheduler watches: each change of an object becomes a [`Change`] for the loop. Objects are kept without what no rule looks
//! at, because most of a pod's bytes are of that kind.

use std::sync::Arc;

use drydock_kubeclient::informer::{Event, Object, Source};
use drydock_kubeclient::meta::name;
use drydock_kubeclient::{Informer, Informers, ObjectKey};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use tokio::sync::{Notify, mpsc};

use crate::core::Change;

type Changes = mpsc::UnboundedSender<Change>;

/// Subscribes to everything; the informer of claims, which bindings ask.
pub(super) fn subscribe(
    informers: &Informers,
    changes: &Changes,
    claim_changed: &Arc<Notify>,
) -> Informer<PersistentVolumeClaim> {
    let pods = informers.or_insert(|client| {
        let source = Source::all::<Pod>().fields("status.phase!=Succeeded,status.phase!=Failed");
        Informer::with_transform(client, source, trim_pod)
    });
    on(
        &pods,
        changes,
        |pod, gone| if gone { Change::PodGone(pod.clone()) } else { Change::Pod(pod.clone()) },
    );
    on(&informers.of::<Node>(), changes, |node, gone| {
        if gone { Change::NodeGone(name(&**node).to_owned()) } else { Change::Node(node.clone()) }
    });
    on(&informers.of::<Namespace>(), changes, |namespace, gone| {
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        Change::Namespace(name(&**namespace).to_owned(), (!gone).then_some(labels))
    });
    let claims = informers.of::<PersistentVolumeClaim>();
    on(&claims, changes, |claim, gone| {
        Change::Claim(ObjectKey::of(&**claim), (!gone).then(|| claim.clone()))
    });
    let notify = claim_changed.clone();
    claims.subscribe(move |_| notify.notify_waiters());
    on(&informers.of::<PersistentVolume>(), changes, |volume, gone| {
        Change::Volume(name(&**volume).to_owned(), (!gone).then(|| volume.clone()))
    });
    on(&informers.of::<StorageClass>(), changes, |class, gone| {
        Change::Class(name(&**class).to_owned(), (!gone).then(|| class.clone()))
    });
    on(&informers.of::<ResourceClaim>(), changes, |claim, gone| {
        Change::DeviceClaim(ObjectKey::of(&**claim), (!gone).then(|| claim.clone()))
    });
    on(&informers.of::<DeviceClass>(), changes, |class, gone| {
        Change::DeviceClass(name(&**class).to_owned(), !gone)
    });
    on(&informers.of::<PodDisruptionBudget>(), changes, |budget, gone| {
        Change::Budget(ObjectKey::of(&**budget), (!gone).then(|| budget.clone()))
    });
    subscribe_selectors(informers, changes);
    claims
}

fn subscribe_selectors(informers: &Informers, changes: &Changes) {
    on(&informers.of::<Service>(), changes, |service, gone| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
        Change::Service(ObjectKey::of(&**service), selector.filter(|_| !gone))
    });
    let sets = informers.or_insert(|client| {
        Informer::with_transform(client, Source::all::<ReplicaSet>(), |set: &mut ReplicaSet| {
            set.status = None;
            if let Some(spec) = &mut set.spec {
                spec.template = None;
            }
        })
    });
    on(&sets, changes, |set, gone| {
        owner("ReplicaSet", &**set, gone, set.spec.as_ref().map(|spec| spec.selector.clone()))
    });
    let sets = informers.or_insert(|client| {
        Informer::with_transform(client, Source::all::<StatefulSet>(), |set: &mut StatefulSet| {
            set.status = None;
            if let Some(spec) = &mut set.spec {
                spec.template = Default::default();
                spec.volume_claim_templates = None;
            }
        })
    });
    on(&sets, changes, |set, gone| {
        owner("StatefulSet", &**set, gone, set.spec.as_ref().map(|spec| spec.selector.clone()))
    });
    on(&informers.of::<ReplicationController>(), changes, |controller, gone| {
        let labels = controller.spec.as_ref().and_then(|spec| spec.selector.clone());
        let selector =
            labels.map(|labels| LabelSelector { match_labels: Some(labels), match_expressions: None });
        owner("ReplicationController", &**controller, gone, selector)
    });
}

fn owner<K: Object>(kind: &'static str, object: &K, gone: bool, selector: Option<LabelSelector>) -> Change {
    Change::Owner(kind, ObjectKey::of(object), selector.filter(|_| !gone))
}

fn on<K: Object>(
    informer: &Informer<K>,
    changes: &Changes,
    change: impl Fn(&Arc<K>, bool) -> Change + Send + 'static,
) {
    let changes = changes.clone();
    informer.subscribe(move |event| {
        let gone = matches!(event, Event::Deleted(_));
        // The loop is gone only when the component ends.
        let _ = changes.send(change(event.object(), gone));
    });
}

fn trim_pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        spec.ephemeral_containers = None;
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            *container = Container {
                name: std::mem::take(&mut container.name),
                image: container.image.take(),
                ports: container.ports.take(),
                resources: container.resources.take(),
                restart_policy: container.restart_policy.take(),
                ..Container::default()
            };
        }
        for volume in spec.volumes.iter_mut().flatten() {
            volume.projected = None;
            volume.config_map = None;
            volume.secret = None;
            volume.downward_api = None;
        }
    }
    if let Some(status) = &mut pod.status {
        status.ephemeral_container_statuses = None;
        // What containers have matters where it is not what they ask for.
        let mut conditions = status.conditions.iter().flatten();
        let resized = conditions.any(|condition| condition.type_.starts_with("PodResize"));
        for list in [&mut status.container_statuses, &mut status.init_container_statuses] {
            match list.take().filter(|_| resized) {
                Some(statuses) => {
                    let trim = |status: ContainerStatus| ContainerStatus {
                        name: status.name,
                        resources: status.resources,
                        allocated_resources: status.allocated_resources,
                        ..ContainerStatus::default()
                    };
                    *list = Some(statuses.into_iter().map(trim).collect());
                }
                None => *list = None,
            }
        }
    }
}
