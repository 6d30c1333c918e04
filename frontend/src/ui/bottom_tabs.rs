//! On a narrow screen: which area shows.

use super::el::{El, el};
use super::icon::{self, icon};
use crate::store::{session::Area, use_app};

/// The tabs.
pub fn bottom_tabs() -> El {
    let app = use_app();
    let session = app.session;
    let button = move |area: Area, name: &'static str, words: &'static str, d: &'static str| {
        let press = move || {
            session.area.set(area);
            match area {
                Area::Docker => session.docker_open.set(true),
                Area::Files => app.files.show(None),
                Area::Terminals => {
                    if let Some(active) = session.layout.with_untracked(|l| l.active()) {
                        session.focus_terminal(active);
                    }
                }
                Area::Nodes => {}
            }
        };
        el("button")
            .testid(format!("area-{name}"))
            .attr_maybe("aria-current", move || (session.area.get() == area).then(|| "page".to_owned()))
            .click(press)
            .child(icon(d))
            .text(words)
    };
    el("nav")
        .class("bottom-tabs")
        .attr("data-area", "tabs")
        .attr("aria-label", "Areas")
        .child(button(Area::Nodes, "nodes", "Nodes", icon::POWER))
        .child(button(Area::Terminals, "terminals", "Terminal", icon::TERMINAL))
        .child(button(Area::Docker, "docker", "Docker", icon::CONTAINERS))
        .when(move || session.may_type(), move || button(Area::Files, "files", "Files", icon::FOLDER))
}
