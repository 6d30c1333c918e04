//! Bearer tokens of browsers, which can send no header of their own with a WebSocket: one of the subprotocols that they offer
//! (k8s.io/apiserver `pkg/authentication/request/websocket/protocol.go`).

use crate::http::websocket;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue};

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// What is given as a token is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid;

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// The token, if there is one.
pub fn token(headers: &HeaderMap) -> Option<Result<String, Invalid>> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) || !websocket::is_wanted(headers) {
        return None;
    }
    let mut tokens = offered(headers).filter_map(|protocol| protocol.strip_prefix(PREFIX));
    let (token, second) = (tokens.next()?, tokens.next());
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded {
        Some(_) if second.is_some() => Some(Err(Invalid)),
        Some(token) if token.is_empty() => None,
        // One must be left that can be answered with.
        Some(token) if offered(headers).any(|protocol| !protocol.starts_with(PREFIX)) => Some(Ok(token)),
        _ => Some(Err(Invalid)),
    }
}

/// Takes the token out of what others are shown.
pub fn forget(headers: &mut HeaderMap) {
    if !offered(headers).any(|protocol| protocol.starts_with(PREFIX)) {
        return;
    }
    let others: Vec<_> = offered(headers).filter(|protocol| !protocol.starts_with(PREFIX)).collect();
    match HeaderValue::from_str(&others.join(",")) {
        Ok(others) => headers.insert(SEC_WEBSOCKET_PROTOCOL, others),
        Err(_) => headers.remove(SEC_WEBSOCKET_PROTOCOL),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(protocols: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocols),
        ] {
            headers.insert(name, value.parse().expect("a header"));
        }
        headers
    }

    #[test]
    fn a_token_is_one_of_several_protocols() {
        let with = |token: &str| format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(token));
        let mut sent = headers(&format!("v5.channel.k8s.io, {}", with("secret")));
        assert_eq!(token(&sent), Some(Ok("secret".into())));
        forget(&mut sent);
        assert_eq!(sent[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        assert_eq!(token(&sent), None);
        for wrong in [
            with("secret"),
            format!("{}, {}, x", with("a"), with("b")),
            format!("{PREFIX}!, x"),
            format!("{PREFIX}_w, x"),
        ] {
            assert_eq!(token(&headers(&wrong)), Some(Err(Invalid)), "{wrong}");
        }
        let mut plain = headers(&format!("x, {}", with("secret")));
        plain.remove("upgrade");
        assert_eq!(token(&plain), None);
    }
}
