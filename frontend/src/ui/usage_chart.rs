//! A small line of a node's CPU use. The figures beside it say the same in words.

use super::el::{El, svg};
use crate::logic::units::fixed;
use crate::store::{session::USAGE_KEPT, use_app};
use drydock_protocol::NodeName;

/// The line.
pub fn usage_chart(name: NodeName) -> El {
    let usage = use_app().session.usage;
    let points = move || {
        usage.with(|all| {
            let Some(kept) = all.get(name) else { return String::new() };
            // The top is one CPU, or what the busiest figure needs.
            let top = kept.iter().map(|u| u.cpu_millis).max().unwrap_or(0).max(1000);
            let first = USAGE_KEPT - kept.len();
            kept.iter()
                .enumerate()
                .map(|(i, u)| {
                    format!(
                        "{},{} ",
                        first + i,
                        fixed(19.0 - f64::from(u.cpu_millis) / f64::from(top) * 18.0, 1)
                    )
                })
                .collect()
        })
    };
    svg("svg")
        .class("usage")
        .attr("viewBox", format!("0 0 {} 20", USAGE_KEPT - 1))
        .attr("preserveAspectRatio", "none")
        .attr("aria-hidden", "true")
        .child(svg("polyline").attr_of("points", points))
}
