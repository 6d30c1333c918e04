//! Who may do what. The router asks it once per request, handlers ask again for what a request implies (an update that creates).

use crate::authn::User;
use crate::http::RequestInfo;
use drydock_apimachinery::Status;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a User,
    /// Such as `get`.
    pub verb: &'a str,
    /// False: `path` counts, and what follows it does not.
    pub is_resource: bool,
    /// Such as `/healthz`.
    pub path: &'a str,
    /// Empty: core.
    pub group: &'a str,
    /// Such as `v1`.
    pub version: &'a str,
    /// Such as `pods`.
    pub resource: &'a str,
    /// Such as `log`.
    pub subresource: &'a str,
    /// Empty: all, or none.
    pub namespace: &'a str,
    /// Empty: all, or not known.
    pub name: &'a str,
}

impl<'a> Attributes<'a> {
    /// Of a request.
    pub fn of(user: &'a User, info: &'a RequestInfo) -> Self {
        Self {
            user,
            verb: info.verb,
            is_resource: info.is_resource,
            path: &info.path,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
        }
    }

    /// The refusal (`pkg/endpoints/handlers/responsewriters/errors.go`).
    pub fn forbidden(&self, reason: &str) -> Status {
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let of = drydock_apimachinery::status::GroupResource { group: self.group, resource: self.resource };
        if !self.is_resource {
            let why = format!("User {:?} cannot {} path {:?}{because}", self.user.name, self.verb, self.path);
            return Status::failure(403, "Forbidden", format!("forbidden: {why}")).about(of, "");
        }
        let resource = match self.subresource {
            "" => self.resource.to_string(),
            sub => format!("{}/{sub}", self.resource),
        };
        let place = match self.namespace {
            "" => "at the cluster scope".to_string(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let why = format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {place}{because}",
            self.user.name, self.verb, self.group
        );
        Status::forbidden(of, self.name, &why)
    }
}

/// All who decide.
#[derive(Debug, Default)]
pub struct Authorizer;

impl Authorizer {
    /// A refusal, or nothing.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        if attributes.user.is_in("system:masters") || attributes.user.is_in(crate::authn::AUTHENTICATED) {
            return Ok(());
        }
        let public = ["/healthz", "/livez", "/readyz", "/version"];
        let is_public = public.iter().any(|path| {
            attributes.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if !attributes.is_resource && is_public && attributes.verb == "get" {
            return Ok(());
        }
        Err(attributes.forbidden(""))
    }
}
