//! Kinds that are questions: they are answered and not stored (`authentication.k8s.io`, `authorization.k8s.io`), tokens of service
//! accounts, and what others need to check these tokens.

use crate::admission::Operation;
use crate::authn::User;
use crate::authn::service_account::{Bound, NewToken};
use crate::authz::{Attributes, Decision, Rule};
use crate::codec::{self, Expected};
use crate::http::negotiate;
use crate::http::respond::{self, Answer};
use crate::rest::Call;
use crate::rest::meta;
use crate::rest::options::{Options, WriteOptions, Writing};
use crate::rest::write::{self, refusal};
use crate::server::Server;
use crate::storage::decode;
use drydock_apimachinery::Status;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object::{self, at, int, list, map_mut, text};
use drydock_apimachinery::status::GroupResource;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
/// A kubelet that asks for a token of so many seconds shows that it renews it; the token is then good for a year, for programs that
/// read it only once (`WarnOnlyBoundTokenExpirationPeriod`, `ExpirationExtensionSeconds`).
const RENEWED: i64 = 3607;
const YEAR: i64 = 24 * 365 * 60 * 60;

/// Answers a question.
pub async fn answer(call: &mut Call, mut tree: Value) -> Result<Answer, Status> {
    call.style.output = negotiate::without_table(&call.headers)?;
    let status = match (&*call.resource.group, &*call.resource.plural) {
        (AUTHENTICATION, "selfsubjectreviews") => json!({"userInfo": user_info(&call.user)?}),
        (AUTHENTICATION, "tokenreviews") => token_review(call, &tree)?,
        (AUTHORIZATION, "selfsubjectaccessreviews") => access(call, &tree, &call.user.clone())?,
        (AUTHORIZATION, "subjectaccessreviews") => access(call, &tree, &subject(call, &tree)?)?,
        (AUTHORIZATION, "localsubjectaccessreviews") => {
            check_namespace(call, &tree)?;
            access(call, &tree, &subject(call, &tree)?)?
        }
        (AUTHORIZATION, "selfsubjectrulesreviews") => rules(call, &tree)?,
        _ => return Err(Status::method_not_supported(call.resource.group_resource(), "create")),
    };
    // Upstream's reviews have nothing that stored objects have, but for that of whoever asks of himself: it has a time.
    if call.resource.is(AUTHENTICATION, "selfsubjectreviews") {
        map_mut(&mut tree, &[]).insert("metadata".into(), json!({"creationTimestamp": meta::now()}));
    }
    map_mut(&mut tree, &["metadata"]);
    map_mut(&mut tree, &[]).insert("status".into(), status);
    call.answer_tree(StatusCode::CREATED, tree)
}

fn user_info(user: &User) -> Result<Value, Status> {
    serde_json::to_value(user).map_err(Status::internal)
}

fn strings(tree: &Value, path: &[&str]) -> Vec<String> {
    list(tree, path).iter().filter_map(Value::as_str).map(String::from).collect()
}

fn token_review(call: &Call, tree: &Value) -> Result<Value, Status> {
    let token = text(tree, &["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let wanted = strings(tree, &["spec", "audiences"]);
    match call.server.authenticator.token(token, &wanted) {
        Some((user, audiences)) => {
            Ok(json!({"authenticated": true, "user": user_info(&user)?, "audiences": audiences}))
        }
        None => Ok(json!({"user": {}, "error": "invalid bearer token"})),
    }
}

/// Of whom a review asks.
fn subject(call: &Call, tree: &Value) -> Result<User, Status> {
    let spec = &tree["spec"];
    let (name, groups) = (text(spec, &["user"]), strings(spec, &["groups"]));
    if name.is_empty() && groups.is_empty() {
        let mut errors = ErrorList::default();
        let path = Path::new("spec.user");
        errors.invalid(&path, name, "at least one of user or group must be specified");
        return Err(Status::invalid(call.resource.group_kind(), "", &errors));
    }
    let extra = object::map(spec, &["extra"]).into_iter().flatten();
    let extra = extra.map(|(key, values)| (key.clone(), strings(values, &[]))).collect();
    Ok(User { name: name.into(), uid: text(spec, &["uid"]).into(), groups, extra })
}

fn check_namespace(call: &Call, tree: &Value) -> Result<(), Status> {
    let asked = text(tree, &["spec", "resourceAttributes", "namespace"]);
    if asked == call.namespace() {
        return Ok(());
    }
    let why = format!(
        "spec.resourceAttributes.namespace must match namespace: {asked:?} is not {:?}",
        call.namespace()
    );
    Err(Status::bad_request(why))
}

/// Whether somebody may do what a review asks.
fn access(call: &Call, tree: &Value, user: &User) -> Result<Value, Status> {
    let spec = Path::new("spec");
    let of = |field: &str| at(tree, &["spec", field]).filter(|value| !value.is_null());
    let mut errors = ErrorList::default();
    let asked = match (of("resourceAttributes"), of("nonResourceAttributes")) {
        (Some(_), Some(value)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.invalid(&spec.child("nonResourceAttributes"), value.clone(), why);
            return Err(Status::invalid(call.resource.group_kind(), "", &errors));
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.invalid(&spec.child("resourceAttributes"), Value::Null, why);
            return Err(Status::invalid(call.resource.group_kind(), "", &errors));
        }
        (Some(resource), None) => Attributes {
            user,
            verb: text(resource, &["verb"]),
            is_resource: true,
            path: "",
            group: text(resource, &["group"]),
            version: text(resource, &["version"]),
            resource: text(resource, &["resource"]),
            subresource: text(resource, &["subresource"]),
            namespace: text(resource, &["namespace"]),
            name: text(resource, &["name"]),
        },
        (None, Some(path)) => Attributes {
            user,
            verb: text(path, &["verb"]),
            is_resource: false,
            path: text(path, &["path"]),
            group: "",
            version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
        },
    };
    let decision = call.server.authorizer.decide(&asked);
    let mut status = json!({"allowed": decision.is_allowed()});
    let (Decision::Allow(reason) | Decision::NoOpinion(reason)) = decision;
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    Ok(status)
}

/// All that the asker may do in a namespace.
fn rules(call: &Call, tree: &Value) -> Result<Value, Status> {
    let namespace = text(tree, &["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut rules = call.server.authorizer.rules_of(&call.user, namespace);
    if call.user.is_in("system:masters") {
        let all = vec!["*".to_string()];
        rules.push(Rule {
            verbs: all.clone(),
            groups: all.clone(),
            resources: all.clone(),
            ..Rule::default()
        });
        rules.push(Rule { verbs: all.clone(), urls: all, ..Rule::default() });
    }
    let (urls, resources): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.resources.is_empty());
    let values = |rules: Vec<&Rule>| rules.into_iter().map(Rule::to_value).collect::<Vec<_>>();
    Ok(json!({"resourceRules": values(resources), "nonResourceRules": values(urls), "incomplete": false}))
}

/// A token of a service account (`serviceaccounts/NAME/token`; `pkg/registry/core/serviceaccount/storage/token.go`).
pub async fn token(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let options = WriteOptions::new(&call.query, Writing::Create)?;
    let (input, bytes) = call.body(incoming).await?;
    let expected = Expected { group: AUTHENTICATION, version: "v1", kind: "TokenRequest" };
    let mut request =
        codec::decode_typed(&expected, input, &bytes, options.field_validation, &mut call.warnings)?;
    meta::set_namespace(&mut request, &call.resource, call.namespace())?;
    let name = call.info.name.as_str();
    check_token_name(&request, name)?;
    let account = find(call, "serviceaccounts", "serviceaccounts", name)?;
    check_token_uid(&request, &account)?;
    let server = call.server.clone();
    let issuer = &server.authenticator.service_accounts.issuer;
    let mut audiences = strings(&request, &["spec", "audiences"]);
    if audiences.is_empty() {
        audiences.push(issuer.clone());
    }
    let wanted = int(&request, &["spec", "expirationSeconds"]).unwrap_or(3600);
    check_seconds(wanted)?;
    let bound = bound(call, &request, &account)?;
    write::admit_other(call, Operation::Create, expected, Options::Write(&options), &mut request).await?;
    let is_extended = wanted == RENEWED && bound.pod.is_some() && audiences == [issuer.clone()];
    let token = if options.dry_run {
        String::new()
    } else {
        server.authenticator.service_accounts.issue(&NewToken {
            account: &account,
            bound,
            audiences: &audiences,
            seconds: if is_extended { YEAR } else { wanted },
            warn_after: is_extended.then_some(wanted),
        })?
    };
    let until = Timestamp::now().checked_add(SignedDuration::from_secs(wanted)).map_err(Status::internal)?;
    meta::of(&mut request).insert("name".into(), call.info.name.clone().into());
    meta::of(&mut request).insert("namespace".into(), call.namespace().into());
    meta::of(&mut request).insert("uid".into(), object::uid(&account).into());
    meta::of(&mut request).insert("creationTimestamp".into(), meta::now().into());
    let spec = map_mut(&mut request, &["spec"]);
    spec.insert("audiences".into(), audiences.into());
    spec.insert("expirationSeconds".into(), wanted.into());
    spec.entry("boundObjectRef").or_insert(Value::Null);
    request["status"] = json!({"token": token, "expirationTimestamp": meta::seconds(until)});
    call.answer_tree(StatusCode::CREATED, request)
}

/// Whoever says an account in the request says that of the path.
fn check_token_name(request: &Value, account: &str) -> Result<(), Status> {
    let name = object::name(request);
    if name.is_empty() || name == account {
        return Ok(());
    }
    let mut errors = ErrorList::default();
    errors.invalid(&Path::new("metadata.name"), name, "must match the service account name if specified");
    let of = GroupResource { group: AUTHENTICATION, resource: "TokenRequest" };
    Err(Status::invalid(of, account, &errors))
}

/// The same of the account's uid.
fn check_token_uid(request: &Value, account: &Value) -> Result<(), Status> {
    let (uid, has) = (object::uid(request), object::uid(account));
    if uid.is_empty() || uid == has {
        return Ok(());
    }
    let why =
        format!("the UID in the token request ({uid}) does not match the UID of the service account ({has})");
    let of = GroupResource { group: AUTHENTICATION, resource: "TokenRequest" };
    Err(Status::conflict(of, object::name(account), &why))
}

/// `ValidateTokenRequest`.
fn check_seconds(seconds: i64) -> Result<(), Status> {
    let mut errors = ErrorList::default();
    let path = Path::new("spec.expirationSeconds");
    if seconds < 600 {
        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    if errors.is_empty() {
        return Ok(());
    }
    let of = GroupResource { group: AUTHENTICATION, resource: "TokenRequest" };
    Err(Status::invalid(of, "", &errors))
}

/// An object of the account's namespace.
fn find(call: &Call, prefix: &str, plural: &str, name: &str) -> Result<Value, Status> {
    let place = if prefix == "minions" { String::new() } else { format!("{}/", call.namespace()) };
    let key = format!("/registry/{prefix}/{place}{name}");
    let found = call.server.store.get(key.as_bytes(), None).map_err(refusal)?;
    let of = GroupResource { group: "", resource: plural };
    decode(&*found.ok_or_else(|| Status::not_found(of, name))?)
}

/// What the new token is bound to.
fn bound(call: &Call, request: &Value, account: &Value) -> Result<Bound, Status> {
    let reference = &request["spec"]["boundObjectRef"];
    if reference.is_null() {
        return Ok(Bound::default());
    }
    let (kind, name, uid) =
        (text(reference, &["kind"]), text(reference, &["name"]), text(reference, &["uid"]));
    let (prefix, plural) = match (text(reference, &["apiVersion"]), kind) {
        ("v1", "Pod") => ("pods", "pods"),
        ("v1", "Secret") => ("secrets", "secrets"),
        ("v1", "Node") => ("minions", "nodes"),
        (version, kind) => {
            let (group, version) = crate::resource::group_version(version);
            let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(why));
        }
    };
    let found = find(call, prefix, plural, name)?;
    let has = object::uid(&found).to_string();
    if !uid.is_empty() && uid != has {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(Status::conflict(GroupResource { group: "", resource: kind }, name, &why));
    }
    let this = Some((name.to_string(), has));
    Ok(match kind {
        "Secret" => Bound { secret: this, ..Bound::default() },
        "Node" => Bound { node: this, ..Bound::default() },
        _ => {
            let own = text(&found, &["spec", "serviceAccountName"]);
            if own != object::name(account) {
                let why = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    object::name(account)
                );
                return Err(Status::bad_request(why));
            }
            let node = text(&found, &["spec", "nodeName"]);
            let node = (!node.is_empty()).then(|| {
                let uid = find(call, "minions", "nodes", node).map(|node| object::uid(&node).to_string());
                (node.to_string(), uid.unwrap_or_default())
            });
            Bound { pod: this, node, ..Bound::default() }
        }
    })
}

fn document(media: &'static str, tree: &Value) -> Answer {
    let mut answer = respond::bytes(StatusCode::OK, media, tree.to_string());
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    answer
}

/// Keys with which tokens of service accounts can be checked.
pub fn jwks(server: &Server) -> Answer {
    document("application/jwk-set+json", &server.authenticator.service_accounts.jwks())
}

/// What checkers of tokens must know of their issuer (`pkg/serviceaccount/openidmetadata.go`).
pub fn issuer(server: &Server) -> Answer {
    let accounts = &server.authenticator.service_accounts;
    let address = server.options.advertise_address;
    let at = std::net::SocketAddr::new(address, server.options.secure_port);
    document(
        "application/json",
        &json!({
            "issuer": accounts.issuer,
            "jwks_uri": format!("https://{at}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": accounts.algorithms(),
        }),
    )
}
