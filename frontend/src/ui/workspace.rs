//! The terminals in the middle. Everything lies flat in one box and gets its place from the layout's rectangles, so that
//! a split never takes a terminal out of the page and puts it back.

use super::parts::each;
use super::{key_bar::KeyBar, separator::Separator, tab_bar::TabBar, terminal_pane::TerminalPane};
use crate::{
    logic::layout::{Axis, Bar, LEAST, Rect},
    store::use_app,
};
use drydock_protocol::TerminalId;
use leptos::{html, prelude::*};

/// The area.
#[component]
pub fn Workspace() -> impl IntoView {
    let session = use_app().session;
    let area = NodeRef::<html::Div>::new();
    let groups = move || session.groups().iter().map(|(g, _)| g.id).collect();
    let terminals = move || {
        let mut all: Vec<u32> = session.groups().into_iter().flat_map(|(g, _)| g.tabs).map(|t| t.0).collect();
        // Sorted: moving a tab must not move its terminal in the page.
        all.sort_unstable();
        all
    };
    let bars = move || session.bars().iter().map(|bar| bar.id).collect();
    view! {
        <section class="terminals" data-area="terminals" aria-label="Terminals">
            <div class="workspace" node_ref=area>
                {each(groups, |id| view! { <TabBar id/> }.into_any())}
                {each(terminals, |id| view! { <TerminalPane id=TerminalId(id)/> }.into_any())}
                {each(bars, move |id| view! { <SplitLine id area/> }.into_any())}
            </div>
            <KeyBar/>
        </section>
    }
}

/// The style of something that fills a rectangle of the workspace.
pub fn fill(rect: Rect) -> String {
    format!(
        "--x: {:.4}%; --y: {:.4}%; --w: {:.4}%; --h: {:.4}%",
        rect.x * 100.0,
        rect.y * 100.0,
        rect.w * 100.0,
        rect.h * 100.0
    )
}

/// The line between the two sides of a split.
#[component]
fn SplitLine(id: u32, area: NodeRef<html::Div>) -> impl IntoView {
    let session = use_app().session;
    let bar = Memo::new(move |_| session.bars().into_iter().find(|bar| bar.id == id));
    let place = move || {
        let Some(Bar { axis, share, area, .. }) = bar.get() else { return String::new() };
        fill(match axis {
            Axis::Row => Rect { x: area.x + area.w * share, w: 0.0, ..area },
            Axis::Column => Rect { y: area.y + area.h * share, h: 0.0, ..area },
        })
    };
    let at = move |pointer: (f64, f64)| {
        let (bar, all) = (bar.get_untracked()?, area.get_untracked()?.get_bounding_client_rect());
        Some(match bar.axis {
            Axis::Row => ((pointer.0 - all.x()) / all.width() - bar.area.x) / bar.area.w,
            Axis::Column => ((pointer.1 - all.y()) / all.height() - bar.area.y) / bar.area.h,
        })
    };
    view! {
        <Separator
            testid=format!("split-{id}")
            label="Share of the first pane, in per cent"
            upright=Signal::derive(move || bar.get().is_some_and(|bar| bar.axis == Axis::Row))
            range=(LEAST, 1.0 - LEAST)
            usual=0.5
            value=Signal::derive(move || bar.get().map_or(0.5, |bar| bar.share))
            at=Box::new(at)
            set=Callback::new(move |share| session.layout.update(|l| l.set_share(id, share)))
            place=Signal::derive(place)
        />
    }
}
