//! What an object gets that does not say it: `SetDefaults_…` of upstream's `pkg/apis/*/v1/defaults.go`, and those fields that Go writes
//! even when they are empty (no `omitempty`), since people compare what they wrote with what the server shows. Each function is
//! idempotent; what depends on the old object or on who writes is in `prepare`.

pub mod apps;
pub mod batch;
pub mod core;
pub mod extension;
pub mod flowcontrol;
pub mod others;
pub mod pod;
pub mod resource;
pub mod service;
