//! Binds claims to volumes, and has volumes made for claims of classes that are served here
//! (k8s.io/kubernetes/pkg/controller/volume/persistentvolume/pv_controller.go).

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::matching::{class_of_claim, find, has_class, is_for, satisfies};
use super::phase;
use super::provision::{
    BIND_COMPLETED, BOUND_BY, PROVISIONER, SELECTED_NODE, STORAGE_PROVISIONER, default_class, place,
    reference, refusal, standard_class, volume, volume_name, waits,
};
use super::reclaim::Reclaimer;
use crate::context::{Context, Reconcile, Running, work};
use crate::error::{Error, text};
use crate::shared::meta::Meta;
use crate::shared::pods::{is_terminal, node as node_of};

struct Claims {
    client: Client,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    recorder: Recorder,
}

struct Volumes {
    client: Client,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    reclaimer: Reclaimer,
}

/// Sets both halves up, and the class `standard`.
pub fn start(context: &Context) -> Running {
    let (claim_queue, volume_queue): (WorkQueue<ObjectKey>, WorkQueue<ObjectKey>) =
        (WorkQueue::new(), WorkQueue::new());
    let claims = context.informer::<PersistentVolumeClaim>();
    let volumes = context.informer::<PersistentVolume>();
    let classes = context.informer::<StorageClass>();
    let (to_claims, to_volumes) = (claim_queue.clone(), volume_queue.clone());
    claims.subscribe(move |event| {
        let claim = event.object();
        to_claims.add(claim.key());
        if let Some(name) =
            claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty())
        {
            to_volumes.add(ObjectKey::new("", name));
        }
    });
    let (to_claims, to_volumes, all_claims) = (claim_queue.clone(), volume_queue.clone(), claims.clone());
    volumes.subscribe(move |event| {
        let volume = event.object();
        to_volumes.add(volume.key());
        match volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
            Some(reference) => to_claims.add(ObjectKey::new(
                reference.namespace.clone().unwrap_or_default(),
                reference.name.clone().unwrap_or_default(),
            )),
            None => add_pending(&all_claims, &to_claims),
        }
    });
    let (to_claims, all_claims) = (claim_queue.clone(), claims.clone());
    classes.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            add_pending(&all_claims, &to_claims);
        }
    });
    let recorder = context.recorder("persistentvolume-controller");
    let on_claims = Claims {
        client: context.client.clone(),
        claims: claims.clone(),
        volumes: volumes.clone(),
        classes,
        nodes: context.informer(),
        pods: context.informer(),
        recorder: recorder.clone(),
    };
    let on_volumes = Volumes {
        client: context.client.clone(),
        claims,
        volumes,
        reclaimer: Reclaimer::new(context, recorder, &volume_queue),
    };
    let client = context.client.clone();
    let claim_work = work(Arc::new(on_claims), claim_queue, 1);
    let volume_work = work(Arc::new(on_volumes), volume_queue, 1);
    Box::pin(async move {
        tokio::join!(make_class(client), claim_work, volume_work);
    })
}

fn add_pending(claims: &Informer<PersistentVolumeClaim>, queue: &WorkQueue<ObjectKey>) {
    let pending = |claim: &PersistentVolumeClaim| {
        claim.spec.as_ref().is_some_and(|spec| spec.volume_name.as_deref().is_none_or(str::is_empty))
    };
    for claim in claims.all().into_iter().filter(|claim| pending(claim)) {
        queue.add(claim.key());
    }
}

/// Makes the class `standard` unless it was ever made.
async fn make_class(client: Client) {
    let api: Api<StorageClass> = Api::all(client);
    let mut wait = Duration::from_millis(50);
    loop {
        match api.create(&PostParams::default(), &standard_class()).await {
            Ok(_) => return,
            Err(error) if errors::is_already_exists(&error) => return,
            Err(error) => tracing::warn!(%error, "the storage class could not be made, trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(10));
    }
}

fn named(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

impl Reconcile for Claims {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(None) };
        let completed = claim.annotation(BIND_COMPLETED).is_some();
        match named(&claim) {
            None if claim.deleting() => {}
            None => self.unbound(&claim).await?,
            Some(name) => {
                let volume = self.volumes.get(&ObjectKey::new("", name));
                match volume {
                    Some(volume) => self.bound(&claim, &volume, completed).await?,
                    None if completed => {
                        self.lost(
                            &claim,
                            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
                        )
                        .await?
                    }
                    None => self.pending(&claim).await?,
                }
            }
        }
        Ok(None)
    }
}

impl Claims {
    fn claim_api(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), claim.namespace())
    }

    fn event(
        &self,
        claim: &PersistentVolumeClaim,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.recorder.event(claim, kind, reason, message);
    }

    /// A claim that names no volume: one is found, or made, or waited for.
    async fn unbound(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let class_name = class_of_claim(claim);
        let class = self.classes.get(&ObjectKey::new("", class_name));
        let selected = claim.annotation(SELECTED_NODE);
        let delayed = class.as_ref().is_some_and(|class| waits(class)) && selected.is_none();
        let volumes = self.volumes.all();
        let reserved =
            volumes.iter().find(|volume| is_for(volume, claim) && satisfies(volume, claim).is_ok());
        if delayed && reserved.is_none() {
            self.event(claim, EventType::Normal, "WaitForFirstConsumer", self.waiting_for(claim));
            return self.pending(claim).await;
        }
        let node = selected.and_then(|name| self.nodes.get(&ObjectKey::new("", name)));
        if let Some(volume) = find(&volumes, claim, node.as_deref()) {
            let volume = self.take(&volume, claim).await?;
            return self.give(claim, &volume, true).await;
        }
        // Since the claim was made, there may be a class for those that name none (`assignDefaultStorageClass`).
        if !has_class(claim)
            && let Some(default) = default_class(&self.classes.all())
        {
            let mut copy = claim.clone();
            copy.spec.get_or_insert_default().storage_class_name = Some(default.name().into());
            let api = self.claim_api(claim);
            errors::unless_gone(api.replace(claim.name(), &PostParams::default(), &copy).await)?;
            return Ok(());
        }
        let Some(class) = class else {
            if class_name.is_empty() {
                let message = "no persistent volumes available for this claim and no storage class is set";
                self.event(claim, EventType::Normal, "FailedBinding", message);
            } else {
                let message = format!("storageclass.storage.k8s.io {class_name:?} not found");
                self.event(claim, EventType::Warning, "ProvisioningFailed", message);
            }
            return self.pending(claim).await;
        };
        self.have_made(claim, &class, node.as_deref()).await
    }

    fn waiting_for(&self, claim: &PersistentVolumeClaim) -> String {
        let uses = |pod: &Pod| {
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let mut names =
                volumes.filter_map(|volume| Some(&volume.persistent_volume_claim.as_ref()?.claim_name));
            names.any(|name| name == claim.name())
        };
        let pods = self.pods.in_namespace(claim.namespace());
        match pods.iter().find(|pod| !is_terminal(pod) && node_of(pod).is_empty() && uses(pod)) {
            Some(pod) => format!("waiting for pod {} to be scheduled", pod.name()),
            None => "waiting for first consumer to be created before binding".into(),
        }
    }

    /// Has the volume made by whom the class says.
    async fn have_made(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        node: Option<&Node>,
    ) -> Result<(), Error> {
        if claim.annotation(STORAGE_PROVISIONER) != Some(&class.provisioner) {
            let patch = json!({"metadata": {"annotations": {STORAGE_PROVISIONER: class.provisioner}}});
            match self
                .claim_api(claim)
                .patch(claim.name(), &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Ok(_) => {}
                Err(error) if errors::is_not_found(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if class.provisioner != PROVISIONER {
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
                class.provisioner
            );
            self.event(claim, EventType::Normal, "ExternalProvisioning", message);
            return self.pending(claim).await;
        }
        if let Some(why) = refusal(claim, class) {
            self.event(claim, EventType::Warning, "ProvisioningFailed", why);
            return self.pending(claim).await;
        }
        let chosen = node
            .cloned()
            .or_else(|| place(&self.nodes.all(), &self.volumes.all()).map(|node| Node::clone(node)));
        let Some(chosen) = chosen else {
            return Err(Error::NotYet("no node is ready to hold the volume".into()));
        };
        let message =
            format!("External provisioner is provisioning volume for claim {:?}", claim.key().to_string());
        self.event(claim, EventType::Normal, "Provisioning", message);
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &volume(claim, class, &chosen)).await {
            Ok(_) => {
                let message = format!("Successfully provisioned volume {}", volume_name(claim));
                self.event(claim, EventType::Normal, "ProvisioningSucceeded", message);
                Ok(())
            }
            Err(error) if errors::is_already_exists(&error) => Ok(()),
            Err(error) => {
                let message = format!(
                    "failed to provision volume with StorageClass {:?}: {}",
                    class.name(),
                    text(&error)
                );
                self.event(claim, EventType::Warning, "ProvisioningFailed", message);
                Err(error.into())
            }
        }
    }

    /// A claim that names a volume that is there.
    async fn bound(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &Arc<PersistentVolume>,
        completed: bool,
    ) -> Result<(), Error> {
        let reserved = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
        if !reserved && !completed {
            // The learner named it: it is taken if it fits.
            if let Err(why) = satisfies(volume, claim) {
                let message = format!("Cannot bind to requested volume {:?}: {why}", volume.name());
                self.event(claim, EventType::Warning, "VolumeMismatch", message);
                return self.pending(claim).await;
            }
            let volume = self.take(volume, claim).await?;
            return self.give(claim, &volume, false).await;
        }
        if !reserved && completed {
            let volume = self.take(volume, claim).await?;
            return self.give(claim, &volume, false).await;
        }
        if is_for(volume, claim) {
            let volume = self.take(volume, claim).await?;
            return self.give(claim, &volume, false).await;
        }
        if completed {
            return self
                .lost(claim, "Two claims are bound to the same volume, this one is bound incorrectly")
                .await;
        }
        let message = format!("volume {:?} already bound to a different claim.", volume.name());
        self.event(claim, EventType::Warning, "FailedBinding", message);
        self.pending(claim).await
    }

    /// Writes the claim into the volume.
    async fn take(
        &self,
        volume: &Arc<PersistentVolume>,
        claim: &PersistentVolumeClaim,
    ) -> Result<Arc<PersistentVolume>, Error> {
        let known = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if known.is_some_and(|known| known.uid.as_deref() == Some(claim.uid())) {
            return Ok(volume.clone());
        }
        let mut copy = PersistentVolume::clone(volume);
        if known.is_none() {
            copy.metadata.annotations.get_or_insert_default().insert(BOUND_BY.into(), "yes".into());
        }
        copy.spec.get_or_insert_default().claim_ref = Some(reference(claim));
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        Ok(Arc::new(api.replace(volume.name(), &PostParams::default(), &copy).await?))
    }

    /// Writes the volume into the claim, and that it is bound into its status.
    async fn give(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
        by_us: bool,
    ) -> Result<(), Error> {
        let mut copy = claim.clone();
        if named(claim) != Some(volume.name()) || claim.annotation(BIND_COMPLETED).is_none() {
            let annotations = copy.metadata.annotations.get_or_insert_default();
            annotations.insert(BIND_COMPLETED.into(), "yes".into());
            if by_us {
                annotations.insert(BOUND_BY.into(), "yes".into());
            }
            copy.spec.get_or_insert_default().volume_name = Some(volume.name().into());
            copy = self.claim_api(claim).replace(claim.name(), &PostParams::default(), &copy).await?;
        }
        let status = copy.status.get_or_insert_default();
        let (modes, capacity) = volume
            .spec
            .as_ref()
            .map(|spec| (spec.access_modes.clone(), spec.capacity.clone()))
            .unwrap_or_default();
        let phase = Some("Bound".to_owned());
        if status.phase == phase && status.access_modes == modes && status.capacity.is_some() {
            return Ok(());
        }
        status.phase = phase;
        status.access_modes = modes;
        status.capacity = capacity;
        self.claim_api(claim).replace_status(claim.name(), &PostParams::default(), &copy).await?;
        Ok(())
    }

    async fn pending(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        self.phase(claim, "Pending").await
    }

    async fn lost(&self, claim: &PersistentVolumeClaim, message: &str) -> Result<(), Error> {
        if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Lost") {
            self.event(claim, EventType::Warning, "ClaimLost", message);
        }
        self.phase(claim, "Lost").await
    }

    async fn phase(&self, claim: &PersistentVolumeClaim, phase: &str) -> Result<(), Error> {
        if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase) {
            return Ok(());
        }
        let mut copy = claim.clone();
        copy.status.get_or_insert_default().phase = Some(phase.into());
        errors::unless_gone(
            self.claim_api(claim).replace_status(claim.name(), &PostParams::default(), &copy).await,
        )?;
        Ok(())
    }
}

impl Reconcile for Volumes {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(volume) = self.volumes.get(key) else { return Ok(None) };
        let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()) else {
            phase::set(&self.client, &volume, "Available", None).await?;
            return Ok(None);
        };
        // Kept by the learner for a claim that has not taken it yet.
        let Some(uid) = reference.uid.filter(|uid| !uid.is_empty()) else {
            phase::set(&self.client, &volume, "Available", None).await?;
            return Ok(None);
        };
        let claim_key =
            ObjectKey::new(reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
        let mut claim = self.claims.get(&claim_key);
        if claim.is_none() {
            // The cache may be late, and what is released may be deleted: the API server is asked.
            let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &claim_key.namespace);
            claim = api.get_opt(&claim_key.name).await?.map(Arc::new);
        }
        match claim.filter(|claim| claim.uid() == uid) {
            Some(claim) => {
                let complete = named(&claim) == Some(volume.name());
                if complete {
                    phase::set(&self.client, &volume, "Bound", None).await?;
                }
                Ok(None)
            }
            None => {
                // That it failed stays to be read while it is tried again.
                let failed = phase::is_in(&volume, "Failed");
                let volume =
                    if failed { volume } else { phase::set(&self.client, &volume, "Released", None).await? };
                self.reclaimer.reclaim(&volume).await
            }
        }
    }
}
