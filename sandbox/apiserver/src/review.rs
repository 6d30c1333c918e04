//! Kinds that are questions: they are answered and not stored (`authentication.k8s.io`, `authorization.k8s.io`).

use crate::http::respond::Answer;
use crate::rest::Call;
use drydock_apimachinery::{Status, object};
use http::StatusCode;
use hyper::body::Incoming;
use serde_json::Value;

/// Answers a question.
pub async fn answer(call: &mut Call, mut tree: Value) -> Result<Answer, Status> {
    if call.resource.is("authentication.k8s.io", "selfsubjectreviews") {
        let user = serde_json::to_value(&call.user).map_err(Status::internal)?;
        object::map_mut(&mut tree, &["status"]).insert("userInfo".into(), user);
        return call.answer_tree(StatusCode::CREATED, tree);
    }
    Err(Status::method_not_supported(call.resource.group_resource(), "create"))
}

/// A token of a service account (`serviceaccounts/NAME/token`).
pub async fn token(call: &mut Call, _body: Incoming) -> Result<Answer, Status> {
    Err(Status::method_not_supported(call.resource.group_resource(), "create"))
}
