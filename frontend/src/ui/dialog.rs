//! A modal dialog: the browser's own `<dialog>`, which keeps the focus inside, closes at Escape and gives the focus
//! back. Whoever shows it renders it only while `open` is true.

use super::{
    el::{El, el},
    icon::{self, icon_button},
    notice_list::notice_list,
};
use crate::reactive::*;
use wasm_bindgen::JsCast;
use web_sys::{Event, HtmlDialogElement, MouseEvent};

/// A dialog with a title and a close button. `open` is set to false when it is closed.
pub fn dialog(open: RwSignal<bool>, title: &str, testid: &str, content: El) -> El {
    let heading = format!("{testid}-title");
    let made = el("dialog");
    let node = StoredValue::new_local(made.dom::<HtmlDialogElement>());
    let close = move || node.with_value(HtmlDialogElement::close);
    // Removed while open, it closes first: closing is what gives the focus back.
    on_cleanup(close);
    let head = el("header")
        .class("dialog-head")
        .child(el("h2").attr("id", &heading).text(title))
        .child(icon_button("Close", icon::CLOSE).click(close));
    made.class("dialog")
        .testid(testid)
        .attr("aria-labelledby", &heading)
        .on("close", move |_: Event| open.set(false))
        .on("click", move |event: MouseEvent| {
            // A click on the dialog element itself is one on its backdrop: what is inside fills it.
            if event.target().is_some_and(|t| t.has_type::<HtmlDialogElement>()) {
                close();
            }
        })
        .child(el("div").class("dialog-body").child(head).child(content))
        // What is outside of an open dialog can be neither pressed nor heard.
        .child(notice_list())
        .mounted(move || {
            let _ = node.try_with_value(HtmlDialogElement::show_modal);
        })
}
