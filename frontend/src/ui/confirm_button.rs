//! A button that asks once: the first press changes its words, a second one within four seconds acts.

use super::el::{El, el, group};
use crate::reactive::*;
use gloo_timers::callback::Timeout;

/// How long the question stands, in milliseconds.
const STANDS: u32 = 4000;

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
    let timer = StoredValue::new_local(None::<Timeout>);
    let press = move || {
        if asked.get_untracked() {
            asked.set(false);
            timer.set_value(None);
            act();
        } else {
            asked.set(true);
            timer.set_value(Some(Timeout::new(STANDS, move || {
                // The button may be gone by then.
                let _ = asked.try_set(false);
            })));
        }
    };
    el("button")
        .class("quiet")
        .class_if("asked", move || asked.get())
        .testid(testid)
        .attr("title", &label)
        .attr_of("aria-label", move || if asked.get() { question.to_owned() } else { label.clone() })
        .click(press)
        .part(move || if asked.get() { group().text(question) } else { look() })
}
