//! The time that the session has left. It turns amber at 15 minutes and red at 5; then the owner is offered more. Before that
//! the owner gets more by pressing it.

use super::dialog::dialog;
use super::el::{El, el, group};
use crate::{
    logic::clock::{self, Urgency},
    reactive::*,
    store::{known::Known, session::SessionStore, use_app},
};

/// The countdown.
pub fn countdown(left: Known<Option<u64>>, open: RwSignal<bool>) -> El {
    let session = use_app().session;
    let may_extend = move || session.may_own() && step(session) > 0 && urgency(left.get()) != Urgency::Calm;
    el("span")
        .class("countdown-box")
        .attr_of("data-urgency", move || urgency(left.get()).as_str())
        .switch(
            move || session.may_own(),
            move |owner| {
                if !owner {
                    return face(left)
                        .attr("role", "timer")
                        .attr_maybe("aria-label", move || {
                            left.get().map(|s| format!("Time left: {}", clock::words(s)))
                        })
                        .attr("title", "Time until the session ends");
                }
                el("button")
                    .class("tool time")
                    .testid("time")
                    .attr("title", "Time until the session ends, and more of it")
                    .attr("aria-haspopup", "dialog")
                    .click(move || open.set(true))
                    .child(el("span").class("visually-hidden").text("Time left "))
                    .child(face(left))
            },
        )
        .when(may_extend, move || extend_button(session, "extend").class("tool extend"))
}

/// The digits.
fn face(left: Known<Option<u64>>) -> El {
    el("span")
        .class("countdown")
        .testid("countdown")
        .attr_of("data-urgency", move || urgency(left.get()).as_str())
        .attr_maybe("data-seconds", move || left.get().map(|s| s.to_string()))
        .text_of(move || left.get().map_or("–:––".into(), clock::digits))
}

/// How long the session lasts and may last.
pub fn time_dialog(open: RwSignal<bool>, left: Known<Option<u64>>) -> El {
    let session = use_app().session;
    let most = move || {
        let more = session.life.get().map_or(0, |life| life.can_extend);
        let ends = format!("The session ends in {}.", clock::words(left.get().unwrap_or_default()));
        match more {
            0 => format!("{ends} It can't last longer."),
            _ => format!("{ends} It can last up to {} longer.", clock::words(more)),
        }
    };
    let more = el("div")
        .class("actions")
        .when(move || step(session) > 0, move || extend_button(session, "extend-now").class("primary"));
    let content = group().child(el("p").testid("time-text").text_of(most)).child(more);
    dialog(open, "Time", "time-dialog", content)
}

/// Gives the session more time.
fn extend_button(session: SessionStore, testid: &str) -> El {
    el("button")
        .testid(testid)
        .click(move || session.extend())
        // Short: a phone's bar has other buttons too.
        .text_of(move || format!("+ {}", clock::words(step(session)).replace("utes", "")))
}

/// By how much the next press lengthens the session.
fn step(session: SessionStore) -> u64 {
    session.life.get().map_or(0, |life| life.next_step())
}

fn urgency(left: Option<u64>) -> Urgency {
    left.map_or(Urgency::Calm, Urgency::of)
}
