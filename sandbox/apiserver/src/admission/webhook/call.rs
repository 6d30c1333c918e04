//! Asking one webhook: an `AdmissionReview`, and its answer (k8s.io/apiserver `pkg/admission/plugin/webhook/request`).

use super::super::matching::{Write, request};
use crate::codec;
use crate::rest::meta;
use crate::server::Server;
use crate::webhook_client;
use drydock_apimachinery::object::{int, list, text};
use drydock_apimachinery::ordered;
use serde_json::Value;

/// The forms of the question that we know.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// What a webhook answers about a write; an error: it could not be asked, or its answer is none.
pub async fn ask(server: &Server, hook: &Value, write: &Write<'_>, changes: bool) -> Result<Value, String> {
    let known = |one: &&str| VERSIONS.contains(one);
    let version = list(hook, &["admissionReviewVersions"]).iter().filter_map(Value::as_str).find(known);
    let version = version.ok_or("webhook does not accept known AdmissionReview versions (v1, v1beta1)")?;
    let uid = meta::uid().map_err(|status| status.message)?;
    let review = review(write, &uid, version);
    let seconds =
        int(hook, &["timeoutSeconds"]).and_then(|n| u64::try_from(n).ok()).unwrap_or(10).clamp(1, 30);
    let answered = webhook_client::post(server, &hook["clientConfig"], review, seconds).await;
    let answered = answered.map_err(|why| format!("failed to call webhook: {why}"))?;
    verified(&answered, &uid, version, changes)
        .map_err(|why| format!("received invalid webhook response: {why}"))
}

/// The fields of `AdmissionRequest` in its order.
const FIELDS: [&str; 15] = [
    "uid",
    "kind",
    "resource",
    "subResource",
    "requestKind",
    "requestResource",
    "requestSubResource",
    "name",
    "namespace",
    "operation",
    "userInfo",
    "object",
    "oldObject",
    "dryRun",
    "options",
];

/// `AdmissionReview`.
fn review(write: &Write<'_>, uid: &str, version: &str) -> Vec<u8> {
    let whole = |tree: &Value| {
        let mut tree = tree.clone();
        if !tree.is_null() && write.context.kind.is_none() {
            codec::complete(write.context.resource, &mut tree);
        }
        tree
    };
    let mut request = request(write);
    request["uid"] = uid.into();
    request["object"] = whole(write.object);
    request["oldObject"] = whole(write.old);
    let mut out =
        format!("{{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/{version}\",\"request\":")
            .into_bytes();
    let mut opening = b'{';
    for field in FIELDS {
        if let Some(value) = request.get(field) {
            out.push(std::mem::replace(&mut opening, b','));
            out.extend_from_slice(format!("{field:?}:").as_bytes());
            ordered::write(&mut out, value);
        }
    }
    out.extend_from_slice(b"}}");
    out
}

/// What is in an answer, if it is one to this question (`VerifyAdmissionResponse`).
fn verified(answer: &Value, uid: &str, version: &str, changes: bool) -> Result<Value, String> {
    let response = &answer["response"];
    if response.is_null() {
        return Err("webhook response was absent".into());
    }
    // The old form had fewer rules.
    if version == "v1beta1" {
        return Ok(response.clone());
    }
    let told = text(response, &["uid"]);
    if told != uid {
        return Err(format!("expected response.uid={uid:?}, got {told:?}"));
    }
    let (api_version, kind) = (text(answer, &["apiVersion"]), text(answer, &["kind"]));
    if (api_version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
        let got = if api_version.contains('/') { api_version.into() } else { format!("/{api_version}") };
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {got}, Kind={kind}"
        ));
    }
    let has = |field: &str| response.get(field).is_some_and(|value| !value.is_null());
    match (changes, !text(response, &["patch"]).is_empty(), has("patchType")) {
        (true, true, false) => Err("webhook returned response.patch but not response.patchType".into()),
        (true, false, true) => Err("webhook returned response.patchType but not response.patch".into()),
        (true, true, true) if response["patchType"] == "" => {
            Err("webhook returned invalid response.patchType of \"\"".into())
        }
        (false, true, _) => Err("validating webhook may not return response.patch".into()),
        (false, false, true) => Err("validating webhook may not return response.patchType".into()),
        _ => Ok(response.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_that_is_none_is_told_in_upstreams_words() {
        let told = |answer: Value, changes| verified(&answer, "u", "v1", changes).expect_err("it is wrong");
        let answer = |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        assert_eq!(told(json!({}), true), "webhook response was absent");
        let other = json!({"uid": "v", "allowed": true});
        assert_eq!(told(answer(other), true), "expected response.uid=\"u\", got \"v\"");
        assert_eq!(
            told(json!({"response": {"uid": "u"}}), true),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="
        );
        let patch = json!({"uid": "u", "patch": "W10="});
        let half = "webhook returned response.patch but not response.patchType";
        assert_eq!(told(answer(patch.clone()), true), half);
        assert_eq!(told(answer(patch), false), "validating webhook may not return response.patch");
        assert!(verified(&answer(json!({"uid": "u", "allowed": true})), "u", "v1", true).is_ok());
    }
}
