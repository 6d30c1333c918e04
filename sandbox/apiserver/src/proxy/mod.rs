//! Requests that are passed on: to a kubelet (`log`, `exec`, `attach`, `portforward`, nodes' `proxy`), or to a pod or a service. The API
//! server looks at the pod, opens a connection of its own for the one request and then carries bytes; what they mean is between client
//! and kubelet.

mod container;
mod forward;
mod object;
mod rewrite;
mod target;

use crate::admission::Operation;
use crate::codec::Expected;
use crate::rest::options::Options;
use crate::rest::{Call, write};
use drydock_apimachinery::Status;
use serde_json::Value;

pub use container::to_container;
pub use object::to_object;
pub use target::{KubeletClient, Target, dial_error, node_target};

/// The options of a connection as admission lets them pass (`ConnectResource` of k8s.io/apiserver `pkg/endpoints/handlers/rest.go`).
async fn admit_connection(call: &mut Call, kind: &str, mut options: Value) -> Result<Value, Status> {
    options["kind"] = kind.into();
    options["apiVersion"] = "v1".into();
    let kind = Expected { group: "", version: "v1", kind };
    write::admit_other(call, Operation::Connect, kind, Options::None, &mut options).await?;
    Ok(options)
}
