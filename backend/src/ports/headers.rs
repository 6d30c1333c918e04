//! What the port proxy changes in headers: our cookie goes to no node; a node's answer cannot set cookies for, or clear the data of, anything but its own origin.

use super::split_authority;
use crate::auth::is_our_cookie;
use axum::http::{HeaderMap, HeaderValue, header};
use std::net::IpAddr;

/// The browser is told to treat what comes by path as a site of its own: no cookies, no storage, no calls to us.
pub const SANDBOX: &str = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads";

/// What a browser would take as said of the whole origin, or remember of it, beyond the answer: where that is ours, no node may say it.
const OF_THE_ORIGIN: [&str; 16] = [
    "accept-ch",
    "alt-svc",
    "clear-site-data",
    "critical-ch",
    "nel",
    "no-vary-search",
    "origin-agent-cluster",
    "origin-trial",
    "public-key-pins",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "speculation-rules",
    "strict-transport-security",
    "use-as-dictionary",
];

/// Whether a page below our origin asks: [`SANDBOX`] makes it a site without a name, so that to the browser all its calls go to another
/// site. Whoever asks so knows the port's capability, which is the right to read the answer.
pub fn is_from_below(request: &HeaderMap) -> bool {
    request.get(header::ORIGIN).is_some_and(|origin| origin == "null")
}

/// The answer's headers if the browser asks for such a page what it may send (Fetch, "CORS-preflight request").
pub fn preflight(request: &HeaderMap) -> Option<HeaderMap> {
    let method = request.get(header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| is_from_below(request))?;
    let mut headers = HeaderMap::new();
    readable_below(&mut headers);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(names) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    Some(headers)
}

/// Lets such a page read an answer, if the node has not said who may.
pub fn readable_below(answer: &mut HeaderMap) {
    if !answer.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("null"));
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        answer.append(header::VARY, HeaderValue::from_static("origin"));
    }
}

/// Takes from an answer that comes below our own origin what would count for all of it.
pub fn below_our_origin(headers: &mut HeaderMap) {
    OF_THE_ORIGIN.iter().for_each(|name| drop(headers.remove(*name)));
}

/// Tells the node who asked and by which address; takes our cookie out.
pub fn on_request(headers: &mut HeaderMap, client: IpAddr, scheme: &'static str, prefix: Option<&str>) {
    let host = headers.get(header::HOST).cloned();
    let mut set = |name: &'static str, value: Option<HeaderValue>| match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    };
    set("x-forwarded-for", HeaderValue::from_str(&client.to_string()).ok());
    set("x-forwarded-proto", Some(HeaderValue::from_static(scheme)));
    set("x-forwarded-host", host);
    set("x-forwarded-prefix", prefix.and_then(|p| HeaderValue::from_str(p).ok()));
    set("forwarded", None);
    if prefix.is_some() && is_from_below(headers) {
        // To the node its own pages are no strangers.
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if let Ok(origin) = HeaderValue::from_str(&format!("{scheme}://{host}")) {
            headers.insert(header::ORIGIN, origin);
        }
    }

    let kept: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|c| !is_ours(c))
        .collect();
    let kept = kept.join(&b"; "[..]);
    match HeaderValue::from_bytes(&kept) {
        Ok(value) if !kept.is_empty() => drop(headers.insert(header::COOKIE, value)),
        _ => drop(headers.remove(header::COOKIE)),
    }
}

/// How the browser came to the node, as far as the node's answer has to lead it back there.
pub struct Back<'a> {
    /// The request's `Host`.
    pub host: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The part of the path that is ours, if the port has no origin of its own.
    pub prefix: Option<&'a str>,
}

/// Keeps a node's answer within its own origin.
pub fn on_response(headers: &mut HeaderMap, back: &Back) {
    let prefix = back.prefix;
    // Those that a browser takes for a domain and what is below it, also where the node has an origin of its own.
    for name in ["clear-site-data", "strict-transport-security"] {
        headers.remove(name);
    }
    let cookies: Vec<HeaderValue> =
        headers.get_all(header::SET_COOKIE).iter().filter_map(|c| own_cookie(c, prefix)).collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    if let Some(location) = headers.get(header::LOCATION).and_then(|l| l.to_str().ok())
        && let Some(moved) = relocate(location, back)
    {
        headers.insert(header::LOCATION, moved);
    }
    if prefix.is_some() {
        below_our_origin(headers);
        // A second policy only narrows a first.
        headers.append(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    }
}

/// A redirection to a path of the node, or to the host by which it was asked, leads back to the node; one elsewhere is left alone.
fn relocate(location: &str, back: &Back) -> Option<HeaderValue> {
    let own = own_path(location, back);
    let path = own.as_deref().unwrap_or(location);
    // Two slashes at the start would be another host.
    let is_path =
        path.starts_with('/') && (!path.starts_with("//") || own.is_some() && back.prefix.is_some());
    let prefix = back.prefix.unwrap_or_default();
    let done = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let moved = if done { path.to_owned() } else { format!("{prefix}{path}") };
    if is_path && moved != location { HeaderValue::from_str(&moved).ok() } else { None }
}

/// The path of an address that names the host that the node was asked as. Many servers write such addresses themselves and know neither
/// our TCP port nor that the way to us is encrypted (nginx leads from `/dir` to `http://HOST/dir/`). One that asks for TLS where there is
/// none is not followed: the node would ask for it again and again.
fn own_path(location: &str, back: &Back) -> Option<String> {
    let (scheme, rest) = location.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case(back.scheme) {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let own = split_authority(authority).0.eq_ignore_ascii_case(split_authority(back.host).0);
    own.then(|| if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

fn own_cookie(cookie: &HeaderValue, prefix: Option<&str>) -> Option<HeaderValue> {
    let text = cookie.as_bytes();
    let mut parts = text.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let pair = parts.next()?;
    if is_ours(pair) {
        return None;
    }
    let mut out = pair.to_vec();
    for part in parts {
        let name = part.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        let dropped =
            name.eq_ignore_ascii_case(b"domain") || (prefix.is_some() && name.eq_ignore_ascii_case(b"path"));
        if !dropped {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(part);
        }
    }
    if let Some(prefix) = prefix {
        out.extend_from_slice(format!("; Path={prefix}/").as_bytes());
    }
    HeaderValue::from_bytes(&out).ok()
}

fn is_ours(cookie: &[u8]) -> bool {
    let name = cookie.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
    is_our_cookie(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    fn back(prefix: Option<&str>) -> Back<'_> {
        Back { host: "play.test:8803", scheme: "http", prefix }
    }

    #[test]
    fn what_counts_for_an_origin_is_said_of_none_but_the_nodes_own() {
        let all =
            ["Strict-Transport-Security", "NEL", "Report-To", "Refresh", "Alt-Svc", "Speculation-Rules"];
        let answer = || {
            let mut h = HeaderMap::new();
            all.iter().for_each(|name| {
                drop(h.insert(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value("x")))
            });
            h.insert(header::ETAG, value("x"));
            h
        };
        let mut by_path = answer();
        on_response(&mut by_path, &back(Some("/p/x")));
        assert!(all.iter().all(|name| !by_path.contains_key(*name)), "{by_path:?}");
        assert!(by_path.contains_key(header::ETAG));
        let mut by_host = answer();
        on_response(&mut by_host, &back(None));
        assert!(by_host.contains_key("refresh") && !by_host.contains_key("strict-transport-security"));
    }

    #[test]
    fn our_cookie_goes_to_no_node_and_none_of_theirs_comes_to_us() {
        let mut h = HeaderMap::new();
        h.insert(header::HOST, value("x.localhost"));
        h.insert(header::COOKIE, value("a=1; drydock=secret; b=2"));
        on_request(&mut h, "192.0.2.1".parse().unwrap(), "http", None);
        assert_eq!(h[header::COOKIE], "a=1; b=2");
        assert_eq!(h["x-forwarded-for"], "192.0.2.1");

        let mut h = HeaderMap::new();
        h.append(header::SET_COOKIE, value("drydock=evil; Path=/api"));
        h.append(header::SET_COOKIE, value("s=1; Domain=play.example.org; Path=/x; HttpOnly"));
        on_response(&mut h, &back(None));
        assert_eq!(h.get_all(header::SET_COOKIE).iter().collect::<Vec<_>>(), ["s=1; Path=/x; HttpOnly"]);
        on_response(&mut h, &back(Some("/p/L")));
        assert_eq!(h.get_all(header::SET_COOKIE).iter().collect::<Vec<_>>(), ["s=1; HttpOnly; Path=/p/L/"]);
    }

    #[test]
    fn pages_below_our_origin_may_ask_and_read() {
        let mut asked = HeaderMap::new();
        asked.insert(header::HOST, value("192.0.2.7:8080"));
        asked.insert(header::ORIGIN, value("null"));
        assert_eq!(preflight(&asked), None);
        asked.insert(header::ACCESS_CONTROL_REQUEST_METHOD, value("PUT"));
        asked.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, value("content-type"));
        let answer = preflight(&asked).unwrap();
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_ORIGIN], "null");
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_HEADERS], "content-type");
        on_request(&mut asked, "192.0.2.1".parse().unwrap(), "http", Some("/p/L"));
        assert_eq!(asked[header::ORIGIN], "http://192.0.2.7:8080");

        // Nobody else is let in, and what the node says itself counts.
        let mut foreign = HeaderMap::new();
        foreign.insert(header::ORIGIN, value("https://evil.example"));
        foreign.insert(header::ACCESS_CONTROL_REQUEST_METHOD, value("PUT"));
        assert_eq!(preflight(&foreign), None);
        let mut said = HeaderMap::new();
        said.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value("https://a.example"));
        readable_below(&mut said);
        assert_eq!(said[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
    }

    fn moved(location: &str, back: &Back) -> Option<String> {
        relocate(location, back).map(|v| v.to_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn redirections_stay_below_the_prefix() {
        let moved = |l: &str| moved(l, &back(Some("/p/L")));
        assert_eq!(moved("/login").as_deref(), Some("/p/L/login"));
        assert_eq!(moved("/p/L/login"), None);
        assert_eq!(moved("login"), None);
        assert_eq!(moved("//evil.example/"), None);
        assert_eq!(moved("https://example.org/"), None);
        // As nginx and httpd write it, with the port that they know.
        assert_eq!(moved("http://play.test/dir/").as_deref(), Some("/p/L/dir/"));
        assert_eq!(moved("http://Play.test:8803/dir/?a=//b").as_deref(), Some("/p/L/dir/?a=//b"));
        assert_eq!(moved("http://play.test:80").as_deref(), Some("/p/L/"));
        assert_eq!(moved("http://play.test//x").as_deref(), Some("/p/L//x"));
        assert_eq!(moved("http://play.test:8803/p/L/login").as_deref(), Some("/p/L/login"));
        assert_eq!(moved("https://play.test/dir/"), None);
        assert_eq!(moved("http://play.test.evil.example/"), None);
    }

    #[test]
    fn redirections_to_the_ports_own_origin_keep_it() {
        let moved = |l: &str, scheme| moved(l, &Back { host: "l.localhost:8080", scheme, prefix: None });
        assert_eq!(moved("http://l.localhost/dir/", "http").as_deref(), Some("/dir/"));
        assert_eq!(moved("http://l.localhost:80?x", "http").as_deref(), Some("/?x"));
        assert_eq!(moved("http://l.localhost/dir/", "https").as_deref(), Some("/dir/"));
        assert_eq!(moved("https://l.localhost/dir/", "https").as_deref(), Some("/dir/"));
        assert_eq!(moved("https://l.localhost/dir/", "http"), None);
        assert_eq!(moved("http://l.localhost//evil.example/", "http"), None);
        assert_eq!(moved("/dir/", "http"), None);
        assert_eq!(moved("http://other.localhost/dir/", "http"), None);
    }
}
