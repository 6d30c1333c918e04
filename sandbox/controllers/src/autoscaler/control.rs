//! Looks at each autoscaler every few seconds, and scales what it is for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drydock_apimachinery::quantity::Quantity;
use drydock_apimachinery::selectors::LabelSelector;
use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use kube::core::discovery::ApiResource;
use kube::core::{DynamicObject, GroupVersionKind};
use kube::{Api, Client};

use super::behaviour::{Limits, Memory};
use super::conditions::say;
use super::metric::{Failure, Reading, Source, no_adapter, together};
use super::metrics::fetch;
use super::replicas::{Rules, replicas};
use super::selectors::Selectors;
use crate::context::{Context, Reconcile, Running, work};
use crate::error::{Error, text};
use crate::manager::Settings;
use crate::shared::meta::Meta;
use crate::shared::resources::discover;

struct Controller {
    client: Client,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    recorder: Recorder,
    settings: Arc<Settings>,
    memory: Mutex<HashMap<ObjectKey, Memory>>,
    selectors: Selectors,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let autoscalers = context.informer::<HorizontalPodAutoscaler>();
    let to_queue = queue.clone();
    autoscalers.subscribe(move |event| {
        // What only its status says was written here: the next look comes with the next period.
        let changed = match event {
            Event::Updated { old, new } => old.spec != new.spec,
            _ => true,
        };
        if changed {
            to_queue.add(event.object().key());
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        autoscalers,
        pods: context.informer(),
        recorder: context.recorder("horizontal-pod-autoscaler"),
        settings: context.settings.clone(),
        memory: Mutex::default(),
        selectors: Selectors::default(),
    };
    work(Arc::new(controller), queue, 5)
}

/// What is to be done.
struct Wish {
    replicas: i32,
    reason: String,
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(cached) = self.autoscalers.get(key) else {
            self.memories(|all| all.remove(key));
            self.selectors.remove(key);
            return Ok(None);
        };
        let mut status = cached.status.clone().unwrap_or_default();
        status.observed_generation = cached.metadata.generation;
        self.look(&cached, &mut status).await;
        if cached.status.as_ref() != Some(&status) {
            let mut copy = HorizontalPodAutoscaler::clone(&cached);
            copy.status = Some(status);
            let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &copy).await {
                Ok(_) => {}
                Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(self.settings.autoscaler_period))
    }
}

impl Controller {
    fn memories<T>(&self, with: impl FnOnce(&mut HashMap<ObjectKey, Memory>) -> T) -> T {
        with(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn warn(&self, autoscaler: &HorizontalPodAutoscaler, reason: &str, message: String) {
        self.recorder.event(autoscaler, EventType::Warning, reason, message);
    }

    /// One look: what there is, what would be right, and the change.
    async fn look(&self, autoscaler: &HorizontalPodAutoscaler, status: &mut HorizontalPodAutoscalerStatus) {
        let Some(spec) = &autoscaler.spec else { return };
        let scales = match self.scales(autoscaler).await {
            Ok(scales) => scales,
            Err(message) => return self.no_scale(autoscaler, status, message),
        };
        let scale = match scales.get_scale(&spec.scale_target_ref.name).await {
            Ok(scale) => scale,
            Err(error) => return self.no_scale(autoscaler, status, text(&error)),
        };
        let message = "the HPA controller was able to get the target's current scale".to_owned();
        say(status, "AbleToScale", true, "SucceededGetScale", message);
        let current = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        status.current_replicas = Some(current);
        status.current_metrics = None;
        let now = Timestamp::now();
        self.memories(|all| all.entry(autoscaler.key()).or_default().begin(current, now));
        let min = spec.min_replicas.unwrap_or(1);
        let wish = if current == 0 && min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero".to_owned();
            say(status, "ScalingActive", false, "ScalingDisabled", message);
            status.desired_replicas = 0;
            return;
        } else if current > spec.max_replicas {
            Wish {
                replicas: spec.max_replicas,
                reason: "Current number of replicas above Spec.MaxReplicas".into(),
            }
        } else if current < min {
            Wish { replicas: min, reason: "Current number of replicas below Spec.MinReplicas".into() }
        } else {
            match self.wish(autoscaler, status, &scale, current).await {
                Ok(wish) => wish,
                Err(why) => return self.warn(autoscaler, "FailedComputeMetricsReplicas", why),
            }
        };
        status.desired_replicas = wish.replicas;
        if wish.replicas != current {
            self.rescale(autoscaler, status, &scales, scale, &wish).await;
        }
    }

    fn no_scale(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        status: &mut HorizontalPodAutoscalerStatus,
        why: String,
    ) {
        let message = format!("the HPA controller was unable to get the target's current scale: {why}");
        say(status, "AbleToScale", false, "FailedGetScale", message);
        self.warn(autoscaler, "FailedGetScale", why);
    }

    /// The collection that the target is in.
    async fn scales(&self, autoscaler: &HorizontalPodAutoscaler) -> Result<Api<DynamicObject>, String> {
        let Some(spec) = &autoscaler.spec else { return Err("no specification".into()) };
        let target = &spec.scale_target_ref;
        let version = target.api_version.as_deref().unwrap_or("v1");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let plural = match (group, &*target.kind) {
            ("apps", "Deployment") => Some("deployments"),
            ("apps", "ReplicaSet") => Some("replicasets"),
            ("apps", "StatefulSet") => Some("statefulsets"),
            ("", "ReplicationController") => Some("replicationcontrollers"),
            _ => None,
        };
        let gvk = GroupVersionKind::gvk(group, version, &target.kind);
        let resource = match plural {
            Some(plural) => ApiResource::from_gvk_with_plural(&gvk, plural),
            None => {
                let types = discover(&self.client).await.map_err(|error| error.text())?;
                let found = types
                    .into_iter()
                    .find(|one| one.resource.group == group && one.resource.kind == target.kind);
                let missing = || format!("no matches for kind {:?} in group {group:?}", target.kind);
                ApiResource::from_gvk_with_plural(&gvk, &found.ok_or_else(missing)?.resource.plural)
            }
        };
        Ok(Api::namespaced_with(self.client.clone(), autoscaler.namespace(), &resource))
    }

    /// What the metrics ask for, within what the behaviour allows.
    async fn wish(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        status: &mut HorizontalPodAutoscalerStatus,
        scale: &Scale,
        current: i32,
    ) -> Result<Wish, String> {
        let Some(spec) = &autoscaler.spec else { return Err("no specification".into()) };
        let best = self.read_all(autoscaler, status, scale, current).await?;
        let message =
            format!("the HPA was able to successfully calculate a replica count from {}", best.name);
        say(status, "ScalingActive", true, "ValidMetricFound", message);
        let now = Timestamp::now();
        let seconds = i64::try_from(self.settings.autoscaler_stabilization.as_secs()).unwrap_or(300);
        let limits = Limits {
            min: spec.min_replicas.unwrap_or(1),
            max: spec.max_replicas,
            window: SignedDuration::from_secs(seconds),
        };
        let outcome = self.memories(|all| {
            let memory = all.entry(autoscaler.key()).or_default();
            memory.settle(current, best.replicas, spec.behavior.as_ref(), limits, now)
        });
        match outcome.stabilized {
            Some((reason, message)) => say(status, "AbleToScale", true, reason, message.into()),
            None => say(
                status,
                "AbleToScale",
                true,
                "ReadyForNewScale",
                "recommended size matches current size".into(),
            ),
        }
        match outcome.limited {
            Some((reason, message)) => say(status, "ScalingLimited", true, reason, message.into()),
            None => {
                let message = "the desired count is within the acceptable range".into();
                say(status, "ScalingLimited", false, "DesiredWithinRange", message);
            }
        }
        let reason = if outcome.replicas > current {
            format!("{} above target", best.name)
        } else {
            "All metrics below target".into()
        };
        Ok(Wish { replicas: outcome.replicas, reason })
    }

    /// Reads all metrics; the one that asks for most.
    async fn read_all(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        status: &mut HorizontalPodAutoscalerStatus,
        scale: &Scale,
        current: i32,
    ) -> Result<Reading, String> {
        let metrics = autoscaler.spec.as_ref().and_then(|spec| spec.metrics.as_deref()).unwrap_or_default();
        let selector = scale.status.as_ref().and_then(|status| status.selector.clone()).unwrap_or_default();
        let pods = self.selected(autoscaler, status, &selector)?;
        let mut readings = Vec::new();
        for metric in metrics {
            let reading = self.read(autoscaler, metric, (&selector, &pods), current).await;
            if let Err(failure) = &reading {
                self.warn(autoscaler, failure.reason, failure.message.clone());
            }
            readings.push(reading);
        }
        let all = together(readings, current);
        status.current_metrics = Some(all.statuses);
        all.best.map_err(|(failure, why)| {
            let message = format!("the HPA was unable to compute the replica count: {}", failure.message);
            say(status, "ScalingActive", false, failure.reason, message);
            why
        })
    }

    /// The pods of the target, unless its selector is none or they are those of other autoscalers too.
    fn selected(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        status: &mut HorizontalPodAutoscalerStatus,
        selector: &str,
    ) -> Result<Vec<Arc<Pod>>, String> {
        let mut refuse = |event: &str, reason: &str, why: String, message: Option<&str>| {
            self.warn(autoscaler, event, why.clone());
            say(status, "ScalingActive", false, reason, message.unwrap_or(&why).to_owned());
            why
        };
        if selector.is_empty() {
            let message = Some("the HPA target's scale is missing a selector");
            return Err(refuse(
                "SelectorRequired",
                "InvalidSelector",
                "selector is required".into(),
                message,
            ));
        }
        let parsed = LabelSelector::parse(selector).map_err(|error| {
            let why =
                format!("couldn't convert selector into a corresponding internal selector object: {error}");
            refuse("InvalidSelector", "InvalidSelector", why, None)
        })?;
        let mut pods = self.pods.in_namespace(autoscaler.namespace());
        pods.retain(|pod| parsed.matches(|key| pod.label(key)));
        match self.selectors.put(&autoscaler.key(), parsed, &pods) {
            None => Ok(pods),
            Some(others) => {
                let why = format!("pods by selector {selector} are controlled by multiple HPAs: [{others}]");
                Err(refuse("AmbiguousSelector", "AmbiguousSelector", why, None))
            }
        }
    }

    async fn read(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        metric: &MetricSpec,
        (selector, pods): (&str, &[Arc<Pod>]),
        current: i32,
    ) -> Result<Reading, Failure> {
        let namespace = autoscaler.namespace();
        let source = Source::of(metric).ok_or_else(|| no_adapter(namespace, metric))?;
        let wanted = source.wanted()?;
        let Source { resource, container, .. } = source;
        let uses = fetch(&self.client, namespace, selector, resource, container)
            .await
            .map_err(|why| source.failure(&why))?;
        let rules = self.rules(autoscaler);
        let answer = replicas(current, pods, uses, (resource, container), wanted, rules)
            .map_err(|why| source.failure(&why))?;
        Ok(source.reading(wanted, answer))
    }

    fn rules(&self, autoscaler: &HorizontalPodAutoscaler) -> Rules {
        let seconds = |duration: Duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::ZERO);
        let behaviour = autoscaler.spec.as_ref().and_then(|spec| spec.behavior.as_ref());
        let own = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
            let text = rules.and_then(|rules| rules.tolerance.as_ref());
            text.and_then(|text| text.0.parse::<Quantity>().ok()).map(Quantity::as_f64)
        };
        let default = self.settings.autoscaler_tolerance;
        Rules {
            tolerance: (
                own(behaviour.and_then(|one| one.scale_down.as_ref())).unwrap_or(default),
                own(behaviour.and_then(|one| one.scale_up.as_ref())).unwrap_or(default),
            ),
            cpu_initialization: seconds(self.settings.autoscaler_cpu_initialization),
            readiness_delay: seconds(self.settings.autoscaler_readiness_delay),
            now: Timestamp::now(),
        }
    }

    async fn rescale(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        status: &mut HorizontalPodAutoscalerStatus,
        scales: &Api<DynamicObject>,
        mut scale: Scale,
        wish: &Wish,
    ) {
        let before = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        scale.spec.get_or_insert_default().replicas = Some(wish.replicas);
        let name =
            autoscaler.spec.as_ref().map(|spec| spec.scale_target_ref.name.clone()).unwrap_or_default();
        match scales.replace_scale(&name, &PostParams::default(), &scale).await {
            Ok(_) => {
                let message = format!("New size: {}; reason: {}", wish.replicas, wish.reason);
                self.recorder.event(autoscaler, EventType::Normal, "SuccessfulRescale", message);
                let message =
                    format!("the HPA controller was able to update the target scale to {}", wish.replicas);
                say(status, "AbleToScale", true, "SucceededRescale", message);
                let now = Timestamp::now();
                self.memories(|all| {
                    all.entry(autoscaler.key())
                        .or_default()
                        .changed(wish.replicas.saturating_sub(before), now)
                });
                status.last_scale_time = Some(Time(now));
            }
            Err(error) => {
                let why = text(&error);
                let message = format!("New size: {}; reason: {}; error: {why}", wish.replicas, wish.reason);
                self.warn(autoscaler, "FailedRescale", message);
                let message = format!("the HPA controller was unable to update the target scale: {why}");
                say(status, "AbleToScale", false, "FailedUpdateScale", message);
                status.desired_replicas = before;
            }
        }
    }
}
