//! What a request is about, read from its method and path (k8s.io/apiserver `pkg/endpoints/request/requestinfo.go`). The router and the
//! authorisation decide by it alone, so they can't disagree about what was asked.

use super::query::Query;
use http::{Method, Uri};
use percent_encoding::percent_decode_str;

/// A request, as far as method, path and query tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// False for `/version` and the like: then only `path` and `verb` say something.
    pub is_resource: bool,
    /// The decoded path.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, … or, of no resource, the method in lower case.
    pub verb: &'static str,
    /// Empty: core.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Empty: all, or none.
    pub namespace: String,
    /// True if the resource stands below a namespace in the path. A namespace itself does not, though it has `namespace` too.
    pub is_below_namespace: bool,
    /// Such as `pods`.
    pub resource: String,
    /// Such as `log`; empty: the object itself.
    pub subresource: String,
    /// Empty: the collection.
    pub name: String,
    /// What follows the subresource, as written (not decoded), with its leading slash.
    pub rest: String,
    /// True if the path began with the deprecated `watch/`.
    pub watch_by_path: bool,
}

/// The longest path that is looked at; longer ones name nothing.
const LONGEST_PATH: usize = 8192;

impl RequestInfo {
    /// Reads method, path and query.
    pub fn new(method: &Method, uri: &Uri, query: &Query) -> Self {
        let raw = uri.path();
        let mut info = Self { path: decoded(raw), verb: lower(method), ..Self::default() };
        if raw.len() > LONGEST_PATH {
            return info;
        }
        let trimmed = raw.trim_matches('/');
        let mut parts = trimmed.split('/');
        let grouped = match parts.next() {
            Some("api") => false,
            Some("apis") => true,
            _ => return info,
        };
        let group = if grouped { parts.next().map(decoded).unwrap_or_default() } else { String::new() };
        let Some(version) = parts.next().map(decoded) else { return info };
        let parts: Vec<&str> = parts.collect();
        if parts.is_empty() || version.is_empty() || (grouped && group.is_empty()) {
            return info;
        }
        info.group = group;
        info.version = version;
        info.is_resource = true;
        info.take_parts(&parts, method);
        info.refine_verb(query);
        if raw.ends_with('/') && !info.rest.is_empty() && !info.rest.ends_with('/') {
            info.rest.push('/');
        }
        info
    }

    /// Namespace, resource, name, subresource and rest.
    fn take_parts(&mut self, mut parts: &[&str], method: &Method) {
        self.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        if parts[0] == "watch" && parts.len() > 1 {
            self.verb = "watch";
            self.watch_by_path = true;
            parts = &parts[1..];
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace = decoded(parts[1]);
            // These two belong to the namespace itself.
            if parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
                parts = &parts[2..];
                self.is_below_namespace = true;
            }
        }
        self.resource = decoded(parts[0]);
        self.name = parts.get(1).map(|part| decoded(part)).unwrap_or_default();
        self.subresource = parts.get(2).map(|part| decoded(part)).unwrap_or_default();
        for part in parts.iter().skip(3) {
            self.rest.push('/');
            self.rest.push_str(part);
        }
    }

    /// A get of no name is a list or a watch, a delete of none the deletion of a collection.
    fn refine_verb(&mut self, query: &Query) {
        if !self.name.is_empty() {
            return;
        }
        match self.verb {
            "get" => {
                self.verb = if query.flag("watch") { "watch" } else { "list" };
                // As upstream, so that a rule with `resourceNames` can allow the watch of one object.
                if let Some(name) = query.get("fieldSelector").and_then(exact_name) {
                    self.name = name.to_string();
                }
            }
            "delete" => self.verb = "deletecollection",
            _ => {}
        }
    }

    /// True if it is answered by a stream or an upgrade, and so not counted among those in flight.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(self.subresource.as_str(), "proxy" | "exec" | "attach" | "portforward" | "log")
    }

    /// True if the object's collection (and no object of it) is meant.
    pub fn is_collection(&self) -> bool {
        matches!(self.verb, "list" | "watch" | "deletecollection") || self.name.is_empty()
    }
}

/// The name that a field selector demands, if it demands one.
fn exact_name(selector: &str) -> Option<&str> {
    selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name=")?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!value.is_empty() && !value.contains(['/', '%', '\\'])).then_some(value)
    })
}

fn decoded(part: &str) -> String {
    if !part.contains('%') {
        return part.into();
    }
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

fn lower(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, uri: &str) -> RequestInfo {
        let uri: Uri = uri.parse().expect("a URI");
        let query = Query::parse(uri.query().unwrap_or_default());
        RequestInfo::new(&method.parse().expect("a method"), &uri, &query)
    }

    /// Cases of upstream's `requestinfo_test.go`: method, path, verb, group, version, namespace, resource, subresource, name.
    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        let cases = [
            ("GET", "/api/v1/namespaces", "list", "", "v1", "", "namespaces", "", ""),
            ("GET", "/api/v1/namespaces/other", "get", "", "v1", "other", "namespaces", "", "other"),
            ("GET", "/api/v1/namespaces/other/pods", "list", "", "v1", "other", "pods", "", ""),
            ("GET", "/api/v1/namespaces/other/pods/foo", "get", "", "v1", "other", "pods", "", "foo"),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", "get", "", "v1", "other", "pods", "", "foo"),
            ("GET", "/api/v1/pods", "list", "", "v1", "", "pods", "", ""),
            ("HEAD", "/api/v1/pods", "list", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/watch/pods", "watch", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/watch/namespaces/other/pods", "watch", "", "v1", "other", "pods", "", ""),
            ("GET", "/api/v1/namespaces/other/pods/foo/log", "get", "", "v1", "other", "pods", "log", "foo"),
            (
                "PUT",
                "/api/v1/namespaces/other/finalize",
                "update",
                "",
                "v1",
                "other",
                "namespaces",
                "finalize",
                "other",
            ),
            (
                "PUT",
                "/api/v1/namespaces/other/status",
                "update",
                "",
                "v1",
                "other",
                "namespaces",
                "status",
                "other",
            ),
            ("PATCH", "/api/v1/namespaces/other/pods/foo", "patch", "", "v1", "other", "pods", "", "foo"),
            ("DELETE", "/api/v1/namespaces/other/pods/foo", "delete", "", "v1", "other", "pods", "", "foo"),
            (
                "DELETE",
                "/api/v1/namespaces/other/pods",
                "deletecollection",
                "",
                "v1",
                "other",
                "pods",
                "",
                "",
            ),
            (
                "POST",
                "/apis/apps/v1/namespaces/other/deployments",
                "create",
                "apps",
                "v1",
                "other",
                "deployments",
                "",
                "",
            ),
            ("GET", "/api/v1/pods?watch=true", "watch", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/pods?watch=false", "list", "", "v1", "", "pods", "", ""),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name%3Dfoo",
                "list",
                "",
                "v1",
                "",
                "pods",
                "",
                "foo",
            ),
        ];
        for (method, uri, verb, group, version, namespace, resource, subresource, name) in cases {
            let got = info(method, uri);
            let want = (true, verb, group, version, namespace, resource, subresource, name);
            let got = (
                got.is_resource,
                got.verb,
                &*got.group,
                &*got.version,
                &*got.namespace,
                &*got.resource,
                &*got.subresource,
                &*got.name,
            );
            assert_eq!(got, want, "{method} {uri}");
        }
        for uri in
            ["/", "/api", "/apis/", "/apis/apps", "/apis/apps/v1", "/api/v1", "/api/v1/", "/healthz/ping"]
        {
            assert!(!info("GET", uri).is_resource, "{uri}");
        }
    }

    #[test]
    fn what_follows_a_proxy_is_kept_as_written() {
        let got = info("GET", "/api/v1/namespaces/n/services/http:web:80/proxy/a%2Fb/c/");
        assert_eq!((got.name.as_str(), got.rest.as_str()), ("http:web:80", "/a%2Fb/c/"));
    }
}
