//! `log`, `exec`, `attach` and `portforward` of pods (`pkg/registry/core/pod/strategy.go` and `rest/{log,subresources}.go`).

use super::admit_connection;
use super::forward::{self, Forward};
use super::target::node_target;
use crate::authz::Attributes;
use crate::http::respond::{self, Answer};
use crate::rest::{Call, get};
use crate::storage;
use drydock_apimachinery::Status;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object::{self, list, text};
use drydock_apimachinery::status::GroupResource;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

/// Answers what the pod's kubelet answers.
pub async fn to_container(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let record = get::read(call)?;
    let pod = storage::decode(&record)?;
    let kind = call.info.subresource.clone();
    let sub = kind.as_str();
    if sub == "log" {
        return log(call, &pod, body).await;
    }
    // A WebSocket handshake is a GET, but it does what only those may who may create (KEP-4006).
    if call.method == Method::GET {
        let wanted = Attributes { verb: "create", ..Attributes::of(&call.user, &call.info) };
        call.server.authorizer.authorize(&wanted)?;
    }
    let options = admit(call, sub).await?;
    let server = call.server.clone();
    let host = text(&pod, &["spec", "nodeName"]);
    if host.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", object::name(&pod))));
    }
    let path = stream_path(&pod, sub, &options)?;
    let target = node_target(&server, host)?;
    if !forward::wants_upgrade(&call.headers) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let Some(ours) = call.upgrade.take() else { return Err(Status::bad_request("Upgrade request required")) };
    let forward = Forward { target: &target, path, method: call.method.clone(), headers: &call.headers };
    forward.upgrade(&server.kubelets, body, ours).await
}

/// What is asked of the pod (`PodExecOptions` and its like), as admission lets it pass.
async fn admit(call: &mut Call, sub: &str) -> Result<Value, Status> {
    let query = &call.query;
    let mut options = json!({});
    for flag in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|flag| query.flag(flag)) {
        options[flag] = true.into();
    }
    if let Some(container) = query.get("container").filter(|name| !name.is_empty()) {
        options["container"] = container.into();
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() {
        options["command"] = command.into();
    }
    let ports = query.all("ports").flat_map(|ports| ports.split(','));
    let ports: Vec<i32> = ports.filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        options["ports"] = ports.into();
    }
    let kind = match sub {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    };
    admit_connection(call, kind, options).await
}

/// Path and query of a stream at the kubelet.
fn stream_path(pod: &Value, sub: &str, options: &Value) -> Result<String, Status> {
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let mut query = form_urlencoded::Serializer::new(String::new());
    if sub == "portforward" {
        for port in list(options, &["ports"]) {
            query.append_pair("port", &port.to_string());
        }
        return Ok(with_query(format!("/portForward/{namespace}/{name}"), &query.finish()));
    }
    let container = container(pod, text(options, &["container"]))?;
    if matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
        let phase = text(pod, &["status", "phase"]);
        let what = if sub == "exec" { "exec into" } else { "attach to" };
        return Err(Status::bad_request(format!(
            "cannot {what} a container in a completed pod; current phase is {phase}"
        )));
    }
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if options[ours] == true {
            query.append_pair(theirs, "1");
        }
    }
    for word in list(options, &["command"]).iter().filter_map(Value::as_str) {
        query.append_pair("command", word);
    }
    let verb = if sub == "exec" { "exec" } else { "attach" };
    Ok(with_query(format!("/{verb}/{namespace}/{name}/{container}"), &query.finish()))
}

fn with_query(path: String, query: &str) -> String {
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

fn names(pod: &Value, field: &str) -> Vec<String> {
    list(pod, &["spec", field]).iter().map(|one| text(one, &["name"]).to_string()).collect()
}

/// The container that is meant: a pod's only one need not be named (`podutil.…DefaultContainer`, `LogLocation`).
fn container(pod: &Value, wanted: &str) -> Result<String, Status> {
    let (own, init, debug) =
        (names(pod, "containers"), names(pod, "initContainers"), names(pod, "ephemeralContainers"));
    let pod_name = object::name(pod);
    if wanted.is_empty() {
        return match &own[..] {
            [one] => Ok(one.clone()),
            [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}"))),
            several => {
                let mut message = format!(
                    "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                    several.join(" ")
                );
                if !init.is_empty() {
                    message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                if !debug.is_empty() {
                    message.push_str(&format!(" or one of the ephemeral containers: [{}]", debug.join(" ")));
                }
                Err(Status::bad_request(message))
            }
        };
    }
    if own.iter().chain(&init).chain(&debug).any(|one| one == wanted) {
        return Ok(wanted.into());
    }
    Err(Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}")))
}

async fn log(call: &mut Call, pod: &Value, body: Incoming) -> Result<Answer, Status> {
    let container = container(pod, call.query.text("container"))?;
    check_log_options(call)?;
    let host = text(pod, &["spec", "nodeName"]);
    if host.is_empty() {
        // Nothing has been said yet.
        return Ok(respond::bytes(StatusCode::OK, "text/plain", Vec::new()));
    }
    let path = log_path(call, pod, &container);
    let server = call.server.clone();
    let target = node_target(&server, host)?;
    let headers = HeaderMap::new();
    let forward = Forward { target: &target, path, method: Method::GET, headers: &headers };
    let theirs = forward.plain(&server.kubelets, body).await?;
    if !theirs.status().is_success() {
        let code = theirs.status();
        return Err(forward::generic(code, &forward::text_of(theirs).await));
    }
    let mut answer = forward::answer(theirs);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(answer)
}

/// Path and query of a log at the kubelet.
fn log_path(call: &Call, pod: &Value, container: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for flag in ["follow", "previous", "timestamps"] {
        if call.query.flag(flag) {
            query.append_pair(flag, "true");
        }
    }
    for value in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if let Some(text) = call.query.get(value) {
            query.append_pair(value, text);
        }
    }
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    with_query(format!("/containerLogs/{namespace}/{name}/{container}"), &query.finish())
}

/// `ValidatePodLogOptions`.
fn check_log_options(call: &Call) -> Result<(), Status> {
    let mut errors = ErrorList::default();
    for (field, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        if let Some(number) = call.query.int(field)?.filter(|number| *number < least) {
            let why =
                if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            errors.invalid(&Path::new(field), number, why);
        }
    }
    if call.query.get("sinceSeconds").is_some() && call.query.get("sinceTime").is_some() {
        errors.forbidden(&Path::default(), "at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if errors.is_empty() {
        return Ok(());
    }
    let of = GroupResource { group: "", resource: "PodLogOptions" };
    Err(Status::invalid(of, &call.info.name, &errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_only_container_need_not_be_named() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
        assert_eq!(container(&one, "").expect("the only one"), "c");
        assert_eq!(container(&one, "x").expect_err("none").message, "container x is not valid for pod p");
        let two = json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
        });
        assert_eq!(
            container(&two, "").expect_err("which").message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(container(&two, "i").expect("an init container"), "i");
    }
}
