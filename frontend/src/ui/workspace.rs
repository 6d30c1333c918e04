//! The terminals in the middle. Everything lies flat in one box and gets its place from the layout's rectangles, so that
//! a split never takes a terminal out of the page and puts it back.

use super::el::{El, el};
use super::{
    key_bar::key_bar,
    separator::{Line, separator},
    tab_bar::tab_bar,
    terminal_pane::terminal_pane,
};
use crate::logic::units::fixed;
use crate::reactive::*;
use crate::{
    logic::layout::{Axis, Bar, LEAST, Rect},
    store::use_app,
};
use drydock_protocol::TerminalId;
use std::rc::Rc;
use web_sys::Element;

/// The area.
pub fn workspace() -> El {
    let session = use_app().session;
    let groups = move || session.groups().iter().map(|(g, _)| g.id).collect();
    let terminals = move || {
        // In the order of their numbers: moving a tab must not move its terminal in the page.
        let mut all = Vec::new();
        for terminal in session.groups().into_iter().flat_map(|(g, _)| g.tabs) {
            all.insert(all.partition_point(|n| *n < terminal.0), terminal.0);
        }
        all
    };
    let bars = move || session.bars().iter().map(|bar| bar.id).collect();
    let space = el("div").class("workspace");
    let area: Element = space.dom();
    el("section")
        .class("terminals")
        .attr("data-area", "terminals")
        .attr("aria-label", "Terminals")
        .child(
            space
                .when(move || session.is_empty(), empty_hint)
                .each(groups, tab_bar)
                .each(terminals, |id| terminal_pane(TerminalId(id)))
                .each(bars, move |id| split_line(id, area.clone())),
        )
        .child(key_bar())
}

/// What to do when no terminal is left.
fn empty_hint() -> El {
    let session = use_app().session;
    let words = move || {
        let no_node = session.state.with(|s| s.nodes.is_empty());
        match (no_node, session.may_own(), session.may_type()) {
            (true, true, _) => "The session has no node. Add one in the list of nodes.",
            (true, ..) => "The session has no node.",
            (false, _, true) => "No terminal is open. Press + above, or the button beside a node.",
            (false, ..) => "No terminal is open.",
        }
    };
    el("p").class("empty-hint muted").attr("role", "status").testid("empty-hint").text_of(words)
}

/// The style of something that fills a rectangle of the workspace.
pub fn fill(rect: Rect) -> String {
    let [x, y, w, h] = [rect.x, rect.y, rect.w, rect.h].map(|part| fixed(part * 100.0, 4));
    format!("--x: {x}%; --y: {y}%; --w: {w}%; --h: {h}%")
}

/// The line between the two sides of a split.
fn split_line(id: u32, area: Element) -> El {
    let session = use_app().session;
    let bar = move || session.bars().into_iter().find(|bar| bar.id == id);
    let place = move || {
        let Bar { axis, share, area, .. } = bar()?;
        Some(fill(match axis {
            Axis::Row => Rect { x: area.x + area.w * share, w: 0.0, ..area },
            Axis::Column => Rect { y: area.y + area.h * share, h: 0.0, ..area },
        }))
    };
    let at = move |pointer: (f64, f64)| {
        let (bar, all) = (untrack(bar)?, area.get_bounding_client_rect());
        Some(match bar.axis {
            Axis::Row => ((pointer.0 - all.x()) / all.width() - bar.area.x) / bar.area.w,
            Axis::Column => ((pointer.1 - all.y()) / all.height() - bar.area.y) / bar.area.h,
        })
    };
    // Named after what is before it, which no other line has.
    let label = move || {
        let Some(Bar { axis, share, area, .. }) = bar() else { return String::new() };
        let (what, end) = match axis {
            Axis::Row => ("Width", (area.x + area.w * share, area.y + area.h)),
            Axis::Column => ("Height", (area.x + area.w, area.y + area.h * share)),
        };
        let before = |rect: &Rect| {
            let (x, y) = (rect.x + rect.w / 2.0, rect.y + rect.h / 2.0);
            x > area.x && y > area.y && x < end.0 && y < end.1
        };
        let mut name = format!("{what} of terminal ");
        for (at, (group, _)) in session.groups().iter().filter(|(_, rect)| before(rect)).enumerate() {
            let and = if at == 0 { "" } else { " and " };
            name += &format!("{and}{}", group.active.map_or_else(|| "–".into(), |id| id.to_string()));
        }
        name + ", in per cent"
    };
    separator(Line {
        testid: format!("split-{id}"),
        label: Box::new(label),
        upright: Box::new(move || bar().is_some_and(|bar| bar.axis == Axis::Row)),
        backwards: false,
        range: (LEAST, 1.0 - LEAST),
        usual: 0.5,
        value: Rc::new(move || bar().map_or(0.5, |bar| bar.share)),
        at: Box::new(at),
        set: Rc::new(move |share| session.layout.update(|l| l.set_share(id, share))),
        place: Box::new(place),
    })
}
