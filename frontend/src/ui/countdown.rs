//! The time that the session has left. It turns amber at 15 minutes and red at 5; then the owner is offered more.

use super::el::{El, el};
use crate::{
    logic::clock::{self, Urgency},
    store::use_app,
};

/// The countdown.
pub fn countdown() -> El {
    let session = use_app().session;
    let left = session.countdown();
    let urgency = move || left.get().map_or(Urgency::Calm, Urgency::of);
    let step = move || session.life.get().map_or(0, |life| life.next_step());
    let may_extend = move || session.may_own() && step() > 0 && urgency() != Urgency::Calm;
    el("span")
        .class("countdown-box")
        .attr_of("data-urgency", move || urgency().as_str())
        .child(
            el("span")
                .class("countdown")
                .attr("role", "timer")
                .attr_maybe("aria-label", move || {
                    left.get().map(|s| format!("Time left: {}", clock::words(s)))
                })
                .attr("title", "Time until the session ends")
                .testid("countdown")
                .attr_of("data-urgency", move || urgency().as_str())
                .attr_maybe("data-seconds", move || left.get().map(|s| s.to_string()))
                .text_of(move || left.get().map_or("–:––".into(), clock::digits)),
        )
        .when(may_extend, move || {
            el("button")
                .class("tool extend")
                .testid("extend")
                .click(move || session.extend())
                .text_of(move || format!("+ {}", clock::words(step())))
        })
}
