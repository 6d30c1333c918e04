//! The time that the session has left. It turns amber at 15 minutes and red at 5; then the owner is offered more.

use super::parts::{maybe, on, text, when};
use crate::{
    logic::clock::{self, Urgency},
    store::use_app,
};
use leptos::prelude::*;

/// The countdown.
#[component]
pub fn Countdown() -> impl IntoView {
    let session = use_app().session;
    let left = session.countdown();
    let urgency = move || left.get().map_or(Urgency::Calm, Urgency::of);
    let step = move || session.life.get().map_or(0, |life| life.next_step());
    let may_extend = move || session.may_own() && step() > 0 && urgency() != Urgency::Calm;
    view! {
        <span class="countdown-box" data-urgency=text(move || urgency().as_str())>
            <span
                class="countdown"
                role="timer"
                aria-label=maybe(move || left.get().map(|s| format!("Time left: {}", clock::words(s))))
                title="Time until the session ends"
                data-testid="countdown"
                data-urgency=text(move || urgency().as_str())
                data-seconds=maybe(move || left.get().map(|s| s.to_string()))
            >{text(move || left.get().map_or("–:––".into(), clock::digits))}</span>
            {when(may_extend, move || view! {
                <button class="tool extend" data-testid="extend" on:click=on(move |_| session.extend())>
                    {text(move || format!("+ {}", clock::words(step())))}
                </button>
            }.into_any())}
        </span>
    }
}
