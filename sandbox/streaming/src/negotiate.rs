//! Which of the protocols that a client offers is spoken. Called with the headers of the upgrade request, before anything is answered.
//! Rules and texts are upstream's: apimachinery `pkg/util/httpstream/httpstream.go`, `spdy/upgrade.go`, apiserver `pkg/util/wsstream`.

use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const STREAM_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";
const PORT_FORWARD_V1: &str = "portforward.k8s.io";
const REMOTE_COMMANDS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// As many versions or subprotocols of an offer are looked at.
const OFFERS: usize = 32;

/// What the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// exec and attach.
    RemoteCommand,
    /// port-forward.
    PortForward,
}

/// The protocol that both sides speak after the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol(pub(crate) Wire);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Messages whose first byte names a channel.
    Channels { encoding: Encoding, version: u8 },
    /// SPDY/3.1, its bytes straight on the connection.
    Spdy { version: u8 },
    /// SPDY/3.1, its bytes in WebSocket messages (`SPDY/3.1+portforward.k8s.io`).
    Tunnel,
}

/// How a WebSocket message carries bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Binary,
    Base64,
}

/// An upgrade that both sides agree on.
#[derive(Debug)]
pub struct Negotiated {
    /// What is spoken.
    pub protocol: Protocol,
    /// The headers of the answer, whose status is 101.
    pub headers: HeaderMap,
}

/// An upgrade that is refused.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Status of the answer.
    pub status: StatusCode,
    /// Its text.
    pub message: String,
    /// Headers that tell the client what would have been accepted.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: StatusCode, message: String) -> Self {
        Self { status, message, headers: Vec::new() }
    }
}

/// Chooses the protocol of an upgrade request.
pub fn negotiate(purpose: Purpose, headers: &HeaderMap) -> Result<Negotiated, Refusal> {
    let upgrades = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let to = |name: &str| tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case(name));
    if upgrades && to("websocket") {
        websocket(purpose, headers)
    } else if upgrades && to(SPDY) {
        spdy(purpose, headers)
    } else {
        Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request".into(),
        ))
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty()).take(OFFERS)
}

fn websocket(purpose: Purpose, headers: &HeaderMap) -> Result<Negotiated, Refusal> {
    let bad = |text: &str| Refusal::new(StatusCode::BAD_REQUEST, text.to_owned());
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != b"13") {
        let mut refusal =
            bad("websocket: unsupported version: 13 not found in 'Sec-Websocket-Version' header");
        refusal.headers.push((SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
        return Err(refusal);
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| bad("websocket: 'Sec-WebSocket-Key' header is missing or blank"))?;
    let offered: Vec<&str> = tokens(headers, &SEC_WEBSOCKET_PROTOCOL).collect();
    let chosen = offered.iter().find_map(|name| Some((*name, subprotocol(purpose, name)?)));
    let (name, wire) = match chosen {
        Some((name, wire)) => (Some(name), wire),
        None if offered.is_empty() => (None, Wire::Channels { encoding: Encoding::Binary, version: 1 }),
        None => {
            let message = format!("requested protocol(s) are not supported: [{}]", offered.join(" "));
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
    };
    let mut answer = HeaderMap::new();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    insert(&mut answer, SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes()));
    if let Some(name) = name {
        insert(&mut answer, SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok(Negotiated { protocol: Protocol(wire), headers: answer })
}

fn subprotocol(purpose: Purpose, name: &str) -> Option<Wire> {
    use Encoding::{Base64, Binary};
    let (encoding, version) = match (purpose, name) {
        (Purpose::PortForward, "SPDY/3.1+portforward.k8s.io") => return Some(Wire::Tunnel),
        (Purpose::RemoteCommand, "v5.channel.k8s.io") => (Binary, 5),
        (_, "v4.channel.k8s.io") => (Binary, 4),
        (_, "v4.base64.channel.k8s.io") => (Base64, 4),
        (Purpose::RemoteCommand, "channel.k8s.io") => (Binary, 1),
        (Purpose::RemoteCommand, "base64.channel.k8s.io") => (Base64, 1),
        _ => return None,
    };
    Some(Wire::Channels { encoding, version })
}

fn spdy(purpose: Purpose, headers: &HeaderMap) -> Result<Negotiated, Refusal> {
    let accepted: &[&str] =
        if purpose == Purpose::RemoteCommand { &REMOTE_COMMANDS } else { &[PORT_FORWARD_V1] };
    let offered: Vec<&str> = tokens(headers, &STREAM_VERSION).collect();
    let chosen = offered.iter().find(|name| accepted.contains(name));
    let mut answer = HeaderMap::new();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static(SPDY));
    let version = match chosen {
        Some(name) => {
            insert(&mut answer, STREAM_VERSION, name);
            version(name)
        }
        // Clients of Kubernetes 1.0 did not negotiate.
        None if offered.is_empty() => 1,
        None => {
            let message = format!(
                "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
                offered.join(" "),
                accepted.join(" ")
            );
            let mut refusal = Refusal::new(StatusCode::FORBIDDEN, message);
            for name in accepted {
                refusal.headers.push((ACCEPTED_VERSIONS, HeaderValue::from_static(name)));
            }
            return Err(refusal);
        }
    };
    Ok(Negotiated { protocol: Protocol(Wire::Spdy { version }), headers: answer })
}

fn version(name: &str) -> u8 {
    match name {
        "v4.channel.k8s.io" => 4,
        "v3.channel.k8s.io" => 3,
        "v2.channel.k8s.io" => 2,
        _ => 1,
    }
}

/// What comes from a header of the request, or is made of base64, is always a header value.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn websocket(protocols: &[&'static str]) -> HeaderMap {
        let mut list = vec![
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
        ];
        list.push(("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="));
        list.extend(protocols.iter().map(|name| ("sec-websocket-protocol", *name)));
        headers(&list)
    }

    #[test]
    fn websocket_takes_the_clients_first_choice_that_we_speak() {
        let channels = |encoding, version| Some(Wire::Channels { encoding, version });
        let cases: [(&[&str], Purpose, Option<Wire>); 8] = [
            (&["v5.channel.k8s.io"], Purpose::RemoteCommand, channels(Encoding::Binary, 5)),
            (
                &["v9.channel.k8s.io, v4.channel.k8s.io", "v5.channel.k8s.io"],
                Purpose::RemoteCommand,
                channels(Encoding::Binary, 4),
            ),
            (&["v4.base64.channel.k8s.io"], Purpose::RemoteCommand, channels(Encoding::Base64, 4)),
            (&[], Purpose::RemoteCommand, channels(Encoding::Binary, 1)),
            (&["SPDY/3.1+portforward.k8s.io"], Purpose::PortForward, Some(Wire::Tunnel)),
            (&["v4.channel.k8s.io"], Purpose::PortForward, channels(Encoding::Binary, 4)),
            (&["v5.channel.k8s.io"], Purpose::PortForward, None),
            (&["SPDY/3.1+portforward.k8s.io"], Purpose::RemoteCommand, None),
        ];
        for (offered, purpose, expected) in cases {
            let result = negotiate(purpose, &websocket(offered));
            assert_eq!(result.as_ref().ok().map(|negotiated| negotiated.protocol.0), expected, "{offered:?}");
            match result {
                // RFC 6455, section 1.3.
                Ok(negotiated) => {
                    assert_eq!(negotiated.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
                }
                Err(refusal) => assert_eq!(refusal.status, StatusCode::FORBIDDEN),
            }
        }
    }

    #[test]
    fn spdy_takes_the_clients_first_choice_that_we_speak() {
        let offer = |versions: &[&'static str]| {
            let mut list = vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
            list.extend(versions.iter().map(|name| ("x-stream-protocol-version", *name)));
            headers(&list)
        };
        let all = [
            "v5.channel.k8s.io",
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
            "v2.channel.k8s.io",
            "channel.k8s.io",
        ];
        let chosen = negotiate(Purpose::RemoteCommand, &offer(&all)).unwrap();
        assert_eq!(chosen.protocol.0, Wire::Spdy { version: 4 });
        assert_eq!(chosen.headers["x-stream-protocol-version"], "v4.channel.k8s.io");
        let old = negotiate(Purpose::RemoteCommand, &offer(&[])).unwrap();
        assert_eq!(old.protocol.0, Wire::Spdy { version: 1 });
        assert!(!old.headers.contains_key("x-stream-protocol-version"));
        let refusal = negotiate(Purpose::PortForward, &offer(&["v4.channel.k8s.io"])).unwrap_err();
        assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        assert_eq!(refusal.headers, [(ACCEPTED_VERSIONS, HeaderValue::from_static("portforward.k8s.io"))]);
        let plain = negotiate(Purpose::RemoteCommand, &HeaderMap::new()).unwrap_err();
        assert_eq!(plain.status, StatusCode::BAD_REQUEST);
    }
}
