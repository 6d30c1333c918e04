//! HorizontalPodAutoscalers (k8s.io/kubernetes/pkg/controller/podautoscaler). `metrics` asks what pods use, `replicas` says how many would be
//! right, `behaviour` how fast to get there, `conditions` what is told, `control` puts them together.

pub mod behaviour;
pub mod conditions;
pub mod control;
pub mod metrics;
pub mod replicas;
