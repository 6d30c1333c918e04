//! Answers: JSON or YAML, indented for people, compressed where it pays, with warnings. Headers are those of a real API server
//! (k8s.io/apiserver `pkg/endpoints/handlers/responsewriters/writers.go`).

use super::body::{self, Body};
use super::negotiate::{Encoding, Output};
use super::yaml;
use bytes::Bytes;
use drydock_apimachinery::{Status, ordered};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, USER_AGENT,
    VARY, WARNING,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use std::io::Write;

/// An answer.
pub type Answer = Response<Body>;

/// Answers shorter than this are sent as they are (`defaultGzipThresholdBytes`).
pub const GZIP_FROM: usize = 128 * 1024;

/// What of the request decides how its answer is written, whatever it is about.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Form and shape.
    pub output: Output,
    /// Indented.
    pub pretty: bool,
    /// The client takes gzip.
    pub gzip: bool,
}

impl Style {
    /// Reads `Accept-Encoding`, `User-Agent` and `?pretty`.
    pub fn new(headers: &HeaderMap, output: Output, pretty: Option<bool>) -> Self {
        let text =
            |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let agent = text(USER_AGENT);
        let people = || ["curl", "Wget", "Mozilla/5.0"].iter().any(|name| agent.starts_with(name));
        let gzip = text(ACCEPT_ENCODING)
            .split(',')
            .any(|one| one.trim().split(';').next().is_some_and(|name| name == "gzip"));
        Self { output, pretty: pretty.unwrap_or_else(people), gzip }
    }

    /// Compact JSON, whatever the client is: what `stream`s are made of.
    pub fn is_compact_json(&self) -> bool {
        self.output.encoding == Encoding::Json && !self.pretty
    }
}

/// An answer with a body that is there.
pub fn bytes(code: StatusCode, media: &'static str, content: impl Into<Bytes>) -> Answer {
    let content = content.into();
    let mut answer = Response::new(Body::default());
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    // Of a body that is there the connection tells the length; one header more here, and the map would have to grow.
    if content.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    *answer.body_mut() = body::full(content);
    answer
}

/// Plain text.
pub fn text(code: StatusCode, content: impl Into<Bytes>) -> Answer {
    let mut answer = bytes(code, "text/plain; charset=utf-8", content);
    answer.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

/// What Go's HTTP server says of a path that it does not know.
pub fn page_not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// A body whose pieces are made while it is sent. Its length is not known before.
pub fn streamed(media: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}

/// JSON that is written already.
pub fn json(code: StatusCode, content: Vec<u8>, style: Style) -> Answer {
    match style.output.encoding {
        Encoding::Json if style.pretty => compressed(code, "application/json", indented(&content), style),
        Encoding::Json => compressed(code, "application/json", content, style),
        Encoding::Yaml => match serde_json::from_slice(&content) {
            Ok(tree) => value(code, &tree, style),
            // It came from our own store or hands; a client that can read it must not lose it.
            Err(_) => compressed(code, "application/json", content, style),
        },
    }
}

/// A tree, as the client wants it.
pub fn value(code: StatusCode, tree: &Value, style: Style) -> Answer {
    match style.output.encoding {
        Encoding::Yaml => compressed(code, "application/yaml", yaml::written(tree).into_bytes(), style),
        Encoding::Json => compressed(code, "application/json", encode(tree, style.pretty), style),
    }
}

/// What has an order of its own, as JSON in that order.
pub fn ordered(code: StatusCode, content: &impl Serialize, style: Style) -> Answer {
    let encoded = match style.output.encoding {
        Encoding::Yaml => {
            return value(code, &serde_json::to_value(content).unwrap_or_default(), style);
        }
        Encoding::Json if style.pretty => serde_json::to_vec_pretty(content),
        Encoding::Json => serde_json::to_vec(content),
    };
    // Structs of strings, flags and lists: it can't fail.
    let mut bytes = encoded.unwrap_or_default();
    bytes.push(b'\n');
    compressed(code, "application/json", bytes, style)
}

/// A refusal (or a success without object).
pub fn status(status: &Status, style: Style) -> Answer {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let style = Style { output: Output { shape: super::negotiate::Shape::Object, ..style.output }, ..style };
    let content = match style.output.encoding {
        Encoding::Json if style.pretty => serde_json::to_vec_pretty(status),
        Encoding::Json => serde_json::to_vec(status),
        Encoding::Yaml => Ok(yaml::written(&status.to_value()).into_bytes()),
    };
    let media = if style.output.encoding == Encoding::Yaml { "application/yaml" } else { "application/json" };
    // Strings, numbers and lists only: it can't fail.
    let mut content = content.unwrap_or_default();
    if style.output.encoding == Encoding::Json {
        content.push(b'\n');
    }
    let mut answer = bytes(code, media, content);
    if let Some(seconds) =
        status.details.as_ref().map(|details| details.retry_after_seconds).filter(|n| *n > 0)
    {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Puts warnings into an answer (RFC 7234, section 5.5, as `k8s.io/apimachinery/pkg/util/net` writes them).
pub fn warn(answer: &mut Answer, warnings: &[String]) {
    // Upstream stops at 4 KiB of them.
    let mut room = 4096usize;
    for text in warnings {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = escaped.chars().filter(|c| !c.is_control()).collect();
        let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{clean}\"").as_bytes()) else { continue };
        room = match room.checked_sub(value.len()) {
            Some(left) => left,
            None => break,
        };
        answer.headers_mut().append(WARNING, value);
    }
}

fn encode(tree: &Value, pretty: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    ordered::write(&mut bytes, tree);
    if pretty {
        return indented(&bytes);
    }
    bytes.push(b'\n');
    bytes
}

/// Compact JSON as people read it (`json.Indent` of Go).
fn indented(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0usize;
    let (mut in_string, mut is_escaped) = (false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    let mut bytes = compact.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(byte);
            in_string = byte != b'"' || is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                // What is empty stays on its line.
                if !matches!(bytes.peek(), Some(b'}' | b']')) {
                    depth += 1;
                    line(&mut out, depth);
                } else {
                    out.extend(bytes.next());
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b'\n' => {}
            _ => {
                in_string = byte == b'"';
                out.push(byte);
            }
        }
    }
    out.push(b'\n');
    out
}

fn compressed(code: StatusCode, media: &'static str, content: Vec<u8>, style: Style) -> Answer {
    if !style.gzip || content.len() < GZIP_FROM {
        return bytes(code, media, content);
    }
    match gzip(&content) {
        Ok(small) => {
            let mut answer = bytes(code, media, small);
            gzipped(answer.headers_mut());
            answer
        }
        // Writing to memory does not fail; if it did, the client would take it uncompressed too.
        Err(_) => bytes(code, media, content),
    }
}

/// Marks an answer as compressed.
pub fn gzipped(headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// Compresses as upstream does: fast rather than well (`defaultGzipContentEncodingLevel`).
pub fn gzip(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 6), Compression::fast());
    encoder.write_all(content)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_clean() {
        let mut answer = page_not_found();
        warn(&mut answer, &["unknown field \"spec.x\"\n".into()]);
        assert_eq!(answer.headers()[WARNING], "299 - \"unknown field \\\"spec.x\\\"\"");
    }

    #[test]
    fn indentation_changes_nothing_else() {
        let tree = serde_json::json!({"a": [], "b": {}, "c": [1, {"d": "x{[,:]}\\\" y", "e": [[true]]}], "f": null, "": "\\"});
        let compact = serde_json::to_vec(&tree).expect("text");
        let pretty = serde_json::to_vec_pretty(&tree).expect("text");
        assert_eq!(indented(&compact).trim_ascii_end(), pretty);
    }

    #[test]
    fn people_get_indented_answers() {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("curl/8.1"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0.5"));
        let style = Style::new(&headers, Output::JSON, None);
        assert!(style.pretty && style.gzip);
        assert!(!Style::new(&headers, Output::JSON, Some(false)).pretty);
    }
}
