//! HorizontalPodAutoscalers (k8s.io/kubernetes/pkg/controller/podautoscaler). `metrics` asks what pods use, `replicas` says how many would be
//! right, `metric` what each metric says and all together, `selectors` whose pods they are, `behaviour` how fast to get there, `conditions`
//! what is told, `control` puts them together.

pub mod behaviour;
pub mod conditions;
pub mod control;
pub mod metric;
pub mod metrics;
pub mod replicas;
pub mod selectors;
