//! Sentences about what just happened, in a corner; a screen reader reads them as they come.

use super::parts::{each, on};
use super::icon::{self, Icon};
use crate::store::{notices::Kind, use_app};
use leptos::prelude::*;

/// The list.
#[component]
pub fn NoticeList() -> impl IntoView {
    let notices = use_app().notices;
    view! {
        <div class="notices" role="status" aria-live="polite" data-testid="notices">
            {each(
                move || notices.list.with(|list| list.iter().map(|n| n.id).collect()),
                move |id| view! { <Line id/> }.into_any(),
            )}
        </div>
    }
}

/// One of them.
#[component]
fn Line(id: u32) -> impl IntoView {
    let notices = use_app().notices;
    let notice = notices.list.with_untracked(|list| list.iter().find(|n| n.id == id).cloned());
    let (error, words) = notice.map_or((false, String::new()), |n| (n.kind == Kind::Error, n.text));
    view! {
        <div class=if error { "notice error" } else { "notice" } data-testid="notice">
            <p>{words}</p>
            <button class="quiet" aria-label="Dismiss" on:click=on(move |_| notices.dismiss(id))>
                <Icon d=icon::CLOSE/>
            </button>
        </div>
    }
}
