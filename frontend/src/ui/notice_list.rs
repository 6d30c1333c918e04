//! Sentences about what just happened, in a corner; a screen reader reads them as they come.

use super::el::{El, el};
use super::icon::{self, icon_button};
use crate::browser;
use crate::store::{notices::Kind, use_app};

/// The list.
pub fn notice_list() -> El {
    let notices = use_app().notices;
    el("div")
        .class("notices")
        .attr("role", "status")
        .attr("aria-live", "polite")
        .testid("notices")
        .each(move || notices.list.with(|list| list.iter().map(|n| n.id).collect()), line)
}

/// One of them.
fn line(id: u32) -> El {
    let notices = use_app().notices;
    let notice = notices.list.with_untracked(|list| list.iter().find(|n| n.id == id).cloned());
    let (error, words) = notice.map_or((false, String::new()), |n| (n.kind == Kind::Error, n.text));
    el("div")
        .attr("class", if error { "notice error" } else { "notice" })
        .testid("notice")
        .child(el("p").text(words))
        .child(icon_button("Dismiss", icon::CLOSE).click(move || {
            notices.dismiss(id);
            // The last of them takes the focus along.
            if notices.list.with_untracked(Vec::is_empty) {
                browser::focus("dialog[open] button, .term-pane:not([hidden]) textarea");
            }
        }))
}
