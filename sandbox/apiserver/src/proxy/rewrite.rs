//! Links of pages that are reached through a proxy: what begins with `/` there is below the proxy's path here
//! (k8s.io/apimachinery `pkg/util/proxy/transport.go`).

use super::forward;
use crate::http::body;
use crate::http::respond::Answer;
use bytes::Bytes;
use drydock_apimachinery::Status;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use html5gum::Span;
use html5gum::Tokenizer;
use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io::{Read, Write};
use tokio::sync::Semaphore;

/// Of a longer page the links stay as they are, and of one that would grow by more.
const LONGEST: usize = 1024 * 1024;

/// So many pages are held at the same time; of more the links stay as they are, so that slow ones keep nobody waiting.
const AT_ONCE: usize = 16;

static HELD: Semaphore = Semaphore::const_new(AT_ONCE);

/// What the proxied server allows other pages is not for it to say.
const ALLOWED: [HeaderName; 4] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// Where elements have links (`atomsToAttrs`).
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["formaction", "src", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Who rewrites the links of one answer.
#[derive(Debug)]
pub struct Rewriter {
    /// The path that stands for `/` there, without a slash at its end.
    pub base: String,
    /// The server there, as `Host` names it.
    pub there: String,
    /// We, as the client's `Host` names us; empty: unknown.
    pub here: String,
}

impl Rewriter {
    /// The answer with its links rewritten.
    pub async fn answer(self, mut theirs: Response<Incoming>) -> Result<Answer, Status> {
        for name in ALLOWED {
            theirs.headers_mut().remove(name);
        }
        if let Some(location) = theirs.headers().get(LOCATION) {
            let wrong = |why: &dyn std::fmt::Display| {
                Status::internal(format!("error trying to parse Location header: {why}"))
            };
            let location = location.to_str().map_err(|error| wrong(&error))?;
            let location = HeaderValue::from_str(&self.url(location)).map_err(|error| wrong(&error))?;
            theirs.headers_mut().insert(LOCATION, location);
            return Ok(forward::answer(theirs));
        }
        match (packing(theirs.headers()), HELD.try_acquire()) {
            (Some(is_packed), Ok(_permit)) => self.page(theirs, is_packed).await,
            _ => Ok(forward::answer(theirs)),
        }
    }

    async fn page(self, theirs: Response<Incoming>, is_packed: bool) -> Result<Answer, Status> {
        let (parts, mut incoming) = theirs.into_parts();
        let mut page = Vec::new();
        while page.len() <= LONGEST {
            match incoming.frame().await {
                Some(Ok(frame)) => page.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                // What came is told, as of any other answer that breaks off.
                Some(Err(_)) | None => break,
            }
        }
        // Elsewhere: everybody else's requests are worked on by this thread.
        let (page, rewritten) = tokio::task::spawn_blocking(move || {
            let rewritten = (page.len() <= LONGEST).then(|| self.bytes(&page, is_packed)).flatten();
            (page, rewritten)
        })
        .await
        .map_err(Status::internal)?;
        let mut answer = forward::answer(Response::from_parts(parts, incoming));
        match rewritten {
            Some(rewritten) => {
                answer.headers_mut().remove(CONTENT_LENGTH);
                Ok(answer.map(|_| body::full(rewritten)))
            }
            None => Ok(answer.map(|rest| {
                let rest = rest.into_data_stream().filter_map(|piece| std::future::ready(piece.ok()));
                let first = futures_util::stream::once(std::future::ready(Bytes::from(page)));
                body::stream(first.chain(rest))
            })),
        }
    }

    /// A page with its links rewritten; none: it can't be read.
    fn bytes(&self, page: &[u8], is_packed: bool) -> Option<Vec<u8>> {
        if !is_packed {
            return self.html(page);
        }
        let mut unpacked = Vec::new();
        GzDecoder::new(page).take(LONGEST as u64 + 1).read_to_end(&mut unpacked).ok()?;
        if unpacked.len() > LONGEST {
            return None;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.html(&unpacked)?).ok()?;
        encoder.finish().ok()
    }

    fn html(&self, page: &[u8]) -> Option<Vec<u8>> {
        let mut changes: Vec<(Span<usize>, String)> = Vec::new();
        let mut added = 0;
        let (mut links, mut is_link): (&[&str], bool) = (&[], false);
        let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, span: Span<usize>| {
            match event {
                CallbackEvent::OpenStartTag { name } => {
                    let known = LINKS.iter().find(|(element, _)| element.as_bytes() == name);
                    links = known.map_or(&[], |(_, links)| *links);
                }
                CallbackEvent::AttributeName { name } => {
                    is_link = links.iter().any(|link| link.as_bytes() == name);
                }
                CallbackEvent::AttributeValue { value } if is_link => {
                    if let Ok(url) = std::str::from_utf8(value) {
                        let rewritten = self.url(url);
                        if rewritten != url && added <= LONGEST {
                            let rewritten = escaped(&rewritten);
                            added += rewritten.len();
                            changes.push((span, rewritten));
                        }
                    }
                }
                CallbackEvent::EndTag { .. } => links = &[],
                _ => {}
            }
            None::<std::convert::Infallible>
        });
        // What stands in a script is no element.
        emitter.naively_switch_states(true);
        let Ok(()) = Tokenizer::new_with_emitter(page, emitter).finish();
        if added > LONGEST {
            return None;
        }
        let (mut out, mut done) = (Vec::with_capacity(page.len() + 1024), 0);
        for (span, new) in changes {
            let Some(between) = page.get(done..span.start) else { continue };
            out.extend_from_slice(between);
            out.extend_from_slice(new.as_bytes());
            done = span.end;
        }
        out.extend_from_slice(page.get(done..).unwrap_or_default());
        Some(out)
    }

    /// A link (`rewriteURL`).
    fn url(&self, url: &str) -> String {
        let (origin, host, rest) = split(url);
        let is_elsewhere = !host.is_empty() && host != self.there && host != self.here;
        if is_elsewhere || !rest.starts_with('/') {
            return url.to_string();
        }
        let origin = if !host.is_empty() && host == self.here { origin } else { "" };
        if rest.starts_with(&self.base) {
            return format!("{origin}{rest}");
        }
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (path, more) = rest.split_at(end);
        let slash = if path.ends_with('/') { "/" } else { "" };
        format!("{origin}{}{}{slash}{more}", self.base, clean(path))
    }
}

/// Whether a page is packed; none: it is no page, or packed in a way that we can't.
fn packing(headers: &HeaderMap) -> Option<bool> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    match (kind, text(CONTENT_ENCODING)) {
        ("text/html", "") => Some(false),
        ("text/html", "gzip") => Some(true),
        _ => None,
    }
}

/// The beginning of a URL up to its path, the host in it, and the rest.
fn split(url: &str) -> (&str, &str, &str) {
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let after_scheme =
        url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).map_or(url, |(_, rest)| rest);
    let Some(authority) = after_scheme.strip_prefix("//") else {
        // `mailto:` and the like have no path.
        return if after_scheme.len() == url.len() { ("", "", url) } else { (url, "", "") };
    };
    let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    let (host, rest) = authority.split_at(end);
    (&url[..url.len() - rest.len()], host, rest)
}

/// `path.Clean`, of a path that begins with a slash, without one at its end.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.iter().map(|part| format!("/{part}")).collect()
}

/// As Go's `html.EscapeString`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewriter() -> Rewriter {
        Rewriter { base: "/p/proxy".into(), there: "10.0.0.5:80".into(), here: "api:6443".into() }
    }

    #[test]
    fn links_to_the_same_server_are_below_the_proxy() {
        for (given, wanted) in [
            ("/x", "/p/proxy/x"),
            ("/", "/p/proxy/"),
            ("/x/../y/?q=/a#b", "/p/proxy/y/?q=/a#b"),
            ("http://10.0.0.5:80/x", "/p/proxy/x"),
            ("https://api:6443/x", "https://api:6443/p/proxy/x"),
            ("//api:6443/p/proxy/x", "//api:6443/p/proxy/x"),
            ("/p/proxy/x", "/p/proxy/x"),
            ("x/y", "x/y"),
            ("", ""),
            ("#top", "#top"),
            ("mailto:a@b", "mailto:a@b"),
            ("http://example.com/x", "http://example.com/x"),
            ("http://10.0.0.5:80", "http://10.0.0.5:80"),
        ] {
            assert_eq!(rewriter().url(given), wanted, "{given}");
        }
    }

    #[test]
    fn only_links_of_a_page_change() {
        let page = "<!doctype html><HTML><a title='/t' HREF=\"/x?a=1&amp;b=2\">/text</a><img src=/i.png alt='ä'>\
            <script src='/s.js'>var a = \"<a href='/no'>\";</script><a href=y><p href=\"/no\">";
        let wanted = "<!doctype html><HTML><a title='/t' HREF=\"/p/proxy/x?a=1&amp;b=2\">/text</a>\
            <img src=/p/proxy/i.png alt='ä'><script src='/p/proxy/s.js'>var a = \"<a href='/no'>\";</script><a href=y><p href=\"/no\">";
        assert_eq!(rewriter().html(page.as_bytes()).as_deref(), Some(wanted.as_bytes()));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(page.as_bytes()).expect("memory");
        let packed = rewriter().bytes(&encoder.finish().expect("memory"), true).expect("a page");
        let mut unpacked = String::new();
        GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).expect("packed");
        assert_eq!(unpacked, wanted);
        assert_eq!(rewriter().bytes(b"not packed", true), None);
    }

    #[test]
    fn a_page_does_not_grow_without_a_limit() {
        let links = "<a href=/>".repeat(LONGEST / 10);
        let deep = Rewriter { base: "/p".repeat(100), ..rewriter() };
        assert!(deep.html(links.as_bytes()).is_none());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&vec![b' '; LONGEST + 1]).expect("memory");
        assert!(rewriter().bytes(&encoder.finish().expect("memory"), true).is_none());
    }
}
