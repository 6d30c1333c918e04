//! Small line drawings. They are decoration: whatever holds one has words of its own for screen readers.

use super::el::{El, el, svg};

pub const PLUS: &str = "M8 3v10M3 8h10";
pub const CLOSE: &str = "M4 4l8 8M12 4l-8 8";
pub const SPLIT_RIGHT: &str = "M2.5 3h11v10h-11zM8 3v10";
pub const SPLIT_DOWN: &str = "M2.5 3h11v10h-11zM2.5 8h11";
pub const FOLDER: &str = "M2 4h4l1.5 1.5H14V13H2z";
pub const FILE: &str = "M4 2h5l3 3v9H4zM9 2v3h3";
pub const SHARE: &str = "M11 5.5L5 8l6 2.5M13 4.5a1.5 1.5 0 1 1-3 0a1.5 1.5 0 0 1 3 0M6 8a1.5 1.5 0 1 1-3 0a1.5 1.5 0 0 1 3 0M13 11.5a1.5 1.5 0 1 1-3 0a1.5 1.5 0 0 1 3 0";
pub const KEYBOARD: &str = "M1.5 4h13v8h-13zM4 6.5h0M6.5 6.5h0M9 6.5h0M11.5 6.5h0M5 9.5h6";
pub const SUN: &str = "M8 5.2a2.8 2.8 0 1 0 0 5.6a2.8 2.8 0 0 0 0-5.6M8 1.5v1.4M8 13.1v1.4M1.5 8h1.4M13.1 8h1.4M3.4 3.4l1 1M11.6 11.6l1 1M3.4 12.6l1-1M11.6 4.4l1-1";
pub const MOON: &str = "M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.500 6.500z";
pub const SLIDERS: &str = "M2 5h7M12 5h2M2 11h2M7 11h7M9 3.500v3M4.500 9.500v3";
pub const POWER: &str = "M8 2v5.500M4.500 4.500a5 5 0 1 0 7 0";
pub const TRASH: &str = "M3 4.500h10M6.500 4.500V3h3v1.500M4.500 4.500l.6 8.500h5.800l.6-8.500";
pub const TERMINAL: &str = "M2 3h12v10H2zM4.500 6l2 2-2 2M8.500 10.500h3";
pub const RELOAD: &str = "M13 8a5 5 0 1 1-1.500-3.500M13 2.500v2.700h-2.700";
pub const UPLOAD: &str = "M8 11V3M5 5.500L8 2.500l3 3M3 13h10";
pub const DOWNLOAD: &str = "M8 2.500v8M5 8l3 3 3-3M3 13.500h10";
pub const PEN: &str = "M3 13l.7-3L11 2.700 13.300 5 6 12.300z";
pub const RENAME: &str =
    "M6 3c1 0 2 .5 2 1.500v7c0 1-1 1.500-2 1.500M10 3c-1 0-2 .5-2 1.500v7c0 1 1 1.500 2 1.500";
pub const UP: &str = "M8 13V3M4 7l4-4 4 4";
pub const DOWN: &str = "M8 3v10M4 9l4 4 4-4";
pub const COPY: &str = "M6 6h7v7H6zM10 6V3H3v7h3";
pub const CONTAINERS: &str = "M2 9h12v4H2zM4 5h8v4H4zM6 9v4M10 9v4M8 5v4";
pub const WHEEL: &str = "M8 4a4 4 0 1 0 0 8a4 4 0 0 0 0-8M8 1v14M1.900 4.500l12.200 7M14.100 4.500l-12.200 7";
pub const STOP: &str = "M4 4h8v8H4z";

/// A drawing of 16 × 16.
pub fn icon(lines: &str) -> El {
    svg("svg")
        .class("icon")
        .attr("viewBox", "0 0 16 16")
        .attr("aria-hidden", "true")
        .attr("focusable", "false")
        .child(svg("path").attr("d", lines))
}

/// A button that shows a drawing only; `label` says what it does.
pub fn icon_button(label: &str, lines: &str) -> El {
    el("button").class("quiet").attr("title", label).attr("aria-label", label).child(icon(lines))
}
