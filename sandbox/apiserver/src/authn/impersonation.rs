//! Acting as somebody else: `Impersonate-User` and its like, each of which must be allowed (k8s.io/apiserver
//! `pkg/endpoints/filters/impersonation`).

use super::service_account::{account_groups, account_of};
use super::{AUTHENTICATED, User};
use crate::authz::{Attributes, Authorizer};
use drydock_apimachinery::Status;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Who is meant: the one who asks, or the one whom he names.
pub fn apply(authorizer: &Authorizer, asking: User, headers: &HeaderMap) -> Result<User, Status> {
    let value = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_string()
    };
    let name = value(USER);
    let groups: Vec<String> =
        headers.get_all(GROUP).iter().filter_map(|value| value.to_str().ok()).map(String::from).collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        let Some(key) = header.as_str().strip_prefix(EXTRA) else { continue };
        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
        extra.entry(key).or_default().push(value.to_str().unwrap_or_default().into());
    }
    let uid = value(UID);
    if name.is_empty() {
        if groups.is_empty() && extra.is_empty() && uid.is_empty() {
            return Ok(asking);
        }
        return Err(Status::internal("requested impersonation without impersonating a user"));
    }
    let ask = Ask { authorizer, asking: &asking };
    let account = account_of(&name);
    match account {
        Some((namespace, account)) => ask.may("", "serviceaccounts", "", namespace, account)?,
        None => ask.may("", "users", "", "", &name)?,
    }
    for group in &groups {
        ask.may("", "groups", "", "", group)?;
    }
    for (key, values) in &extra {
        for value in values {
            ask.may("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    if !uid.is_empty() {
        ask.may("authentication.k8s.io", "uids", "", "", &uid)?;
    }
    let mut all = groups;
    if let Some((namespace, _)) = account.filter(|_| all.is_empty()) {
        all = account_groups(namespace);
    }
    let is_said = all.iter().any(|group| group == AUTHENTICATED || group == "system:unauthenticated");
    if name == "system:anonymous" {
        if !is_said {
            all.push("system:unauthenticated".into());
        }
    } else if !is_said {
        all.push(AUTHENTICATED.into());
    }
    Ok(User { name, uid, groups: all, extra })
}

struct Ask<'a> {
    authorizer: &'a Authorizer,
    asking: &'a User,
}

impl Ask<'_> {
    fn may(
        &self,
        group: &str,
        resource: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        self.authorizer.authorize(&Attributes {
            user: self.asking,
            verb: "impersonate",
            is_resource: true,
            path: "",
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
        })
    }
}
