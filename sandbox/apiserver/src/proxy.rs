//! Requests that are passed on: to a kubelet (`log`, `exec`, `attach`, `portforward`, nodes' `proxy`), or to a pod or a service.

use crate::http::respond::Answer;
use crate::rest::Call;
use drydock_apimachinery::Status;
use hyper::body::Incoming;

/// `log`, `exec`, `attach`, `portforward`.
pub async fn to_container(call: &mut Call, _body: Incoming) -> Result<Answer, Status> {
    Err(Status::method_not_supported(call.resource.group_resource(), call.info.verb))
}

/// `proxy` of nodes, pods and services.
pub async fn to_object(call: &mut Call, _body: Incoming) -> Result<Answer, Status> {
    Err(Status::method_not_supported(call.resource.group_resource(), call.info.verb))
}
