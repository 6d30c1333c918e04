//! `kubectl logs`: a container's output from the engine (`GetKubeletContainerLogs`).

use super::{Answer, Body, Query, text};
use crate::{docker::Frames, kubelet::Kubelet, pods::pod};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
};
use k8s_openapi::{
    api::core::v1::{ContainerStatus, PodStatus},
    jiff::Timestamp,
};
use std::io;

/// What of it is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    previous: bool,
    limit: Option<usize>,
    query: String,
}

fn options(query: &Query) -> Result<Options, String> {
    let mut engine = Vec::new();
    if query.flag("follow") {
        engine.push("follow=1".to_owned());
    }
    if query.flag("timestamps") {
        engine.push("timestamps=1".into());
    }
    if let Some(lines) = query.number("tailLines")? {
        if lines < 0 {
            return Err("tailLines: Invalid value: must be greater than or equal to 0".into());
        }
        engine.push(format!("tail={lines}"));
    }
    let since = match (query.number("sinceSeconds")?, query.get("sinceTime").filter(|t| !t.is_empty())) {
        (Some(seconds), _) => Some(Timestamp::now().as_second().saturating_sub(seconds)),
        (None, Some(time)) => {
            Some(time.parse::<Timestamp>().map_err(|e| format!("sinceTime: {e}"))?.as_second())
        }
        (None, None) => None,
    };
    engine.extend(since.map(|s| format!("since={s}")));
    let limit = query.number("limitBytes")?.map(|n| usize::try_from(n).unwrap_or(0));
    Ok(Options { previous: query.flag("previous"), limit, query: engine.join("&") })
}

/// Answers.
pub async fn serve(kubelet: &Kubelet, namespace: &str, name: &str, container: &str, query: &Query) -> Answer {
    let bad = |message: String| text(StatusCode::BAD_REQUEST, message);
    let options = match options(query) {
        Ok(options) => options,
        Err(message) => return bad(message),
    };
    let Some(found) = kubelet.pods.find(namespace, name) else {
        return text(StatusCode::NOT_FOUND, format!("pod \"{name}\" does not exist\n"));
    };
    if pod::container(&found, container).is_none() {
        return text(
            StatusCode::NOT_FOUND,
            format!("container \"{container}\" not found in pod \"{name}\"\n"),
        );
    }
    let status = kubelet.status_of(pod::uid(&found));
    let id = match which(status.as_deref(), name, container, options.previous) {
        Ok(id) => id,
        Err(message) => return bad(message),
    };
    let id = id.trim_start_matches("docker://");
    let tty = match kubelet.docker.inspect(id).await {
        Ok(details) => details.config.tty,
        Err(e) => return bad(format!("failed to retrieve container logs: {e}")),
    };
    match kubelet.docker.logs(id, &options.query).await {
        Ok(body) => {
            let mut answer = Response::new(pass(body, tty, options.limit));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            answer
        }
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

/// The container whose output it is (`validateContainerLogStatus`).
fn which(status: Option<&PodStatus>, pod: &str, container: &str, previous: bool) -> Result<String, String> {
    let lists =
        status.map(|s| [&s.init_container_statuses, &s.container_statuses, &s.ephemeral_container_statuses]);
    let mut all = lists.iter().flatten().flat_map(|l| l.iter().flatten());
    let status: &ContainerStatus = all
        .find(|s| s.name == container)
        .ok_or_else(|| format!("container \"{container}\" in pod \"{pod}\" is not available"))?;
    let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let last = last.and_then(|t| t.container_id.clone()).filter(|id| !id.is_empty());
    if previous {
        return last.ok_or_else(|| {
            format!("previous terminated container \"{container}\" in pod \"{pod}\" not found")
        });
    }
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() {
        return Ok(status.container_id.clone().unwrap_or_default());
    }
    if let Some(ended) = &state.terminated {
        let id = ended.container_id.clone().filter(|id| !id.is_empty()).or(last);
        return id.ok_or_else(|| format!("container \"{container}\" in pod \"{pod}\" is terminated"));
    }
    if let Some(last) = last {
        return Ok(last);
    }
    let waits = |why: &str| format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}");
    Err(match state.waiting.and_then(|w| w.reason).as_deref() {
        Some("ErrImagePull") => waits("image can't be pulled"),
        Some("ImagePullBackOff") => waits("trying and failing to pull image"),
        Some(reason) => waits(reason),
        None => format!("container \"{container}\" in pod \"{pod}\" is waiting to start - no logs yet"),
    })
}

/// The engine's frames as bare text, as they come.
fn pass(body: Incoming, tty: bool, limit: Option<usize>) -> Body {
    let state = (body, Frames::new(tty), limit);
    let pieces = stream::unfold(state, |(mut body, mut frames, mut limit)| async move {
        loop {
            if limit == Some(0) {
                return None;
            }
            let frame = body.frame().await?;
            let data = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
                Err(e) => return Some((Err(io::Error::other(e)), (body, frames, Some(0)))),
            };
            let mut piece: Vec<u8> =
                frames.push(&data).into_iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
            if piece.is_empty() {
                continue;
            }
            if let Some(left) = &mut limit {
                piece.truncate(*left);
                *left -= piece.len();
            }
            return Some((Ok(Frame::data(Bytes::from(piece))), (body, frames, limit)));
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_are_the_kubelets() {
        let of = |container: serde_json::Value, previous| {
            let mut full =
                json!({ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0 });
            full.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
            let status: PodStatus = serde_json::from_value(json!({ "containerStatuses": [full] })).unwrap();
            which(Some(&status), "web", "c", previous)
        };
        let running = json!({ "containerID": "docker://1", "state": { "running": {} } });
        assert_eq!(of(running.clone(), false).unwrap(), "docker://1");
        assert_eq!(
            of(running, true).unwrap_err(),
            "previous terminated container \"c\" in pod \"web\" not found"
        );
        let waiting = json!({ "state": { "waiting": { "reason": "ContainerCreating" } } });
        assert_eq!(
            of(waiting, false).unwrap_err(),
            "container \"c\" in pod \"web\" is waiting to start: ContainerCreating"
        );
        let pulling = json!({ "state": { "waiting": { "reason": "ImagePullBackOff" } } });
        assert_eq!(
            of(pulling, false).unwrap_err(),
            "container \"c\" in pod \"web\" is waiting to start: trying and failing to pull image"
        );
        let crashed = json!({ "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "exitCode": 1, "containerID": "docker://0" } } });
        assert_eq!(of(crashed.clone(), false).unwrap(), "docker://0");
        assert_eq!(of(crashed, true).unwrap(), "docker://0");
    }
}
