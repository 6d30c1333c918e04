//! What one metric of an autoscaler says or why it says nothing, and what all of them say together
//! (`computeReplicasForMetric`, `computeReplicasForMetrics`). Pure.

use drydock_apimachinery::quantity::{Format, Quantity};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
    ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::replicas::{Answer, Target};
use crate::shared::meta::go_text;

/// Why a metric gives no number of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason of its event and condition.
    pub reason: &'static str,
    /// What they say.
    pub message: String,
    /// What the look at all metrics says of it.
    pub whole: String,
}

/// What one metric says.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// How many replicas it asks for.
    pub replicas: i32,
    /// What it is called in conditions and events.
    pub name: String,
    /// What the autoscaler's status tells of it.
    pub status: MetricStatus,
}

/// A metric of what pods or one of their containers use.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The resource.
    pub resource: &'a str,
    /// The container, unless it is about whole pods.
    pub container: Option<&'a str>,
    /// What is wanted.
    pub target: &'a MetricTarget,
}

impl<'a> Source<'a> {
    /// What a metric of that sort is about; none for those that adapters tell.
    pub fn of(metric: &'a MetricSpec) -> Option<Self> {
        match (&metric.resource, &metric.container_resource) {
            (Some(one), _) => Some(Self { resource: &one.name, container: None, target: &one.target }),
            (None, Some(one)) => {
                Some(Self { resource: &one.name, container: Some(&one.container), target: &one.target })
            }
            (None, None) => None,
        }
    }

    /// What is wanted, in a form to calculate with.
    pub fn wanted(&self) -> Result<Target, Failure> {
        let average = self.target.average_value.as_ref().and_then(|text| text.0.parse::<Quantity>().ok());
        match (average, self.target.average_utilization) {
            (Some(average), _) => Ok(Target::Average(average.millis())),
            (None, Some(percent)) => Ok(Target::Utilization(percent)),
            (None, None) => Err(self.said(
                "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into(),
            )),
        }
    }

    /// Why it could not be read.
    pub fn failure(&self, why: &str) -> Failure {
        let what = if self.target.average_value.is_some() { "usage" } else { "utilization" };
        self.said(format!("failed to get {} {what}: {why}", self.resource))
    }

    fn said(&self, message: String) -> Failure {
        let (reason, whole) = match self.container {
            None => {
                ("FailedGetResourceMetric", format!("failed to get {} resource metric value", self.resource))
            }
            Some(name) => {
                ("FailedGetContainerResourceMetric", format!("failed to get {name} container metric value"))
            }
        };
        Failure { reason, whole: format!("{whole}: {message}"), message }
    }

    /// What it says.
    pub fn reading(&self, target: Target, answer: Answer) -> Reading {
        let format = if self.resource == "memory" { Format::BinarySi } else { Format::DecimalSi };
        let current = MetricValueStatus {
            average_utilization: answer.utilization,
            average_value: Some(Text(Quantity::from_millis(answer.average).with_format(format).to_string())),
            value: None,
        };
        let kind = match (target, self.container) {
            (Target::Average(_), _) => "resource",
            (Target::Utilization(_), None) => "resource utilization (percentage of request)",
            (Target::Utilization(_), Some(_)) => "container resource utilization (percentage of request)",
        };
        let name = self.resource.to_owned();
        let status = match self.container {
            None => MetricStatus {
                type_: "Resource".into(),
                resource: Some(ResourceMetricStatus { name, current }),
                ..MetricStatus::default()
            },
            Some(container) => MetricStatus {
                type_: "ContainerResource".into(),
                container_resource: Some(ContainerResourceMetricStatus {
                    name,
                    container: container.into(),
                    current,
                }),
                ..MetricStatus::default()
            },
        };
        Reading { replicas: answer.replicas, name: format!("{} {kind}", self.resource), status }
    }
}

/// Metrics of pods, objects and the outside come from adapters that nobody has installed, as on a plain cluster.
pub fn no_adapter(namespace: &str, metric: &MetricSpec) -> Failure {
    const CUSTOM: &str = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";
    if let Some(pods) = &metric.pods {
        let message = format!("unable to get metric {}: {CUSTOM}", pods.metric.name);
        let whole = format!("failed to get pods metric value: {message}");
        return Failure { reason: "FailedGetPodsMetric", message, whole };
    }
    if let Some(object) = &metric.object {
        let (name, of) = (&object.metric.name, &object.described_object);
        // Upstream gives the words of this message in another order than their places.
        let message = format!("unable to get metric {name}: {} on {namespace} {}/{CUSTOM}", of.kind, of.name);
        let inner = match object.target.average_value {
            Some(_) => format!("failed to get {name} object metric: {message}"),
            None => message.clone(),
        };
        let whole = format!("failed to get object metric value: {inner}");
        return Failure { reason: "FailedGetObjectMetric", message, whole };
    }
    if let Some(external) = &metric.external {
        let name = &external.metric.name;
        let selector = go_text(external.metric.selector.as_ref());
        let message = format!(
            "unable to get external metric {namespace}/{name}/{selector}: unable to fetch metrics from external metrics API: the server could not find the requested resource (get {name}.external.metrics.k8s.io)"
        );
        let inner = match external.target.average_value {
            Some(_) => format!("failed to get {name} external metric: {message}"),
            None => format!("failed to get external metric {name}: {message}"),
        };
        let whole = format!("failed to get {name} external metric value: {inner}");
        return Failure { reason: "FailedGetExternalMetric", message, whole };
    }
    let message = format!("unknown metric source type {:?}", metric.type_);
    Failure { reason: "InvalidMetricSourceType", whole: message.clone(), message }
}

/// What all metrics say together.
#[derive(Debug)]
pub struct Together {
    /// What is told of each, in their order; nothing of those that failed.
    pub statuses: Vec<MetricStatus>,
    /// The one that asks for most, or the first failure and what is said of all.
    pub best: Result<Reading, (Failure, String)>,
}

/// Puts together what the metrics say: the one that asks for most wins. If one cannot be read, the others must not scale down.
pub fn together(readings: Vec<Result<Reading, Failure>>, current: i32) -> Together {
    let (count, mut statuses) = (readings.len(), Vec::new());
    let (mut best, mut failed, mut first) = (None::<Reading>, 0_usize, None::<Failure>);
    for reading in readings {
        match reading {
            Ok(reading) => {
                statuses.push(reading.status.clone());
                if best.as_ref().is_none_or(|best| best.replicas == 0 || reading.replicas > best.replicas) {
                    best = Some(reading);
                }
            }
            Err(failure) => {
                statuses.push(MetricStatus::default());
                failed += 1;
                first.get_or_insert(failure);
            }
        }
    }
    let refused = |failure: Failure| {
        let all =
            format!("invalid metrics ({failed} invalid out of {count}), first error is: {}", failure.whole);
        (failure, all)
    };
    let best = match (best, first) {
        (Some(best), None) => Ok(best),
        (Some(best), Some(_)) if best.replicas >= current => Ok(best),
        (_, Some(failure)) => Err(refused(failure)),
        (None, None) => {
            let message = "no metrics".to_owned();
            let failure =
                Failure { reason: "InvalidMetricSourceType", message: message.clone(), whole: message };
            Err(refused(failure))
        }
    };
    Together { statuses, best }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn metric(value: Value) -> MetricSpec {
        serde_json::from_value(value).unwrap()
    }

    fn resource(name: &str, target: Value) -> MetricSpec {
        metric(json!({"type": "Resource", "resource": {"name": name, "target": target}}))
    }

    fn told(replicas: i32) -> Reading {
        let metric = resource("memory", json!({"type": "AverageValue", "averageValue": "60Mi"}));
        let answer = Answer {
            replicas,
            utilization: None,
            average: 1000,
            at: k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
        };
        Source::of(&metric).unwrap().reading(Target::Average(1), answer)
    }

    #[test]
    fn what_cannot_be_read_is_said_as_upstream_says_it() {
        let cpu = resource("cpu", json!({"type": "Utilization", "averageUtilization": 50}));
        let failure = Source::of(&cpu).unwrap().failure("unable to get metrics");
        assert_eq!(failure.message, "failed to get cpu utilization: unable to get metrics");
        assert_eq!(
            together(vec![Err(failure)], 1).best.unwrap_err().1,
            "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics"
        );
        let one = metric(json!({"type": "ContainerResource", "containerResource": {
            "name": "cpu", "container": "c", "target": {"type": "AverageValue", "averageValue": "1"}}}));
        let failure = Source::of(&one).unwrap().failure("no");
        assert_eq!(failure.reason, "FailedGetContainerResourceMetric");
        assert_eq!(failure.whole, "failed to get c container metric value: failed to get cpu usage: no");
    }

    #[test]
    fn each_metric_has_its_own_place() {
        let cpu = resource("cpu", json!({"type": "AverageValue", "averageValue": "500m"}));
        let failure = Source::of(&cpu).unwrap().failure("no");
        let all = together(vec![Err(failure.clone()), Ok(told(3))], 2);
        assert!(all.statuses[0].type_.is_empty() && all.statuses[0].resource.is_none());
        assert_eq!(all.statuses[1].resource.as_ref().unwrap().name, "memory");
        assert_eq!(all.best.unwrap().replicas, 3, "others may scale up");
        let (_, why) = together(vec![Ok(told(1)), Err(failure)], 2).best.unwrap_err();
        assert!(why.starts_with("invalid metrics (1 invalid out of 2), first error is: "), "{why}");
    }

    #[test]
    fn metrics_of_adapters_say_that_there_is_none() {
        let target = json!({"type": "AverageValue", "averageValue": "1"});
        let of = |value| no_adapter("ns", &metric(value));
        let pods = of(json!({"type": "Pods", "pods": {"metric": {"name": "p"}, "target": target}}));
        let custom = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";
        assert_eq!(pods.message, format!("unable to get metric p: {custom}"));
        assert_eq!(pods.whole, format!("failed to get pods metric value: unable to get metric p: {custom}"));
        let object = of(json!({"type": "Object", "object": {"metric": {"name": "r"},
            "describedObject": {"kind": "Ingress", "name": "main"}, "target": {"type": "Value", "value": "1"}}}));
        assert_eq!(object.message, format!("unable to get metric r: Ingress on ns main/{custom}"));
        let external = of(json!({"type": "External", "external": {
            "metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}}, "target": target}}));
        assert_eq!(
            external.message,
            "unable to get external metric ns/q/&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}: unable to fetch metrics from external metrics API: the server could not find the requested resource (get q.external.metrics.k8s.io)"
        );
    }
}
