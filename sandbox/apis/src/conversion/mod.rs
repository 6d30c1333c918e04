//! Between versions of kinds that are stored once and served as several (`pkg/apis/*/conversion.go`).

pub mod autoscaling;
pub mod events;
