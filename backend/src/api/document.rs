//! What the OpenAPI document says of all operations alike: how one shows a right, and what any of them may answer when it is refused.
//! The operations themselves are told beside their handlers.

use utoipa::openapi::{
    Components, OpenApi, Ref, RefOr, Response,
    content::ContentBuilder,
    path::{Operation, PathItem},
    response::ResponseBuilder,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

/// Operations for which no right is needed.
const PUBLIC: [&str; 5] = ["create_session", "ask_queue", "leave_queue", "list_playgrounds", "show_host"];

/// Refusals that any operation may answer: (status, name, what it means).
const ANY: [(&str, &str, &str); 11] = [
    ("400", "BadRequest", "The request makes no sense"),
    ("403", "NoRight", "No right to this, or none at all"),
    ("404", "NotFound", "There is no such thing"),
    ("405", "WrongMethod", "The address does not take this method"),
    ("409", "Conflict", "The thing is not in a state for this"),
    ("421", "UnknownHost", "The Host header names another server"),
    ("429", "Limit", "A limit of the operator is reached"),
    ("500", "Internal", "Something failed inside the server"),
    ("502", "SessionFailed", "The session gave no answer, or none that makes sense"),
    ("503", "Unavailable", "Not now; Retry-After says when"),
    ("504", "SessionSlow", "The session did not answer in time"),
];
/// The same of operations that take a body.
const WITH_BODY: [(&str, &str, &str); 3] = [
    ("408", "SlowBody", "The body did not come in time"),
    ("413", "TooLarge", "The body is too large"),
    ("415", "NotJson", "The body must be JSON"),
];

/// Adds it to the document that was made from the handlers.
pub fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    for (_, name, what) in ANY.iter().chain(&WITH_BODY) {
        components.responses.insert((*name).into(), RefOr::T(refusal(what)));
    }
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The token of a link")).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    let cookie = ApiKeyValue::with_description(
        "drydock",
        "From /sessions/{id}/enter. With TLS its name is __Host-drydock- with the session's id",
    );
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    let none: [&str; 0] = [];
    document.security = Some(["token", "cookie"].map(|name| SecurityRequirement::new(name, none)).into());
    document.paths.paths.values_mut().flat_map(operations).for_each(complete_one);
    document
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = path;
    [get, put, post, delete].into_iter().flatten()
}

fn complete_one(operation: &mut Operation) {
    if operation.operation_id.as_deref().is_some_and(|id| PUBLIC.contains(&id)) {
        operation.security = Some(vec![]);
    }
    let with_body = operation.request_body.is_some().then_some(&WITH_BODY).into_iter().flatten();
    for (status, name, _) in ANY.iter().chain(with_body) {
        let refusal = || RefOr::Ref(Ref::from_response_name(*name));
        operation.responses.responses.entry((*status).into()).or_insert_with(refusal);
    }
}

fn refusal(what: &str) -> Response {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ApiError"))).build();
    ResponseBuilder::new().description(what).content("application/json", body).build()
}
