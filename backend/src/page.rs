//! The page: what `static/build.mjs` made in `dist`, embedded in the binary (in debug builds, too: who
//! serves may not see the source tree). Serves the Brotli form made at build time, entity tags, and the security headers. Called by the router for every
//! path that nothing else takes; it must never serve a learner's bytes.

use crate::{api::App, ports, token};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "../dist"]
#[allow_missing = true]
struct Dist;

/// What is the same for every answer.
#[derive(Debug)]
pub struct Page {
    policy: HeaderValue,
}

impl Page {
    /// Reads the index once for the hashes of its inline scripts.
    pub fn new(wildcard_domain: Option<&str>) -> Self {
        let index = Dist::get("index.html")
            .map(|f| String::from_utf8_lossy(&f.data).into_owned())
            .unwrap_or_default();
        Self { policy: policy(&index, wildcard_domain) }
    }
}

/// `Content-Security-Policy` of the page. `wasm-unsafe-eval` lets WebAssembly be compiled; xterm.js sets styles from
/// script, which needs `unsafe-inline` for styles only.
fn policy(index: &str, wildcard_domain: Option<&str>) -> HeaderValue {
    let hashes: String = inline_scripts(index)
        .map(|s| format!(" 'sha256-{}'", data_encoding::BASE64.encode(&token::sha256(s.as_bytes()))))
        .collect();
    let ports = wildcard_domain.map(|d| format!(" *.{d}:*")).unwrap_or_default();
    let text = format!(
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'{hashes}; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; \
         frame-src 'self' *.localhost:*{ports}; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'self'"))
}

/// The texts of `<script>` elements without `src`.
fn inline_scripts(html: &str) -> impl Iterator<Item = &str> {
    html.split("<script").skip(1).filter_map(|rest| {
        let (tag, rest) = rest.split_once('>')?;
        let (text, _) = rest.split_once("</script>")?;
        (!tag.contains(" src=") && !text.is_empty()).then_some(text)
    })
}

/// Serves a file of the page, or the page itself for its own addresses.
pub async fn serve(State(app): State<App>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET, HEAD")],
            "This address can only be read.\n",
        )
            .into_response();
    }
    let trusted = app.scheme(request.headers()) == "https" || ports::is_for_this_machine(request.headers());
    let path = request.uri().path().trim_start_matches('/');
    let is_page = path.is_empty() || path == "s" || path.starts_with("s/");
    let accepts_html = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("text/html"));
    let file = if is_page || path.ends_with(".br") { None } else { Dist::get(path).map(|f| (path, f)) };
    let mut response = match file {
        Some((path, file)) => file_response(path, file, request.headers(), StatusCode::OK),
        None if is_page || accepts_html => match Dist::get("index.html") {
            // The page itself says that an address leads nowhere, in its own looks.
            Some(index) => {
                let status = if is_page { StatusCode::OK } else { StatusCode::NOT_FOUND };
                file_response("index.html", index, request.headers(), status)
            }
            None => (
                StatusCode::SERVICE_UNAVAILABLE,
                "This build of drydock is without its page. Build it with `make build`; the API below /api/v1 works.\n",
            )
                .into_response(),
        },
        None => (StatusCode::NOT_FOUND, "There is nothing at this address.\n").into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, app.page.policy.clone());
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if trusted {
        // Elsewhere browsers ignore it, and complain of it in the console.
        let opener = HeaderName::from_static("cross-origin-opener-policy");
        headers.insert(opener, HeaderValue::from_static("same-origin"));
    }
    response
}

fn file_response(path: &str, file: EmbeddedFile, asked: &HeaderMap, status: StatusCode) -> Response {
    let mut headers = HeaderMap::new();
    let etag = format!("\"{}\"", &token::hex(&file.metadata.sha256_hash())[..32]);
    let tag = HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"\""));
    headers.insert(header::ETAG, tag);
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let caching = if is_hashed(path) { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    let known = |v: &str| v.split(',').any(|t| t.trim().trim_start_matches("W/") == etag);
    if asked.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(known) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let kind = if kind.type_() == "text" { format!("{kind}; charset=utf-8") } else { kind.to_string() };
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_str(&kind).unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    let takes_brotli = asked
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|e| e.split(';').next().is_some_and(|e| e.trim() == "br")));
    let data = match Dist::get(&format!("{path}.br")).filter(|_| takes_brotli) {
        Some(packed) => {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
            packed.data
        }
        None => file.data,
    };
    (status, headers, data.into_owned()).into_response()
}

/// Whether a file's name has a hash of its content (`name-0123456789abcdef.js`), so that it never changes.
fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.split('.').next().unwrap_or(name);
    stem.rsplit(['-']).next().is_some_and(|h| {
        h != stem
            && h.len() >= 8
            && h.bytes().all(|b| b.is_ascii_alphanumeric())
            && h.bytes().any(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_scripts_are_found_for_their_hashes() {
        let html = r#"<script src="/a.js"></script><script type="module">run()</script><script>two</script>"#;
        assert_eq!(inline_scripts(html).collect::<Vec<_>>(), ["run()", "two"]);
        let policy = policy(html, Some("play.example.org"));
        let text = policy.to_str().unwrap();
        assert_eq!(text.matches("'sha256-").count(), 2, "{text}");
        assert!(text.contains("*.play.example.org:*"));
    }

    #[test]
    fn only_hashed_names_are_kept_for_ever() {
        assert!(is_hashed("frontend-3f2a91c4d5e6f708.js") && is_hashed("frontend_bg-3f2a91c4d5e6f708.wasm"));
        assert!(is_hashed("lazy/editor-AB12CD34.js"));
        assert!(!is_hashed("index.html") && !is_hashed("vendor.js") && !is_hashed("xterm-addon.js"));
    }
}
