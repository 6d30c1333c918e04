//! A button that asks once: the first press changes its words, a second one acts. The question stands until the focus goes
//! elsewhere or Escape is pressed.

use super::el::{El, el, group};
use crate::reactive::*;
use crate::{browser, store::terminals::SAME};
use std::cell::Cell;
use web_sys::{Event, HtmlElement, KeyboardEvent};

/// The button: `label` is what it says to a screen reader, `question` what it asks, `act` what the second press does and
/// `look` what is in it.
pub fn confirm_button(
    label: String,
    question: &'static str,
    testid: String,
    act: impl Fn() + 'static,
    look: impl Fn() -> El + 'static,
) -> El {
    let asked = RwSignal::new(false);
    let since = Cell::new(0.0);
    let button = el("button");
    let element: HtmlElement = button.dom();
    let press = move || {
        if !asked.get_untracked() {
            // Not every browser gives the focus to a button that is clicked, and the question goes with it.
            let _ = element.focus();
            since.set(browser::now());
            asked.set(true);
        } else if browser::now() - since.get() > SAME {
            asked.set(false);
            act();
        }
    };
    let key = move |event: KeyboardEvent| {
        let dismissed = event.key() == "Escape" && asked.get_untracked();
        if dismissed {
            asked.set(false);
        }
        // A dialog stays open, and a key that is held presses once.
        if dismissed || event.repeat() && event.key() != "Tab" {
            event.prevent_default();
        }
    };
    let is_asked = move || asked.get();
    button
        .class("quiet")
        .class_if("asked", is_asked)
        .testid(testid)
        .attr("title", &label)
        .attr_of(
            "aria-label",
            move || if is_asked() { format!("{question} ({label})") } else { label.clone() },
        )
        .on("blur", move |_: Event| {
            // The button may be gone by then.
            let _ = asked.try_set(false);
        })
        .on("keydown", key)
        .click(press)
        .part(move || if is_asked() { group().text(question) } else { look() })
}
