//! Who asks, and what they may do. Every handler gets a [`Caller`] and asks it for the right that it needs; there is no
//! other way to a session. What each route needs is told by the table in `tests/server/rights.rs`.

use crate::{
    error::Error,
    sessions::{
        Sessions,
        links::Opened,
        live::{For, Live},
    },
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, header, request::Parts},
};
use drydock_protocol::{SessionId, state::Role};
use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Name of our cookie where there is no TLS. It counts below its session's path.
const COOKIE: &str = "drydock";
/// With TLS the session's id follows. Browsers take cookies of such names from this very host only: not from a node's page on another
/// name of the same domain.
const HOST_COOKIE: &str = "__Host-drydock-";
/// Most cookies of our names that are tried: as many as browsers keep for a domain.
const MOST_COOKIES: usize = 200;

/// How a request came in; put into its extensions by the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Over the Unix socket that only the operator can open.
    Operator,
    /// Over the network, from this address.
    Web(IpAddr),
}

/// Who asks.
#[derive(Debug)]
pub struct Caller {
    via: Via,
    headers: HeaderMap,
    method: Method,
}

/// A right that was shown.
#[derive(Debug)]
pub struct Right {
    /// The session.
    pub live: Arc<Live>,
    /// What its holder may do.
    pub role: Role,
    /// The link that gave it; absent: the operator.
    pub link: Option<u64>,
    /// When that link stops to hold, seconds since 1970.
    pub link_expires_at: Option<u64>,
}

impl Right {
    /// For whom connections by it count.
    pub fn counts_for(&self) -> For {
        match self.link {
            Some(link) if self.role < Role::Own => For::Link(link),
            _ => For::Owner,
        }
    }

    /// The right that a link's token gives, if it is at least `need`.
    pub fn of_token(sessions: &Sessions, id: &SessionId, token: &str, need: Role) -> Result<Self, Error> {
        Self::of_any(sessions, id, &[token], need)
    }

    /// The same of several tokens: the greatest right that any of them gives.
    fn of_any(sessions: &Sessions, id: &SessionId, tokens: &[&str], need: Role) -> Result<Self, Error> {
        let (live, link) = match sessions.open(id, tokens)? {
            Opened::Live(live, link) => (live, link),
            Opened::Ended(row, link) => return Err(Error::ended(sessions.picture(*row, link.role, None))),
        };
        if link.role < need {
            return Err(Error::role_too_low(match need {
                Role::Own => {
                    "Your link does not let you do this: it takes the session's owner. Ask for an owner's link."
                }
                _ => "Your link lets you look only. Ask the session's owner for a link that lets you type.",
            }));
        }
        Ok(Self { live, role: link.role, link: Some(link.id), link_expires_at: link.expires_at })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Without the listener's word a request has the least rights.
        let via = parts.extensions.get().copied().unwrap_or(Via::Web(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        Ok(Self { via, headers: parts.headers.clone(), method: parts.method.clone() })
    }
}

impl Caller {
    /// Whether it is the operator.
    pub fn is_operator(&self) -> bool {
        self.via == Via::Operator
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Refuses everybody but the operator.
    pub fn must_be_operator(&self) -> Result<(), Error> {
        if self.is_operator() {
            return Ok(());
        }
        Err(Error::new(
            axum::http::StatusCode::FORBIDDEN,
            "operator_only",
            "Only the server's operator may do this, with the drydock command on the server itself.",
        ))
    }

    /// The address that limits count for; absent: the operator.
    pub fn client(&self, behind_proxy: bool) -> Option<String> {
        let Via::Web(address) = self.via else { return None };
        Some(group(client_address(&self.headers, address, behind_proxy)).to_string())
    }

    /// The token in the Authorization header.
    pub fn bearer(&self) -> Option<&str> {
        let text = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }

    /// The right to a session, if it is at least `need`.
    pub fn right(&self, sessions: &Sessions, id: &str, need: Role) -> Result<Right, Error> {
        let id = id.parse();
        if self.is_operator() {
            let id = id.map_err(|e: drydock_protocol::InvalidName| {
                Error::not_found("session_not_found", format!("{e}."))
            })?;
            let live = sessions.open_as_operator(&id)?;
            return Ok(Right { live, role: Role::Own, link: None, link_expires_at: None });
        }
        let bearer = self.bearer();
        if bearer.is_none() && !self.method.is_safe() {
            self.must_be_same_origin(sessions)?;
        }
        let id = id.map_err(|_| Error::no_right())?;
        let tokens = bearer.map_or_else(|| cookies(&self.headers, &id), |token| vec![token]);
        Right::of_any(sessions, &id, &tokens, need)
    }

    /// What the cookies that came along let their holder do with a session, if anything.
    pub fn cookie_role(&self, sessions: &Sessions, id: &str) -> Option<Role> {
        let id = id.parse().ok()?;
        match sessions.open(&id, &cookies(&self.headers, &id)) {
            Ok(Opened::Live(_, link)) => Some(link.role),
            _ => None,
        }
    }

    /// Refuses a request that another site's page made the browser send.
    pub fn must_be_same_origin(&self, sessions: &Sessions) -> Result<(), Error> {
        if is_same_origin(&self.headers, sessions.config.public_url.as_deref()) {
            return Ok(());
        }
        Err(Error::new(
            axum::http::StatusCode::FORBIDDEN,
            "foreign_origin",
            "This request came from another site's page. Programs show their right with 'Authorization: Bearer TOKEN'.",
        ))
    }

    /// For WebSockets: browsers always say the origin, programs need not.
    pub fn may_open_socket(&self, sessions: &Sessions) -> Result<(), Error> {
        let is_program =
            !self.headers.contains_key(header::ORIGIN) && (self.is_operator() || self.bearer().is_some());
        if is_program { Ok(()) } else { self.must_be_same_origin(sessions) }
    }
}

/// The client's address, from a proxy's word if there is one in front of us.
pub fn client_address(headers: &HeaderMap, peer: IpAddr, behind_proxy: bool) -> IpAddr {
    if !behind_proxy {
        return peer;
    }
    let last = headers.get_all("x-forwarded-for").iter().next_back();
    let last = last.and_then(|v| v.to_str().ok()).and_then(|v| v.rsplit(',').next());
    last.and_then(|a| a.trim().parse().ok()).unwrap_or(peer)
}

/// One IPv6 customer has at least a /64.
pub fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(a) => {
            let [a, b, c, d, ..] = a.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

fn is_same_origin(headers: &HeaderMap, public_url: Option<&str>) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    match text(header::ORIGIN) {
        Some(origin) => {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            let by_host =
                authority.is_some_and(|a| text(header::HOST).is_some_and(|h| a.eq_ignore_ascii_case(h)));
            by_host || public_url.is_some_and(|url| origin.eq_ignore_ascii_case(url))
        }
        None => text(header::HeaderName::from_static("sec-fetch-site")) == Some("same-origin"),
    }
}

/// The cookie that lets a browser into a session, for a Set-Cookie header.
pub fn set_cookie(id: &str, token: &str, scheme: &str, max_age: u64) -> String {
    let rest = format!("HttpOnly; SameSite=Lax; Max-Age={max_age}");
    match scheme {
        "https" => format!("{HOST_COOKIE}{id}={token}; Path=/; {rest}; Secure"),
        _ => format!("{COOKIE}={token}; Path=/api/v1/sessions/{id}; {rest}"),
    }
}

/// Whether a cookie's name is one of ours. Nodes neither see nor set such ones.
pub fn is_our_cookie(name: &[u8]) -> bool {
    name == COOKIE.as_bytes() || name.starts_with(HOST_COOKIE.as_bytes())
}

/// What the cookies of our names hold. There may be several: a page on another name of this domain can set some, for a deeper path,
/// which come first then.
fn cookies<'a>(headers: &'a HeaderMap, id: &SessionId) -> Vec<&'a str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let pairs = texts.flat_map(|v| v.split(';')).filter_map(|c| c.trim().split_once('='));
    let ours = |name: &str| name == COOKIE || name.strip_prefix(HOST_COOKIE) == Some(id.as_str());
    pairs.filter(|(name, _)| ours(name)).map(|(_, value)| value).take(MOST_COOKIES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(k, v)| (header::HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_our_own_page_is_same_origin() {
        let own = headers(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]);
        assert!(is_same_origin(&own, None));
        for origin in
            ["http://evil.example", "null", "http://localhost:8081", "http://node1-80-x.localhost:8080"]
        {
            assert!(
                !is_same_origin(&headers(&[("host", "localhost:8080"), ("origin", origin)]), None),
                "{origin}"
            );
        }
        assert!(!is_same_origin(&headers(&[("host", "localhost:8080")]), None));
        let proxied = headers(&[("host", "10.0.0.1:8080"), ("origin", "https://play.example.org")]);
        assert!(is_same_origin(&proxied, Some("https://play.example.org")));
    }

    #[test]
    fn limits_count_for_the_address_behind_the_proxy() {
        let peer = "10.0.0.1".parse().unwrap();
        let h = headers(&[("x-forwarded-for", "6.6.6.6, 192.0.2.7")]);
        assert_eq!(client_address(&h, peer, false), peer);
        assert_eq!(client_address(&h, peer, true).to_string(), "192.0.2.7");
        assert_eq!(group("2001:db8:1:2:3:4:5:6".parse().unwrap()).to_string(), "2001:db8:1:2::");
        assert_eq!(group("::ffff:192.0.2.1".parse().unwrap()).to_string(), "192.0.2.1");
    }

    #[test]
    fn our_cookies_are_found_among_others() {
        let id = "aaaaaaaaaa".parse().unwrap();
        let text = "a=b; drydock=evil; drydock=xyz; __Host-drydock-aaaaaaaaaa=own; __Host-drydock-bbbbbbbbbb=other; drydock2=no";
        assert_eq!(cookies(&headers(&[("cookie", text)]), &id), ["evil", "xyz", "own"]);
        for scheme in ["http", "https"] {
            let text = set_cookie(id.as_str(), "xyz", scheme, 60);
            let (pair, attributes) = text.split_once("; ").unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("cookie", pair.parse().unwrap());
            assert_eq!(cookies(&headers, &id), ["xyz"]);
            assert!(is_our_cookie(pair.split_once('=').unwrap().0.as_bytes()));
            // RFC 6265bis, 4.1.3.2.
            assert_eq!(
                scheme == "https",
                attributes.starts_with("Path=/;") && attributes.ends_with("; Secure")
            );
        }
        assert!(!is_our_cookie(b"drydock2"));
    }
}
