//! Custom resources: what their definitions say, in the form in which the engine asks, and the task that keeps what is served as the
//! definitions are. A definition is accepted when its names are free; from then on (`Established`) its resource is served. One that is
//! deleted takes its objects along (apiextensions-apiserver `pkg/controller/{status,establish,finalizer}`).

mod api_services;
pub mod conversion;
mod kind;
mod sync;

pub use kind::CustomKind;
pub use sync::{CLEANUP, condition, load, run};
