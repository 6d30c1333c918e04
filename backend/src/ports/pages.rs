//! The pages that a person sees when a port cannot be shown. Plain HTML without scripts; no text in them comes from a
//! learner.

use crate::error::Error;
use axum::{
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use drydock_protocol::NodeName;

/// Nothing listens yet: looks again by itself.
pub fn nothing_listens(node: NodeName, port: u16, why: &str) -> Response {
    let text = format!(
        "Nothing answers on port {port} of {node} yet. {} Start a server there that listens on all addresses (0.0.0.0), not on \
         127.0.0.1 only. This page looks again every two seconds.",
        escape(why)
    );
    page(StatusCode::BAD_GATEWAY, &format!("Waiting for {node}:{port}"), &text, true)
}

/// What listens says something else, or ends the connection without a word: looks again by itself, since it may be starting.
pub fn no_http(node: NodeName, port: u16, why: &str) -> Response {
    let text = format!(
        "What listens on port {port} of {node} does not answer in HTTP: {}. It may still be starting; or it speaks what no browser \
         shows, as databases do. This page looks again every two seconds.",
        escape(why)
    );
    page(StatusCode::BAD_GATEWAY, &format!("{node}:{port} does not answer in HTTP"), &text, true)
}

/// What listens speaks TLS.
pub fn speaks_tls(node: NodeName, port: u16) -> Response {
    let text = format!(
        "What listens on port {port} of {node} speaks TLS (https). Ports are opened here by HTTP; the way to you is encrypted \
         where this site is. Let the server speak plain HTTP on a port too, or try this one in a terminal: \
         <code>curl -k https://localhost:{port}/</code>"
    );
    page(StatusCode::BAD_GATEWAY, &format!("{node}:{port} speaks TLS"), &text, false)
}

/// The label is none, or its capability is not valid (any more).
pub fn bad_address() -> Response {
    page(
        StatusCode::FORBIDDEN,
        "This address is not valid",
        "It is incomplete, or the session's owner has revoked it. Open the port again from the session's page.",
        false,
    )
}

/// Any other refusal.
pub fn refused(error: &Error) -> Response {
    page(error.status, "This port cannot be shown", &escape(&error.message), false)
}

fn page(status: StatusCode, title: &str, text: &str, again: bool) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>:root{{color-scheme:light dark}}body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}}</style>\
         </head><body><main><h1>{title}</h1><p role=\"status\">{text}</p></main></body></html>"
    );
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // There is no script. To let one run lets a page look again by itself, too, which a sandbox else forbids (HTML, "sandboxed
        // automatic features browsing context flag").
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; sandbox allow-scripts",
        ),
    ];
    let refresh = again.then_some([(header::REFRESH, "2")]);
    (status, headers, refresh, html).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
