//! Sentences about what just happened, in a corner; a screen reader reads them as they come.

use super::icon::{self, Icon};
use crate::store::{notices::Kind, use_app};
use leptos::prelude::*;

/// The list.
#[component]
pub fn NoticeList() -> impl IntoView {
    let notices = use_app().notices;
    view! {
        <div class="notices" role="status" aria-live="polite" data-testid="notices">
            <For each=move || notices.list.get() key=|n| n.id let:notice>
                <div class="notice" class:error=notice.kind == Kind::Error data-testid="notice">
                    <p>{notice.text.clone()}</p>
                    <button class="quiet" aria-label="Dismiss" on:click=on(move |_| notices.dismiss(notice.id))>
                        <Icon d=icon::CLOSE/>
                    </button>
                </div>
            </For>
        </div>
    }
}
