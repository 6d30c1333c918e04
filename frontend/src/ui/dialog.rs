//! A modal dialog: the browser's own `<dialog>`, which keeps the focus inside, closes at Escape and gives the focus
//! back. Whoever shows it renders it only while `open` is true.

use super::parts::on;
use super::icon::{self, Icon};
use super::notice_list::NoticeList;
use leptos::{html, prelude::*};
use wasm_bindgen::JsCast;

/// A dialog with a title and a close button.
#[component]
pub fn Dialog(
    /// Set to false when the dialog is closed.
    open: RwSignal<bool>,
    /// Its title.
    title: &'static str,
    /// Its name for tests.
    testid: &'static str,
    children: Children,
) -> impl IntoView {
    let node = NodeRef::<html::Dialog>::new();
    node.on_load(|dialog| {
        let _ = dialog.show_modal();
    });
    // Whoever sets `open` to false closes it properly, so that the focus goes back.
    let close = move || match node.get_untracked() {
        Some(dialog) if dialog.open() => dialog.close(),
        _ => open.set(false),
    };
    // Removed while open, it closes first: closing is what gives the focus back.
    on_cleanup(move || {
        if let Some(Some(dialog)) = node.try_get_untracked() {
            dialog.close();
        }
    });
    let heading = format!("{testid}-title");
    let labelledby = heading.clone();
    view! {
        <dialog
            node_ref=node
            class="dialog"
            data-testid=testid
            aria-labelledby=labelledby
            on:close=on(move |_| open.set(false))
            on:click=on(move |event: web_sys::MouseEvent| {
                // A click on the dialog element itself is one on its backdrop: what is inside fills it.
                let on_backdrop = event.target().is_some_and(|t| t.dyn_ref::<web_sys::HtmlDialogElement>().is_some());
                if on_backdrop {
                    close();
                }
            })
        >
            <div class="dialog-body">
                <header class="dialog-head">
                    <h2 id=heading>{title}</h2>
                    <button class="quiet" aria-label="Close" on:click=on(move |_| close())>
                        <Icon d=icon::CLOSE/>
                    </button>
                </header>
                {children()}
            </div>
            // What is outside of an open dialog can be neither pressed nor heard.
            <NoticeList/>
        </dialog>
    }
}
