//! Writes the slices of Services with a selector.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, Index, ObjectKey, Recorder, errors};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use super::control::{queue, selected, selector};
use super::legacy::rfc3339;
use super::pods::TRIGGER;
use super::slices::{CONTROLLER, Changes, MANAGED_BY, SERVICE_NAME, changes, wanted};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::{Error, text};
use crate::shared::meta::Meta;

struct Controller {
    client: Client,
    services: Informer<Service>,
    slices: Index<EndpointSlice>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    recorder: Recorder,
}

/// Slices of a manager, by namespace and Service.
pub fn by_service(informer: &Informer<EndpointSlice>, manager: &'static str) -> Index<EndpointSlice> {
    informer.index(move |slice| match slice.label(SERVICE_NAME) {
        Some(service) if slice.label(MANAGED_BY) == Some(manager) => {
            vec![format!("{}/{service}", slice.namespace())]
        }
        _ => Vec::new(),
    })
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue = queue(context);
    let slices = context.informer::<EndpointSlice>();
    let to_queue = queue.clone();
    slices.subscribe(move |event| {
        let slice = event.object();
        if matches!(event, Event::Deleted(_))
            && slice.label(MANAGED_BY) == Some(CONTROLLER)
            && let Some(service) = slice.label(SERVICE_NAME)
        {
            to_queue.add(ObjectKey::new(slice.namespace(), service));
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        services: context.informer(),
        slices: by_service(&slices, CONTROLLER),
        pods: context.informer(),
        nodes: context.informer(),
        recorder: context.recorder("endpoint-slice-controller"),
    };
    work(Arc::new(controller), queue, 5)
}

/// Writes changes of slices.
pub async fn write(client: &Client, namespace: &str, changes: Changes) -> Result<(), kube::Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let stamp = |slice: &mut EndpointSlice| {
        slice.metadata.annotations.get_or_insert_default().insert(TRIGGER.into(), rfc3339(Timestamp::now()));
    };
    for mut slice in changes.create {
        stamp(&mut slice);
        match api.create(&PostParams::default(), &slice).await {
            Ok(_) => {}
            Err(error) if errors::is_namespace_terminating(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    for mut slice in changes.update {
        stamp(&mut slice);
        api.replace(slice.name(), &PostParams::default(), &slice).await?;
    }
    for slice in changes.delete {
        match api.delete(slice.name(), &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if errors::is_not_found(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        // Slices of a Service that is gone are collected as its dependents.
        let Some(service) = self.services.get(key) else { return Ok(None) };
        let external = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
        if service.deleting() || selector(&service).is_none() || external {
            return Ok(None);
        }
        let zone = |node: &str| {
            let node = self.nodes.get(&ObjectKey::new("", node))?;
            node.label("topology.kubernetes.io/zone").map(ToOwned::to_owned)
        };
        let mut existing = self.slices.get(&key.to_string());
        existing.retain(|slice| !slice.deleting());
        existing.sort_by(|a, b| a.name().cmp(b.name()));
        let changes = changes(&service, wanted(&service, &selected(&self.pods, &service), zone), &existing);
        match write(&self.client, &key.namespace, changes).await {
            Ok(()) => Ok(None),
            Err(error) => {
                let message = format!("Error updating Endpoint Slices for Service {key}: {}", text(&error));
                self.recorder.event(&*service, EventType::Warning, "FailedToUpdateEndpointSlices", message);
                Err(error.into())
            }
        }
    }
}
