//! A button that asks once: the first press changes its words, a second one within four seconds acts.

use super::parts::{flag, on, part, text};
use gloo_timers::callback::Timeout;
use leptos::prelude::*;

/// How long the question stands, in milliseconds.
const STANDS: u32 = 4000;

/// The button.
#[component]
pub fn ConfirmButton(
    /// What it says to a screen reader.
    label: String,
    /// What it asks.
    question: &'static str,
    /// Its name for tests.
    testid: String,
    /// What the second press does.
    act: Box<dyn Fn()>,
    /// Its look.
    children: ChildrenFn,
) -> impl IntoView {
    let asked = RwSignal::new(false);
    let timer = StoredValue::new_local(None::<Timeout>);
    let press = move |_| {
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
    view! {
        <button
            class="quiet"
            class:asked=flag(move || asked.get())
            data-testid=testid
            title=label.clone()
            aria-label=text(move || if asked.get() { question.to_owned() } else { label.clone() })
            on:click=on(press)
        >
            {part(move || if asked.get() { question.into_any() } else { children().into_any() })}
        </button>
    }
}
