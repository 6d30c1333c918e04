//! On a narrow screen: which area shows.

use super::parts::{maybe, on, when};
use super::icon::{self, Icon};
use crate::store::{session::Area, use_app};
use leptos::prelude::*;

/// The tabs.
#[component]
pub fn BottomTabs() -> impl IntoView {
    let app = use_app();
    let session = app.session;
    let button = move |area: Area, name: &'static str, words: &'static str, d: &'static str| {
        let press = move |_| {
            session.area.set(area);
            match area {
                Area::Files => app.files.show(None),
                Area::Terminals => {
                    if let Some(active) = session.layout.with_untracked(|l| l.active()) {
                        session.focus_terminal(active);
                    }
                }
                Area::Nodes => {}
            }
        };
        view! {
            <button
                data-testid=format!("area-{name}")
                aria-current=maybe(move || (session.area.get() == area).then(|| "page".to_owned()))
                on:click=on(press)
            ><Icon d/>{words}</button>
        }
        .into_any()
    };
    view! {
        <nav class="bottom-tabs" aria-label="Areas">
            {button(Area::Nodes, "nodes", "Nodes", icon::POWER)}
            {button(Area::Terminals, "terminals", "Terminal", icon::TERMINAL)}
            {when(move || session.may_type(), move || button(Area::Files, "files", "Files", icon::FOLDER))}
        </nav>
    }
}
